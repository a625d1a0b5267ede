"""
The protocol of a store of sessions.
"""

import datetime

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from .entries import (
    InboxItem,
    Reserved,
    SessionEntry,
    SessionKey,
    SessionState,
)


class SessionStore(Protocol):
    """
    Keeps what became of sessions, for a client and its service.

    All times are aware. A store raises `StoreError` if it cannot be read or
    written. Leases end by themselves, so a killed process blocks nothing for
    long.
    """

    @property
    def keeps_urls(self) -> bool:
        """
        Whether entries keep their URL, so that a journey can be continued.
        """
        ...

    async def open(self) -> None:
        """
        Connect, and create or migrate the tables; calling it again does
        nothing.

        Raises:
            StoreError: If the store cannot be used, or is of a newer version.
        """
        ...

    async def aclose(self) -> None:
        """Write what is pending, and disconnect."""
        ...

    async def reserve(
        self,
        key: SessionKey,
        *,
        now: datetime.datetime,
        lease: datetime.timedelta,
        created_after: datetime.datetime | None = None,
    ) -> Reserved | SessionEntry:
        """
        Return the live entry of *key*, or the only right to create one.

        While another caller has that right, it waits until the entry is
        added, the right is released, or the lease ends. The lease runs by the
        store's clock, so that callers whose clocks differ take no right from
        each other. A store that keeps no URLs has no live entries: it gives
        every caller a right at once.

        Args:
            key: The customer and the purpose.
            now: The time.
            lease: The duration of the right.
            created_after: The time before which a session is too old to
                continue; `None` for no limit.
        """
        ...

    async def add(self, entries: Sequence[SessionEntry], /) -> None:
        """
        Add entries durably: once it returns, a killed process does not lose
        them.

        An entry replaces the reservation with the same *entry_id*. An entry
        that is there already stays as it is.
        """
        ...

    async def find(
        self,
        *,
        api_id: str,
        session_id: str | None = None,
        entity_id: str | None = None,
        link_id: str | None = None,
    ) -> Sequence[SessionEntry]:
        """
        Return the entries with all ids that are given, newest first.

        Raises:
            InvalidRequestError: If no id is given besides *api_id*.
        """
        ...

    def entries(
        self, *, api_id: str | None = None
    ) -> AsyncIterator[SessionEntry]:
        """
        Yield all entries in constant memory, in the order of their addition.

        The store can be read and written meanwhile. It may or may not yield
        an entry that is added or erased meanwhile.

        Args:
            api_id: The API of the entries; `None` for all.
        """
        ...

    async def advance(
        self,
        entry_id: str,
        state: SessionState,
        *,
        at: datetime.datetime,
        entity_id: str | None = None,
        detail: str | None = None,
    ) -> SessionEntry:
        """
        Apply `SessionEntry.advance` to one entry, atomically.

        Raises:
            StoreError: If there is no such entry.
        """
        ...

    async def due(
        self,
        *,
        now: datetime.datetime,
        limit: int,
        lease: datetime.timedelta,
        api_id: str | None = None,
    ) -> Sequence[SessionEntry]:
        """
        Lease entries whose next check is due, the longest due first.

        Their *next_check_at* becomes the end of the lease, until `advance`
        sets the next one.

        Args:
            now: The time.
            limit: The largest number of entries.
            lease: The duration of the lease.
            api_id: The API whose entries to lease; `None` for all.
        """
        ...

    async def enqueue(
        self,
        key: str,
        body: bytes,
        *,
        at: datetime.datetime,
        link_id: str | None = None,
    ) -> bool:
        """
        Put work into the inbox, durably.

        Args:
            key: The key of the work.
            body: The content, which is erased when the work is done.
            at: The time from which it can be taken.
            link_id: The customer, if known, for `forget`.

        Returns:
            False if the key is known: the work is in the inbox, or it is done
            and was last taken, or put in, within the store's *dedup_window*.
        """
        ...

    async def take(
        self,
        *,
        now: datetime.datetime,
        limit: int,
        lease: datetime.timedelta,
    ) -> Sequence[InboxItem]:
        """
        Lease work that is not leased, oldest first.

        Args:
            now: The time.
            limit: The largest number of items.
            lease: The duration of the lease.
        """
        ...

    async def done(self, key: str, /) -> None:
        """
        Erase the body of work that is done; its key stays known.
        """
        ...

    async def release(self, key: str, /) -> None:
        """
        End a lease: of work, by its key; or of a reservation, by its
        *entry_id*.

        Work that is released is taken again after a backoff since it was
        taken: a second, doubled with each attempt, five minutes at most.
        """
        ...

    async def forget(
        self,
        *,
        link_id: str | None = None,
        before: datetime.datetime | None = None,
    ) -> int:
        """
        Erase entries, and the work for their customers.

        Args:
            link_id: The customer; `None` for all.
            before: The time of creation before which entries are erased;
                `None` for all.

        Returns:
            The number of entries that were erased.

        Raises:
            InvalidRequestError: If neither is given, or *before* has no time
                zone.
        """
        ...
