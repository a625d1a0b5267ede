"""
A batch on many machines, with Dask's ``distributed`` (extra ``[dask]``).

It is named after that package, and apart from the rest, because nobody else
needs it: nothing of Dask is imported before a batch of it runs.
"""

import asyncio
import logging
import multiprocessing
import os
import pickle
import pkgutil
import secrets
import signal

from collections import Counter
from collections.abc import (
    AsyncGenerator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from concurrent import futures
from contextlib import AsyncExitStack, aclosing, contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import attrs

from yarl import URL

from bankconnect_async import __version__
from bankconnect_async._hooks import HookRunner, was_cancelled
from bankconnect_async._threads import finish_in_thread, run_in_thread
from bankconnect_async.batch.item_source import (
    check_source,
    source_cancelled_error,
)
from bankconnect_async.batch.outcomes import (
    Failed,
    Item,
    Source,
    batch_stopped_error,
)
from bankconnect_async.batch.session_batch import check_number
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.config import SECRET_SETTINGS, read_environment
from bankconnect_async.errors import (
    BankConnectError,
    BatchStoppedError,
    ConfigurationError,
    JournalError,
    JournalLockedError,
)
from bankconnect_async.journal.journal import Journal
from bankconnect_async.stats import BatchStats

from .rate_shares import LEASE, RateShares
from .worker import (
    HEARTBEAT,
    Directive,
    Heartbeat,
    JobSpec,
    Result,
    Rows,
    Shard,
    beat_of,
    is_beating,
    register,
    run_shard,
    shut_down,
)


if TYPE_CHECKING:
    from distributed import Client, Security


_log = logging.getLogger("bankconnect_async")

__all__ = ["DistributedBatch", "create_sessions_distributed"]

_Path: TypeAlias = str | os.PathLike[str]

_LOCAL: Final = "local"
# A place to work, a place to begin while the last rows of the first are out,
# and one on its way.
_SHARDS_PER_WORKER: Final = 3
_SMALLEST_SHARD: Final = 50
_HEARTBEAT_INTERVAL: Final = 1.0
_HEARTBEAT_TIMEOUT: Final = 10.0
# How long to wait for a first worker, for a locked file, and for what was
# given up.
_TIMEOUT: Final = 60.0
_ABORT_TIMEOUT: Final = 20.0
_LOCK_POLL: Final = 0.25
# How long workers that did not answer yet are waited for, once another one
# has answered.
_GRACE: Final = 1.0
# How long a worker may be silent while the batch ends: it sends nothing
# after that.
_SILENCE: Final = LEASE
# How often workers may be killed at a shard without any progress.
_DEATHS: Final = 3
_OWNER: Final = "owner"
# Set by multiprocessing while a process that it spawned imports the program.
_STARTING: Final = "_inheriting"
_ANSWERS: Final = frozenset({"answer", "problem"})
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

    Rows are encrypted for the worker that gets them, so the scheduler and the
    logs cannot show them. A worker without this package and `cryptography`,
    or with another version of it, is named in a warning and gets no rows.

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
        journal_dir: A directory for this journal alone, on storage that all
            workers and this process share; by default *journal* with
            ``.shards`` behind. One that belongs to another journal is
            refused.
        concurrency: Requests in flight at most, in each worker process.
        rate: The requests per second of all workers together. Workers that
            answer share it; one that is silent for 5 seconds sends nothing
            more, and the others get its share.
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
        abort_cause: What came of a request after which nothing was sent any
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
        on_warning: Callable[[str], None] | None = None,
    ) -> None:
        check_number("concurrency", concurrency, int)
        check_number("shard_size", shard_size, int)
        check_number("deadline", deadline, (int, float))
        if rate is not None:
            check_number("rate", rate, (int, float))
        check_source(source)
        _check_settings(settings)
        self.journal: Final = journal
        self.abort_cause: BankConnectError | None = None
        self._source = source
        self._cluster = cluster
        self._directory = Path(
            journal_dir or f"{journal.path}.shards"
        ).absolute()
        self._shard_size = shard_size
        self._on_progress = on_progress
        self._hooks = HookRunner()
        self._on_ready = on_ready
        self._warn = on_warning or _log.warning
        self._security = security
        self._spec = JobSpec(
            run=secrets.token_hex(6),
            api=journal.given_api,
            concurrency=concurrency,
            deadline=deadline,
            settings=read_environment(os.environ, _VARIABLES) | dict(settings),
            directory=str(self._directory),
            is_paced=rate is not None,
        )
        self._shares = None if rate is None else RateShares(rate)
        self._error: Exception | None = None
        self._losses: list[str] = []
        self._left: list[str] = []
        self._is_awaited = self._draining = self._aborting = False
        self._wake = asyncio.Event()
        self._workers = _Workers()
        self._shards: set[asyncio.Task[None]] = set()
        self._open: set[int] = set()
        self._dispatcher: asyncio.Task[None] | None = None
        self._taken = self._created = self._skipped = self._count = 0
        self._failures: Counter[str] = Counter()
        self._began: float | None = None

    def stats(self) -> BatchStats:
        """
        Return what all workers did so far, and do now; a second old at most.
        """
        now = asyncio.get_running_loop().time()
        status = self._workers.status.values()
        created, failures = self._created, Counter(self._failures)
        for each in status:
            for number in self._open.intersection(each.created):
                created += each.created[number]
                failures.update(each.failures[number])
        limits = [each.limit for each in status if each.limit is not None]
        is_limited = limits and len(limits) == len(status)
        return BatchStats(
            taken=self._taken,
            created=created,
            failures=dict(failures),
            skipped=self._skipped,
            in_flight=sum(each.in_flight for each in status),
            retries=self._workers.retries,
            seconds=0.0 if self._began is None else now - self._began,
            rate=sum(each.rate for each in status),
            limit=sum(limits) if is_limited else None,
            pause=min((each.pause for each in status), default=0.0),
        )

    def drain(self) -> None:
        """
        Take nothing more, and let what was sent come to its end.
        """
        self._draining = True
        if self._dispatcher is not None:
            self._dispatcher.cancel()
        self._wake_all()
        self._workers.wake()

    def __await__(self) -> Generator[Any, None, BatchStats]:
        return self._run().__await__()

    async def _run(self) -> BatchStats:
        if self._is_awaited:
            raise RuntimeError("a batch can be awaited only once")
        self._is_awaited = True
        async with AsyncExitStack() as stack:
            self._client = await self._connect(stack)
            stack.push_async_callback(self._disconnect)
            follower = asyncio.create_task(self._follow_members())
            stack.push_async_callback(_end, follower)
            plan = await self._wait_for_worker()
            if plan is None:
                return self.stats()
            self._planner = AsyncBankConnect(
                "-", redirect_url=plan.redirect_url
            )
            if self._on_ready is not None:
                self._on_ready(self._planner)
            await stack.enter_async_context(self.journal.opened_for(plan.api))
            if not self.journal.is_resumable:
                raise ConfigurationError(
                    fields={"journal": ("must be a file for such a batch",)}
                )
            await self._merge_leftovers()
            self._began = asyncio.get_running_loop().time()
            await self._process()
            await self._beat_all()
            stats = self.stats()
        self._report_progress(stats)
        error = self._whole_error()
        if error is not None:
            raise error
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
            if getattr(multiprocessing.current_process(), _STARTING, False):
                # Our own worker process runs a program that has no main
                # guard. The parent reports it, once.
                raise SystemExit(1)
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
            with _without_interrupts():
                await _start_local(stack, local)
            address = local.scheduler_address
        client: Any = Client(
            address,
            asynchronous=True,
            set_as_default=False,
            timeout=_HEARTBEAT_TIMEOUT,
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

    async def _wait_for_worker(self) -> Heartbeat | None:
        """Wait for workers, and return what one of them is set to do."""
        loop = asyncio.get_running_loop()
        until, grace = loop.time() + _TIMEOUT, None
        while True:
            if self._error is not None:
                raise self._error
            if self._draining:
                return None
            workers = self._workers
            if workers.status and grace is None:
                grace = loop.time() + _GRACE
            if workers.status and (
                not workers.unmet or loop.time() > cast("float", grace)
            ):
                return next(iter(workers.status.values()))
            if workers.unfit and not (workers.status or workers.unmet):
                raise ConfigurationError(
                    "no worker can take part: "
                    + "; ".join(workers.unfit.values())
                )
            if loop.time() > until:
                raise ConfigurationError(fields={"cluster": (self._nobody(),)})
            await workers.wait(0.1)

    def _nobody(self) -> str:
        silent = sorted(self._workers.unmet)
        if silent:
            return f"its workers do not answer: {', '.join(silent)}"
        return "has no workers: start some"

    async def _follow_members(self) -> None:
        """Look once a second which workers there are, and status each."""
        visitors: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                members = await self._members()
                if members is not None:
                    self._workers.set_members(members)
                    for address in visitors.keys() - members:
                        visitors.pop(address).cancel()
                    for address in members - visitors.keys():
                        visitors[address] = asyncio.create_task(
                            self._keep_beating(address)
                        )
                self._workers.forget_silent()
                self._give_up_silent()
                await asyncio.sleep(_HEARTBEAT_INTERVAL)
        except Exception as exc:  # noqa: BLE001 - it is the caller's
            self._fail(exc)
        finally:
            for task in visitors.values():
                task.cancel()
            if visitors:
                await asyncio.wait(visitors.values())

    async def _members(self) -> set[str] | None:
        try:
            async with asyncio.timeout(_HEARTBEAT_TIMEOUT):
                return set(await self._client.nthreads())
        except (TimeoutError, OSError):
            return None
        except RuntimeError:
            if self._client.status == "running":
                raise
            return None

    async def _keep_beating(self, address: str) -> None:
        try:
            while address not in self._workers.unfit:
                # What wakes us during a status is a reason for another one.
                wake = self._wake
                await self._beat(address)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_HEARTBEAT_INTERVAL):
                        await wake.wait()
        except Exception as exc:  # noqa: BLE001 - it is the caller's
            self._fail(exc)

    async def _beat(self, address: str) -> None:
        """Tell one worker what is wanted, and take note of its answer."""
        directive = self._directive(address)
        message = {"spec": pickle.dumps(self._spec)}
        message["directive"] = pickle.dumps(directive)
        workers = self._workers
        found = await self._send_heartbeat(address, message)
        if found is None:
            # The next status may find it.
            workers.registered.discard(address)
            return
        if "problem" in found:
            text = f"worker {address} {found['problem']}: it gets no rows"
            workers.unfit[address] = text
            workers.wake()
            self._warn(text)
            return
        workers.registered.add(address)
        answer: Heartbeat | BankConnectError = pickle.loads(  # noqa: S301
            found["answer"]
        )
        if isinstance(answer, BankConnectError):
            self._fail(_of_worker(address, answer))
            return
        is_new = address not in workers.status
        workers.update(address, answer)
        if self._shares is not None:
            self._shares.confirm(
                address, directive.rate or 0.0, workers.lease_end(address)
            )
            if is_new or directive.rate != self._shares.wanted(
                address, self._sharers()
            ):
                # It waits for its share.
                self._wake_all()
        self._check_agreement()

    async def _beat_all(self) -> None:
        status = [
            asyncio.create_task(self._beat(address))
            for address in self._workers.status
        ]
        if status:
            _, late = await asyncio.wait(status, timeout=_HEARTBEAT_INTERVAL)
            for task in late:
                await _end(task)

    async def _send_heartbeat(
        self, address: str, message: dict[str, Any]
    ) -> dict[str, Any] | None:
        try:
            if address in self._workers.registered:
                scheduler: Any = self._client.scheduler
                answers = await scheduler.broadcast(
                    msg={"op": HEARTBEAT, **message},
                    workers=[address],
                    on_error="return_pickle",
                )
                found = answers.get(address)
            else:
                found = await self._register(address, message)
        except (TimeoutError, OSError):
            return None
        except RuntimeError:
            if self._client.status == "running":
                raise
            return None
        # A worker that has no such message yet answers with an error.
        is_answer = isinstance(found, dict) and found.keys() & _ANSWERS
        return found if is_answer else None

    async def _register(self, address: str, message: dict[str, Any]) -> Any:
        # Any worker can do this, and says so if it has no such package.
        version = await self._run_on(
            address, pkgutil.resolve_name, "bankconnect_async:__version__"
        )
        if isinstance(version, ImportError | AttributeError):
            return {"problem": "has no bankconnect_async"}
        if isinstance(version, str) and version != __version__:
            return {"problem": f"has bankconnect-async {version}"}
        found = await self._run_on(address, register, *message.values())
        if isinstance(found, Exception) and not isinstance(found, OSError):
            return {"problem": f"cannot take part ({found})"}
        return found

    async def _run_on(
        self, address: str, function: Callable[..., Any], *args: object
    ) -> Any:
        found: dict[str, Any] = await self._client.run(
            function, *args, workers=[address], on_error="return"
        )
        return found.get(address)

    def _check_agreement(self) -> None:
        error = self._workers.disagreement()
        if error is not None:
            self._fail(error)

    async def _disconnect(self) -> None:
        if self._client.status == "closed":
            return
        leaving = [
            asyncio.create_task(self._shut_down(address))
            for address in self._workers.status
        ]
        if leaving:
            await asyncio.wait(leaving)

    async def _shut_down(self, address: str) -> None:
        with suppress(TimeoutError, OSError, RuntimeError):
            async with asyncio.timeout(_HEARTBEAT_TIMEOUT):
                await self._client.run(
                    shut_down,
                    self._spec.run,
                    workers=[address],
                    on_error="ignore",
                )

    def _directive(self, address: str | None = None) -> Directive:
        directive = Directive(
            drain=self._draining,
            abort=self._aborting,
            abort_cause=self.abort_cause,
            ignore_interrupts=self._cluster == _LOCAL,
        )
        workers = self._workers
        if self._shares is None or address not in workers.status:
            # Its first answer tells what its clock shows.
            return directive
        assert address is not None  # noqa: S101 - it is in the status
        share = self._shares.grant(
            address,
            self._sharers(),
            asyncio.get_running_loop().time(),
            workers.lease_end(address),
        )
        end = workers.status[address].clock + LEASE
        return attrs.evolve(directive, rate=share, rate_end=end)

    def _sharers(self) -> list[str]:
        workers = self._workers
        if self._dispatcher is not None and self._dispatcher.done():
            # Some may have nothing to do any more.
            return [each for each in workers.status if workers.busy[each]]
        return list(workers.status)

    def _wake_all(self) -> None:
        wake, self._wake = self._wake, asyncio.Event()
        wake.set()

    def _give_up_silent(self) -> None:
        # Shards of a worker that is silent may be half done. While others
        # work, it may come back.
        workers = self._workers
        held = workers.silent_with_shards()
        dispatching = (
            self._dispatcher is not None and not self._dispatcher.done()
        )
        others = sum(workers.busy.values()) > sum(
            workers.busy[address] for address in held
        )
        if self._draining:
            patience = _SILENCE
        elif dispatching or others:
            return
        else:
            patience = _TIMEOUT
        for address, seconds in held.items():
            if seconds > patience:
                self._fail(
                    BatchStoppedError(
                        f"not done: worker {address} does not answer, and "
                        f"holds {workers.busy[address]} shards: continue or "
                        f"end it, and do the same again to go on"
                    )
                )
                workers.give_up(address)

    async def _process(self) -> None:
        if self._draining:
            return
        self._dispatcher = asyncio.create_task(self._dispatch())
        reporter = asyncio.create_task(self._keep_reporting())
        try:
            await asyncio.wait([self._dispatcher])
            self._wake_all()
            while self._shards:
                await asyncio.wait(self._shards)
        except asyncio.CancelledError:
            self._aborting = True
            self.drain()
            if self._shards:
                await asyncio.wait(self._shards, timeout=_ABORT_TIMEOUT)
            raise
        finally:
            reporter.cancel()
            for task in self._shards:
                task.cancel()
            await asyncio.wait([reporter, self._dispatcher, *self._shards])
            await self._leave_directory()

    async def _keep_reporting(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_INTERVAL)
            self._report_progress(self.stats())

    async def _leave_directory(self) -> None:
        if self._error is not None:
            # A journal that was deleted may have been saved beside itself.
            paths = await run_in_thread(_find_shards, self._directory)
            self._left = []
            for path in paths:
                try:
                    await self._count_in(path, 0.0)
                except JournalError as exc:
                    self._left.append(path)
                    self._note_loss(exc)
        await finish_in_thread(_remove_directory, self._directory)

    def _report_progress(self, stats: BatchStats) -> None:
        if self._on_progress is not None:
            self._hooks.run("on_progress", self._on_progress, stats)

    def _fail(self, error: Exception) -> None:
        # It is raised once what is in flight has come to its end.
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

    def _whole_error(self) -> Exception | None:
        error = self._error
        if not isinstance(error, BatchStoppedError | JournalError):
            return error
        texts = [str(error)]
        texts += [text for text in self._losses if text != texts[0]]
        if self._left:
            texts.append(
                f"these files hold records that {self.journal.path} does not "
                f"have yet, and the same command takes them over: "
                + ", ".join(self._left)
            )
        if len(texts) == 1:
            return error
        whole = type(error)("; ".join(texts))
        whole.__cause__ = error
        return whole

    async def _dispatch(self) -> None:
        try:
            async with aclosing(self._cut_shards()) as shards:
                async for rows in shards:
                    await self._assign(rows, await self._pick_worker())
        except Exception as exc:  # noqa: BLE001 - it is raised in the end
            self._fail(exc)

    async def _pick_worker(self, *, is_urgent: bool = False) -> str:
        """Wait for a worker that can have one more shard."""
        until: float | None = None
        loop = asyncio.get_running_loop()
        while True:
            if self._shares is not None:
                most = self._shares.most
            else:
                most = len(self._workers.status)
            found = self._workers.pick(most, is_urgent=is_urgent)
            if found is not None:
                return found
            if self._workers.status:
                until = None
            elif until is None:
                until = loop.time() + _TIMEOUT
            elif loop.time() > until:
                raise BatchStoppedError(
                    f"not done: no worker is left, and no other one came for "
                    f"{_TIMEOUT:.0f} seconds: start some, and do the same "
                    f"again to go on"
                )
            await self._workers.wait(_HEARTBEAT_INTERVAL)
            if is_urgent and self._draining:
                raise _UndoneError

    async def _cut_shards(self) -> AsyncGenerator[Rows, None]:
        rows: Rows = []
        try:
            async with aclosing(_each(self._source)) as items:
                async for item in items:
                    line = self._begin(item)
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
            self._error = self._error or source_cancelled_error(exc)
        except Exception as exc:  # noqa: BLE001 - it is the caller's
            # What the source gave before counts.
            self._error = self._error or exc
        if rows:
            yield rows

    def _next_size(self) -> int:
        # Small at first, so that a small batch is spread over all workers.
        begun = self._count // (2 * max(len(self._workers.status), 1))
        return min(_SMALLEST_SHARD * (1 + begun), self._shard_size)

    def _begin(self, item: Item) -> int | None:
        index, request = self._taken, None
        self._taken += 1
        try:
            request = self._planner.resolve(item)
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

    async def _assign(self, rows: Rows, address: str) -> None:
        number = self._count
        self._count += 1
        path = self._path(number)
        try:
            await run_in_thread(_make_journal, path)
        except asyncio.CancelledError:
            await finish_in_thread(_remove, path)
            raise
        self._open.add(number)
        self._workers.busy[address] += 1
        shard = _Assignment(
            number=number, path=str(path), rows=rows, address=address
        )
        task = asyncio.create_task(self._run_shard(shard))
        self._shards.add(task)
        task.add_done_callback(self._shards.discard)

    def _path(self, number: int) -> Path:
        return self._directory / f"{self._spec.run}-{number:06}.jsonl"

    async def _run_shard(self, shard: "_Assignment") -> None:
        # One that was done just before its worker was killed is begun once
        # more, to find little or nothing to do; one that failed may be at
        # work for long, and is left to the next run.
        patience = _TIMEOUT
        try:
            await self._complete(shard)
        except _UndoneError:
            patience = _ABORT_TIMEOUT
        except _SchedulerLostError as exc:
            self._fail(exc)
            patience = _ABORT_TIMEOUT
        except Exception as exc:  # noqa: BLE001 - it is raised in the end
            self._fail(exc)
            patience = 0.0
        if shard.address in self._workers.given_up:
            patience = 0.0
        until = asyncio.get_running_loop().time() + patience
        try:
            await self._count_in(shard.path, until)
        except Exception as exc:  # noqa: BLE001 - it is raised in the end
            self._left.append(shard.path)
            self._fail(exc)
        self._open.discard(shard.number)
        self._workers.release(shard.address)

    async def _complete(self, shard: "_Assignment") -> None:
        deaths = left = attempt = 0
        progress, locked_until = await self._progress(), None
        loop = asyncio.get_running_loop()
        while True:
            if left >= _ATTEMPTS:
                raise BatchStoppedError(
                    "not done: workers left a shard again and again: do the "
                    "same again to go on"
                )
            result = await self._submit(shard, attempt)
            attempt += 1
            if result is None or result.is_foreign:
                before, progress = progress, await self._progress()
                deaths = 1 if progress != before else deaths + 1
                if deaths > _DEATHS:
                    raise BatchStoppedError(
                        "not done: one worker after the other was killed at "
                        "the same shard: look at their logs, and do the same "
                        "again to go on"
                    )
            elif result.is_locked:
                now = loop.time()
                if locked_until is None:
                    locked_until = now + _TIMEOUT
                if now > locked_until:
                    raise BatchStoppedError(
                        f"not done: {shard.path} is written by a process "
                        f"that does not answer: end it, and do the same "
                        f"again to go on"
                    )
            else:
                await self._check_result(result, shard)
                if not result.left:
                    return
                left += 1
            if self._draining:
                raise _UndoneError
            address = await self._pick_worker(is_urgent=True)
            self._workers.release(shard.address)
            self._workers.busy[address] += 1
            shard.address = address

    async def _progress(self) -> tuple[int, int]:
        # Shards in a worker's queue do not kill it: progress of any counts.
        paths = [self._path(number) for number in self._open]
        size = await run_in_thread(_size_of_all, paths)
        return self._created + self._failures.total(), size

    async def _check_result(
        self, result: Result, shard: "_Assignment"
    ) -> None:
        if result.abort_cause is not None and self.abort_cause is None:
            self.abort_cause = result.abort_cause
            self._wake_all()
        if result.is_missing:
            if not await run_in_thread(os.path.lexists, shard.path):
                raise JournalError(
                    f"{shard.path}: was removed before anything was sent "
                    f"for its {len(shard.rows)} rows"
                )
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

    async def _submit(
        self, shard: "_Assignment", attempt: int
    ) -> Result | None:
        """Return what became of a shard; `None` if its worker was lost."""
        address = shard.address
        status = self._workers.status.get(address)
        if status is None:
            return None
        future = self._client.submit(
            run_shard,
            self._spec,
            self._directive(),
            Shard.pack(shard.number, shard.path, shard.rows, status.key),
            # It is seen in dashboards and logs.
            key=f"bankconnect-{self._spec.run}-{shard.number}-{attempt}",
            workers=[address],
            pure=False,
        )
        running = asyncio.ensure_future(_result_of(future))
        gone = asyncio.ensure_future(self._workers.gone(address).wait())
        try:
            await asyncio.wait(
                [running, gone], return_when=asyncio.FIRST_COMPLETED
            )
            return await running if running.done() else None
        finally:
            running.cancel()
            gone.cancel()
            await asyncio.wait([running, gone])
            if not running.cancelled():
                running.exception()
            future.release()

    async def _count_in(self, path: str, until: float) -> None:
        found = await self._merge(path, until)
        self._created += found.pop("", 0)
        self._failures += found

    async def _merge(self, path: str, until: float) -> Counter[str]:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await _refuse_if_beating(path)
                async with self.journal.merge(path) as found:
                    await run_in_thread(_remove_shard, path)
            except JournalLockedError:
                if self._aborting or loop.time() >= until:
                    raise
                await asyncio.sleep(_LOCK_POLL)
            else:
                return found

    async def _merge_leftovers(self) -> None:
        # They count as what the journal had before.
        paths = await run_in_thread(
            _find_leftovers,
            self._directory,
            self.journal.path,
            self.journal.backup,
        )
        # Workers of a run that was killed notice after a while.
        until = asyncio.get_running_loop().time() + _TIMEOUT
        for path in paths:
            await self._merge(path, until)


class _UndoneError(Exception):
    """
    A shard was left undone, because the batch ends.
    """


class _SchedulerLostError(BatchStoppedError):
    """
    The connection to the scheduler was lost.
    """


@attrs.define(kw_only=True)
class _Assignment:
    """
    A shard, as the sender knows it.

    Attributes:
        number: From 0.
        path: The path of its journal.
        rows: The rows, each with its line.
        address: The worker that has it.
    """

    number: int
    path: str
    rows: Rows
    address: str


class _Workers:
    """
    The workers of the cluster, and how much each has to do.

    Attributes:
        status: The latest answer of each worker that is not silent.
        busy: The number of shards that each was given.
        registered: The workers that know our messages.
        unfit: Those that cannot take part, and why.
        given_up: Those whose shards are left to another run.
    """

    def __init__(self) -> None:
        self.status: dict[str, Heartbeat] = {}
        self.busy: Counter[str] = Counter()
        self.registered: set[str] = set()
        self.unfit: dict[str, str] = {}
        self.given_up: set[str] = set()
        self._members: set[str] = set()
        self._answered: dict[str, float] = {}
        self._gone: dict[str, asyncio.Event] = {}
        self._retries: dict[str, int] = {}
        self._secrets: set[str] = set()
        self._changed = asyncio.Event()

    @property
    def retries(self) -> int:
        """Requests sent once more, by those too that are gone."""
        return sum(self._retries.values())

    @property
    def unmet(self) -> set[str]:
        """Workers that did not answer yet, or no longer."""
        return self._members - self.status.keys() - self.unfit.keys()

    def set_members(self, members: set[str]) -> None:
        """Note which workers the scheduler has."""
        for address in self._members - members:
            self.status.pop(address, None)
            self.unfit.pop(address, None)
            self.registered.discard(address)
            self._answered.pop(address, None)
            self.gone(address).set()
        for address in members - self._members:
            self._gone.pop(address, None)
        self._members = members
        self.wake()

    def gone(self, address: str) -> asyncio.Event:
        """Return what is set once the worker is lost or given up."""
        return self._gone.setdefault(address, asyncio.Event())

    def give_up(self, address: str) -> None:
        """Wait no longer for the shards of a worker."""
        self.given_up.add(address)
        self.gone(address).set()

    def update(self, address: str, status: Heartbeat) -> None:
        """Note the answer of a worker."""
        if address not in self._members:
            return
        self.status[address] = status
        self._answered[address] = asyncio.get_running_loop().time()
        self._retries[address] = status.retries
        self.wake()

    def lease_end(self, address: str) -> float:
        """Return when a share counted from its latest answer ends."""
        return self._answered[address] + LEASE

    def forget_silent(self) -> None:
        """Expect nothing more of workers that are silent."""
        now = asyncio.get_running_loop().time()
        for address, answered in self._answered.items():
            if now - answered > LEASE:
                self.status.pop(address, None)

    def silent_with_shards(self) -> dict[str, float]:
        """Return those that are silent and have shards: since how long."""
        now = asyncio.get_running_loop().time()
        return {
            address: now - self._answered[address]
            for address in self._answered.keys() - self.status.keys()
            if self.busy[address]
        }

    def disagreement(self) -> ConfigurationError | None:
        """Return an error if they do not all ask the same of one API."""
        found = list(self.status.items())
        if not found:
            return None
        first, status = found[0]
        for address, other in found[1:]:
            if not status.agrees_with(other):
                return ConfigurationError(
                    "the workers have different settings in their "
                    "environment: give them the same base_url, version and "
                    "redirect_url"
                )
            if status.secrets != other.secrets:
                return ConfigurationError(
                    f"workers {first} and {address} have different API keys "
                    f"or server hashes in their environment: give all "
                    f"workers the same"
                )
        return None

    def release(self, address: str) -> None:
        """Note that a worker has one shard less."""
        self.busy[address] -= 1
        self.wake()

    def pick(self, most: int, *, is_urgent: bool) -> str | None:
        """
        Find the worker that has the least to do, if it can have a shard.

        Args:
            most: The number of workers that can be used.
            is_urgent: Whether it may have more shards than usual.
        """
        able = list(self.status)[:most]
        found = min(able, key=self.busy.__getitem__, default=None)
        if found is None or is_urgent:
            return found
        return found if self.busy[found] < _SHARDS_PER_WORKER else None

    def wake(self) -> None:
        """Let those that wait look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait(self, seconds: float) -> None:
        """Wait until something changes, for some seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()


async def _result_of(future: Any) -> Result | None:
    from distributed import KilledWorker  # noqa: PLC0415 - an extra

    try:
        result: Result = await future
    except KilledWorker:
        return None
    except (asyncio.CancelledError, futures.CancelledError):
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is a coroutine
        if task.cancelling():
            raise
        raise _SchedulerLostError(
            "not done: the scheduler was lost: do the same again to go on"
        ) from None
    return result


@contextmanager
def _without_interrupts() -> Iterator[None]:
    # Processes that start now inherit this: Ctrl-C in a terminal reaches them
    # too, and they would print tracebacks. For us it waits until the end.
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    numbers = {signal.SIGINT, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    # It allows interrupts again where it is started.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _start_local(stack: AsyncExitStack, local: Any) -> None:
    try:
        await stack.enter_async_context(local)
    except RuntimeError:
        raise ConfigurationError(
            fields={
                "cluster": (
                    "local: its worker processes cannot be started: call it "
                    'below `if __name__ == "__main__":`, since they import '
                    "the program",
                )
            }
        ) from None


async def _refuse_if_beating(path: str) -> None:
    if await is_beating(path):
        raise JournalLockedError(f"{path}: another process writes to it")


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])


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


def _remove_shard(path: str) -> None:
    os.unlink(path)  # noqa: PTH108
    Path(beat_of(path)).unlink(missing_ok=True)


def _size_of_all(paths: Iterable[Path]) -> int:
    size = 0
    for path in paths:
        with suppress(OSError):
            size += path.stat().st_size
    return size


def _find_leftovers(
    directory: Path, journal: str, backup: str | None
) -> list[str]:
    owner, journal = directory / _OWNER, os.path.realpath(journal)
    if owner.exists() and owner.read_text() != journal:
        raise ConfigurationError(
            fields={
                "journal_dir": (
                    f"{directory}: belongs to {owner.read_text()}: give each "
                    f"journal a directory of its own (if that journal was "
                    f"moved here, remove {owner})",
                )
            }
        )
    if backup is not None and directory.exists():
        # They belong to what was put aside.
        directory.rename(f"{directory}{backup[backup.rindex('.old-') :]}")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not owner.exists():
        owner.write_text(journal)
    return _find_shards(directory)


def _find_shards(directory: Path) -> list[str]:
    # Those too that were saved when another program had deleted them.
    paths = sorted(map(str, directory.glob("*-*.jsonl*")))
    return [path for path in paths if not path.endswith(beat_of(""))]


def _remove_directory(directory: Path) -> None:
    with suppress(OSError):
        if not _find_shards(directory):
            (directory / _OWNER).unlink(missing_ok=True)
            directory.rmdir()


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
