"""
The inputs of a collection: the ids of a file, or the sessions of a store.
"""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    aclosing,
    asynccontextmanager,
)
from typing import Any, Final, Protocol

from bankconnect_async.cli.input.row_reader import RowReader
from bankconnect_async.cli.input.sources import Input
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.store import SessionEntry, SessionState, SessionStore

from .ids import IdRow, IdRows


# Sessions of other states have no data, or none any more.
_WITH_DATA: Final = frozenset(
    {
        SessionState.SUBMITTED,
        SessionState.PROCESSING,
        SessionState.COMPLETED,
        SessionState.FAILED,
    }
)


class Inputs(Protocol):
    """
    The sessions and entities to collect.
    """

    def count(self) -> int | None:
        """Return their number; `None` if it is not known."""
        ...

    def opened_for(
        self, bank: AsyncBankConnect, /
    ) -> AbstractAsyncContextManager[AsyncIterable[Any]]:
        """Open them for the API of *bank*."""
        ...


class FileOfIds:
    """
    The sessions and entities of a file.

    Args:
        source: The file.
    """

    def __init__(self, source: Input) -> None:
        self._source = source
        self._rows = IdRows(source.stream, name=source.name)

    def count(self) -> int | None:
        """Return the number of rows; `None` for a pipe."""
        lines = self._source.count_lines()
        return None if lines is None else lines - self._rows.has_header

    @asynccontextmanager
    async def opened_for(
        self, _: AsyncBankConnect, /
    ) -> AsyncIterator[AsyncIterable[IdRow]]:
        """Yield the rows, which a thread reads."""
        yield RowReader(self._rows, self._source)


class StoreInputs:
    """
    The sessions of a store that have data.

    Args:
        store: The store.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    def count(self) -> None:
        """Return `None`: the number is not known."""

    @asynccontextmanager
    async def opened_for(
        self, bank: AsyncBankConnect, /
    ) -> AsyncIterator[AsyncIterable[SessionEntry]]:
        """Yield the entries of the API of *bank*."""
        async with aclosing(self._store):
            await self._store.open()
            yield self._entries(bank.store_api_id)

    async def _entries(self, api_id: str) -> AsyncIterator[SessionEntry]:
        async for entry in self._store.entries(api_id=api_id):
            if entry.state in _WITH_DATA:
                yield entry
