"""
Batches that are cancelled at every step of their journal.
"""

import asyncio
import fcntl
import functools
import itertools
import os
import stat
import sys
import threading
import traceback

from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import bankconnect_async

from bankconnect_async import AsyncBankConnect
from bankconnect_async.journal import Journal, read_journal
from bankconnect_async.sandbox import Sandbox


PACKAGE = Path(bankconnect_async.__file__).parent
# What must not run any more once a batch has ended.
CODE = {
    str(PACKAGE / "journal" / name)
    for name in (
        "append_file.py",
        "file_system.py",
        "group_fsync.py",
        "journal.py",
    )
}
API = "api.example/v1"
RECORD = (
    b'{"link_id":"known-%d","line":%d,"redirect_url":"https://x.example/",'
    b'"session_id":null,"attempts":1,"api":"' + API.encode() + b'",'
    b'"request":"0123456789abcdef"}\n'
)
# What the file holds before: nothing, some records, and a torn line.
BEFORE = {
    "none": None,
    "some": b"".join(RECORD % (n, n) for n in range(300)),
    "torn": b"".join(RECORD % (n, n) for n in range(9)) + RECORD[:50],
}
BYSTANDER = b"precious\n" * 10_000
# No two batches of this process have a link id in common.
NUMBERS = itertools.count()
CALLS = ("open", "close", "stat", "fstat", "fsync", "ftruncate", "unlink")


class SteppedLoop(asyncio.SelectorEventLoop):
    """
    An event loop that counts its steps.
    """

    on_step = staticmethod(lambda: None)

    def _run_once(self):
        self.on_step()
        super()._run_once()


@pytest.fixture(name="service", scope="module")
def _service():
    """Run a sandbox in a thread of its own, whose steps do not count."""
    loop, sandbox = asyncio.new_event_loop(), Sandbox()
    thread = threading.Thread(target=loop.run_forever, name="service")
    thread.start()
    asyncio.run_coroutine_threadsafe(sandbox.start(), loop).result()
    yield sandbox
    asyncio.run_coroutine_threadsafe(sandbox.aclose(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def open_files():
    """Return the files that this process has open, by descriptor."""
    found = {}
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            name = str(fd.readlink())
            if name.startswith("/") and not name.startswith(("/dev", "/proc")):
                found[fd.name] = name
    return found


def workers():
    """Return the threads that work on a journal."""
    names = {each.ident: each.name for each in threading.enumerate()}
    found = [name for name in names.values() if "journal" in name]
    for ident, top in sys._current_frames().items():
        if names.get(ident) not in {None, "MainThread", "service"}:
            frames = (frame for frame, _ in traceback.walk_stack(top))
            code = {frame.f_code.co_filename for frame in frames}
            found += [names[ident]] * bool(code & CODE)
    return found


class Trial:
    """
    Batches over a journal, each cancelled a little later.
    """

    def __init__(self, directory, service, bank, *, is_opened):
        self.path = directory / "out.jsonl"
        self.bystander = directory / "bystander"
        self.service = service
        self.bank = bank
        self.is_opened = is_opened
        self.cancels = 0

    async def run(self, before, arm):
        """Run a batch, and return whether it ended uncancelled."""
        self.path.unlink(missing_ok=True)
        if before is not None:
            self.path.write_bytes(before)
        self.bystander.write_bytes(BYSTANDER)
        self.bystander.chmod(0o644)
        ids = [f"customer-{next(NUMBERS)}" for _ in range(3)]
        files = open_files()
        task = asyncio.create_task(self._batch(ids))
        with arm(task):
            await asyncio.wait([task])
        # Its descriptor is the next one that is free.
        with self.bystander.open("r+b") as bystander:
            assert not workers()
            self._check(ids, before or b"")
            assert bystander.read() == BYSTANDER
            mode = os.fstat(bystander.fileno()).st_mode
            assert stat.S_IMODE(mode) == 0o644
        assert open_files() == files
        self.cancels += task.cancelled()
        return not task.cancelled()

    async def _batch(self, ids):
        journal = Journal(self.path, api=API)
        if self.is_opened:
            with journal:
                await self._consume(journal, ids)
        else:
            await self._consume(journal, ids)

    async def _consume(self, journal, ids):
        async with self.bank.create_sessions(
            ids, journal=journal, concurrency=2
        ) as outcomes:
            async for _ in outcomes:
                pass

    def _check(self, ids, before):
        whole = before[: before.rfind(b"\n") + 1]
        found = self.path.read_bytes() if self.path.exists() else b""
        assert found.startswith(whole)
        if found:
            records = {record.link_id for record in read_journal(self.path)}
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            records = set()
        made = {link_id for link_id in ids if self.service.created(link_id)}
        assert made <= records


def at_step(loop, number):
    """Cancel a task at a step of the loop."""

    @contextmanager
    def arm(task):
        steps = itertools.count(1)

        def step():
            if next(steps) == number:
                task.cancel()

        loop.on_step = step
        yield
        del loop.on_step

    return arm


class Calls:
    """
    Cancels a task when its threads make a system call.
    """

    def __init__(self, loop, task, number):
        self._loop = loop
        self._task = task
        self._number = number
        self._count = 0
        self._guard = threading.Lock()
        self._real = {name: getattr(os, name) for name in CALLS}

    def __enter__(self):
        for name, call in self._real.items():
            setattr(os, name, functools.partial(self._call, call))

    def __exit__(self, *exc_info):
        for name, call in self._real.items():
            setattr(os, name, call)

    def _call(self, real, *args, **kwargs):
        name = threading.current_thread().name
        if name not in {"MainThread", "service"}:
            with self._guard:
                self._count += 1
                is_due = self._count == self._number
            if is_due:
                delivered = threading.Event()
                self._loop.call_soon_threadsafe(self._cancel, delivered)
                assert delivered.wait(20)
        return real(*args, **kwargs)

    def _cancel(self, delivered):
        self._task.cancel()
        self._hop(9, delivered)

    def _hop(self, left, delivered):
        # Whoever does not wait for the thread has gone on by then.
        if left:
            self._loop.call_soon(self._hop, left - 1, delivered)
        else:
            delivered.set()


def at_call(loop, number):
    """Cancel a task when its threads make a system call."""
    return lambda task: Calls(loop, task, number)


async def sweep(trial, loop, before, kind):
    """Cancel at one place after the other until there are no more."""
    number = 0
    while True:
        number += 1
        if await trial.run(before, kind(loop, number)):
            return number


def cancel_everywhere(directory, service, rounds):
    """
    Cancel batches everywhere, several times; return the number of cancels.
    """

    async def main():
        loop, cancels = asyncio.get_running_loop(), 0
        async with AsyncBankConnect(
            service.api_key, base_url=service.base_url, redirect_url=None
        ) as bank:
            for number in range(rounds):
                trial = Trial(
                    directory, service, bank, is_opened=bool(number % 2)
                )
                for before in BEFORE.values():
                    for kind in at_step, at_call:
                        places = await sweep(trial, loop, before, kind)
                        assert places > 5
                cancels += trial.cancels
        return cancels

    with asyncio.Runner(loop_factory=SteppedLoop) as runner:
        return runner.run(main())


def test_cancelled_at_every_step(tmp_path, service):
    """
    Whenever a batch is cancelled, no thread, lock or descriptor of its
    journal is left, no record is lost and no other file is touched.
    """
    cancels = cancel_everywhere(tmp_path, service, rounds=1)

    print(f"{cancels} cancels")
    assert cancels > 50


@pytest.mark.long
def test_cancelled_six_hundred_times(tmp_path, service):
    """
    The same holds over six hundred cancels, which threads meet differently.
    """
    cancels = rounds = 0
    while cancels < 600:
        cancels += cancel_everywhere(tmp_path, service, rounds=2)
        rounds += 2

    print(f"{cancels} cancels in {rounds} rounds")
    assert cancels >= 600
