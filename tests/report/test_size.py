"""
The report of a large journal.
"""

import json
import subprocess
import sys

from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_two_hundred_thousand_records():
    """
    A page takes less CPU and memory than lets a million records have 20
    seconds and 200 MB.
    """
    # At the end of the path, so that the installed package is measured. In a
    # process of its own, because the peak of a child counts its parent's.
    program = (
        f"import sys; sys.path.append({str(ROOT)!r})\n"
        f"from benchmarks.journal_report import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--json", "--records", "200000"],
        stdout=subprocess.PIPE,
        check=True,
    )

    cost = json.loads(done.stdout)
    # Of CPU, because others use the machine, too. An empty journal takes 0.7
    # seconds and 43 MB.
    assert cost["cpu"] < 4.5
    assert cost["peak"] < 74
    found = cost["figures"]["creation"]
    assert (found["records"], found["created"]) == (200_000, 190_476)
    assert (found["stale"], found["errors"]) == (9_524, {})
    assert cost["size"] < 50_000
