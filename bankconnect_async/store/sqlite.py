"""
A store of sessions in a SQLite file, for the processes of one machine.
"""

import asyncio
import datetime
import functools
import logging
import os
import secrets
import sqlite3
import time

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NoReturn, Self, TypeVar

from bankconnect_async._codec.return_urls import Secrets
from bankconnect_async._tracebacks import hide_frames
from bankconnect_async.errors import ConfigurationError, StoreError

from .database_thread import (
    LOCK_TIMEOUT,
    DatabaseThread,
    as_store_error,
    is_busy,
)
from .entries import (
    DEDUP_WINDOW,
    CreatedFacts,
    InboxItem,
    Reserved,
    SessionEntry,
    SessionKey,
    SessionState,
    check_erasure,
    check_ids,
    check_window,
    new_reservation,
)
from .network_drives import network_drive
from .reserving import poll_reservation
from .sealing import make_sealer
from .sqlite_tables import SQLiteTables
from .waiters import Waiters


T = TypeVar("T")

_log: Final = logging.getLogger("bankconnect_async")

# A lock that is held while the file is created.
_RETRY_PAUSE: Final = 0.02
# The files that SQLite makes beside its file.
_SUFFIXES: Final = ("-wal", "-shm")
# How many entries are read or erased in one transaction.
_PART: Final = 1000
_PRAGMAS: Final = (
    # What is erased is overwritten.
    "PRAGMA secure_delete = ON",
    # A killed process loses nothing, a power cut the latest moments.
    "PRAGMA synchronous = NORMAL",
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA cache_size = -16000",
)
# Databases of a parent process whose fork called no hooks of Python. Closing
# one in a child could take away the parent's files.
_INHERITED: Final[list[object]] = []


class SQLiteSessionStore:
    """
    Stores sessions in a file that all processes of one machine share.

    A killed process loses nothing that it was told is stored; a power cut
    may take the latest moments. The file and those beside it (``-wal`` and
    ``-shm``) are readable by their owner alone. It cannot lie on a network
    drive. A store belongs to one event loop; make one in each process.

    Without keys, the file holds no URL and no token, so that journeys cannot
    be continued. Bodies of webhooks stand in it until they are done.

    Args:
        path: The path of the file, which is created if needed.
        encryption_keys: At least 32 secret bytes, or several such keys,
            newest first. Ids, URLs and bodies are then encrypted. To change
            the key, give the new one to all processes behind the old one,
            then put it first, and remove the old one when the store opens
            without it.
        dedup_window: The time for which the key of work that is done stays
            known.

    Raises:
        ConfigurationError: If an argument is wrong, or `cryptography` is not
            installed.
    """

    @hide_frames
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        encryption_keys: Secrets | None = None,
        dedup_window: datetime.timedelta = DEDUP_WINDOW,
    ) -> None:
        text = os.fspath(path)
        if not text or text == ":memory:" or "\0" in text:
            raise ConfigurationError(
                fields={
                    "path": (
                        "must be the path of a file; for a store in memory, "
                        "use MemorySessionStore",
                    )
                }
            )
        check_window(dedup_window)
        self.path: Final = Path(text).absolute()
        self._sealer: Final = make_sealer(encryption_keys)
        self._window: Final = dedup_window
        self._waiters: Final = Waiters()
        self._lock = asyncio.Lock()
        self._thread: DatabaseThread | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"SQLiteSessionStore({str(self.path)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a SQLiteSessionStore holds secrets and cannot be pickled; make "
            "one in each process"
        )

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def open(self) -> None:
        """
        Open the file, and create or migrate its tables.

        Raises:
            StoreError: If the file cannot be used, is of a newer version or
                another program, or was written with other keys.
        """
        self._is_closed = False
        await self._open()

    async def inspect(self) -> bool:
        """
        Check the file as `open` does, but change and make nothing.

        While it runs, no other store of this process may open the file.

        Returns:
            Whether there is a store; if not, `open` makes it.

        Raises:
            StoreError: If the file cannot be read, is of a newer version or
                another program, or was written with other keys.
        """
        return await asyncio.to_thread(self._inspect)

    async def aclose(self) -> None:
        """Write what is pending, and close the file."""
        self._is_closed = True
        thread = self._thread
        if thread is None:
            return
        if thread.pid != os.getpid():
            self._disown()
            return
        if not thread.loop.is_closed():
            self._check_loop(thread)
        self._thread = None
        # The next one may be for another event loop.
        self._lock = asyncio.Lock()
        await thread.close()

    @property
    def keeps_urls(self) -> bool:
        """Whether journeys can be continued, for which it needs keys."""
        return self._sealer.keeps_urls

    @hide_frames
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

        Without encryption keys there are no live entries, so that everybody
        gets a right at once. See `SessionStore.reserve`.
        """
        reserved = new_reservation(key, now=now, lease=lease)
        if not self.keeps_urls:
            return reserved
        return await poll_reservation(
            reserved,
            attempt=lambda right, passed: self._run(
                functools.partial(
                    SQLiteTables.reserve,
                    reserved=right,
                    now=now + passed,
                    lease=lease,
                    created_after=created_after,
                )
            ),
            give_back=self._give_back,
            waiters=self._waiters,
        )

    async def add(self, entries: Sequence[SessionEntry], /) -> None:
        """
        Add entries, together with those that other callers add.

        See `SessionStore.add`.
        """
        thread = self._usable() or await self._open()
        encode = self._tables.encode
        await thread.add([encode(entry) for entry in entries])
        if self._waiters:
            for entry in entries:
                self._waiters.wake(entry.key)

    def add_facts(self, facts: CreatedFacts, /) -> Awaitable[None]:
        """
        Add the entry of a session that was just created.

        The session is stored when what it returns was awaited. It does what
        `add` does, and costs a third less.
        """
        thread = self._usable()
        if thread is None:
            return self._add_unopened(facts)
        added = thread.add((self._tables.encode_facts(facts),))
        if self._waiters:
            added.add_done_callback(self._wake_all)
        return added

    async def _add_unopened(self, facts: CreatedFacts) -> None:
        await self._open()
        await self.add_facts(facts)

    def _wake_all(self, _: object) -> None:
        self._waiters.wake_all()

    @hide_frames
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
        name, text = check_ids(session_id, entity_id, link_id)

        def find(tables: SQLiteTables) -> list[SessionEntry]:
            return [
                entry
                for entry in tables.find(name, text)
                if entry.has_ids(
                    api_id=api_id,
                    session_id=session_id,
                    entity_id=entity_id,
                    link_id=link_id,
                )
            ]

        return await self._run(find, writes=False)

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

        def change(entry: SessionEntry) -> SessionEntry:
            return entry.advance(
                state, at=at, entity_id=entity_id, detail=detail
            )

        return await self._run(lambda tables: tables.advance(entry_id, change))

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
        return await self._run(
            lambda tables: tables.due(
                now=now, limit=limit, lease=lease, api_id=api_id
            )
        )

    @hide_frames
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
        """
        return await self._run(
            lambda tables: tables.enqueue(key, body, at, link_id)
        )

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
        return await self._run(
            lambda tables: tables.take(now=now, limit=limit, lease=lease)
        )

    @hide_frames
    async def done(self, key: str, /) -> None:
        """
        Erase the body of work that is done; its key stays known.
        """
        await self._run(lambda tables: tables.done(key))

    @hide_frames
    async def release(self, key: str, /) -> None:
        """
        End a lease; see `SessionStore.release`.
        """
        await self._run(lambda tables: tables.release(key))
        self._waiters.wake_all()

    async def entries(
        self, *, api_id: str | None = None
    ) -> AsyncIterator[SessionEntry]:
        """
        Yield all entries, oldest first, in constant memory.

        Args:
            api_id: The API; `None` for all.
        """
        last = 0
        while part := await self._run(
            lambda tables, after: tables.entries_after(after, _PART),
            last,
            writes=False,
        ):
            for _, entry in part:
                if api_id is None or entry.key.api_id == api_id:
                    yield entry
            last = part[-1][0]

    async def forget(
        self,
        *,
        link_id: str | None = None,
        before: datetime.datetime | None = None,
    ) -> int:
        """
        Erase entries, and the work for their customers.

        What is erased is overwritten in the files, unless another process
        is reading them at that moment. See `SessionStore.forget`.
        """
        check_erasure(link_id, before)
        await self._run(lambda tables: tables.forget_work(link_id, before))
        total = last = 0
        while part := await self._run(
            lambda tables, after: tables.forget_entries(
                after, link_id, before, _PART
            ),
            last,
        ):
            last, erased = part
            total += erased
        thread = self._usable() or await self._open()
        await thread.run_alone(self._tables.checkpoint)
        return total

    def _give_back(self, reserved: Reserved) -> None:
        """End a right that may be granted to a caller who has gone."""
        thread = None if self._is_closed else self._usable()
        if thread is not None:
            thread.run_unawaited(
                functools.partial(self._tables.release, reserved.entry_id)
            )

    async def _run(
        self, work: Callable[..., T], *args: object, writes: bool = True
    ) -> T:
        thread = self._usable() or await self._open()
        return await thread.run(
            functools.partial(work, self._tables, *args), writes=writes
        )

    def _usable(self) -> DatabaseThread | None:
        """Return the thread, if it is open in this process and loop."""
        if self._is_closed:
            raise StoreError(f"{self.path}: the store is closed")
        thread = self._thread
        if thread is None or thread.pid != os.getpid():
            return None
        self._check_loop(thread)
        return thread

    def _check_loop(self, thread: DatabaseThread) -> None:
        if thread.loop is not asyncio.get_running_loop():
            raise StoreError(
                f"{self.path}: the store belongs to another event loop: make "
                f"one store for each loop"
            )

    def _disown(self) -> None:
        _INHERITED.append((self._thread, self._tables))
        self._thread = None
        self._lock = asyncio.Lock()

    async def _open(self) -> DatabaseThread:
        if self._thread is not None and self._thread.pid != os.getpid():
            self._disown()
        async with self._lock:
            thread = self._usable()
            if thread is not None:
                return thread
            thread = DatabaseThread(str(self.path))
            try:
                tables = await thread.call(
                    functools.partial(self._connect, thread)
                )
            except BaseException:
                await thread.end()
                raise
            self._tables, self._thread = tables, thread
        if not self._sealer.keeps_urls:
            _log.info(
                "%s keeps no URLs of journeys, because it has no encryption "
                "keys: journeys cannot be continued",
                self.path,
            )
        return thread

    def _inspect(self) -> bool:
        _check_drive(self.path)
        if not os.access(self.path.parent, os.W_OK):
            raise StoreError(
                f"{self.path}: there is no such folder, or it cannot be "
                f"written"
            )
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise StoreError(f"{self.path}: {exc.strerror or exc}") from None
        _check_kind(self.path)
        if not size:
            return False
        if not os.access(self.path, os.W_OK):
            raise StoreError(f"{self.path}: it cannot be written")
        tables = SQLiteTables(self._sealer, self._window)
        # Without the files beside it, nobody writes, and SQLite would make
        # them even to read.
        wal, shm = _files_beside(self.path)
        mode = "immutable=1"
        if wal.exists() and shm.exists():
            mode = "readonly_shm=1"
        elif _size(wal):
            raise StoreError(
                f"{self.path}: its latest changes are in {wal.name}, which "
                f"can be read only while the store is open: open it once"
            )
        try:
            with closing(
                sqlite3.connect(
                    f"{self.path.as_uri()}?mode=ro&{mode}",
                    timeout=LOCK_TIMEOUT,
                    isolation_level=None,
                    uri=True,
                )
            ) as connection:
                return tables.check(connection)
        except StoreError as exc:
            error: Exception = StoreError(f"{self.path}: {exc}")
        except sqlite3.Error as exc:
            error = as_store_error(str(self.path), exc)
        raise error

    def _connect(self, thread: DatabaseThread) -> SQLiteTables:
        """Connect within the thread."""
        try:
            identity = _make_file(self.path)
        except OSError as exc:
            raise StoreError(f"{self.path}: {exc.strerror or exc}") from None
        check = functools.partial(_check_file, self.path, identity)
        tables = SQLiteTables(self._sealer, self._window)

        def reconnect() -> sqlite3.Connection:
            # Another file would be made in its place.
            check()
            return self._use_file(tables)

        thread.use(
            self._use_file(tables),
            reconnect=reconnect,
            add=tables.add,
            check=check,
        )
        return tables

    def _use_file(self, tables: SQLiteTables) -> sqlite3.Connection:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            connection = sqlite3.connect(
                self.path,
                timeout=LOCK_TIMEOUT,
                isolation_level=None,
                cached_statements=128,
            )
            try:
                # Before anything changes: the file may be another program's.
                is_made = tables.check(connection)
                _make_private(self.path)
                _configure(connection)
                tables.use(connection)
                if not is_made:
                    # Another process may have made them, and written.
                    tables.check(connection)
            except BaseException as exc:
                connection.close()
                # SQLite does not wait for the lock while it changes to WAL.
                if (
                    isinstance(exc, sqlite3.Error)
                    and is_busy(exc)
                    and time.monotonic() < deadline
                ):
                    time.sleep(_RETRY_PAUSE)
                    continue
                if isinstance(exc, StoreError):
                    raise StoreError(f"{self.path}: {exc}") from None
                raise
            return connection


def _configure(connection: sqlite3.Connection) -> None:
    [mode] = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError(
            f"SQLite cannot share it between processes (its journal mode "
            f"stays {mode}): use a local disk"
        )
    for pragma in _PRAGMAS:
        connection.execute(pragma).fetchall()


def _make_file(path: Path) -> tuple[int, int]:
    """Create the file if needed, and return what identifies it."""
    _check_drive(path)
    if not path.exists():
        # To close a file ends all locks of this process on it, such as those
        # of another store. So this one is closed before it gets its name.
        draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        _create(draft)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        except OSError:
            # The file system has no links.
            with suppress(FileExistsError):
                _create(path)
        finally:
            draft.unlink()
    identity = _identify(path)
    _check_kind(path)
    return identity


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _check_kind(path: Path) -> None:
    # A device would be made private, too.
    if not path.is_file():
        raise StoreError(f"{path}: is not a file: give another path")


def _check_drive(path: Path) -> None:
    if drive := network_drive(path):
        raise StoreError(
            f"{path}: it is on a network drive ({drive}), where processes "
            f"would damage it: use a local disk, or PostgresSessionStore"
        )


def _files_beside(path: Path) -> list[Path]:
    # Unlike Path.resolve, it raises nothing at a loop of links.
    file = Path(os.path.realpath(path))
    return [file.with_name(file.name + suffix) for suffix in _SUFFIXES]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _make_private(path: Path) -> None:
    # SQLite gives the files that it makes later the same mode.
    for file in (path, *_files_beside(path)):
        try:
            if file.stat().st_mode & 0o077:
                file.chmod(0o600)
        except FileNotFoundError:
            continue
        except PermissionError:
            raise StoreError(
                "it belongs to another user, and not only its owner can read "
                "it: use a file of your own"
            ) from None
        except OSError as exc:
            raise StoreError(
                f"it cannot be made private: {exc.strerror or exc}"
            ) from None


def _identify(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _check_file(path: Path, identity: tuple[int, int]) -> None:
    """Check that *path* is still the file that was opened."""
    try:
        is_same = _identify(path) == identity
    except OSError:
        is_same = False
    if not is_same:
        # What is written there now, no other process finds.
        raise StoreError(
            f"{path}: the file was removed or replaced while it was open: "
            f"put it back, or close the store and open it again"
        )
