"""
Batches on several processes: threads for most tests, processes to kill.
"""

import asyncio
import enum
import itertools
import os
import socket
import subprocess
import threading

from collections import Counter
from contextlib import suppress

import pytest

from bankconnect_async import (
    AuthenticationError,
    BatchStoppedError,
    ConfigurationError,
    Delivery,
    JournalError,
    Metadata,
    RetryPolicy,
    ReturnURL,
    SessionRequest,
)
from bankconnect_async.batch import Created
from bankconnect_async.distributed import (
    create_sessions_in_processes,
    worker_batch,
)
from bankconnect_async.distributed import process_pool as pools
from bankconnect_async.distributed import process_worker as workers
from bankconnect_async.journal import (
    CreatedRecord,
    FailedRecord,
    Journal,
    read_journal,
)
from bankconnect_async.sandbox import Fault, Sandbox


KEY = "a-key-that-nobody-else-knows"


def ids(count):
    """Make link ids."""
    return [f"customer-{number:04}" for number in range(count)]


def created(path):
    """Count the created records of each link id."""
    return Counter(
        record.link_id
        for record in read_journal(path)
        if isinstance(record, CreatedRecord)
    )


def failed(path):
    """Return the failed records."""
    return [
        record
        for record in read_journal(path)
        if isinstance(record, FailedRecord)
    ]


class ThreadProcess:
    """
    A worker in a thread of this process, with the interface of `Popen`.
    """

    numbers = itertools.count(1)

    def __init__(self, link):
        self.pid = next(self.numbers)
        self.returncode = 0
        self._link = link
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        with self._link.rows as rows, self._link.records as records:
            workers.serve(rows, records, os.getppid())

    def kill(self):
        """Cut its connection, after which it sends nothing more."""
        if self._thread.is_alive():
            self.returncode = -9
            with suppress(OSError):
                self._link.rows.shutdown(socket.SHUT_RDWR)
                self._link.records.shutdown(socket.SHUT_RDWR)

    def wait(self, timeout=None):
        """Wait for its end."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise subprocess.TimeoutExpired("worker", timeout)


@pytest.fixture(name="threads")
def _threads(monkeypatch):
    """Run workers in threads, and return those that were started."""
    started = []

    def spawn(pool):
        ours, theirs = pools.Sockets.pair()
        process = ThreadProcess(theirs)
        started.append(process)
        pool._started[process] = ours
        return process

    monkeypatch.setattr(pools.ProcessPool, "_spawn", spawn)
    return started


@pytest.fixture(name="service")
async def _service():
    """Serve the API."""
    async with Sandbox(api_key=KEY) as sandbox:
        yield sandbox


@pytest.fixture(name="path")
def _path(tmp_path):
    return tmp_path / "out.jsonl"


@pytest.fixture(name="run")
def _run(service, path):
    """Prepare a batch on two processes."""

    def run(source, **settings):
        environ = {
            "BANKCONNECT_BASE_URL": service.base_url,
            "BANKCONNECT_API_KEY": KEY,
        }
        return create_sessions_in_processes(
            source,
            **{
                "processes": 2,
                "journal": path,
                "environ": environ,
                "redirect_url": None,
                **settings,
            },
        )

    return run


@pytest.fixture(name="begin")
def _begin(service, until):
    """Start a batch, and wait until so many requests have been sent."""

    async def begin(batch, *, requests):
        running = asyncio.ensure_future(batch)
        await until(lambda: service.requests >= requests)
        return running

    return begin


@pytest.mark.usefixtures("threads")
class TestOutcomes:
    """
    One outcome for each input, in one journal.
    """

    async def test_again(self, run, path, service):
        """
        Each input has one outcome, and the same batch again skips it.
        """
        source = [*ids(40), "customer-0003", 7]
        first = await run(source)
        second = await run(source, processes=3)

        assert (first.created, first.failed) == (40, 2)
        assert first.failures == {"InvalidRequestError": 2}
        assert (second.created, second.skipped) == (0, 40)
        assert created(path) == Counter(ids(40))
        assert sorted(r.line for r in failed(path)) == [41, 41, 42, 42]
        assert len(service.sessions) == 40

    async def test_requests(self, run, path, service):
        """
        Requests travel with all of their parameters.
        """
        requests = [
            SessionRequest(link_id=each, redirect_url=None, bank_name="axis")
            for each in ids(3)
        ]
        stats = await run(requests)

        assert stats.created == 3
        await run(requests)
        assert len(service.sessions) == 3

    async def test_refused_key(self, run, path, service):
        """
        A refused key ends the batch in all processes, and is told.
        """
        environ = {
            "BANKCONNECT_BASE_URL": service.base_url,
            "BANKCONNECT_API_KEY": "another",
        }
        batch = run(ids(60), environ=environ, concurrency=4)
        stats = await batch

        assert isinstance(batch.abort_cause, AuthenticationError)
        assert stats.failed == len(failed(path)) == 60
        assert stats.failures["AuthenticationError"] < 10

    async def test_own_text(self, run, path):
        """
        A link id may be of a class that the processes lack.
        """

        class LinkId(str):
            __slots__ = ()

        stats = await run([LinkId("customer-1")])

        assert stats.created == 1
        assert created(path) == {"customer-1": 1}

    async def test_own_text_in_request(self, run, path):
        """
        So may the texts of a request, such as members of an enumeration.
        """

        class Text(str):
            __slots__ = ()

        class Bank(enum.StrEnum):
            AXIS = "axis"

        request = SessionRequest(
            link_id=Text("customer-1"),
            redirect_url=None,
            bank_name=Bank.AXIS,
            metadata=Metadata(names=[Text("A B")]),
        )
        stats = await run([request, "customer-2"])

        assert stats.created == 2
        assert created(path) == {"customer-1": 1, "customer-2": 1}

    async def test_failing_source(self, run, path):
        """
        What a source gave before it failed is created.
        """

        async def source():
            for each in ids(5):
                yield each
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await run(source())

        assert created(path) == Counter(ids(5))

    async def test_exiting_source(self, run, path):
        """
        What is no `Exception` is raised, too, when its items are done: a
        batch must not look complete.
        """

        class Exit(BaseException):
            pass

        def source():
            yield from ids(3)
            raise Exit

        with pytest.raises(Exit):
            await run(source())

        assert created(path) == dict.fromkeys(ids(3), 1)

    async def test_rate(self, run):
        """
        A rate bounds all processes together.
        """
        stats = await run(ids(30), rate=50)

        assert stats.created == 30
        assert stats.seconds > 0.4

    async def test_slow_source(self, run, path, until):
        """
        An input is created before the next one comes.
        """
        seen = []

        async def source():
            for each in ids(3):
                yield each
                await until(lambda each=each: each in created(path))
                seen.append(each)

        await run(source())

        assert seen == ids(3)


@pytest.mark.usefixtures("threads")
class TestEnds:
    """
    A batch that ends early, and what can be resumed.
    """

    async def test_drain(self, run, path, service, until):
        """
        A drained batch finishes what is in flight, and can be resumed.
        """
        service.faults.always(Fault.stall(0.05))
        batch = run(ids(100), concurrency=8)
        running = asyncio.ensure_future(batch)
        await until(lambda: batch._created >= 8)
        batch.drain()
        stats = await running

        assert stats.failed == 0
        assert stats.created == created(path).total() < 100
        assert stats.created == len(service.sessions)
        service.faults.clear()
        await run(ids(100))
        assert created(path) == Counter(ids(100))
        assert len(service.sessions) == 100

    async def test_cancel(self, run, path, service, begin):
        """
        What is in flight when a batch is cancelled is recorded as possible.
        """
        service.faults.always(Fault.stall(30))
        running = await begin(run(ids(20), concurrency=6), requests=6)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert [record.delivery for record in failed(path)] == (
            [Delivery.AMBIGUOUS] * 6
        )

    async def test_killed_while_draining(
        self, run, path, service, threads, begin
    ):
        """
        What was in flight in a process that a drained batch loses is recorded.
        """
        service.faults.always(Fault.stall(30))
        batch = run(ids(4), concurrency=4)
        running = await begin(batch, requests=4)
        batch.drain()
        for each in threads:
            each.kill()
        await running

        assert [record.delivery for record in failed(path)] == (
            [Delivery.AMBIGUOUS] * 4
        )

    async def test_cancel_silent(self, run, path, service, monkeypatch, begin):
        """
        What a process has that does not even follow an abort is recorded.
        """
        monkeypatch.setattr(worker_batch, "ABORT_TIMEOUT", 0.1)
        # It ends all the same once its connection is closed.
        cancel = workers.ProcessRunner.cancel
        monkeypatch.setattr(
            workers.ProcessRunner,
            "cancel",
            lambda runner: runner._link.closed.done() and cancel(runner),
        )
        service.faults.always(Fault.stall(30))
        running = await begin(run(ids(4), concurrency=4), requests=4)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert [record.delivery for record in failed(path)] == (
            [Delivery.AMBIGUOUS] * 4
        )

    async def test_deleted_journal(self, run, path, service):
        """
        A journal that is deleted ends the batch, and is saved.
        """

        async def source():
            for each in ids(500):
                if each == "customer-0010":
                    path.unlink()
                yield each
                await asyncio.sleep(0.01)

        with pytest.raises(JournalError, match=r"saved to .*saved-1"):
            await run(source())

        saved = created(f"{path}.saved-1")
        assert saved.total() == len(service.sessions) < 500

    async def test_unwritable_journal(self, run, path, monkeypatch):
        """
        Outcomes that cannot be written are kept, and counted in the error.
        """
        journal = Journal(path)

        def refuse(*args, **options):
            raise JournalError("out.jsonl: cannot be written: full")

        monkeypatch.setattr(journal, "record_lines", refuse)
        with pytest.raises(JournalError, match="could not be recorded"):
            await run(
                [*ids(10), SessionRequest(link_id="x", redirect_url=None)],
                journal=journal,
            )

        kept = journal.unrecorded_outcomes
        assert kept
        assert all(isinstance(each, Created) for each in kept)
        assert all(each.session.url for each in kept)
        assert kept[0].request.link_id == kept[0].link_id


class TestLosses:
    """
    Processes that are killed.
    """

    async def test_replaced(self, run, path, service, threads):
        """
        The rows of a process that is lost go to others.
        """
        killed = []

        async def source():
            for number, each in enumerate(ids(80)):
                if number in {30, 50}:
                    killed.append(threads[len(killed)])
                    killed[-1].kill()
                yield each
                await asyncio.sleep(0)

        stats = await run(source(), concurrency=8)

        assert len(threads) == 4
        assert created(path) == Counter(ids(80))
        assert (stats.created, stats.failed) == (80, 0)
        # What was in flight is created twice.
        assert len(service.sessions) <= 80 + 2 * 4

    async def test_waiting_source(self, run, path, service, threads, until):
        """
        The rows of a process that is lost do not wait for the source.
        """
        service.faults.script(Fault.stall(30))

        async def source():
            yield "customer-1"
            await until(lambda: service.requests)
            for each in threads[:2]:
                each.kill()
            await until(lambda: created(path))
            yield "customer-2"

        async with asyncio.timeout(10):
            stats = await run(source())

        assert stats.created == 2

    async def test_all_at_once(self, run, path, service, threads, begin):
        """
        All processes may be killed at once.
        """
        service.faults.script(*[Fault.stall(30)] * 10)
        running = await begin(run(ids(10), processes=5), requests=10)
        for each in threads[:5]:
            each.kill()
        stats = await running

        assert stats.created == 10

    async def test_at_most_once(self, run, path, service, threads, begin):
        """
        With at-most-once, what may have been sent is not sent again.
        """
        service.faults.always(Fault.stall(0.2))
        retry = RetryPolicy(delivery="at-most-once")
        batch = run(ids(8), concurrency=4, retry=retry)
        running = await begin(batch, requests=4)
        threads[0].kill()
        stats = await running

        assert stats.failures == {"TransportError": stats.failed}
        assert stats.failed >= 2
        assert stats.created + stats.failed == 8
        assert {record.delivery for record in failed(path)} == {
            Delivery.AMBIGUOUS
        }

    async def test_again_and_again(self, run, monkeypatch, threads):
        """
        Processes that are killed without any progress end the batch.
        """
        monkeypatch.setattr(
            ThreadProcess, "_run", lambda process: process._link.close()
        )
        with pytest.raises(BatchStoppedError, match="run the same batch"):
            await run(ids(5))

    async def test_deadly_row(self, run, path, service, threads, until):
        """
        A row at which three processes were killed fails.
        """
        service.faults.always(Fault.stall(30))
        running = asyncio.ensure_future(run(["a"], processes=1))
        for number in range(3):
            await until(lambda number=number: service.requests > number)
            threads[number].kill()
        stats = await running

        assert stats.failed == 1
        (record,) = failed(path)
        assert "its worker process was killed" in record.message


class TestRefused:
    """
    Arguments that make no sense.
    """

    @pytest.mark.parametrize(
        ("settings", "problem"),
        [
            ({"processes": 0}, "processes: must be a number above 0"),
            ({"journal": object()}, "journal: must be a Journal or its path"),
            (
                {"journal": type("Own", (Journal,), {"record": None})("x")},
                "journal: has a record",
            ),
            (
                {
                    "journal": type("Own", (Journal,), {"record_all": None})(
                        "x"
                    )
                },
                "journal: has a record",
            ),
            ({"api_key": "k"}, "api_key: is a secret"),
            ({"clock": None}, "clock: is no setting"),
            (
                {"retry": RetryPolicy(rng=lambda low, high: low)},
                "retry: cannot be sent",
            ),
            (
                {
                    "redirect_url": ReturnURL(
                        "https://a.example", secret="x" * 32
                    )
                },
                "redirect_url: must be a text",
            ),
        ],
    )
    def test_argument(self, settings, problem):
        """
        An argument is refused before anything is started.
        """
        with pytest.raises(ConfigurationError, match=problem):
            create_sessions_in_processes(
                [], **{"processes": 2, "journal": "x", **settings}
            )

    def test_platform(self, monkeypatch):
        """
        Windows has no such processes.
        """
        monkeypatch.setattr("sys.platform", "win32")
        with pytest.raises(ConfigurationError, match="on Windows"):
            create_sessions_in_processes([], processes=2, journal="x")

    async def test_no_key(self, run, threads):
        """
        A process that cannot make its client says what is missing.
        """
        with pytest.raises(ConfigurationError, match="BANKCONNECT_API_KEY"):
            await run(ids(3), environ={})

    async def test_own_function(self, run, threads):
        """
        A function that the processes lack is named in one error.
        """

        class Foreign:
            def __call__(self, low, high):
                return low

            def __reduce__(self):
                return getattr, (0, "a_function_of_the_program")

        with pytest.raises(ConfigurationError, match="function_of_the_prog"):
            await run(ids(3), retry=RetryPolicy(rng=Foreign()))

    async def test_no_process(self, run, monkeypatch):
        """
        A process that cannot be started is an error of its own.
        """

        def refuse(pool):
            raise OSError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(pools.ProcessPool, "_spawn", refuse)
        with pytest.raises(ConfigurationError, match="temporarily unavail"):
            await run(ids(3))
