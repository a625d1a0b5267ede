"""
Simulated servers: limiters of many kinds, outages and sick nodes.

Servers are pure: the time is passed in. All times are seconds, all rates
requests per second.
"""

import abc
import heapq
import math

from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from random import Random
from typing import Final, Protocol, TypeAlias

import attrs


@attrs.frozen
class Response:
    """
    A response, or none.

    Attributes:
        status: The status; `None` for a request that gets no response.
        retry_after: The seconds to wait before the next request, if named.
        seconds: The time that the server takes.
        is_success: Whether the request was served.
        is_throttled: Whether the client sends too fast.
    """

    status: int | None
    retry_after: float | None = None
    seconds: float = 0.0
    is_success: bool = attrs.field(init=False)
    is_throttled: bool = attrs.field(init=False)

    @is_success.default
    def _succeeds(self) -> bool:
        return self.status == HTTPStatus.OK

    @is_throttled.default
    def _throttles(self) -> bool:
        return self.status == HTTPStatus.TOO_MANY_REQUESTS


class Server(Protocol):
    """
    A server.
    """

    def respond(self, now: float, /) -> Response:
        """Respond to a request that arrives."""

    def limit(self, now: float, /) -> float:
        """Return the rate that the server accepts."""


#: The response to a request that is served.
SERVED: Final = Response(HTTPStatus.OK)
#: Returns the seconds that a refusal names at a time, if any.
RetryAfter: TypeAlias = Callable[[float], float | None]
#: Returns the rate at a time.
Rate: TypeAlias = Callable[[float], float]


def no_hint(_now: float) -> None:
    """Name no time to wait."""


def in_seconds(seconds: float) -> RetryAfter:
    """Name a number of *seconds*."""
    return lambda _now: seconds


def next_second(now: float) -> float:
    """Name a date, as HTTP writes it: the next whole second."""
    return math.floor(now) + 1 - now


def constant(rate: float) -> Rate:
    """Return a rate that never changes."""
    return lambda _now: rate


def wave(mean: float, swing: float, period: float) -> Rate:
    """Return a rate that varies around its *mean* as a sine."""
    return lambda now: mean + swing * math.sin(2 * math.pi * now / period)


def steps(seconds: float, *rates: float) -> Rate:
    """Return a rate that changes every so many *seconds*."""
    return lambda now: rates[min(int(now / seconds), len(rates) - 1)]


@attrs.define(kw_only=True)
class Limiter(abc.ABC):
    """
    A server that refuses requests beyond a limit.

    Attributes:
        retry_after: The hint that comes with a refusal.
        status: The status of a refusal.
    """

    retry_after: RetryAfter = no_hint
    status: int = HTTPStatus.TOO_MANY_REQUESTS

    @abc.abstractmethod
    def limit(self, now: float) -> float:
        """Return the rate that the server accepts."""

    @abc.abstractmethod
    def accepts(self, now: float) -> bool:
        """Count a request, and return whether it is within the limit."""

    def respond(self, now: float) -> Response:
        """Respond to a request that arrives."""
        if self.accepts(now):
            return SERVED
        return Response(self.status, self.retry_after(now))


@attrs.define
class TokenBucket(Limiter):
    """
    A token bucket, as of nginx, Envoy and many gateways.

    Attributes:
        rate: The tokens that come in per second.
        burst: The number of tokens that the bucket holds.
    """

    rate: Rate
    burst: float
    _tokens: float = attrs.field(init=False)
    _filled_at: float = attrs.field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self._tokens = self.burst

    def limit(self, now: float) -> float:
        """Return the rate that the server accepts."""
        return self.rate(now)

    def accepts(self, now: float) -> bool:
        """Take a token, if there is one."""
        rate = self.rate((self._filled_at + now) / 2)
        filled = self._tokens + (now - self._filled_at) * rate
        self._tokens, self._filled_at = min(self.burst, filled), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@attrs.define
class FixedWindow(Limiter):
    """
    A number of requests in each second of the clock.

    Attributes:
        count: The number of requests.
    """

    count: int
    _second: int = attrs.field(default=-1, init=False)
    _used: int = attrs.field(default=0, init=False)

    def limit(self, _now: float) -> float:
        """Return the rate that the server accepts."""
        return self.count

    def accepts(self, now: float) -> bool:
        """Count a request in its second."""
        if int(now) != self._second:
            self._second, self._used = int(now), 0
        self._used += 1
        return self._used <= self.count


@attrs.define
class SlidingWindow(Limiter):
    """
    A number of requests in any second.

    Attributes:
        count: The number of requests.
    """

    count: int
    _accepted: deque[float] = attrs.field(factory=deque, init=False)

    def limit(self, _now: float) -> float:
        """Return the rate that the server accepts."""
        return self.count

    def accepts(self, now: float) -> bool:
        """Count a request in the second that ends now."""
        while self._accepted and self._accepted[0] <= now - 1:
            self._accepted.popleft()
        if len(self._accepted) == self.count:
            return False
        self._accepted.append(now)
        return True


@attrs.define
class ConcurrencyLimit(Limiter):
    """
    A number of requests at the same time.

    Attributes:
        count: The number of requests.
        seconds: The time that each of them takes.
    """

    count: int
    seconds: float
    _ends: list[float] = attrs.field(factory=list, init=False)

    def limit(self, _now: float) -> float:
        """Return the rate that the server accepts."""
        return self.count / self.seconds

    def accepts(self, now: float) -> bool:
        """Start a request, if one more may run."""
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
        if len(self._ends) == self.count:
            return False
        heapq.heappush(self._ends, now + self.seconds)
        return True

    def respond(self, now: float) -> Response:
        """Respond to a request that arrives."""
        response = super().respond(now)
        if response.is_success:
            return attrs.evolve(response, seconds=self.seconds)
        return response


class Unlimited:
    """
    A server that accepts everything.
    """

    def limit(self, _now: float) -> float:
        """Return the rate that the server accepts."""
        return math.inf

    def respond(self, _now: float) -> Response:
        """Respond to a request that arrives."""
        return SERVED


@attrs.frozen
class Outage:
    """
    A server that fails for a while.

    Attributes:
        server: The server at all other times.
        start: The time when it begins to fail.
        end: The time when it works again.
        failure: The response of the broken server.
    """

    server: Server
    start: float
    end: float
    failure: Response

    def limit(self, now: float) -> float:
        """Return the rate that the server accepts."""
        if self.start <= now < self.end:
            return 0.0
        return self.server.limit(now)

    def respond(self, now: float) -> Response:
        """Respond to a request that arrives."""
        if self.start <= now < self.end:
            return self.failure
        return self.server.respond(now)


@attrs.frozen
class SickNode:
    """
    A balanced server of many nodes, one of which fails.

    Attributes:
        server: All other nodes.
        share: The share of requests that the sick node gets.
        failure: The response of the sick node.
        rng: The generator that chooses the node.
    """

    server: Server
    share: float
    failure: Response
    rng: Random

    def limit(self, now: float) -> float:
        """Return the rate that the server accepts."""
        return self.server.limit(now)

    def respond(self, now: float) -> Response:
        """Respond to a request that arrives."""
        if self.rng.random() < self.share:
            return self.failure
        return self.server.respond(now)
