"""
Where the workers of a batch wait until they may send.
"""

import asyncio

from typing import Any, Protocol

from bankconnect_async.clock import Clock
from bankconnect_async.errors import (
    BankConnectError,
    CertificateError,
    ConnectError,
    Delivery,
    InvalidResponseError,
    ProxyAuthenticationError,
    RateLimitError,
    RequestTimeoutError,
    ResponseError,
    ServerError,
)

from .adaptive_rate import AdaptiveRate


# What a server answers that has too much to do, or a gateway in its place.
_OVERLOADED = frozenset({408, 502, 503, 504})


class Limiter(Protocol):
    """
    A rate limit, such as `aiolimiter.AsyncLimiter`.
    """

    async def acquire(self) -> None:
        """Wait until one more request may be sent."""


class SendQueue:
    """
    One line for all that a batch sends: first attempts and further ones.

    Args:
        clock: Time.
        limiter: Of the user's own rate.
        max_pause: Seconds that a server may ask for at most.

    Attributes:
        pace: What the server bears.
        retries: How often something was sent once more.
        abort_cause: What came of a request after which there may be no other.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        limiter: Limiter | None,
        max_pause: float,
    ) -> None:
        self.clock = clock
        self.pace = AdaptiveRate(clock.monotonic(), max_pause=max_pause)
        self.retries = 0
        self.abort_cause: BankConnectError | None = None
        self._limiter = limiter
        # It is fair: who comes first goes first.
        self._head = asyncio.Lock()
        self._waiting: dict[asyncio.Task[Any], bool] = {}

    @property
    def is_open(self) -> bool:
        """Whether nobody has to wait."""
        pace = self.pace
        return self._limiter is None and (pace.is_calm or pace.is_free)

    async def acquire(self, seconds: float = 0, *, is_first: bool) -> bool:
        """
        Wait *seconds*, and then for leave to send something.

        Returns:
            Whether it came; `False` once nothing is to be sent any more.
        """
        if self.abort_cause is not None:
            return False
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in a coroutine
        self._waiting[task] = is_first
        try:
            if seconds:
                await self.clock.sleep(seconds)
            if not self.is_open:
                await self._wait_for_turn()
        except asyncio.CancelledError:
            if task in self._waiting or task.uncancel():
                raise
            return False
        finally:
            self._waiting.pop(task, None)
        return True

    async def _wait_for_turn(self) -> None:
        async with self._head:
            if self._limiter is not None:
                await self._limiter.acquire()
            while wait := self.pace.wait(self.clock.monotonic()):
                await self.clock.sleep(wait)
            self.pace.leave(self.clock.monotonic())

    def abort(self, error: BankConnectError) -> None:
        """Give nobody leave any more, because of *error*."""
        self.abort_cause = error
        for task in list(self._waiting):
            self._wake(task)

    def drain(self) -> None:
        """Give leave to those only that sent something before."""
        for task, is_first in list(self._waiting.items()):
            if is_first:
                self._wake(task)

    def _wake(self, task: asyncio.Task[Any]) -> None:
        del self._waiting[task]
        task.cancel()


class BatchThrottle:
    """
    One worker's place in the line, for one item after the other.

    It is what a call of a batch waits in: it hears of each failed attempt,
    also of those that a retry hides, and says when the next may be made.

    Attributes:
        throttled_for: The seconds that the item was held back while others
            were served; they extend the item's deadline.
    """

    def __init__(self, queue: SendQueue) -> None:
        self._queue = queue
        self._sent_at = 0.0
        self._is_excused = False
        self.throttled_for = 0.0

    def try_acquire(self) -> bool:
        """Tell whether an item may be sent now, without waiting."""
        queue = self._queue
        if not queue.is_open:
            return False
        self.throttled_for = 0.0
        self._sent_at = queue.clock.monotonic()
        return True

    async def acquire(self) -> bool:
        """
        Wait for leave to send an item first.

        Returns:
            Whether it came.
        """
        self.throttled_for = 0.0
        if not await self._queue.acquire(is_first=True):
            return False
        self._sent_at = self._queue.clock.monotonic()
        return True

    async def wait(self, seconds: float) -> bool:
        """
        Wait *seconds*, and for leave to send the item once more.

        Returns:
            Whether it came.
        """
        queue = self._queue
        began, served = queue.clock.monotonic(), queue.pace.served.total
        if not await queue.acquire(seconds, is_first=False):
            return False
        queue.retries += 1
        self._sent_at = queue.clock.monotonic()
        if queue.pace.served.total > served:
            own = 0.0 if self._is_excused else seconds
            self.throttled_for += queue.clock.monotonic() - began - own
        return True

    def on_success(self) -> None:
        """Take note that the item was served."""
        pace = self._queue.pace
        if pace.is_calm:
            pace.served.add(self._sent_at)
        else:
            pace.note_served(self._queue.clock.monotonic(), self._sent_at)

    def on_failure(self, error: BankConnectError) -> bool:
        """
        Take note of a failed attempt.

        Returns:
            Whether the server only asked all of the batch for patience, and
            serves it: that is no failure of this item.
        """
        self._is_excused = self._tell(error)
        return self._is_excused

    def _tell(self, error: BankConnectError) -> bool:
        pace, now = self._queue.pace, self._queue.clock.monotonic()
        match error:
            case RateLimitError(retry_after=seconds):
                return pace.note_refused(now, self._sent_at, seconds)
            case ServerError(delivery=Delivery.REJECTED):
                return pace.note_turned_away(
                    now, self._sent_at, error.retry_after or 0.0
                )
        if _is_overload(error):
            pace.note_failed(now, self._sent_at)
        elif isinstance(error, ResponseError | InvalidResponseError):
            pace.note_served(now, self._sent_at)
        else:
            pace.note_lost(self._sent_at)
        return False


def _is_overload(error: BankConnectError) -> bool:
    match error:
        case CertificateError() | ProxyAuthenticationError():
            return False
        case RequestTimeoutError() | ConnectError():
            return True
        case ServerError(status=status):
            return status in _OVERLOADED
    return False
