"""
What a client did so far, in numbers that cost next to nothing to keep.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import attrs

from .errors import BankConnectError


# Buckets per doubling; a quantile is off by an eighth at most.
_FINE: Final = 8
_FINE_BITS: Final = 3


@attrs.frozen(kw_only=True)
class Latency:
    """
    How long successful attempts took, in seconds.

    Counted until the answer was decoded, with waiting for a slot. Quantiles
    are upper bounds, at most an eighth too large.

    Attributes:
        count: Attempts counted.
        p50, p90, p99: Half, nine tenths, 99 of 100 took no longer.
        max: The longest, as exactly.
    """

    count: int = 0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    max: float = 0.0


@attrs.frozen(kw_only=True)
class Stats:
    """
    A snapshot of a client.

    Attributes:
        in_flight: Requests that have a slot.
        waiting: Requests that wait for one.
        tokens: What is left of the retry budget.
        attempts: Attempts so far, by what became of them: `succeeded`, or
            the delivery class of the failure.
        connections_opened: Sockets opened so far; `None` over a borrowed
            session, which does not tell.
        latency: Of successful attempts.
    """

    in_flight: int
    waiting: int
    tokens: float
    attempts: Mapping[str, int]
    connections_opened: int | None
    latency: Latency


@attrs.frozen(kw_only=True)
class AttemptStart:
    """
    One attempt, as it begins.

    Attributes:
        operation: What for, such as ``POST session``; no ids.
        number: 1 for the first attempt of a call.
    """

    operation: str
    number: int


@attrs.frozen(kw_only=True)
class AttemptEnd:
    """
    One attempt, as it ended.

    Attributes:
        seconds: How long it took, waiting for a slot included.
        error: What it raised; `None` for a success.
        cancelled: Whether something else than an answer ended it.
    """

    seconds: float
    error: BankConnectError | None = None
    cancelled: bool = False


#: Called when an attempt begins; what it returns is called when it ends. It
#: must not raise, and runs on the event loop.
AttemptHook: TypeAlias = Callable[
    [AttemptStart], Callable[[AttemptEnd], None] | None
]


class Histogram:
    """
    Counts durations in buckets that grow with them.
    """

    __slots__ = ("_buckets", "_max")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._max = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        ticks = int(seconds * 1e6) | _FINE
        shift = ticks.bit_length() - _FINE_BITS - 1
        self._buckets[(shift << _FINE_BITS) + (ticks >> shift)] += 1
        if seconds > self._max:  # noqa: PLR1730 - `max` costs three times this
            self._max = seconds

    def summary(self) -> Latency:
        """Return the quantiles of what was counted."""
        count = self._buckets.total()
        return Latency(
            count=count,
            p50=self._quantile(0.50, count),
            p90=self._quantile(0.90, count),
            p99=self._quantile(0.99, count),
            max=self._max,
        )

    def _quantile(self, share: float, count: int) -> float:
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= share * count:
                return min(_upper_end(bucket), self._max)
        return 0.0


def _upper_end(bucket: int) -> float:
    # The inverse of `add`: a bucket is a shift, and four leading bits whose
    # first is always set.
    shift = (bucket >> _FINE_BITS) - 1
    leading = (bucket & (_FINE - 1)) + _FINE
    return ((leading + 1) << shift) / 1e6
