"""
``bankconnect batch``: rows in, one JSON line out for each.
"""

import asyncio

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import attrs

from bankconnect_async.batch import Created, Outcome, SessionBatch
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.errors import (
    AuthenticationError,
    BankConnectError,
    Delivery,
    PaymentRequiredError,
    TransportError,
)
from bankconnect_async.schema import SessionRequest

from ._client import require_redirect_url
from ._feed import Feed
from ._output import Output, OutputClosedError, OutputError
from ._progress import TallyBar
from ._records import created_record, explain, failed_record
from ._rows import BadRow, InputFileError, Row
from ._signals import on_interrupt
from ._tally import Tally


_DROPPED: Final = "interrupted before an answer came; a session may exist"
_UNSENT: Final = "interrupted before it was sent"


@attrs.define(kw_only=True)
class Batch:
    """
    One run over one input.

    Attributes:
        columns: What every row can have; `None` if each has its own.
        feed: The rows.
        output: Takes a record for each.
        concurrency: Requests in flight at most.
        rate: Requests per second at most.
        tally: What became of the rows so far.
        bar: Shows the tally.
    """

    columns: frozenset[str] | None
    feed: Feed[Row | BadRow]
    output: Output
    concurrency: int
    rate: float | None
    tally: Tally
    bar: TallyBar
    _begun: dict[int, Row] = attrs.field(factory=dict, init=False)
    _count: int = attrs.field(default=0, init=False)

    @property
    def begun(self) -> int:
        """How many rows were handed out, and have no record yet."""
        return len(self._begun)

    async def run(
        self, connection: AbstractAsyncContextManager[AsyncBankConnect]
    ) -> None:
        """
        Create a session for every row, and write what came of it.

        What ends it before the end of the input stands in the tally.

        Raises:
            ConfigurationError: If it cannot begin; nothing was sent.
        """
        async with connection as bank:
            if self.columns is not None and "redirect_url" not in self.columns:
                require_redirect_url(bank)
            self.tally.start()
            with self.bar:
                await self._run_until_stopped(bank)

    async def _run_until_stopped(self, bank: AsyncBankConnect) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is a coroutine

        def interrupt() -> None:
            if self.tally.interrupted:
                task.cancel()
            else:
                self._stop_gently()

        try:
            with on_interrupt(interrupt):
                await self._create(bank, task)
        except OutputClosedError:
            raise
        except (InputFileError, OutputError) as exc:
            self.tally.broken = True
            self.tally.stopped = str(exc)

    def _stop_gently(self) -> None:
        self.tally.interrupted = True
        self.feed.stop()
        if self.begun:
            self.bar.say(
                f"stopping when {self.begun} rows that were taken are done; "
                f"press Ctrl-C again to give them up"
            )

    def _give_up_begun(self, outcomes: SessionBatch) -> None:
        for index, row in list(self._begun.items()):
            if outcomes.may_have_sent(index):
                error = TransportError(_DROPPED, delivery=Delivery.AMBIGUOUS)
            else:
                error = TransportError(_UNSENT, delivery=Delivery.NOT_SENT)
            self._fail(row.line, row.request.link_id, error)
        self._begun.clear()

    async def _create(
        self, bank: AsyncBankConnect, task: asyncio.Task[Any]
    ) -> None:
        outcomes = bank.create_sessions(
            self._requests(), concurrency=self.concurrency, rate=self.rate
        )
        try:
            async with outcomes:
                async for outcome in outcomes:
                    self._report(outcome)
        except asyncio.CancelledError:
            if not self.tally.interrupted:
                raise
            task.uncancel()
            self._give_up_begun(outcomes)

    async def _requests(self) -> AsyncIterator[SessionRequest]:
        async for row in self.feed:
            if isinstance(row, BadRow):
                self._fail(row.line, row.link_id, row.error)
                # Many bad rows must not hold up what is in flight.
                await asyncio.sleep(0)
                continue
            self._begun[self._count] = row
            self._count += 1
            yield row.request

    def _report(self, outcome: Outcome) -> None:
        row = self._begun[outcome.index]
        if isinstance(outcome, Created):
            self.output.write(
                created_record(outcome.session) | {"line": row.line}
            )
            self.tally.created += 1
            self.bar.show()
        else:
            self._fail(row.line, outcome.link_id, outcome.error)
        del self._begun[outcome.index]

    def _fail(
        self, line: int, link_id: str | None, error: BankConnectError
    ) -> None:
        self.output.write(failed_record(link_id, error, line=line))
        self.tally.fail(error)
        if isinstance(error, AuthenticationError | PaymentRequiredError):
            self.tally.stopped = (
                f"bankconnect: stopped, nothing more was sent: "
                f"{explain(error)}"
            )
        self.bar.show()
