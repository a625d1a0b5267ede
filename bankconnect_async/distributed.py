"""
A batch on many machines, with Dask's ``distributed`` (extra ``[dask]``).

It is named after that package, and apart from the rest, because nobody else
needs it: nothing of Dask is imported before a batch of it runs.
"""

import asyncio
import logging
import os
import secrets

from collections import Counter
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Mapping,
)
from concurrent import futures
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from yarl import URL

from ._hooks import HookRunner, was_cancelled
from ._stations import (
    Order,
    Result,
    Rows,
    Shard,
    Visit,
    Wish,
    leave,
    run_shard,
    visit,
)
from ._threads import finish_in_thread, run_in_thread
from .batch import (
    Failed,
    Item,
    Source,
    check_number,
    check_source,
    source_cancelled,
    stopped,
)
from .client import AsyncBankConnect
from .errors import (
    BankConnectError,
    BatchStoppedError,
    ConfigurationError,
    JournalError,
    JournalInUseError,
)
from .journal import Journal
from .settings import SECRET_SETTINGS, read_environment
from .stats import BatchStats


if TYPE_CHECKING:
    from distributed import Client, Security


__all__ = ["DistributedBatch", "create_sessions_distributed"]

_Path: TypeAlias = str | os.PathLike[str]

_LOCAL: Final = "local"
# A place to work, a place to begin while the last rows of the first are out,
# and one on its way.
_SHARDS_PER_WORKER: Final = 3
_SMALLEST_SHARD: Final = 50
_VISIT_EVERY: Final = 1.0
_VISIT_TIMEOUT: Final = 10.0
# How long to wait for a first worker, for a locked file, and for what was
# given up.
_PATIENCE: Final = 60.0
_PARTING: Final = 20.0
_LOCKED: Final = 0.25
# How often a shard that was left undone is sent once more.
_ATTEMPTS: Final = 10
_AT_ONCE: Final = 64
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
    on_progress: Callable[[BatchStats], None] | None = None,
    security: "Security | None" = None,
    **settings: Any,
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
    into *journal* when the shard is done. Where a worker is killed, its shard
    goes on elsewhere from there. Doing the same again goes on, too: inputs
    that have a session are passed over, failed ones are tried again.

    Every worker makes its client from its own `BANKCONNECT_*` environment:
    secrets come from there, and from nowhere else. Workers with two threads
    or more are used best, as a shard can begin while another one ends.

    A refusal of the key or of payment stops it on all workers, as it does
    in `AsyncBankConnect.create_sessions`.

    Args:
        source: Requests or bare link ids, sync or async; read as needed.
        cluster: Address of the scheduler; ``local`` for worker processes on
            this machine, one for each core, that live as long as the batch.
        journal: Gets a record of every input.
        journal_dir: Of this journal alone, on storage that all workers and
            this process share; by default *journal* with ``.shards`` behind.
        concurrency: Requests in flight at most, in each worker process.
        rate: New requests per second of all workers together. Each live one
            gets the same part, anew every second.
        shard_size: Rows of a shard at most; the first ones are smaller.
        deadline: Seconds for one item, its retries included.
        on_progress: Called every second, and at the end; what it raises is
            logged and ignored.
        security: Certificates for the connection to the cluster.
        **settings: Of the workers' clients, beside their environment:
            `base_url`, `version`, `redirect_url` (else those of this
            process's environment, if it has them), `allow_http`, `encoding`,
            `retry`, `timeouts`, `pool`.

    Returns:
        What to await; it gives the `BatchStats` of the end.

    Raises:
        ConfigurationError: If an argument makes no sense. Awaiting it raises
            one if there is no cluster, or no client on a worker.
    """
    return DistributedBatch(
        source,
        cluster=cluster,
        journal=journal if isinstance(journal, Journal) else Journal(journal),
        journal_dir=journal_dir,
        concurrency=concurrency,
        rate=rate,
        shard_size=shard_size,
        deadline=deadline,
        on_progress=on_progress,
        security=security,
        settings=settings,
    )


class DistributedBatch:
    """
    What `create_sessions_distributed` does, when it is awaited.

    Cancelling it gives up what is in flight, recorded as possibly created;
    `drain` ends it gently.

    Attributes:
        journal: Gets a record of every input.
        stopped_by: What came of a request after which nothing was sent any
            more.
    """

    def __init__(  # noqa: PLR0913
        self,
        source: Source,
        *,
        cluster: str,
        journal: Journal,
        settings: Mapping[str, Any],
        journal_dir: _Path | None = None,
        concurrency: int = 64,
        rate: float | None = None,
        shard_size: int = 500,
        deadline: float = 120.0,
        on_progress: Callable[[BatchStats], None] | None = None,
        security: "Security | None" = None,
        on_ready: Callable[[AsyncBankConnect], None] | None = None,
    ) -> None:
        check_number("concurrency", concurrency, int)
        check_number("shard_size", shard_size, int)
        check_number("deadline", deadline, (int, float))
        if rate is not None:
            check_number("rate", rate, (int, float))
        check_source(source)
        _check_settings(settings)
        self.journal: Final = journal
        self.stopped_by: BankConnectError | None = None
        self._source = source
        self._cluster = cluster
        self._directory = Path(
            journal_dir or f"{journal.path}.shards"
        ).absolute()
        self._rate = rate
        self._shard_size = shard_size
        self._on_progress = on_progress
        self._hooks = HookRunner()
        self._on_ready = on_ready
        self._security = security
        self._order = Order(
            run=secrets.token_hex(6),
            api=journal.given_api,
            concurrency=concurrency,
            deadline=deadline,
            settings=read_environment(os.environ, _VARIABLES) | dict(settings),
        )
        self._error: Exception | None = None
        self._is_awaited = self._draining = self._aborting = False
        self._wake = asyncio.Event()
        self._workers = _Workers()
        self._shards: set[asyncio.Task[None]] = set()
        self._open: set[int] = set()
        self._dealer: asyncio.Task[None] | None = None
        self._taken = self._created = self._skipped = self._count = 0
        self._failures: Counter[str] = Counter()
        self._began: float | None = None

    def stats(self) -> BatchStats:
        """
        Return what all workers did so far, and do now; a second old at most.
        """
        now = asyncio.get_running_loop().time()
        visits = self._workers.visits.values()
        created, failures = self._created, Counter(self._failures)
        for each in visits:
            for number in self._open.intersection(each.created):
                created += each.created[number]
                failures.update(each.failures[number])
        limits = [each.limit for each in visits if each.limit is not None]
        is_limited = limits and len(limits) == len(visits)
        return BatchStats(
            taken=self._taken,
            created=created,
            failures=dict(failures),
            skipped=self._skipped,
            in_flight=sum(each.in_flight for each in visits),
            retries=self._workers.retries,
            seconds=0.0 if self._began is None else now - self._began,
            rate=sum(each.rate for each in visits),
            limit=sum(limits) if is_limited else None,
            pause=min((each.pause for each in visits), default=0.0),
        )

    def drain(self) -> None:
        """
        Take nothing more, and let what was sent come to its end.
        """
        self._draining = True
        if self._dealer is not None:
            self._dealer.cancel()
        self._wake.set()

    def __await__(self) -> Generator[Any, None, BatchStats]:
        return self._run().__await__()

    async def _run(self) -> BatchStats:
        if self._is_awaited:
            raise RuntimeError("a batch can be awaited only once")
        self._is_awaited = True
        async with AsyncExitStack() as stack:
            self._client = await self._connect(stack)
            stack.push_async_callback(self._part)
            plan = await self._greet()
            if plan is None:
                return self.stats()
            self._planner = AsyncBankConnect(
                "-", redirect_url=plan.redirect_url
            )
            if self._on_ready is not None:
                self._on_ready(self._planner)
            await stack.enter_async_context(self.journal.serving(plan.api))
            if not self.journal.is_resumable:
                raise ConfigurationError(
                    fields={"journal": ("must be a file for such a batch",)}
                )
            await self._merge_leftovers()
            self._began = asyncio.get_running_loop().time()
            await self._work_off()
            await self._visit()
            stats = self.stats()
        self._report_progress(stats)
        if self._error is not None:
            raise self._error
        return stats

    async def _connect(self, stack: AsyncExitStack) -> "Client":
        try:
            from dask.system import CPU_COUNT  # noqa: PLC0415 - an extra
            from distributed import (  # noqa: PLC0415
                Client,
                LocalCluster,
                Security,
            )
        except ImportError:
            raise ConfigurationError(
                "Dask's distributed is not installed: "
                "pip install 'bankconnect-async[dask]'"
            ) from None
        address, security = self._cluster, self._security
        if address == _LOCAL:
            # Whoever can talk to workers can make them run anything, and on
            # loopback that is everybody who has an account.
            security = Security.temporary()
            local = LocalCluster(
                n_workers=CPU_COUNT,
                threads_per_worker=2,
                # By default, or with none, it is port 8787 of all addresses.
                dashboard_address="127.0.0.1:0",
                # What it says as it goes down is no news to who ended it.
                silence_logs=logging.CRITICAL,
                asynchronous=True,
                security=security,
            )
            await stack.enter_async_context(local)
            address = local.scheduler_address
        client: Any = Client(
            address,
            asynchronous=True,
            set_as_default=False,
            timeout=_VISIT_TIMEOUT,
            security=security,
        )
        try:
            await stack.enter_async_context(client)
        except (OSError, ValueError) as exc:
            await client.close()
            raise ConfigurationError(
                fields={"cluster": (f"{address}: no scheduler answers there",)}
            ) from exc
        return cast("Client", client)

    async def _greet(self) -> Visit | None:
        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE
        while not self._workers.visits:
            await self._visit()
            if self._error is not None:
                raise self._error
            if self._draining:
                return None
            if loop.time() > until:
                raise ConfigurationError(
                    fields={"cluster": ("has no workers: start some",)}
                )
            if not self._workers.visits:
                await asyncio.sleep(0.1)
        return next(iter(self._workers.visits.values()))

    async def _visit(self) -> None:
        found = await self._ask(
            visit, self._order, self._wish(), on_error="return"
        )
        if found is None:
            # The next one may find somebody.
            return
        visits = {}
        for address, answer in found.items():
            if isinstance(answer, BankConnectError):
                self._fail(_of_worker(address, answer))
            elif isinstance(answer, Visit):
                visits[address] = answer
        self._workers.meet(visits)
        if not self._workers.agree():
            self._fail(
                ConfigurationError(
                    "the workers have different settings in their "
                    "environment: give them the same base_url, version and "
                    "redirect_url"
                )
            )

    async def _part(self) -> None:
        await self._ask(leave, self._order.run, on_error="ignore")

    async def _ask(
        self,
        what: Callable[..., Awaitable[Any]],
        *args: object,
        on_error: Literal["return", "ignore"],
    ) -> dict[str, Any] | None:
        if self._client.status == "closed":
            # It does so when its scheduler is lost.
            return None
        try:
            async with asyncio.timeout(_VISIT_TIMEOUT):
                found: dict[str, Any] = await self._client.run(
                    what, *args, on_error=on_error
                )
        except (TimeoutError, OSError):
            return None
        except RuntimeError:
            if self._client.status == "running":
                raise
            return None
        return found

    def _wish(self) -> Wish:
        return Wish(
            rate=None if self._rate is None else self._rate / self._sharers(),
            drain=self._draining,
            abort=self._aborting,
            stopped_by=self.stopped_by,
            ignore_interrupts=self._cluster == _LOCAL,
        )

    def _sharers(self) -> int:
        count = len(self._workers.visits)
        if self._dealer is not None and self._dealer.done():
            # Some may have nothing to do any more.
            count = min(count, len(self._open))
        return max(count, 1)

    async def _work_off(self) -> None:
        if self._draining:
            return
        visitor = asyncio.create_task(self._keep_visiting())
        self._dealer = asyncio.create_task(self._deal())
        try:
            await asyncio.wait([self._dealer])
            while self._shards:
                await asyncio.wait(self._shards)
        except asyncio.CancelledError:
            self._aborting = True
            self.drain()
            if self._shards:
                await asyncio.wait(self._shards, timeout=_PARTING)
            raise
        finally:
            visitor.cancel()
            for task in self._shards:
                task.cancel()
            await asyncio.wait([visitor, self._dealer, *self._shards])
            with suppress(OSError):
                await finish_in_thread(self._directory.rmdir)

    async def _keep_visiting(self) -> None:
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_VISIT_EVERY):
                        await self._wake.wait()
                self._wake.clear()
                await self._visit()
                self._report_progress(self.stats())
        except Exception as exc:  # noqa: BLE001 - it is the caller's
            self._fail(exc)

    def _report_progress(self, stats: BatchStats) -> None:
        if self._on_progress is not None:
            self._hooks.run("on_progress", self._on_progress, stats)

    def _fail(self, error: Exception) -> None:
        # It is raised once what is in flight has come to its end.
        self._error = self._error or error
        self.drain()

    async def _deal(self) -> None:
        try:
            async with aclosing(self._parcels()) as parcels:
                async for rows in parcels:
                    address = await self._workers.place()
                    await self._send(rows, address)
        except Exception as exc:  # noqa: BLE001 - it is raised in the end
            self._fail(exc)

    async def _parcels(self) -> AsyncGenerator[Rows, None]:
        rows: Rows = []
        try:
            async with aclosing(_each(self._source)) as items:
                async for item in items:
                    line = self._take(item)
                    if line is not None:
                        rows.append((line, item))
                    if len(rows) >= self._next_size():
                        yield rows
                        rows = []
        except JournalError as exc:
            self._fail(exc)
            return
        except asyncio.CancelledError as exc:
            if was_cancelled():
                raise
            self._error = self._error or source_cancelled(exc)
        except Exception as exc:  # noqa: BLE001 - it is the caller's
            # What the source gave before counts.
            self._error = self._error or exc
        if rows:
            yield rows

    def _next_size(self) -> int:
        # Small at first, so that a small batch is spread over all workers.
        begun = self._count // (2 * max(len(self._workers.visits), 1))
        return min(_SMALLEST_SHARD * (1 + begun), self._shard_size)

    def _take(self, item: Item) -> int | None:
        index, request = self._taken, None
        self._taken += 1
        try:
            request = self._planner.resolve(item)
            if self.stopped_by is not None:
                raise stopped(self.stopped_by)
            if self.journal.claim(index, request):
                return self.journal.hand_over(index)
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

    async def _send(self, rows: Rows, address: str) -> None:
        number = self._count
        self._count += 1
        path = self._directory / f"{self._order.run}-{number:06}.jsonl"
        try:
            await run_in_thread(_make_journal, path)
        except asyncio.CancelledError:
            await finish_in_thread(_remove, path)
            raise
        self._open.add(number)
        self._workers.busy[address] += 1
        shard = Shard.pack(number, str(path), rows)
        task = asyncio.create_task(self._see_through(shard, address))
        self._shards.add(task)
        task.add_done_callback(self._shards.discard)

    async def _see_through(self, shard: Shard, address: str) -> None:
        # One that was done just before its worker was killed is begun once
        # more, to find little or nothing to do; one that failed may be at
        # work for long, and is left to the next run.
        patience = _PATIENCE
        try:
            await self._work_on(shard, address)
        except Exception as exc:  # noqa: BLE001 - it is raised in the end
            self._fail(exc)
            patience = 0.0
        until = asyncio.get_running_loop().time() + patience
        try:
            await self._count_in(shard.path, until)
        except Exception as exc:  # noqa: BLE001 - it is raised in the end
            self._fail(exc)
        self._open.discard(shard.number)
        self._workers.release(address)

    async def _work_on(self, shard: Shard, address: str) -> None:
        for attempt in range(_ATTEMPTS):
            result = await self._submit(shard, address, attempt)
            if result.stopped_by is not None and self.stopped_by is None:
                self.stopped_by = result.stopped_by
                self._wake.set()
            if result.is_missing:
                raise ConfigurationError(
                    fields={
                        "journal_dir": (
                            f"{self._directory}: is not the same on "
                            f"{result.where}: name one that all workers "
                            f"and this process share",
                        )
                    }
                )
            if result.error is not None:
                raise _of_worker(result.where, result.error)
            if not result.left or self._draining:
                return
        raise BatchStoppedError(
            "not done: workers left a shard again and again: do the same "
            "again to go on"
        )

    async def _submit(
        self, shard: Shard, address: str, attempt: int
    ) -> Result:
        from distributed import KilledWorker  # noqa: PLC0415 - an extra

        future = self._client.submit(
            run_shard,
            self._order,
            self._wish(),
            shard,
            # It is seen in dashboards and logs.
            key=f"bankconnect-{self._order.run}-{shard.number}-{attempt}",
            workers=[address],
            allow_other_workers=True,
            pure=False,
        )
        try:
            result: Result = await future
        except KilledWorker:
            raise BatchStoppedError(
                "not done: one worker after the other was killed at the "
                "same shard: look at their logs, and do the same again to "
                "go on"
            ) from None
        except (asyncio.CancelledError, futures.CancelledError):
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - this is a coroutine
            if task.cancelling():
                raise
            raise BatchStoppedError(
                "not done: the scheduler was lost: do the same again to go on"
            ) from None
        finally:
            future.release()
        return result

    async def _count_in(self, path: str, until: float) -> None:
        found = await self._merge(path, until)
        self._created += found.pop("", 0)
        self._failures += found

    async def _merge(self, path: str, until: float) -> Counter[str]:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with self.journal.absorbing(path) as found:
                    await run_in_thread(os.unlink, path)
            except JournalInUseError:
                if self._aborting or loop.time() >= until:
                    raise
                await asyncio.sleep(_LOCKED)
            else:
                return found

    async def _merge_leftovers(self) -> None:
        # They count as what the journal had before.
        paths = await run_in_thread(
            _find_leftovers, self._directory, self.journal.kept_as
        )
        # Workers of a run that was killed notice after a while.
        until = asyncio.get_running_loop().time() + _PATIENCE
        for path in paths:
            await self._merge(path, until)


class _Workers:
    """
    The workers that there are, and who of them has what to do.

    Attributes:
        visits: What each did when it was last asked.
        busy: How many shards each was given.
    """

    def __init__(self) -> None:
        self.visits: dict[str, Visit] = {}
        self.busy: Counter[str] = Counter()
        self._retries: dict[str, int] = {}
        self._changed = asyncio.Event()

    @property
    def retries(self) -> int:
        """Requests sent once more, by those too that are gone."""
        return sum(self._retries.values())

    def meet(self, visits: dict[str, Visit]) -> None:
        """Take note of who is there."""
        self.visits = visits
        self._retries |= {
            address: each.retries for address, each in visits.items()
        }
        self._changed.set()

    def agree(self) -> bool:
        """Tell whether all of them ask the same API for the same."""
        each = iter(self.visits.values())
        first = next(each, None)
        return first is None or all(first.agrees_with(one) for one in each)

    def release(self, address: str) -> None:
        """Take note that a shard is done."""
        self.busy[address] -= 1
        self._changed.set()

    async def place(self) -> str:
        """Wait for a worker that can have one more shard."""
        while True:
            self._changed.clear()
            found = min(self.visits, key=self.busy.__getitem__, default=None)
            if found is not None and self.busy[found] < _SHARDS_PER_WORKER:
                return found
            await self._changed.wait()


async def _each(source: Source) -> AsyncGenerator[Item, None]:
    if isinstance(source, Iterable):
        for number, item in enumerate(source):
            yield item
            if not number % _AT_ONCE:
                # Many must not hold up what is in flight.
                await asyncio.sleep(0)
        return
    async with AsyncExitStack() as stack:
        items = aiter(source)
        if isinstance(items, AsyncGenerator):
            await stack.enter_async_context(aclosing(items))
        async for item in items:
            yield item


def _make_journal(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    os.close(os.open(path, flags, 0o600))


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _find_leftovers(directory: Path, kept_as: str | None) -> list[str]:
    if kept_as is not None and directory.exists():
        # They belong to what was put aside.
        directory.rename(f"{directory}{kept_as[kept_as.rindex('.old-') :]}")
    return sorted(map(str, directory.glob("*-*.jsonl")))


def _of_worker(address: str, error: BankConnectError) -> BankConnectError:
    if isinstance(error, ConfigurationError):
        return ConfigurationError(f"worker {address}: {error}")
    return error


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
