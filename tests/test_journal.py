"""
Journals: their records, resuming from them, and the failures that they
survive.
"""

import asyncio
import datetime
import errno
import fcntl
import json
import os
import resource
import stat
import subprocess
import sys
import threading

import pytest

from yarl import URL

from bankconnect_async import (
    AsyncBankConnect,
    ConfigurationError,
    Created,
    Delivery,
    Failed,
    InvalidRequestError,
    JournalError,
    ReturnURL,
    Session,
    SessionRequest,
    TransportError,
)
from bankconnect_async._http.bodies import BytesBody
from bankconnect_async.journal import (
    CreatedRecord,
    FailedRecord,
    Journal,
    read_journal,
)
from bankconnect_async.sandbox import Fault


API = "api.example/v1"
ROOM = 8_000


@pytest.fixture(name="path")
def _path(tmp_path):
    """Return the path of a file that does not exist yet."""
    return tmp_path / "sessions.jsonl"


@pytest.fixture(name="bank")
async def _bank(sandbox):
    """Return a client of the sandbox, in the inline-frame workflow."""
    async with AsyncBankConnect(
        sandbox.api_key, base_url=sandbox.base_url, redirect_url=None
    ) as bank:
        yield bank


@pytest.fixture(name="little_room")
def _little_room():
    """Limit files to some kilobytes, like a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def created(link_id, index=0, **parameters):
    """Make the outcome of a created session."""
    request = SessionRequest(
        link_id=link_id, **{"redirect_url": None} | parameters
    )
    session = Session(
        link_id=link_id, redirect_url=URL("https://x.example/?session_id=1")
    )
    return Created(index=index, item=link_id, request=request, session=session)


class Syncs:
    """
    The fsyncs: the sizes of the file and the threads.
    """

    def __init__(self):
        self.sizes = []
        self.threads = set()
        self._news = threading.Condition()
        self._free = threading.Event()
        self._free.set()
        self._fsync = os.fsync

    def __call__(self, fd):
        if stat.S_ISREG(os.fstat(fd).st_mode):
            with self._news:
                self.sizes.append(os.fstat(fd).st_size)
                self.threads.add(threading.get_ident())
                self._news.notify_all()
            assert self._free.wait(20)
        self._fsync(fd)

    def hold(self):
        """Block every fsync at its end."""
        self._free.clear()

    def release(self):
        """Let all blocked fsyncs end."""
        self._free.set()

    def wait_for(self, size):
        """Wait until so many bytes are synced or about to be."""
        with self._news:
            return self._news.wait_for(lambda: size in self.sizes, 20)


@pytest.fixture(name="syncs")
def _syncs(monkeypatch):
    """Record the syncs of files."""
    syncs = Syncs()
    monkeypatch.setattr(os, "fsync", syncs)
    yield syncs
    syncs.release()


def write(path, *link_ids):
    """Write a journal."""
    with Journal(path, api=API) as journal:
        for index, link_id in enumerate(link_ids):
            journal.record(created(link_id, index))


def ids(count):
    """Make link ids."""
    return [f"customer-{n}" for n in range(count)]


async def run(bank, source, journal, **options):
    """Run a batch to its end."""
    async with bank.create_sessions(
        source, journal=journal, **options
    ) as outcomes:
        return [outcome async for outcome in outcomes]


async def later(items):
    """Yield *items* asynchronously."""
    for item in items:
        await asyncio.sleep(0)
        yield item


def created_ids(path):
    """List the link ids of all created records."""
    return [
        record.link_id
        for record in read_journal(path)
        if isinstance(record, CreatedRecord)
    ]


class TestGoingOn:
    """
    Resuming the same batch.
    """

    @pytest.mark.parametrize("kind", [iter, later])
    @pytest.mark.parametrize("ordered", [False, True])
    async def test_skips_what_is_there(
        self, bank, sandbox, path, kind, ordered
    ):
        """
        Inputs that have a session send no request and have no outcome.
        """
        await run(bank, ids(200)[::2], Journal(path))
        journal = Journal(path)
        found = await run(bank, kind(ids(200)), journal, ordered=ordered)

        assert sandbox.created() == 200
        assert (journal.created, journal.skipped) == (200, 100)
        indexes = [outcome.index for outcome in found]
        assert sorted(indexes) == list(range(1, 200, 2))
        assert not ordered or indexes == sorted(indexes)
        assert sorted(created_ids(path)) == sorted(ids(200))

    async def test_tries_failed_ones_again(self, bank, sandbox, path):
        """
        A failed input is tried again; its old record stays beside the new one.
        """
        sandbox.faults.script(Fault.status(400), prefix="customer-1")
        journal = Journal(path)
        await run(bank, ids(3), journal)
        assert (journal.created, journal.failed) == (2, 1)

        found = await run(bank, ids(3), Journal(path))

        assert [outcome.link_id for outcome in found] == ["customer-1"]
        kinds = [
            type(record)
            for record in read_journal(path)
            if record.link_id == "customer-1"
        ]
        assert kinds == [FailedRecord, CreatedRecord]

    async def test_one_journal_for_several_batches(self, bank, path):
        """
        A journal that the caller opened stays open, and is read again.
        """
        with Journal(path) as journal:
            assert len(await run(bank, ids(2), journal)) == 2
            assert len(await run(bank, ids(3), journal)) == 1
            assert (journal.created, journal.skipped) == (3, 2)

    async def test_given_twice(self, bank, sandbox, path):
        """
        A link id is taken once for each batch; the second one fails.
        """
        for _ in range(2):
            outcomes = await run(bank, ["a", "b", "a"], Journal(path))
            (failed,) = [each for each in outcomes if isinstance(each, Failed)]
            assert isinstance(failed.error, InvalidRequestError)
            assert "on line 1" in str(failed.error)
            assert failed.index == 2

        assert sandbox.created() == 2

    async def test_other_api(self, bank, sandbox, path):
        """
        A journal of another API is refused, and nothing is sent.
        """
        write(path, "a")
        before = path.read_bytes()
        with pytest.raises(JournalError, match="another path") as caught:
            await run(bank, ["b"], Journal(path))

        assert f"line 1 is of {API}, and this is {bank.api_id}" in str(
            caught.value
        )
        assert path.read_bytes() == before
        assert sandbox.requests == 0

    async def test_sandbox_of_another_port(self, path):
        """
        A name can stand for an API whose address changes.
        """
        write(path, "a")
        for base_url in "http://localhost:1", "http://localhost:2":
            async with AsyncBankConnect(
                "key", base_url=base_url, redirect_url=None
            ) as bank:
                assert await run(bank, ["a"], Journal(path, api=API)) == []

    @pytest.mark.parametrize("kind", [iter, later])
    @pytest.mark.parametrize("known", [0, 150])
    @pytest.mark.parametrize("ordered", [False, True])
    async def test_other_request(  # noqa: PLR0913, PLR0917
        self, bank, sandbox, path, kind, known, ordered
    ):
        """
        If a link id has a session of another request, nothing more is sent;
        outcomes in flight are recorded first.
        """
        rows = ids(300)
        write_for(path, bank.api_id, created(rows[known], bank_name="axis"))
        before = path.read_bytes()
        journal = Journal(path)
        found = []
        with pytest.raises(JournalError, match="by another request") as caught:
            async with bank.create_sessions(
                kind(rows), journal=journal, concurrency=4, ordered=ordered
            ) as outcomes:
                async for outcome in outcomes:
                    found.append(outcome)  # noqa: PERF401 - it raises

        assert f"of line {known + 1} " in str(caught.value)
        made = [each for each in found if isinstance(each, Created)]
        assert len(made) == sandbox.created() <= known + 4
        assert len(made) == len(found)
        assert rows[known] in outcomes.unreported
        assert path.read_bytes().startswith(before)
        assert len(list(read_journal(path))) == 1 + len(made)

    async def test_signed_url(self, sandbox, path):
        """
        A redirect URL that is signed at each request counts as the same
        request.
        """
        for base in "https://x.example/a", "https://x.example/b":
            for now in 1_000_000_000, 1_100_000_000:
                returns = ReturnURL(
                    base, secret="s" * 32, now=lambda now=now: now
                )
                async with AsyncBankConnect(
                    sandbox.api_key,
                    base_url=sandbox.base_url,
                    redirect_url=returns,
                ) as bank:
                    if base.endswith("a"):
                        await run(bank, ["a/b"], Journal(path))
                    else:
                        with pytest.raises(JournalError):
                            await run(bank, ["a/b"], Journal(path))

        assert sandbox.created() == 1

    async def test_same_request_in_other_words(self, bank, path):
        """
        The order of parameters does not change the request.
        """
        requests = [
            SessionRequest(link_id="a", redirect_url=None, extra=extra)
            for extra in ({"x": 1, "y": 2}, {"y": 2, "x": 1})
        ]
        assert len(await run(bank, requests[:1], Journal(path))) == 1
        assert await run(bank, requests[1:], Journal(path)) == []

    async def test_keeps_the_loop_running(self, bank, path):
        """
        Many skipped inputs do not block other tasks.
        """
        write_for(path, bank.api_id, *map(created, ids(1600), range(1600)))
        turns = 0

        async def count():
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(count())
        assert await run(bank, ids(1600), Journal(path), concurrency=1) == []
        counting.cancel()

        assert turns >= 50


def write_for(path, api, *outcomes):
    """Write a journal of outcomes."""
    with Journal(path, api=api) as journal:
        for outcome in outcomes:
            journal.record(outcome)


class TestRecords:
    """
    The records in the file.
    """

    async def test_created(self, bank, path):
        """
        A created record has the session, its line and its request.
        """
        (outcome,) = await run(bank, ["a"], Journal(path))

        (record,) = read_journal(path)
        assert record.session == outcome.session
        assert (record.link_id, record.line) == ("a", 1)
        assert record.api == bank.api_id
        assert list(json.loads(path.read_text())) == [
            "link_id",
            "line",
            "redirect_url",
            "session_id",
            "attempts",
            "api",
            "request",
            "at",
            "seconds",
        ]
        now = datetime.datetime.now(datetime.UTC)
        assert now - datetime.timedelta(minutes=10) < record.at <= now
        assert 0 < record.seconds < 600

    def test_earlier_version(self, path):
        """
        A record of an earlier version, without times, is still read.
        """
        write(path, "a")
        old = json.loads(path.read_text())
        del old["at"], old["seconds"]
        path.write_text(json.dumps(old, separators=(",", ":")))

        (record,) = read_journal(path)
        assert (record.link_id, record.at, record.seconds) == ("a", None, None)

    async def test_failed(self, bank, sandbox, path):
        """
        A failed record has the attributes that a program needs to act on.
        """
        sandbox.faults.script(Fault.status(429, retry_after=200))
        journal = Journal(path, line_of={0: 17, 1: 19}.__getitem__)
        await run(bank, ["a", ""], journal, ordered=True)

        later_, bad = sorted(read_journal(path), key=lambda one: one.line)
        assert (later_.line, bad.line) == (17, 19)
        assert later_.type == "RateLimitError"
        assert (later_.status, later_.retry_after) == (429, 200)
        assert (later_.delivery, later_.attempts) == (Delivery.REJECTED, 1)
        assert bad.link_id == ""
        assert bad.request is None
        assert bad.fields == {"link_id": ("must not be blank",)}
        assert (bad.delivery, bad.attempts) == (Delivery.NOT_SENT, 0)

    def test_no_delivery(self, path):
        """
        An error without a request has no delivery class.
        """
        error = ConfigurationError("bad")
        write_for(
            path,
            API,
            Failed(index=6, item=7, request=None, error=error),
        )

        (record,) = read_journal(path)
        assert (record.link_id, record.delivery, record.line) == (
            None,
            None,
            7,
        )

    def test_shows_no_url(self, path):
        """
        The repr of a record hides the session's URL.
        """
        write(path, "a")

        (record,) = read_journal(path)
        assert "x.example" not in repr(record)

    def test_several(self, tmp_path):
        """
        Several journals are read as one.
        """
        write(tmp_path / "1", "a", "b")
        write(tmp_path / "2", "c")

        records = read_journal(tmp_path / "1", str(tmp_path / "2"))
        assert [record.link_id for record in records] == ["a", "b", "c"]

    async def test_interrupted(self, raw_server, path):
        """
        Requests in flight when a batch is left are recorded as ambiguous, and
        tried again.
        """

        async def never(server, reader, writer):
            await server.read_request(reader)
            await asyncio.Event().wait()

        async with (
            raw_server(never) as server,
            AsyncBankConnect(
                "k3y", base_url=server.base_url, redirect_url=None
            ) as bank,
        ):
            for count in 3, 6:
                async with bank.create_sessions(
                    ids(9), journal=Journal(path), concurrency=3
                ):
                    async with asyncio.timeout(20):
                        while len(server.requests) < count:
                            await asyncio.sleep(0.005)

        records = list(read_journal(path))
        assert [record.link_id for record in records] == 2 * ids(3)
        assert {record.delivery for record in records} == {Delivery.AMBIGUOUS}
        assert "a session may exist" in records[0].message


class TestDurability:
    """
    Fsyncs and their failures.
    """

    def test_private_whatever_the_umask(self, path):
        """
        Only the owner can read the file, even if it was shared before.
        """
        before = os.umask(0)
        try:
            write(path, "a")
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

        path.chmod(0o644)
        write(path, "b")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_written_at_once(self, path):
        """
        A record is in the file when `record` returns.
        """
        with Journal(path, api=API) as journal:
            journal.record(created("a"))
            assert created_ids(path) == ["a"]

    @pytest.mark.parametrize("concurrency", [1, 8])
    async def test_written_before_the_next(self, bank, path, concurrency):
        """
        A worker takes its next input, and its outcome is seen, when the record
        of the last one is in the file.
        """
        behind, seen = [], []

        def source():
            for taken, each in enumerate(ids(200)):
                behind.append(taken - path.read_bytes().count(b"\n"))
                yield each

        async with bank.create_sessions(
            source(), journal=Journal(path), concurrency=concurrency
        ) as outcomes:
            async for each in outcomes:
                seen.append(each.link_id)
                assert set(seen) <= set(created_ids(path))

        assert max(behind) == concurrency - 1
        assert len(seen) == 200

    @pytest.mark.parametrize("concurrency", [1, 4])
    async def test_written_before_a_retry(
        self, bank, sandbox, path, monkeypatch, concurrency
    ):
        """
        An item that lent its slot during a pause sends again when the outcome
        of the item in its slot is in the file.
        """
        behind = []
        write = BytesBody.write_with_length

        async def count(body, *args):
            recorded = len(created_ids(path)) if path.exists() else 0
            behind.append(sandbox.created() - recorded)
            await write(body, *args)

        monkeypatch.setattr(BytesBody, "write_with_length", count)
        pause = Fault.status(503, retry_after=1)
        sandbox.faults.script(*[None, None, pause] * 8)
        found = await run(
            bank, ids(40), Journal(path), concurrency=concurrency
        )

        assert len(found) == sandbox.created() == 40
        assert max(behind) < concurrency

    def test_every_other_one_is_written(self, path):
        """
        An outcome that cannot be encoded holds back none that came with it.
        """
        outcomes = [created(each, index) for index, each in enumerate(ids(5))]

        def line_of(index):
            return 2**70 if index == 2 else index + 1

        with Journal(path, api=API, line_of=line_of) as journal:
            for each in outcomes:
                journal.begin(each.index, each.request)
            with pytest.raises(TypeError):
                journal.record_all(outcomes)

        assert created_ids(path) == [n for n in ids(5) if n != "customer-2"]
        assert (journal.created, journal.unrecorded) == (4, 1)
        assert journal.unrecorded_outcomes == [outcomes[2]]

    def test_given_twice(self, path):
        """
        An outcome is written as often as it is given.
        """
        outcome = created("a")
        with Journal(path, api=API) as journal:
            journal.begin(0, outcome.request)
            journal.record_all([outcome, outcome])

        assert created_ids(path) == ["a", "a"]
        assert journal.created == 2

    def test_together_without_room(self, path, little_room):
        """
        As many records are written as there is room for, where all of them
        have none.
        """
        outcomes = [created(each, index) for index, each in enumerate(ids(90))]
        with Journal(path, api=API) as journal:
            for each in outcomes:
                journal.begin(each.index, each.request)
            with pytest.raises(JournalError, match="File too large"):
                journal.record_all(outcomes)

        recorded = created_ids(path)
        assert recorded == ids(len(recorded))
        assert ROOM - 400 < path.stat().st_size <= ROOM
        assert journal.created == len(recorded)
        assert [each.link_id for each in journal.unrecorded_outcomes] == (
            ids(90)[len(recorded) :]
        )
        last = f"line {len(recorded) + 1}, {len(recorded) + 2}"
        assert last in journal.describe_unrecorded()

    def test_together_without_begin(self, path):
        """
        Outcomes of inputs that were not begun are written, too; without the
        name of an API they are unrecorded.
        """
        outcomes = [created(each, index) for index, each in enumerate(ids(3))]
        with Journal(path, api=API) as journal:
            journal.record_all(outcomes)
        nameless = Journal(path.with_name("other.jsonl"))
        with nameless, pytest.raises(ConfigurationError, match="api"):
            nameless.record_all(outcomes)

        assert [(each.link_id, each.line) for each in read_journal(path)] == [
            (each, line) for line, each in enumerate(ids(3), 1)
        ]
        assert nameless.unrecorded_outcomes == outcomes

    def test_record_of_a_subclass(self, path):
        """
        The `record` of a subclass gets each outcome.
        """
        seen = []

        class Own(Journal):
            def record(self, outcome, *, line=None):
                seen.append(outcome.link_id)
                super().record(outcome, line=line)

        with Own(path, api=API) as journal:
            outcomes = [created(each, n) for n, each in enumerate(ids(3))]
            for each in outcomes:
                journal.begin(each.index, each.request)
            journal.record_all(outcomes)

        assert seen == created_ids(path) == ids(3)

    def test_record_of_an_instance(self, path, monkeypatch):
        """
        So does one that was set on the journal itself, such as a spy.
        """
        seen = []
        with Journal(path, api=API) as journal:
            outcomes = [created(each, n) for n, each in enumerate(ids(3))]
            for each in outcomes:
                journal.begin(each.index, each.request)
            monkeypatch.setattr(journal, "record", seen.append)
            journal.record_all(outcomes)

        assert seen == outcomes

    @pytest.mark.parametrize("with_loop", [False, True])
    def test_synced_soon(self, path, syncs, with_loop):
        """
        A record is synced soon after it was written, in another thread,
        whether a loop runs or not.
        """

        async def record():
            for link_id in "ab":
                journal.record(created(link_id))
                size = path.stat().st_size
                assert await asyncio.to_thread(syncs.wait_for, size)

        with Journal(path, api=API) as journal:
            if with_loop:
                asyncio.run(record())
            else:
                for link_id in "ab":
                    journal.record(created(link_id))
                    assert syncs.wait_for(path.stat().st_size)
            assert threading.get_ident() not in syncs.threads

    @pytest.mark.parametrize("closed", [False, True])
    def test_synced_after_the_loop(self, path, syncs, closed):
        """
        Fsyncs do not depend on a loop that was stopped or closed meanwhile.
        """

        async def record():
            journal.record(created("a"))

        with Journal(path, api=API) as journal, asyncio.Runner() as runner:
            runner.run(record())
            if closed:
                runner.close()
            journal.record(created("b"))
            assert syncs.wait_for(path.stat().st_size)

    async def test_synced_after_a_batch(self, bank, path, syncs):
        """
        At the end of a batch everything is synced, even in a journal that
        stays open.
        """
        with Journal(path, api=API) as journal:
            await run(bank, ["a"], journal)

            assert path.stat().st_size in syncs.sizes
            assert threading.get_ident() not in syncs.threads

    def test_synced_at_the_end(self, path):
        """
        If no thread can be started any more, records are synced all the same.
        """
        program = (
            "import atexit\n"
            "from bankconnect_async.journal.append_file import AppendFile\n"
            f"file = AppendFile.open({str(path)!r})\n"
            "def last():\n"
            "    file.append(b'a\\n')\n"
            "    file.close()\n"
            "atexit.register(last)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            stderr=subprocess.PIPE,
            check=True,
            timeout=60,
        )

        assert done.stderr == b""
        assert path.read_bytes() == b"a\n"

    def test_grouped_syncs(self, path, syncs):
        """
        Many records share an fsync, and closing flushes the last ones.
        """
        write(path, *ids(2_000))

        assert 1 <= len(syncs.sizes) < 200
        assert syncs.sizes[-1] == path.stat().st_size

    @pytest.mark.parametrize("then", ["", "b"])
    def test_close_waits_for_a_sync(self, path, syncs, then):
        """
        A file is not closed while a thread syncs it.
        """
        syncs.hold()
        journal = Journal(path, api=API)
        journal.open()
        journal.record(created("a"))
        assert syncs.wait_for(path.stat().st_size)
        for link_id in then:
            journal.record(created(link_id))
        closing = threading.Thread(target=journal.close)
        closing.start()
        closing.join(0.05)
        assert closing.is_alive()
        syncs.release()
        closing.join()

        assert syncs.sizes[-1] == path.stat().st_size

    def test_sync_fails(self, path, monkeypatch):
        """
        A disk that loses data is reported by `close` at the latest.
        """

        def fsync(fd):
            failed.set()
            raise OSError(errno.EIO, "Input/output error")

        failed = threading.Event()
        monkeypatch.setattr(os, "fsync", fsync)
        journal = Journal(path, api=API)
        journal.open()
        journal.record(created("a"))
        failed.wait(20)
        with pytest.raises(JournalError, match="Input/output error"):
            while True:
                journal.record(created("b"))
        with pytest.raises(JournalError, match="Input/output error"):
            journal.close()

        assert journal.unrecorded == 1

    def test_nothing_to_sync(self, path, monkeypatch):
        """
        A file system without fsync causes no error.
        """

        def fsync(fd):
            raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(os, "fsync", fsync)
        write(path, "a")

        assert created_ids(path) == ["a"]

    @pytest.mark.parametrize("kind", [iter, later])
    async def test_disk_full(self, bank, sandbox, path, little_room, kind):
        """
        A full disk stops the batch: every input that was taken has its
        outcome, and complete records stay.
        """
        journal = Journal(path)
        batch = bank.create_sessions(
            kind(ids(500)), journal=journal, concurrency=4
        )
        found = []
        with pytest.raises(JournalError, match="File too large") as caught:
            async with batch as outcomes:
                async for outcome in outcomes:
                    found.append(outcome)  # noqa: PERF401 - it raises

        assert str(caught.value).startswith(f"{path}: cannot be written: ")
        made = [each for each in found if isinstance(each, Created)]
        assert len(made) == sandbox.created()
        recorded = created_ids(path)
        assert ROOM / 2 < path.stat().st_size <= ROOM
        assert len(made) == len(recorded) + journal.unrecorded
        assert 1 <= journal.unrecorded <= 4
        assert len(made) == len(found)
        assert len(batch.unreported) <= 8
        assert {each.link_id for each in found}.isdisjoint(batch.unreported)

    async def test_goes_on_when_there_is_room(self, bank, path):
        """
        After a full disk, running the same batch again creates the rest.
        """
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, limits[1]))
        try:
            with pytest.raises(JournalError):
                await run(bank, ids(50), Journal(path), concurrency=4)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        await run(bank, ids(50), Journal(path))

        assert sorted(created_ids(path)) == sorted(ids(50))

    def test_torn_line_that_stays(self, path, little_room, monkeypatch):
        """
        Nothing is written after a torn line that cannot be truncated.
        """

        def fail(fd, length):
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "ftruncate", fail)
        with Journal(path, api=API) as journal:
            with pytest.raises(JournalError, match="File too large"):
                for link_id in ids(50):
                    journal.record(created(link_id))
            with pytest.raises(JournalError, match="last line is torn"):
                journal.record(created("z"))
        monkeypatch.undo()
        recorded = created_ids(path)
        assert recorded == ids(len(recorded))
        write(path)
        assert path.read_bytes().endswith(b"}\n")

    def test_nothing_written(self, path):
        """
        A file without any record is removed at the end, unless it existed
        before.
        """
        write(path)
        assert not path.exists()

        path.touch()
        write(path)
        assert path.exists()

    def test_already_removed(self, path):
        """
        Closing succeeds if another program has removed the file.
        """
        with Journal(path):
            path.unlink()
        assert not path.exists()


class TestRepair:
    """
    Files that a kill, a power cut or an editor left behind.
    """

    def test_torn_anywhere(self, path):
        """
        A torn last line is dropped, wherever it was torn; one without its line
        end is kept.
        """
        write(path, "a", "b")
        whole = path.read_bytes()
        first = whole.index(b"\n") + 1
        for end in range(first + 1, len(whole)):
            path.write_bytes(whole[:end])
            torn = created_ids(path)
            write(path)

            is_whole = end == len(whole) - 1
            assert path.read_bytes() == whole[: None if is_whole else first]
            assert torn == created_ids(path)

    def test_zeros(self, path):
        """
        Zeros that a power cut left are dropped.
        """
        write(path, "a")
        whole = path.read_bytes()
        for tail in b"\0" * 5_000, whole[:20] + b"\0" * 20:
            path.write_bytes(whole + tail)
            assert created_ids(path) == ["a"]
            write(path)
            assert path.read_bytes() == whole

    def test_cannot_be_healed(self, path, monkeypatch):
        """
        An error reports a file that cannot be truncated.
        """

        def fail(fd, length):
            raise OSError(errno.EPERM, "Operation not permitted")

        write(path, "a")
        path.write_bytes(path.read_bytes() * 2 + b"{")
        monkeypatch.setattr(os, "ftruncate", fail)
        with pytest.raises(JournalError, match="cannot be written: Operation"):
            write(path, "b")

    def test_lines_of_an_editor(self, path):
        """
        CRLF and blank lines are accepted.
        """
        write(path, "a", "b")
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n\r\n"))
        with Journal(path, api=API) as journal:
            assert journal.created == 2

        assert created_ids(path) == ["a", "b"]

    @pytest.mark.parametrize(
        ("spoil", "problem"),
        [
            (lambda line: b"link_id\na\n", "line 1 is no record"),
            (lambda line: b"precious", "line 1 is no record"),
            (lambda line: line[:20] + b"\n" + line, "line 1 is no record"),
            (lambda line: line + line[9:] + line, "line 2 is no record"),
            (lambda line: line + b"7\n", "line 2 is no record"),
            (lambda line: b'{"link_id":"a"}\n', "line 1 is no record"),
            (
                lambda line: b'{"link_id":"a","redirect_url":"x"}\n',
                "line 1 does not tell its API",
            ),
            (
                lambda line: b'{"link_id":"a","error":{"line":2}}\n',
                "line 1 does not tell its API",
            ),
            (
                lambda line: line.replace(b'request":"', b'request":"z'),
                "line 1 does not tell its API",
            ),
        ],
        ids=[
            "csv", "no-end", "torn", "glued", "number", "input", "old",
            "old-failed", "digest",
        ],
    )  # fmt: skip
    def test_refused(self, path, spoil, problem):
        """
        A file that is no journal is refused with its line, and not changed.
        """
        write(path, "a")
        spoilt = spoil(path.read_bytes())
        path.write_bytes(spoilt)
        with pytest.raises(JournalError) as caught:
            write(path, "b")

        assert str(caught.value).startswith(f"{path}: {problem}")
        # Starting over would make the session of line 1 again.
        advice = (
            "use another path, or fresh=True"
            if "line 1" in problem
            else "correct or remove that line, or use another path"
        )
        assert advice in str(caught.value)
        assert path.read_bytes() == spoilt

    def test_read_of_a_spoilt_file(self, path, tmp_path):
        """
        A reader names the bad line, or the missing file.
        """
        write(path, "a")
        line = path.read_bytes()
        for spoilt in b"{}\n", line.replace(b'"attempts":1,', b""):
            path.write_bytes(line + spoilt)
            with pytest.raises(JournalError, match="line 2 is no record"):
                list(read_journal(path))
        with pytest.raises(JournalError, match="missing: cannot be read: No"):
            list(read_journal(tmp_path / "missing"))


FORK = """
import os, sys
from bankconnect_async import JournalLockedError
from bankconnect_async.journal import Journal

path = sys.argv[1]
closed, unlocked = os.pipe(), os.pipe()
journal = Journal(path, api="api")
journal.open()
pid = os.fork()
if not pid:
    journal.close()
    os.write(closed[1], b"1")
    os.read(unlocked[0], 1)
    os._exit(0)
os.read(closed[0], 1)
assert os.path.exists(path)
try:
    Journal(path).open()
except JournalLockedError:
    print("refused")
journal.close()
with Journal(path):
    print("locked again")
os.write(unlocked[1], b"1")
assert os.waitpid(pid, 0)[1] == 0
"""


class TestPlaces:
    """
    Paths of journals.
    """

    def test_second_writer(self, path):
        """
        One writer at a time has the file; another one is refused.
        """
        with (
            Journal(path, api=API) as journal,
            pytest.raises(JournalError, match="another process is writing"),
        ):
            assert journal.is_locked
            write(path, "b")
        write(path, "b")

        assert created_ids(path) == ["b"]

    def test_lock_and_a_forked_child(self, path, run_program):
        """
        A child that is forked meanwhile neither keeps the lock of its parent
        nor ends it.
        """
        assert run_program(FORK, path) == "refused\nlocked again\n"

    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
    def test_no_locks(self, path, monkeypatch, number):
        """
        A file system without locks is reported, and used.
        """

        def flock(fd, operation):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)
        with Journal(path, api=API) as journal:
            assert not journal.is_locked
            journal.record(created("a"))

        assert created_ids(path) == ["a"]

    def test_lock_that_is_lost(self, path, monkeypatch):
        """
        A file whose lock cannot be ended is closed, which ends it, too.
        """
        real = fcntl.flock

        def flock(fd, operation):
            if operation == fcntl.LOCK_UN:
                raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
            real(fd, operation)

        monkeypatch.setattr(fcntl, "flock", flock)
        write(path, "a")
        write(path, "b")

        assert created_ids(path) == ["a", "b"]

    def test_moved_away_while_waiting(self, path, monkeypatch):
        """
        A writer that locks a file which was moved away opens the new one.
        """
        write(path, "a")
        real = fcntl.flock

        def flock(fd, operation):
            monkeypatch.setattr(fcntl, "flock", real)
            path.rename(path.with_name("moved"))
            real(fd, operation)

        monkeypatch.setattr(fcntl, "flock", flock)
        write(path, "b")

        assert created_ids(path) == ["b"]
        assert created_ids(path.with_name("moved")) == ["a"]

    def test_fresh(self, path):
        """
        Starting over backs the file up, under the next free name.
        """
        write(path, "a")
        for number, link_id in enumerate("bc", 1):
            with Journal(path, api=API, fresh=True) as journal:
                journal.record(created(link_id))
                assert journal.backup == f"{path}.old-{number}"

        assert created_ids(path) == ["c"]
        assert created_ids(f"{path}.old-1") == ["a"]
        assert created_ids(f"{path}.old-2") == ["b"]

    def test_fresh_without_need(self, path):
        """
        Starting over backs up neither a missing file nor the journal's own
        earlier records.
        """
        path.touch()
        journal = Journal(path, api=API, fresh=True)
        for link_id in "ab":
            with journal:
                journal.record(created(link_id))
                assert journal.backup is None

        assert created_ids(path) == ["a", "b"]

    def test_fresh_beside_a_writer(self, path):
        """
        A file that another process writes is not backed up.
        """
        write(path, "a")
        with Journal(path), pytest.raises(JournalError, match="is writing"):
            Journal(path, fresh=True).open()

        assert [each.name for each in path.parent.iterdir()] == [path.name]

    def test_link(self, path, tmp_path):
        """
        A symbolic link is followed, and leads to the new file after starting
        over.
        """
        real = tmp_path / "real"
        path.symlink_to(real)
        with pytest.raises(JournalError, match="cannot be written: No such"):
            write(path, "a")
        assert not real.exists()

        real.touch()
        write(path, "a")
        with Journal(path, api=API, fresh=True) as journal:
            journal.record(created("b"))

        assert path.is_symlink()
        assert created_ids(real) == ["b"]
        assert created_ids(f"{real}.old-1") == ["a"]

    @pytest.mark.parametrize("place", ["missing/x", "file/x", "."])
    def test_no_place(self, tmp_path, place):
        """
        The error for an impossible place begins with its name.
        """
        (tmp_path / "file").touch()
        path = f"{tmp_path}/{place}"
        with pytest.raises(JournalError, match="use another path") as caught:
            Journal(path).open()

        assert str(caught.value).startswith(f"{path}: cannot be written: ")

    def test_read_only(self, path, unprivileged):
        """
        A file without write permission is reported, and not changed.
        """
        write(path, "a")
        before = path.read_bytes()
        path.chmod(0o400)
        with (
            unprivileged(),
            pytest.raises(JournalError, match="Permission denied"),
        ):
            write(path, "b")

        assert path.read_bytes() == before

    def test_pipe(self):
        """
        A pipe can be written, but no batch resumes from it.
        """
        reader, writer = os.pipe()
        with Journal(f"/dev/fd/{writer}", api=API) as journal:
            os.close(writer)
            journal.record(created("a"))
            assert not journal.is_resumable
            assert not journal.is_locked
            assert json.loads(os.read(reader, 1000))["link_id"] == "a"
            os.close(reader)
            with pytest.raises(JournalError, match="its reader has closed it"):
                journal.record(created("b"))

    def test_device(self):
        """
        The error for a full device begins with its name.
        """
        with (
            Journal("/dev/full", api=API) as journal,
            pytest.raises(JournalError, match="/dev/full: cannot be written"),
        ):
            journal.record(created("a"))

    def test_stdout(self, capfd):
        """
        A minus sign is stdout, which stays open.
        """
        with Journal("-", api=API) as journal:
            journal.record(created("a"))
            assert journal.is_stdout
        print("still there")

        first, second = capfd.readouterr().out.splitlines()
        assert json.loads(first)["link_id"] == "a"
        assert second == "still there"

    def test_closed_stdout(self, monkeypatch):
        """
        A process without stdout says so.
        """
        monkeypatch.setattr("sys.stdout", None)
        with pytest.raises(JournalError, match="stdout: is closed"):
            Journal("-").open()


class TestByHand:
    """
    A journal without a batch.
    """

    def test_begin(self, path):
        """
        `begin` returns whether a session is still to be created.
        """
        for is_new in True, False:
            with Journal(path, api=API) as journal:
                outcome = created("a", 3)
                assert journal.begin(3, outcome.request) is is_new
                if is_new:
                    journal.record(outcome, line=70)
                assert (journal.created, journal.skipped) == (1, not is_new)

        (record,) = read_journal(path)
        assert record.line == 70

    def test_without_api(self, path):
        """
        A record without the name of an API is refused.
        """
        with (
            Journal(path) as journal,
            pytest.raises(ConfigurationError, match="api: is needed"),
        ):
            journal.record(created("a"))

    def test_not_open(self, path):
        """
        The error for a journal that is not open says what to do; closing it
        again is allowed.
        """
        journal = Journal(path, api=API)
        journal.close()
        with pytest.raises(RuntimeError, match="create_sessions"):
            journal.record(created("a"))

    def test_opened_twice(self, path):
        """
        A journal cannot be opened twice.
        """
        with Journal(path) as journal, pytest.raises(RuntimeError, match="op"):
            journal.open()

    def test_not_closed(self, path):
        """
        An unclosed journal warns when it is garbage-collected.
        """
        journal = Journal(path)
        journal.open()
        fd = journal._file.fd
        with pytest.warns(ResourceWarning, match="was not closed"):
            del journal
        os.close(fd)
        path.unlink()

    async def test_batch_that_cannot_begin(self, bank, path):
        """
        A batch whose journal is refused leaves nothing open.
        """
        path.write_text("precious")
        journal = Journal(path)
        with pytest.raises(JournalError, match="line 1 is no record"):
            await run(bank, ["a"], journal)
        assert journal._file is None
        assert path.read_text() == "precious"

    def test_error_of_an_interruption(self, path):
        """
        An ambiguous failure can be found again for reconciliation.
        """
        error = TransportError("gone", delivery=Delivery.AMBIGUOUS)
        request = created("a").request
        write_for(
            path, API, Failed(index=0, item="a", request=request, error=error)
        )

        (found,) = [
            record.link_id
            for record in read_journal(path)
            if isinstance(record, FailedRecord)
            and record.delivery is Delivery.AMBIGUOUS
        ]
        assert found == "a"
