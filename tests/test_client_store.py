"""
The entries that clients write to their store of sessions, and find there.
"""

import asyncio
import contextlib
import datetime
import os
import pickle
import sqlite3
import subprocess
import sys
import traceback

import attrs
import pytest
import trustme

from bankconnect_async import (
    TLS,
    AsyncBankConnect,
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    Created,
    Delivery,
    Failed,
    InvalidRequestError,
    MemorySessionStore,
    Reserved,
    RetryPolicy,
    ReturnURL,
    SessionRequest,
    SessionState,
    SQLiteSessionStore,
    StoreError,
    SuccessEvent,
    TransportError,
    decode_event,
    open_store,
)
from bankconnect_async.journal import Journal, read_journal
from bankconnect_async.sandbox import Fault, Sandbox


SECRET = "a secret of thirty-two bytes or more"
RETURN = "https://lender.example/return"
LEASE = datetime.timedelta(seconds=30)
ONCE = RetryPolicy(attempts=1)


@pytest.fixture(name="sandbox")
async def _sandbox():
    """Run a sandbox of the session flow."""
    async with Sandbox("session") as sandbox:
        yield sandbox


@pytest.fixture(name="path")
def _path(tmp_path):
    """Return the path of a store."""
    return tmp_path / "sessions.sqlite"


@pytest.fixture(name="store")
async def _store(path):
    """Open a store in a file."""
    async with SQLiteSessionStore(path) as store:
        yield store


def connect(sandbox, **settings):
    """Return a client of a sandbox."""
    return AsyncBankConnect(
        sandbox.api_key,
        **{
            "server_hash": sandbox.server_hash,
            "base_url": sandbox.base_url,
            "redirect_url": RETURN,
            "retry": ONCE,
            **settings,
        },
    )


async def entries_of(bank, link_id):
    """Return the entries of a customer."""
    return await bank.store.find(api_id=bank.store_api_id, link_id=link_id)


def break_store(path):
    """Break the database of a store that is open."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE entries")


def now():
    """Return the time."""
    return datetime.datetime.now(datetime.UTC)


def make_environment(sandbox, address):
    """Return the environment of a client that has a store."""
    return {
        "BANKCONNECT_API_KEY": sandbox.api_key,
        "BANKCONNECT_BASE_URL": sandbox.base_url,
        "BANKCONNECT_REDIRECT_URL": RETURN,
        "BANKCONNECT_STORE": str(address),
    }


def start(program, sandbox, path):
    """Start a process with a client that has a store in a file."""
    head = (
        "import asyncio\n"
        "from bankconnect_async import AsyncBankConnect\n"
        "async def main():\n"
        "    async with AsyncBankConnect.from_env() as bank:\n"
    )
    body = "".join(f"        {line}\n" for line in program.splitlines())
    return subprocess.Popen(
        [sys.executable, "-c", f"{head}{body}asyncio.run(main())\n"],
        env={**os.environ, **make_environment(sandbox, path)},
        stdout=subprocess.PIPE,
        text=True,
    )


class TestCreate:
    """
    AsyncBankConnect.create_session
    """

    @pytest.mark.parametrize("kind", ["memory", "file"])
    async def test_stores_what_was_asked_for(self, sandbox, kind, path):
        """
        The entry has the customer, the scope, the workflow and the lifetime.
        """
        store = (
            MemorySessionStore() if kind == "memory" else open_store(str(path))
        )
        before = now()
        async with connect(sandbox, store=store) as bank:
            session = await bank.create_session(
                "customer-42",
                scope="loan-1",
                session_expiry=60,
                redirect_url=None,
            )

            (entry,) = await entries_of(bank, "customer-42")
            await bank.store.aclose()

        assert entry.session_id == session.session_id
        assert entry.key.scope == "loan-1"
        assert entry.is_frame
        assert not entry.is_ambiguous
        assert entry.state is SessionState.CREATED
        assert before <= entry.created_at <= now()
        lifetime = datetime.timedelta(hours=1)
        assert entry.expires_at == entry.created_at + lifetime
        assert entry.created_at < entry.next_check_at < entry.expires_at

    async def test_keys_tell_workflows_apart(self, sandbox):
        """
        A signature changes no key; a parameter and the workflow do.
        """
        url = ReturnURL(RETURN, secret=SECRET)
        async with (
            connect(sandbox, redirect_url=url) as bank,
            connect(sandbox) as other,
        ):
            keys = [
                bank.session_key("c"),
                bank.session_key("c"),
                other.session_key("c"),
                other.session_key(
                    SessionRequest(link_id="c", redirect_url=RETURN)
                ),
            ]
            others = {
                other.session_key("d"),
                other.session_key("c", scope="loan-1"),
                other.session_key(
                    SessionRequest(link_id="c", redirect_url=None)
                ),
                other.session_key(
                    SessionRequest(
                        link_id="c", redirect_url=RETURN, bank_name="axis"
                    )
                ),
            }

        assert len(set(keys)) == 1
        assert len(others) == 4
        assert others.isdisjoint(keys)

    async def test_accounts_are_kept_apart(self, sandbox):
        """
        The API in a key names the account, and not the API key.
        """
        async with (
            connect(sandbox) as bank,
            AsyncBankConnect("other", base_url=sandbox.base_url) as other,
        ):
            assert bank.store_api_id != other.store_api_id
            assert bank.store_api_id.startswith(f"{bank.api_id}#")
            assert sandbox.api_key not in bank.store_api_id

    async def test_replaces_its_reservation(self, sandbox):
        """
        An entry takes the place of the reservation; another key is refused.
        """
        async with connect(sandbox) as bank:
            key = bank.session_key("customer-42", scope="loan-1")
            reserved = await bank.store.reserve(key, now=now(), lease=LEASE)
            assert isinstance(reserved, Reserved)
            with pytest.raises(InvalidRequestError, match="another session"):
                await bank.create_session("customer-43", reserved=reserved)

            session = await bank.create_session(
                "customer-42", reserved=reserved
            )

            entry = await bank.store.reserve(key, now=now(), lease=LEASE)
        assert entry.entry_id == reserved.entry_id
        assert entry.session().url == session.url
        assert sandbox.created() == 1

    @pytest.mark.parametrize("is_durable", [False, True])
    async def test_stores_an_ambiguous_create(
        self, sandbox, store, is_durable
    ):
        """
        A create without a response leaves an entry; one that was refused
        leaves none.
        """
        sandbox.faults.script(Fault.reset(after=True), Fault.status(400))
        settings = {"store": store} if is_durable else {}
        async with connect(sandbox, **settings) as bank:
            with pytest.raises(TransportError) as caught:
                await bank.create_session("customer-42")
            with pytest.raises(BadRequestError):
                await bank.create_session("customer-42")

            (entry,) = await entries_of(bank, "customer-42")

        assert caught.value.delivery is Delivery.AMBIGUOUS
        assert entry.is_ambiguous
        assert entry.session_id is None

    async def test_an_error_has_what_could_not_be_stored(
        self, sandbox, store, path
    ):
        """
        A session that no store took is in the error, and in no traceback.
        """
        async with connect(sandbox, store=store) as bank:
            break_store(path)
            with pytest.raises(StoreError) as caught:
                await bank.create_session("customer-42")

        error = caught.value
        assert error.session.link_id == "customer-42"
        assert error.session.session_id in sandbox.sessions
        assert error.delivery is Delivery.CREATED_UNREADABLE
        assert pickle.loads(pickle.dumps(error)).session == error.session
        shown = traceback.TracebackException.from_exception(
            error, capture_locals=True
        )
        text = "".join(shown.format())
        assert "no such table" in text
        assert error.session.session_id not in text
        assert sandbox.api_key not in text

    async def test_sends_nothing_while_the_store_cannot_be_opened(
        self, sandbox, path
    ):
        """
        Without its store a client creates no session.
        """
        path.write_text("This file belongs to something else. " * 100)
        bank = connect(sandbox, store=SQLiteSessionStore(path))
        with pytest.raises(StoreError):
            await bank.create_session("customer-42")
        with pytest.raises(StoreError):
            async with bank.create_sessions(["customer-42"]):
                pass
        with pytest.raises(StoreError):
            async with bank:
                pass

        assert not sandbox.requests


class TestBatch:
    """
    AsyncBankConnect.create_sessions
    """

    async def test_stores_each_outcome(self, sandbox, store):
        """
        Each outcome is in the store when it comes, ambiguous ones included.
        """
        sandbox.faults.script(Fault.reset(after=True))
        async with (
            connect(sandbox, store=store) as bank,
            bank.create_sessions(
                [f"customer-{n}" for n in range(20)], scope="may"
            ) as outcomes,
        ):
            async for outcome in outcomes:
                (entry,) = await entries_of(bank, outcome.link_id)
                assert entry.key.scope == "may"
                if isinstance(outcome, Created):
                    assert entry.session_id == outcome.session.session_id
                else:
                    assert entry.is_ambiguous

        assert outcomes.stats().failures == {"ConnectionLostError": 1}

    async def test_remembers_what_it_created(self, sandbox):
        """
        Without a store, the memory of the client has the same.
        """
        sandbox.faults.script(Fault.reset(after=True))
        async with (
            connect(sandbox) as bank,
            bank.create_sessions(["a", "b"], scope="may") as outcomes,
        ):
            link_ids = [outcome.link_id async for outcome in outcomes]
            entries = [
                entry
                for link_id in link_ids
                for entry in await entries_of(bank, link_id)
            ]

        assert {entry.link_id for entry in entries} == {"a", "b"}
        assert sum(entry.is_ambiguous for entry in entries) == 1
        assert {entry.key.scope for entry in entries} == {"may"}

    async def test_a_broken_store_stops_it(
        self, sandbox, store, path, tmp_path
    ):
        """
        After a failure of the store nothing more is sent; each session that
        was created is in the error of its outcome.
        """
        journal = Journal(tmp_path / "journal.jsonl")
        link_ids = [f"customer-{n}" for n in range(100)]
        found = []
        async with connect(sandbox, store=store) as bank:
            break_store(path)
            with pytest.raises(StoreError, match="no such table") as caught:
                async with bank.create_sessions(
                    link_ids, concurrency=5, journal=journal
                ) as outcomes:
                    async for each in outcomes:
                        found += [each]

        assert all(isinstance(each, Failed) for each in found)
        sessions = [each.error.session for each in found]
        assert caught.value.session in sessions
        assert {each.session_id for each in sessions} == {*sandbox.sessions}
        assert len(sessions) <= 10
        # The same batch would create them again, under other ids.
        records = list(read_journal(journal.path))
        assert len(records) == len(sessions)
        assert {record.type for record in records} == {"StoreError"}

    async def test_a_killed_process_loses_no_outcome(self, sandbox, path):
        """
        Every session whose outcome came before SIGKILL is in the store.
        """
        process = start(
            "link_ids = map(str, range(10**6))\n"
            "async with bank.create_sessions(link_ids) as outcomes:\n"
            "    async for outcome in outcomes:\n"
            "        print(outcome.session.session_id, flush=True)",
            sandbox,
            path,
        )
        with process:
            seen = [
                await asyncio.to_thread(process.stdout.readline)
                for _ in range(300)
            ]
            process.kill()
            seen += process.stdout.readlines()

        async with connect(sandbox, store=SQLiteSessionStore(path)) as bank:
            found = [
                await bank.store.find(
                    api_id=bank.store_api_id, session_id=line.strip()
                )
                for line in seen
                if line.endswith("\n")
            ]
            await bank.store.aclose()
        assert len(found) >= 300
        assert all(found)


class TestConfirm:
    """
    AsyncBankConnect.confirm
    """

    async def test_confirms_what_another_process_created(self, sandbox, path):
        """
        The store tells whose a session is, and hears of the success.
        """
        process = start(
            "print((await bank.create_session('customer-42')).session_id)",
            sandbox,
            path,
        )
        with process:
            session_id = (
                await asyncio.to_thread(process.stdout.readline)
            ).strip()
        await sandbox.play(session_id, "success")
        event = SuccessEvent(session_id=session_id, link_id="customer-42")
        other = SuccessEvent(session_id=session_id, link_id="customer-43")

        async with (
            SQLiteSessionStore(path) as store,
            connect(sandbox, store=store) as bank,
            connect(sandbox) as stranger,
        ):
            assert (await bank.confirm(event)).confirmed is True
            assert (await bank.confirm(other)).confirmed is False
            assert (await stranger.confirm(event)).confirmed is None
            (entry,) = await entries_of(bank, "customer-42")
        assert entry.state is SessionState.SUBMITTED

    async def test_remembers_the_entity(self):
        """
        An entity that is confirmed beside its session belongs to the entry.
        """
        async with Sandbox("entity") as sandbox, connect(sandbox) as bank:
            session = await bank.create_session("customer-42")
            played = await sandbox.play(session.session_id, "success")
            event = decode_event(played.messages[-1])
            event = attrs.evolve(event, session_id=session.session_id)

            assert (await bank.confirm(event)).confirmed is True

            (entry,) = await bank.store.find(
                api_id=bank.store_api_id, entity_id=event.entity_id
            )
        assert entry.session_id == session.session_id


class TestOwner:
    """
    The owner of a store, and its address
    """

    async def test_closes_only_its_own(self, sandbox, path, store):
        """
        A client closes the store that it made from the environment.
        """
        environment = make_environment(sandbox, f"sqlite:///{path}")
        async with AsyncBankConnect.from_env(environment) as bank:
            await bank.create_session("customer-42")
            assert bank.store is not store
        async with connect(sandbox, store=store) as other:
            assert await entries_of(other, "customer-42")

        with pytest.raises(StoreError):
            await entries_of(bank, "customer-42")
        assert await entries_of(other, "customer-42")

    async def test_closes_after_a_cancel(self, sandbox, path, until):
        """
        A cancel while calls come to their end closes connections and store.
        """
        sandbox.faults.script(Fault.stall())
        environment = make_environment(sandbox, f"sqlite:///{path}")
        bank = AsyncBankConnect.from_env(environment)
        call = asyncio.create_task(bank.create_session("customer-42"))
        await until(lambda: sandbox.requests)
        closing = asyncio.create_task(bank.aclose(drain=3600))
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing

        with pytest.raises(ClientClosedError):
            await call
        with pytest.raises(StoreError):
            await bank.store.find(api_id="api", link_id="customer-42")

    async def test_opens_again_after_a_failure(self, sandbox, path, tmp_path):
        """
        A client that could not be opened opens its store again.
        """
        authority = tmp_path / "authority.pem"
        bank = AsyncBankConnect.from_env(
            make_environment(sandbox, path), tls=TLS(ca_file=authority)
        )
        with pytest.raises(ConfigurationError, match="ca_file"):
            async with bank:
                pass
        trustme.CA().cert_pem.write_to_path(authority)

        async with bank:
            await bank.create_session("customer-42")
            (entry,) = await entries_of(bank, "customer-42")

        assert entry.session_id in sandbox.sessions

    @pytest.mark.parametrize(
        "address",
        [
            r"C:\data\me@home.db",
            "C:/data/me@home.db",
            "data/10:30@noon.db",
            "/srv/data:1/me@home.db",
            "sqlite:////srv/data:1/me@home.db",
        ],
    )
    def test_paths(self, address):
        """
        The path of a file may have a drive, a colon and an @.
        """
        store = open_store(address)

        assert str(store.path).endswith(address.removeprefix("sqlite:///"))

    @pytest.mark.parametrize(
        ("address", "keys", "problem"),
        [
            ("mysql://user:pa55word@host/x", None, "store"),
            ("sqlite://pa55word", None, "store"),
            ("postgresql:/user:pa55word@host/x", None, "store"),
            ("postgresql+asyncpg://user:pa55word@host/x", None, "store"),
            ("dbname=x password=pa55word", None, "store"),
            ("jdbc:postgresql://user:pa55word@host/x", None, "store"),
            ("://user:pa55word@host/x", None, "store"),
            ("//user:pa55word@host/x", None, "store"),
            ("user:pa55word@host:5432/x", None, "store"),
            ("user:pa/55word@host/x", None, "store"),
            ("sqlite:///user:pa55word@host/x", None, "store"),
            ("host/x?user=me&password=pa55word", None, "store"),
            ("x.sqlite", "pa55word", "encryption_keys"),
        ],
    )
    def test_refuses_bad_addresses(self, address, keys, problem):
        """
        A bad address is an error that does not show it.
        """
        environment = {
            "BANKCONNECT_API_KEY": "key",
            "BANKCONNECT_STORE": address,
            "BANKCONNECT_STORE_KEYS": keys or "",
        }
        with pytest.raises(ConfigurationError) as caught:
            AsyncBankConnect.from_env(environment)

        assert [*caught.value.fields] == [problem]
        shown = traceback.TracebackException.from_exception(
            caught.value, capture_locals=True
        )
        ours = [
            line
            for frame in shown.stack
            if "bankconnect_async" in frame.filename
            for line in (frame.locals or {}).values()
        ]
        assert not [line for line in ours if "pa55word" in line]

    async def test_subclass(self, sandbox, tmp_path):
        """
        A store of one's own class gets all entries by its own `add`.
        """
        added = []

        class Watched(SQLiteSessionStore):
            async def add(self, entries, /):
                added.extend(entries)
                await super().add(entries)

        async with (
            Watched(tmp_path / "s.db") as store,
            connect(sandbox, store=store) as bank,
        ):
            await bank.create_session("customer-42")
            async with bank.create_sessions(["customer-43"]) as outcomes:
                async for _ in outcomes:
                    pass

        assert [entry.link_id for entry in added] == [
            "customer-42",
            "customer-43",
        ]

    def test_refuses_what_is_no_store(self):
        """
        A text is no store: the error names the function that makes one.
        """
        with pytest.raises(ConfigurationError, match="open_store"):
            AsyncBankConnect("key", store="sessions.sqlite")


class TestAsSink:
    """
    A store that a batch takes in the place of a journal.
    """

    async def test_resumes(self, sandbox, path):
        """
        A batch creates the sessions that the store does not have, of the same
        customer, scope and parameters.
        """
        async with (
            SQLiteSessionStore(path) as store,
            connect(sandbox, store=store, retry=ONCE) as bank,
        ):
            first = bank.create_sessions(["a", "b"], journal=store)
            assert (await first.run()).created == 2
            sandbox.faults.script(Fault.reset(after=True))
            lost = bank.create_sessions(["c"], journal=store, concurrency=1)
            assert (await lost.run()).failed == 1

        async with (
            SQLiteSessionStore(path) as store,
            connect(sandbox, store=store, retry=ONCE) as bank,
        ):
            axis = SessionRequest(
                link_id="a", redirect_url=RETURN, bank_name="axis"
            )
            rows = ["a", "b", "c", "d", axis]
            again = await bank.create_sessions(rows, journal=store).run()
            other = await bank.create_sessions(
                ["a"], journal=store, scope="other"
            ).run()

        assert (again.created, again.skipped) == (3, 2)
        assert (other.created, other.skipped) == (1, 0)

    async def test_memory(self, sandbox):
        """
        The client's own memory is a store, too.
        """
        async with connect(sandbox) as bank:
            await bank.create_session("a")
            stats = await bank.create_sessions(
                ["a", "b"], journal=bank.store
            ).run()

        assert (stats.created, stats.skipped) == (1, 1)

    async def test_duplicates(self, sandbox):
        """
        An input that is given twice fails with its first line.
        """
        async with connect(sandbox) as bank:
            batch = bank.create_sessions(
                ["a", "a"], journal=bank.store, ordered=True
            )
            async with batch as outcomes:
                created, failed = [outcome async for outcome in outcomes]

        assert isinstance(created, Created)
        assert "on line 1" in str(failed.error)

    async def test_another_store(self, sandbox):
        """
        A store that the client does not write is refused, as is anything
        that is no sink.
        """
        async with connect(sandbox) as bank:
            with pytest.raises(ConfigurationError, match="another store"):
                bank.create_sessions([], journal=MemorySessionStore())
            with pytest.raises(ConfigurationError, match="must be a Journal"):
                bank.create_sessions([], journal="out.jsonl")
