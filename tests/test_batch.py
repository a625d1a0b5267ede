"""
A batch gives each item one outcome, is bounded, and leaves nothing behind.
"""

import asyncio
import contextlib
import tracemalloc

import pytest

from yarl import URL

from bankconnect_async import (
    UNSET,
    AsyncBankConnect,
    AuthenticationError,
    BadRequestError,
    BankConnectError,
    BatchStoppedError,
    ClientClosedError,
    ConfigurationError,
    Created,
    Delivery,
    Failed,
    InvalidRequestError,
    InvalidResponseError,
    Pool,
    RetryPolicy,
    Session,
    SessionRequest,
)
from bankconnect_async.batch.result_buffer import OrderedResultBuffer
from bankconnect_async.batch.session_batch import BatchOptions, SessionBatch
from bankconnect_async.clock import SYSTEM_CLOCK
from bankconnect_async.journal import Journal, read_journal
from bankconnect_async.journal.append_file import AppendFile
from bankconnect_async.sandbox import Fault, Sandbox


@pytest.fixture(name="bank")
async def _bank(sandbox):
    """Return a client of the sandbox, in the inline-frame workflow."""
    async with AsyncBankConnect(
        sandbox.api_key, base_url=sandbox.base_url, redirect_url=None
    ) as bank:
        yield bank


class Double:
    """
    A client that counts sessions and creates them when the test says so.
    """

    complete = None

    def __init__(self):
        self.now = self.peak = self.calls = 0
        self.gate = asyncio.Event()
        self.gate.set()

    def prepare(self, item):
        return item, SessionRequest(link_id=item, redirect_url=None)

    async def open(self):
        pass

    def reserve(self, concurrency, rate_limit):
        pass

    def release(self, concurrency, rate_limit):
        pass

    async def send(self, link_id, request, retry, throttle):
        self.calls += 1
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
        finally:
            self.now -= 1
        return Session(link_id=link_id, redirect_url="")


class InStep(Double):
    """
    One whose responses come when so many requests wait for theirs.
    """

    def __init__(self, count):
        super().__init__()
        self._count = count
        self._responses = []

    async def send(self, link_id, request, retry, throttle):
        response = asyncio.get_running_loop().create_future()
        self._responses.append(response)
        if len(self._responses) == self._count:
            for each in self._responses:
                each.set_result(None)
            self._responses = []
        await response
        return Session(link_id=link_id, redirect_url=URL("https://x.example"))


def batch(double, source, **options):
    """Start a batch over a double."""
    settings = {
        "api": "double",
        "concurrency": 64,
        "retry": RetryPolicy(deadline=120),
        "clock": SYSTEM_CLOCK,
    }
    return SessionBatch(
        double,
        source,
        BatchOptions(**(settings | options)),
        capacity=double,
    )


async def collect(outcomes):
    """Exhaust a batch."""
    async with outcomes:
        return [outcome async for outcome in outcomes]


def ids(count):
    """Make link ids."""
    return [f"customer-{n}" for n in range(count)]


async def later(items):
    """Yield *items* asynchronously."""
    for item in items:
        await asyncio.sleep(0)
        yield item


@pytest.mark.parametrize("kind", [list, iter, later, tuple])
async def test_every_input_has_one_outcome(bank, sandbox, kind):
    """
    Any iterable is accepted, and each item has exactly one outcome.
    """
    found = await collect(bank.create_sessions(kind(ids(500))))

    assert sorted(each.index for each in found) == list(range(500))
    assert {each.link_id for each in found} == set(ids(500))
    assert all(isinstance(each, Created) for each in found)
    assert sandbox.created() == 500


async def test_each_outcome_has_its_own_request(bank, sandbox):
    """
    Outcomes of bare link ids have requests of their own, although the batch
    shares one.
    """
    sandbox.faults.always(Fault.status(400), prefix="c")
    given = SessionRequest(link_id="c", redirect_url=None, bank_name="axis")

    found = await collect(
        bank.create_sessions(["a", given, "b", "cc"], ordered=True)
    )

    assert [type(each) for each in found] == [Created, Failed, Created, Failed]
    assert [each.request for each in found] == [
        SessionRequest(link_id="a", redirect_url=None),
        given,
        SessionRequest(link_id="b", redirect_url=None),
        SessionRequest(link_id="cc", redirect_url=None),
    ]
    assert [each.link_id for each in found] == ["a", "c", "b", "cc"]


async def test_an_empty_source_ends_at_once(bank):
    """
    An empty source has no outcomes.
    """
    assert await collect(bank.create_sessions([])) == []


async def test_failures_stand_beside_successes(bank, sandbox):
    """
    Bad items, refused locally or by the server, do not stop the others.
    """
    refused = SessionRequest(link_id="x", redirect_url=None, mode="pdf")
    async with (
        Sandbox("session") as other,
        AsyncBankConnect(
            other.api_key, base_url=other.base_url, redirect_url=None
        ) as strict,
    ):
        found = await collect(
            strict.create_sessions(["a", "", refused, 7, "b"], ordered=True)
        )

    assert [type(each) for each in found] == [
        Created, Failed, Failed, Failed, Created,
    ]  # fmt: skip
    blank, missing, number = found[1:4]
    assert isinstance(blank.error, InvalidRequestError)
    assert (blank.item, blank.request, blank.link_id) == ("", None, "")
    assert isinstance(missing.error, BadRequestError)
    assert missing.error.code == "MISSING_BANK_NAME"
    assert missing.request == refused
    assert missing.link_id == "x"
    assert isinstance(number.error, InvalidRequestError)
    assert (number.item, number.link_id) == (7, None)


async def test_a_batch_gives_its_room_back(sandbox):
    """
    After a batch, the client's pool has its configured size again.
    """
    sizes = []
    async with AsyncBankConnect(
        sandbox.api_key,
        base_url=sandbox.base_url,
        redirect_url=None,
        pool=Pool(limit=2),
    ) as bank:
        gate = (await bank._executor.transport.open()).semaphore
        large = bank.create_sessions(ids(20), concurrency=9)
        async with bank.create_sessions(ids(20), concurrency=5):
            await collect(large)
            sizes.append(gate.size)
        sizes.append(gate.size)

    assert sizes == [5, 2]


async def test_a_url_that_cannot_be_read_fails_its_item_alone(
    raw_server, answer
):
    """
    A session URL that cannot be parsed stops none of the other items.
    """
    bad = b'{"redirect_url": "https://[...]/x?session_id=a%20b"}'
    good = b'{"redirect_url": "https://journey.example/?session_id=1"}'

    async def script(server, reader, writer):
        while True:
            await server.read_request(reader)
            is_bad = b'"customer-7"' in server.requests[-1]
            writer.write(answer(bad if is_bad else good))

    async with (
        raw_server(script) as server,
        AsyncBankConnect(
            "key",
            base_url=server.base_url,
            redirect_url=None,
            retry=RetryPolicy(attempts=1),
        ) as bank,
    ):
        found = await collect(
            bank.create_sessions(ids(20), concurrency=4, ordered=True)
        )

    (failed,) = (each for each in found if isinstance(each, Failed))
    assert len(found) == 20
    assert failed.link_id == "customer-7"
    assert isinstance(failed.error, InvalidResponseError)
    assert failed.error.delivery is Delivery.CREATED_UNREADABLE


async def test_a_request_without_redirect_url_keeps_its_link_id(sandbox):
    """
    The outcome of an item that could not be completed has its link id.
    """
    request = SessionRequest(link_id="c", redirect_url=UNSET)
    async with AsyncBankConnect(
        sandbox.api_key, base_url=sandbox.base_url
    ) as bank:
        (failed,) = await collect(bank.create_sessions([request]))

    assert (failed.link_id, failed.request) == ("c", None)


async def test_concurrency_is_bounded():
    """
    The number of requests in flight reaches the concurrency and never exceeds
    it.
    """
    double = Double()

    found = await collect(batch(double, ids(300), concurrency=7))

    assert len(found) == 300
    assert double.peak == 7


async def test_concurrency_raises_the_pool(sandbox):
    """
    A batch may have more requests in flight than its client's pool allows.
    """
    async with (
        AsyncBankConnect(
            sandbox.api_key,
            base_url=sandbox.base_url,
            redirect_url=None,
            pool=Pool(limit=1),
        ) as bank,
        bank.create_sessions(ids(50), concurrency=10) as outcomes,
    ):
        assert len([each async for each in outcomes]) == 50
        assert bank._executor.transport._bound.semaphore.size == 10


async def test_order_on_request():
    """
    In ordered mode outcomes have the order of the inputs, late ones included.
    """

    class Backwards(Double):
        async def send(self, link_id, request, retry, throttle):
            number = int(link_id.partition("-")[2])
            for _ in range(10 - number % 10):
                await asyncio.sleep(0)
            return await super().send(link_id, request, retry, throttle)

    found = await collect(
        batch(Backwards(), ids(200), concurrency=10, ordered=True)
    )

    assert [each.index for each in found] == list(range(200))


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_slow_consumer_holds_the_workers_back(ordered):
    """
    The batch takes only as many items as it has room for outcomes.
    """
    taken = 0

    def source():
        nonlocal taken
        for item in ids(10_000):
            taken += 1
            yield item

    async with batch(
        Double(), source(), concurrency=5, ordered=ordered
    ) as outcomes:
        await anext(outcomes)
        for _ in range(1000):
            await asyncio.sleep(0)

    assert taken <= 2 * 5 + 1


@pytest.mark.long
@pytest.mark.parametrize("ordered", [True, False])
async def test_memory_does_not_grow_with_the_source(ordered):
    """
    Twenty times the items take no more memory and no more tasks.
    """

    async def peak(count):
        tracemalloc.start()
        async with batch(
            Double(),
            (f"c{n}" for n in range(count)),
            concurrency=20,
            ordered=ordered,
        ) as outcomes:
            async for outcome in outcomes:
                if outcome.index % 500 == 0:
                    assert len(asyncio.all_tasks()) <= 20 + 1
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    await peak(100)
    small, large = await peak(1_000), await peak(20_000)

    # What is remembered of the last seconds has its own bound, below that.
    assert large < small + 256 * 1024


async def test_one_stuck_item_holds_up_the_order():
    """
    The outcomes behind a slow item wait, and no further item is taken.
    """
    gate = asyncio.Event()

    class Stuck(Double):
        async def send(self, link_id, request, retry, throttle):
            if link_id == "customer-0":
                await gate.wait()
            return await super().send(link_id, request, retry, throttle)

    double = Stuck()
    async with batch(
        double, ids(1000), concurrency=5, ordered=True
    ) as outcomes:
        while double.calls < 2 * 5 - 1:
            await asyncio.sleep(0)
        for _ in range(1000):
            await asyncio.sleep(0)
        stats = outcomes.stats()
        assert (stats.taken, stats.created, stats.in_flight) == (10, 9, 1)
        gate.set()
        found = [outcome.index async for outcome in outcomes]

    assert found == list(range(1000))


async def test_leaving_early_cancels_and_accounts():
    """
    Items that were taken and not reported are in `unreported`; no task is
    left.
    """
    before = asyncio.all_tasks()
    double = Double()
    async with batch(double, iter(ids(100)), concurrency=10) as outcomes:
        seen = [await anext(outcomes) for _ in range(5)]
        double.gate.clear()

    assert {each.link_id for each in seen}.isdisjoint(outcomes.unreported)
    assert 0 < len(outcomes.unreported) <= 20
    assert asyncio.all_tasks() == before
    assert double.now == 0


async def test_tells_what_may_have_been_sent():
    """
    Unreported items that only waited count as not sent.
    """
    double = Double()
    double.gate.clear()
    async with batch(double, later(ids(100)), concurrency=3) as outcomes:
        while double.now < 3:
            await asyncio.sleep(0)

    sent = [outcomes.may_have_sent(index) for index in range(100)]
    assert sum(sent) == double.calls == 3
    assert 3 < len(outcomes.unreported) <= 6


async def test_an_error_of_the_consumer_stays_what_it_is():
    """
    An exception of the body is not wrapped into a group.
    """
    with pytest.raises(KeyError):
        async with batch(Double(), ids(100)) as outcomes:
            async for _ in outcomes:
                raise KeyError


async def test_cancelling_leaves_nothing_behind():
    """
    A cancelled batch ends as cancelled, with all of its tasks.
    """
    before = asyncio.all_tasks()
    double = Double()
    double.gate.clear()
    task = asyncio.create_task(collect(batch(double, ids(100))))
    while not double.now:
        await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before
    assert double.now == 0


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_an_error_of_the_source_comes_last(asynchronous):
    """
    The items before it are reported, then the source's own error is raised.
    """

    def broken():
        yield from ids(20)
        raise ZeroDivisionError

    async def broken_later():
        for item in ids(20):
            yield item
        raise ZeroDivisionError

    source = broken_later() if asynchronous else broken()
    seen = []
    with pytest.raises(ZeroDivisionError):
        async with batch(Double(), source, concurrency=3) as outcomes:
            async for outcome in outcomes:
                seen.append(outcome)  # noqa: PERF401 - it raises half way

    assert len(seen) == 20
    assert outcomes.unreported == []


async def test_a_source_may_hold_a_timeout_open():
    """
    One task runs an async source, so that its cancel scopes stay intact.
    """

    async def cursor():
        for n in range(5):
            async with asyncio.timeout(60):
                yield f"customer-{n}"
                await asyncio.sleep(0)

    tasks = set()

    async def page():
        async for item in cursor():
            tasks.add(asyncio.current_task())
            yield item

    found = await collect(batch(Double(), page(), ordered=True))

    assert [each.index for each in found] == list(range(5))
    assert len(tasks) == 1


async def test_an_async_generator_is_closed_on_leaving():
    """
    An async generator is closed before the block ends.
    """
    closed = False

    async def cursor():
        nonlocal closed
        try:
            while True:
                yield "customer-42"
        finally:
            closed = True

    async with batch(Double(), cursor(), concurrency=2) as outcomes:
        await anext(outcomes)

    assert closed


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
async def test_a_stray_cancel_of_the_source_is_an_error(ordered, asynchronous):
    """
    A CancelledError that nobody requested ends the batch with an error.
    """

    async def cancelled_later():
        yield "customer-42"
        raise asyncio.CancelledError

    def cancelled():
        yield "customer-42"
        raise asyncio.CancelledError

    source = cancelled_later() if asynchronous else cancelled()
    seen = []
    with pytest.raises(RuntimeError, match="source of the batch"):
        async with batch(Double(), source, ordered=ordered) as outcomes:
            async for outcome in outcomes:
                seen.append(outcome)  # noqa: PERF401 - it raises half way

    assert len(seen) == 1


async def test_a_source_that_raises_the_end_of_others_is_an_error():
    """
    A StopAsyncIteration of a plain source does not look like its end.
    """

    def rows():
        yield "customer-42"
        raise StopAsyncIteration

    seen = []
    with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
        async with batch(Double(), rows()) as outcomes:
            async for outcome in outcomes:
                seen.append(outcome)  # noqa: PERF401 - it raises half way

    assert len(seen) == 1


async def test_a_client_that_is_closed_under_it_stops_it(sandbox, bank):
    """
    A closed client never opens again, so no item waits or probes for it.
    """
    found = []
    async with (
        asyncio.timeout(60),
        bank.create_sessions(ids(200), concurrency=8) as outcomes,
    ):
        async for outcome in outcomes:
            found.append(outcome)
            if len(found) == 20:
                await bank.aclose()

    created = [each for each in found if isinstance(each, Created)]
    stopped = [
        each
        for each in found
        if isinstance(each, Failed)
        and isinstance(each.error, BatchStoppedError)
    ]
    assert len(found) == 200
    assert isinstance(outcomes.abort_cause, ClientClosedError)
    assert 20 <= len(created) <= sandbox.created() <= 40
    assert len(stopped) > 140


async def test_a_feeder_that_is_cancelled_by_itself_is_an_error():
    """
    A source that cancels its own task ends the batch with an error.
    """

    async def source():
        yield "customer-42"
        asyncio.current_task().cancel()
        await asyncio.sleep(0)
        yield "customer-43"

    seen = []
    with pytest.raises(RuntimeError, match="source of the batch"):
        async with (
            asyncio.timeout(20),
            batch(Double(), source()) as outcomes,
        ):
            async for outcome in outcomes:
                seen.append(outcome)  # noqa: PERF401 - it raises half way

    assert len(seen) == 1


async def test_a_consumer_that_gives_up_leaves_the_others_awake():
    """
    If one of two waiting consumers is cancelled, the other goes on.
    """
    double = Double()
    double.gate.clear()
    async with batch(double, ids(3)) as outcomes:
        first, second = (
            asyncio.create_task(anext(outcomes)) for _ in range(2)
        )
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        double.gate.set()

        assert isinstance(await asyncio.wait_for(second, 20), Created)


async def test_a_client_that_is_closed_meanwhile_leaves_no_journal_open():
    """
    A batch that cannot begin closes the journal that it has opened.
    """

    class Closed(Double):
        def reserve(self, concurrency, rate_limit):
            raise ClientClosedError("the client is closed")

    class Sink:
        is_resumable = True
        is_open = False

        @contextlib.asynccontextmanager
        async def opened_for(self, api, *, concurrency):
            self.is_open = True
            try:
                yield
            finally:
                self.is_open = False

    sink = Sink()
    with pytest.raises(ClientClosedError):
        async with batch(Closed(), ids(3), journal=sink):
            pass

    assert not sink.is_open


async def test_a_stop_waits_for_no_rate():
    """
    Once the key was refused, the other outcomes come at once, whatever the
    rate.
    """
    loop = asyncio.get_running_loop()

    class Refusing(Double):
        async def send(self, link_id, request, retry, throttle):
            raise AuthenticationError("refused", status=401)

    started = loop.time()
    found = await collect(
        batch(Refusing(), ids(200), concurrency=20, rate=0.1)
    )

    assert len(found) == 200
    assert loop.time() - started < 5


async def test_batches_share_a_client(sandbox):
    """
    Two batches at once have the slots of both.
    """
    async with AsyncBankConnect(
        sandbox.api_key,
        base_url=sandbox.base_url,
        redirect_url=None,
        pool=Pool(limit=1),
    ) as bank:
        second = bank.create_sessions(ids(50), concurrency=7)
        async with bank.create_sessions(ids(50), concurrency=5), second:
            assert bank._executor.transport._bound.semaphore.size == 12
        found = await asyncio.gather(
            collect(bank.create_sessions(ids(50), concurrency=5)),
            collect(bank.create_sessions(ids(50), concurrency=7)),
        )

    assert all(isinstance(each, Created) for share in found for each in share)


async def test_an_error_that_is_none_of_ours_is_an_outcome_and_logged(caplog):
    """
    Any exception of a call becomes an outcome, and is logged once.
    """

    class Broken(Double):
        async def send(self, link_id, request, retry, throttle):
            raise ZeroDivisionError

    found = await collect(batch(Broken(), ids(10)))

    assert len(found) == 10
    assert {each.error.delivery for each in found} == {Delivery.AMBIGUOUS}
    assert {type(each.error.__cause__) for each in found} == {
        ZeroDivisionError
    }
    (logged,) = caplog.records
    assert logged.exc_info[0] is ZeroDivisionError


async def test_a_refused_key_stops_it(sandbox):
    """
    After a 401 nothing more is sent, and every input still has its outcome.
    """
    async with AsyncBankConnect(
        "wrong-key", base_url=sandbox.base_url, redirect_url=None
    ) as bank:
        found = await collect(bank.create_sessions(ids(500), concurrency=4))

    refused = [
        each for each in found if isinstance(each.error, AuthenticationError)
    ]
    stopped = [
        each for each in found if isinstance(each.error, BatchStoppedError)
    ]
    assert len(found) == len(refused) + len(stopped) == 500
    assert len(refused) == sandbox.requests <= 4
    assert "stopped, because the server answered 401" in str(stopped[0].error)


async def test_a_rate_is_kept():
    """
    A batch starts no more requests than its rate allows, without a burst.
    """
    loop = asyncio.get_running_loop()
    starts = []

    class Noting(Double):
        async def send(self, link_id, request, retry, throttle):
            starts.append(loop.time())
            return await super().send(link_id, request, retry, throttle)

    await collect(batch(Noting(), ids(60), concurrency=60, rate=100))

    # A tenth of a second's worth may go at once, the rest at the rate.
    assert starts[-1] - starts[0] >= (60 - 10 - 1) / 100
    assert sum(start < starts[0] + 0.05 for start in starts) <= 16


async def test_a_rate_below_one():
    """
    A rate below one per second is possible.
    """
    found = await collect(batch(Double(), ids(1), rate=0.1))

    assert len(found) == 1


async def test_iterating_needs_the_block(bank):
    """
    Without `async with` the error says what to write.
    """
    with pytest.raises(RuntimeError, match="use async with"):
        async for _ in bank.create_sessions(["a"]):
            raise AssertionError("it began")


async def test_is_entered_once():
    """
    A batch can be entered only once.
    """
    outcomes = batch(Double(), ids(1))
    await collect(outcomes)

    with pytest.raises(RuntimeError, match="only once"):
        await collect(outcomes)


async def test_consumers_may_share_it():
    """
    Several tasks may take outcomes; each outcome goes to one of them.
    """
    async with batch(Double(), ids(100)) as outcomes:

        async def consume():
            return [outcome async for outcome in outcomes]

        shares = await asyncio.gather(*(consume() for _ in range(3)))

    assert sorted(each.index for share in shares for each in share) == list(
        range(100)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": 1.5},
        {"concurrency": True},
        {"rate": 0},
        {"rate": -1},
        {"rate": float("inf")},
        {"rate": "5"},
        {"deadline": 0},
    ],
)
def test_numbers_that_make_no_sense(options):
    """
    Bad numbers are refused when the batch is made.
    """
    with pytest.raises(ConfigurationError) as caught:
        AsyncBankConnect("key").create_sessions(["a"], **options)

    assert list(caught.value.fields) == list(options)


@pytest.mark.parametrize("source", ["customer-42", b"customer-42"])
def test_one_text_is_no_source(source):
    """
    A bare link id is refused, because it would be read as a list of letters.
    """
    with pytest.raises(ConfigurationError, match="list of link ids"):
        AsyncBankConnect("key").create_sessions(source)


async def test_drain_settles_what_was_sent():
    """
    The items in flight have outcomes; the source keeps the rest.
    """
    double = Double()
    double.gate.clear()
    source = iter(ids(100))
    async with batch(double, source, concurrency=5) as outcomes:
        while double.now < 5:
            await asyncio.sleep(0)
        outcomes.drain()
        outcomes.drain()
        double.gate.set()
        found = [outcome async for outcome in outcomes]

    assert len(found) == double.calls == 5
    assert outcomes.unreported == []
    assert next(source) == "customer-5"


async def test_drain_closes_an_async_source():
    """
    A drain does not wait for a blocked source; items taken ahead stay
    unreported and unsent.
    """
    double = Double()
    double.gate.clear()
    closed = False

    async def cursor():
        nonlocal closed
        try:
            for item in ids(5):
                yield item
            await asyncio.Event().wait()
        finally:
            closed = True

    async with batch(double, cursor(), concurrency=3) as outcomes:
        while outcomes.stats().taken < 5 or double.now < 3:
            await asyncio.sleep(0)
        outcomes.drain()
        double.gate.set()
        found = [outcome async for outcome in outcomes]

    assert closed
    assert len(found) == double.calls == 3
    assert outcomes.unreported == ["customer-3", "customer-4"]
    assert not any(outcomes.may_have_sent(index) for index in (3, 4))


async def test_drain_waits_for_no_rate():
    """
    Items that wait for the rate stay unsent and unreported.
    """
    async with batch(
        Double(), ids(200), concurrency=20, rate=0.001, ordered=True
    ) as outcomes:
        first = await anext(outcomes)
        outcomes.drain()
        rest = [outcome async for outcome in outcomes]

    assert (first.index, rest) == (0, [])
    assert 19 <= len(outcomes.unreported) <= 20


def test_a_drain_leaves_gaps_in_the_order():
    """
    The outcomes after an unsent item are reported in order.
    """
    buffer = OrderedResultBuffer()
    late = [
        Failed(index=index, item="c", request=None, error=BankConnectError())
        for index in (3, 1)
    ]
    for outcome in late:
        buffer.append(outcome)
    buffer.close()

    assert list(buffer) == [*reversed(late), None]


async def test_numbers_of_a_batch():
    """
    A snapshot shows the progress at any time.
    """
    double = Double()
    double.gate.clear()
    async with batch(
        double, ["a", "b", "", "c", "d"], concurrency=3
    ) as outcomes:
        while double.now < 3:
            await asyncio.sleep(0)
        early = outcomes.stats()
        double.gate.set()
        found = [outcome async for outcome in outcomes]
    stats = outcomes.stats()

    assert (early.taken, early.in_flight, early.done) == (4, 3, 1)
    assert early.failures == {"InvalidRequestError": 1}
    assert len(found) == stats.taken == stats.done == 5
    assert (stats.created, stats.failed, stats.in_flight) == (4, 1, 0)
    assert (stats.limit, stats.pause, stats.retries) == (None, 0, 0)
    assert stats.seconds > 0
    assert stats.rate > 0


def test_numbers_before_it_began():
    """
    The counts of a batch that was not entered are zero.
    """
    stats = batch(Double(), ["a"]).stats()

    assert (stats.taken, stats.seconds, stats.rate) == (0, 0, 0)


async def test_outcomes_that_come_together_are_written_together(
    tmp_path, monkeypatch
):
    """
    Responses that come together are recorded by one write.
    """
    path, writes = tmp_path / "sessions.jsonl", []
    append = AppendFile.append

    def count(file, line):
        writes.append(line.count(b"\n"))
        append(file, line)

    monkeypatch.setattr(AppendFile, "append", count)
    found = await collect(
        batch(InStep(8), ids(80), concurrency=8, journal=Journal(path))
    )

    assert writes == [8] * 10
    assert (
        sorted(each.link_id for each in found)
        == sorted(each.link_id for each in read_journal(path))
        == sorted(ids(80))
    )
