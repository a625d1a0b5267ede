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
def test_a_million_records():
    """
    A page of a million records takes less than 20 seconds and 200 MB.
    """
    # At the end of the path, so that the installed package is measured. In a
    # process of its own, because the peak of a child counts its parent's.
    program = (
        f"import sys; sys.path.append({str(ROOT)!r})\n"
        f"from benchmarks.journal_report import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--json"],
        stdout=subprocess.PIPE,
        check=True,
    )

    cost = json.loads(done.stdout)
    # Of CPU, because others use the machine, too.
    assert cost["cpu"] < 20
    assert cost["peak"] < 200
    found = cost["figures"]["creation"]
    assert (found["records"], found["created"]) == (1_000_000, 952_381)
    assert (found["stale"], found["errors"]) == (47_619, {})
    assert cost["size"] < 200_000
