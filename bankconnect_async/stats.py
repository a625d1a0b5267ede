"""
Counters of clients and batches, and attempt hooks.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeAlias

import attrs

from .errors import BankConnectError
from .models.sessions import Value


@attrs.frozen(kw_only=True)
class Latency(Value):
    """
    Durations of successful attempts, in seconds.

    A duration runs from the wait for a slot until the response is decoded.
    Quantiles are upper bounds, at most 7 % and 2 microseconds too large.

    Attributes:
        count: The number of attempts.
        p50, p90, p99: The 50th, 90th and 99th percentiles.
        max: The longest duration.
    """

    count: int = 0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    max: float = 0.0


@attrs.frozen(kw_only=True)
class Stats(Value):
    """
    A snapshot of a client.

    Attributes:
        in_flight: The number of requests that have a slot.
        waiting: The number of requests that wait for a slot.
        tokens: The tokens left in the retry budget.
        attempts: The number of attempts by outcome: `succeeded`, or the
            delivery class of the failure.
        connections_opened: The sockets opened so far; `None` over a borrowed
            session.
        latency: The durations of successful attempts.
    """

    in_flight: int
    waiting: int
    tokens: float
    attempts: Mapping[str, int]
    connections_opened: int | None
    latency: Latency


@attrs.frozen(kw_only=True)
class BatchStats(Value):
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
        limit: Requests per second that the batch allows itself; `None` as
            long as neither the user nor the server set a limit.
        pause: Seconds until the next request, because the server asked for
            a pause or does not respond.
        is_probing: Whether nearly everything fails, so that single requests
            find out when the server is back.
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
    is_probing: bool = False

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
    The start of an attempt.

    Attributes:
        operation: The operation's name, such as ``POST session``; no ids.
        number: The number of the attempt, from 1.
        call_id: A random id, which all attempts of one call share; it is not
            sent.
        method: The HTTP method.
        template: The path below the base URL, with names in the place of
            ids, such as ``/v1/entity/{entity_id}/``.
        host: The host of the server.
        port: The port of the server.
    """

    operation: str
    number: int
    call_id: str
    method: str
    template: str
    host: str
    port: int


@attrs.frozen(kw_only=True)
class AttemptEnd:
    """
    The end of an attempt.

    Attributes:
        seconds: The duration, with the wait for a slot.
        status: The status of the response; `None` if there was none.
        error: The error; `None` for a success.
        cancelled: Whether the attempt was cancelled.
    """

    seconds: float
    status: int | None = None
    error: BankConnectError | None = None
    cancelled: bool = False


@attrs.frozen(kw_only=True)
class ResponseHead:
    """
    The status and the headers of a response.

    Attributes:
        status: The status.
        headers: The headers, whose names are found in any case.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)


#: A hook that is called when an attempt begins, and whose result is called
#: when it ends. It runs on the event loop. An exception is logged once.
AttemptHook: TypeAlias = Callable[
    [AttemptStart], Callable[[AttemptEnd], None] | None
]


class Telemetry(Protocol):
    """
    Observes the calls of clients; `telemetry.OpenTelemetry` does.

    Exceptions of `on_call`, of `on_attempt` and of the functions that they
    return are logged and ignored.
    """

    def observe(self, source: "GaugeSource", host: str, port: int, /) -> None:
        """
        Report the numbers of a client as long as that exists.

        Args:
            source: The numbers; only a weak reference to it is kept.
            host: The host of the client's server.
            port: The port of the client's server.
        """
        ...

    def on_call(
        self, operation: str, /
    ) -> Callable[[int, BaseException | None], None]:
        """
        Observe the start of a call.

        Args:
            operation: The operation's name, such as ``POST session``.

        Returns:
            The function to call at its end, with the number of attempts and
            the error.
        """
        ...

    def on_attempt(
        self, attempt: AttemptStart, /
    ) -> Callable[[AttemptEnd], None]:
        """
        Observe the start of an attempt, as an `AttemptHook`.
        """
        ...


class GaugeSource(Protocol):
    """
    The present numbers of a client, which any thread may ask for.
    """

    def gauges(self) -> Mapping[str, float]:
        """
        Return the requests `in_flight` and `waiting`, and the `tokens` of the
        retry budget; with batches that are limited, also the `rate_limit`
        of all of them, in requests per second.
        """
        ...


class Meter:
    """
    Counts events by the time at which they happened.

    Args:
        slots: The number of slices of time that are remembered.
        width: The seconds of a slice.

    Attributes:
        total: The number of all events.
        last: The time of the last event.
    """

    def __init__(self, *, slots: int, width: float) -> None:
        self._width = width
        self._past: deque[tuple[int, int]] = deque(maxlen=slots)
        self._slot = 0
        # The number of events before the present slice, and its end.
        self._before = 0
        self._end = width
        self.total: int = 0
        self.last: float = 0.0

    def add(self, now: float) -> None:
        """Count one event; a late one is put into the present slice."""
        if now >= self._end:
            if count := self.total - self._before:
                self._past.append((self._slot, count))
                self._before = self.total
            self._slot = max(int(now / self._width), self._slot + 1)
            self._end = (self._slot + 1) * self._width
        self.total += 1
        self.last = max(self.last, now)

    def backwards(self) -> Iterator[tuple[float, int]]:
        """Yield times, latest first, and the number of events since each."""
        total = self.total - self._before
        yield self._slot * self._width, total
        for slot, count in reversed(self._past):
            total += count
            yield slot * self._width, total

    def since(self, when: float) -> int:
        """Return the number of events since *when*, to a slice's width."""
        found = 0
        for start, count in self.backwards():
            if start <= when - self._width:
                break
            found = count
        return found
