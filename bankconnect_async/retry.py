"""
Whether a failed call is repeated, when, and at whose expense.

tenacity drives the retries. It is entered only after a first failure, so a
call that succeeds at once pays nothing for it.
"""

import random

from collections.abc import Awaitable, Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    Protocol,
    TypeAlias,
    TypeVar,
)

import attrs

from ._clock import Clock
from .errors import (
    Attempt,
    BankConnectError,
    CertificateError,
    ClientClosedError,
    ConfigurationError,
    Delivery,
    InvalidRequestError,
    Phase,
    RateLimitedError,
    RequestTimeoutError,
    ResponseError,
    ServerFaultError,
    TransportError,
    UnreadableAnswerError,
)


if TYPE_CHECKING:
    import tenacity


class Turns(Protocol):
    """
    Where a call that is one of many waits, so that all hold back together.

    Attributes:
        held: Seconds that the call's own deadline does not count.
    """

    held: float

    def note_failed(self, error: BankConnectError) -> bool:
        """
        Take note of a failed attempt.

        Returns:
            Whether it costs the call neither an attempt nor tokens.
        """
        ...

    async def again(self, seconds: float, /) -> bool:
        """
        Wait *seconds* at least, and for leave to try again.

        Returns:
            Whether it came; `False` if nothing is sent any more.
        """
        ...


T = TypeVar("T")
DeliveryMode: TypeAlias = Literal["at-least-once", "at-most-once"]

_MODES = "at-least-once", "at-most-once"
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


def _uniform(low: float, high: float) -> float:
    # A function of this module, so that a policy can be pickled.
    return random.uniform(low, high)  # noqa: S311 - jitter, not a secret


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """
    When a failed call is tried again.

    Attributes:
        attempts: Tries in all; 1 switches retries off.
        wait_initial: Upper end of the first wait, in seconds. Waits are
            drawn from 0 to that ("full jitter"), and it doubles every time.
        wait_max: Upper end of any wait, in seconds. A longer Retry-After of
            the server is honoured all the same.
        deadline: Seconds for everything: queueing, connecting, all attempts
            and the waits between them.
        delivery: `at-least-once` repeats a request that may have been
            processed: the vendor allows many sessions of one `link_id`, and
            only the last URL is handed out. `at-most-once` never does.
        rng: Draws from a range; a seam for tests.
        turns: Where to wait for the next attempt; a seam for batches.

    Raises:
        ConfigurationError: With every bad value in `fields`.
    """

    attempts: int = 3
    wait_initial: float = 0.25
    wait_max: float = 5.0
    deadline: float = 30.0
    delivery: DeliveryMode = "at-least-once"
    rng: Callable[[float, float], float] = attrs.field(
        default=_uniform, repr=False, eq=False
    )
    turns: Turns | None = attrs.field(default=None, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        fields: dict[str, tuple[str, ...]] = {}
        if not _is_number(self.attempts, int) or self.attempts < 1:
            fields["attempts"] = ("must be a whole number, 1 or more",)
        for name in ("wait_initial", "wait_max"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value < float("inf"):
                fields[name] = ("must be a number of seconds, 0 or more",)
        if not _is_number(self.deadline) or not 0 < self.deadline < float(
            "inf"
        ):
            fields["deadline"] = ("must be a number of seconds above 0",)
        if self.delivery not in _MODES:
            fields["delivery"] = (f"must be one of {', '.join(_MODES)}",)
        if fields:
            raise ConfigurationError(fields=fields)

    def backoff(self, attempt: int) -> float:
        """
        Draw the seconds to wait after failed attempt number *attempt*.
        """
        # The exponent is bounded: floats overflow, waits do not grow.
        ceiling = self.wait_initial * 2.0 ** min(attempt - 1, 64)
        return self.rng(0.0, min(ceiling, self.wait_max))


def _is_number(value: object, types: Any = (int, float)) -> bool:
    return isinstance(value, types) and not isinstance(value, bool)


@attrs.define
class RetryBudget:
    """
    What all calls of one client may spend on retries together.

    While the server is down every call fails, and a budget that no success
    refills runs dry: a total outage draws at most `capacity / cost` = 100
    extra requests, however many calls fail.

    Attributes:
        capacity: Tokens at most, and at the start.
        cost: Tokens a retry costs.
        timeout_cost: Tokens a retry after a timeout costs.
        tokens: What is left.
    """

    capacity: float = 500
    cost: float = 5
    timeout_cost: float = 10
    tokens: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tokens = self.capacity

    def price(self, error: BankConnectError) -> float:
        """Return what repeating after *error* costs."""
        if isinstance(error, RequestTimeoutError):
            return self.timeout_cost
        return self.cost

    def spend(self, tokens: float) -> None:
        """Pay for a retry."""
        self.tokens -= tokens

    def refund(self, tokens: float = 1) -> None:
        """Give back after a success: its last price, or 1 if it was clean."""
        if self.tokens < self.capacity:
            self.tokens = min(self.capacity, self.tokens + tokens)


def parse_retry_after(text: str | None, *, now: float) -> float | None:
    """
    Read a Retry-After header (RFC 9110, section 10.2.3).

    Args:
        text: Seconds or an HTTP date, as received.
        now: Seconds since the epoch.

    Returns:
        Seconds from now, 0 at least; `None` for a missing or unusable one.
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        # Longer numbers would only overflow a float.
        return float(text.lstrip("0")[:12] or 0)
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return max(0.0, date.timestamp() - now)
    except (ValueError, OverflowError):
        return None


def is_worth_repeating(error: BankConnectError, mode: DeliveryMode) -> bool:
    """
    Tell whether the same request may and should be sent again.
    """
    match error:
        case CertificateError() | ClientClosedError() | InvalidRequestError():
            return False
        case RateLimitedError():
            return True
        case ServerFaultError(delivery=Delivery.REJECTED):
            return True
    match error.delivery:
        case Delivery.NOT_SENT:
            return True
        case Delivery.AMBIGUOUS | Delivery.CREATED_UNREADABLE:
            return mode == "at-least-once"
        case _:
            return False


@attrs.define
class _Course:
    """
    The course of one call after its first failure, as tenacity's callbacks.
    """

    policy: RetryPolicy
    budget: RetryBudget
    clock: Clock
    give_up_at: float
    timeline: list[Attempt] = attrs.Factory(list)
    paid: float = 0
    stopped: str | None = None
    excuses: int = 0
    is_excused: bool = False
    latest: BankConnectError | None = None

    def may_repeat(self, state: "tenacity.RetryCallState") -> bool:
        error = _error(state)
        if error is None:
            return False
        self.latest = error
        self.stopped = None
        self.is_excused = self.hear(error)
        if is_worth_repeating(error, self.policy.delivery):
            return True
        if is_worth_repeating(error, "at-least-once"):
            self.stopped = "not repeated, because delivery is at-most-once"
        return False

    def hear(self, error: BankConnectError) -> bool:
        turns = self.policy.turns
        if turns is None or not turns.note_failed(error):
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
        turns = self.policy.turns
        if turns is None:
            await self.clock.sleep(seconds)
            return
        if not await turns.again(seconds):
            self.stopped = "nothing is sent any more"
        elif self._starts_too_late(0):
            self.stopped = "no time left: others were waiting, too"
        else:
            return
        assert self.latest is not None  # noqa: S101 - may_repeat came first
        raise self.latest

    def must_stop(self, state: "tenacity.RetryCallState") -> bool:
        error = _error(state)
        assert error is not None  # noqa: S101 - may_repeat came first
        if state.attempt_number - self.excuses >= self.policy.attempts:
            self.stopped = "no attempts left"
        elif self._starts_too_late(state.upcoming_sleep):
            self.stopped = (
                f"no time left: the next try is due in "
                f"{state.upcoming_sleep:.3g} s"
            )
        elif self.budget.tokens < self.price(error):
            self.stopped = "the client's retry budget is spent"
        return self.stopped is not None

    def price(self, error: BankConnectError) -> float:
        return 0 if self.is_excused else self.budget.price(error)

    def _starts_too_late(self, wait: float) -> bool:
        turns = self.policy.turns
        held = 0.0 if turns is None else turns.held
        return (
            self.clock.monotonic() + wait + _SHORTEST > self.give_up_at + held
        )

    def pay(self, state: "tenacity.RetryCallState") -> None:
        error = _error(state)
        assert error is not None  # noqa: S101 - may_repeat came first
        self.paid = self.price(error)
        self.budget.spend(self.paid)
        self.note(error, state.attempt_number, wait=state.upcoming_sleep)

    def conclude(self, error: BankConnectError, number: int) -> None:
        if self.timeline and self.timeline[-1].number == number:
            # It was to be repeated, and was not.
            self.timeline.pop()
            self.budget.refund(self.paid)
        self.note(error, number)

    def note(
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
    if not isinstance(error, ResponseError | UnreadableAnswerError):
        return Phase.QUEUED
    return Phase.ANSWERED


async def repeat(  # noqa: PLR0913
    work: Callable[[], Awaitable[T]],
    *,
    after: BankConnectError,
    policy: RetryPolicy,
    budget: RetryBudget,
    clock: Clock,
    give_up_at: float,
) -> tuple[T, int]:
    """
    Go on with a call whose first attempt failed.

    Args:
        work: One further attempt.
        after: What the first attempt raised.
        policy: How often, how long, in which delivery mode.
        budget: Shared by all calls of a client.
        clock: Time.
        give_up_at: When no attempt may begin any more, on *clock*.

    Returns:
        The result, and the number of attempts it took.

    Raises:
        BankConnectError: The last attempt's error, with the timeline of all
            of them in `attempts`.
    """
    import tenacity  # noqa: PLC0415 - a call that succeeds never needs it

    course = _Course(policy, budget, clock, give_up_at)
    number = 0

    async def attempt() -> T:
        nonlocal number
        number += 1
        if number == 1:
            raise after
        return await work()

    retrying = tenacity.AsyncRetrying(
        sleep=course.sleep,
        retry=course.may_repeat,
        wait=course.wait,
        stop=course.must_stop,
        before_sleep=course.pay,
        reraise=True,
    )
    try:
        result: T = await retrying(attempt)
    except BankConnectError as error:
        course.conclude(error, number)
        error.attempts = tuple(course.timeline)
        # What one attempt may have done, a later one does not undo.
        error.delivery = max(
            (each.delivery for each in error.attempts), key=_GRAVITY.index
        )
        raise
    budget.refund(course.paid)
    return result, number
