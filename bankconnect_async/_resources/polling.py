"""
Looking again and again, until something is over.
"""

import asyncio

from collections.abc import Awaitable, Callable
from typing import Final, Generic, Self, TypeVar

import attrs

from bankconnect_async.clock import Clock
from bankconnect_async.errors import (
    BankConnectError,
    ConfigurationError,
    InvalidResponseError,
    WaitTimeoutError,
)
from bankconnect_async.retry import RetryPolicy, is_retryable

from .base import ApiClient


T = TypeVar("T")

# Of an interval: many who began together must not go on together.
_JITTER: Final = 0.2
# Seconds. A call with less time would only fail.
_SHORTEST: Final = 0.1
# Where a problem is that is one of the answer as a whole.
_WHOLE: Final = " @ $"


@attrs.define(kw_only=True)
class PollSchedule:
    """
    How often to look, and how long.

    Attributes:
        api: Whose clock, chance and hints.
        interval: Seconds between two looks, more or less.
        timeout: Seconds for all of them.
        deadline_at: On the clock of *api*.
    """

    api: ApiClient
    interval: float
    timeout: float
    deadline_at: float
    # Of the event loop, once it runs: the other clock may stand still.
    _over_at: float | None = attrs.field(default=None, init=False)

    @classmethod
    def start(
        cls, api: ApiClient, timeout: float | None, interval: float
    ) -> Self:
        """
        Begin now.

        Raises:
            ConfigurationError: If a number makes no sense.
        """
        fields = {
            name: ("must be a number of seconds above 0",)
            for name, value in (("timeout", timeout), ("interval", interval))
            if not (name == "timeout" and value is None)
            and (
                not isinstance(value, int | float)
                or isinstance(value, bool)
                or not value > 0
            )
        }
        if fields:
            raise ConfigurationError(fields=fields)
        seconds = float("inf") if timeout is None else timeout
        return cls(
            api=api,
            interval=interval,
            timeout=seconds,
            deadline_at=api.clock.monotonic() + seconds,
        )

    @property
    def left(self) -> float:
        """Seconds, on the clock that got further."""
        now = asyncio.get_running_loop().time()
        if self._over_at is None:
            self._over_at = now + self.timeout
        return min(
            self.deadline_at - self.api.clock.monotonic(), self._over_at - now
        )

    def draw(self) -> float:
        """Return the seconds until the next look."""
        low, high = 1 - _JITTER, 1 + _JITTER
        return self.interval * self.api.calls.retry.rng(low, high)

    def policy(self) -> RetryPolicy:
        """Return the client's policy, as far as there is time for it."""
        policy, left = self.api.calls.retry, self.left
        if left <= 0:
            # A stall made this look late.
            left = self.interval
        deadline = min(policy.deadline, max(left, _SHORTEST))
        return attrs.evolve(policy, deadline=deadline)


@attrs.define
class InterruptibleSleep:
    """
    A sleep that somebody else can end.
    """

    over: bool = False
    _sleeping: "asyncio.Future[None] | None" = None

    def end(self) -> None:
        """Do not sleep, or no longer."""
        self.over = True
        if self._sleeping is not None:
            self._sleeping.cancel()

    async def take(self, clock: Clock, seconds: float) -> None:
        """Sleep; the next one can be ended anew."""
        if not self.over:
            sleeping = asyncio.ensure_future(clock.sleep(seconds))
            self._sleeping = sleeping
            try:
                await asyncio.wait((sleeping,))
            finally:
                self._sleeping = None
                sleeping.cancel()
            if not sleeping.cancelled():
                sleeping.result()
        self.over = False


@attrs.define(eq=False)
class Poller(Generic[T]):
    """
    Every distinct answer until things are over, for ``async for``.

    Not a generator, and no task outlives a step: who leaves early leaves
    nothing behind (PEP 789).
    """

    _pace: PollSchedule
    _id: str = attrs.field(repr=False)
    _ask: Callable[[RetryPolicy], Awaitable[T | None]] = attrs.field(
        kw_only=True, repr=False, alias="ask"
    )
    _is_over: Callable[[T], bool] = attrs.field(
        kw_only=True, repr=False, alias="is_over"
    )
    _last: T | None = attrs.field(default=None, init=False, repr=False)
    _begun: bool = attrs.field(default=False, init=False)
    _over: bool = attrs.field(default=False, init=False)
    # Why the last look told nothing, if it failed.
    _trouble: BankConnectError | None = attrs.field(
        default=None, init=False, repr=False
    )
    _nap: InterruptibleSleep = attrs.field(
        factory=InterruptibleSleep, init=False, repr=False
    )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        with self._pace.api.hints.listening(self._id, self._nap.end):
            while not self._over:
                answer = await self._look()
                if answer is None:
                    continue
                self._over = self._is_over(answer)
                if answer != self._last:
                    self._last = answer
                    return answer
        raise StopAsyncIteration

    async def _look(self) -> T | None:
        pace, is_due = self._pace, True
        if self._begun:
            pause, left = self._pause(), pace.left
            # If the loop stands still meanwhile, this look is made late.
            is_due = pause < left
            await self._nap.take(pace.api.clock, max(min(pause, left), 0))
        self._begun = True
        if pace.left <= 0 and not is_due:
            raise self._late() from self._trouble
        self._trouble = None
        try:
            return await self._ask(pace.policy())
        except BankConnectError as error:
            if not _may_pass(error):
                raise
            self._trouble = error
        if pace.left <= 0:
            raise self._late() from self._trouble
        return None

    def _pause(self) -> float:
        asked = getattr(self._trouble, "retry_after", None)
        return max(self._pace.draw(), asked or 0)

    def _late(self) -> WaitTimeoutError:
        said, trouble = "processing was not over in time", self._trouble
        if trouble is None:
            return WaitTimeoutError(said, response=self._last)
        late = WaitTimeoutError(
            f"{said}, and the last look at it failed: {trouble.message}",
            response=self._last,
        )
        late.attempts = trouble.attempts
        return late


def _may_pass(error: BankConnectError) -> bool:
    """Tell whether a later look can do better than one that failed."""
    if isinstance(error, InvalidResponseError):
        # A gateway's page passes, and so does half an answer. Another shape
        # than documented does not.
        return all(each.endswith(_WHOLE) for each in error.problems)
    return is_retryable(error, "at-least-once")
