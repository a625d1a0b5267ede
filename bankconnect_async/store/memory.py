"""
A store of sessions in the memory of one process.
"""

import datetime
import time

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Final

import attrs

from bankconnect_async.errors import ConfigurationError, StoreError

from .entries import (
    DEDUP_WINDOW,
    InboxItem,
    Reserved,
    SessionEntry,
    SessionKey,
    SessionState,
    backoff,
    check_erasure,
    check_ids,
    check_window,
    find_live,
    new_reservation,
)
from .waiters import Waiters


@attrs.frozen
class _Reservation:
    reserved: Reserved
    ends: float


@attrs.define
class _Work:
    """
    An item of the inbox.

    Attributes:
        item: The item; its body is empty when the work is done.
        link_id: The customer, if known.
        changed_at: The time at which it was put in, or last taken.
        available_at: The time from which it can be taken.
    """

    item: InboxItem
    link_id: str | None
    changed_at: datetime.datetime
    available_at: datetime.datetime


class MemorySessionStore:
    """
    Stores the newest sessions in this process; a client's default.

    It is for one event loop. Its content ends with the process, and other
    processes cannot see it.

    Args:
        limit: The number of entries, and of items in the inbox. The oldest
            entries, and the oldest keys of work that is done, are evicted;
            work that is not done is refused above the limit.
        dedup_window: The time for which the key of work that is done stays
            known.

    Raises:
        ConfigurationError: If *limit* is below 1, or *dedup_window* below 0.

    Attributes:
        keeps_urls: Always true: journeys can be continued.
    """

    keeps_urls: bool = True

    def __init__(
        self,
        limit: int = 10_000,
        *,
        dedup_window: datetime.timedelta = DEDUP_WINDOW,
    ) -> None:
        if limit < 1:
            raise ConfigurationError(fields={"limit": ("must be 1 or more",)})
        check_window(dedup_window)
        self._limit: Final = limit
        self._window: Final = dedup_window
        # Entries that no other method has needed yet: a batch that asks
        # nothing pays for no index.
        self._new: Final[deque[SessionEntry | tuple[Any, ...]]] = deque(
            maxlen=limit
        )
        self.builder: Callable[[tuple[Any, ...]], SessionEntry] | None = None
        self._entries: Final[dict[str, SessionEntry]] = {}
        # The entries of each id, by the name of the id and its text.
        self._index: Final[dict[tuple[str, str], dict[str, None]]] = {}
        self._reservations: Final[dict[SessionKey, _Reservation]] = {}
        self._waiters: Final = Waiters()
        self._pending: Final[dict[str, _Work]] = {}
        self._finished: Final[dict[str, _Work]] = {}

    def __repr__(self) -> str:
        return f"MemorySessionStore(limit={self._limit})"

    async def open(self) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing; the entries stay."""

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

        See `SessionStore.reserve`.
        """
        while True:
            self._update()
            entry = find_live(
                self._with_id("link_id", key.link_id),
                key,
                now=now,
                created_after=created_after,
            )
            if entry is not None:
                return entry
            held = self._reservations.get(key)
            started = time.monotonic()
            left = 0.0 if held is None else held.ends - started
            if left <= 0:
                return self._grant(key, now=now, lease=lease)
            with self._waiters.watch(key) as change:
                await change.wait(left)
            now += datetime.timedelta(seconds=time.monotonic() - started)

    @property
    def add_nowait(self) -> Callable[[SessionEntry | tuple[Any, ...]], None]:
        """
        The function that adds one entry, or facts for the *builder*.
        """
        # A C function, so a caller that keeps it pays for no frame.
        return self._new.append

    async def add(self, entries: Sequence[SessionEntry], /) -> None:
        """Add entries; see `SessionStore.add`."""
        self._new.extend(entries)
        if self._reservations:
            self._update()

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
        """
        self._update()
        return [
            entry
            for entry in self._with_id(
                *check_ids(session_id, entity_id, link_id)
            )
            if entry.has_ids(
                api_id=api_id,
                session_id=session_id,
                entity_id=entity_id,
                link_id=link_id,
            )
        ]

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
        Apply `SessionEntry.advance` to one entry.

        Raises:
            StoreError: If there is no such entry.
        """
        self._update()
        entry = self._entries.get(entry_id)
        if entry is None:
            raise StoreError(f"no entry with the id {entry_id!r}")
        entry = entry.advance(state, at=at, entity_id=entity_id, detail=detail)
        self._put(entry)
        return entry

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
        """
        self._update()
        due = sorted(
            (entry.next_check_at, entry.entry_id)
            for entry in self._entries.values()
            if entry.next_check_at is not None
            and entry.next_check_at <= now
            and api_id in {None, entry.key.api_id}
        )
        leased = [
            attrs.evolve(self._entries[entry_id], next_check_at=now + lease)
            for _, entry_id in due[:limit]
        ]
        for entry in leased:
            self._entries[entry.entry_id] = entry
        return leased

    async def enqueue(
        self,
        key: str,
        body: bytes,
        *,
        at: datetime.datetime,
        link_id: str | None = None,
    ) -> bool:
        """
        Put work into the inbox; see `SessionStore.enqueue`.

        Raises:
            StoreError: If the inbox is full.
        """
        known = self._finished.get(key)
        if key in self._pending or (
            known is not None and known.changed_at + self._window > at
        ):
            return False
        if len(self._pending) >= self._limit:
            raise StoreError(
                f"the inbox is full: {self._limit} items are not done"
            )
        self._finished.pop(key, None)
        self._pending[key] = _Work(
            InboxItem(key=key, body=body, at=at), link_id, at, at
        )
        return True

    async def take(
        self,
        *,
        now: datetime.datetime,
        limit: int,
        lease: datetime.timedelta,
    ) -> Sequence[InboxItem]:
        """
        Lease work that nobody has leased, oldest first.
        """
        available = [
            work for work in self._pending.values() if work.available_at <= now
        ]
        available.sort(key=lambda work: work.item.at)
        taken = []
        for work in available[:limit]:
            item = work.item
            taken.append(item)
            work.item = attrs.evolve(item, attempts=item.attempts + 1)
            work.changed_at = now
            work.available_at = now + lease
        return taken

    async def done(self, key: str, /) -> None:
        """
        Erase the body of work that is done; its key stays known.
        """
        work = self._pending.pop(key, None)
        if work is None:
            return
        work.item = attrs.evolve(work.item, body=b"")
        self._finished[key] = work
        if len(self._finished) > self._limit:
            del self._finished[next(iter(self._finished))]

    async def release(self, key: str, /) -> None:
        """
        End a lease; see `SessionStore.release`.
        """
        work = self._pending.get(key)
        if work is not None:
            work.available_at = work.changed_at + backoff(work.item.attempts)
        self._end_reservations(lambda held: held.reserved.entry_id == key)

    async def entries(
        self, *, api_id: str | None = None
    ) -> AsyncIterator[SessionEntry]:
        """
        Yield all entries, oldest first.

        Args:
            api_id: The API; `None` for all.
        """
        self._update()
        for entry in list(self._entries.values()):
            if api_id is None or entry.key.api_id == api_id:
                yield entry

    async def forget(
        self,
        *,
        link_id: str | None = None,
        before: datetime.datetime | None = None,
    ) -> int:
        """
        Erase entries, and the work for their customers.

        See `SessionStore.forget`.
        """
        check_erasure(link_id, before)
        self._update()

        def is_meant(owner: str | None, at: datetime.datetime) -> bool:
            return (link_id is None or owner == link_id) and (
                before is None or at < before
            )

        doomed = [
            entry.entry_id
            for entry in self._entries.values()
            if is_meant(entry.link_id, entry.created_at)
        ]
        for entry_id in doomed:
            self._remove(entry_id)
        for works in (self._pending, self._finished):
            for key, work in list(works.items()):
                if is_meant(work.link_id, work.item.at):
                    del works[key]
        self._end_reservations(
            lambda held: held.reserved.key.link_id == link_id
        )
        return len(doomed)

    def _update(self) -> None:
        """Index the new entries, and wake those that wait for them."""
        while self._new:
            entry = self._new.popleft()
            if isinstance(entry, tuple):
                if self.builder is None:
                    raise TypeError("there is no builder of entries")
                entry = self.builder(entry)
            if entry.entry_id not in self._entries:
                self._put(entry)
            held = self._reservations.get(entry.key)
            if held is not None and held.reserved.entry_id == entry.entry_id:
                del self._reservations[entry.key]
            self._waiters.wake(entry.key)
        while len(self._entries) > self._limit:
            self._remove(next(iter(self._entries)))

    def _end_reservations(
        self, is_over: Callable[[_Reservation], bool]
    ) -> None:
        for key, held in list(self._reservations.items()):
            if is_over(held):
                del self._reservations[key]
                self._waiters.wake(key)

    def _put(self, entry: SessionEntry) -> None:
        self._entries[entry.entry_id] = entry
        for id_ in _ids(entry):
            self._index.setdefault(id_, {})[entry.entry_id] = None

    def _remove(self, entry_id: str) -> None:
        for id_ in _ids(self._entries.pop(entry_id)):
            entry_ids = self._index[id_]
            del entry_ids[entry_id]
            if not entry_ids:
                del self._index[id_]

    def _with_id(self, name: str, text: str) -> list[SessionEntry]:
        entry_ids = self._index.get((name, text), {})
        entries = [self._entries[entry_id] for entry_id in entry_ids]
        return sorted(
            entries, key=lambda entry: entry.created_at, reverse=True
        )

    def _grant(
        self,
        key: SessionKey,
        *,
        now: datetime.datetime,
        lease: datetime.timedelta,
    ) -> Reserved:
        passed = time.monotonic()
        if len(self._reservations) >= self._limit:
            self._end_reservations(lambda held: held.ends <= passed)
        if len(self._reservations) >= self._limit:
            del self._reservations[next(iter(self._reservations))]
        reserved = new_reservation(key, now=now, lease=lease)
        self._reservations[key] = _Reservation(
            reserved, passed + lease.total_seconds()
        )
        return reserved


def _ids(entry: SessionEntry) -> Iterable[tuple[str, str]]:
    if entry.session_id is not None:
        yield "session_id", entry.session_id
    for entity_id in entry.entity_ids:
        yield "entity_id", entity_id
    yield "link_id", entry.key.link_id
