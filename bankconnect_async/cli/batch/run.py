"""
``bankconnect batch``: reads rows and writes one JSON line for each.
"""

import asyncio

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from bankconnect_async.batch.outcomes import Failed
from bankconnect_async.batch.session_batch import SessionBatch
from bankconnect_async.cli.input.row_reader import RowReader
from bankconnect_async.cli.input.rows import BadRow, InputFileError, InputRow
from bankconnect_async.cli.options import require_redirect_url
from bankconnect_async.cli.signals import finish_or_cancel
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.errors import (
    BankConnectError,
    BatchStoppedError,
    JournalError,
    JournalMismatchError,
    TransportError,
)
from bankconnect_async.journal.journal import Journal
from bankconnect_async.models.sessions import SessionRequest

from .progress import BatchProgress
from .shard import InputShard
from .summary import BatchSummary


if TYPE_CHECKING:
    from bankconnect_async.distributed.worker_batch import WorkerBatch

    AnyBatch: TypeAlias = SessionBatch | WorkerBatch


@attrs.define(kw_only=True)
class BatchRun:
    """
    One run of a batch over one input.

    Attributes:
        rows: The rows.
        columns: The columns of all rows; `None` if each row has its own.
        lines: The line of each row in flight, by its index; the journal
            removes it.
        journal: The journal of all rows, including earlier runs.
        rate: The user's limit of requests per second, if there is one.
        summary: The counts of this run.
        progress: The display of the summary.
        explain: Returns the message for an error, in words of the command
            line.
        shard: The shard to which the run is limited, if there is one.
    """

    rows: RowReader[InputRow | BadRow]
    columns: frozenset[str] | None
    lines: dict[int, int]
    journal: Journal
    rate: float | None
    summary: BatchSummary
    progress: BatchProgress
    explain: Callable[[BankConnectError], str]
    shard: InputShard | None = None
    # The rows that make no request, by the name of their error.
    _invalid: Counter[str] = attrs.field(factory=Counter, init=False)
    _created_before: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._created_before = self.journal.created

    @property
    def recorded(self) -> int:
        """The number of rows with a record of this run."""
        return (
            self.journal.created - self._created_before + self.journal.failed
        )

    @property
    def output(self) -> str:
        """The name of the output in messages."""
        return "stdout" if self.journal.path == "-" else self.journal.path

    async def run_locally(
        self,
        connection: AbstractAsyncContextManager[AsyncBankConnect],
        *,
        concurrency: int,
    ) -> None:
        """
        Create a session for every row in this process.

        Raises:
            ConfigurationError: If the redirect URL is missing.
        """
        async with connection as bank:
            self.check_redirect_url(bank.redirect_url)
            batch = bank.create_sessions(
                self.requests(),
                concurrency=concurrency,
                rate=self.rate,
                journal=self.journal,
            )
            await self.process(batch, batch.run())

    def check_redirect_url(self, redirect_url: object) -> None:
        """
        Check that each request has a redirect URL, as far as it is known.

        Args:
            redirect_url: The redirect URL of the client.

        Raises:
            ConfigurationError: If it is missing.
        """
        if self.columns is not None and "redirect_url" not in self.columns:
            require_redirect_url(redirect_url)

    async def requests(self) -> AsyncIterator[SessionRequest]:
        """Yield the requests of the rows, and record the invalid rows."""
        index = 0
        async for each in self.rows:
            row = each if self.shard is None else self.shard.select(each)
            if row is None:
                continue
            if isinstance(row, BadRow):
                self._record_invalid(row)
                await self.journal.drain()
                # Many invalid rows must not hold up the rows in flight.
                await asyncio.sleep(0)
            else:
                self.lines[index] = row.line
                index += 1
                yield row.request

    def _record_invalid(self, row: BadRow) -> None:
        failed = Failed(
            index=-1,
            item=row.link_id,  # type: ignore[arg-type] # it may have none
            request=row.request,
            error=row.error,
        )
        self.journal.record(failed, line=row.line)
        self._invalid[type(row.error).__name__] += 1

    async def process(self, batch: "AnyBatch", work: Awaitable[Any]) -> None:
        """
        Wait for the batch, show its progress, and stop it on Ctrl-C.

        An error that ends the batch early goes to the summary.

        Args:
            batch: The batch.
            work: Ends when the batch is complete.
        """

        def update() -> None:
            self.summary.update(batch.stats(), self._invalid, self.rate)

        with self.progress.live(update):
            try:
                await finish_or_cancel(work, lambda: self._drain(batch))
            except (InputFileError, JournalError, BatchStoppedError) as exc:
                self._abort(exc)
        self._count_cancelled()
        if batch.abort_cause is not None:
            self.summary.stopped = (
                f"bankconnect: stopped, nothing more was sent: "
                f"{self.explain(batch.abort_cause)}"
            )

    def _drain(self, batch: "AnyBatch") -> None:
        self.summary.interrupted = True
        self.rows.close()
        batch.drain()
        if waiting := self.journal.pending:
            until = (
                f"the reader of {self.output} has taken the {waiting} rows "
                f"that are done"
            )
        elif not isinstance(batch, SessionBatch):
            # The number that workers report is a second old.
            until = "the rows in flight are done"
        elif count := batch.stats().in_flight:
            until = f"the {count} rows in flight are done"
        else:
            return
        self.progress.print(
            f"stopping when {until}; press Ctrl-C again to cancel them"
        )

    def _count_cancelled(self) -> None:
        # A cancelled batch records its rows in flight, but does not count
        # them.
        cancelled = self.journal.failed - self.summary.failed
        if self.summary.interrupted and cancelled > 0:
            self.summary.failures[TransportError.__name__] += cancelled

    def close(self) -> None:
        """Write all records to the disk; an error goes to the summary."""
        try:
            self.journal.close()
        except JournalError as error:
            self._abort(error)

    def _abort(self, error: Exception) -> None:
        self.summary.aborted = True
        self.summary.mismatched = isinstance(error, JournalMismatchError)
        self.summary.stopped = (
            self.explain(error)
            if isinstance(error, JournalError)
            else str(error)
        )
