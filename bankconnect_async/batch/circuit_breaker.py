"""
A circuit breaker: probes instead of requests while nearly everything fails.

The pattern is Michael Nygard's ("Release It!", chapter 5). Times are seconds.
"""

from collections.abc import Callable, Hashable
from typing import Final

from bankconnect_async.retry import uniform


#: Failures in a row, with no success between them, that open the circuit.
THRESHOLD: Final = 10
# The first interval between probes. It doubles up to _INTERVAL, and beyond
# that is a share of the outage, so that a long one draws few probes.
_FIRST_INTERVAL: Final = 0.25
_INTERVAL: Final = 5.0
_SHARE_OF_OUTAGE: Final = 0.25
_LONGEST_INTERVAL: Final = 60.0
# The least part of an interval that passes before its probe: batches that an
# outage hit at the same time spread their probes out.
_JITTER: Final = 0.5
# Requests that each success allows while the circuit is half open, and the
# unused number of them that closes it: it closes if most requests succeed.
_PER_SUCCESS: Final = 3
_CLOSE: Final = 16
# Probes that fail in the same permanent way before nothing else is expected.
_HOPELESS: Final = 5
# Retries in one outage. With those before the circuit opens, an outage draws
# at most 100 extra requests.
_RETRIES: Final = 50


class CircuitBreaker:
    """
    Decides when requests may be sent while nearly everything fails.

    Args:
        rng: The function that draws from a range, for jitter.

    Attributes:
        is_closed: Whether requests pass freely.
        failures: The number of failures since the last success.
        opened_at: The time when it last opened.
    """

    def __init__(
        self, *, rng: Callable[[float, float], float] = uniform
    ) -> None:
        self._rng = rng
        self.is_closed: bool = True
        self.failures: int = 0
        self.opened_at: float = 0.0
        self._recovered_at = 0.0
        self._probe_at = 0.0
        self._interval = 0.0
        self._credit = 0
        self._retries = 0
        self._kind: Hashable = None
        self._alike = 0

    @property
    def is_hopeless(self) -> bool:
        """Whether the latest probes all failed in one permanent way."""
        return self._kind is not None and self._alike >= _HOPELESS

    def allows_retry(self) -> bool:
        """Return whether this outage may draw another retry."""
        return self.is_closed or self._retries < _RETRIES

    def wait(self, now: float) -> float:
        """Return the seconds until the next request may be sent."""
        if self.is_closed or self._credit:
            return 0.0
        return max(0.0, self._probe_at - now)

    def on_send(self, now: float, *, is_first: bool) -> None:
        """Count a request."""
        if self.is_closed:
            return
        self._retries += not is_first
        if self._credit:
            self._credit -= 1
            return
        share = (now - self.opened_at) * _SHARE_OF_OUTAGE
        longest = min(max(_INTERVAL, share), _LONGEST_INTERVAL)
        self._interval = min(2 * self._interval, longest)
        self._probe_at = now + self._draw()

    def on_unsent(self, now: float) -> None:
        """Let another request be the probe: the last was not sent."""
        if not self.is_closed:
            self._probe_at = now

    def on_success(self, now: float) -> None:
        """Count a success; it half-opens an open circuit."""
        self.failures = self._alike = self._retries = 0
        if self.is_closed:
            return
        self._recovered_at = self._probe_at = now
        self._interval = _FIRST_INTERVAL
        self._credit += _PER_SUCCESS
        self.is_closed = self._credit >= _CLOSE

    def on_failure(
        self, now: float, sent_at: float, kind: Hashable = None
    ) -> None:
        """
        Count a failure.

        Args:
            now: The time.
            sent_at: The time when the request was sent.
            kind: What fails, if waiting cannot change it.
        """
        if sent_at < self._recovered_at:
            # The success that came since says more.
            return
        self.failures += 1
        if not self.is_closed:
            if sent_at > self.opened_at:
                self._alike = self._alike + 1 if kind == self._kind else 1
                self._kind = kind
        elif self.failures >= THRESHOLD:
            self.is_closed = False
            self.opened_at = now
            self._interval = _FIRST_INTERVAL
            self._probe_at = now + self._draw()
            self._credit = self._alike = 0

    def _draw(self) -> float:
        least = _JITTER * self._interval
        # The user's own function may return less.
        return max(least, self._rng(least, self._interval))
