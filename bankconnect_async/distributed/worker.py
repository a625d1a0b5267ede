"""
Run the shards of a distributed batch in a worker process.

Each process has one `WorkerRunner` for each batch, with its client, its
throttle and its share of the rate. Everything here runs on the worker's own
event loop. Errors are returned and not raised: Dask would log a raised one in
the scheduler, along with the arguments of the task.
"""

import asyncio
import hashlib
import hmac
import os
import pickle
import platform
import signal

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final, cast

import attrs

from bankconnect_async._signals import TERMINAL_SIGNALS
from bankconnect_async._threads import finish_in_thread, run_in_thread
from bankconnect_async.batch.outcomes import Item
from bankconnect_async.batch.session_batch import SessionBatch
from bankconnect_async.clock import SYSTEM_CLOCK
from bankconnect_async.config import read_environment
from bankconnect_async.errors import (
    BankConnectError,
    ConfigurationError,
    JournalLockedError,
)
from bankconnect_async.journal.journal import (
    CreatedRecord,
    Journal,
    read_journal,
)
from bankconnect_async.store.sqlite import SQLiteSessionStore

from .messages import (
    HEARTBEAT,
    Directive,
    Heartbeat,
    JobSpec,
    Result,
    Rows,
    Shard,
    unpack,
)
from .runner import BatchRunner, WorkerClient
from .sealing import SealError, public_key, unseal
from .shard_files import LOCK_POLL, beating, is_beating


# Without a heartbeat for that long, the coordinator is gone.
_EXPIRY: Final = 30.0
# Another worker may still run a shard that the scheduler gave to this one. A
# longer wait would keep a thread from shards that can run.
_LOCK_TIMEOUT: Final = 2.0
_SECRETS: Final = {
    "api_key": "BANKCONNECT_API_KEY",
    "server_hash": "BANKCONNECT_SERVER_HASH",
    "store": "BANKCONNECT_STORE",
    "store_keys": "BANKCONNECT_STORE_KEYS",
}


class WorkerRunner(BatchRunner):
    """
    Runs the shards of one batch in this process.

    Raises:
        ConfigurationError: If the environment makes no client.
    """

    def __init__(self, spec: JobSpec) -> None:
        super().__init__(spec, WorkerClient.from_env(**spec.settings))
        if (
            isinstance(self._bank.store, SQLiteSessionStore)
            and platform.node() != spec.machine
        ):
            raise ConfigurationError(
                fields={
                    "store": (
                        "is a SQLite file, which processes of one machine "
                        "share: use PostgreSQL",
                    )
                }
            )
        # Shards share the slots, so that the next one uses those that the
        # last rows of another leave free.
        self._slots = asyncio.Semaphore(spec.concurrency)
        self._running: dict[
            int, tuple[Journal, SessionBatch, asyncio.Task[Result]]
        ] = {}
        self._tasks: set[asyncio.Task[Result]] = set()
        self._shutdown: asyncio.Future[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self.renew()

    def renew(self) -> None:
        """Put the expiry off, as the coordinator is alive."""
        if self._expiry is not None:
            self._expiry.cancel()
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(_EXPIRY, self.expire)

    def apply(self, directive: Directive) -> None:
        """Follow a directive from now on."""
        is_aborting = self._follow(directive)
        if directive.drain:
            self._drain()
        if is_aborting:
            # Only shards that create sessions are cancelled, and only once: a
            # shard that closes its journal must be able to unlock it.
            for _, _, task in self._running.values():
                task.cancel()

    def status(self) -> Heartbeat:
        """Return what this process does at present."""
        running = self._running.items()
        return self._describe(
            {number: batch for number, (_, batch, _) in running},
            {number: each.created for number, (each, _, _) in running},
            secrets=_digest_secrets(self._spec.run),
            key=public_key(),
        )

    async def run(self, shard: Shard) -> Result:
        """Create the sessions of a shard, until the batch is drained."""
        # In a task of its own, an abort does not look like a cancellation by
        # Dask, which would run the shard once more.
        task = asyncio.ensure_future(self._run(shard))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            # The worker is closed.
            task.cancel()
            raise
        return Result(left=1) if task.cancelled() else task.result()

    async def shut_down(self) -> None:
        """Drain the batch and close the client."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._drain()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._bank.aclose()

    def expire(self) -> None:
        """Shut down, as no heartbeat will come any more."""
        _runners.pop(self._spec.run, None)
        self._shutdown = asyncio.ensure_future(self.shut_down())

    def uses(self, directory: str) -> bool:
        """Tell whether the shards of the batch are in *directory*."""
        return self._spec.directory == directory

    async def _run(self, shard: Shard) -> Result:
        try:
            rows: Rows = unpack(unseal(shard.sealed_rows))
        except SealError:
            return Result(is_foreign=True, left=1)
        try:
            return await self._run_rows(shard, rows)
        except FileNotFoundError:
            return Result(is_missing=True, left=len(rows))
        except BankConnectError as error:
            return Result(error=error, left=len(rows))

    async def _run_rows(self, shard: Shard, rows: Rows) -> Result:
        todo: Rows = []
        journal = Journal(
            shard.path, api=self.api, line_of=lambda at: todo[at][0]
        )
        async with AsyncExitStack() as beat:
            try:
                if not await self._open(journal):
                    is_locked = not self._directive.drain
                    return Result(is_locked=is_locked, left=len(rows))
                if not journal.is_locked:
                    await beat.enter_async_context(beating(shard.path))
                # A worker that was killed may have created some of them.
                done = await run_in_thread(_created, shard.path)
                todo += [row for row in rows if _link_id(row[1]) not in done]
                return await self._create(shard.number, journal, todo)
            finally:
                # An error of closing tells where records are.
                await finish_in_thread(journal.close)

    async def _open(self, journal: Journal) -> bool:
        until = SYSTEM_CLOCK.monotonic() + _LOCK_TIMEOUT
        while True:
            if not await is_beating(journal.path) and await run_in_thread(
                _try_open, journal
            ):
                return True
            if self._directive.drain or SYSTEM_CLOCK.monotonic() >= until:
                return False
            await asyncio.sleep(LOCK_POLL)

    async def _create(
        self, number: int, journal: Journal, todo: Rows
    ) -> Result:
        held = seen = 0

        async def items() -> AsyncIterator[Item]:
            nonlocal held
            for _, item in todo:
                await self._slots.acquire()
                held += 1
                yield item

        batch = self._bank.create_shard(
            items(),
            self._options(journal),
            self._queue,
            scope=self._spec.scope,
        )
        task = cast("asyncio.Task[Result]", asyncio.current_task())
        self._running[number] = journal, batch, task
        if self._directive.drain:
            batch.drain()
        try:
            async with batch:
                async for _ in batch:
                    seen += 1
                    held -= 1
                    self._slots.release()
        finally:
            del self._running[number]
            for _ in range(held):
                self._slots.release()
        return Result(
            left=len(todo) - seen, abort_cause=self._queue.abort_cause
        )

    def _drain(self) -> None:
        self._directive = attrs.evolve(self._directive, drain=True)
        for _, batch, _ in self._running.values():
            batch.drain()


# The runners of this process, by the name of the batch.
_runners: Final[dict[str, WorkerRunner]] = {}


async def register(
    spec: bytes, directive: bytes, dask_worker: Any = None
) -> bytes:
    """
    Begin to take part in a batch.

    Later heartbeats are messages of our own, since a worker logs each
    function that it is asked to run.

    Args:
        spec: The pickled `JobSpec`.
        directive: The pickled `Directive`.
        dask_worker: The worker, which Dask passes in.
    """
    job: JobSpec = unpack(spec)
    for run, runner in list(_runners.items()):
        if runner.uses(job.directory) and run != job.run:
            # The coordinator of that run was killed: we have its journal.
            runner.expire()
    dask_worker.handlers[HEARTBEAT] = heartbeat
    return await heartbeat(spec, directive)


async def heartbeat(spec: bytes, directive: bytes) -> bytes:
    """
    Apply a directive, and return a pickled `Heartbeat` or an error.

    Args:
        spec: The pickled `JobSpec`.
        directive: The pickled `Directive`.
    """
    wanted: Directive = unpack(directive)
    if wanted.ignore_interrupts:
        # Not where the worker is a thread.
        for number in TERMINAL_SIGNALS:
            with suppress(ValueError):
                signal.signal(number, signal.SIG_IGN)
    try:
        runner = _get_runner(unpack(spec), wanted)
    except BankConnectError as error:
        return pickle.dumps(error)
    runner.renew()
    runner.apply(wanted)
    return pickle.dumps(runner.status())


async def run_shard(
    spec: JobSpec, directive: Directive, shard: Shard
) -> Result:
    """
    Run a shard in this process, or resume it.

    Args:
        spec: The batch.
        directive: The latest directive.
        shard: The shard.
    """
    try:
        runner = _get_runner(spec, directive)
    except BankConnectError as error:
        return Result(error=error)
    return await runner.run(shard)


async def shut_down(run: str) -> None:
    """Shut the runner of a batch down."""
    runner = _runners.pop(run, None)
    if runner is not None:
        await runner.shut_down()


def _get_runner(spec: JobSpec, directive: Directive) -> WorkerRunner:
    runner = _runners.get(spec.run)
    if runner is None:
        _runners[spec.run] = runner = WorkerRunner(spec)
        # A shard that was given to a second worker may bring an old one.
        runner.apply(directive)
    return runner


def _try_open(journal: Journal) -> bool:
    # The coordinator creates the file, and removes it when the shard is done:
    # a process that wakes up after that must not create it again.
    Path(journal.path).stat()
    try:
        journal.open()
    except JournalLockedError:
        return False
    return True


def _created(path: str) -> set[str]:
    return {
        record.link_id
        for record in read_journal(path)
        if isinstance(record, CreatedRecord)
    }


def _link_id(item: Item) -> str:
    return item if isinstance(item, str) else item.link_id


def _digest_secrets(salt: str) -> str:
    found = read_environment(os.environ, _SECRETS)
    text = "\0".join(found.get(name, "") for name in _SECRETS)
    return hmac.new(salt.encode(), text.encode(), hashlib.sha256).hexdigest()
