"""
Poll the vendor until something is done, within a timeout.
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

# Jitter, as a share of the interval, so that concurrent pollers spread out.
_JITTER: Final = 0.2
# Seconds. A request with less time would only fail.
_MIN_TIME: Final = 0.1
# The path of a problem with the response as a whole.
_AT_ROOT: Final = " @ $"


@attrs.define(kw_only=True)
class PollSchedule:
    """
    The interval and the deadline of a poller.

    Attributes:
        api: The API, with its clock and retry policy.
        interval: The seconds between two polls, before jitter.
        timeout: The seconds for all polls.
        deadline: The end of the timeout, on the clock of *api*.
    """

    api: ApiClient
    interval: float
    timeout: float
    deadline: float
    # The same on the event loop's clock: a test's clock may stand still.
    _loop_deadline: float | None = attrs.field(default=None, init=False)

    @classmethod
    def start(
        cls, api: ApiClient, timeout: float | None, interval: float
    ) -> Self:
        """
        Start the timeout now.

        Raises:
            ConfigurationError: If a number is not above 0.
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
            deadline=api.clock.monotonic() + seconds,
        )

    @property
    def remaining(self) -> float:
        """The seconds left, on the clock that is further ahead."""
        now = asyncio.get_running_loop().time()
        if self._loop_deadline is None:
            self._loop_deadline = now + self.timeout
        return min(
            self.deadline - self.api.clock.monotonic(),
            self._loop_deadline - now,
        )

    def next_interval(self) -> float:
        """Return the seconds until the next poll."""
        low, high = 1 - _JITTER, 1 + _JITTER
        return self.interval * self.api.retry.rng(low, high)

    def policy(self) -> RetryPolicy:
        """Return the client's policy, limited to the remaining time."""
        policy, left = self.api.retry, self.remaining
        if left <= 0:
            # The event loop stalled, and this poll is late.
            left = self.interval
        deadline = min(policy.deadline, max(left, _MIN_TIME))
        return attrs.evolve(policy, deadline=deadline)


@attrs.define
class InterruptibleSleep:
    """
    A sleep that another task can interrupt.
    """

    interrupted: bool = False
    _sleeping: "asyncio.Future[None] | None" = None

    def interrupt(self) -> None:
        """End the current sleep, or else skip the next one."""
        self.interrupted = True
        if self._sleeping is not None:
            self._sleeping.cancel()

    async def sleep(self, clock: Clock, seconds: float) -> None:
        """Sleep for *seconds*, or until `interrupt`."""
        if not self.interrupted:
            sleeping = asyncio.ensure_future(clock.sleep(seconds))
            self._sleeping = sleeping
            try:
                await asyncio.wait((sleeping,))
            finally:
                self._sleeping = None
                sleeping.cancel()
            if not sleeping.cancelled():
                sleeping.result()
        self.interrupted = False


@attrs.define(eq=False)
class Poller(Generic[T]):
    """
    Iterate over distinct responses until the work is done.

    It is not a generator and keeps no task between two steps, so an early
    exit from ``async for`` leaks nothing (PEP 789).
    """

    _schedule: PollSchedule
    _id: str = attrs.field(repr=False)
    _fetch: Callable[[RetryPolicy], Awaitable[T | None]] = attrs.field(
        kw_only=True, repr=False, alias="fetch"
    )
    _is_done: Callable[[T], bool] = attrs.field(
        kw_only=True, repr=False, alias="is_done"
    )
    _last_response: T | None = attrs.field(
        default=None, init=False, repr=False
    )
    _started: bool = attrs.field(default=False, init=False)
    _done: bool = attrs.field(default=False, init=False)
    # The error of the last poll, if it failed.
    _last_error: BankConnectError | None = attrs.field(
        default=None, init=False, repr=False
    )
    _sleep: InterruptibleSleep = attrs.field(
        factory=InterruptibleSleep, init=False, repr=False
    )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        with self._schedule.api.changes.subscribe(
            self._id, self._sleep.interrupt
        ):
            while not self._done:
                response = await self._poll()
                if response is None:
                    continue
                self._done = self._is_done(response)
                if response != self._last_response:
                    self._last_response = response
                    return response
        raise StopAsyncIteration

    async def _poll(self) -> T | None:
        schedule, is_due = self._schedule, True
        if self._started:
            pause, left = self._pause(), schedule.remaining
            # A poll that was due is made even after a stall of the loop.
            is_due = pause < left
            await self._sleep.sleep(
                schedule.api.clock, max(min(pause, left), 0)
            )
        self._started = True
        if schedule.remaining <= 0 and not is_due:
            raise self._timeout_error() from self._last_error
        self._last_error = None
        try:
            return await self._fetch(schedule.policy())
        except BankConnectError as error:
            if not _is_transient(error):
                raise
            self._last_error = error
        if schedule.remaining <= 0:
            raise self._timeout_error() from self._last_error
        return None

    def _pause(self) -> float:
        asked = getattr(self._last_error, "retry_after", None)
        return max(self._schedule.next_interval(), asked or 0)

    def _timeout_error(self) -> WaitTimeoutError:
        message, error = "processing was not over in time", self._last_error
        if error is None:
            return WaitTimeoutError(message, response=self._last_response)
        late = WaitTimeoutError(
            f"{message}, and the last poll failed: {error.message}",
            response=self._last_response,
        )
        late.attempts = error.attempts
        return late


def _is_transient(error: BankConnectError) -> bool:
    """Tell whether a later poll can succeed."""
    if isinstance(error, InvalidResponseError):
        # A gateway's page or a truncated body is transient; an undocumented
        # shape is not.
        return all(each.endswith(_AT_ROOT) for each in error.problems)
    return is_retryable(error, "at-least-once")
