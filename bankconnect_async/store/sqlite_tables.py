"""
The tables of a SQLite store, and the statements that work on them.

All of this runs in the thread that owns the connection.
"""

import datetime
import functools
import math
import sqlite3
import time
import zlib

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import attrs

from bankconnect_async.errors import StoreError

from .entries import (
    CreatedFacts,
    InboxItem,
    Reserved,
    SessionEntry,
    backoff,
    find_live,
)
from .sealing import (
    Sealer,
    decode_entry,
    decode_time,
    describe_foreign_key,
    describe_key,
    encode_entry,
    encode_facts,
    encode_time,
    fingerprints,
)


#: "BCst": marks a file as a store of ours.
APPLICATION_ID: Final = 0x42437374
#: The statements that lead from each version of the schema to the next.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """
        CREATE TABLE keys (
            id INTEGER PRIMARY KEY,
            fingerprint TEXT NOT NULL UNIQUE
        )
        """,
        # api, session and link are the numbers of ids: see `lookups`.
        """
        CREATE TABLE entries (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            entry_id TEXT NOT NULL UNIQUE,
            key_id INTEGER NOT NULL,
            api INTEGER NOT NULL,
            session INTEGER,
            link INTEGER NOT NULL,
            created_at REAL NOT NULL,
            next_check_at REAL,
            body BLOB NOT NULL
        )
        """,
        """
        CREATE INDEX entries_due ON entries (next_check_at, api)
        WHERE next_check_at IS NOT NULL
        """,
        # The entries by the 32-bit numbers of their ids. A reader compares
        # the ids themselves. Those of the newest entries, above `upto`, are
        # not in it yet: ids are random, so that a row at a time would write
        # two pages for each.
        """
        CREATE TABLE lookups (
            number INTEGER NOT NULL,
            id INTEGER NOT NULL,
            PRIMARY KEY (number, id)
        ) WITHOUT ROWID
        """,
        "CREATE TABLE indexed (upto INTEGER NOT NULL)",
        "INSERT INTO indexed VALUES (0)",
        """
        CREATE TABLE reservations (
            key TEXT PRIMARY KEY,
            entry_id TEXT NOT NULL UNIQUE,
            link INTEGER NOT NULL,
            ends REAL NOT NULL
        ) WITHOUT ROWID
        """,
        # changed_at is when it was put in, or last taken.
        """
        CREATE TABLE inbox (
            key TEXT PRIMARY KEY,
            key_id INTEGER NOT NULL,
            name BLOB,
            body BLOB,
            link TEXT,
            at REAL NOT NULL,
            changed_at REAL NOT NULL,
            available_at REAL NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            is_done INTEGER NOT NULL DEFAULT 0
        ) WITHOUT ROWID
        """,
        "CREATE INDEX reservations_ends ON reservations (ends)",
        """
        CREATE INDEX inbox_open ON inbox (at, key, available_at)
        WHERE NOT is_done
        """,
        "CREATE INDEX inbox_done ON inbox (changed_at) WHERE is_done",
    ),
)
# How many entries wait for their ids to be indexed; a reader looks through
# all of them.
_MAX_UNINDEXED: Final = 4096
# A group of fewer rows is indexed at once.
_SMALL_GROUP: Final = 4
# Few statements for the rows of a group, because Python's lock changes hands
# at each. SQLite before 3.32 takes 999 values.
_COLUMNS: Final = (
    "entry_id, key_id, api, session, link, created_at, next_check_at, body"
)
_ROW: Final = f"({', '.join('?' * 8)})"
_INSERTS: Final = {
    size: f"INSERT OR IGNORE INTO entries ({_COLUMNS}) VALUES "
    f"{', '.join([_ROW] * size)}"
    for size in (64, 32, 16, 8, 4, 2, 1)
}
_CENSUS: Final = """
    SELECT (SELECT upto FROM indexed), (SELECT max(id) FROM entries),
    EXISTS (SELECT 1 FROM reservations)
"""
_LARGEST: Final = 2**31
# Equal texts of different ids have different numbers.
_SEEDS: Final = {
    name: zlib.crc32(name.encode())
    for name in ("session_id", "link_id", "entity_id")
}
_SESSION_SEED: Final = _SEEDS["session_id"]
_LINK_SEED: Final = _SEEDS["link_id"]

#: The columns of an entry, and the numbers of its entities.
Row: TypeAlias = tuple[
    tuple[str, int, int, int | None, int, float, float | None, bytearray],
    Sequence[int],
]


class SQLiteTables:
    """
    The tables of a file, by the connection in use.

    Args:
        sealer: The encoding of what is secret.
        window: The time for which work that is done stays known.
    """

    def __init__(self, sealer: Sealer, window: datetime.timedelta) -> None:
        self._db: sqlite3.Connection
        self._sealer: Final = sealer
        self._window: Final = window.total_seconds()
        self._key_id = 0
        # One for each key.
        marks = ", ".join("?" * len(sealer.lookups("")))
        self._is_key = f"key IN ({marks})"
        self._is_link = f"link IN ({marks})"
        self._candidates = f"""
            id IN (
                SELECT id FROM lookups WHERE number IN ({marks})
                UNION ALL
                SELECT id FROM entries
                WHERE id > (SELECT upto FROM indexed)
                AND (session IN ({marks}) OR {self._is_link})
            )
        """

    def check(self, connection: sqlite3.Connection) -> bool:
        """
        Tell whether a file has tables of ours; this changes nothing.

        Args:
            connection: The connection, in autocommit mode.

        Raises:
            StoreError: If the file is of a newer version or another program,
                or was written with other keys.
        """
        connection.execute("BEGIN")
        try:
            is_made = bool(_read_version(connection))
            if is_made:
                self._check_keys(connection)
        finally:
            connection.execute("ROLLBACK")
        return is_made

    def use(self, connection: sqlite3.Connection) -> None:
        """
        Create the tables, or bring those of an older version up to date.

        Args:
            connection: The connection, in autocommit mode.

        Raises:
            StoreError: If the file is of a newer version or another program.
        """
        self._db = connection
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._migrate()
            self._add_key()
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _migrate(self) -> None:
        version = _read_version(self._db)
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                self._db.execute(statement)
        if version < len(MIGRATIONS):
            self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version={len(MIGRATIONS)}")

    def encode(self, entry: SessionEntry) -> Row:
        """
        Return the row of an entry; any thread may call this.
        """
        session_id, next_check_at = entry.session_id, entry.next_check_at
        sealer = self._sealer
        body = encode_entry(entry, keeps_urls=sealer.keeps_urls)
        row = (
            entry.entry_id,
            self._key_id,
            _api_number(entry.key.api_id),
            None
            if session_id is None
            else self._number("session_id", session_id),
            self._number("link_id", entry.key.link_id),
            encode_time(entry.created_at),
            None if next_check_at is None else encode_time(next_check_at),
            bytearray(sealer.seal(body)),
        )
        return row, [
            self._number("entity_id", each) for each in entry.entity_ids
        ]

    def encode_facts(self, facts: CreatedFacts) -> Row:
        """
        Return the row of a session that was just created.
        """
        session_id, sealer = facts.session_id, self._sealer
        lookup, number = sealer.lookup, zlib.crc32
        body, next_check = encode_facts(facts, keeps_urls=sealer.keeps_urls)
        # As `_checksum` does, without a call of it.
        row = (
            facts.entry_id,
            self._key_id,
            _api_number(facts.api_id),
            None
            if session_id is None
            else number(
                lookup(session_id).encode(errors="replace"), _SESSION_SEED
            ),
            number(lookup(facts.link_id).encode(errors="replace"), _LINK_SEED),
            facts.created,
            next_check,
            # Python's driver binds it sooner than bytes.
            bytearray(sealer.seal(body)),
        )
        return row, ()

    def add(self, rows: Sequence[Row]) -> None:
        """Insert rows, and end their reservations."""
        first = 0
        for size, insert in _INSERTS.items():
            while first + size <= len(rows):
                columns: list[Any] = []
                for row, _ in rows[first : first + size]:
                    columns += row
                self._db.execute(insert, columns)
                first += size
        entities = [(number, row[0]) for row, ids in rows for number in ids]
        if entities:
            self._db.executemany(
                "INSERT OR IGNORE INTO lookups "
                "SELECT ?, id FROM entries WHERE entry_id = ?",
                entities,
            )
        [(upto, newest, has_reservations)] = self._db.execute(_CENSUS)
        if has_reservations:
            self._db.executemany(
                "DELETE FROM reservations WHERE entry_id = ?",
                [row[:1] for row, _ in rows],
            )
        if len(rows) < _SMALL_GROUP or newest - upto > _MAX_UNINDEXED:
            self._db.execute(
                """
                INSERT OR IGNORE INTO lookups
                SELECT session, id FROM entries
                WHERE id > :upto AND session IS NOT NULL
                UNION ALL SELECT link, id FROM entries WHERE id > :upto
                ORDER BY 1
                """,
                {"upto": upto},
            )
            self._db.execute("UPDATE indexed SET upto = ?", (newest,))

    def find(
        self, name: str, text: str, created_after: float = -math.inf
    ) -> Iterator[SessionEntry]:
        """
        Yield the entries that may have an id, newest first.

        Args:
            name: The name of the id, such as "link_id".
            text: The id.
            created_after: The time after which they were created.
        """
        numbers = self._numbers(name, text)
        found = self._db.execute(
            "SELECT body, next_check_at FROM entries "
            f"WHERE {self._candidates} AND created_at > ? "
            "ORDER BY created_at DESC, id DESC",
            [*numbers * 3, created_after],
        )
        for body, next_check_at in found:
            yield self._decode(body, next_check_at)

    def reserve(
        self,
        reserved: Reserved,
        *,
        now: datetime.datetime,
        lease: datetime.timedelta,
        created_after: datetime.datetime | None,
    ) -> Reserved | SessionEntry | float:
        """
        Return the live entry, *reserved*, or the seconds to wait.
        """
        key = reserved.key
        oldest = () if created_after is None else (encode_time(created_after),)
        entry = find_live(
            self.find("link_id", key.link_id, *oldest),
            key,
            now=now,
            created_after=created_after,
        )
        if entry is not None:
            return entry
        keys = self._sealer.lookups(describe_key(key))
        time_now = time.time()
        self._db.execute(
            "DELETE FROM reservations WHERE ends <= ?", (time_now,)
        )
        held = self._db.execute(
            f"SELECT ends FROM reservations WHERE {self._is_key}",
            keys,
        ).fetchone()
        if held is not None:
            return float(held[0]) - time_now
        self._db.execute(
            "INSERT INTO reservations VALUES (?, ?, ?, ?)",
            (
                keys[0],
                reserved.entry_id,
                self._number("link_id", key.link_id),
                time_now + lease.total_seconds(),
            ),
        )
        return reserved

    def advance(
        self,
        entry_id: str,
        change: Callable[[SessionEntry], SessionEntry],
    ) -> SessionEntry:
        """
        Replace an entry by what *change* makes of it.

        Raises:
            StoreError: If there is no such entry.
        """
        found = self._db.execute(
            "SELECT id, key_id, body, next_check_at FROM entries "
            "WHERE entry_id = ?",
            (entry_id,),
        ).fetchone()
        if found is None:
            raise StoreError(f"no entry with the id {entry_id!r}")
        id_, key_id, body, next_check_at = found
        entry = change(self._decode(body, next_check_at))
        row, numbers = self.encode(entry)
        _, _, _, session, link, _, next_check_at, body = row
        self._db.execute(
            "UPDATE entries SET key_id = ?, session = ?, link = ?, "
            "next_check_at = ?, body = ? WHERE id = ?",
            (self._key_id, session, link, next_check_at, body, id_),
        )
        if key_id != self._key_id:
            # Its ids must be found without the old key, too.
            self._delete_lookups([(id_, entry)])
            numbers = [link, *numbers]
            if session is not None:
                numbers.append(session)
        self._db.executemany(
            "INSERT OR IGNORE INTO lookups VALUES (?, ?)",
            [(number, id_) for number in numbers],
        )
        return entry

    def due(
        self,
        *,
        now: datetime.datetime,
        limit: int,
        lease: datetime.timedelta,
        api_id: str | None,
    ) -> list[SessionEntry]:
        """Lease entries; see `SessionStore.due`."""
        ends = encode_time(now + lease)
        where = "" if api_id is None else "AND api = ?"
        found = [
            (id_, entry)
            for id_, body in self._db.execute(
                f"SELECT id, body FROM entries WHERE next_check_at <= ? "
                f"{where} ORDER BY next_check_at, id LIMIT ?",
                [
                    encode_time(now),
                    *([] if api_id is None else [_api_number(api_id)]),
                    min(limit, _LARGEST),
                ],
            )
            if api_id in {None, (entry := self._decode(body, ends)).key.api_id}
        ]
        self._db.executemany(
            "UPDATE entries SET next_check_at = ? WHERE id = ?",
            [(ends, id_) for id_, _ in found],
        )
        return [entry for _, entry in found]

    def enqueue(
        self, key: str, body: bytes, at: datetime.datetime, link_id: str | None
    ) -> bool:
        """Put work into the inbox; see `SessionStore.enqueue`."""
        time_ = encode_time(at)
        keys = self._sealer.lookups(key)
        self._db.execute(
            "DELETE FROM inbox WHERE is_done AND changed_at <= ?",
            (time_ - self._window,),
        )
        known = self._db.execute(
            f"SELECT 1 FROM inbox WHERE {self._is_key}",
            keys,
        ).fetchone()
        if known:
            return False
        self._db.execute(
            "INSERT INTO inbox (key, key_id, name, body, link, at, "
            "changed_at, available_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                keys[0],
                self._key_id,
                self._sealer.seal(key.encode()),
                self._sealer.seal(body),
                None if link_id is None else self._sealer.lookup(link_id),
                time_,
                time_,
                time_,
            ),
        )
        return True

    def take(
        self,
        *,
        now: datetime.datetime,
        limit: int,
        lease: datetime.timedelta,
    ) -> list[InboxItem]:
        """Lease work; see `SessionStore.take`."""
        time_ = encode_time(now)
        found = self._db.execute(
            "SELECT key, name, body, at, attempts FROM inbox "
            "WHERE NOT is_done AND available_at <= ? ORDER BY at, key LIMIT ?",
            (time_, min(limit, _LARGEST)),
        ).fetchall()
        self._db.executemany(
            "UPDATE inbox SET attempts = attempts + 1, changed_at = ?, "
            "available_at = ? WHERE key = ?",
            [(time_, encode_time(now + lease), key) for key, *_ in found],
        )
        unseal = self._sealer.unseal
        return [
            InboxItem(
                key=unseal(name).decode(),
                body=unseal(body),
                at=decode_time(at),
                attempts=attempts,
            )
            for _, name, body, at, attempts in found
        ]

    def done(self, key: str) -> None:
        """Erase work; see `SessionStore.done`."""
        self._db.execute(
            "UPDATE inbox SET is_done = 1, name = NULL, body = NULL "
            f"WHERE {self._is_key}",
            self._sealer.lookups(key),
        )

    def release(self, key: str) -> None:
        """End a lease; see `SessionStore.release`."""
        found = self._db.execute(
            "SELECT key, changed_at, attempts FROM inbox "
            f"WHERE NOT is_done AND {self._is_key}",
            self._sealer.lookups(key),
        ).fetchone()
        if found is not None:
            stored, changed_at, attempts = found
            pause = backoff(attempts).total_seconds()
            self._db.execute(
                "UPDATE inbox SET available_at = ? WHERE key = ?",
                (changed_at + pause, stored),
            )
        self._db.execute("DELETE FROM reservations WHERE entry_id = ?", (key,))

    def entries_after(
        self, id_: int, limit: int
    ) -> list[tuple[int, SessionEntry]]:
        """
        Return entries and their row numbers, in the order of creation.
        """
        return [
            (each, self._decode(body, next_check_at))
            for each, body, next_check_at in self._db.execute(
                "SELECT id, body, next_check_at FROM entries WHERE id > ? "
                "ORDER BY id LIMIT ?",
                (id_, limit),
            )
        ]

    def forget_entries(
        self,
        id_: int,
        link_id: str | None,
        before: datetime.datetime | None,
        limit: int,
    ) -> tuple[int, int] | None:
        """
        Erase some of the entries above a row number.

        Returns:
            The last row number and the number of entries that were erased;
            `None` if there is none.
        """
        wheres = ["id > ?"]
        values: list[Any] = [id_]
        if link_id is not None:
            wheres.append(self._candidates)
            values += self._numbers("link_id", link_id) * 3
        if before is not None:
            wheres.append("created_at < ?")
            values.append(encode_time(before))
        found = self._db.execute(
            "SELECT id, body FROM entries WHERE "
            f"{' AND '.join(wheres)} ORDER BY id LIMIT ?",
            [*values, limit],
        ).fetchall()
        doomed = [
            (each, entry)
            for each, body in found
            if link_id in {None, (entry := self._decode(body, None)).link_id}
        ]
        self._delete_lookups(doomed)
        self._db.executemany(
            "DELETE FROM entries WHERE id = ?", [row[:1] for row in doomed]
        )
        return (found[-1][0], len(doomed)) if found else None

    def forget_work(
        self, link_id: str | None, before: datetime.datetime | None
    ) -> None:
        """
        Erase work of the inbox, and the reservations of a customer.
        """
        wheres: list[str] = []
        values: list[Any] = []
        if link_id is not None:
            wheres.append(self._is_link)
            values += self._sealer.lookups(link_id)
            self._db.execute(
                f"DELETE FROM reservations WHERE {self._is_link}",
                self._numbers("link_id", link_id),
            )
        if before is not None:
            wheres.append("at < ?")
            values.append(encode_time(before))
        self._db.execute(
            f"DELETE FROM inbox WHERE {' AND '.join(wheres)}",
            values,
        )

    def checkpoint(self) -> None:
        """
        Write what was erased over its old places in all files.
        """
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _check_keys(self, connection: sqlite3.Connection) -> None:
        given = fingerprints(self._sealer)
        missing = {
            key_id: fingerprint
            for key_id, fingerprint in connection.execute(
                "SELECT id, fingerprint FROM keys"
            )
            if fingerprint not in given
        }
        if not missing:
            return
        is_missing = f"key_id IN ({', '.join('?' * len(missing))})"
        found = connection.execute(
            f"SELECT key_id FROM entries WHERE {is_missing} UNION ALL "
            f"SELECT key_id FROM inbox WHERE {is_missing} LIMIT 1",
            [*missing, *missing],
        ).fetchone()
        if found is not None:
            raise StoreError(
                describe_foreign_key(missing[found[0]], self._sealer)
            )

    def _add_key(self) -> None:
        # A key without records stays: another process may write with it.
        given = fingerprints(self._sealer)
        self._db.execute(
            "INSERT OR IGNORE INTO keys (fingerprint) VALUES (?)", given[:1]
        )
        [self._key_id] = self._db.execute(
            "SELECT id FROM keys WHERE fingerprint = ?", given[:1]
        ).fetchone()

    def _decode(
        self, body: bytes, next_check_at: float | None
    ) -> SessionEntry:
        entry = decode_entry(self._sealer.unseal(body))
        return attrs.evolve(
            entry,
            next_check_at=None
            if next_check_at is None
            else decode_time(next_check_at),
        )

    def _delete_lookups(
        self, entries: Sequence[tuple[int, SessionEntry]]
    ) -> None:
        self._db.executemany(
            "DELETE FROM lookups WHERE number = ? AND id = ?",
            # In the order of the index.
            sorted(
                (number, id_)
                for id_, entry in entries
                for name, text in (
                    ("link_id", entry.link_id),
                    ("session_id", entry.session_id),
                    *(("entity_id", each) for each in entry.entity_ids),
                )
                if text is not None
                for number in self._numbers(name, text)
            ),
        )

    def _number(self, name: str, text: str) -> int:
        return _checksum(self._sealer.lookup(text), _SEEDS[name])

    def _numbers(self, name: str, text: str) -> list[int]:
        return [
            _checksum(each, _SEEDS[name])
            for each in self._sealer.lookups(text)
        ]


def _read_version(connection: sqlite3.Connection) -> int:
    """
    Return the version of the schema, which is 0 in an empty database.

    Raises:
        StoreError: If it is newer, or the file is of another program.
    """
    mark, version, tables = connection.execute(
        "SELECT (SELECT application_id FROM pragma_application_id), "
        "(SELECT user_version FROM pragma_user_version), "
        "(SELECT count(*) FROM sqlite_master)"
    ).fetchone()
    if mark != APPLICATION_ID and (mark or version or tables):
        raise StoreError(
            "it is the database of another program: give another path"
        )
    if version > len(MIGRATIONS):
        raise StoreError(
            f"a newer bankconnect-async wrote it (its schema is "
            f"{version}, this one knows {len(MIGRATIONS)}): update the "
            f"package"
        )
    return int(version)


@functools.lru_cache(maxsize=64)
def _api_number(api_id: str) -> int:
    return _checksum(api_id)


def _checksum(text: str, seed: int = 0) -> int:
    return zlib.crc32(text.encode(errors="replace"), seed)
