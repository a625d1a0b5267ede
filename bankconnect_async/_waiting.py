"""
Looking again and again, until something is over.
"""

import asyncio

from collections.abc import Awaitable, Callable
from typing import Final, Generic, Self, TypeVar

import attrs

from ._api import Api
from ._clock import Clock
from .errors import BankConnectError, ConfigurationError, WaitTimeoutError
from .retry import RetryPolicy


T = TypeVar("T")

# Of an interval: many who began together must not go on together.
_JITTER: Final = 0.2
# Seconds. A call with less time would only fail.
_SHORTEST: Final = 0.1


@attrs.frozen(kw_only=True)
class Pace:
    """
    How often to look, and how long.

    Attributes:
        api: Whose clock, chance and hints.
        interval: Seconds between two looks, more or less.
        give_up_at: On the clock of *api*.
    """

    api: Api
    interval: float
    give_up_at: float

    @classmethod
    def start(cls, api: Api, timeout: float | None, interval: float) -> Self:
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
            give_up_at=api.clock.monotonic() + seconds,
        )

    @property
    def left(self) -> float:
        """Seconds."""
        return self.give_up_at - self.api.clock.monotonic()

    def draw(self) -> float:
        """Return the seconds until the next look."""
        low, high = 1 - _JITTER, 1 + _JITTER
        return self.interval * self.api.calls.retry.rng(low, high)

    def policy(self) -> RetryPolicy:
        """Return the client's policy, as far as there is time for it."""
        policy = self.api.calls.retry
        deadline = min(policy.deadline, max(self.left, _SHORTEST))
        return attrs.evolve(policy, deadline=deadline)


@attrs.define
class _Nap:
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
class Watch(Generic[T]):
    """
    Every distinct answer until things are over, for ``async for``.

    Not a generator, and no task outlives a step: who leaves early leaves
    nothing behind (PEP 789).
    """

    _pace: Pace
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
    _nap: _Nap = attrs.field(factory=_Nap, init=False, repr=False)

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
        pace = self._pace
        if self._begun:
            await self._nap.take(
                pace.api.clock, min(pace.draw(), max(pace.left, 0))
            )
        self._begun = True
        if pace.left <= 0:
            raise self._late(None)
        try:
            return await self._ask(pace.policy())
        except BankConnectError as error:
            if pace.left > 0:
                raise
            raise self._late(error) from error

    def _late(self, error: BankConnectError | None) -> WaitTimeoutError:
        late = WaitTimeoutError(
            "processing was not over in time", answer=self._last
        )
        late.attempts = error.attempts if error is not None else ()
        return late
