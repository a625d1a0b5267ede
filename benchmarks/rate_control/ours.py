"""
The throttle of `create_sessions`, as the simulator drives it.
"""

from http import HTTPStatus

from bankconnect_async.batch.adaptive_rate import AdaptiveRate
from bankconnect_async.batch.circuit_breaker import CircuitBreaker

from .servers import Response
from .simulator import generator


class CreateSessions:
    """
    The adaptive rate and the circuit breaker of `create_sessions`.

    It calls them as `bankconnect_async.batch.throttle` does.
    """

    def __init__(self) -> None:
        self._rate = AdaptiveRate(0.0, max_pause=120.0)
        self._breaker = CircuitBreaker(rng=generator(0).uniform)

    def delay(self, now: float) -> float:
        """Return the seconds until the next request may be sent."""
        return self._rate.delay(now) or self._breaker.wait(now)

    def is_paused(self, now: float) -> bool:
        """Return whether all requests wait, whatever the rate."""
        return not self._breaker.is_closed or self._rate.pause(now) > 0

    def on_send(self, now: float, failures: int) -> None:
        """Count a request, and how often its item has failed before."""
        self._rate.on_send(now)
        self._breaker.on_send(now, is_first=not failures)

    def on_response(
        self, now: float, sent_at: float, response: Response
    ) -> bool:
        """Learn from a response, and return whether to skip the backoff."""
        rate, breaker = self._rate, self._breaker
        if response.is_success:
            rate.on_success(now, sent_at)
            if breaker.failures or not breaker.is_closed:
                breaker.on_success(now)
            return False
        if response.is_throttled:
            return rate.on_throttle(now, sent_at, response.retry_after)
        is_probe = not breaker.is_closed and sent_at > breaker.opened_at
        is_timeout = response.status is None and response.seconds > 0
        is_overload = (
            is_timeout or response.status == HTTPStatus.SERVICE_UNAVAILABLE
        )
        if is_overload and not is_probe:
            rate.on_failure(now, sent_at)
        else:
            rate.on_lost(sent_at)
        breaker.on_failure(now, sent_at)
        return not breaker.is_closed or response.retry_after is not None
