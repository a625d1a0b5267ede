"""
The common part of batches on many processes, wherever these run.
"""

import abc
import asyncio
import logging
import os

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import attrs

from yarl import URL

from bankconnect_async._hooks import HookRunner
from bankconnect_async._resources.session_creation import RequestPreparer
from bankconnect_async.batch.item_source import check_source
from bankconnect_async.batch.outcomes import Item, Source
from bankconnect_async.batch.session_batch import check_number
from bankconnect_async.config import SECRET_SETTINGS
from bankconnect_async.errors import BankConnectError, ConfigurationError
from bankconnect_async.journal.journal import Journal
from bankconnect_async.models.sessions import Unset
from bankconnect_async.stats import BatchStats

from .intake import RowIntake
from .messages import Heartbeat, JobSpec
from .monitor import (
    HEARTBEAT_INTERVAL,
    TIMEOUT,
    ClusterMonitor,
    WorkerLink,
)
from .worker_pool import WorkerPool


if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager


_log = logging.getLogger("bankconnect_async")

PathLike: TypeAlias = str | os.PathLike[str]

#: Seconds that workers have to end after an abort.
ABORT_TIMEOUT: Final = 20.0
# How long workers that have not answered yet are waited for, once another one
# has answered.
_GRACE: Final = 1.0
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


@attrs.define(kw_only=True, eq=False, repr=False, slots=False)
class WorkerBatch(abc.ABC):
    """
    A batch whose requests are sent by worker processes.

    Args:
        source: The requests or bare link ids.
        settings: The client settings of the workers.
        concurrency: The most requests in flight.
        rate: The requests per second of all workers together.
        deadline: The seconds for one item, its retries included.
        scope: The campaign or loan, for the store.
        on_progress: A callback for the `BatchStats`.
        on_ready: A callback for the redirect URL of the workers, called
            before anything is read.
        on_warning: A callback for the reason why a worker gets no rows.

    Attributes:
        journal: The journal of all outcomes.
    """

    #: Whether the batch ends without workers that are silent.
    _gives_up: ClassVar[bool] = True

    journal: Journal
    _source: Source = attrs.field(
        alias="source", validator=lambda _, __, it: check_source(it)
    )
    _settings: Mapping[str, Any] = attrs.field(alias="settings")
    _concurrency: int = attrs.field(alias="concurrency", default=64)
    _rate: float | None = attrs.field(alias="rate", default=None)
    _deadline: float = attrs.field(alias="deadline", default=120.0)
    _scope: str = attrs.field(alias="scope", default="")
    _on_progress: Callable[[BatchStats], None] | None = attrs.field(
        alias="on_progress", default=None
    )
    _on_ready: Callable[[str | None | Unset], None] | None = attrs.field(
        alias="on_ready", default=None
    )
    _on_warning: Callable[[str], None] = attrs.field(
        alias="on_warning", default=_log.warning
    )

    def __attrs_post_init__(self) -> None:
        check_number("concurrency", self._concurrency, int)
        check_number("deadline", self._deadline, (int, float))
        if self._rate is not None:
            check_number("rate", self._rate, (int, float))
        _check_settings(self._settings)
        self._hooks = HookRunner()
        self._workers = WorkerPool()
        self._monitor = ClusterMonitor(
            self._workers,
            rate=self._rate,
            on_error=self._fail,
            on_warning=self._on_warning,
            gives_up=self._gives_up,
        )
        self._intake = RowIntake(
            self._source,
            self.journal,
            abort_cause=lambda: self.abort_cause,
            on_error=self._note_error,
        )
        self._error: Exception | None = None
        self._is_awaited = False
        self._dispatcher: asyncio.Task[None] | None = None
        self._created = 0
        self._failures: Counter[str] = Counter()
        self._began: float | None = None

    def _make_spec(self, **others: Any) -> JobSpec:
        return JobSpec(
            api=self.journal.given_api,
            concurrency=self._concurrency,
            deadline=self._deadline,
            scope=self._scope,
            is_paced=self._rate is not None,
            **others,
        )

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
        created, failures = self._count()
        limits = [each.limit for each in heartbeats if each.limit is not None]
        is_limited = limits and len(limits) == len(heartbeats)
        return BatchStats(
            taken=self._intake.taken,
            created=created,
            failures=dict(failures + self._intake.failures),
            skipped=self._intake.skipped,
            in_flight=sum(each.in_flight for each in heartbeats),
            retries=self._workers.retries,
            seconds=0.0 if self._began is None else now - self._began,
            rate=sum(each.rate for each in heartbeats),
            limit=sum(limits) if is_limited else None,
            pause=min((each.pause for each in heartbeats), default=0.0),
            is_probing=bool(heartbeats)
            and all(each.is_probing for each in heartbeats),
        )

    def _count(self) -> tuple[int, Counter[str]]:
        return self._created, self._failures

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
            link = await stack.enter_async_context(self._connect())
            await stack.enter_async_context(self._monitor.following(link))
            worker = await self._wait_for_worker()
            if worker is None:
                return self.stats()
            self._preparer = RequestPreparer(worker.redirect_url)
            if self._on_ready is not None:
                self._on_ready(worker.redirect_url)
            await stack.enter_async_context(
                self.journal.opened_for(
                    worker.api, concurrency=self._concurrency
                )
            )
            if not self.journal.is_resumable:
                raise ConfigurationError(
                    fields={"journal": ("must be a file for such a batch",)}
                )
            await self._process()
            await self._monitor.beat_all(link)
            stats = self.stats()
        self._report_progress(stats)
        if self._error is not None:
            raise self._explain(self._error)
        return stats

    @abc.abstractmethod
    def _connect(self) -> "AbstractAsyncContextManager[WorkerLink]":
        """Connect to the workers."""

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
                raise self._describe_silence()
            await workers.wait(0.1)
        if self._error is not None:
            raise self._error
        return None

    @abc.abstractmethod
    def _describe_silence(self) -> ConfigurationError:
        """Return the error for workers that do not answer."""

    @abc.abstractmethod
    async def _process(self) -> None:
        """Create the sessions, from `_start` on."""

    def _start(self) -> None:
        self._began = asyncio.get_running_loop().time()

    async def _create_all(self) -> None:
        """Dispatch all rows, and wait until they are settled."""
        self._dispatcher = asyncio.create_task(self._dispatch())
        reporter = asyncio.create_task(self._keep_reporting())
        try:
            await asyncio.wait([self._dispatcher])
            self._monitor.is_dispatching = False
            self._monitor.beat_now()
            await self._finish()
            if not self._dispatcher.cancelled():
                # The source may have raised what is no `Exception`.
                self._dispatcher.result()
        except asyncio.CancelledError:
            self._monitor.update(abort=True)
            self.drain()
            with suppress(TimeoutError):
                async with asyncio.timeout(ABORT_TIMEOUT):
                    await self._finish()
            raise
        finally:
            reporter.cancel()
            self._dispatcher.cancel()
            await asyncio.wait([reporter, self._dispatcher])

    @abc.abstractmethod
    async def _dispatch(self) -> None:
        """Give all rows to workers."""

    @abc.abstractmethod
    async def _finish(self) -> None:
        """Wait until no worker has rows any more."""

    def _rows(self) -> AsyncGenerator[tuple[int, Item], None]:
        return self._intake.rows(self._preparer)

    async def _keep_reporting(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_INTERVAL)
            self._report_progress(self.stats())

    def _report_progress(self, stats: BatchStats) -> None:
        if self._on_progress is not None:
            self._hooks.run("on_progress", self._on_progress, stats)

    def _note_error(self, error: Exception) -> None:
        self._error = self._error or error

    def _fail(self, error: Exception) -> None:
        # It is raised once everything in flight is finished.
        self._note_error(error)
        self.drain()

    def _note_abort(self, cause: BankConnectError | None) -> None:
        if cause is not None and self.abort_cause is None:
            self._monitor.update(abort_cause=cause)

    def _explain(self, error: Exception) -> Exception:
        """Add the places of all records to the error of the batch."""
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
