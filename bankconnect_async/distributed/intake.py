"""
The inputs of a batch on many processes, as its coordinator takes them.
"""

import asyncio

from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterable,
)
from contextlib import AsyncExitStack, aclosing
from typing import Final

from bankconnect_async._hooks import was_cancelled
from bankconnect_async._resources.session_creation import RequestPreparer
from bankconnect_async.batch.item_source import source_error
from bankconnect_async.batch.outcomes import (
    Item,
    Source,
    batch_stopped_error,
    failed_outcome,
)
from bankconnect_async.errors import BankConnectError, JournalError
from bankconnect_async.journal.journal import Journal

from .monitor import reporting_to


# How many items are taken from a source before other tasks have their turn.
_BLOCK: Final = 64


class RowIntake:
    """
    Takes the items of a source, and begins each in the journal.

    Args:
        source: The source.
        journal: The journal.
        abort_cause: A function that returns the error that aborted the batch.
        on_error: A callback for an error of the source.

    Attributes:
        taken: The number of items taken so far.
        skipped: The number of these that have a session.
        failures: The number of these that failed here, by the name of the
            error.
    """

    def __init__(
        self,
        source: Source,
        journal: Journal,
        *,
        abort_cause: Callable[[], BankConnectError | None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._source = source
        self._journal = journal
        self._abort_cause = abort_cause
        self._on_error = on_error
        self.taken: int = 0
        self.skipped: int = 0
        self.failures: Counter[str] = Counter()

    async def rows(
        self, preparer: RequestPreparer
    ) -> AsyncGenerator[tuple[int, Item], None]:
        """
        Yield the items that need a session, each with its line.

        Args:
            preparer: Completes requests as the workers do.
        """
        async with aclosing(self._items()) as items:
            async for item in items:
                line = self._begin(preparer, item)
                if line is not None:
                    yield line, item

    async def _items(self) -> AsyncGenerator[Item, None]:
        # If the source fails, the items that it gave before still count.
        try:
            with reporting_to(self._on_error):
                async with AsyncExitStack() as stack:
                    items = _iterate(self._source)
                    if isinstance(items, AsyncGenerator):
                        await stack.enter_async_context(aclosing(items))
                    async for item in items:
                        yield item
        except asyncio.CancelledError as exc:
            if was_cancelled():
                raise
            self._on_error(source_error(exc))

    def _begin(self, preparer: RequestPreparer, item: Item) -> int | None:
        index, request = self.taken, None
        self.taken += 1
        try:
            link_id, request = preparer.prepare(item)
            abort_cause = self._abort_cause()
            if abort_cause is not None:
                raise batch_stopped_error(abort_cause)
            if self._journal.begin(index, request, link_id=link_id):
                return self._journal.release(index)
        except JournalError:
            raise
        except BankConnectError as error:
            self._journal.record(failed_outcome(index, item, request, error))
            self.failures[type(error).__name__] += 1
        else:
            self.skipped += 1
        return None


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
