"""
The throttle of a batch: one queue for first attempts and retries.
"""

import asyncio

from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Protocol

from bankconnect_async._http.semaphore import FifoSemaphore
from bankconnect_async.clock import Clock
from bankconnect_async.errors import (
    BankConnectError,
    CertificateError,
    ConnectError,
    Delivery,
    InvalidResponseError,
    NotFoundError,
    PoolTimeoutError,
    ProxyAuthenticationError,
    RateLimitError,
    RequestTimeoutError,
    ResponseError,
    ServerError,
)
from bankconnect_async.retry import uniform

from .adaptive_rate import AdaptiveRate
from .circuit_breaker import CircuitBreaker


# Statuses of overloaded servers, and of gateways before them.
_OVERLOADED = frozenset({408, 502, 503, 504})
# Statuses of a server that has no such API, whatever the item, and for ever.
_MISPLACED = frozenset({*range(300, 400), 404, 405, 410, 501})
# The number of items that may wait to be sent again without a slot, for each
# slot. They bound what a batch holds in memory.
_WAITING_PER_SLOT = 2


class Limiter(Protocol):
    """
    A rate limit that others set, such as a share of a cluster's rate.
    """

    async def acquire(self) -> None:
        """Wait until one more request may be sent."""


class SendQueue:
    """
    A FIFO queue for all that a batch sends: first attempts and retries.

    Args:
        clock: The clock.
        max_pause: The longest pause that a server may ask for, in seconds.
        rate: The user's own limit, in requests per second.
        rng: The function that draws from a range, for jitter.
        limiter: A further limiter, if any.

    Attributes:
        adaptive_rate: The controller of the send rate.
        breaker: The circuit breaker.
        retries: The number of retries sent.
        abort_cause: The error that aborted the batch, if any.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        max_pause: float,
        rate: float | None = None,
        rng: Callable[[float, float], float] = uniform,
        limiter: Limiter | None = None,
    ) -> None:
        self.clock = clock
        self.adaptive_rate: AdaptiveRate = AdaptiveRate(
            clock.monotonic(), max_pause=max_pause, ceiling=rate
        )
        self.breaker: CircuitBreaker = CircuitBreaker(rng=rng)
        self.retries = 0
        self.abort_cause: BankConnectError | None = None
        self._limiter = limiter
        # `asyncio.Lock` is fair.
        self._head = asyncio.Lock()
        self._timer: asyncio.Future[None] | None = None
        self._waiting: dict[asyncio.Task[Any], bool] = {}

    @property
    def is_open(self) -> bool:
        """Whether requests pass without waiting."""
        return (
            self._limiter is None
            and self.breaker.is_closed
            and self.adaptive_rate.is_unlimited
        )

    def rate_limit(self) -> float | None:
        """Return the requests per second that are allowed now, if limited."""
        return self.adaptive_rate.limit(self.clock.monotonic())

    @property
    def is_paused(self) -> bool:
        """Whether all requests wait, whatever the rate."""
        return not self.breaker.is_closed or bool(
            self.adaptive_rate.pause(self.clock.monotonic())
        )

    async def sleep(self, seconds: float) -> bool:
        """Sleep, and return whether the batch goes on."""
        return await self._interruptible(self._sleep(seconds), is_first=False)

    async def acquire(self, *, is_first: bool) -> bool:
        """
        Wait until a request may be sent.

        Args:
            is_first: Whether it is the first attempt of its item.

        Returns:
            Whether to send it; `False` once nothing is sent any more.
        """
        if self.is_open and self.abort_cause is None:
            return True
        return await self._interruptible(
            self._wait_for_turn(is_first=is_first), is_first=is_first
        )

    async def _interruptible(
        self, waiting: Coroutine[Any, Any, bool], *, is_first: bool
    ) -> bool:
        task = asyncio.current_task()
        if task is None or self.abort_cause is not None:
            waiting.close()
            return False
        self._waiting[task] = is_first
        try:
            return await waiting
        except asyncio.CancelledError:
            if task in self._waiting or task.uncancel():
                raise
            return False
        finally:
            self._waiting.pop(task, None)

    async def _sleep(self, seconds: float) -> bool:
        await self.clock.sleep(seconds)
        return True

    async def _wait_for_turn(self, *, is_first: bool) -> bool:
        async with self._head:
            if self._limiter is not None:
                await self._limiter.acquire()
            while True:
                now = self.clock.monotonic()
                delay = self.adaptive_rate.delay(now) or self.breaker.wait(now)
                if not delay:
                    break
                await self._sleep_until_woken(delay)
            if not (is_first or self.breaker.allows_retry()):
                return False
            self.adaptive_rate.on_send(now)
            self.breaker.on_send(now, is_first=is_first)
        return True

    async def _sleep_until_woken(self, seconds: float) -> None:
        # The response to an earlier probe cancels the timer.
        self._timer = timer = asyncio.ensure_future(self.clock.sleep(seconds))
        try:
            await asyncio.wait([timer])
        finally:
            timer.cancel()
        if not timer.cancelled():
            timer.result()

    def wake(self) -> None:
        """Let the head of the queue look again whether it may send."""
        if self._timer is not None:
            self._timer.cancel()

    def abort(self, error: BankConnectError) -> None:
        """Send nothing more, because of *error*."""
        self.abort_cause = error
        for task in list(self._waiting):
            self._turn_away(task)

    def drain(self) -> None:
        """Send retries only."""
        for task, is_first in list(self._waiting.items()):
            if is_first:
                self._turn_away(task)

    def _turn_away(self, task: asyncio.Task[Any]) -> None:
        del self._waiting[task]
        task.cancel()


class WorkerSlots:
    """
    The slots of a batch's workers; items that wait for long lend theirs.

    Args:
        size: The number of slots.
        room: The semaphore of items that are taken and not reported yet; an
            item that lends its slot makes room for one more.
        on_lend: A callback that starts a worker for a slot that was lent.

    Attributes:
        lent: The number of items that wait without a slot.
    """

    def __init__(
        self, size: int, room: FifoSemaphore, on_lend: Callable[[], None]
    ) -> None:
        self.lent: int = 0
        self._room = room
        self._most = _WAITING_PER_SLOT * size
        self._semaphore = FifoSemaphore(size)
        self._on_lend = on_lend
        self.try_acquire: Callable[[], bool] = self._semaphore.try_acquire
        self.release: Callable[[], None] = self._semaphore.release

    def lend(self) -> bool:
        """Free the slot of an item that waits, unless too many do."""
        if self.lent >= self._most:
            return False
        self.lent += 1
        self._room.grow(self._room.size + 1)
        self.release()
        self._on_lend()
        return True

    def end_loan(self) -> None:
        """Count one item less that waits without a slot."""
        self.lent -= 1
        self._room.shrink(self._room.size - 1)

    async def acquire(self) -> None:
        """Wait for a slot."""
        if not self.try_acquire():
            await self._semaphore.acquire()


class BatchThrottle:
    """
    The throttle of one worker, for one item after the other.

    It implements the protocol of `bankconnect_async._http.throttling`: it
    learns of each failed attempt, and says when the next may be made.

    Args:
        queue: The queue that all workers share.
        slots: The slots of the workers.

    Attributes:
        throttled_for: The seconds that the item was held back while others
            were served; they extend the item's deadline.
        sent_at: The time of the last attempt, by the clock of *queue*.
    """

    def __init__(self, queue: SendQueue, slots: WorkerSlots) -> None:
        self._queue = queue
        self._slots = slots
        self._has_slot = False
        # Whether a request may be sent and was not yet.
        self._is_due = False
        self.sent_at: float = 0.0
        self._is_excused = False
        self.throttled_for: float = 0.0

    def try_acquire(self) -> bool:
        """Return whether an item may be sent now, without waiting."""
        queue = self._queue
        if not queue.is_open or not self._slots.try_acquire():
            return False
        self._has_slot = True
        self.throttled_for = 0.0
        self.sent_at = queue.clock.monotonic()
        return True

    async def acquire(self) -> bool:
        """
        Wait until an item may be sent for the first time.

        Returns:
            Whether to send it; `False` once nothing is sent any more.
        """
        self.throttled_for = 0.0
        await self._slots.acquire()
        self._has_slot = True
        return await self._wait_for_turn(is_first=True)

    async def acquire_next(self) -> bool:
        """
        Wait until one more request of an item may be sent, after a success.

        Returns:
            Whether to send it; `False` once nothing is sent any more.
        """
        self.on_success()
        return await self._wait_for_turn(is_first=False)

    async def _wait_for_turn(self, *, is_first: bool) -> bool:
        if not await self._queue.acquire(is_first=is_first):
            return False
        self._is_due = True
        self.sent_at = self._queue.clock.monotonic()
        return True

    def release(self) -> None:
        """End the item, whatever became of it."""
        if self._has_slot:
            self._has_slot = False
            self._slots.release()
        if self._is_due:
            self._is_due = False
            self._queue.adaptive_rate.on_lost(self.sent_at)
            self._queue.breaker.on_unsent(self._queue.clock.monotonic())
            self._queue.wake()

    async def wait(self, seconds: float) -> bool:
        """
        Wait *seconds*, and until the item may be sent once more.

        Returns:
            Whether to send it; `False` once nothing is sent any more.
        """
        queue = self._queue
        began = queue.clock.monotonic()
        served = queue.adaptive_rate.served.total
        if seconds and not await self._sleep(seconds):
            return False
        if not await self._wait_for_turn(is_first=False):
            return False
        queue.retries += 1
        now = self.sent_at
        if queue.adaptive_rate.served.total > served:
            own = 0.0 if self._is_excused else seconds
            self.throttled_for += now - began - own
        return True

    async def _sleep(self, seconds: float) -> bool:
        # No worker takes a new item instead while all have to wait.
        if self._queue.is_paused or not self._slots.lend():
            return await self._queue.sleep(seconds)
        self._has_slot = False
        try:
            goes_on = await self._queue.sleep(seconds)
        finally:
            self._slots.end_loan()
        await self._slots.acquire()
        self._has_slot = True
        return goes_on

    def on_success(self) -> None:
        """Learn that the item was served."""
        queue = self._queue
        rate = queue.adaptive_rate
        self._is_due = False
        if rate.is_unlimited and rate.served.total:
            rate.served.add(self.sent_at)
        else:
            was_probing = rate.is_probing
            rate.on_success(queue.clock.monotonic(), self.sent_at)
            if was_probing:
                queue.wake()
        if queue.breaker.failures or not queue.breaker.is_closed:
            queue.breaker.on_success(queue.clock.monotonic())
            queue.wake()

    def on_failure(self, error: BankConnectError) -> bool:
        """
        Learn of a failed attempt.

        Returns:
            Whether the item is excused: the server, or nearly all of it, is
            out of service, or asks for patience.
        """
        self._is_due = False
        queue, now = self._queue, self._queue.clock.monotonic()
        rate, breaker = queue.adaptive_rate, queue.breaker
        queue.wake()
        if isinstance(error, RateLimitError):
            self._is_excused = rate.on_throttle(
                now, self.sent_at, error.retry_after
            )
            return self._is_excused
        if _is_verdict(error):
            # The server is in order, and refuses this item.
            self.on_success()
            self._is_excused = False
            return False
        # The circuit breaker paces what is sent in an outage.
        is_probe = not breaker.is_closed and self.sent_at > breaker.opened_at
        if _is_overload(error) and not is_probe:
            rate.on_failure(now, self.sent_at)
        else:
            rate.on_lost(self.sent_at)
        if isinstance(error, PoolTimeoutError | ProxyAuthenticationError):
            self._is_excused = False
            return False
        breaker.on_failure(now, self.sent_at, _permanent_kind(error))
        if breaker.is_hopeless and queue.abort_cause is None:
            queue.abort(error)
        self._is_excused = not breaker.is_closed or _asks_for_patience(error)
        return self._is_excused


class IdThrottle(BatchThrottle):
    """
    The throttle of calls about ids, which the vendor may not know.
    """

    def on_failure(self, error: BankConnectError) -> bool:
        """Learn of a failed attempt."""
        # The vendor's own API responds with a code or a JSON object.
        if isinstance(error, NotFoundError) and (
            error.code is not None or error.body.lstrip().startswith(b"{")
        ):
            self.on_success()
            return False
        return super().on_failure(error)


def _asks_for_patience(error: BankConnectError) -> bool:
    return (
        isinstance(error, ServerError) and error.delivery is Delivery.REJECTED
    )


def _is_verdict(error: BankConnectError) -> bool:
    return (
        isinstance(error, ResponseError)
        and not isinstance(error, ServerError)
        and error.status not in _MISPLACED
    )


def _is_overload(error: BankConnectError) -> bool:
    match error:
        case CertificateError() | ProxyAuthenticationError():
            return False
        case RequestTimeoutError() | ConnectError():
            return True
        case ServerError(status=status):
            return status in _OVERLOADED
    return False


def _permanent_kind(error: BankConnectError) -> Hashable:
    """Return what fails, if waiting cannot change it; else `None`."""
    match error:
        case CertificateError():
            return CertificateError
        case ResponseError(status=status) if status in _MISPLACED:
            return status
        # A complete body of another kind, such as a page of HTML.
        case InvalidResponseError(problems=[_, *_]):
            return InvalidResponseError
    return None
