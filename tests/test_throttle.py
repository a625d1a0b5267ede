"""
The queue of a batch: who waits, who hears of what, who is sent away.
"""

import asyncio
import contextlib
import heapq
import itertools

import pytest

from bankconnect_async import (
    AsyncBankConnect,
    AuthenticationError,
    BatchStoppedError,
    CertificateError,
    ConnectError,
    ConnectionLostError,
    Created,
    Delivery,
    Failed,
    InvalidResponseError,
    NotFoundError,
    PoolTimeoutError,
    ProxyAuthenticationError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
)
from bankconnect_async._http.semaphore import FifoSemaphore
from bankconnect_async.batch.throttle import (
    BatchThrottle,
    SendQueue,
    WorkerSlots,
)
from bankconnect_async.sandbox import Fault


class HeldClock:
    """
    A clock that a test moves on, when all have come as far as they can.
    """

    def __init__(self):
        self.now = 0.0
        self.sleepers = []
        self._ticket = itertools.count()

    def monotonic(self):
        return self.now

    def time(self):
        return 1_800_000_000.0 + self.now

    async def sleep(self, seconds):
        if seconds > 0:
            waiter = asyncio.get_running_loop().create_future()
            entry = (self.now + seconds, next(self._ticket), waiter)
            heapq.heappush(self.sleepers, entry)
            await waiter

    def advance(self, seconds):
        self.now += seconds
        while self.sleepers and self.sleepers[0][0] <= self.now:
            waiter = heapq.heappop(self.sleepers)[2]
            if not waiter.done():
                waiter.set_result(None)


@pytest.fixture(name="held")
def _held():
    """A clock that a test moves on."""
    return HeldClock()


@pytest.fixture(name="bank")
async def _bank(sandbox, held):
    """A client of the sandbox whose waits the test ends."""
    async with AsyncBankConnect(
        sandbox.api_key,
        base_url=sandbox.base_url,
        redirect_url=None,
        clock=held,
    ) as bank:
        yield bank


def throttles(queue, count=1):
    """Make throttles that have slots enough for each acquire."""
    slots = WorkerSlots(1000, FifoSemaphore(1000), lambda: None)
    return [BatchThrottle(queue, slots) for _ in range(count)]


def ids(count):
    """Make link ids."""
    return [f"customer-{n}" for n in range(count)]


async def until(condition):
    """Let the loop run until something is so."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def passing(clock, step=0.1):
    """Let time pass for as long as the block takes."""

    async def tick():
        while True:
            await asyncio.sleep(0.001)
            clock.advance(step)

    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()
        await asyncio.wait([ticking])


async def test_all_wait_for_one_retry_after(bank, sandbox, held):
    """
    After one 429 nobody sends anything until its time has come.
    """
    sandbox.faults.script(Fault.status(429, retry_after=1))
    async with bank.create_sessions(ids(100), concurrency=10) as outcomes:
        await until(lambda: outcomes.stats().pause)
        # All that was in flight comes back, but for the refused one.
        await until(lambda: outcomes.stats().in_flight == 1)
        sent = sandbox.requests
        held.advance(0.99)
        stats = outcomes.stats()
        assert (stats.in_flight, sandbox.requests) == (1, sent)
        assert stats.pause == pytest.approx(0.01)
        async with passing(held):
            found = [outcome async for outcome in outcomes]

    assert sent <= 20
    assert all(isinstance(each, Created) for each in found)
    assert len(found) == 100
    assert sum(each.session.attempts for each in found) == 101
    stats = outcomes.stats()
    assert (stats.retries, stats.pause) == (1, 0)
    assert stats.limit is not None
    # It was no failure.
    assert bank.stats().tokens == 500


async def test_a_rate_limit_loses_nothing(raw_server, answer, created_answer):
    """
    However many 429s an item meets, as long as others are served.
    """
    loop = asyncio.get_running_loop()
    tokens, filled = 20.0, loop.time()

    async def limited(server, reader, writer):
        nonlocal tokens, filled
        while True:
            await server.read_request(reader)
            now = loop.time()
            tokens, filled = min(20, tokens + (now - filled) * 400), now
            if tokens >= 1:
                tokens -= 1
                writer.write(created_answer)
            else:
                writer.write(answer(status="429 Too Many Requests"))

    async with (
        raw_server(limited) as server,
        AsyncBankConnect(
            "key", base_url=server.base_url, redirect_url=None
        ) as bank,
        bank.create_sessions(ids(500), concurrency=100) as outcomes,
    ):
        found = [outcome async for outcome in outcomes]

    assert len(found) == 500
    assert [each for each in found if isinstance(each, Failed)] == []
    assert len(server.requests) == 500 + outcomes.stats().retries
    assert outcomes.stats().retries >= 50
    assert outcomes.stats().limit > 0


async def test_refused_for_ever(bank, sandbox, held):
    """
    If nothing gets through at all, an item fails after its attempts.
    """
    sandbox.faults.always(Fault.status(429, retry_after=1))
    async with passing(held), bank.create_sessions(ids(3)) as outcomes:
        found = [outcome async for outcome in outcomes]

    assert {type(each.error) for each in found} == {RateLimitError}
    # The first time they did not know, then each had its attempts.
    assert sandbox.requests <= 3 * 4
    assert outcomes.stats().failures == {"RateLimitError": 3}


async def test_held_back_is_not_late(held):
    """
    An item's own time stands still while others are served.
    """
    queue = SendQueue(held, max_pause=120)
    throttle, other = throttles(queue, 2)
    assert await throttle.acquire()
    assert await other.acquire()
    other.on_success()
    assert throttle.on_failure(RateLimitError(status=429, retry_after=5))
    waiting = asyncio.create_task(throttle.wait(5.0))
    await until(lambda: held.sleepers)
    held.advance(4.0)
    other.on_success()
    held.advance(1.0)

    assert await waiting
    assert throttle.throttled_for == 5
    throttle.on_success()
    held.advance(60.0)
    assert await throttle.acquire()
    assert throttle.throttled_for == 0


async def test_waiting_for_nothing_is_late(held):
    """
    While nobody is served, time runs.
    """
    queue = SendQueue(held, max_pause=120)
    [throttle] = throttles(queue)
    assert await throttle.acquire()
    throttle.on_failure(RateLimitError(status=429, retry_after=5))
    waiting = asyncio.create_task(throttle.wait(5.0))
    await until(lambda: held.sleepers)
    held.advance(5.0)

    assert await waiting
    assert throttle.throttled_for == 0


async def test_a_stop_reaches_those_that_wait_to_retry(bank, sandbox, held):
    """
    After 401 an item in a retry wait is not sent once more: it ends with
    what it met itself.
    """
    sandbox.faults.always(Fault.status(500), prefix="slow")
    sandbox.faults.always(Fault.status(401), prefix="bad")

    async def source():
        yield "slow"
        await until(lambda: held.sleepers)
        yield "bad"

    async with bank.create_sessions(source(), ordered=True) as outcomes:
        slow, bad = [outcome.error async for outcome in outcomes]

    assert sandbox.requests == 2
    assert isinstance(slow, ServerError)
    assert slow.delivery is Delivery.AMBIGUOUS
    assert [(each.number, each.wait) for each in slow.attempts] == [(1, None)]
    assert "nothing is sent any more" in str(slow)
    assert isinstance(bad, AuthenticationError)
    assert outcomes.stats().retries == 0
    # What was not sent was not paid for.
    assert bank.stats().tokens == 500


async def test_a_stop_reaches_those_that_wait_to_begin(bank, sandbox, held):
    """
    In a pause nobody waits for leave that will not come.
    """
    sandbox.faults.script(Fault.status(429, retry_after=60), prefix="slow")
    sandbox.faults.always(Fault.status(401), prefix="bad")
    async with bank.create_sessions(
        ["slow", *ids(5), "bad", *ids(5)], concurrency=1, ordered=True
    ) as outcomes:
        await until(lambda: outcomes.stats().pause)
        assert outcomes.stats().taken == 1
        held.advance(60)
        await until(lambda: sandbox.requests > 1)
        async with passing(held):
            found = [outcome async for outcome in outcomes]

    assert [type(each) for each in found[:6]] == [Created] * 6
    assert [type(each.error) for each in found[6:]] == [
        AuthenticationError, *[BatchStoppedError] * 5,
    ]  # fmt: skip
    assert sandbox.requests == 8


async def test_a_drain_lets_retries_end(bank, sandbox, held):
    """
    A drain lets requests end that were sent, and begins no others.
    """
    sandbox.faults.script(Fault.status(429, retry_after=60), prefix="slow")
    async with bank.create_sessions(
        ["slow", *ids(50)], concurrency=5
    ) as outcomes:
        await until(lambda: outcomes.stats().pause)
        await until(lambda: outcomes.stats().in_flight == 1)
        sent = sandbox.requests
        outcomes.drain()
        await until(lambda: len(outcomes.unreported) >= 5)
        async with passing(held):
            found = [outcome async for outcome in outcomes]

    assert all(isinstance(each, Created) for each in found)
    assert len(found) == sent
    assert "slow" in {each.link_id for each in found}
    assert sandbox.requests == sent + 1
    assert "slow" not in outcomes.unreported


async def test_a_cancel_is_not_a_stop(held):
    """
    A task that is cancelled while it waits is cancelled.
    """
    queue = SendQueue(held, max_pause=120)
    [throttle] = throttles(queue)
    await throttle.acquire()
    throttle.on_failure(RateLimitError(status=429, retry_after=5))
    waiting = [
        asyncio.create_task(each.acquire()) for each in throttles(queue, 2)
    ]
    await until(lambda: held.sleepers)
    waiting[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    queue.abort(AuthenticationError(status=401))

    assert await waiting[1] is False
    assert not await queue.acquire(is_first=False)


TIMED_OUT = RequestTimeoutError(delivery=Delivery.AMBIGUOUS)
REFUSED = ConnectError(delivery=Delivery.NOT_SENT)


@pytest.mark.parametrize(
    "error",
    [
        TIMED_OUT,
        REFUSED,
        *(
            ServerError(status=status, delivery=Delivery.AMBIGUOUS)
            for status in (408, 502, 503, 504)
        ),
    ],
    ids=lambda error: f"{type(error).__name__}-{getattr(error, 'status', '')}",
)
async def test_overload_makes_a_pause(held, error):
    """
    Many timeouts and gateway errors among successes pause the whole batch.
    """
    queue = SendQueue(held, max_pause=120)
    [throttle] = throttles(queue)
    for number in range(200):
        if not queue.is_open:
            break
        await throttle.acquire()
        if number % 5:
            assert throttle.on_failure(error) is False
        else:
            throttle.on_success()

    assert queue.breaker.is_closed
    assert queue.adaptive_rate.pause(held.now) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "error",
    [
        CertificateError(delivery=Delivery.NOT_SENT),
        ProxyAuthenticationError(delivery=Delivery.NOT_SENT),
        PoolTimeoutError(delivery=Delivery.NOT_SENT),
        ConnectionLostError(delivery=Delivery.AMBIGUOUS),
        NotFoundError(status=404),
        InvalidResponseError(),
        ServerError(status=500, delivery=Delivery.AMBIGUOUS),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_other_failures_are_no_matter_of_the_rate(held, error):
    """
    Other failures among successes leave the batch as it is.
    """
    queue = SendQueue(held, max_pause=120)
    [throttle] = throttles(queue)
    for number in range(200):
        await throttle.acquire()
        if number % 5:
            assert throttle.on_failure(error) is False
        else:
            throttle.on_success()

    assert queue.is_open


async def test_a_503_that_names_a_time_delays_its_own_item(held):
    """
    The item is excused, and the others do not wait for it.
    """
    queue = SendQueue(held, max_pause=120)
    [throttle] = throttles(queue)
    await throttle.acquire()
    error = ServerError(status=503, retry_after=3.0)

    assert throttle.on_failure(error)
    assert queue.is_open
    assert queue.adaptive_rate.pause(held.now) == 0


async def test_a_fixed_rate_and_a_pause(sandbox):
    """
    The user's rate and the server's limit hold together.
    """
    loop = asyncio.get_running_loop()
    sandbox.faults.script(Fault.status(429), prefix="customer-7")
    async with AsyncBankConnect(
        sandbox.api_key, base_url=sandbox.base_url, redirect_url=None
    ) as bank:
        started = loop.time()
        async with bank.create_sessions(ids(30), rate=100) as outcomes:
            found = [outcome async for outcome in outcomes]

    assert all(isinstance(each, Created) for each in found)
    assert sandbox.requests == 31
    # A tenth of a second's worth may go at once, and there was a pause.
    assert loop.time() - started >= (31 - 10 - 1) / 100


async def test_a_late_overload(bank, sandbox, held):
    """
    An item whose own time is over when its throttle comes is not sent again.
    """
    sandbox.faults.always(Fault.status(429, retry_after=50))
    async with (
        passing(held, step=1.0),
        bank.create_sessions(ids(4), deadline=60) as outcomes,
    ):
        found = [outcome.error async for outcome in outcomes]

    assert {type(error) for error in found} == {RateLimitError}
    assert any("no time left" in str(error) for error in found)
    assert sandbox.requests < 4 * 3
