"""
The arithmetic of `benchmarks`, without measuring anything.
"""

import importlib
import sys

from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent


def load(name):
    """Import a benchmark; the installed package comes first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(ROOT)])
        return importlib.import_module(f"benchmarks.{name}")


growth = load("growth")


def part(rows, *, cpu=100.0, yardstick=1000.0, peak=50.0):
    """Return a part of a batch."""
    return growth.Part(
        rows=rows, cpu=cpu, yardstick=yardstick, peak=peak, size=rows * 300
    )


def test_growth_has_a_line_for_each_power_of_ten():
    """
    The table compares each power of ten with the first, row by row.
    """
    parts = [part(50_000), part(100_000, cpu=110.0)]
    # The machine is half as fast, and a row takes 16 bytes.
    parts += [
        part(1_000_000, cpu=210.0, yardstick=2000.0, peak=50 + 900 * 16 / 1024)
    ]
    resume = growth.Resume(
        rows=1_000_000, opened=5.0, seconds=12.5, cpu=11.0, peak=70.0
    )

    text = growth.render(parts, resume)

    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    assert rows[2:] == [
        ["100,000", "105", "1.00", "0.98 - 1.02", "50", "-", "30"],
        ["1,000,000", "210", "1.00", "1.00 - 1.00", "64", "16.4", "300"],
    ]
    assert "12.5 s for each million, at most 30" in text
