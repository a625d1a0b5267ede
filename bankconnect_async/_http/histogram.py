"""
Counts durations, at a price that every request can pay.
"""

import math

from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from bankconnect_async.stats import Latency


# Buckets per e-fold, which makes a quantile 7 % too large at most, and an
# offset that keeps the numbers of buckets above zero, down to a microsecond.
_FINE: Final = 16
_FIRST: Final = 224
# The last bucket has all that took longer than a fortnight.
_LAST: Final = 448
_log: Final = math.log


class Histogram:
    """
    Counts durations in buckets that grow with them.
    """

    __slots__ = ("_buckets", "_max")

    def __init__(self) -> None:
        self._buckets = [0] * (_LAST + 1)
        self._max = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        buckets = self._buckets
        try:
            buckets[int(_log(seconds + 1e-6) * _FINE + _FIRST)] += 1
        except IndexError:
            buckets[_LAST] += 1
        if seconds > self._max:  # noqa: PLR1730 - `max` costs three times this
            self._max = seconds

    def summary(self) -> "Latency":
        """Return the quantiles of what was counted."""
        from bankconnect_async.stats import Latency  # noqa: PLC0415 - few ever ask

        count = sum(self._buckets)
        return Latency(
            count=count,
            p50=self._quantile(0.50, count),
            p90=self._quantile(0.90, count),
            p99=self._quantile(0.99, count),
            max=self._max,
        )

    def _quantile(self, share: float, count: int) -> float:
        seen = 0
        for number, found in enumerate(self._buckets):
            seen += found
            if found and seen >= share * count:
                return min(_upper_end(number), self._max)
        return 0.0


def _upper_end(number: int) -> float:
    return math.exp((number + 1 - _FIRST) / _FINE) - 1e-6
