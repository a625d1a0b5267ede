"""
Quantiles out of a few counters.
"""

import random

import pytest

from bankconnect_async._http.histogram import Histogram
from bankconnect_async.stats import Latency


def test_nothing_counted_is_all_zero():
    """
    An empty histogram has a summary of zeros.
    """
    assert Latency(**Histogram().summary()) == Latency()


@pytest.mark.parametrize("seconds", [0.0, 1e-6, 0.0123, 1.0, 3600.0])
def test_one_duration_is_every_quantile(seconds):
    """
    With one value all quantiles are that value.
    """
    histogram = Histogram()
    histogram.add(seconds)

    found = Latency(**histogram.summary())

    assert found.count == 1
    assert found.max == seconds
    assert found.p50 == found.p99 == seconds


def test_quantiles_are_close_upper_bounds():
    """
    No quantile is too small, and none is more than 7 % too large.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    durations = sorted(draw.lognormvariate(-4, 1.5) for _ in range(10_000))
    histogram = Histogram()
    for seconds in durations:
        histogram.add(seconds)

    found = Latency(**histogram.summary())

    for share, quantile in (
        (0.50, found.p50),
        (0.90, found.p90),
        (0.99, found.p99),
    ):
        exact = durations[int(share * len(durations)) - 1]
        assert exact <= quantile + 1e-6
        assert quantile <= exact * 1.07 + 2e-6
    assert found.max == durations[-1]
