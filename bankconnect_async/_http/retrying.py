"""
The course of a call after its first attempt failed.

tenacity drives it. It is entered only then, so a call that succeeds at once
pays nothing for it.
"""

import asyncio

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from bankconnect_async._hooks import HookRunner, was_cancelled
from bankconnect_async.clock import Clock
from bankconnect_async.errors import (
    Attempt,
    BankConnectError,
    Delivery,
    InvalidResponseError,
    Phase,
    ResponseError,
    TransportError,
)
from bankconnect_async.retry import (
    RetryBudget,
    RetryPolicy,
    is_retryable,
)

from .error_mapping import NOTHING_SENT


if TYPE_CHECKING:
    import tenacity

    from .throttling import Throttle


T = TypeVar("T")

# Seconds. A request with less time left would only become ambiguous.
_SHORTEST = 0.05
# So often a call may be turned away beside its attempts. A server that serves
# others may refuse this one for ever.
_PATIENCE: Final = 10
# How much a delivery leaves behind at the server, least first.
_GRAVITY = (
    Delivery.NOT_SENT,
    Delivery.REJECTED,
    Delivery.AMBIGUOUS,
    Delivery.CREATED_UNREADABLE,
)
# What one attempt did, in the message of a later one.
_OUTCOMES: Final = {
    Delivery.REJECTED: "was refused",
    Delivery.AMBIGUOUS: "may have been processed",
    Delivery.CREATED_UNREADABLE: "was accepted, and its answer unreadable",
}


@attrs.define
class RetryState:
    """
    The course of one call after its first failure, as tenacity's callbacks.
    """

    policy: RetryPolicy
    throttle: "Throttle | None"
    budget: RetryBudget
    clock: Clock
    deadline: float
    timeline: list[Attempt] = attrs.Factory(list)
    spent: float = 0
    stopped: str | None = None
    excuses: int = 0
    is_excused: bool = False
    latest: BankConnectError | None = None
    # What came out of the latest attempt, if that was an exception.
    raised: BaseException | None = None

    def should_retry(self, state: "tenacity.RetryCallState") -> bool:
        error = _error(state)
        if error is None:
            return False
        self.latest = error
        self.stopped = None
        self.is_excused = self.excuse(error)
        if is_retryable(error, self.policy.delivery):
            return True
        if is_retryable(error, "at-least-once"):
            self.stopped = "not repeated, because delivery is at-most-once"
        return False

    def excuse(self, error: BankConnectError) -> bool:
        if self.throttle is None or not self.throttle.on_failure(error):
            return False
        if self.policy.attempts == 1 or self.excuses == _PATIENCE:
            return False
        self.excuses += 1
        return True

    def wait(self, state: "tenacity.RetryCallState") -> float:
        error = _error(state)
        wait = 0.0
        if not self.is_excused:
            wait = self.policy.backoff(state.attempt_number - self.excuses)
        if isinstance(error, ResponseError) and error.retry_after is not None:
            return max(wait, error.retry_after)
        return wait

    async def sleep(self, seconds: float) -> None:
        if self.throttle is None:
            await self.clock.sleep(seconds)
            return
        if not await self.throttle.wait(seconds):
            self.stopped = "nothing is sent any more"
        elif self._starts_too_late(0):
            self.stopped = "no time left: others were waiting, too"
        else:
            return
        assert self.latest is not None  # noqa: S101 - should_retry came first
        raise self.latest

    def should_stop(self, state: "tenacity.RetryCallState") -> bool:
        error = _error(state)
        assert error is not None  # noqa: S101 - should_retry came first
        if state.attempt_number - self.excuses >= self.policy.attempts:
            self.stopped = "no attempts left"
        elif self._starts_too_late(state.upcoming_sleep):
            self.stopped = (
                f"no time left: the next try is due in "
                f"{state.upcoming_sleep:.3g} s"
            )
        elif self.budget.tokens < self.cost(error):
            self.stopped = "the client's retry budget is spent"
        return self.stopped is not None

    def cost(self, error: BankConnectError) -> float:
        return 0 if self.is_excused else self.budget.cost(error)

    def _starts_too_late(self, wait: float) -> bool:
        held = 0.0 if self.throttle is None else self.throttle.throttled_for
        return self.clock.monotonic() + wait + _SHORTEST > self.deadline + held

    def spend(self, state: "tenacity.RetryCallState") -> None:
        error = _error(state)
        assert error is not None  # noqa: S101 - should_retry came first
        self.spent = self.cost(error)
        self.budget.spend(self.spent)
        self.record(error, state.attempt_number, wait=state.upcoming_sleep)

    def conclude(self, error: BankConnectError, number: int) -> None:
        if self.timeline and self.timeline[-1].number == number:
            # It was to be repeated, and was not.
            self.timeline.pop()
            self.budget.refund(self.spent)
        self.record(error, number)

    def finish(self, error: BankConnectError, number: int) -> None:
        self.conclude(error, number)
        error.attempts = tuple(self.timeline)
        # What one attempt may have done, a later one does not undo.
        gravest = max(
            error.attempts, key=lambda each: _GRAVITY.index(each.delivery)
        )
        if gravest.delivery is not error.attempts[-1].delivery:
            message = error.message.removesuffix(NOTHING_SENT)
            outcome = _OUTCOMES[gravest.delivery]
            error.args = (f"{message}; attempt {gravest.number} {outcome}",)
        error.delivery = gravest.delivery

    def record(
        self, error: BankConnectError, number: int, wait: float | None = None
    ) -> None:
        self.timeline.append(
            Attempt(
                number=number,
                phase=_phase(error),
                delivery=error.delivery or Delivery.NOT_SENT,
                reason=error.message,
                status=getattr(error, "status", None),
                wait=wait,
                tokens=self.budget.tokens,
                stopped=None if wait is not None else self.stopped,
            )
        )


def _error(state: "tenacity.RetryCallState") -> BankConnectError | None:
    outcome = state.outcome
    exc = outcome.exception() if outcome is not None else None
    return exc if isinstance(exc, BankConnectError) else None


def _phase(error: BankConnectError) -> Phase:
    if isinstance(error, TransportError):
        return error.phase or Phase.QUEUED
    if not isinstance(error, ResponseError | InvalidResponseError):
        return Phase.QUEUED
    return Phase.ANSWERED


async def retry(  # noqa: PLR0913
    work: Callable[[], Awaitable[T]],
    *,
    after: BankConnectError,
    policy: RetryPolicy,
    budget: RetryBudget,
    clock: Clock,
    deadline: float,
    throttle: "Throttle | None" = None,
    hooks: HookRunner | None = None,
) -> tuple[T, int]:
    """
    Go on with a call whose first attempt failed.

    Args:
        work: One further attempt.
        after: What the first attempt raised.
        policy: How often, how long, in which delivery mode.
        budget: Shared by all calls of a client.
        clock: Time.
        deadline: When no attempt may begin any more, on *clock*.
        throttle: Where to wait, if the call is one of a batch.
        hooks: Logs what the policy or the clock raises.

    Returns:
        The result, and the number of attempts it took.

    Raises:
        BankConnectError: The last attempt's error, with the timeline of all
            of them in `attempts`.
    """
    import tenacity  # noqa: PLC0415 - a call that succeeds never needs it

    course = RetryState(policy, throttle, budget, clock, deadline)
    number = 0

    async def attempt() -> T:
        nonlocal number
        number += 1
        if number == 1:
            raise after
        try:
            return await work()
        except BaseException as exc:
            course.raised = exc
            raise

    retrying = tenacity.AsyncRetrying(
        sleep=course.sleep,
        retry=course.should_retry,
        wait=course.wait,
        stop=course.should_stop,
        before_sleep=course.spend,
        reraise=True,
    )
    try:
        result: T = await retrying(attempt)
    except BankConnectError as error:
        course.finish(error, number)
        raise
    except (Exception, asyncio.CancelledError) as exc:
        if exc is course.raised or was_cancelled():
            raise
        # A policy's `rng` and the clock can be the user's: they must not
        # take the place of the error that says what became of the request.
        course.stopped = (
            f"the retry policy or the clock raised {type(exc).__name__}"
        )
        (hooks or HookRunner()).log("the retry policy or the clock", exc)
    else:
        budget.refund(course.spent)
        return result, number
    latest = course.latest or after
    course.finish(latest, number)
    raise latest
