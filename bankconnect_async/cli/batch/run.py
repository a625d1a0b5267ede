"""
``bankconnect batch``: rows in, one JSON line out for each.
"""

import asyncio

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from bankconnect_async.batch.outcomes import Created, Failed
from bankconnect_async.batch.session_batch import SessionBatch
from bankconnect_async.cli.input.reader_thread import RowReader
from bankconnect_async.cli.input.rows import BadRow, InputFileError, InputRow
from bankconnect_async.cli.options import require_redirect_url
from bankconnect_async.cli.signals import on_interrupt
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.errors import (
    BankConnectError,
    JournalError,
    JournalMismatchError,
    TransportError,
)
from bankconnect_async.journal.journal import Journal
from bankconnect_async.models.sessions import SessionRequest

from .progress import BatchProgress
from .summary import BatchSummary


if TYPE_CHECKING:
    from bankconnect_async.distributed.coordinator import DistributedBatch

    AnyBatch: TypeAlias = SessionBatch | DistributedBatch


@attrs.define(kw_only=True)
class Batch:
    """
    One run over one input.

    Attributes:
        columns: What every row can have; `None` if each has its own.
        rows: The rows.
        journal: Takes a record for each, and knows those of earlier runs.
        lines: Takes the line of each row, for the journal to take out.
        concurrency: Requests in flight at most.
        rate: Requests per second at most.
        summary: What became of the rows so far.
        bar: Shows the summary.
        explain: Says what happened, in words of the command line.
    """

    columns: frozenset[str] | None
    rows: RowReader[InputRow | BadRow]
    journal: Journal
    lines: dict[int, int]
    concurrency: int
    rate: float | None
    summary: BatchSummary
    bar: BatchProgress
    explain: Callable[[BankConnectError], str]
    _count: int = attrs.field(default=0, init=False)
    _created_before: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._created_before = self.journal.created

    @property
    def recorded(self) -> int:
        """How many rows have a record of this run."""
        return (
            self.journal.created - self._created_before + self.journal.failed
        )

    @property
    def output(self) -> str:
        """The name of the output in messages."""
        return "stdout" if self.journal.path == "-" else self.journal.path

    async def run(
        self, connection: AbstractAsyncContextManager[AsyncBankConnect]
    ) -> None:
        """
        Create a session for every row, and write what came of it.

        What ends it before the end of the input stands in the summary.

        Raises:
            ConfigurationError: If it cannot begin; nothing was sent.
        """
        async with connection as bank:
            if self.columns is not None and "redirect_url" not in self.columns:
                require_redirect_url(bank.redirect_url)
            outcomes = bank.create_sessions(
                self._requests(),
                concurrency=self.concurrency,
                rate=self.rate,
                journal=self.journal,
            )
            self.summary.start()
            with self.bar.watching(lambda: self._look(outcomes)):
                await self._run_until_stopped(outcomes)
            if outcomes.abort_cause is not None:
                self._set_stop_reason(outcomes.abort_cause)

    def close(self) -> None:
        """Bring all records to the disk; a failure stands in the summary."""
        try:
            self.journal.close()
        except JournalError as error:
            self._break(error)

    def _break(self, error: Exception) -> None:
        self.summary.broken = True
        self.summary.mismatched = isinstance(error, JournalMismatchError)
        self.summary.stopped = (
            self.explain(error)
            if isinstance(error, JournalError)
            else str(error)
        )

    def _look(self, outcomes: "AnyBatch") -> None:
        now = outcomes.stats()
        self.summary.skipped = now.skipped
        self.summary.recent_rate = now.rate
        self.summary.limit = self.rate if now.limit is None else now.limit
        self.summary.pause = now.pause

    async def _run_until_stopped(self, outcomes: "AnyBatch") -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is a coroutine

        def interrupt() -> None:
            if self.summary.interrupted:
                task.cancel()
            else:
                self._stop_gently(outcomes)

        try:
            with on_interrupt(interrupt):
                await self._create(outcomes)
        except asyncio.CancelledError:
            if not self.summary.interrupted:
                raise
            task.uncancel()
            self._count_given_up()
        except (InputFileError, JournalError) as exc:
            self._break(exc)

    def _stop_gently(self, outcomes: "AnyBatch") -> None:
        self.summary.interrupted = True
        self.rows.close()
        outcomes.drain()
        if waiting := self.journal.pending:
            self.bar.say(
                f"stopping when the reader of {self.output} has taken the "
                f"{waiting} rows that are done; press Ctrl-C again to give "
                f"them up"
            )
        elif rows := self._in_flight(outcomes):
            self.bar.say(
                f"stopping when the {rows} in flight are done; "
                f"press Ctrl-C again to give them up"
            )

    def _in_flight(self, outcomes: "AnyBatch") -> str:
        count = outcomes.stats().in_flight
        return f"{count} rows" if count else ""

    def _count_given_up(self) -> None:
        # The batch has recorded them, and reports nothing any more.
        summary, journal = self.summary, self.journal
        summary.created = journal.created - self._created_before
        lost = journal.failed - summary.failed
        if lost > 0:
            summary.failures[TransportError.__name__] += lost

    async def _create(self, outcomes: Any) -> None:
        async with outcomes:
            async for outcome in outcomes:
                if isinstance(outcome, Created):
                    self.summary.created += 1
                else:
                    self._count_failure(outcome.error)

    async def _requests(self) -> AsyncIterator[SessionRequest]:
        async for row in self.rows:
            if isinstance(row, BadRow):
                self._refuse(row)
                await self.journal.drain()
                # Many bad rows must not hold up what is in flight.
                await asyncio.sleep(0)
                continue
            self.lines[self._count] = row.line
            self._count += 1
            yield row.request

    def _refuse(self, row: BadRow) -> None:
        self.journal.record(
            Failed(
                index=-1,
                item=row.link_id,  # type: ignore[arg-type] # if it has one
                request=None,
                error=row.error,
            ),
            line=row.line,
        )
        self._count_failure(row.error)

    def _count_failure(self, error: BankConnectError) -> None:
        self.summary.fail(error)

    def _set_stop_reason(self, error: BankConnectError) -> None:
        self.summary.stopped = (
            f"bankconnect: stopped, nothing more was sent: "
            f"{self.explain(error)}"
        )
