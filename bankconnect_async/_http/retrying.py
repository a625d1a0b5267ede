"""
The retry loop, which an operation enters after its first attempt failed.

tenacity drives it. An operation that succeeds at once pays nothing for it.
"""

import asyncio

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import attrs
import tenacity

from bankconnect_async._hooks import HookRunner, was_cancelled
from bankconnect_async.clock import Clock
from bankconnect_async.error_details import Attempt
from bankconnect_async.errors import (
    BankConnectError,
    Delivery,
    InvalidResponseError,
    Phase,
    ResponseError,
    TransportError,
)
from bankconnect_async.retry import RetryBudget, RetryPolicy, is_retryable

from .error_mapping import NOTHING_SENT
from .throttling import Throttle


T = TypeVar("T")

# Seconds. A request with less time left would only become ambiguous.
_SHORTEST: Final = 0.05
# The number of failures of one operation that a throttle may excuse. A server
# that serves others may refuse this one for ever.
_MAX_EXCUSES: Final = 10
# What a delivery leaves behind at the server, least first.
_GRAVITY: Final = (
    Delivery.NOT_SENT,
    Delivery.REJECTED,
    Delivery.AMBIGUOUS,
    Delivery.CREATED_UNREADABLE,
)
# What one attempt did, in the message of a later one.
_OUTCOMES: Final = {
    Delivery.REJECTED: "was refused",
    Delivery.AMBIGUOUS: "may have been processed",
    Delivery.CREATED_UNREADABLE: "was accepted, and its response unreadable",
}


@attrs.define(kw_only=True)
class RetryState:
    """
    One operation after its first failure; its methods are tenacity's hooks.

    Attributes:
        error: The error of the latest attempt; of the first one, initially.
        policy: The retry policy.
        budget: The budget that all operations of a client share.
        clock: The clock.
        deadline: The time after which no attempt begins, on *clock*.
        throttle: The throttle to wait in, if the operation is one of a batch.
        hooks: The runner that logs what the policy or the clock raises.
        number: The number of attempts so far.
        excuses: The number of attempts that do not count.
        stopped: The reason why there is no further attempt.
    """

    error: BankConnectError
    policy: RetryPolicy
    budget: RetryBudget
    clock: Clock
    deadline: float
    throttle: Throttle | None = None
    hooks: HookRunner = attrs.Factory(HookRunner)
    number: int = 0
    excuses: int = 0
    stopped: str | None = None
    _is_excused: bool = attrs.field(default=False, init=False)
    _spent: float = attrs.field(default=0.0, init=False)
    _raised: BaseException | None = attrs.field(default=None, init=False)
    _timeline: list[Attempt] = attrs.field(factory=list, init=False)

    @property
    def time_left(self) -> float:
        """The seconds until no attempt begins any more."""
        extension = self.throttle.throttled_for if self.throttle else 0.0
        return self.deadline + extension - self.clock.monotonic()

    @property
    def cost(self) -> float:
        """The tokens that the next attempt costs."""
        return 0.0 if self._is_excused else self.budget.cost(self.error)

    def should_retry(self, state: tenacity.RetryCallState) -> bool:
        """Tell whether the latest failure may be retried at all."""
        error = state.outcome.exception() if state.outcome else None
        self._raised = error
        if not isinstance(error, BankConnectError):
            return False
        self.error = error
        self.stopped = None
        self._is_excused = self._excuse()
        if is_retryable(error, self.policy.delivery):
            return True
        if is_retryable(error, "at-least-once"):
            self.stopped = "not repeated, because delivery is at-most-once"
        return False

    def _excuse(self) -> bool:
        if not (self.throttle and self.throttle.on_failure(self.error)):
            return False
        if self.policy.attempts == 1 or self.excuses == _MAX_EXCUSES:
            return False
        self.excuses += 1
        return True

    def wait(self, _: tenacity.RetryCallState) -> float:
        """Return the seconds to wait before the next attempt."""
        seconds = 0.0
        if not self._is_excused:
            seconds = self.policy.backoff(self.number - self.excuses)
        if isinstance(self.error, ResponseError):
            return max(seconds, self.error.retry_after or 0.0)
        return seconds

    def should_stop(self, state: tenacity.RetryCallState) -> bool:
        """Tell whether there is no further attempt, and keep the reason."""
        self.stopped = stop_reason(
            attempts_left=self.policy.attempts - self.number + self.excuses,
            wait=state.upcoming_sleep,
            time_left=self.time_left,
            tokens_left=self.budget.tokens - self.cost,
        )
        return self.stopped is not None

    def before_sleep(self, state: tenacity.RetryCallState) -> None:
        """Pay for the next attempt, and record the latest one."""
        self._spent = self.cost
        self.budget.spend(self._spent)
        self._record(wait=state.upcoming_sleep)

    async def sleep(self, seconds: float) -> None:
        """Wait *seconds*, and for the throttle."""
        if self.throttle is None:
            await self.clock.sleep(seconds)
            return
        if not await self.throttle.wait(seconds):
            self.stopped = "nothing is sent any more"
        elif self.time_left < _SHORTEST:
            self.stopped = "no time left: others were waiting, too"
        if self.stopped is not None:
            raise self.error

    def finish(self) -> BankConnectError:
        """Return the latest error, with the timeline of all attempts."""
        error = self.error
        if self._timeline and self._timeline[-1].number == self.number:
            # The next attempt was paid for, and not made.
            self._timeline.pop()
            self.budget.refund(self._spent)
        self._record()
        error.attempts = tuple(self._timeline)
        # What one attempt may have done, a later one does not undo.
        gravest = max(
            error.attempts, key=lambda each: _GRAVITY.index(each.delivery)
        )
        if gravest.delivery is not error.attempts[-1].delivery:
            message = error.message.removesuffix(NOTHING_SENT)
            outcome = _OUTCOMES[gravest.delivery]
            error.args = (f"{message}; attempt {gravest.number} {outcome}",)
        error.delivery = gravest.delivery
        return error

    def _record(self, wait: float | None = None) -> None:
        self._timeline.append(
            Attempt(
                number=self.number,
                phase=_phase(self.error),
                delivery=self.error.delivery or Delivery.NOT_SENT,
                reason=self.error.message,
                status=getattr(self.error, "status", None),
                wait=wait,
                tokens=self.budget.tokens,
                stopped=self.stopped if wait is None else None,
            )
        )

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """
        Retry an operation whose first attempt failed.

        Args:
            work: The function that makes one further attempt.

        Raises:
            BankConnectError: The last attempt's error, with the timeline of
                all of them in `attempts`.
        """

        async def attempt() -> T:
            self.number += 1
            if self.number == 1:
                raise self.error
            return await work()

        retrying = tenacity.AsyncRetrying(
            sleep=self.sleep,
            retry=self.should_retry,
            wait=self.wait,
            stop=self.should_stop,
            before_sleep=self.before_sleep,
            reraise=True,
        )
        try:
            result: T = await retrying(attempt)
        except BankConnectError:
            raise self.finish() from None
        except (Exception, asyncio.CancelledError) as exc:
            if exc is self._raised or was_cancelled():
                raise
            # The user may have written the policy's `rng` and the clock. What
            # they raise must not replace the error of the request.
            name = "the retry policy or the clock"
            self.hooks.log(name, exc)
            self.stopped = f"{name} raised {type(exc).__name__}"
        else:
            self.budget.refund(self._spent)
            return result
        raise self.finish()


def stop_reason(
    *, attempts_left: int, wait: float, time_left: float, tokens_left: float
) -> str | None:
    """
    Return why there is no further attempt, or `None` if there is one.

    Args:
        attempts_left: The number of attempts that the policy still allows.
        wait: The seconds until the next attempt.
        time_left: The seconds until the deadline.
        tokens_left: The tokens of the budget after the next attempt.
    """
    if attempts_left <= 0:
        return "no attempts left"
    if wait + _SHORTEST > time_left:
        return f"no time left: the next try is due in {wait:.3g} s"
    if tokens_left < 0:
        return "the client's retry budget is spent"
    return None


def _phase(error: BankConnectError) -> Phase:
    if isinstance(error, TransportError):
        return error.phase or Phase.QUEUED
    if isinstance(error, ResponseError | InvalidResponseError):
        return Phase.RESPONDED
    return Phase.QUEUED
