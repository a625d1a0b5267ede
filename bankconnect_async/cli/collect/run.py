"""
``bankconnect collect``: reads ids and writes a file for each kind of data.
"""

from collections.abc import Callable

import attrs

from bankconnect_async.cli.batch.progress import BatchProgress
from bankconnect_async.cli.input.rows import InputFileError
from bankconnect_async.cli.signals import finish_or_cancel
from bankconnect_async.collecting.collection import Collection
from bankconnect_async.errors import (
    BankConnectError,
    JournalError,
    JournalMismatchError,
)

from .summary import CollectSummary


@attrs.define(kw_only=True)
class CollectRun:
    """
    One run of a collection over one input.

    Attributes:
        rate: The user's limit of requests per second, if there is one.
        summary: The counts of this run.
        progress: The display of the summary.
        explain: Returns the message for an error, in words of the command
            line.
    """

    rate: float | None
    summary: CollectSummary
    progress: BatchProgress
    explain: Callable[[BankConnectError], str]
    _warned: set[str] = attrs.field(factory=set, init=False)

    async def process(self, collection: Collection) -> None:
        """
        Wait for the collection, show its progress, and stop it on Ctrl-C.

        An error that ends the collection early goes to the summary.
        """

        def update() -> None:
            self.summary.update_collection(collection.stats(), self.rate)

        with self.progress.live(update):
            try:
                await finish_or_cancel(
                    self._exhaust(collection), lambda: self._drain(collection)
                )
            except (InputFileError, JournalError, OSError) as exc:
                self._abort(exc)
        if collection.abort_cause is not None:
            self.summary.stopped = (
                f"bankconnect: stopped, nothing more was sent: "
                f"{self.explain(collection.abort_cause)}"
            )

    async def _exhaust(self, collection: Collection) -> None:
        async with collection:
            async for outcome in collection:
                if warning := getattr(outcome, "warning", None):
                    self._warn(warning)

    def _warn(self, warning: str) -> None:
        # The journal has them all.
        if warning not in self._warned:
            self._warned.add(warning)
            self.progress.print(f"warning: {warning}")

    def _drain(self, collection: Collection) -> None:
        self.summary.interrupted = True
        collection.drain()
        if count := collection.stats().in_flight:
            self.progress.print(
                f"stopping when the {count} requests in flight are done; "
                f"press Ctrl-C again to cancel them"
            )

    def _abort(self, error: Exception) -> None:
        self.summary.aborted = True
        self.summary.mismatched = isinstance(error, JournalMismatchError)
        match error:
            case JournalError():
                text = self.explain(error)
            case OSError():
                text = (
                    f"bankconnect: stopped, {error.filename or 'a file'} "
                    f"cannot be written: {error.strerror}"
                )
            case _:
                text = str(error)
        self.summary.stopped = text
