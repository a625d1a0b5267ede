"""
A batch on several processes of this machine.
"""

import asyncio
import os
import pickle

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, ClassVar, Final, Unpack

import attrs

from bankconnect_async._tracebacks import hide_frames
from bankconnect_async.arguments import WorkerSettings
from bankconnect_async.batch.outcomes import (
    Created,
    Failed,
    Item,
    Outcome,
    Source,
    failed_outcome,
)
from bankconnect_async.batch.session_batch import (
    check_number,
    explain_unrecorded,
)
from bankconnect_async.config import Secret
from bankconnect_async.errors import (
    BankConnectError,
    BatchStoppedError,
    ConfigurationError,
    Delivery,
    JournalError,
    TransportError,
)
from bankconnect_async.journal.journal import Journal
from bankconnect_async.journal.records import CreatedRecord, decode_record
from bankconnect_async.retry import RetryPolicy
from bankconnect_async.stats import BatchStats

from .frames import Job, Records
from .monitor import HEARTBEAT_INTERVAL, RESUME, WorkerLink, reporting_to
from .process_pool import (
    ProcessPool,
    WorkerCallbacks,
    WorkerProcess,
    check_platform,
    is_setting,
)
from .worker_batch import PathLike, WorkerBatch


__all__ = ["ProcessBatch", "create_sessions_in_processes"]

# How many rows a process may have without an outcome, for each request that
# it may have in flight: a batch takes as many ahead while items wait for a
# retry.
_WINDOW: Final = 4
# The most rows that one process gets before another one has its turn.
_CHUNK: Final = 32
# How many processes may end at a row, or without any progress.
_DEATHS: Final = 3


@hide_frames
def create_sessions_in_processes(  # noqa: PLR0913
    source: Source,
    /,
    *,
    processes: int,
    journal: Journal | PathLike,
    concurrency: int = 64,
    rate: float | None = None,
    deadline: float = 120.0,
    scope: str = "",
    environ: Mapping[str, str] | None = None,
    on_progress: Callable[[BatchStats], None] | None = None,
    **settings: Unpack[WorkerSettings],
) -> "ProcessBatch":
    """
    Create sessions for many customers, on several processes of this machine.

    ::

        stats = await create_sessions_in_processes(
            link_ids, processes=4, journal="out.jsonl"
        )
        for record in read_journal("out.jsonl"): ...

    One process of Python uses one core. Here this process reads *source* and
    writes *journal*, and the others send the requests, so that nearly all
    cores of the machine work. Outcomes go to *journal*, not through this
    process's memory. Running the same batch again resumes it: inputs that
    have a session are skipped, failed ones are tried again.

    A process that is killed is replaced, and the others get its rows. As
    after a killed batch, a request that was in flight is sent a second time;
    with ``delivery="at-most-once"`` it fails as possibly created instead. A
    row at which three processes were killed fails. If this process is killed,
    the others cancel what is in flight and end.

    Each process makes its client from *environ*, which it gets over a private
    socket: the secrets are neither on its command line nor in its
    environment. The program itself is not imported, so it needs no
    ``if __name__ == "__main__":``.

    Args:
        source: The requests or bare link ids, sync or async; read as needed.
        processes: The number of worker processes; no more than *concurrency*
            are started.
        journal: The journal for the outcome of every input, or its path.
        concurrency: The most requests in flight in all processes together.
        rate: The requests per second of all processes together; `None` for
            no limit.
        deadline: The seconds for one item, its retries included.
        scope: The campaign or loan, for the store.
        environ: The `BANKCONNECT_*` variables of the clients, as for
            `AsyncBankConnect.from_env`; by default those of this process.
        on_progress: A callback for the `BatchStats`, called every second and
            at the end. What it raises is logged and ignored.
        **settings: The settings of the clients, beside *environ*: `base_url`,
            `version`, `redirect_url`, `allow_http`, `encoding`, `retry`,
            `timeouts`, `pool`.

    Returns:
        An awaitable of the final `BatchStats`.

    Raises:
        ConfigurationError: If an argument makes no sense, or on Windows.
            Awaiting it raises one if there is no client.
    """
    if not isinstance(journal, Journal | str | os.PathLike):
        raise ConfigurationError(
            fields={
                "journal": (
                    "must be a Journal or its path, which one process writes",
                )
            }
        )
    return ProcessBatch(
        source=source,
        processes=processes,
        journal=journal if isinstance(journal, Journal) else Journal(journal),
        concurrency=concurrency,
        rate=rate,
        deadline=deadline,
        scope=scope,
        environ=environ,
        on_progress=on_progress,
        settings=settings,
    )


@attrs.define(kw_only=True, eq=False, repr=False, slots=False)
class ProcessBatch(WorkerBatch):
    """
    A batch that `create_sessions_in_processes` runs when it is awaited.

    Cancelling it gives up what is in flight, recorded as possibly created;
    `drain` ends it gently. The arguments are those of that function, except:

    Args:
        settings: The client settings of the workers.
        on_ready: A callback for the redirect URL of the workers, called
            before anything is read.
        on_warning: A callback for what became of a process that was killed.

    Attributes:
        journal: The journal of all outcomes.
    """

    # The pool kills them.
    _gives_up: ClassVar[bool] = False

    _processes: int = attrs.field(alias="processes")
    _environ: Mapping[str, str] | None = attrs.field(
        alias="environ", default=None
    )

    def __attrs_post_init__(self) -> None:
        check_number("processes", self._processes, int)
        check_platform()
        cls = type(self.journal)
        if (cls.record, cls.record_all) != (
            Journal.record,
            Journal.record_all,
        ):
            raise ConfigurationError(
                fields={
                    "journal": (
                        "has a record() or a record_all() of its own, which "
                        "records of other processes do not pass",
                    )
                }
            )
        super().__attrs_post_init__()
        _check_pickling(self._settings)
        environ = os.environ if self._environ is None else self._environ
        self._environ = None
        spec = self._make_spec(run="", settings=dict(self._settings))
        self._job = Job(spec, _select(environ))
        del environ
        policy: RetryPolicy = self._settings.get("retry", RetryPolicy())
        self._sends_twice = policy.delivery == "at-least-once"
        self._returned: deque[tuple[int, Item]] = deque()
        # The number of processes that were killed at a row, by its line.
        self._deaths: Counter[int] = Counter()
        self._deaths_in_a_row = 0
        self._progress_at_death = -1
        self._current: WorkerProcess | None = None
        self._left = 0
        self._replacing: set[asyncio.Task[None]] = set()
        self._is_over = False

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[WorkerLink]:
        loop = type(asyncio.get_running_loop())
        # Other loops may not be made like that.
        is_known = loop.__module__ == "uvloop"
        self._pool = ProcessPool(
            attrs.evolve(self._job, loop=loop if is_known else None),
            WorkerCallbacks(
                on_records=self._on_records,
                on_end=self._on_end,
                on_loss=self._on_loss,
                on_error=self._fail,
            ),
        )
        self._count_started = count = min(self._processes, self._concurrency)
        share, rest = divmod(self._concurrency, count)
        try:
            try:
                for number in range(count):
                    await self._pool.start(share + (number < rest))
            except OSError as exc:
                raise ConfigurationError(
                    fields={
                        "processes": (
                            f"cannot be started: {exc.strerror}: use fewer",
                        )
                    }
                ) from exc
            yield self._pool
        finally:
            self._is_over = True
            for task in self._replacing:
                task.cancel()
            if self._replacing:
                await asyncio.wait(self._replacing)
            await self._pool.close()

    def _describe_silence(self) -> ConfigurationError:
        return ConfigurationError(
            fields={"processes": ("do not answer: look at the machine",)}
        )

    async def _process(self) -> None:
        self._start()
        if not self._is_draining:
            try:
                await self._create_all()
            except asyncio.CancelledError:
                await self._kill_silent()
                raise
        self._is_over = True

    async def _kill_silent(self) -> None:
        # They were told to end, and had time to.
        for worker in self._pool.workers.values():
            if not worker.is_done:
                worker.process.kill()
        while self._is_unsettled():
            await self._workers.wait(HEARTBEAT_INTERVAL)

    async def _dispatch(self) -> None:
        with reporting_to(self._fail):
            async with aclosing(self._rows()) as rows:
                async for row in rows:
                    worker = self._next()
                    if worker is None:
                        worker = await self._wait_for_room()
                    worker.put(row)

    def _next(self) -> WorkerProcess | None:
        """Return the process for the next row, if one has room."""
        worker = self._current
        if (
            self._left
            and worker is not None
            and not (worker.is_gone or self._returned)
            and len(worker.rows) < _WINDOW * worker.concurrency
        ):
            self._left -= 1
            return worker
        self._current = worker = self._pick()
        # Small at first, so that a small batch is spread over all.
        begun = self._intake.taken // (4 * max(len(self._pool.workers), 1))
        self._left = min(begun, _CHUNK)
        return None if self._returned else worker

    def _pick(self) -> WorkerProcess | None:
        """Return the process that has the least to do, if one has room."""
        able = [
            worker
            for address in list(self._workers.heartbeats)[: self._monitor.most]
            if (worker := self._pool.workers.get(address)) is not None
            and not (worker.is_gone or worker.is_done)
        ]
        found = min(able, key=_load, default=None)
        return None if found is None or _load(found) >= _WINDOW else found

    async def _wait_for_room(self) -> WorkerProcess:
        while True:
            worker = self._pick()
            if worker is None:
                await self._workers.wait(HEARTBEAT_INTERVAL)
            elif self._returned:
                worker.put(self._returned.popleft())
            else:
                return worker

    async def _finish(self) -> None:
        for each in self._pool.workers.values():
            self._workers.busy[each.address] = bool(each.rows)
        while self._is_unsettled():
            await self._workers.wait(HEARTBEAT_INTERVAL)

    def _is_unsettled(self) -> bool:
        workers = self._pool.workers.values()
        if self._is_draining:
            # What was not sent has no outcome.
            return bool(self._replacing) or any(
                not (worker.is_done or worker.is_gone) for worker in workers
            )
        return bool(
            self._returned
            or self._replacing
            or any(worker.rows for worker in workers)
        )

    def _on_records(self, worker: WorkerProcess, records: Records) -> None:
        rows = [worker.rows.pop(number) for number in records.rows]
        if not worker.rows:
            self._workers.busy[worker.address] = 0
        failed = sum(records.failures.values())
        self._created += len(rows) - failed
        self._failures.update(records.failures)
        self._note_abort(records.abort_cause)
        self._workers.notify()
        try:
            self.journal.record_lines(
                records.lines, created=len(rows) - failed, failed=failed
            )
        except JournalError as error:
            for raw, row in zip(records.lines.splitlines(), rows, strict=True):
                self.journal.add_unrecorded(self._decode(raw, row), row[0])
            self._fail(error)
            return
        # A full disk is found out before more is sent.
        self.journal.check()
        worker.confirm()

    def _decode(self, raw: bytes, row: tuple[int, Item]) -> Outcome:
        line, item = row
        record = decode_record(raw)
        if isinstance(record, CreatedRecord):
            _, request = self._preparer.prepare(item)
            return Created(
                index=line - 1,
                item=item,
                session=record.session,
                request=request,
                seconds=record.seconds,
            )
        error = TransportError(
            f"{record.type}: {record.message}", delivery=record.delivery
        )
        return self._make_failure(line, item, error)

    def _on_end(self, error: BankConnectError | None) -> None:
        if error is not None:
            self._fail(error)
        self._workers.notify()

    def _on_loss(self, worker: WorkerProcess) -> None:
        self._workers.notify()
        if self._is_over or (worker.is_done and not worker.rows):
            return
        task = asyncio.create_task(self._replace(worker))
        self._replacing.add(task)
        task.add_done_callback(self._on_replaced)

    def _on_replaced(self, task: asyncio.Task[None]) -> None:
        self._replacing.discard(task)
        self._workers.notify()

    async def _replace(self, worker: WorkerProcess) -> None:
        with reporting_to(self._fail):
            # It must send nothing more once others have its rows.
            code = await self._pool.remove(worker)
            self._workers.set_members(self._pool.addresses())
            if self._is_draining:
                if not worker.is_done:
                    # Some of them may have been sent.
                    for line, item in worker.rows.values():
                        self._give_up(line, item)
                return
            self._on_warning(
                f"worker {worker.address} ended with code {code}: another one "
                f"takes its place"
            )
            progress = self._created + self._failures.total()
            if progress != self._progress_at_death:
                self._deaths_in_a_row = 0
            self._progress_at_death = progress
            self._deaths_in_a_row += 1
            # All of them may have been killed at once.
            if self._deaths_in_a_row >= _DEATHS + self._count_started:
                raise BatchStoppedError(
                    f"not done: one worker process after the other was "
                    f"killed, the last one with code {code}: see what ends "
                    f"them, and {RESUME}"
                )
            for line, item in worker.rows.values():
                self._return(line, item)
            worker.rows.clear()
            try:
                await self._pool.start(worker.concurrency)
            except OSError as exc:
                if not self._pool.workers:
                    raise BatchStoppedError(
                        f"not done: no worker process is left, and none can "
                        f"be started: {exc.strerror}: {RESUME}"
                    ) from exc
            # The source may give its next row only after these.
            await self._put_returned()

    async def _put_returned(self) -> None:
        while self._returned and not self._is_draining:
            worker = self._pick()
            if worker is None:
                await self._workers.wait(HEARTBEAT_INTERVAL)
            else:
                worker.put(self._returned.popleft())
                self._workers.busy[worker.address] = 1

    def _return(self, line: int, item: Item) -> None:
        self._deaths[line] += 1
        if self._sends_twice and self._deaths[line] < _DEATHS:
            self._returned.append((line, item))
        else:
            self._give_up(line, item)

    def _give_up(self, line: int, item: Item) -> None:
        error = TransportError(
            "its worker process was killed; a session may exist",
            delivery=Delivery.AMBIGUOUS,
        )
        self._failures[type(error).__name__] += 1
        self.journal.record(self._make_failure(line, item, error), line=line)

    def _make_failure(
        self, line: int, item: Item, error: BankConnectError
    ) -> Failed:
        _, request = self._preparer.prepare(item)
        return failed_outcome(line - 1, item, request, error)

    def _explain(self, error: Exception) -> Exception:
        return explain_unrecorded(error, self.journal)


def _load(worker: WorkerProcess) -> float:
    return len(worker.rows) / worker.concurrency


def _check_pickling(settings: Mapping[str, Any]) -> None:
    fields = {}
    for name, value in settings.items():
        try:
            pickle.dumps(value)
        except (pickle.PicklingError, AttributeError, TypeError) as exc:
            fields[name] = (f"cannot be sent to other processes: {exc}",)
    if fields:
        raise ConfigurationError(fields=fields)


def _select(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: Secret(value)
        for name, value in environ.items()
        if is_setting(name)
    }
