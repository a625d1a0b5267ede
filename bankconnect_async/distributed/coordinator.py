"""
A batch on many machines, with Dask's ``distributed`` (extra ``[dask]``).

Nothing of Dask is imported before a batch runs.
"""

import asyncio
import os
import platform
import re
import secrets

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Unpack
from urllib.parse import unquote

import attrs

from yarl import URL

from bankconnect_async._threads import finish_in_thread, run_in_thread
from bankconnect_async.arguments import WorkerSettings
from bankconnect_async.batch.outcomes import Source
from bankconnect_async.batch.session_batch import check_number
from bankconnect_async.config import read_environment
from bankconnect_async.errors import (
    BatchStoppedError,
    ConfigurationError,
    JournalError,
    JournalLockedError,
)
from bankconnect_async.journal.journal import Journal
from bankconnect_async.stats import BatchStats

from .messages import Assignment, Result, Rows
from .monitor import (
    HEARTBEAT_INTERVAL,
    RESUME,
    TIMEOUT,
    SchedulerLostError,
    WorkerLink,
    reporting_to,
)
from .shard_files import (
    LOCK_POLL,
    ShardDirectory,
    refuse_if_beating,
    remove_journal,
)
from .worker_batch import ABORT_TIMEOUT, PathLike, WorkerBatch


if TYPE_CHECKING:
    from distributed import Security

    from .cluster import Cluster


__all__ = ["DistributedBatch", "create_sessions_distributed"]

_LOCAL: Final = "local"
_SMALLEST_SHARD: Final = 50
# How many workers may die at a shard without any progress.
_DEATHS: Final = 3
# How often workers may leave a shard undone.
_ATTEMPTS: Final = 10
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
    journal: Journal | PathLike,
    journal_dir: PathLike | None = None,
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
class DistributedBatch(WorkerBatch):
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

    _cluster: str = attrs.field(alias="cluster")
    _journal_dir: PathLike | None = attrs.field(
        alias="journal_dir", default=None
    )
    _shard_size: int = attrs.field(alias="shard_size", default=500)
    _store: str | None = attrs.field(alias="store", default=None)
    _security: "Security | None" = attrs.field(alias="security", default=None)

    def __attrs_post_init__(self) -> None:
        check_number("shard_size", self._shard_size, int)
        super().__attrs_post_init__()
        settings = read_environment(os.environ, _VARIABLES) | dict(
            self._settings
        )
        if self._store is not None:
            settings["store"] = _check_store(self._store)
        path = Path(self._journal_dir or f"{self.journal.path}.shards")
        self._spec = self._make_spec(
            run=secrets.token_hex(6),
            settings=settings,
            machine=platform.node(),
            directory=str(path.absolute()),
        )
        self._directory = ShardDirectory(path.absolute(), self._spec.run)
        self._monitor.update(ignore_interrupts=self._cluster == _LOCAL)
        self._losses: list[str] = []
        self._unmerged: list[str] = []
        self._shards: set[asyncio.Task[None]] = set()
        self._open: set[int] = set()
        self._number = 0

    def _count(self) -> tuple[int, Counter[str]]:
        created, failures = self._created, Counter(self._failures)
        for each in self._workers.heartbeats.values():
            for number in self._open.intersection(each.created):
                created += each.created[number]
                failures.update(each.failures[number])
        return created, failures

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[WorkerLink]:
        try:
            from .cluster import connect  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as exc:
            raise ConfigurationError(
                f"{exc.name} is not installed: "
                f"pip install 'bankconnect-async[dask]'"
            ) from None
        async with connect(
            self._cluster, self._spec, self._security
        ) as cluster:
            self._cluster_link = cluster
            yield cluster

    def _describe_silence(self) -> ConfigurationError:
        silent = ", ".join(sorted(self._workers.silent))
        problem = (
            f"its workers do not answer: {silent}"
            if silent
            else "has no workers: start some"
        )
        return ConfigurationError(fields={"cluster": (problem,)})

    async def _process(self) -> None:
        await self._merge_leftovers()
        self._start()
        if self._is_draining:
            return
        try:
            await self._create_all()
        finally:
            for task in self._shards:
                task.cancel()
            if self._shards:
                await asyncio.wait(self._shards)
            if self._error is not None:
                await self._merge_saved()
            await finish_in_thread(self._directory.remove_if_empty)

    async def _finish(self) -> None:
        while self._shards:
            await asyncio.wait(self._shards)

    async def _dispatch(self) -> None:
        cluster = self._cluster_link
        with reporting_to(self._fail):
            async with aclosing(self._cut_shards()) as shards:
                async for rows in shards:
                    await self._assign(rows, cluster)

    async def _cut_shards(self) -> AsyncGenerator[Rows, None]:
        rows: Rows = []
        async with aclosing(self._rows()) as items:
            async for row in items:
                rows.append(row)
                if len(rows) >= self._next_size():
                    yield rows
                    rows = []
        if rows:
            yield rows

    def _next_size(self) -> int:
        # Small at first, so that a small batch is spread over all workers.
        begun = self._number // (2 * max(len(self._workers.heartbeats), 1))
        return min(_SMALLEST_SHARD * (1 + begun), self._shard_size)

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
        number = self._number
        self._number += 1
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
                timeout = ABORT_TIMEOUT
            except SchedulerLostError:
                timeout = ABORT_TIMEOUT
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
        self._note_abort(result.abort_cause)
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
        super()._fail(error)

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
    except (ValueError, IndexError):
        # A password that is not escaped, or a port that is no number.
        return "@" in address
