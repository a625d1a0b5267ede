"""
A histogram of durations that is cheap enough for every request.
"""

import math

from typing import Any, Final


# Buckets per e-fold, which makes a quantile 7 % too large at most, and an
# offset that keeps the numbers of buckets above zero, down to a microsecond.
_FINE: Final = 16
_FIRST: Final = 224
# The last bucket counts everything above a fortnight.
_LAST: Final = 448


class Histogram:
    """
    Counts durations in buckets of exponentially growing width.
    """

    __slots__ = ("_buckets", "_max")

    def __init__(self) -> None:
        self._buckets = [0] * (_LAST + 1)
        self._max = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        bucket = int(math.log(seconds + 1e-6) * _FINE + _FIRST)
        self._buckets[min(bucket, _LAST)] += 1
        self._max = max(self._max, seconds)

    def summary(self) -> dict[str, Any]:
        """Return the count, the quantiles and the maximum by name."""
        count = sum(self._buckets)
        quantiles = {
            f"p{percent}": self._quantile(count * percent / 100)
            for percent in (50, 90, 99)
        }
        return {"count": count, **quantiles, "max": self._max}

    def _quantile(self, rank: float) -> float:
        seen = 0
        for bucket, found in enumerate(self._buckets):
            seen += found
            if found and seen >= rank:
                upper_end = math.exp((bucket + 1 - _FIRST) / _FINE) - 1e-6
                return min(upper_end, self._max)
        return 0.0
