"""
The event loop goes on while the reader of a pipe or terminal pauses.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import threading

import pytest

from bankconnect_async import AsyncBankConnect, Created, JournalError
from bankconnect_async.journal import Journal
from bankconnect_async.journal.pipe_writer import PipeWriter


class PausedReader:
    """
    Reads nothing from a pipe until it is released, and then all of it.

    Attributes:
        was_released: Whether it was, before it lost its patience.
    """

    def __init__(self):
        self.fd, self.writer = os.pipe()
        # Full from the start.
        os.write(self.writer, bytes(fcntl.fcntl(self.fd, fcntl.F_GETPIPE_SZ)))
        self.go = threading.Event()
        self.was_released = False
        self.content = b""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        # A loop that is blocked in a write cannot release it, and would be
        # blocked for ever.
        self.was_released = self.go.wait(20)
        while block := os.read(self.fd, 65536):
            self.content += block.lstrip(b"\0")
        os.close(self.fd)

    def finish(self):
        """Read until the pipe is closed on the other side."""
        self.go.set()
        self._thread.join()


@pytest.fixture(name="paused")
def _paused():
    reader = PausedReader()
    yield reader
    with contextlib.suppress(OSError):
        os.close(reader.writer)
    reader.finish()


def connect(sandbox):
    """Make a client of *sandbox*, in the inline-frame workflow."""
    return AsyncBankConnect(
        sandbox.api_key, base_url=sandbox.base_url, redirect_url=None
    )


def ids(count):
    """Make link ids."""
    return [f"customer-{number}" for number in range(count)]


async def later(items):
    """Yield *items* asynchronously."""
    for item in items:
        yield item


async def until(condition):
    """Wait until a condition holds, and fail if it never does."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_reader_that_pauses_holds_workers_and_not_the_loop(
    sandbox, paused, asynchronous
):
    """
    Each worker waits until its record is written; nothing is sent twice.
    """
    source = later(ids(100)) if asynchronous else ids(100)
    journal = Journal(f"/dev/fd/{paused.writer}")
    found = []

    async def consume():
        async with (
            connect(sandbox) as bank,
            bank.create_sessions(
                source, concurrency=4, journal=journal
            ) as outcomes,
        ):
            os.close(paused.writer)
            found.extend([outcome async for outcome in outcomes])

    task = asyncio.create_task(consume())
    await until(lambda: journal.pending == 4)
    for _ in range(100):
        await asyncio.sleep(0)
    assert sandbox.requests == journal.pending == 4
    paused.go.set()
    await task
    paused.finish()

    assert paused.was_released
    assert sum(isinstance(each, Created) for each in found) == 100
    assert sandbox.created() == sandbox.requests == 100
    records = [json.loads(line) for line in paused.content.splitlines()]
    assert sorted(each["link_id"] for each in records) == sorted(ids(100))


async def test_a_cancelled_batch_says_what_its_reader_has_not_taken(
    sandbox, paused
):
    """
    The error counts the records that nobody read, and names their lines.
    """
    journal = Journal(f"/dev/fd/{paused.writer}")

    async def consume():
        async with (
            connect(sandbox) as bank,
            bank.create_sessions(
                ids(100), concurrency=4, journal=journal
            ) as outcomes,
        ):
            os.close(paused.writer)
            async for _ in outcomes:
                pass

    task = asyncio.create_task(consume())
    await until(lambda: journal.pending == 4)
    task.cancel()
    with pytest.raises((JournalError, asyncio.CancelledError)):
        await task
    paused.finish()

    records = [json.loads(line) for line in paused.content.splitlines()]
    assert sandbox.created() == journal.unrecorded == 4
    assert journal.created == 0
    assert "4 outcomes (line 1, 2, 3, 4)" in journal.describe_unrecorded()
    # The one in hand when it was given up may get there all the same.
    assert len(records) <= 1


async def test_a_reader_that_goes_away_ends_the_batch(sandbox, paused):
    """
    Every outcome is in the pipe or counted as unrecorded.
    """
    journal = Journal(f"/dev/fd/{paused.writer}")
    seen = []
    async with connect(sandbox) as bank:
        with pytest.raises(JournalError, match="its reader has closed it"):
            async with bank.create_sessions(
                ids(500), concurrency=4, journal=journal
            ) as outcomes:
                os.close(paused.writer)
                async for outcome in outcomes:
                    seen.append(outcome)
                    if len(seen) == 1:
                        _close_reader(paused)

    assert sandbox.created() == len(seen) < 500
    assert journal.created + journal.unrecorded == len(seen)
    assert journal.created == 0
    unrecorded = {each.index for each in journal.unrecorded_outcomes}
    assert unrecorded == {each.index for each in seen}


def _close_reader(paused):
    # A descriptor that a thread reads is closed by putting another there.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, paused.fd)
    os.close(null)


def test_closing_gives_up_a_reader_who_takes_nothing(paused, monkeypatch):
    """
    Closing returns the lines that were not written; the thread closes the
    pipe.
    """
    monkeypatch.setattr(
        "bankconnect_async.journal.pipe_writer._PATIENCE", 0.01
    )
    writer = PipeWriter(paused.writer)
    lines = [b"%04000d\n" % number for number in range(5)]
    for line in lines:
        writer.put(line)

    lost = writer.close()
    thread = writer._thread
    paused.finish()
    thread.join()

    assert lost == lines
    # The one in hand when it was given up gets there all the same.
    assert paused.content == lines[0]
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(paused.writer)


def test_closing_waits_for_a_reader_who_is_slow(paused):
    """
    Closing waits as long as the reader makes progress.
    """
    writer = PipeWriter(paused.writer)
    lines = [b"%04000d\n" % number for number in range(50)]
    for line in lines:
        writer.put(line)
    paused.go.set()

    assert writer.close() == []
    assert not writer._thread.is_alive()
    paused.finish()
    assert paused.content == b"".join(lines)


async def test_waiting_for_lines_may_be_cancelled(paused):
    """
    A cancelled waiter takes nothing out of the queue.
    """
    writer = PipeWriter(paused.writer)
    for number in range(3):
        writer.write(b"%04000d\n" % number)
    waiting = [asyncio.create_task(writer.drain()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    paused.go.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(each) for each in found] == [
        asyncio.CancelledError, type(None), type(None),
    ]  # fmt: skip
    assert writer.close() == []
    paused.finish()
    assert len(paused.content.splitlines()) == 3


async def test_no_thread(monkeypatch):
    """
    A line is refused, and not queued, if no thread can be started.
    """
    reader, writer = os.pipe()
    pipe = PipeWriter(writer)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="can't start new thread"):
            pipe.write(b"a\n")
    await asyncio.wait_for(pipe.drain(), 20)
    pipe.write(b"b\n")
    await pipe.drain()
    assert pipe.close() == []

    assert os.read(reader, 100) == b"b\n"
    os.close(reader)


async def test_closed_while_somebody_waits(paused):
    """
    Closing wakes a waiter for a stalled reader.
    """
    pipe = PipeWriter(os.dup(paused.writer))
    pipe.write(b"a\n")
    waiting = asyncio.create_task(pipe.drain())
    await asyncio.sleep(0)
    lost = await asyncio.to_thread(pipe.close)

    assert lost == [b"a\n"]
    with pytest.raises(TimeoutError, match="takes nothing"):
        await asyncio.wait_for(waiting, 20)


async def test_a_pipe_that_does_not_block(paused):
    """
    A non-blocking pipe works like any other.
    """
    os.set_blocking(paused.writer, False)
    pipe = PipeWriter(os.dup(paused.writer))
    pipe.write(b"a\n")
    paused.go.set()
    await asyncio.wait_for(pipe.drain(), 20)
    assert pipe.close() == []
    os.close(paused.writer)
    paused.finish()

    assert paused.content == b"a\n"
