"""
What runs in the worker processes of a distributed batch.

Each process has one runner for each batch: its client, its pace and its
share of the rate. Everything here runs on the worker's own event loop, and
what goes wrong is an answer, never raised: a raised one would show up in the
scheduler's logs, with what the task was given.
"""

import asyncio
import hashlib
import hmac
import os
import pickle
import signal

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

import attrs

from bankconnect_async._codec.redirects import without_state
from bankconnect_async._threads import finish_in_thread, run_in_thread
from bankconnect_async.batch.outcomes import Item
from bankconnect_async.batch.session_batch import BatchOptions, SessionBatch
from bankconnect_async.batch.throttle import SendQueue
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.clock import SYSTEM_CLOCK
from bankconnect_async.config import read_environment
from bankconnect_async.errors import (
    BankConnectError,
    InvalidRequestError,
    JournalLockedError,
)
from bankconnect_async.journal.journal import (
    CreatedRecord,
    Journal,
    read_journal,
)
from bankconnect_async.models.sessions import UNSET, Unset
from bankconnect_async.retry import RetryPolicy

from .rate_shares import LeasedLimiter
from .sealing import SealError, public_key, seal, unseal


Rows: TypeAlias = list[tuple[int, Item]]

# Without a visit for that long, whoever sent the shards is gone.
_EXPIRY: Final = 30.0
# Another worker may still be at a shard that the scheduler gave to us. A
# longer wait would keep a place from shards that can be worked on.
_LOCK_POLL: Final = 0.25
_LOCK_TIMEOUT: Final = 2.0
# Where files cannot be locked, a second file changes while a shard is written.
_BEAT_INTERVAL: Final = 1.0
_BEAT_TIMEOUT: Final = 5.0
_SECRETS: Final = {
    "api_key": "BANKCONNECT_API_KEY",
    "server_hash": "BANKCONNECT_SERVER_HASH",
}


@attrs.frozen(kw_only=True)
class JobSpec:
    """
    What all workers of a batch have to know; no secrets.

    Attributes:
        run: Name of the batch.
        api: What records call the API; `None`: as the client does.
        concurrency: Requests in flight at most, in one process.
        deadline: Seconds for one item.
        settings: Of the client, beside those of the worker's environment.
        directory: The directory for shards, which belongs to one journal.
        is_paced: Whether nothing may be sent without a share of a rate.
    """

    run: str
    api: str | None
    concurrency: int
    deadline: float
    settings: Mapping[str, Any]
    directory: str = ""
    is_paced: bool = False


@attrs.frozen(kw_only=True)
class Directive:
    """
    What is wanted of all stations at present.

    Attributes:
        rate: The share of a rate limit that this process may use.
        rate_end: The time on the clock of the process when the share expires.
        drain: Send nothing more.
        abort: Give up what is in flight, too.
        abort_cause: What came of a request after which there may be no other.
        ignore_interrupts: Ctrl-C is for the process that started this one.
    """

    rate: float | None = None
    rate_end: float = 0.0
    drain: bool = False
    abort: bool = False
    abort_cause: BankConnectError | None = None
    ignore_interrupts: bool = False


@attrs.frozen(kw_only=True)
class Shard:
    """
    Some rows, which only one process can read, and where outcomes go.

    Attributes:
        number: From 0.
        path: Of its journal, which exists.
    """

    number: int
    path: str
    _rows: bytes = attrs.field(alias="rows", repr=False)

    @classmethod
    def pack(
        cls, number: int, path: str, rows: Rows, recipient: bytes
    ) -> "Shard":
        """Encrypt rows, each with its line, for a process's public key."""
        sealed = seal(pickle.dumps(rows), recipient)
        return cls(number=number, path=path, rows=sealed)

    def unpack(self) -> Rows:
        """
        Return the rows, each with its line.

        Raises:
            SealError: If they were encrypted for another process.
        """
        rows: Rows = pickle.loads(  # noqa: S301 - we packed them
            unseal(self._rows)
        )
        return rows


@attrs.frozen(kw_only=True)
class Result:
    """
    What became of a shard, beside what its journal says.

    Attributes:
        where: Address of the worker.
        left: Rows without an outcome.
        is_missing: Its journal was not to be found.
        is_locked: Whether another process still writes to its journal.
        is_foreign: Whether it was encrypted for another process.
        abort_cause: What came of a request after which there may be no other.
        error: Why it could not be done.
    """

    where: str = ""
    left: int = 0
    is_missing: bool = False
    is_locked: bool = False
    is_foreign: bool = False
    abort_cause: BankConnectError | None = None
    error: BankConnectError | None = None


@attrs.frozen(kw_only=True)
class Heartbeat:
    """
    What a runner does at present.

    Attributes:
        api: What its client calls the API.
        redirect_url: Of its client, as it would be for a customer ``-``.
        created, failures: By the number of each shard that it works on.
        in_flight, retries, rate, limit, pause: As in `BatchStats`.
        secrets: A digest of the API key and the server hash, which is
            different in each run.
        clock: The time on the clock of this process.
        key: The public key that shards are encrypted for.
    """

    api: str
    redirect_url: str | None | Unset
    created: Mapping[int, int]
    failures: Mapping[int, Mapping[str, int]]
    in_flight: int
    retries: int
    rate: float
    limit: float | None
    pause: float
    secrets: str
    clock: float
    key: bytes

    def agrees_with(self, other: "Heartbeat") -> bool:
        """Tell whether both ask the same API for the same."""
        return (self.api, self.redirect_url) == (other.api, other.redirect_url)


class WorkerRunner:
    """
    One worker process at work for one batch.

    Raises:
        ConfigurationError: If the environment makes no client.
    """

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec
        self._bank = AsyncBankConnect.from_env(**spec.settings)
        policy = spec.settings.get("retry", RetryPolicy())
        self._retry = attrs.evolve(policy, deadline=spec.deadline)
        # What is learned about the server outlives each shard.
        self._limiter = (
            LeasedLimiter(SYSTEM_CLOCK.monotonic) if spec.is_paced else None
        )
        self._queue = SendQueue(
            SYSTEM_CLOCK,
            limiter=self._limiter,
            max_pause=spec.deadline,
        )
        # Shared by the shards that are worked on at the same time: the next
        # one fills the places that the last rows of another leave free.
        self._slots = asyncio.Semaphore(spec.concurrency)
        self._running: dict[
            int, tuple[Journal, SessionBatch, asyncio.Task[Any]]
        ] = {}
        self._tasks: set[asyncio.Task[Result]] = set()
        self._directive = Directive()
        self._shutdown: asyncio.Future[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self.renew()

    @property
    def api(self) -> str:
        """What records call the API."""
        return self._spec.api or self._bank.api

    def renew(self) -> None:
        """Go on for a while, as somebody asked for it."""
        if self._expiry is not None:
            self._expiry.cancel()
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(_EXPIRY, self.expire)

    def apply(self, directive: Directive) -> None:
        """Do as is wanted from now on."""
        giving_up = directive.abort and not self._directive.abort
        # One that was long on its way takes nothing back.
        self._directive = attrs.evolve(
            directive,
            drain=directive.drain or self._directive.drain,
            abort=directive.abort or self._directive.abort,
        )
        if self._limiter is not None and directive.rate is not None:
            self._limiter.renew(directive.rate, directive.rate_end)
        if (
            directive.abort_cause is not None
            and self._queue.abort_cause is None
        ):
            self._queue.abort(directive.abort_cause)
        if directive.drain:
            self._drain()
        if giving_up:
            # Once, and only those that create: who closes a journal must not
            # leave it locked, as the sender takes over what it has.
            for _, _, task in self._running.values():
                task.cancel()

    def status(self) -> Heartbeat:
        """Tell what is going on."""
        stats = {
            number: batch.stats()
            for number, (_, batch, _) in self._running.items()
        }
        pace, now = self._queue.pace, SYSTEM_CLOCK.monotonic()
        some = next(iter(stats.values()), None)
        return Heartbeat(
            api=self.api,
            redirect_url=self._plain_redirect_url(),
            created={
                number: journal.created
                for number, (journal, _, _) in self._running.items()
            },
            failures={number: each.failures for number, each in stats.items()},
            in_flight=sum(each.in_flight for each in stats.values()),
            retries=self._queue.retries,
            # They have one pace.
            rate=0.0 if some is None else some.rate,
            limit=pace.rate(now),
            pause=pace.pause(now),
            secrets=_digest_secrets(self._spec.run),
            clock=now,
            key=public_key(),
        )

    async def run(self, shard: Shard) -> Result:
        """Work off a shard, as far as that is wanted."""
        # A task of its own, so that giving it up is not what Dask means by
        # cancelling, which would run it once more.
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
        """Close everything, once what is in flight has come to its end."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._drain()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._bank.aclose()

    async def _run(self, shard: Shard) -> Result:
        try:
            rows = shard.unpack()
        except SealError:
            return Result(is_foreign=True, left=1)
        journal = Journal(
            shard.path, api=self.api, line_of=lambda at: todo[at][0]
        )
        todo: Rows = []
        beat: asyncio.Task[None] | None = None
        try:
            try:
                if not await self._lock(journal):
                    is_locked = not self._directive.drain
                    return Result(is_locked=is_locked, left=len(rows))
                if not journal.is_locked:
                    beat = asyncio.create_task(_beat(shard.path))
                # What another worker has created, before it was killed.
                done = await run_in_thread(_created, shard.path)
                todo += [row for row in rows if _link_id(row[1]) not in done]
                return await self._create(shard.number, journal, todo)
            finally:
                # What this raises tells where records are.
                try:
                    await finish_in_thread(journal.close)
                finally:
                    if beat is not None:
                        beat.cancel()
                        await asyncio.wait([beat])
        except FileNotFoundError:
            return Result(is_missing=True, left=len(rows))
        except BankConnectError as error:
            return Result(error=error, left=len(rows))

    async def _lock(self, journal: Journal) -> bool:
        until = SYSTEM_CLOCK.monotonic() + _LOCK_TIMEOUT
        while True:
            if not await is_beating(journal.path) and await run_in_thread(
                _open, journal
            ):
                return True
            if self._directive.drain or SYSTEM_CLOCK.monotonic() >= until:
                return False
            await asyncio.sleep(_LOCK_POLL)

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

        batch = SessionBatch(
            self._bank.creator,
            items(),
            BatchOptions(
                api=self._bank.api,
                concurrency=self._spec.concurrency,
                retry=self._retry,
                clock=SYSTEM_CLOCK,
                journal=journal,
            ),
            capacity=self._bank,
            send_queue=self._queue,
        )
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is a coroutine
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

    def uses(self, directory: str) -> bool:
        """Tell whether its shards are in that directory."""
        return self._spec.directory == directory

    def expire(self) -> None:
        """End it, as nobody will ask for it any more."""
        _runners.pop(self._spec.run, None)
        self._shutdown = asyncio.ensure_future(self.shut_down())

    def _plain_redirect_url(self) -> str | None | Unset:
        try:
            url = self._bank.resolve("-").redirect_url
        except InvalidRequestError:
            return UNSET
        return without_state(url, "-") if isinstance(url, str) else url


#: The name of the message for a visit, among those of Dask.
HEARTBEAT: Final = "bankconnect_heartbeat"

# Of this process, by the name of the batch.
_runners: Final[dict[str, WorkerRunner]] = {}


async def register(
    spec: bytes, directive: bytes, dask_worker: Any = None
) -> dict[str, Any]:
    """
    Begin to take part in a batch, unless this process cannot.

    Later visits come as messages of our own, since a worker logs each
    function that it is asked to run.

    Args:
        spec: Pickled, as messages are.
        directive: Pickled, too.
        dask_worker: The worker, which Dask passes in.
    """
    try:
        public_key()
    except ImportError:
        return {"problem": "has no cryptography"}
    parsed: JobSpec = pickle.loads(spec)  # noqa: S301 - we packed it
    for run, runner in list(_runners.items()):
        if runner.uses(parsed.directory) and run != parsed.run:
            # The run that began it was killed: we have its journal.
            runner.expire()
    dask_worker.handlers[HEARTBEAT] = heartbeat_message
    return await heartbeat_message(spec, directive)


async def heartbeat_message(spec: bytes, directive: bytes) -> dict[str, Any]:
    """Tell a runner what is wanted, and return what it does, pickled."""
    answer = await heartbeat(
        pickle.loads(spec),  # noqa: S301 - we packed it
        pickle.loads(directive),  # noqa: S301
    )
    return {"answer": pickle.dumps(answer)}


async def heartbeat(
    spec: JobSpec, directive: Directive
) -> Heartbeat | BankConnectError:
    """Tell a runner what is wanted, and ask what it does."""
    if directive.ignore_interrupts:
        # Not where the worker is a thread, and not all systems have SIGHUP.
        for name in "SIGINT", "SIGHUP":
            with suppress(ValueError, AttributeError):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
    try:
        runner = _get_runner(spec, directive)
    except BankConnectError as error:
        return error
    runner.renew()
    runner.apply(directive)
    return runner.status()


async def run_shard(
    spec: JobSpec, directive: Directive, shard: Shard
) -> Result:
    """Work off a shard in this process, or go on with it."""
    try:
        runner = _get_runner(spec, directive)
    except BankConnectError as error:
        result = Result(error=error)
    else:
        result = await runner.run(shard)
    return attrs.evolve(result, where=_where())


async def shut_down(run: str) -> None:
    """Close the runner of a batch."""
    runner = _runners.pop(run, None)
    if runner is not None:
        await runner.shut_down()


def _get_runner(spec: JobSpec, directive: Directive) -> WorkerRunner:
    runner = _runners.get(spec.run)
    if runner is None:
        _runners[spec.run] = runner = WorkerRunner(spec)
        # It may be an old one, where a shard was given to a second worker.
        runner.apply(directive)
    return runner


def _where() -> str:
    from distributed import get_worker  # noqa: PLC0415 - an extra

    return str(get_worker().address)


def _open(journal: Journal) -> bool:
    # The sender has made the file, and removes it when all is done: who wakes
    # up after that has nothing to do any more.
    os.stat(journal.path)  # noqa: PTH116
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
    # Where the client has them from, too.
    found = read_environment(os.environ, _SECRETS)
    text = "\0".join(found.get(name, "") for name in _SECRETS)
    return hmac.new(salt.encode(), text.encode(), hashlib.sha256).hexdigest()


async def _beat(path: str) -> None:
    # Begin with another text than the last writer ended with.
    text = os.urandom(4).hex()
    count = 0
    try:
        while True:
            await run_in_thread(_write, beat_of(path), f"{text}-{count}")
            count += 1
            await asyncio.sleep(_BEAT_INTERVAL)
    finally:
        await finish_in_thread(_unlink, beat_of(path))


async def is_beating(path: str) -> bool:
    """
    Tell whether a process writes to a shard's journal without a lock.

    A process that stopped changing its second file for some seconds was
    killed.
    """
    first = await run_in_thread(_read, beat_of(path))
    until = SYSTEM_CLOCK.monotonic() + _BEAT_TIMEOUT
    text = first
    while text is not None and text == first:
        if SYSTEM_CLOCK.monotonic() >= until:
            return False
        await asyncio.sleep(_LOCK_POLL)
        text = await run_in_thread(_read, beat_of(path))
    return text is not None


def beat_of(path: str) -> str:
    """Name the file that changes while a shard is written without a lock."""
    return f"{path}.alive"


def _write(path: str, text: str) -> None:
    # Without it, a run that starts now would wait for nobody, no more.
    with suppress(OSError), open(path, "w") as file:  # noqa: PTH123
        file.write(text)


def _read(path: str) -> str | None:
    try:
        with open(path) as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return None


def _unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)  # noqa: PTH108
