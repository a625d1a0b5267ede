"""
What is retried, when, and at what cost; time and chance are controlled.
"""

import asyncio
import copy
import pickle

import pytest

from bankconnect_async import (
    AuthenticationError,
    BadRequestError,
    BankConnectError,
    CertificateError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    Delivery,
    HeadTooLargeError,
    InvalidRequestError,
    InvalidResponseError,
    Phase,
    PoolTimeoutError,
    ProxyAuthenticationError,
    RateLimitError,
    RequestTimeoutError,
    RetryBudget,
    RetryPolicy,
    ServerError,
)
from bankconnect_async._http.retrying import RetryState, stop_reason
from bankconnect_async.retry import is_retryable, parse_retry_after


NOT_SENT = ConnectError("refused", delivery=Delivery.NOT_SENT)
AMBIGUOUS = ConnectionLostError("lost", delivery=Delivery.AMBIGUOUS)
UNSENT = ConnectionLostError(delivery=Delivery.NOT_SENT)


@pytest.fixture(autouse=True)
def _as_new():
    """Undo the changes of other tests to shared errors."""
    for error in (NOT_SENT, AMBIGUOUS, UNSENT):
        error.attempts = ()
    NOT_SENT.args, AMBIGUOUS.args = ("refused",), ("lost",)
    UNSENT.args = ("closed; nothing was sent",)
    NOT_SENT.delivery = UNSENT.delivery = Delivery.NOT_SENT
    AMBIGUOUS.delivery = Delivery.AMBIGUOUS


def upper_end(_low, high):
    """Draw the longest wait."""
    return high


LONGEST = RetryPolicy(rng=upper_end)


def failing(*errors, then="done"):
    """Return work that raises each of *errors*, then returns *then*."""
    left = list(errors)

    async def work():
        if left:
            raise left.pop(0)
        return then

    return work


async def run(
    clock, first, *errors, policy=LONGEST, budget=None, throttle=None
):
    """Retry work that first raised *first*, then *errors*, on *clock*."""
    state = RetryState(
        error=first,
        policy=policy,
        budget=budget or RetryBudget(),
        clock=clock,
        deadline=clock.monotonic() + policy.deadline,
        throttle=throttle,
    )
    return await state.run(failing(*errors)), state.number


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"attempts_left": 0}, "no attempts left"),
        ({"wait": 9.5}, "no time left: the next try is due in 9.5 s"),
        ({"time_left": 1.04}, "no time left: the next try is due in 1 s"),
        ({"time_left": 1.06}, None),
        ({"tokens_left": 0}, None),
        ({"tokens_left": -1}, "the client's retry budget is spent"),
        ({"attempts_left": 0, "tokens_left": -1}, "no attempts left"),
    ],
)
def test_why_there_is_no_further_attempt(changed, reason):
    """
    Attempts, time and tokens end the retries, in this order.
    """
    usual = {"attempts_left": 1, "wait": 1, "time_left": 9, "tokens_left": 5}

    assert stop_reason(**usual | changed) == reason


async def test_goes_on_after_the_first_failure(clock):
    """
    The first failure is attempt 1, and its wait comes before attempt 2.
    """
    assert await run(clock, NOT_SENT) == ("done", 2)
    assert clock.slept == [0.25]


async def test_waits_double_up_to_their_end():
    """
    The upper ends are 0.25, 0.5, 1, 2, 4, 5, 5 … seconds.
    """
    assert [LONGEST.backoff(attempt) for attempt in range(1, 9)] == [
        0.25, 0.5, 1, 2, 4, 5, 5, 5,
    ]  # fmt: skip
    assert LONGEST.backoff(10_000) == 5


async def test_jitter_is_full():
    """
    A wait is drawn from the whole range, zero included.
    """
    ranges = []

    def note(low, high):
        ranges.append((low, high))
        return low

    assert RetryPolicy(rng=note).backoff(3) == 0
    assert ranges == [(0, 1)]
    assert 0 <= RetryPolicy().backoff(1) <= 0.25


async def test_the_last_error_is_raised_with_its_timeline(clock):
    """
    When attempts run out, the caller gets the last error and the timeline.
    """
    last = RequestTimeoutError(
        "late", delivery=Delivery.AMBIGUOUS, phase=Phase.SENT
    )
    with pytest.raises(RequestTimeoutError) as caught:
        await run(clock, NOT_SENT, AMBIGUOUS, last)

    assert caught.value is last
    assert [
        (each.number, each.reason, each.wait, each.tokens, each.stopped)
        for each in last.attempts
    ] == [
        (1, "refused", 0.25, 495, None),
        (2, "lost", 0.5, 490, None),
        (3, "late", None, 490, "no attempts left"),
    ]
    assert str(last) == "late (3 attempts; no attempts left)"


@pytest.mark.parametrize(
    ("error", "at_least_once", "at_most_once"),
    [
        (NOT_SENT, True, True),
        (PoolTimeoutError(delivery=Delivery.NOT_SENT), True, True),
        (RateLimitError(status=429), True, True),
        (ServerError(status=503, retry_after=1.0), True, True),
        (AMBIGUOUS, True, False),
        (
            ServerError(status=500, delivery=Delivery.AMBIGUOUS),
            True,
            False,
        ),
        (InvalidResponseError(), True, False),
        (BadRequestError(status=400), False, False),
        (BadRequestError(status=421), True, True),
        (BadRequestError(status=425), True, True),
        (HeadTooLargeError(delivery=Delivery.AMBIGUOUS), False, False),
        (AuthenticationError(status=401), False, False),
        (CertificateError(delivery=Delivery.NOT_SENT), False, False),
        (ProxyAuthenticationError(delivery=Delivery.NOT_SENT), False, False),
        (ClientClosedError(), False, False),
        (InvalidRequestError(), False, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_worth_repeating(error, at_least_once, at_most_once):
    """
    The table of retryable delivery classes, in both modes.
    """
    assert is_retryable(error, "at-least-once") is at_least_once
    assert is_retryable(error, "at-most-once") is at_most_once


async def test_at_most_once_says_why_it_stops(clock):
    """
    An ambiguous failure is raised, with the mode as the reason.
    """
    error = ConnectionLostError("lost", delivery=Delivery.AMBIGUOUS)
    with pytest.raises(ConnectionLostError) as caught:
        await run(clock, error, policy=RetryPolicy(delivery="at-most-once"))

    assert caught.value.attempts[0].stopped == (
        "not repeated, because delivery is at-most-once"
    )
    assert clock.slept == []


@pytest.mark.parametrize(
    ("first", "last", "delivery"),
    [
        (AMBIGUOUS, NOT_SENT, Delivery.AMBIGUOUS),
        (AMBIGUOUS, BadRequestError(status=400), Delivery.AMBIGUOUS),
        (AMBIGUOUS, ClientClosedError(), Delivery.AMBIGUOUS),
        (
            InvalidResponseError(),
            AuthenticationError(status=401),
            Delivery.CREATED_UNREADABLE,
        ),
        (NOT_SENT, BadRequestError(status=400), Delivery.REJECTED),
        (NOT_SENT, PoolTimeoutError(), Delivery.NOT_SENT),
    ],
)
async def test_delivery_is_that_of_the_whole_call(
    clock, first, last, delivery
):
    """
    A later attempt cannot improve the delivery class of an earlier one.
    """
    first, last = copy.copy(first), copy.copy(last)
    with pytest.raises(type(last)) as caught:
        await run(clock, first, last, policy=RetryPolicy(attempts=2))

    assert caught.value.delivery is delivery
    assert caught.value.attempts[0].delivery is first.delivery


@pytest.mark.parametrize(
    ("errors", "text"),
    [
        ([AMBIGUOUS, NOT_SENT], "refused; attempt 1 may have been processed"),
        ([NOT_SENT, UNSENT], "closed; nothing was sent"),
        ([NOT_SENT, AMBIGUOUS], "lost"),
        ([AMBIGUOUS, UNSENT], "closed; attempt 1 may have been processed"),
        (
            [NOT_SENT, AMBIGUOUS, BadRequestError("no", status=400)],
            "no; attempt 2 may have been processed",
        ),
        (
            [InvalidResponseError("bad"), NOT_SENT],
            "refused; attempt 1 was accepted, and its response unreadable",
        ),
        (
            [RateLimitError("busy", status=429), NOT_SENT],
            "refused; attempt 1 was refused",
        ),
    ],
)
async def test_the_text_says_what_the_class_says(clock, errors, text):
    """
    The message of an unsent last attempt mentions an ambiguous earlier one.
    """
    policy = RetryPolicy(attempts=len(errors), rng=upper_end)
    with pytest.raises(BankConnectError) as caught:
        await run(clock, *errors, policy=policy)

    assert caught.value.message == text
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


async def test_a_final_refusal_ends_at_once(clock):
    """
    A rejection after a retry ends the call and needs no reason.
    """
    with pytest.raises(BadRequestError) as caught:
        await run(clock, NOT_SENT, BadRequestError("no", status=400))

    assert len(clock.slept) == 1
    assert [each.stopped for each in caught.value.attempts] == [None, None]


async def test_one_attempt_switches_retries_off(clock):
    """
    With attempts=1 nothing is ever retried.
    """
    with pytest.raises(ConnectError):
        await run(clock, NOT_SENT, policy=RetryPolicy(attempts=1))

    assert clock.slept == []


async def test_retry_after_wins(clock):
    """
    A Retry-After longer than the drawn wait is waited for to the second.
    """
    busy = RateLimitError("busy", status=429, retry_after=7.0)

    assert await run(clock, busy) == ("done", 2)
    assert clock.slept == [7.0]


async def test_retry_after_beyond_the_deadline_fails_at_once(clock):
    """
    A wait beyond the deadline is not begun; the error has `retry_after`.
    """
    busy = RateLimitError("busy", status=429, retry_after=86400.0)
    with pytest.raises(RateLimitError) as caught:
        await run(clock, busy)

    assert caught.value.retry_after == 86400.0
    assert clock.slept == []
    assert "no time left" in str(caught.value)


async def test_the_deadline_spans_waits(clock):
    """
    No attempt starts after the deadline, however many are allowed.
    """
    policy = RetryPolicy(attempts=100, deadline=3, rng=upper_end)
    with pytest.raises(ConnectError):
        await run(clock, *[NOT_SENT] * 100, policy=policy)

    assert clock.slept == [0.25, 0.5, 1]


async def test_the_budget_bounds_an_outage(clock):
    """
    However many calls fail, 500 tokens buy 100 retries.
    """
    budget = RetryBudget()
    for _ in range(300):
        error = ServerError(status=500, delivery=Delivery.AMBIGUOUS)
        with pytest.raises(ServerError):
            await run(clock, error, error, error, budget=budget)

    assert len(clock.slept) == 100
    assert budget.tokens == 0
    assert "retry budget is spent" in str(error)


async def test_a_timeout_costs_double(clock):
    """
    Retrying after a timeout costs 10 tokens.
    """
    budget = RetryBudget()
    late = RequestTimeoutError(delivery=Delivery.AMBIGUOUS)
    with pytest.raises(RequestTimeoutError):
        await run(clock, late, late, late, budget=budget)

    assert budget.tokens == 480


async def test_success_after_retries_refunds_the_last(clock):
    """
    A success refunds the last cost, and the budget never overflows.
    """
    budget = RetryBudget()

    await run(clock, NOT_SENT, NOT_SENT, budget=budget)
    assert budget.tokens == 495

    for _ in range(10):
        budget.refund()
    assert budget.tokens == 500


async def test_cancellation_is_never_retried(clock):
    """
    A cancelled attempt ends the call, whatever the policy.
    """
    with pytest.raises(asyncio.CancelledError):
        await run(clock, NOT_SENT, asyncio.CancelledError())

    assert len(clock.slept) == 1


async def test_bugs_are_never_retried(clock):
    """
    Foreign exceptions are raised unchanged.
    """
    with pytest.raises(ZeroDivisionError):
        await run(clock, NOT_SENT, ZeroDivisionError())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("7", 7),
        (" 120 ", 120),
        ("9" * 400, 999_999_999_999),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30),
        ("Fri, 15 Jan 2027 08:00:30 -0000", 30),
        ("Friday, 15-Jan-27 08:00:30 GMT", 30),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
        ("Fri, 32 Jan 2027 08:00:30 GMT", None),
        ("Mon, 99999999999999999999 Jan 2020 00:00:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0),
        ("000000000000000005", 5),
    ],
)
def test_retry_after_is_read(text, seconds):
    """
    Seconds and HTTP dates count (RFC 9110, 10.2.3); garbage does not.
    """
    # 1,800,000,000 s is Fri, 15 Jan 2027 08:00:00 GMT.
    assert parse_retry_after(text, now=1_800_000_000) == seconds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempts", 0),
        ("attempts", 1.5),
        ("attempts", True),
        ("wait_initial", -1),
        ("wait_max", float("inf")),
        ("wait_max", "5"),
        ("deadline", 0),
        ("deadline", float("nan")),
        ("delivery", "exactly-once"),
    ],
)
def test_policies_refuse_nonsense(name, value):
    """
    A policy that cannot work is refused when it is made.
    """
    with pytest.raises(ConfigurationError) as caught:
        RetryPolicy(**{name: value})

    assert list(caught.value.fields) == [name]


def test_policies_are_values():
    """
    Policies compare by value and can be pickled.
    """
    assert RetryPolicy() == RetryPolicy(rng=upper_end)
    assert pickle.loads(pickle.dumps(RetryPolicy())) == RetryPolicy()
    assert "rng" not in repr(RetryPolicy())


class FakeThrottle:
    """
    A throttle whose behaviour the test chooses.
    """

    def __init__(self, *, excused=(), held=0.0, ends_after=99):
        self.excused, self.throttled_for = excused, held
        self.left = ends_after
        self.heard, self.waits = [], []

    def on_failure(self, error):
        self.heard.append(error)
        return isinstance(error, self.excused)

    async def wait(self, seconds):
        self.waits.append(seconds)
        self.left -= 1
        return self.left >= 0


BUSY = RateLimitError("busy", status=429, retry_after=2.0)


async def test_excused_failures_cost_nothing(clock):
    """
    An excused failure costs neither an attempt nor tokens, and the wait is the
    requested one.
    """
    budget, throttle = RetryBudget(), FakeThrottle(excused=RateLimitError)
    errors = [BUSY, NOT_SENT, BUSY, NOT_SENT, BUSY]

    result = await run(clock, BUSY, *errors, throttle=throttle, budget=budget)

    assert result == ("done", 7)
    assert throttle.heard == [BUSY, *errors]
    assert throttle.waits == [2, 2, 0.25, 2, 0.5, 2]
    assert clock.slept == []
    assert budget.tokens == 490


async def test_excuses_have_an_end(clock):
    """
    The number of excuses for one item is bounded.
    """
    throttle = FakeThrottle(excused=RateLimitError)
    with pytest.raises(RateLimitError, match="no attempts left") as caught:
        await run(clock, BUSY, *[BUSY] * 50, throttle=throttle)

    assert len(caught.value.attempts) == 10 + 3


async def test_no_retries_are_none(clock):
    """
    With one attempt nothing is excused.
    """
    throttle = FakeThrottle(excused=RateLimitError)
    policy = RetryPolicy(attempts=1)
    with pytest.raises(RateLimitError):
        await run(clock, BUSY, policy=policy, throttle=throttle)


async def test_time_held_back_does_not_count(clock):
    """
    The deadline moves by the time that the throttle took.
    """
    long = RateLimitError("busy", status=429, retry_after=40.0)
    throttle = FakeThrottle(excused=RateLimitError, held=11.0)
    assert await run(clock, long, throttle=throttle) == ("done", 2)

    throttle = FakeThrottle(excused=RateLimitError, held=9.0)
    with pytest.raises(RateLimitError, match="no time left"):
        await run(clock, long, throttle=throttle)


async def test_a_throttle_may_abort(clock):
    """
    If the throttle aborts, the call ends with its last error, and its cost is
    refunded.
    """
    budget, throttle = RetryBudget(), FakeThrottle(ends_after=1)
    with pytest.raises(ConnectionLostError) as caught:
        await run(clock, NOT_SENT, AMBIGUOUS, throttle=throttle, budget=budget)

    assert [
        (each.number, each.wait, each.stopped)
        for each in caught.value.attempts
    ] == [(1, 0.25, None), (2, None, "nothing is sent any more")]
    assert caught.value.delivery is Delivery.AMBIGUOUS
    assert budget.tokens == 495


async def test_a_throttle_may_wait_too_long(clock):
    """
    A retry that could not end in time is not begun.
    """

    class Slow(FakeThrottle):
        async def wait(self, seconds):
            clock.now += 100
            return await super().wait(seconds)

    with pytest.raises(ConnectError, match="others were waiting"):
        await run(clock, NOT_SENT, throttle=Slow())
