"""
A batch on many machines, with Dask's ``distributed`` (extra ``[dask]``).

Nothing of Dask is imported before a batch runs.
"""

import asyncio
import logging
import os
import platform
import re
import secrets

from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Mapping,
)
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, Unpack
from urllib.parse import unquote

import attrs

from yarl import URL

from bankconnect_async._hooks import HookRunner, was_cancelled
from bankconnect_async._resources.session_creation import RequestPreparer
from bankconnect_async._threads import finish_in_thread, run_in_thread
from bankconnect_async.arguments import WorkerSettings
from bankconnect_async.batch.item_source import (
    check_source,
    source_error,
)
from bankconnect_async.batch.outcomes import (
    Failed,
    Item,
    Source,
    batch_stopped_error,
)
from bankconnect_async.batch.session_batch import check_number
from bankconnect_async.config import SECRET_SETTINGS, read_environment
from bankconnect_async.errors import (
    BankConnectError,
    BatchStoppedError,
    ConfigurationError,
    JournalError,
    JournalLockedError,
)
from bankconnect_async.journal.journal import Journal
from bankconnect_async.models.sessions import Unset
from bankconnect_async.stats import BatchStats

from .messages import Assignment, Heartbeat, JobSpec, Result, Rows
from .monitor import (
    HEARTBEAT_INTERVAL,
    RESUME,
    TIMEOUT,
    ClusterMonitor,
    SchedulerLostError,
    reporting_to,
)
from .shard_files import (
    LOCK_POLL,
    ShardDirectory,
    refuse_if_beating,
    remove_journal,
)
from .worker_pool import WorkerPool


if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from distributed import Security

    from .cluster import Cluster


_log = logging.getLogger("bankconnect_async")

__all__ = ["DistributedBatch", "create_sessions_distributed"]

_Path: TypeAlias = str | os.PathLike[str]

_LOCAL: Final = "local"
_SMALLEST_SHARD: Final = 50
_ABORT_TIMEOUT: Final = 20.0
# How long workers that have not answered yet are waited for, once another one
# has answered.
_GRACE: Final = 1.0
# How many workers may die at a shard without any progress.
_DEATHS: Final = 3
# How often workers may leave a shard undone.
_ATTEMPTS: Final = 10
# How many items are taken from a source before other tasks have their turn.
_BLOCK: Final = 64
_SETTINGS: Final = frozenset(
    {
        "base_url",
        "version",
        "redirect_url",
        "allow_http",
        "encoding",
        "retry",
        "timeouts",
        "pool",
    }
)
_VARIABLES: Final = {
    "base_url": "BANKCONNECT_BASE_URL",
    "version": "BANKCONNECT_API_VERSION",
    "redirect_url": "BANKCONNECT_REDIRECT_URL",
}


def create_sessions_distributed(  # noqa: PLR0913
    source: Source,
    /,
    *,
    cluster: str,
    journal: Journal | _Path,
    journal_dir: _Path | None = None,
    concurrency: int = 64,
    rate: float | None = None,
    shard_size: int = 500,
    deadline: float = 120.0,
    scope: str = "",
    store: str | None = None,
    on_progress: Callable[[BatchStats], None] | None = None,
    security: "Security | None" = None,
    **settings: Unpack[WorkerSettings],
) -> "DistributedBatch":
    """
    Create sessions for many customers, on all workers of a Dask cluster.

    ::

        stats = await create_sessions_distributed(
            link_ids, cluster="tcp://scheduler:8786", journal="out.jsonl"
        )
        for record in read_journal("out.jsonl"): ...

    Outcomes go to *journal*, not through this process's memory. Rows travel
    in shards; each has a journal of its own in *journal_dir*, which is merged
    into *journal* when the shard is done. If a worker dies, its shard
    resumes on another one. Running the same batch again resumes it, too:
    inputs that have a session are skipped, failed ones are tried again.

    Rows are encrypted for the worker that gets them, so the scheduler and the
    logs cannot show them. A worker without this package and `cryptography`,
    or with another version of it, is named in a warning and gets no rows.

    Every worker makes its client from its own `BANKCONNECT_*` environment:
    secrets come from there, and from nowhere else. Workers with two threads
    or more are used best, as a shard can begin while another one ends.

    Workers share what they learn about the server: a `Retry-After` pause
    after a 429 holds for all, and a limit that some have found is split among
    those that have rows. If the server refuses the key or asks for payment,
    the batch ends on all workers, as in `AsyncBankConnect.create_sessions`.

    Args:
        source: The requests or bare link ids, sync or async; read as needed.
        cluster: The address of the scheduler; ``local`` for worker processes
            on this machine, one for each core, that live as long as the
            batch.
        journal: The journal for the outcome of every input.
        journal_dir: The directory for shards, on storage that all workers
            and this process share; by default *journal* with ``.shards``
            behind. One that belongs to another journal is refused.
        concurrency: The most requests in flight in each worker process.
        rate: The requests per second of all workers together. Workers that
            answer share it; one that is silent for 5 seconds sends nothing
            more, and the others get its share.
        shard_size: The most rows of a shard; the first ones are smaller.
        deadline: The seconds for one item, its retries included.
        scope: The campaign or loan, for the store.
        store: The address of the workers' store of sessions, without a
            password; by default what each has in `BANKCONNECT_STORE`. On
            several machines it has to be PostgreSQL.
        on_progress: A callback for the `BatchStats`, called every second and
            at the end. What it raises is logged and ignored.
        security: The certificates for the connection to the cluster.
        **settings: The settings of the workers' clients, beside their
            environment: `base_url`, `version`, `redirect_url` (else those of
            this process's environment, if it has them), `allow_http`,
            `encoding`, `retry`, `timeouts`, `pool`.

    Returns:
        An awaitable of the final `BatchStats`.

    Raises:
        ConfigurationError: If an argument makes no sense. Awaiting it raises
            one if there is no cluster, or no client on a worker.
    """
    return DistributedBatch(
        source=source,
        cluster=cluster,
        journal=journal if isinstance(journal, Journal) else Journal(journal),
        journal_dir=journal_dir,
        concurrency=concurrency,
        rate=rate,
        shard_size=shard_size,
        deadline=deadline,
        scope=scope,
        store=store,
        on_progress=on_progress,
        security=security,
        settings=settings,
    )


@attrs.define(kw_only=True, eq=False, repr=False, slots=False)
class DistributedBatch:
    """
    A batch that `create_sessions_distributed` runs when it is awaited.

    Cancelling it gives up what is in flight, recorded as possibly created;
    `drain` ends it gently. The arguments are those of that function, except:

    Args:
        settings: The client settings of the workers.
        on_ready: A callback for the redirect URL of the workers, called
            before anything is read.
        on_warning: A callback for the reason why a worker gets no rows.

    Attributes:
        journal: The journal of all outcomes.
    """

    journal: Journal
    _source: Source = attrs.field(
        alias="source", validator=lambda _, __, it: check_source(it)
    )
    _cluster: str = attrs.field(alias="cluster")
    _settings: Mapping[str, Any] = attrs.field(alias="settings")
    _journal_dir: _Path | None = attrs.field(alias="journal_dir", default=None)
    _concurrency: int = attrs.field(alias="concurrency", default=64)
    _rate: float | None = attrs.field(alias="rate", default=None)
    _shard_size: int = attrs.field(alias="shard_size", default=500)
    _deadline: float = attrs.field(alias="deadline", default=120.0)
    _scope: str = attrs.field(alias="scope", default="")
    _store: str | None = attrs.field(alias="store", default=None)
    _on_progress: Callable[[BatchStats], None] | None = attrs.field(
        alias="on_progress", default=None
    )
    _security: "Security | None" = attrs.field(alias="security", default=None)
    _on_ready: Callable[[str | None | Unset], None] | None = attrs.field(
        alias="on_ready", default=None
    )
    _on_warning: Callable[[str], None] = attrs.field(
        alias="on_warning", default=_log.warning
    )

    def __attrs_post_init__(self) -> None:
        check_number("concurrency", self._concurrency, int)
        check_number("shard_size", self._shard_size, int)
        check_number("deadline", self._deadline, (int, float))
        if self._rate is not None:
            check_number("rate", self._rate, (int, float))
        _check_settings(self._settings)
        settings = read_environment(os.environ, _VARIABLES) | dict(
            self._settings
        )
        if self._store is not None:
            settings["store"] = _check_store(self._store)
        path = Path(self._journal_dir or f"{self.journal.path}.shards")
        self._spec = JobSpec(
            run=secrets.token_hex(6),
            api=self.journal.given_api,
            concurrency=self._concurrency,
            deadline=self._deadline,
            settings=settings,
            scope=self._scope,
            machine=platform.node(),
            directory=str(path.absolute()),
            is_paced=self._rate is not None,
        )
        self._directory = ShardDirectory(path.absolute(), self._spec.run)
        self._hooks = HookRunner()
        self._workers = WorkerPool()
        self._monitor = ClusterMonitor(
            self._workers,
            rate=self._rate,
            on_error=self._fail,
            on_warning=self._on_warning,
        )
        self._monitor.update(ignore_interrupts=self._cluster == _LOCAL)
        self._error: Exception | None = None
        self._losses: list[str] = []
        self._unmerged: list[str] = []
        self._is_awaited = False
        self._shards: set[asyncio.Task[None]] = set()
        self._open: set[int] = set()
        self._dispatcher: asyncio.Task[None] | None = None
        self._taken = self._created = self._skipped = self._count = 0
        self._failures: Counter[str] = Counter()
        self._began: float | None = None

    @property
    def abort_cause(self) -> BankConnectError | None:
        """The error that aborted the batch, if any."""
        return self._monitor.directive.abort_cause

    def stats(self) -> BatchStats:
        """
        Return the progress of all workers, a second old at most.
        """
        now = asyncio.get_running_loop().time()
        heartbeats = self._workers.heartbeats.values()
        created, failures = self._created, Counter(self._failures)
        for each in heartbeats:
            for number in self._open.intersection(each.created):
                created += each.created[number]
                failures.update(each.failures[number])
        limits = [each.limit for each in heartbeats if each.limit is not None]
        is_limited = limits and len(limits) == len(heartbeats)
        return BatchStats(
            taken=self._taken,
            created=created,
            failures=dict(failures),
            skipped=self._skipped,
            in_flight=sum(each.in_flight for each in heartbeats),
            retries=self._workers.retries,
            seconds=0.0 if self._began is None else now - self._began,
            rate=sum(each.rate for each in heartbeats),
            limit=sum(limits) if is_limited else None,
            pause=min((each.pause for each in heartbeats), default=0.0),
            is_probing=bool(heartbeats)
            and all(each.is_probing for each in heartbeats),
        )

    def drain(self) -> None:
        """
        Take no more items, and finish those in flight.
        """
        self._monitor.update(drain=True)
        if self._dispatcher is not None:
            self._dispatcher.cancel()

    @property
    def _is_draining(self) -> bool:
        return self._monitor.directive.drain

    def __await__(self) -> Generator[Any, None, BatchStats]:
        return self._run().__await__()

    async def _run(self) -> BatchStats:
        if self._is_awaited:
            raise RuntimeError("a batch can be awaited only once")
        self._is_awaited = True
        async with AsyncExitStack() as stack:
            cluster = await stack.enter_async_context(self._connect())
            await stack.enter_async_context(self._monitor.following(cluster))
            worker = await self._wait_for_worker()
            if worker is None:
                return self.stats()
            self._preparer = RequestPreparer(worker.redirect_url)
            if self._on_ready is not None:
                self._on_ready(worker.redirect_url)
            await stack.enter_async_context(
                self.journal.opened_for(worker.api)
            )
            if not self.journal.is_resumable:
                raise ConfigurationError(
                    fields={"journal": ("must be a file for such a batch",)}
                )
            await self._merge_leftovers()
            self._began = asyncio.get_running_loop().time()
            await self._process(cluster)
            await self._monitor.beat_all(cluster)
            stats = self.stats()
        self._report_progress(stats)
        if self._error is not None:
            raise self._explain(self._error)
        return stats

    def _connect(self) -> "AbstractAsyncContextManager[Cluster]":
        try:
            from .cluster import connect  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as exc:
            raise ConfigurationError(
                f"{exc.name} is not installed: "
                f"pip install 'bankconnect-async[dask]'"
            ) from None
        return connect(self._cluster, self._spec, self._security)

    async def _wait_for_worker(self) -> Heartbeat | None:
        """Return the first heartbeat, once all workers had time to answer."""
        loop, workers = asyncio.get_running_loop(), self._workers
        until = grace = loop.time() + TIMEOUT
        while not self._is_draining:
            now = loop.time()
            if workers.heartbeats:
                grace = min(grace, now + _GRACE)
                if not workers.silent or now >= grace:
                    return next(iter(workers.heartbeats.values()))
            elif workers.unfit and not workers.silent:
                raise ConfigurationError(
                    "no worker can take part: "
                    + "; ".join(workers.unfit.values())
                )
            if now > until:
                silent = ", ".join(sorted(workers.silent))
                problem = (
                    f"its workers do not answer: {silent}"
                    if silent
                    else "has no workers: start some"
                )
                raise ConfigurationError(fields={"cluster": (problem,)})
            await workers.wait(0.1)
        if self._error is not None:
            raise self._error
        return None

    async def _process(self, cluster: "Cluster") -> None:
        if self._is_draining:
            return
        self._dispatcher = asyncio.create_task(self._dispatch(cluster))
        reporter = asyncio.create_task(self._keep_reporting())
        try:
            await asyncio.wait([self._dispatcher])
            self._monitor.is_dispatching = False
            self._monitor.beat_now()
            while self._shards:
                await asyncio.wait(self._shards)
        except asyncio.CancelledError:
            self._monitor.update(abort=True)
            self.drain()
            if self._shards:
                await asyncio.wait(self._shards, timeout=_ABORT_TIMEOUT)
            raise
        finally:
            reporter.cancel()
            for task in self._shards:
                task.cancel()
            await asyncio.wait([reporter, self._dispatcher, *self._shards])
            if self._error is not None:
                await self._merge_saved()
            await finish_in_thread(self._directory.remove_if_empty)

    async def _keep_reporting(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_INTERVAL)
            self._report_progress(self.stats())

    def _report_progress(self, stats: BatchStats) -> None:
        if self._on_progress is not None:
            self._hooks.run("on_progress", self._on_progress, stats)

    async def _dispatch(self, cluster: "Cluster") -> None:
        with reporting_to(self._fail):
            async with aclosing(self._cut_shards()) as shards:
                async for rows in shards:
                    await self._assign(rows, cluster)

    async def _cut_shards(self) -> AsyncGenerator[Rows, None]:
        rows: Rows = []
        async with aclosing(self._items()) as items:
            async for item in items:
                line = self._begin(item)
                if line is not None:
                    rows.append((line, item))
                if len(rows) >= self._next_size():
                    yield rows
                    rows = []
        if rows:
            yield rows

    async def _items(self) -> AsyncGenerator[Item, None]:
        # If the source fails, the items that it gave before still count.
        try:
            async with AsyncExitStack() as stack:
                items = _iterate(self._source)
                if isinstance(items, AsyncGenerator):
                    await stack.enter_async_context(aclosing(items))
                async for item in items:
                    yield item
        except asyncio.CancelledError as exc:
            if was_cancelled():
                raise
            self._error = self._error or source_error(exc)
        except Exception as exc:  # noqa: BLE001 - it is the caller's
            self._error = self._error or exc

    def _next_size(self) -> int:
        # Small at first, so that a small batch is spread over all workers.
        begun = self._count // (2 * max(len(self._workers.heartbeats), 1))
        return min(_SMALLEST_SHARD * (1 + begun), self._shard_size)

    def _begin(self, item: Item) -> int | None:
        index, request = self._taken, None
        self._taken += 1
        try:
            request = self._preparer.resolve(item)
            if self.abort_cause is not None:
                raise batch_stopped_error(self.abort_cause)
            if self.journal.begin(index, request):
                return self.journal.release(index)
        except JournalError:
            raise
        except BankConnectError as error:
            self.journal.record(
                Failed(index=index, item=item, request=request, error=error)
            )
            self._failures[type(error).__name__] += 1
        else:
            self._skipped += 1
        return None

    async def _pick_worker(self, *, is_urgent: bool = False) -> str:
        """Wait for a worker that can take one more shard."""
        until: float | None = None
        loop, workers = asyncio.get_running_loop(), self._workers
        while True:
            found = workers.pick(self._monitor.most, is_urgent=is_urgent)
            if found is not None:
                return found
            if workers.heartbeats:
                until = None
            elif until is None:
                until = loop.time() + TIMEOUT
            elif loop.time() > until:
                raise BatchStoppedError(
                    f"not done: no worker is left, and no other one came for "
                    f"{TIMEOUT:.0f} seconds: start some, and {RESUME}"
                )
            await workers.wait(HEARTBEAT_INTERVAL)
            if is_urgent and self._is_draining:
                raise _DrainedError

    async def _assign(self, rows: Rows, cluster: "Cluster") -> None:
        address = await self._pick_worker()
        number = self._count
        self._count += 1
        path = self._directory.journal_of(number)
        try:
            await run_in_thread(self._directory.create, path)
        except asyncio.CancelledError:
            await finish_in_thread(remove_journal, str(path))
            raise
        self._open.add(number)
        self._workers.busy[address] += 1
        shard = Assignment(
            number=number, path=str(path), rows=rows, address=address
        )
        task = asyncio.create_task(self._run_shard(shard, cluster))
        self._shards.add(task)
        task.add_done_callback(self._shards.discard)

    async def _run_shard(self, shard: Assignment, cluster: "Cluster") -> None:
        # If the worker was killed just after the end of the shard, another one
        # runs it again and finds little to do. A failed shard may run for
        # long, and is left to the next run of the batch.
        timeout = 0.0
        with reporting_to(self._fail):
            try:
                await self._complete(shard, cluster)
                timeout = TIMEOUT
            except _DrainedError:
                timeout = _ABORT_TIMEOUT
            except SchedulerLostError:
                timeout = _ABORT_TIMEOUT
                raise
        if shard.address in self._workers.given_up:
            timeout = 0.0
        with reporting_to(self._fail):
            try:
                now = asyncio.get_running_loop().time()
                await self._merge(shard.path, now + timeout)
            except Exception:
                self._unmerged.append(shard.path)
                raise
        self._open.discard(shard.number)
        self._workers.release(shard.address)

    async def _complete(self, shard: Assignment, cluster: "Cluster") -> None:
        """Run a shard on one worker after the other, until it is done."""
        deaths = left = 0
        progress, locked_until = await self._progress(), None
        loop = asyncio.get_running_loop()
        while True:
            if left >= _ATTEMPTS:
                raise BatchStoppedError(
                    f"not done: workers left a shard again and again: {RESUME}"
                )
            result = await self._run_once(shard, cluster)
            shard.attempt += 1
            if result is None or result.is_foreign:
                before, progress = progress, await self._progress()
                deaths = 1 if progress != before else deaths + 1
                if deaths > _DEATHS:
                    raise BatchStoppedError(
                        f"not done: one worker after the other was killed at "
                        f"the same shard: look at their logs, and {RESUME}"
                    )
            elif result.is_locked:
                locked_until = locked_until or loop.time() + TIMEOUT
                if loop.time() > locked_until:
                    raise BatchStoppedError(
                        f"not done: {shard.path} is written by a process "
                        f"that does not answer: end it, and {RESUME}"
                    )
            else:
                await self._check_result(result, shard)
                if not result.left:
                    return
                left += 1
            if self._is_draining:
                raise _DrainedError
            address = await self._pick_worker(is_urgent=True)
            self._workers.release(shard.address)
            self._workers.busy[address] += 1
            shard.address = address

    async def _run_once(
        self, shard: Assignment, cluster: "Cluster"
    ) -> Result | None:
        heartbeat = self._workers.heartbeats.get(shard.address)
        if heartbeat is None:
            return None
        return await cluster.run_shard(
            shard,
            self._monitor.directive,
            key=heartbeat.key,
            lost=self._workers.lost(shard.address),
        )

    async def _progress(self) -> tuple[int, int]:
        # A shard that waits in a worker's queue does not kill it, so progress
        # of any shard counts.
        size = await run_in_thread(self._directory.size, list(self._open))
        return self._created + self._failures.total(), size

    async def _check_result(self, result: Result, shard: Assignment) -> None:
        if result.abort_cause is not None and self.abort_cause is None:
            self._monitor.update(abort_cause=result.abort_cause)
        if result.is_missing:
            if not await run_in_thread(os.path.lexists, shard.path):
                raise JournalError(
                    f"{shard.path}: was removed before anything was sent "
                    f"for its {len(shard.rows)} rows"
                )
            raise ConfigurationError(
                fields={
                    "journal_dir": (
                        f"{self._directory.path}: is not the same on "
                        f"{shard.address}: name one that all workers and "
                        f"this process share",
                    )
                }
            )
        if isinstance(result.error, ConfigurationError):
            raise ConfigurationError(f"worker {shard.address}: {result.error}")
        if result.error is not None:
            raise result.error

    async def _merge(self, path: str, until: float) -> None:
        """Merge a shard's journal, once nobody writes to it any more."""
        found = await self._merge_unlocked(path, until)
        self._created += found.pop("", 0)
        self._failures += found

    async def _merge_unlocked(self, path: str, until: float) -> Counter[str]:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await refuse_if_beating(path)
                async with self.journal.merge(path) as found:
                    await run_in_thread(remove_journal, path)
            except JournalLockedError:
                if self._monitor.directive.abort or loop.time() >= until:
                    raise
                await asyncio.sleep(LOCK_POLL)
            else:
                return found

    async def _merge_leftovers(self) -> None:
        """Merge the shards of earlier runs, without counting them."""
        paths = await run_in_thread(
            self._directory.claim, self.journal.path, self.journal.backup
        )
        # Workers of a run that was killed notice after a while.
        until = asyncio.get_running_loop().time() + TIMEOUT
        for path in paths:
            await self._merge_unlocked(path, until)

    async def _merge_saved(self) -> None:
        """Merge the journals that were saved when they were deleted."""
        self._unmerged = []
        for path in await run_in_thread(self._directory.journals):
            try:
                await self._merge(path, 0.0)
            except JournalError as exc:
                self._unmerged.append(path)
                self._note_loss(exc)

    def _fail(self, error: Exception) -> None:
        # It is raised once everything in flight is finished.
        self._note_loss(error)
        self._error = self._error or error
        self.drain()

    def _note_loss(self, error: Exception) -> None:
        # Each journal tells where its own records are.
        is_loss = isinstance(error, JournalError) and not isinstance(
            error, JournalLockedError
        )
        if is_loss and str(error) not in self._losses:
            self._losses.append(str(error))

    def _explain(self, error: Exception) -> Exception:
        """Add the places of all records to the error of the batch."""
        if not isinstance(error, BatchStoppedError | JournalError):
            return error
        texts = [str(error)]
        texts += [text for text in self._losses if text != texts[0]]
        if self._unmerged:
            texts.append(
                f"these files hold records that {self.journal.path} does not "
                f"have yet, and the same command merges them: "
                + ", ".join(self._unmerged)
            )
        if len(texts) == 1:
            return error
        explained = type(error)("; ".join(texts))
        explained.__cause__ = error
        return explained


class _DrainedError(Exception):
    """
    A shard is left undone, because the batch is draining.
    """


def _iterate(source: Source) -> AsyncIterator[Item]:
    return (
        _yield_all(source) if isinstance(source, Iterable) else aiter(source)
    )


async def _yield_all(source: Iterable[Item]) -> AsyncGenerator[Item, None]:
    for number, item in enumerate(source):
        yield item
        if not number % _BLOCK:
            # A large source must not hold up requests in flight.
            await asyncio.sleep(0)


def _check_store(address: str) -> str:
    if not _has_password(address):
        return address
    # A traceback with locals would show it.
    del address
    raise ConfigurationError(
        fields={
            "store": (
                "has a password: put it into BANKCONNECT_STORE of the workers",
            )
        }
    )


def _has_password(address: str) -> bool:
    # In a query or among the words of a DSN.
    if re.search(r"password\s*=", unquote(address), re.IGNORECASE):
        return True
    try:
        return URL(address).password is not None
    except ValueError:
        # A password that is not escaped, or a port that is no number.
        return "@" in address


def _check_settings(settings: Mapping[str, Any]) -> None:
    fields = {}
    for name in settings.keys() - _SETTINGS:
        fields[name] = (
            "is a secret: it belongs into the environment of the workers"
            if name in SECRET_SETTINGS
            else "is no setting that workers can be sent",
        )
    if not isinstance(settings.get("redirect_url"), str | URL | None):
        # A ReturnURL holds its key.
        fields["redirect_url"] = (
            "must be a text: with BANKCONNECT_SIGNING_KEY in their "
            "environment, workers sign it",
        )
    if fields:
        raise ConfigurationError(fields=fields)
