"""
The texts of a batch's summary.
"""

import pytest

from bankconnect_async.cli.batch.summary import BatchSummary


@pytest.mark.parametrize(
    ("rate", "left"),
    [(100, "10 s"), (10, "2 min"), (0.1, "2.8 h"), (0, None)],
)
def test_time_left(rate, left):
    """
    The time left has a fitting unit, if it is known.
    """
    summary = BatchSummary(
        total=1_300, created=200, skipped=100, recent_rate=rate
    )

    text = summary.as_progress()
    assert text.startswith("0 failed, ")
    assert text.endswith(f", {left} left") if left else "left" not in text


def test_line():
    """
    A line shows everything that slows the batch down.
    """
    summary = BatchSummary(
        created=2, skipped=1, seconds=70, recent_rate=3, limit=5, pause=2
    )
    summary.failures["RateLimitError"] += 4

    assert summary.as_line() == (
        "1 min: 7 rows, 4 failed, 3 rows/s, limit 5/s, pausing 2 s "
        "(4 rate limit)"
    )


def test_line_in_an_outage():
    """
    While single requests probe the server, the line says so, and no limit.
    """
    summary = BatchSummary(seconds=70, limit=9, pause=2, is_probing=True)

    assert summary.as_line() == (
        "1 min: 0 rows, 0 failed, 0 rows/s, nearly everything fails: probing"
    )
