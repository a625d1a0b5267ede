"""
The arithmetic of `benchmarks`, without measuring anything.
"""

import asyncio
import importlib
import json
import sys

from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from bankconnect_async._codec.session_requests import encode_session
from bankconnect_async.batch.outcomes import duplicate_error


ROOT = Path(__file__).parent.parent


def load(name):
    """Import a benchmark; the installed package comes first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(ROOT)])
        return importlib.import_module(f"benchmarks.{name}")


contenders = load("contenders")
growth = load("growth")
shares = load("shares")


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


@pytest.mark.parametrize(
    ("function", "layer"),
    [
        (encode_session, "_codec"),
        (duplicate_error, "batch"),
        (aiohttp.BasicAuth.decode, "aiohttp"),
        (asyncio.BaseEventLoop.call_soon, "event loop"),
        (
            asyncio.selector_events._SelectorSocketTransport.write,
            "system calls",
        ),
        (contenders.Setting.body, "caller"),
        (json.dumps, None),
    ],
)
def test_layers_of_functions(function, layer):
    """
    A function belongs to its layer; the standard library to its callers.
    """
    assert shares.layer_of(function.__code__) == layer


def test_shares_add_up_to_the_ratio():
    """
    The parts of a contender's ratio add up to it, and are compared by layer.
    """
    ours = shares.Shares(
        name="create_sessions",
        ratio=0.8,
        samples=Counter({"aiohttp": 60, "_http": 30, "caller": 10}),
    )
    bare = shares.Shares(
        name="bare protocol", ratio=0.2, samples=Counter({"caller": 5})
    )

    text = shares.render([ours, bare])

    assert sum(map(ours.cost, shares.LAYERS)) == pytest.approx(0.8)
    assert text.endswith(
        "`create_sessions` takes 0.80, and the bare protocol 0.20. "
        "Between them: aiohttp +0.48, _http +0.24, caller -0.12."
    )
