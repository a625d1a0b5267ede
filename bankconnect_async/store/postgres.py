"""
A store of sessions in PostgreSQL, for processes on any number of machines.
"""

import asyncio
import datetime
import hashlib
import logging
import math
import os
import re

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Sequence,
)
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, NoReturn, Self, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import attrs

from bankconnect_async._codec.return_urls import Secrets
from bankconnect_async._redaction import redactor
from bankconnect_async._tracebacks import hide_frames, without_frames
from bankconnect_async.config import Secret, count_problem, seconds_problem
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
from .reserving import poll_reservation
from .sealing import (
    decode_entry,
    describe_foreign_key,
    describe_key,
    encode_entry,
    fingerprints,
    make_sealer,
)
from .waiters import Waiters


try:
    import asyncpg
except ImportError:
    asyncpg = None
    _DRIVER_ERRORS: tuple[type[Exception], ...] = ()
else:
    _DRIVER_ERRORS = (
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    )


T = TypeVar("T")

# Its types are partial, and it may be missing.
_DRIVER: Final[Any] = asyncpg
_ERRORS: Final[tuple[type[Exception], ...]] = (
    OSError,
    TimeoutError,
    *_DRIVER_ERRORS,
)

# An index takes no value of more than 2,700 bytes.
_MAX_INDEXED: Final = 500
# The most entries of one INSERT.
_MAX_GROUP: Final = 1000
# The keys of finished work that are dropped whenever work is done.
_DROPPED: Final = 10
# How many entries are read or erased at a time.
_PART: Final = 1000
_MISSING: Final = (
    'needs the extra "postgres": pip install "bankconnect-async[postgres]"'
)
_SCHEMES: Final = "postgresql://", "postgres://"
# Text that is not percent-encoded ends these parts of an address elsewhere
# than its writer thinks, and a password could then be taken for a host.
_HOST: Final = r"(?:\[[0-9A-Fa-f:.%]+\]|[^\[\]:,@]*)(?::[0-9]+)?"
_HOSTS: Final = re.compile(rf"{_HOST}(?:,{_HOST})*")
# The password of the private key for TLS.
_KEY_PASSWORD: Final = re.compile("(sslpassword=)[^&]*")
_SCHEMA: Final = re.compile("[a-z][a-z0-9_]{0,62}")
# The pauses before work that was released is taken again, by its attempts.
_BACKOFFS: Final = [backoff(attempts) for attempts in range(20)]
_log: Final = logging.getLogger("bankconnect_async")

_MIGRATIONS: Final = (
    """
    CREATE TABLE {schema}.settings (
        name text PRIMARY KEY,
        value text NOT NULL
    );
    CREATE TABLE {schema}.keys (fingerprint text PRIMARY KEY);
    CREATE TABLE {schema}.entries (
        entry_id text PRIMARY KEY,
        api_id text NOT NULL,
        session_id text,
        link_id text NOT NULL,
        state text NOT NULL,
        created_at timestamptz NOT NULL,
        next_check_at timestamptz,
        body bytea NOT NULL,
        sealed_with text NOT NULL
    );
    CREATE INDEX ON {schema}.entries (link_id);
    CREATE INDEX ON {schema}.entries (session_id)
        WHERE session_id IS NOT NULL;
    CREATE INDEX ON {schema}.entries (created_at);
    CREATE INDEX ON {schema}.entries (next_check_at)
        WHERE next_check_at IS NOT NULL;
    CREATE TABLE {schema}.entities (
        entity_id text,
        entry_id text REFERENCES {schema}.entries ON DELETE CASCADE,
        PRIMARY KEY (entity_id, entry_id)
    );
    CREATE INDEX ON {schema}.entities (entry_id);
    CREATE TABLE {schema}.reservations (
        key text PRIMARY KEY,
        entry_id text NOT NULL,
        link_id text NOT NULL,
        until timestamptz NOT NULL
    );
    CREATE INDEX ON {schema}.reservations (entry_id);
    CREATE INDEX ON {schema}.reservations (until);
    CREATE TABLE {schema}.inbox (
        key text PRIMARY KEY,
        link_id text,
        sealed_key bytea,
        body bytea,
        sealed_with text NOT NULL,
        at timestamptz NOT NULL,
        changed_at timestamptz NOT NULL,
        available_at timestamptz NOT NULL,
        attempts integer NOT NULL DEFAULT 0
    );
    CREATE INDEX ON {schema}.inbox (link_id) WHERE link_id IS NOT NULL;
    CREATE INDEX ON {schema}.inbox (at);
    CREATE INDEX ON {schema}.inbox (at, key) WHERE body IS NOT NULL;
    CREATE INDEX ON {schema}.inbox (changed_at) WHERE body IS NULL;
    """,
)

_STATEMENTS: Final = {
    "version": """
        SELECT value FROM {schema}.settings WHERE name = 'version'
    """,
    "set version": """
        INSERT INTO {schema}.settings VALUES ('version', $1)
        ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value
    """,
    "may create": """
        SELECT coalesce(
            (
                SELECT has_schema_privilege(oid, 'CREATE')
                FROM pg_catalog.pg_namespace WHERE nspname = $1
            ),
            has_database_privilege(current_database(), 'CREATE')
        )
    """,
    "add key": """
        INSERT INTO {schema}.keys VALUES ($1) ON CONFLICT DO NOTHING
    """,
    # The keys that wrote something and are not among those that are given.
    "missing keys": """
        SELECT fingerprint FROM {schema}.keys
        WHERE fingerprint != ALL($1::text[])
        AND (EXISTS (
            SELECT FROM {schema}.entries WHERE sealed_with = fingerprint
        ) OR EXISTS (
            SELECT FROM {schema}.inbox
            WHERE sealed_with = fingerprint AND body IS NOT NULL
        ))
    """,
    # What the entry replaces is deleted in the same transaction.
    "add": """
        WITH reserved AS (
            DELETE FROM {schema}.reservations WHERE entry_id = ANY($1::text[])
        ), added AS (
            INSERT INTO {schema}.entries
            SELECT * FROM unnest(
                $1::text[], $2::text[], $3::text[], $4::text[], $5::text[],
                $6::timestamptz[], $7::timestamptz[], $8::bytea[], $9::text[]
            )
            ON CONFLICT DO NOTHING
            RETURNING entry_id
        )
        INSERT INTO {schema}.entities
        SELECT entity_id, entry_id
        FROM unnest($10::text[], $11::text[]) AS ids (entity_id, entry_id)
        JOIN added USING (entry_id)
        ON CONFLICT DO NOTHING
    """,
    "reserve": """
        INSERT INTO {schema}.reservations
        SELECT $1, $2, $3, clock_timestamp() + $4::interval
        WHERE NOT EXISTS (
            SELECT FROM {schema}.reservations
            WHERE key = ANY($5::text[]) AND until > clock_timestamp()
        )
        ON CONFLICT (key) DO UPDATE
        SET entry_id = EXCLUDED.entry_id, until = EXCLUDED.until
        WHERE reservations.until <= clock_timestamp()
        RETURNING entry_id
    """,
    "cancel": """
        DELETE FROM {schema}.reservations WHERE entry_id = $1
    """,
    "find": """
        SELECT body, next_check_at FROM {schema}.entries
        WHERE api_id = $1
        AND ($2::text[] IS NULL OR session_id = ANY($2))
        AND ($3::text[] IS NULL OR link_id = ANY($3))
        AND ($4::text[] IS NULL OR entry_id IN (
            SELECT entry_id FROM {schema}.entities WHERE entity_id = ANY($4)
        ))
        ORDER BY created_at DESC, entry_id DESC
    """,
    "entries": """
        SELECT entry_id, body, next_check_at FROM {schema}.entries
        WHERE entry_id > $1 AND ($2::text IS NULL OR api_id = $2)
        ORDER BY entry_id
        LIMIT $3
    """,
    "lock": """
        SELECT body, next_check_at FROM {schema}.entries
        WHERE entry_id = $1 FOR UPDATE
    """,
    "update": """
        WITH ids AS (
            INSERT INTO {schema}.entities
            SELECT unnest($8::text[]), $1
            ON CONFLICT DO NOTHING
        )
        UPDATE {schema}.entries
        SET session_id = $2, link_id = $3, state = $4, next_check_at = $5,
            body = $6, sealed_with = $7
        WHERE entry_id = $1
    """,
    "due": """
        WITH due AS (
            SELECT entry_id, next_check_at FROM {schema}.entries
            WHERE next_check_at <= $1 AND ($4::text IS NULL OR api_id = $4)
            ORDER BY next_check_at
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        )
        UPDATE {schema}.entries SET next_check_at = $3
        FROM due WHERE entries.entry_id = due.entry_id
        RETURNING body, entries.next_check_at, due.next_check_at AS was_due
    """,
    "enqueue": """
        INSERT INTO {schema}.inbox
            (key, link_id, sealed_key, body, sealed_with, at, changed_at,
            available_at)
        SELECT $1, $2, $3, $4, $5, $6, $6, $6
        WHERE NOT EXISTS (
            SELECT FROM {schema}.inbox
            WHERE key = ANY($7::text[])
            AND (body IS NOT NULL OR changed_at > $8)
        )
        ON CONFLICT (key) DO UPDATE
        SET link_id = EXCLUDED.link_id, sealed_key = EXCLUDED.sealed_key,
            body = EXCLUDED.body, sealed_with = EXCLUDED.sealed_with,
            at = EXCLUDED.at,
            changed_at = EXCLUDED.changed_at,
            available_at = EXCLUDED.available_at, attempts = 0
        WHERE inbox.body IS NULL AND inbox.changed_at <= $8
        RETURNING key
    """,
    "take": """
        WITH available AS (
            SELECT key FROM {schema}.inbox
            WHERE body IS NOT NULL AND available_at <= $1
            ORDER BY at, key
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        )
        UPDATE {schema}.inbox
        SET attempts = attempts + 1, changed_at = $1, available_at = $3
        FROM available WHERE inbox.key = available.key
        RETURNING sealed_key, body, at, attempts - 1 AS attempts
    """,
    "done": """
        WITH finished AS (
            UPDATE {schema}.inbox SET sealed_key = NULL, body = NULL
            WHERE key = ANY($1::text[]) AND body IS NOT NULL
            RETURNING changed_at
        )
        DELETE FROM {schema}.inbox WHERE key IN (
            SELECT key FROM {schema}.inbox
            WHERE body IS NULL
            AND changed_at + $2::interval
                < (SELECT max(changed_at) FROM finished)
            ORDER BY changed_at
            LIMIT $3
            FOR UPDATE SKIP LOCKED
        )
    """,
    "release": """
        UPDATE {schema}.inbox
        SET available_at = changed_at + ($2::interval[])[
            least(attempts, cardinality($2::interval[]) - 1) + 1
        ]
        WHERE key = ANY($1::text[]) AND body IS NOT NULL
    """,
    "forget rights": """
        DELETE FROM {schema}.reservations
        WHERE link_id = ANY($1::text[]) OR until < clock_timestamp()
    """,
    # A part at a time, because each statement has to end in time.
    "forget work": """
        WITH found AS (
            SELECT key FROM {schema}.inbox
            WHERE ($1::text[] IS NULL OR link_id = ANY($1))
            AND ($2::timestamptz IS NULL OR at < $2)
            LIMIT $3
        ), erased AS (
            DELETE FROM {schema}.inbox USING found
            WHERE inbox.key = found.key
            RETURNING inbox.key
        )
        SELECT (SELECT count(*) FROM found), (SELECT count(*) FROM erased)
    """,
    "forget entries": """
        WITH found AS (
            SELECT entry_id FROM {schema}.entries
            WHERE ($1::text[] IS NULL OR link_id = ANY($1))
            AND ($2::timestamptz IS NULL OR created_at < $2)
            LIMIT $3
        ), erased AS (
            DELETE FROM {schema}.entries USING found
            WHERE entries.entry_id = found.entry_id
            RETURNING entries.entry_id
        )
        SELECT (SELECT count(*) FROM found), (SELECT count(*) FROM erased)
    """,
}


class _HiddenBytes(bytes):
    """
    Bytes that no repr and no traceback with locals shows.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "b'***'"


class PostgresSessionStore:
    """
    Stores sessions in PostgreSQL, for any number of processes and machines.

    Its tables are in a schema of their own. It needs the extra `postgres`.
    One store belongs to one event loop; each process makes its own. Poolers
    such as PgBouncer are detected, also in transaction mode.

    A deleted row stays in the files of the database until VACUUM, and longer
    in backups and in the write-ahead log.

    Args:
        dsn: The address, as libpq and asyncpg take it, such as
            ``postgresql://user:password@host/database?sslmode=verify-full``.
        encryption_keys: At least 32 secret bytes, or several such keys,
            newest first. Without keys, no URL of a journey is kept, so no
            journey is continued.
        dedup_window: The time for which the key of work that is done stays
            known.
        schema: The schema of the tables. It is created if it is missing.
        max_connections: The most connections of this store.
        timeout: The seconds that connecting, and each statement, may take.

    Raises:
        ConfigurationError: If a setting is wrong, or an extra is missing.
    """

    @hide_frames
    def __init__(  # noqa: PLR0913
        self,
        dsn: str,
        *,
        encryption_keys: Secrets | None = None,
        dedup_window: datetime.timedelta = DEDUP_WINDOW,
        schema: str = "bankconnect",
        max_connections: int = 10,
        timeout: float = 10.0,
    ) -> None:
        problems = {
            "store": None if asyncpg else _MISSING,
            "dsn": _dsn_problem(dsn),
            "schema": _schema_problem(schema),
            "max_connections": count_problem(max_connections),
            "timeout": seconds_problem(timeout),
        }
        fields = {name: (text,) for name, text in problems.items() if text}
        if fields:
            raise ConfigurationError(fields=fields)
        check_window(dedup_window)
        self._dsn, self._password = _split_dsn(dsn)
        self._sealer: Final = make_sealer(encryption_keys)
        self._fingerprints: Final = fingerprints(self._sealer)
        self._window: Final = dedup_window
        self._schema: Final = schema
        self._quoted: Final = f'"{schema}"'
        self._max_connections: Final = max_connections
        self._timeout: Final = timeout
        self._statements: Final = {
            name: text.format(schema=self._quoted)
            for name, text in _STATEMENTS.items()
        }
        self._opening = asyncio.Lock()
        self._pool: Any = None
        self._owner: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._is_closed = False
        # Whether a pooler may run each transaction on another connection.
        self._is_pooled = False
        self._waiters: Final = Waiters()
        self._waiting: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None
        self._given_back: Final[set[asyncio.Task[list[Any]]]] = set()

    @property
    def keeps_urls(self) -> bool:
        """Whether there are keys to encrypt URLs of journeys with."""
        return self._sealer.keeps_urls

    def __repr__(self) -> str:
        dsn = _KEY_PASSWORD.sub(r"\1***", self._dsn)
        return f"PostgresSessionStore({dsn!r}, schema={self._schema!r})"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a PostgresSessionStore holds secrets and cannot be pickled"
        )

    @hide_frames
    async def open(self) -> None:
        """
        Connect, and create or migrate the tables; see `SessionStore.open`.

        Raises:
            StoreError: If the database cannot be used, is of a newer version,
                or was written with other keys.
        """
        async with self._opening:
            self._is_closed = False
            if self._pool is None:
                await self._connect()

    @hide_frames
    async def inspect(self) -> bool:
        """
        Check the database as `open` does, but change and make nothing.

        Returns:
            Whether there is a store; if not, `open` makes it.

        Raises:
            StoreError: If the database cannot be read, is of a newer version,
                or was written with other keys.
        """
        with self._errors():
            connection = await self._dial(statement_cache_size=0)
            try:
                async with connection.transaction(
                    isolation="read_committed", readonly=True
                ):
                    is_made = bool(await self._check(connection))
                    if not (
                        is_made
                        or await connection.fetchval(
                            self._statements["may create"], self._schema
                        )
                    ):
                        raise StoreError(
                            "PostgreSQL: there is no store, and this user "
                            "may not create its tables: grant CREATE on the "
                            "database"
                        )
                    return is_made
            finally:
                await connection.close()

    async def aclose(self) -> None:
        """
        Write what is pending, and disconnect.

        Raises:
            StoreError: If the store belongs to another event loop, which
                still runs.
        """
        self._is_closed = True
        if self._owner is not None:
            pid, loop = self._owner
            if pid != os.getpid() or loop.is_closed():
                # The connections are another process's, or nobody can close
                # them any more.
                self._pool = self._owner = self._writer = None
                self._opening = asyncio.Lock()
                return
            self._check_owner()
        async with self._opening:
            if self._pool is None:
                return
            if self._writer is not None:
                await asyncio.wait((self._writer,))
            if self._given_back:
                await asyncio.wait(self._given_back)
            pool, self._pool, self._owner = self._pool, None, None
            try:
                async with asyncio.timeout(self._timeout):
                    await pool.close()
            except _ERRORS:
                pool.terminate()

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

        The lease runs by the clock of the database; see
        `SessionStore.reserve`.
        """
        reserved = new_reservation(key, now=now, lease=lease)
        if not self.keeps_urls:
            # There is nothing to continue, so nobody has to wait.
            return reserved
        return await poll_reservation(
            reserved,
            attempt=lambda right, passed: self._try_to_reserve(
                right,
                now=now + passed,
                lease=lease,
                created_after=created_after,
            ),
            give_back=self._give_back,
            waiters=self._waiters,
        )

    def _give_back(self, reserved: Reserved) -> None:
        """End a right that may be granted to a caller who has gone."""
        task = asyncio.create_task(self._fetch("cancel", reserved.entry_id))
        self._given_back.add(task)
        task.add_done_callback(self._on_given_back)

    def _on_given_back(self, task: "asyncio.Task[list[Any]]") -> None:
        self._given_back.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.warning("a reservation ends by itself only: %s", error)

    async def _try_to_reserve(
        self,
        reserved: Reserved,
        *,
        now: datetime.datetime,
        lease: datetime.timedelta,
        created_after: datetime.datetime | None,
    ) -> Reserved | SessionEntry | float:
        key = reserved.key
        newest, *older = self._lookups(describe_key(key))
        link_ids = self._lookups(key.link_id)

        async def work(connection: Any) -> Reserved | SessionEntry | float:
            # The reservation comes first: an entry that replaces another
            # one's is then visible.
            granted = await connection.fetchval(
                self._statements["reserve"],
                newest,
                reserved.entry_id,
                link_ids[0],
                lease,
                older,
            )
            rows = await connection.fetch(
                self._statements["find"], key.api_id, None, link_ids, None
            )
            live = find_live(
                map(self._entry, rows),
                key,
                now=now,
                created_after=created_after,
            )
            if live is None:
                return reserved if granted else math.inf
            if granted:
                await connection.execute(
                    self._statements["cancel"], reserved.entry_id
                )
            return live

        return await self._run(work, in_transaction=True)

    async def add(self, entries: Sequence[SessionEntry], /) -> None:
        """
        Add entries; see `SessionStore.add`.

        Calls that wait at the same time are committed together.
        """
        if not entries:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(([self._row(entry) for entry in entries], done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        await done
        for entry in entries:
            self._waiters.wake(entry.key)

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
            InvalidRequestError: If no id is given.
        """
        check_ids(session_id, entity_id, link_id)
        ids = [
            None if text is None else self._lookups(text)
            for text in (session_id, link_id, entity_id)
        ]
        rows = await self._fetch("find", api_id, *ids)
        return [self._entry(row) for row in rows]

    async def entries(
        self, *, api_id: str | None = None
    ) -> AsyncIterator[SessionEntry]:
        """
        Iterate over all entries in constant memory; see
        `SessionStore.entries`.
        """
        last = ""
        while rows := await self._fetch("entries", last, api_id, _PART):
            for row in rows:
                yield self._entry(row)
            last = rows[-1]["entry_id"]

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

        async def work(connection: Any) -> SessionEntry:
            row = await connection.fetchrow(
                self._statements["lock"], _indexable(entry_id)
            )
            if row is None:
                raise StoreError(f"no entry with the id {entry_id!r}")
            entry = self._entry(row).advance(
                state, at=at, entity_id=entity_id, detail=detail
            )
            new = self._row(entry)
            await connection.execute(
                self._statements["update"],
                new.entry_id,
                new.session_id,
                new.link_id,
                new.state,
                new.next_check_at,
                new.body,
                new.sealed_with,
                new.entity_ids,
            )
            return entry

        return await self._run(work, in_transaction=True)

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
        rows = await self._fetch("due", now, limit, now + lease, api_id)
        rows.sort(key=lambda row: row["was_due"])
        return [self._entry(row) for row in rows]

    async def enqueue(
        self,
        key: str,
        body: bytes,
        *,
        at: datetime.datetime,
        link_id: str | None = None,
    ) -> bool:
        """
        Put work into the inbox, durably; see `SessionStore.enqueue`.
        """
        newest, *older = self._lookups(key)
        body = self._seal(body)
        return bool(
            await self._fetch(
                "enqueue",
                newest,
                None if link_id is None else self._lookups(link_id)[0],
                self._seal(key.encode(errors="surrogatepass")),
                body,
                self._fingerprints[0],
                at,
                older,
                at - self._window,
            )
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
        rows = await self._fetch("take", now, limit, now + lease)
        items = [
            InboxItem(
                key=self._sealer.unseal(row["sealed_key"]).decode(
                    errors="surrogatepass"
                ),
                body=self._sealer.unseal(row["body"]),
                at=row["at"],
                attempts=row["attempts"],
            )
            for row in rows
        ]
        items.sort(key=lambda item: item.at)
        return items

    async def done(self, key: str, /) -> None:
        """
        Erase the body of work that is done; its key stays known.
        """
        await self._fetch("done", self._lookups(key), self._window, _DROPPED)

    async def release(self, key: str, /) -> None:
        """
        End a lease; see `SessionStore.release`.
        """

        async def work(connection: Any) -> None:
            await connection.execute(
                self._statements["cancel"], _indexable(key)
            )
            await connection.execute(
                self._statements["release"], self._lookups(key), _BACKOFFS
            )

        await self._run(work, in_transaction=True)
        self._waiters.wake_all()

    async def forget(
        self,
        *,
        link_id: str | None = None,
        before: datetime.datetime | None = None,
    ) -> int:
        """
        Erase entries, and the work for their customers.

        See `SessionStore.forget`. The space that they take in the files of
        the database is overwritten after the next VACUUM.
        """
        check_erasure(link_id, before)
        link_ids = None if link_id is None else self._lookups(link_id)
        await self._fetch("forget rights", link_ids)
        await self._erase("forget work", link_ids, before)
        return await self._erase("forget entries", link_ids, before)

    async def _erase(
        self,
        name: str,
        link_ids: list[str] | None,
        before: datetime.datetime | None,
    ) -> int:
        """Run a statement until it finds no more rows; count them."""
        total, found = 0, True
        while found:
            [(found, erased)] = await self._fetch(
                name, link_ids, before, _PART
            )
            total += erased
        return total

    # Rows.

    def _lookups(self, text: str) -> list[str]:
        return [_indexable(text) for text in self._sealer.lookups(text)]

    def _seal(self, body: bytes) -> bytes:
        return _HiddenBytes(self._sealer.seal(body))

    def _row(self, entry: SessionEntry) -> "_Row":
        session_id = entry.session_id
        body = encode_entry(entry, keeps_urls=self.keeps_urls)
        return _Row(
            entry_id=_indexable(entry.entry_id),
            api_id=entry.key.api_id,
            session_id=(
                None
                if session_id is None
                else Secret(self._lookups(session_id)[0])
            ),
            link_id=self._lookups(entry.link_id)[0],
            state=str(entry.state),
            created_at=entry.created_at,
            next_check_at=entry.next_check_at,
            body=self._seal(body),
            sealed_with=self._fingerprints[0],
            entity_ids=[self._lookups(id_)[0] for id_ in entry.entity_ids],
        )

    def _entry(self, row: Any) -> SessionEntry:
        entry = decode_entry(self._sealer.unseal(row["body"]))
        # A lease changes the column alone.
        return attrs.evolve(entry, next_check_at=row["next_check_at"])

    # Grouped writes.

    async def _write(self) -> None:
        group: list[_Waiting] = []
        try:
            while self._waiting:
                group = self._waiting[:_MAX_GROUP]
                del self._waiting[:_MAX_GROUP]
                error = await self._insert(
                    [row for rows, _ in group for row in rows]
                )
                for _, done in group:
                    if done.done():
                        continue
                    if error is None:
                        done.set_result(None)
                    elif isinstance(error, StoreError):
                        # Each caller adds facts to an error of its own.
                        done.set_exception(StoreError(error.message))
                    else:
                        done.set_exception(error)
        finally:
            self._writer = None
            for _, done in (*group, *self._waiting):
                done.cancel()
            self._waiting.clear()

    async def _insert(self, rows: "list[_Row]") -> Exception | None:
        *columns, entity_ids = map(list, zip(*rows, strict=True))
        pairs = [
            (entity_id, entry_id)
            for entry_id, ids in zip(columns[0], entity_ids, strict=True)
            for entity_id in ids
        ]
        try:
            await self._fetch(
                "add",
                *columns,
                [entity_id for entity_id, _ in pairs],
                [entry_id for _, entry_id in pairs],
            )
        except Exception as error:  # noqa: BLE001 - the callers raise it
            return error
        return None

    # Connections.

    async def _fetch(self, name: str, /, *args: Any) -> list[Any]:
        statement = self._statements[name]

        async def work(connection: Any) -> list[Any]:
            return await connection.fetch(statement, *args)  # type: ignore[no-any-return]

        return await self._run(work)

    @hide_frames
    async def _run(
        self,
        work: Callable[[Any], Awaitable[T]],
        *,
        in_transaction: bool = False,
    ) -> T:
        pool = await self._get_pool()
        with self._errors():
            async with (
                asyncio.timeout(self._timeout),
                pool.acquire() as connection,
            ):
                # A pooler may run each statement outside of a transaction on
                # another connection, also the two steps of one.
                if in_transaction or self._is_pooled:
                    async with connection.transaction(
                        isolation="read_committed"
                    ):
                        return await work(connection)
                return await work(connection)

    async def _get_pool(self) -> Any:
        if self._pool is None:
            if self._is_closed:
                raise StoreError("the store is closed: open it again")
            await self.open()
        self._check_owner()
        return self._pool

    def _check_owner(self) -> None:
        if self._owner != (os.getpid(), asyncio.get_running_loop()):
            raise StoreError(
                "the store belongs to another event loop or process: make "
                "one store for each"
            )

    async def _connect(self) -> None:
        with self._errors():
            connection = await self._dial(statement_cache_size=0)
            try:
                async with connection.transaction(isolation="read_committed"):
                    # A pooler invents the number that it tells a client.
                    pid = await connection.fetchval("SELECT pg_backend_pid()")
                    self._is_pooled = pid != connection.get_server_pid()
                    await self._prepare(connection)
            finally:
                await connection.close()
            settings = {"statement_cache_size": 0} if self._is_pooled else {}
            self._pool = await _DRIVER.create_pool(
                min_size=0,
                max_size=self._max_connections,
                connect=self._dial,
                # Nothing here changes a connection, so there is nothing to
                # reset, which would take a round trip.
                reset=_do_nothing,
                **settings,
            )
        self._owner = os.getpid(), asyncio.get_running_loop()
        if not self.keeps_urls:
            _log.info(
                "the store keeps no URLs of journeys without encryption "
                "keys, so no journey is continued"
            )

    async def _dial(self, *_: Any, **settings: Any) -> Any:
        try:
            return await _DRIVER.connect(
                self._dsn,
                # The driver takes no subclass.
                password=None
                if self._password is None
                else str(self._password),
                timeout=self._timeout,
                command_timeout=self._timeout,
                **settings,
            )
        except BaseException as error:  # noqa: BLE001 - it is raised again
            # The driver's frames hold the password.
            failure = without_frames(error)
            if isinstance(error, ValueError) and not isinstance(
                error, _ERRORS
            ):
                # Its text may quote a part of the address.
                failure = StoreError("PostgreSQL: the address cannot be read")
        raise failure

    async def _prepare(self, connection: Any) -> None:
        if await self._check(connection) < len(_MIGRATIONS):
            # Of processes that start together, one migrates.
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
                f"bankconnect_async {self._schema}",
            )
            version = await self._version(connection)
            await self._migrate(connection, version)
            # Another process may have made the tables, and written.
            await self._check(connection)
        await connection.execute(
            self._statements["add key"], self._fingerprints[0]
        )

    async def _check(self, connection: Any) -> int:
        """Return the version of the tables, 0 without; change nothing."""
        version = await self._version(connection)
        if version > len(_MIGRATIONS):
            raise StoreError(
                f"PostgreSQL: the store has the version {version}, and this "
                f"package knows none above {len(_MIGRATIONS)}: upgrade "
                f"bankconnect-async"
            )
        if version:
            missing = await connection.fetchval(
                self._statements["missing keys"], self._fingerprints
            )
            if missing is not None:
                text = describe_foreign_key(missing, self._sealer)
                raise StoreError(f"PostgreSQL: {text}")
        return version

    async def _version(self, connection: Any) -> int:
        # Functions such as to_regclass may answer from an old cache.
        is_there = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables "
            "WHERE schemaname = $1 AND tablename = 'settings')",
            self._schema,
        )
        if not is_there:
            return 0
        return int(await connection.fetchval(self._statements["version"]))

    async def _migrate(self, connection: Any, version: int) -> None:
        has_schema = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace "
            "WHERE nspname = $1)",
            self._schema,
        )
        # Whoever may not create one can use one that is there.
        if not has_schema:
            await connection.execute(f"CREATE SCHEMA {self._quoted}")
        for migration in _MIGRATIONS[version:]:
            await connection.execute(migration.format(schema=self._quoted))
        await connection.execute(
            self._statements["set version"], str(len(_MIGRATIONS))
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except _ERRORS as error:
            text = str(error) or "no answer"
            if isinstance(error, _DRIVER_ERRORS):
                # The details that follow may show values.
                text = str(error.args[0])
            secrets = () if self._password is None else (self._password,)
            raise StoreError(
                f"PostgreSQL: {redactor(secrets).redact(text)} "
                f"({type(error).__name__})"
            ) from None


class _Row(NamedTuple):
    entry_id: str
    api_id: str
    session_id: str | None
    link_id: str
    state: str
    created_at: datetime.datetime
    next_check_at: datetime.datetime | None
    body: bytes
    sealed_with: str
    entity_ids: list[str]


_Waiting: TypeAlias = "tuple[list[_Row], asyncio.Future[None]]"


async def _do_nothing(_: Any, /) -> None:
    """Leave a connection as it is."""


def _indexable(text: str) -> str:
    """
    Return what stands for *text* where PostgreSQL cannot hold it.
    """
    if len(text) <= _MAX_INDEXED and "\0" not in text and _is_unicode(text):
        return text
    raw = text.encode(errors="surrogatepass")
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def _is_unicode(text: str) -> bool:
    # Half of a surrogate pair is a `str` that UTF-8 cannot encode.
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


def _split_dsn(dsn: str) -> tuple[str, Secret | None]:
    """
    Return *dsn* without its password, and the password.
    """
    address = urlsplit(dsn)
    user, at, hosts = address.netloc.rpartition("@")
    user, _, password = user.partition(":")
    password = unquote(password)
    query = parse_qsl(address.query, keep_blank_values=True)
    password = password or dict(query).get("password", "")
    kept = [pair for pair in query if pair[0] != "password"]
    shown = f"{address.scheme}://{user}{at}{hosts}{address.path}"
    if kept:
        shown += f"?{urlencode(kept)}"
    return shown, Secret(password) if password else None


def _dsn_problem(dsn: object) -> str | None:
    if not isinstance(dsn, str) or not dsn.startswith(_SCHEMES):
        return "must be a text that begins with postgresql://"
    if _is_address(dsn):
        return None
    return (
        "must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with a user "
        "and password that are percent-encoded"
    )


def _is_address(dsn: str) -> bool:
    try:
        address = urlsplit(dsn)
    except ValueError:
        return False
    _, _, hosts = address.netloc.rpartition("@")
    return (
        _HOSTS.fullmatch(hosts) is not None
        and "@" not in address.path + address.query
        and "#" not in dsn
    )


def _schema_problem(schema: object) -> str | None:
    if isinstance(schema, str) and _SCHEMA.fullmatch(schema):
        return None
    return "must be 1 to 63 of a-z, 0-9 and _, and begin with a letter"
