"""
PostgreSQL as a store of sessions, at a real server.
"""

import asyncio
import datetime
import gc
import operator
import traceback
import warnings

import pytest

from bankconnect_async import (
    ConfigurationError,
    PostgresSessionStore,
    Reserved,
    SessionState,
    StoreError,
)
from bankconnect_async.store import postgres as postgres_module


LEASE = datetime.timedelta(seconds=30)
MINUTE = datetime.timedelta(minutes=1)
API = "api/v1#1a2b3c4d"
OLD, NEW = "o" * 32, "n" * 32
PASSWORD = "canary"


@pytest.fixture
async def make_store(postgres_dsn):
    """Make stores over one database, and close them."""
    stores = []

    def make(dsn=postgres_dsn, **settings):
        store = PostgresSessionStore(dsn, **settings)
        stores.append(store)
        return store

    yield make
    for store in stores:
        await store.aclose()


async def query(store, statement):
    """Return the first value that a statement answers."""
    return await store._run(operator.methodcaller("fetchval", statement))


def shown(error):
    """Return the traceback with locals, without the frame of the test."""
    frames = error.__traceback__.tb_next
    printed = traceback.TracebackException.from_exception(
        error.with_traceback(frames), capture_locals=True
    )
    return "".join(printed.format())


class TestSettings:
    """The settings of a store"""

    @pytest.mark.parametrize(
        ("settings", "field"),
        [
            ({"dsn": "mysql://user:canary@host/db"}, "dsn"),
            ({"dsn": None}, "dsn"),
            ({"dsn": "postgresql://me:1/canary@host/db"}, "dsn"),
            ({"dsn": "postgresql://me:1?canary@host/db"}, "dsn"),
            ({"dsn": "postgresql://me:1#canary@host/db"}, "dsn"),
            ({"dsn": "postgresql://me:canary@[::1/db"}, "dsn"),
            ({"dsn": "postgresql://me@host:canary/db"}, "dsn"),
            ({"schema": 'x"; DROP TABLE y'}, "schema"),
            ({"max_connections": 0}, "max_connections"),
            ({"max_connections": 1.5}, "max_connections"),
            ({"max_connections": True}, "max_connections"),
            ({"dedup_window": -MINUTE}, "dedup_window"),
            ({"timeout": "1"}, "timeout"),
            ({"timeout": True}, "timeout"),
            ({"timeout": float("inf")}, "timeout"),
            ({"encryption_keys": "canary"}, "encryption_keys"),
        ],
    )
    def test_refused(self, settings, field):
        """
        A bad setting is named, and no secret is shown.
        """
        settings = {"dsn": "postgresql://host/db", **settings}

        with pytest.raises(ConfigurationError) as caught:
            PostgresSessionStore(**settings)

        assert list(caught.value.fields) == [field]
        assert PASSWORD not in str(caught.value)

    def test_without_driver(self, monkeypatch):
        """
        Without asyncpg, the error names the extra.
        """
        monkeypatch.setattr(postgres_module, "asyncpg", None)

        with pytest.raises(ConfigurationError, match=r"\[postgres\]"):
            PostgresSessionStore("postgresql://host/db")

    @pytest.mark.parametrize(
        ("dsn", "shown"),
        [
            (
                "postgresql://me:canary@host/db?sslmode=require",
                "postgresql://me@host/db?sslmode=require",
            ),
            (
                "postgres://me@one:1,two:2/db?password=canary&target=%2Ftmp",
                "postgres://me@one:1,two:2/db?target=%2Ftmp",
            ),
            ("postgresql:///db?host=/tmp", "postgresql:///db?host=%2Ftmp"),
            (
                "postgresql://me:canary@[::1]:5432/db?sslpassword=canary&a=b",
                "postgresql://me@[::1]:5432/db?sslpassword=***&a=b",
            ),
        ],
    )
    def test_repr(self, dsn, shown):
        """
        The repr shows the address without the password.
        """
        assert repr(PostgresSessionStore(dsn)) == (
            f"PostgresSessionStore({shown!r}, schema='bankconnect')"
        )


class TestSecrets:
    """The password of the database"""

    async def test_refused_password(self, make_store, postgres_dsn):
        """
        A refused password shows in no message and in no local of a frame.
        """
        store = make_store(postgres_dsn.replace("@127", "wrong@127"))

        with pytest.raises(StoreError, match="authentication") as caught:
            await store.open()

        assert PASSWORD not in shown(caught.value)
        assert caught.value.__context__ is None

    async def test_cancelled_connect(self, raw_server):
        """
        A cancelled connect shows it in no local of a frame either.
        """
        connected = asyncio.Event()

        async def never_answer(server, reader, writer):
            connected.set()
            await reader.read()

        async with raw_server(never_answer) as server:
            port = server.base_url.split(":")[2].split("/")[0]
            store = PostgresSessionStore(
                f"postgresql://me:canary@127.0.0.1:{port}/db?sslmode=disable"
            )
            opening = asyncio.create_task(store.open())
            await connected.wait()
            opening.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await opening

        assert PASSWORD not in shown(caught.value)


class TestServer:
    """Failures and settings of the server"""

    async def test_nobody_listens(self, make_store):
        """
        An address where nobody listens is a clear error.
        """
        store = make_store("postgresql://me:canary@127.0.0.1:1/db")

        with pytest.raises(StoreError, match=r"^PostgreSQL: .*[Cc]onnect"):
            await store.find(api_id=API, link_id="x")

    async def test_no_answer(self, raw_server):
        """
        A server that never answers is an error after *timeout*.
        """

        async def never_answer(server, reader, writer):
            await reader.read()

        async with raw_server(never_answer) as server:
            port = server.base_url.split(":")[2].split("/")[0]
            store = PostgresSessionStore(
                f"postgresql://me@127.0.0.1:{port}/db", timeout=0.1
            )
            with pytest.raises(StoreError, match="no answer"):
                await store.open()

    async def test_restart(self, postgres, make_store, make_entry, now):
        """
        While the server restarts calls fail clearly, and then they work.
        """
        store = make_store()
        entry = make_entry()
        await store.add([entry])
        await asyncio.to_thread(postgres.stop)
        try:
            errors = await asyncio.gather(
                store.find(api_id=API, link_id=entry.link_id),
                store.enqueue("k", b"", at=now),
                store.add([make_entry()]),
                store.add([make_entry()]),
                return_exceptions=True,
            )
        finally:
            await asyncio.to_thread(postgres.start)

        assert [type(error) for error in errors] == [StoreError] * 4
        # The client puts facts into the error of each call.
        assert errors[2] is not errors[3]
        assert await store.enqueue("k", b"", at=now)
        found = await store.find(api_id=API, link_id=entry.link_id)
        assert [one.entry_id for one in found] == [entry.entry_id]

    async def test_tls(self, postgres, make_store, postgres_dsn):
        """
        The address says how the server's certificate is verified.
        """
        store = make_store(
            f"{postgres_dsn}?sslmode=verify-full"
            f"&sslrootcert={postgres.home}/authority.pem"
        )
        mistrusting = make_store(
            f"{postgres_dsn}?sslmode=verify-full"
            f"&sslrootcert={postgres.home}/other.pem"
        )
        statement = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"

        assert await query(store, statement) is True
        with pytest.raises(StoreError, match="certificate verify failed"):
            await mistrusting.open()

    async def test_pooler(self, postgres, pgbouncer, make_store, make_entry):
        """
        A pooler in transaction mode is detected, and every method works.
        """
        name = postgres.create_database()
        store = make_store(
            postgres.dsn(name, port=pgbouncer), encryption_keys=NEW
        )
        now = make_entry().created_at

        async def journey(number):
            link_id = f"customer-{number}"
            entry = make_entry(link_id)
            right = await store.reserve(entry.key, now=now, lease=LEASE)
            assert isinstance(right, Reserved)
            await store.add([entry])
            await store.advance(entry.entry_id, SessionState.OPENED, at=now)
            assert await store.enqueue(link_id, b"", at=now)
            await store.release(right.entry_id)
            await store.done(link_id)
            assert await store.find(api_id=API, session_id=entry.session_id)

        await store.open()
        await asyncio.gather(*(journey(number) for number in range(20)))

        assert store._is_pooled
        assert not await store.take(now=now, limit=9, lease=LEASE)
        later = now + 60 * MINUTE
        assert len(await store.due(now=later, limit=99, lease=LEASE)) == 20
        assert await store.forget(link_id="customer-1") == 1

    async def test_no_pooler(self, make_store):
        """
        Without one, statements are prepared once.
        """
        store = make_store()
        await store.open()

        assert not store._is_pooled


class TestTables:
    """Creating and opening the tables"""

    async def test_many_at_once(self, make_store, make_entry):
        """
        Of many processes that start at once one creates the tables.
        """
        stores = [make_store() for _ in range(8)]
        await asyncio.gather(*(store.open() for store in stores))
        entry = make_entry()
        await stores[0].add([entry])

        assert await stores[7].find(api_id=API, link_id=entry.link_id)

    async def test_newer_version(self, make_store):
        """
        Tables of a newer version are refused.
        """
        store = make_store()
        await query(store, "UPDATE bankconnect.settings SET value = '99'")

        with pytest.raises(StoreError, match=r"version 99.*upgrade"):
            await make_store().open()

        with pytest.raises(StoreError, match=r"PostgreSQL: .*version 99"):
            await make_store().inspect()

    async def test_inspect(self, postgres, make_store):
        """
        A look makes nothing, and says whether there is a store.
        """
        dsn = postgres.dsn(postgres.create_database())
        store = make_store(dsn, encryption_keys=OLD)
        is_made = [await store.inspect(), await store.inspect()]
        await store.open()
        await query(store, "DROP SCHEMA bankconnect CASCADE")
        await query(store, "CREATE ROLE looker")
        with pytest.raises(StoreError, match="may not create"):
            await make_store(f"{dsn}?role=looker").inspect()
        await store.aclose()
        await store.open()
        is_made.append(await make_store(dsn, encryption_keys=NEW).inspect())
        keys = await query(store, "SELECT count(*) FROM bankconnect.keys")

        assert is_made == [False, False, True]
        assert keys == 1

    async def test_closed(self, make_store, make_entry):
        """
        A closed store says so, and can be opened again.
        """
        store = make_store()
        await store.add([make_entry("a")])
        await store.aclose()

        with pytest.raises(StoreError, match="closed"):
            await store.find(api_id=API, link_id="a")
        async with store:
            assert len(await store.find(api_id=API, link_id="a")) == 1

    def test_other_loop(self, make_entry, postgres_dsn):
        """
        A store that is used from another event loop says so.
        """
        store = PostgresSessionStore(postgres_dsn)
        with asyncio.Runner() as runner, asyncio.Runner() as other:
            runner.run(store.open())
            with pytest.raises(StoreError, match="another event loop"):
                other.run(store.find(api_id=API, link_id="a"))
            runner.run(store.aclose())

    def test_loop_that_ended(self, make_entry, postgres_dsn):
        """
        A store whose event loop has ended is closed and opened in another.
        """
        store = PostgresSessionStore(postgres_dsn)

        async def reopen():
            with pytest.raises(StoreError, match="another event loop"):
                await store.find(api_id=API, link_id="a")
            await store.aclose()
            async with store:
                return await store.find(api_id=API, link_id="a")

        asyncio.run(store.add([make_entry("a")]))
        with warnings.catch_warnings():
            # Nobody has closed the connection.
            warnings.simplefilter("ignore", ResourceWarning)
            assert len(asyncio.run(reopen())) == 1
            gc.collect()

    async def test_groups(self, make_store, make_entry):
        """
        Entries that are added at the same time are committed together.
        """
        store = make_store()
        await store.open()
        entries = [make_entry("x") for _ in range(200)]
        await asyncio.gather(*(store.add([entry]) for entry in entries))

        commits = await query(
            store, "SELECT count(DISTINCT xmin::text) FROM bankconnect.entries"
        )

        assert len(await store.find(api_id=API, link_id="x")) == 200
        assert 1 <= commits <= 3

    async def test_known_keys_do_not_pile_up(self, make_store, now):
        """
        Keys of finished work are dropped after the window.
        """
        store = make_store(dedup_window=MINUTE)
        for number in range(40):
            at = now + number * MINUTE
            await store.enqueue(f"key-{number}", b"", at=at)
            await store.done(f"key-{number}")

        assert (
            await query(store, "SELECT count(*) FROM bankconnect.inbox") <= 3
        )

    async def test_erased_in_parts(self, make_store, make_entry, now):
        """
        No statement erases more than 1,000 rows, however many there are, so
        that each of them ends in time.
        """
        store = make_store()
        await store.add(
            [make_entry(entity_ids=("entity",)) for _ in range(2100)]
        )
        for number in range(3):
            await store.enqueue(str(number), b"body", at=now)
        await query(
            store,
            """
            CREATE FUNCTION check_rows() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN
                IF (SELECT count(*) FROM gone) > 1000 THEN
                    RAISE ''too many at once'';
                END IF;
                RETURN NULL;
            END'
            """,
        )
        await query(
            store,
            """
            CREATE TRIGGER check_rows AFTER DELETE ON bankconnect.entries
            REFERENCING OLD TABLE AS gone
            FOR EACH STATEMENT EXECUTE FUNCTION check_rows()
            """,
        )

        assert await store.forget(before=now + MINUTE) == 2100
        assert not await store.find(api_id=API, entity_id="entity")
        assert not await store.take(now=now, limit=9, lease=LEASE)


class TestReserve:
    """Reserving over several processes"""

    async def test_two_stores(self, make_store, make_entry, make_key, now):
        """
        Thirty callers of two stores make one session.
        """
        stores = [make_store(encryption_keys=NEW) for _ in range(2)]
        created = []

        async def load(store):
            found = await store.reserve(make_key(), now=now, lease=LEASE)
            if isinstance(found, Reserved):
                created.append(found)
                await store.add(
                    [make_entry(entry_id=found.entry_id, key=found.key)]
                )
            return found.entry_id

        entry_ids = await asyncio.gather(*(load(s) for s in stores * 15))

        assert len(created) == 1
        assert len(set(entry_ids)) == 1


class TestEncryption:
    """The content of the database"""

    SECRETS = (
        *("session-canary", "entity-canary", "token-canary"),
        *("customer-canary", "account-canary"),
    )

    async def fill(self, store, make_entry, now):
        """Write every secret in every way."""
        entry = make_entry(
            "customer-canary",
            session_id="session-canary",
            redirect_url="https://journey.example/?token=token-canary",
            entity_ids=("entity-canary",),
        )
        right = await store.reserve(entry.key, now=now, lease=LEASE)
        await store.add([entry])
        await store.advance(
            entry.entry_id,
            SessionState.PROCESSING,
            at=now,
            entity_id="entity-canary-2",
            detail="account-canary",
        )
        for key in ("session-canary", "session-canary-2"):
            await store.enqueue(
                key, b"account-canary", at=now, link_id="customer-canary"
            )
        await store.done("session-canary-2")
        assert right.entry_id != entry.entry_id

    def dump(self, postgres, dsn):
        """Return all that the database holds."""
        text = postgres.run(
            *("pg_dump", f"--dbname={dsn}", "--inserts", "--no-owner")
        )
        # Bytes are in hexadecimal there.
        parts = (part.split("'")[0] for part in text.split("'\\x")[1:])
        return text + "".join(
            bytes.fromhex(part).decode(errors="replace") for part in parts
        )

    async def test_with_keys(
        self, postgres, make_store, postgres_dsn, make_entry, now
    ):
        """
        With keys, a dump holds no id, URL, token, account number or name.
        """
        await self.fill(make_store(encryption_keys=NEW), make_entry, now)

        text = self.dump(postgres, postgres_dsn)

        assert text.count("INSERT") >= 6
        assert "canary" not in text
        assert "journey.example" not in text

    async def test_without_keys(  # noqa: PLR0913, PLR0917
        self, postgres, make_store, postgres_dsn, make_entry, now, caplog
    ):
        """
        Without keys, it holds no URL and no token, and a line says so.
        """
        with caplog.at_level("INFO", logger="bankconnect_async"):
            await self.fill(make_store(), make_entry, now)

        text = self.dump(postgres, postgres_dsn)

        assert "customer-canary" in text
        assert "token-canary" not in text
        assert "journey.example" not in text
        assert [record.message for record in caplog.records] == [
            "the store keeps no URLs of journeys without encryption keys, so "
            "no journey is continued"
        ]

    async def test_rotation(self, make_store, make_entry, make_key, now):
        """
        With a new key, everything that an old one wrote is still found.
        """
        old = make_store(encryption_keys=OLD)
        entry = make_entry(
            session_id="s", entity_ids=("e",), state=SessionState.OPENED
        )
        await old.add([entry])
        await old.enqueue("pending", b"body", at=now, link_id=entry.link_id)
        await old.enqueue("finished", b"body", at=now)
        await old.done("finished")
        held = make_key("held")
        await old.reserve(held, now=now, lease=LEASE)

        both = make_store(encryption_keys=[NEW, OLD])

        for ids in ({"session_id": "s"}, {"entity_id": "e"}):
            assert list(await both.find(api_id=API, **ids)) == [entry]
        assert await both.reserve(entry.key, now=now, lease=LEASE) == entry
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                both.reserve(held, now=now, lease=LEASE), 0.1
            )
        assert not await both.enqueue("pending", b"", at=now)
        assert not await both.enqueue("finished", b"", at=now)
        [item] = await both.take(now=now, limit=9, lease=LEASE)
        assert (item.key, item.body) == ("pending", b"body")
        await both.release("pending")
        assert await both.take(now=now + MINUTE, limit=9, lease=LEASE)
        await both.done("pending")
        await both.advance(entry.entry_id, SessionState.SUBMITTED, at=now)
        # All is written with the new key by now, so the old one can go.
        alone = make_store(encryption_keys=NEW)
        assert len(await alone.find(api_id=API, entity_id="e")) == 1
        assert await alone.forget(link_id=entry.link_id) == 1

    @pytest.mark.parametrize(
        ("wrote", "reads", "message"),
        [
            (OLD, NEW, "key that is not given"),
            (OLD, None, "it is encrypted"),
            (None, NEW, "written without encryption keys"),
        ],
    )
    async def test_wrong_key(
        self, make_store, make_entry, wrote, reads, message
    ):
        """
        A store that was written with another key is refused when it opens.
        """
        await make_store(encryption_keys=wrote).add([make_entry()])

        with pytest.raises(StoreError, match=message):
            await make_store(encryption_keys=reads).open()
        with pytest.raises(StoreError, match=message):
            await make_store(encryption_keys=reads).inspect()
