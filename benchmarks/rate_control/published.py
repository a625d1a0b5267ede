"""
Published rate controls, to compare ours with.
"""

import math

from typing import Final

import attrs

from .servers import Response


class NoControl:
    """
    No rate control: each item waits by itself, and the others go on.
    """

    def delay(self, _now: float) -> float:
        """Return the seconds until the next request may be sent."""
        return 0.0

    def is_paused(self, _now: float) -> bool:
        """Return whether all requests wait, whatever the rate."""
        return False

    def on_send(self, now: float, _failures: int) -> None:
        """Count a request, and how often its item has failed before."""

    def on_response(
        self, _now: float, _sent_at: float, _response: Response
    ) -> bool:
        """Learn from a response, and return whether to skip the backoff."""
        return False


class AIMD(NoControl):
    """
    Additive increase, multiplicative decrease (Chiu and Jain, 1989).

    The first 429 sets the rate to half of what was served in the second
    before it. From then on the rate grows by a constant, and halves on a
    429, once for each round of requests.
    """

    #: Requests per second that each second adds.
    INCREASE: Final = 10.0

    def __init__(self) -> None:
        self._rate = math.inf
        self._cut_at = -math.inf
        self._next_at = 0.0
        self._served: list[float] = []

    def delay(self, now: float) -> float:
        """Return the seconds until the next request may be sent."""
        return max(0.0, self._next_at - now)

    def on_send(self, now: float, _failures: int) -> None:
        """Count a request, and how often its item has failed before."""
        rate = self._rate + self.INCREASE * (now - self._cut_at)
        self._next_at = max(self._next_at, now) + 1 / rate

    def on_response(
        self, now: float, sent_at: float, response: Response
    ) -> bool:
        """Learn from a response, and return whether to skip the backoff."""
        if math.isinf(self._rate) and response.is_success:
            self._served.append(now)
        if response.is_throttled and sent_at > self._cut_at:
            rate = self._rate + self.INCREASE * (now - self._cut_at)
            if math.isinf(self._rate):
                rate = sum(time > now - 1 for time in self._served)
            self._rate = max(1.0, rate / 2)
            self._cut_at = self._next_at = now
        return False


@attrs.define
class _Clock:
    """
    The simulated time, as botocore reads it.
    """

    now: float = 0.0

    def current_time(self) -> float:
        return self.now


class _ThrottlingDetector:
    """
    Tells botocore which responses are refusals.
    """

    @staticmethod
    def is_throttling_error(*, response: Response) -> bool:
        return response.is_throttled


class Botocore(NoControl):
    """
    The rate limiter of botocore's adaptive retry mode: CUBIC, 0.5 s buckets.

    It is botocore's own code, which blocks threads; here it is asked instead
    when a token will be there.
    """

    def __init__(self) -> None:
        from botocore.exceptions import CapacityNotAvailableError
        from botocore.retries.adaptive import ClientRateLimiter, RateClocker
        from botocore.retries.bucket import TokenBucket
        from botocore.retries.throttling import CubicCalculator

        self._no_token = CapacityNotAvailableError
        self._clock = _Clock()
        self._bucket = TokenBucket(max_rate=1, clock=self._clock)
        self._limiter = ClientRateLimiter(
            rate_adjustor=CubicCalculator(starting_max_rate=0, start_time=0),
            rate_clocker=RateClocker(self._clock),
            token_bucket=self._bucket,
            throttling_detector=_ThrottlingDetector,
            clock=self._clock,
        )
        # The bucket counts from the first refusal on.
        self._is_enabled = False
        self._has_token = False

    def delay(self, now: float) -> float:
        """Return the seconds until the next request may be sent."""
        if not self._is_enabled or self._has_token:
            return 0.0
        self._clock.now = now
        try:
            self._bucket.acquire(block=False)
        except self._no_token:
            missing = 1 - self._bucket.available_capacity
            seconds: float = missing / self._bucket.max_rate
            return seconds
        self._has_token = True
        return 0.0

    def on_send(self, _now: float, _failures: int) -> None:
        """Count a request, and how often its item has failed before."""
        self._has_token = False

    def on_response(
        self, now: float, _sent_at: float, response: Response
    ) -> bool:
        """Learn from a response, and return whether to skip the backoff."""
        self._clock.now = now
        self._limiter.on_receiving_response(response=response)
        if response.is_throttled:
            self._is_enabled = True
        return False
