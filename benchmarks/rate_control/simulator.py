"""
A discrete-event simulation of one batch at one server.

Workers take items, send a request for each, and retry what fails until it is
served. A controller decides when the next request may be sent.
"""

import heapq
import itertools
import math

from collections import deque
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final, Protocol

import attrs

from bankconnect_async import RetryPolicy

from .servers import Response, Server


# Seconds of CPU time that a request takes from its client at most: twice the
# mean of `create_sessions`.
_CPU_MAX: Final = 2.4e-4
# Seconds that a timer of an event loop fires late at most.
_TIMER_LATENESS: Final = 5e-4
# The share by which the latency of requests varies.
_JITTER: Final = 0.1
# The number of items, for each worker, that may wait without one.
_WAITING_PER_WORKER: Final = 2
# Seconds between two looks at a limit that may vary.
_STEP: Final = 0.05


def generator(seed: int) -> Random:
    """Return a generator of jitter, which repeats itself for a *seed*."""
    return Random(seed)  # noqa: S311 - chance, not secrets


class Controller(Protocol):
    """
    A rate control.
    """

    def delay(self, now: float, /) -> float:
        """Return the seconds until the next request may be sent."""

    def is_paused(self, now: float, /) -> bool:
        """Return whether all requests wait, whatever the rate."""

    def on_send(self, now: float, failures: int, /) -> None:
        """Count a request, and how often its item has failed before."""

    def on_response(
        self, now: float, sent_at: float, response: Response, /
    ) -> bool:
        """Learn from a response, and return whether to skip the backoff."""


@attrs.frozen
class Run:
    """
    The outcome of one simulation.

    Attributes:
        served: The times when a request was accepted, ordered.
        refused: The times when a request was answered 429, ordered.
        failed: The times when a request failed otherwise, ordered.
    """

    served: list[float] = attrs.Factory(list)
    refused: list[float] = attrs.Factory(list)
    failed: list[float] = attrs.Factory(list)

    def record(self, now: float, response: Response) -> None:
        """Record what a server answered."""
        if response.is_success:
            self.served.append(now)
        elif response.is_throttled:
            self.refused.append(now)
        else:
            self.failed.append(now)


@attrs.define
class _Item:
    failures: int = 0
    sent_at: float = 0.0
    has_worker: bool = True


@attrs.define
class Simulation:
    """
    A batch without end.

    Attributes:
        server: The server.
        controller: The rate control.
        rng: The generator of all jitter.
        workers: The number of workers; each has one request in flight.
        latency: The seconds from a request to its response.
        run: What came of it so far.
    """

    server: Server
    controller: Controller
    rng: Random
    workers: int
    latency: float
    run: Run = attrs.field(factory=Run, init=False)
    _now: float = attrs.field(default=0.0, init=False)
    _busy_until: float = attrs.field(default=0.0, init=False)
    _sends_at: float = attrs.field(default=math.inf, init=False)
    _idle: int = attrs.field(init=False)
    _backoff: Callable[[int], float] = attrs.field(init=False)
    _waiting: int = attrs.field(default=0, init=False)
    _retries: deque[_Item] = attrs.field(factory=deque, init=False)
    _events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = (
        attrs.field(factory=list, init=False)
    )
    _serial: Iterator[int] = attrs.field(factory=itertools.count, init=False)

    def __attrs_post_init__(self) -> None:
        self._backoff = RetryPolicy(rng=self.rng.uniform).backoff
        self._idle = self.workers

    def advance(self, until: float) -> Run:
        """Simulate *until* a time, and return what came of it so far."""
        self._send_all()
        while self._events and self._events[0][0] <= until:
            self._now, _, callback, arguments = heapq.heappop(self._events)
            callback(*arguments)
        return self.run

    def _after(
        self, seconds: float, callback: Callable[..., None], *arguments: Any
    ) -> None:
        event = self._now + seconds, next(self._serial), callback, arguments
        heapq.heappush(self._events, event)

    def _travel(self) -> float:
        jitter = self.rng.uniform(1 - _JITTER, 1 + _JITTER)
        return self.latency / 2 * jitter

    def _send_all(self) -> None:
        while self._idle:
            delay = self.controller.delay(self._now)
            if delay > 0:
                delay += self.rng.uniform(0, _TIMER_LATENESS)
            delay = max(delay, self._busy_until - self._now)
            if delay > 0:
                self._send_after(delay)
                return
            self._send()

    def _send_after(self, delay: float) -> None:
        if self._now + delay < self._sends_at:
            self._sends_at = self._now + delay
            self._after(delay, self._on_timer)

    def _on_timer(self) -> None:
        if self._now >= self._sends_at:
            self._sends_at = math.inf
            self._send_all()

    def _send(self) -> None:
        item = self._retries.popleft() if self._retries else _Item()
        item.sent_at = self._now
        self._idle -= 1
        self._busy_until = self._now + self.rng.uniform(0, _CPU_MAX)
        self.controller.on_send(self._now, item.failures)
        self._after(self._travel(), self._arrive, item)

    def _arrive(self, item: _Item) -> None:
        response = self.server.respond(self._now)
        self.run.record(self._now, response)
        self._after(
            response.seconds + self._travel(), self._receive, item, response
        )

    def _receive(self, item: _Item, response: Response) -> None:
        is_excused = self.controller.on_response(
            self._now, item.sent_at, response
        )
        if response.is_success:
            self._idle += 1
        else:
            item.failures += 1
            backoff = 0.0 if is_excused else self._backoff(item.failures)
            self._wait(item, max(backoff, response.retry_after or 0.0))
        self._send_all()

    def _wait(self, item: _Item, seconds: float) -> None:
        # Unless all wait, the worker takes another item meanwhile.
        item.has_worker = (
            self._waiting >= _WAITING_PER_WORKER * self.workers
            or self.controller.is_paused(self._now)
        )
        if not item.has_worker:
            self._waiting += 1
            self._idle += 1
        self._after(seconds, self._retry, item)

    def _retry(self, item: _Item) -> None:
        if item.has_worker:
            self._idle += 1
        else:
            self._waiting -= 1
        self._retries.append(item)
        self._send_all()


@attrs.frozen
class Score:
    """
    The success of a controller, in percent.

    Attributes:
        utilisation: The share of the limit that was used.
        refused: The share of requests that were answered 429.
    """

    utilisation: float
    refused: float


def score(
    run: Run, limit: Callable[[float], float], start: float, end: float
) -> Score:
    """
    Rate a run from *start* to *end*.

    Args:
        run: The run.
        limit: The highest rate at a time.
        start: The time where the count starts.
        end: The time where it ends.
    """
    count = round((end - start) / _STEP)
    allowed = math.fsum(
        limit(start + (number + 0.5) * _STEP) * _STEP
        for number in range(count)
    )
    served, refused = (
        sum(start <= time < end for time in times)
        for times in (run.served, run.refused)
    )
    return Score(
        utilisation=100 * served / allowed,
        refused=100 * refused / max(1, served + refused),
    )
