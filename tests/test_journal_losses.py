"""
Journals that other programs, disks and callers damage while a batch runs.
"""

import asyncio
import errno
import fcntl
import os
import resource
import shutil
import stat
import sys
import tempfile
import threading

from concurrent.futures import ThreadPoolExecutor

import pytest

from bankconnect_async import (
    AsyncBankConnect,
    Created,
    JournalError,
    JournalMismatchError,
)
from bankconnect_async.journal import CreatedRecord, Journal, read_journal


API = "api.example/v1"
RECORD = (
    b'{"link_id":"%s","line":1,"redirect_url":"https://x.example/",'
    b'"session_id":null,"attempts":1,"api":"' + API.encode() + b'",'
    b'"request":"0123456789abcdef"}\n'
)
BOM = b"\xef\xbb\xbf"


@pytest.fixture(name="path")
def _path(tmp_path):
    """
    Return the path of a file that does not exist yet, in a directory of its
    own.
    """
    directory = tmp_path / "out"
    directory.mkdir()
    return directory / "sessions.jsonl"


@pytest.fixture(name="bank")
async def _bank(sandbox):
    """Return a client of the sandbox, in the inline-frame workflow."""
    async with AsyncBankConnect(
        sandbox.api_key, base_url=sandbox.base_url, redirect_url=None
    ) as bank:
        yield bank


def ids(count):
    """Make link ids."""
    return [f"customer-{n}" for n in range(count)]


def created_ids(path):
    """List the link ids of all created records."""
    return sorted(
        record.link_id
        for record in read_journal(path)
        if isinstance(record, CreatedRecord)
    )


async def run(bank, source, journal, **options):
    """Run a batch to its end."""
    async with bank.create_sessions(
        source, journal=journal, **options
    ) as outcomes:
        return [outcome async for outcome in outcomes]


async def run_until_broken(bank, journal, spoil, *, after=20):
    """Run an endless batch until *spoil* damages it; return its outcomes."""
    made = []

    async def endless():
        number = 0
        while True:
            yield f"customer-{number}"
            number += 1
            await asyncio.sleep(0.001)

    async with (
        asyncio.timeout(20),
        bank.create_sessions(
            endless(), journal=journal, concurrency=4
        ) as outcomes,
    ):
        async for outcome in outcomes:
            assert isinstance(outcome, Created)
            made.append(outcome.link_id)
            if len(made) == after:
                spoil()


class TestMovedAway:
    """
    Files that were moved, replaced or deleted.
    """

    @pytest.mark.parametrize("is_opened", [False, True])
    async def test_deleted(self, bank, sandbox, path, is_opened):
        """
        A deleted journal stops the batch, and is saved under another name with
        the record of every session.
        """
        journal = Journal(path, api=API)
        with pytest.raises(JournalError, match="was deleted") as caught:
            if is_opened:
                with journal:
                    await run_until_broken(bank, journal, path.unlink)
            else:
                await run_until_broken(bank, journal, path.unlink)

        saved = path.with_name(f"{path.name}.saved-1")
        made = sandbox.created()
        assert str(caught.value) == (
            f"{path}: was deleted or replaced while it was open: its records "
            f"({made}) were saved to {saved}: move that back to {path} to "
            f"resume"
        )
        assert journal.is_damaged
        assert len(created_ids(saved)) == made >= 20
        assert stat.S_IMODE(saved.stat().st_mode) == 0o600

        saved.rename(path)
        assert await run(bank, ids(made), Journal(path, api=API)) == []

    async def test_replaced(self, bank, sandbox, path):
        """
        A journal that was replaced by another file is saved beside that file.
        """

        def replace():
            other = path.with_name("other")
            other.write_text("other")
            other.rename(path)

        journal = Journal(path)
        with pytest.raises(JournalError, match=r"saved to .*\.saved-1"):
            await run_until_broken(bank, journal, replace)

        assert path.read_text() == "other"
        saved = path.with_name(f"{path.name}.saved-1")
        assert len(created_ids(saved)) == sandbox.created()

    @pytest.mark.parametrize("name", ["moved", ".nfs0001"])
    async def test_renamed(self, bank, sandbox, path, name):
        """
        A renamed journal stops the batch, and the error has its new name,
        unless that name will not last.
        """
        moved = path.with_name(name)
        with pytest.raises(JournalError, match="while it was open") as caught:
            await run_until_broken(
                bank, Journal(path), lambda: path.rename(moved)
            )

        made = sandbox.created()
        if name == "moved":
            assert f"its records ({made}) are in {moved}: move" in str(
                caught.value
            )
        else:
            moved = path.with_name(f"{path.name}.saved-1")
            assert f"were saved to {moved}: move" in str(caught.value)
        assert len(created_ids(moved)) == made

    async def test_directory_removed(
        self, bank, sandbox, path, tmp_path, monkeypatch
    ):
        """
        If its directory is deleted, too, the journal is saved among temporary
        files.
        """
        elsewhere = tmp_path / "tmp"
        elsewhere.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
        with pytest.raises(JournalError, match="were saved to"):
            await run_until_broken(
                bank, Journal(path), lambda: shutil.rmtree(path.parent)
            )

        (saved,) = elsewhere.iterdir()
        assert len(created_ids(saved)) == sandbox.created()

    async def test_nowhere(self, bank, sandbox, path, tmp_path, monkeypatch):
        """
        The error counts records that cannot be saved.
        """
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
        with pytest.raises(JournalError, match="are lost") as caught:
            await run_until_broken(
                bank, Journal(path), lambda: shutil.rmtree(path.parent)
            )

        assert (
            f"could not be saved: No such file or directory: its "
            f"records ({sandbox.created()}) are lost, though their "
            f"sessions exist"
        ) in str(caught.value)

    @pytest.mark.parametrize("content", [b"", b"short", b"x" * 1_000_000])
    async def test_overwritten(self, bank, sandbox, path, content):
        """
        If another program overwrites a journal, the batch stops and the error
        counts the lost records.
        """
        with pytest.raises(JournalError, match="was changed by an") as caught:
            await run_until_broken(
                bank, Journal(path), lambda: path.write_bytes(content)
            )

        count = sandbox.created()
        left = path.read_bytes().count(b'"link_id"')
        (lost,) = [
            int(word)
            for word in str(caught.value).split()
            if word.isdecimal() and int(word) != count
        ]
        assert 20 <= lost <= count - left + 1
        assert f"of its {count} records are lost" in str(caught.value)

    async def test_nothing_to_do(self, bank, path):
        """
        A journal that disappears is reported even if the batch skips all of
        its inputs.
        """
        await run(bank, ids(3), Journal(path))

        async def source():
            for link_id in ids(3):
                yield link_id
            path.unlink()

        with pytest.raises(JournalError, match="3\\) were saved"):
            await run(bank, source(), Journal(path))

    async def test_another_working_directory(
        self, bank, path, tmp_path, monkeypatch
    ):
        """
        A relative path refers to the working directory at the start.
        """
        monkeypatch.chdir(path.parent)

        async def source():
            yield "a"
            monkeypatch.chdir(tmp_path)
            yield "b"

        assert len(await run(bank, source(), Journal(path.name))) == 2
        assert created_ids(path) == ["a", "b"]


class FullDisk:
    """
    A disk that becomes full, until room is released.
    """

    def __init__(self, monkeypatch, path):
        self.path = path
        self.is_full = False
        self._kept = None
        self._write = os.write
        monkeypatch.setattr(os, "write", self._write_or_fail)

    def _write_or_fail(self, fd, data):
        kind = os.fstat(fd)
        if stat.S_ISREG(kind.st_mode) and not kind.st_nlink:
            self._kept = fd
        elif self.is_full and self._is_journal(kind) and self._is_kept():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._write(fd, data)

    def _is_journal(self, kind):
        return self.path.exists() and os.path.samestat(kind, self.path.stat())

    def _is_kept(self):
        try:
            return not os.fstat(self._kept).st_nlink
        except OSError:
            return False


class TestDisk:
    """
    Disks that refuse writes.
    """

    @pytest.mark.parametrize("is_opened", [False, True])
    async def test_still_full(self, bank, sandbox, path, is_opened):
        """
        Nothing is sent while the disk is still full.
        """
        await run(bank, ids(10), Journal(path, api=API))
        before, count = path.read_bytes(), sandbox.requests
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (len(before) + 100, limits[1])
        )
        journal = Journal(path, api=API)
        try:
            with pytest.raises(JournalError, match="nothing was sent"):
                if is_opened:
                    with journal:
                        await run(bank, ids(500), journal)
                else:
                    await run(bank, ids(500), journal)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

        assert sandbox.requests == count
        assert path.read_bytes() == before
        assert [each.name for each in path.parent.iterdir()] == [path.name]
        assert len(await run(bank, ids(20), Journal(path, api=API))) == 10

    async def test_becomes_full(self, bank, sandbox, path, monkeypatch):
        """
        When the disk becomes full, reserved room holds the records of requests
        in flight, and nothing more is sent.
        """
        disk = FullDisk(monkeypatch, path)

        def fill():
            disk.is_full = True

        journal = Journal(path)
        with pytest.raises(JournalError, match="disk is full: nothing more"):
            await run_until_broken(bank, journal, fill)

        assert journal.unrecorded == 0
        assert len(created_ids(path)) == sandbox.created() < 50

    async def test_no_place_to_keep_room(self, bank, path, monkeypatch):
        """
        A batch runs although no room can be reserved.
        """

        def refuse(*args, **kwargs):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)

        assert len(await run(bank, ids(3), Journal(path))) == 3

    async def test_unrecorded(self, bank, sandbox, path, monkeypatch):
        """
        Sessions that could not be recorded have their outcomes; the error
        counts them and names their lines.
        """
        write = os.write

        def fail(fd, data):
            if is_broken and stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return write(fd, data)

        is_broken = False
        monkeypatch.setattr(os, "write", fail)
        journal, made = Journal(path), []
        with pytest.raises(JournalError, match="be recorded") as caught:
            async with bank.create_sessions(
                ids(500), journal=journal, concurrency=4
            ) as outcomes:
                async for outcome in outcomes:
                    made.append(outcome)
                    is_broken = len(made) >= 20

        recorded = created_ids(path)
        missing = [each for each in made if each.link_id not in set(recorded)]
        assert len(made) == sandbox.created()
        assert journal.unrecorded == len(missing) > 0
        assert {each.index for each in journal.unrecorded_outcomes} == {
            each.index for each in missing
        }
        text = str(caught.value)
        assert text.startswith(f"{path}: cannot be written: Input/output err")
        assert f": {len(missing)} outcomes (line " in text
        assert all(str(each.index + 1) in text for each in missing)
        assert f"{len(missing)} of them may have sessions" in text

    async def test_left_early(self, bank, path, monkeypatch):
        """
        Leaving a batch early reports the outcomes that could not be recorded.
        """
        await run(bank, ["a"], Journal(path))
        write = os.write

        def fail(fd, data):
            if stat.S_ISREG(os.fstat(fd).st_mode):
                news.set()
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return write(fd, data)

        news = asyncio.Event()
        with pytest.raises(JournalError, match="1 outcomes \\(line 1\\)"):
            async with bank.create_sessions(["b"], journal=Journal(path)):
                monkeypatch.setattr(os, "write", fail)
                await news.wait()

    async def test_sync_fails(self, bank, path, monkeypatch):
        """
        The error names records that may not be on the disk, even if the
        journal stays open.
        """
        fsync = os.fsync

        def fail(fd):
            if is_broken and stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            fsync(fd)

        is_broken = False
        monkeypatch.setattr(os, "fsync", fail)
        journal = Journal(path)
        journal.open()
        await run(bank, ["a"], journal)

        async def source():
            nonlocal is_broken
            is_broken = True
            yield "b"

        with pytest.raises(JournalError, match="Input/output error"):
            await run(bank, source(), journal)
        with pytest.raises(JournalError, match="Input/output") as caught:
            journal.close()

        assert str(caught.value).endswith(
            ": 1 outcomes (line 1) may not be on the disk"
        )

    async def test_closed_by_somebody(self, bank, sandbox, path):
        """
        Closing a journal under a batch stops it, and the error names the
        unrecorded outcomes.
        """
        with pytest.raises(JournalError, match="was closed while") as caught:
            journal = Journal(path)
            await run_until_broken(bank, journal, journal.close)

        assert len(created_ids(path)) + journal.unrecorded == (
            sandbox.created()
        )
        assert bool(journal.unrecorded) is ("recorded" in str(caught.value))

    async def test_error_of_a_callback(self, bank, sandbox, path):
        """
        If `line_of` raises, everything in flight is recorded first.
        """

        def line_of(index):
            return {n: n for n in range(20)}[index]

        journal = Journal(path, line_of=line_of)
        with pytest.raises(JournalError, match="line_of raised KeyError"):
            await run(bank, ids(100), journal, concurrency=4)

        assert created_ids(path) == sorted(ids(20))
        assert sandbox.created() == 20


class TestLines:
    """
    Lines that look torn and are complete.
    """

    @pytest.mark.parametrize("at", [0, 1, 2])
    def test_long(self, path, at):
        """
        A record of more than 16 MiB is read, wherever it is in the file.
        """
        lines = [RECORD % name for name in (b"a", b"b", b"c")]
        lines[at] = RECORD % (b"x" * (16 * 2**20 + 5))
        path.write_bytes(b"".join(lines))
        for _ in range(2):
            with Journal(path, api=API) as journal:
                assert journal.created == 3

        assert path.read_bytes() == b"".join(lines)
        assert len(list(read_journal(path))) == 3

    @pytest.mark.parametrize("filler", [b"x", b"\0"])
    def test_long_and_no_record(self, path, filler):
        """
        A long line that is no record is refused, and nothing is truncated.
        """
        whole = RECORD % b"a"
        path.write_bytes(whole + filler * (17 * 2**20) + b"\n" + whole)
        size = path.stat().st_size
        with pytest.raises(JournalMismatchError, match="line 2 is too long"):
            Journal(path, api=API).open()

        assert path.stat().st_size == size

    def test_byte_order_marks(self, path):
        """
        A byte order mark on any line is ignored.
        """
        lines = [BOM + RECORD % name for name in (b"a", b"b", b"c")]
        content = b"".join(lines) + BOM + b"\n"
        path.write_bytes(content)
        with Journal(path, api=API) as journal:
            assert journal.created == 3
        assert path.read_bytes() == content
        assert created_ids(path) == ["a", "b", "c"]

        torn = content + BOM + (RECORD % b"d")[:30]
        path.write_bytes(torn)
        assert created_ids(path) == ["a", "b", "c"]
        with Journal(path, api=API) as journal:
            assert journal.created == 3
        assert path.read_bytes() == content


class TestOpening:
    """
    Files that cannot be opened.
    """

    def test_moved_again_and_again(self, path, monkeypatch):
        """
        Opening a file that is moved each time ends with an error.
        """
        real, moves = fcntl.flock, []

        def flock(fd, operation):
            assert len(moves) < 1000
            moves.append(path.rename(path.with_name(f"moved-{len(moves)}")))
            real(fd, operation)

        monkeypatch.setattr(fcntl, "flock", flock)
        with pytest.raises(JournalError, match="again and again"):
            Journal(path).open()

    async def test_pipe_without_a_reader(self, bank, sandbox, path):
        """
        Waiting for a pipe's reader blocks neither the loop nor a cancellation.
        """
        os.mkfifo(path)
        journal = Journal(path)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await run(bank, ["a"], journal)
        assert sandbox.requests == 0
        frames = sys._current_frames().values()
        assert "open" not in {frame.f_code.co_name for frame in frames}

        running = asyncio.create_task(run(bank, ["a"], journal))
        await asyncio.sleep(0)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        assert len(await running) == 1
        assert os.read(reader, 1000).endswith(b"\n")
        os.close(reader)

    async def test_two_batches(self, bank, sandbox, path):
        """
        Only one batch at a time can use a journal.
        """
        with Journal(path) as journal:
            async with bank.create_sessions(["a"], journal=journal):
                with pytest.raises(RuntimeError, match="another batch uses"):
                    await run(bank, ["b"], journal)
            assert len(await run(bank, ["c"], journal)) == 1

    async def test_without_threads(self, bank, path, monkeypatch):
        """
        A batch runs although no thread can be started.
        """

        def start(thread):
            raise RuntimeError("can't start new thread")

        # Threads that are there already would do.
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        monkeypatch.setattr(threading.Thread, "start", start)

        assert len(await run(bank, ids(3), Journal(path))) == 3
        assert len(created_ids(path)) == 3
