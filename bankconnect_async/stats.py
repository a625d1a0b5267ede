"""
What a client or a batch did so far, in numbers that cost next to nothing.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import attrs

from .errors import BankConnectError


@attrs.frozen(kw_only=True)
class Latency:
    """
    How long successful attempts took, in seconds.

    Counted until the answer was decoded, with waiting for a slot. Quantiles
    are upper bounds, at most 7 % and 2 microseconds too large.

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
class BatchStats:
    """
    A snapshot of a batch.

    Attributes:
        taken: Items taken from the source.
        created: Items that became sessions.
        failures: Items that did not, by the name of the error's class.
        skipped: Items that needed no session, because a journal has one.
        in_flight: Items that were sent and are not settled yet; some may be
            waiting to be sent again.
        retries: Requests sent beside the first of each item.
        seconds: Since the batch began.
        rate: Items that the server settled per second, over the last five.
        limit: Requests per second that the batch allows itself because the
            server said "too many" or was out of its depth; `None` as long
            as it did not.
        pause: Seconds for which nothing is sent, because the server asked
            for that.
    """

    taken: int
    created: int
    failures: Mapping[str, int]
    skipped: int
    in_flight: int
    retries: int
    seconds: float
    rate: float
    limit: float | None
    pause: float

    @property
    def failed(self) -> int:
        """Items that became no sessions."""
        return sum(self.failures.values())

    @property
    def done(self) -> int:
        """Items that are settled, one way or the other."""
        return self.created + self.failed + self.skipped


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
#: runs on the event loop. What it raises is logged once and changes nothing.
AttemptHook: TypeAlias = Callable[
    [AttemptStart], Callable[[AttemptEnd], None] | None
]


class Meter:
    """
    Counts events, and tells how many of them are how recent.

    Args:
        slots: How many slices of time with events are remembered.
        width: Seconds of one.

    Attributes:
        last: When the last event was.
    """

    def __init__(self, *, slots: int, width: float) -> None:
        self._width = width
        self._past: deque[tuple[int, int]] = deque(maxlen=slots)
        self._slot = 0
        self._count = self._before = 0
        # When the present slice ends.
        self._end = width
        self.last = 0.0

    @property
    def total(self) -> int:
        """All events so far."""
        return self._before + self._count

    def add(self, now: float) -> None:
        """Count one event; one that comes late counts as of the last."""
        if now >= self._end:
            if self._count:
                self._past.append((self._slot, self._count))
                self._before += self._count
            self._slot = max(int(now / self._width), self._slot + 1)
            self._count = 0
            self._end = (self._slot + 1) * self._width
        self._count += 1
        if now > self.last:  # noqa: PLR1730 - `max` costs three times this
            self.last = now

    def backwards(self) -> Iterator[tuple[float, int]]:
        """Yield points in time, latest first, and how many came since."""
        total = self._count
        yield self._slot * self._width, total
        for slot, count in reversed(self._past):
            total += count
            yield slot * self._width, total

    def since(self, when: float) -> int:
        """Return how many events came since *when*, to a slice's width."""
        found = 0
        for start, count in self.backwards():
            if start <= when - self._width:
                break
            found = count
        return found
