"""
The behaviour that all stores of sessions share.
"""

import asyncio
import datetime
import itertools
import operator

import attrs
import pytest

from bankconnect_async import (
    InboxItem,
    InvalidRequestError,
    MemorySessionStore,
    PostgresSessionStore,
    Reserved,
    SessionState,
    SQLiteSessionStore,
    StoreError,
)
from bankconnect_async.store.entries import DEDUP_WINDOW


LEASE = datetime.timedelta(seconds=30)
MINUTE = datetime.timedelta(minutes=1)
API = "api/v1#1a2b3c4d"
#: Texts that link ids and details may hold.
WEIRD = [
    "Ω≈ç√∫ 👩‍👩‍👧",
    "'; DROP TABLE entries; --",
    '{"a": [1, "\\"]}',
    "%_\\%",
    "a\tb\nc",
    " ",
    "0" * 500,
    "None",
]


def open_memory(path):
    """Make a store in memory."""
    return MemorySessionStore()


def open_plain_sqlite(path):
    """Make a store in SQLite that keeps no URLs."""
    return SQLiteSessionStore(path)


def open_encrypted_sqlite(path):
    """Make a store in SQLite whose ids and bodies are encrypted."""
    return SQLiteSessionStore(path, encryption_keys=["k" * 32, "o" * 32])


def open_plain_postgres(dsn):
    """Make a store in PostgreSQL that keeps no URLs."""
    return PostgresSessionStore(dsn, schema="plain")


def open_encrypted_postgres(dsn):
    """Make a store in PostgreSQL whose ids and bodies are encrypted."""
    return PostgresSessionStore(
        dsn, schema="encrypted", encryption_keys=["k" * 32, "o" * 32]
    )


async def empty(store):
    """Empty the tables, which is faster than to create a database."""
    for table in ("entries", "reservations", "inbox"):
        statement = f"DELETE FROM {store._schema}.{table}"  # noqa: S608
        await store._run(operator.methodcaller("execute", statement))


#: Each makes a store; its argument is the path of a file, or the address of
#: a database.
STORES = {
    "memory": open_memory,
    "plain SQLite": open_plain_sqlite,
    "encrypted SQLite": open_encrypted_sqlite,
    "plain PostgreSQL": open_plain_postgres,
    "encrypted PostgreSQL": open_encrypted_postgres,
}
#: Stores of which a customer can continue a journey.
KEEPING = [name for name in STORES if "plain" not in name]
keeping = pytest.mark.parametrize("store", KEEPING, indirect=True)


@pytest.fixture(params=STORES)
async def store(request, tmp_path):
    """A store that is open."""
    place = (
        request.getfixturevalue("shared_dsn")
        if "PostgreSQL" in request.param
        else tmp_path / "sessions.db"
    )
    store = STORES[request.param](place)
    await store.open()
    if "PostgreSQL" in request.param:
        await empty(store)
    yield store
    await store.aclose()


def comparable(entry, store):
    """Return *entry* as *store* returns it."""
    return (
        entry if store.keeps_urls else attrs.evolve(entry, redirect_url=None)
    )


class TestEntries:
    """Adding and finding entries"""

    async def test_find_by_each_id(self, store, make_entry):
        """
        An entry is found by each of its ids, whole.
        """
        entry = make_entry(
            "find-me",
            entity_ids=("entity-1", "entity-2"),
            expires_at=make_entry().created_at + MINUTE,
            is_frame=True,
            last_problem="bank is down",
            changed_at=make_entry().created_at
            + datetime.timedelta(microseconds=1),
        )
        await store.add([make_entry("other"), entry])

        for ids in (
            {"link_id": "find-me"},
            {"session_id": entry.session_id},
            {"entity_id": "entity-2"},
            {"link_id": "find-me", "entity_id": "entity-1"},
        ):
            found = await store.find(api_id=API, **ids)
            assert list(found) == [comparable(entry, store)]

    async def test_all_entries(self, store, make_key, make_entry):
        """
        All entries are iterated over, of one API or of all, and may be
        erased meanwhile.
        """
        added = [make_entry(f"x{number}") for number in range(3)]
        other = make_entry("other", key=make_key("other", api_id="api/v2#0"))
        await store.add([*added, other])
        expected = [comparable(entry, store) for entry in (*added, other)]

        assert [each async for each in store.entries()] == expected
        of_one = [each async for each in store.entries(api_id=API)]
        assert of_one == expected[:3]
        async for entry in store.entries():
            await store.forget(link_id=entry.link_id)
        assert not [each async for each in store.entries()]

    async def test_all_ids_must_fit(self, store, make_entry):
        """
        Ids of two customers, and ids of another API, find nothing.
        """
        one, other = make_entry("one"), make_entry("other")
        await store.add([one, other])

        assert not await store.find(
            api_id=API, link_id="one", session_id=other.session_id
        )
        assert not await store.find(api_id="api/v2#0", link_id="one")
        assert not await store.find(api_id=API, link_id="nobody")
        assert not await store.find(
            api_id=API, link_id="one", entity_id="entity-9"
        )

    async def test_newest_first(self, store, make_entry, now):
        """
        Entries of one customer come newest first, in whatever order they were
        added.
        """
        ages = [3, 1, 2]
        await store.add(
            [make_entry("x", created_at=now - age * MINUTE) for age in ages]
        )

        found = await store.find(api_id=API, link_id="x")

        assert [(now - entry.created_at) // MINUTE for entry in found] == [
            1,
            2,
            3,
        ]

    async def test_add_is_idempotent(self, store, make_entry, now):
        """
        Adding an entry again leaves it as it is.
        """
        entry = make_entry()
        await store.add([entry])
        await store.advance(entry.entry_id, SessionState.SUBMITTED, at=now)
        await store.add([entry, make_entry(), entry])

        [found] = await store.find(api_id=API, session_id=entry.session_id)

        assert found.state is SessionState.SUBMITTED
        assert len(await store.find(api_id=API, link_id=entry.link_id)) == 2

    async def test_add_nothing(self, store):
        """
        Adding nothing does nothing.
        """
        await store.add([])

        assert not await store.find(api_id=API, link_id="x")

    async def test_same_session_of_two_customers(self, store, make_entry):
        """
        A session id that two customers have finds both.
        """
        await store.add(
            [make_entry("a", session_id="s"), make_entry("b", session_id="s")]
        )

        found = await store.find(api_id=API, session_id="s")

        assert {entry.link_id for entry in found} == {"a", "b"}

    @pytest.mark.parametrize("text", WEIRD)
    async def test_weird_texts(self, store, make_entry, make_key, text, now):
        """
        Ids and details of any characters are found as they were given.
        """
        entry = make_entry(
            key=make_key(text, scope=text, request_digest=text),
            session_id=text,
            entity_ids=(text,),
        )
        await store.add([entry])
        await store.advance(
            entry.entry_id, SessionState.OPENED, at=now, detail=text
        )
        await store.enqueue(text, text.encode(), at=now, link_id=text)

        [found] = await store.find(
            api_id=API, link_id=text, session_id=text, entity_id=text
        )
        [item] = await store.take(now=now, limit=9, lease=LEASE)

        assert found.key == entry.key
        assert found.last_problem == text
        assert (item.key, item.body) == (text, text.encode())
        assert await store.forget(link_id=text) == 1

    async def test_many_at_once(self, store, make_entry):
        """
        A hundred calls at once add all of their entries.
        """
        entries = [make_entry("many") for _ in range(300)]
        await asyncio.gather(
            *(store.add(entries[at : at + 3]) for at in range(0, 300, 3))
        )

        found = await store.find(api_id=API, link_id="many")

        assert {entry.entry_id for entry in found} == {
            entry.entry_id for entry in entries
        }

    async def test_find_nothing_by_no_id(self, store):
        """
        Without an id, a search is refused.
        """
        with pytest.raises(InvalidRequestError, match="session_id"):
            await store.find(api_id=API)


class TestAdvance:
    """Advancing an entry"""

    async def test_late_news(self, store, make_entry, now):
        """
        A late success replaces an expiry, and a late expiry is ignored.
        """
        entry = make_entry(expires_at=now + MINUTE)
        await store.add([entry])
        states = []
        for state in (
            SessionState.EXPIRED,
            SessionState.SUBMITTED,
            SessionState.EXPIRED,
            SessionState.COMPLETED,
            SessionState.OPENED,
        ):
            advanced = await store.advance(entry.entry_id, state, at=now)
            states.append(advanced.state.value)

        assert states == [
            "expired",
            "submitted",
            "submitted",
            "completed",
            "completed",
        ]
        assert advanced.next_check_at is None
        assert (await store.find(api_id=API, link_id=entry.link_id)) == [
            advanced
        ]

    async def test_entities_are_found(self, store, make_entry, now):
        """
        An entry is found by an entity that was learned later.
        """
        entry = make_entry()
        await store.add([entry])
        for entity_id in ("entity-7", "entity-8", "entity-7"):
            await store.advance(
                entry.entry_id,
                SessionState.PROCESSING,
                at=now,
                entity_id=entity_id,
            )

        [found] = await store.find(api_id=API, entity_id="entity-8")

        assert found.entity_ids == ("entity-7", "entity-8")

    async def test_unknown_entry(self, store, now):
        """
        An entry that does not exist is a clear error, which hurts no other
        call.
        """
        refused, item = await asyncio.gather(
            store.advance("nope", SessionState.OPENED, at=now),
            store.enqueue("k", b"", at=now),
            return_exceptions=True,
        )

        assert isinstance(refused, StoreError)
        assert "nope" in str(refused)
        assert item is True

    async def test_at_once(self, store, make_entry, now):
        """
        News that arrive at once are all kept.
        """
        entry = make_entry()
        await store.add([entry])
        await asyncio.gather(
            *(
                store.advance(
                    entry.entry_id,
                    SessionState.PROCESSING,
                    at=now,
                    entity_id=f"entity-{number}",
                )
                for number in range(20)
            )
        )

        [found] = await store.find(api_id=API, link_id=entry.link_id)

        assert len(found.entity_ids) == 20


@keeping
class TestReserve:
    """Reserving the right to create a session"""

    async def test_thirty_at_once(self, store, make_entry, make_key, now):
        """
        Of thirty callers one creates the session, and all others get it.
        """
        created = []
        numbers = itertools.count(1)
        all_ask = asyncio.Event()

        async def load():
            if next(numbers) == 30:
                all_ask.set()
            found = await store.reserve(make_key(), now=now, lease=LEASE)
            if isinstance(found, Reserved):
                created.append(found)
                await all_ask.wait()
                await store.add(
                    [make_entry(entry_id=found.entry_id, key=found.key)]
                )
            return found.entry_id

        entry_ids = await asyncio.gather(*(load() for _ in range(30)))

        assert len(created) == 1
        assert set(entry_ids) == {created[0].entry_id}
        assert created[0].key == make_key()
        assert created[0].until == now + LEASE

    async def test_release(self, store, make_key, now):
        """
        A right that is released goes to one of those that wait.
        """
        first = await store.reserve(make_key(), now=now, lease=LEASE)
        waiting = asyncio.ensure_future(
            store.reserve(make_key(), now=now, lease=LEASE)
        )
        other = await store.reserve(make_key("other"), now=now, lease=LEASE)
        assert not waiting.done()
        await store.release(first.entry_id)

        second = await asyncio.wait_for(waiting, 5)

        assert isinstance(second, Reserved)
        assert len({first.entry_id, second.entry_id, other.entry_id}) == 3

    async def test_lease_ends(self, store, make_key, now):
        """
        The right of a caller that died goes to another when its lease ends;
        the lease of the other one runs from then.
        """
        lease = datetime.timedelta(milliseconds=100)
        first = await store.reserve(make_key(), now=now, lease=lease)

        second = await asyncio.wait_for(
            store.reserve(make_key(), now=now, lease=LEASE), 5
        )

        assert isinstance(second, Reserved)
        assert second.entry_id != first.entry_id
        assert second.until > now + LEASE
        # The first one is late: its session is kept all the same.
        await store.release(first.entry_id)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                store.reserve(make_key(), now=now, lease=LEASE), 0.05
            )

    async def test_clocks_a_minute_apart(self, store, make_key, now):
        """
        A caller whose clock is a minute ahead does not take the right away.
        """
        await store.reserve(make_key(), now=now, lease=LEASE)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                store.reserve(make_key(), now=now + MINUTE, lease=LEASE), 0.05
            )

    async def test_keys_differ(self, store, make_key, now):
        """
        Each customer, campaign, request and API has a right of its own.
        """
        keys = [
            make_key(),
            make_key("other"),
            make_key(scope="loan-2"),
            make_key(request_digest="0"),
            make_key(api_id="api/v2#0"),
        ]
        found = [
            await asyncio.wait_for(store.reserve(key, now=now, lease=LEASE), 5)
            for key in keys
        ]

        assert [reserved.key for reserved in found] == keys

    async def test_cancelled_right(self, store, make_key, now):
        """
        Whoever is cancelled while the right is granted holds it no longer.
        """
        for steps in (2**exponent for exponent in range(20)):
            key = make_key(f"cancelled-{steps}")
            reserving = asyncio.create_task(
                store.reserve(key, now=now, lease=LEASE)
            )
            for _ in range(steps):
                await asyncio.sleep(0)
            reserving.cancel()
            await asyncio.wait([reserving])
            if not reserving.cancelled():
                break
            async with asyncio.timeout(LEASE.total_seconds() / 2):
                found = await store.reserve(key, now=now, lease=LEASE)
            assert isinstance(found, Reserved)

        assert isinstance(reserving.result(), Reserved)

    async def test_cancelled_waiter(self, store, make_key, now):
        """
        A caller that is cancelled while it waits takes no right with it.
        """
        first = await store.reserve(make_key(), now=now, lease=LEASE)
        waiting = [
            asyncio.ensure_future(
                store.reserve(make_key(), now=now, lease=LEASE)
            )
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        await store.release(first.entry_id)

        assert isinstance(await asyncio.wait_for(waiting[1], 5), Reserved)

    @pytest.mark.parametrize(
        ("fields", "created_after"),
        [
            ({"state": SessionState.SUBMITTED}, None),
            ({"redirect_url": None}, None),
            ({"expires_at": -1}, None),
            ({}, 0),
        ],
        ids=["submitted", "no URL", "expired", "too old"],
    )
    async def test_entries_that_end(  # noqa: PLR0913, PLR0917
        self, store, make_entry, make_key, now, fields, created_after
    ):
        """
        An entry that cannot be continued is replaced.
        """
        if "expires_at" in fields:
            fields = {"expires_at": now - MINUTE}
        await store.add([make_entry(**fields)])

        found = await store.reserve(
            make_key(),
            now=now,
            lease=LEASE,
            created_after=None if created_after is None else now,
        )

        assert isinstance(found, Reserved)

    async def test_newest_live_entry(self, store, make_entry, make_key, now):
        """
        Of several live entries the newest is continued.
        """
        entries = [
            make_entry(created_at=now - MINUTE, state=SessionState.OPENED),
            make_entry(created_at=now, state=SessionState.EXPIRED),
            make_entry(created_at=now - 2 * MINUTE),
        ]
        await store.add(entries)

        found = await store.reserve(
            make_key(), now=now, lease=LEASE, created_after=now - 3 * MINUTE
        )

        assert found == entries[0]


@keeping
async def test_forgotten_right(store, make_key, now):
    """
    The rights of a customer who is forgotten end, and no one else's.
    """
    keys = make_key("a"), make_key("a", scope="loan-2"), make_key("b")
    for key in keys:
        await store.reserve(key, now=now, lease=LEASE)

    await store.forget(link_id="a")

    for key in keys[:2]:
        async with asyncio.timeout(LEASE.total_seconds() / 2):
            found = await store.reserve(key, now=now, lease=LEASE)
        assert isinstance(found, Reserved)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(
            store.reserve(keys[2], now=now, lease=LEASE), 0.05
        )


@pytest.mark.parametrize(
    "store", [name for name in STORES if name not in KEEPING], indirect=True
)
async def test_nothing_to_continue(store, make_entry, make_key, now):
    """
    A store without URLs gives everybody a right at once.
    """
    await store.add([make_entry()])

    found = await asyncio.gather(
        *(store.reserve(make_key(), now=now, lease=LEASE) for _ in range(5))
    )

    assert {type(each) for each in found} == {Reserved}
    assert len({each.entry_id for each in found}) == 5
    assert not store.keeps_urls
    await store.release(found[0].entry_id)


class TestDue:
    """Leasing the entries that are due"""

    async def test_longest_due_first(self, store, make_entry, now):
        """
        Those that are due the longest come first, each leased once.
        """
        entries = [
            make_entry(next_check_at=at)
            for at in (
                now,
                now - MINUTE,
                now + MINUTE,
                None,
                now - 2 * MINUTE,
            )
        ]
        await store.add(entries)

        first = await store.due(now=now, limit=2, lease=LEASE)
        second = await store.due(now=now, limit=9, lease=LEASE)

        assert [entry.entry_id for entry in first] == [
            entries[4].entry_id,
            entries[1].entry_id,
        ]
        assert [entry.entry_id for entry in second] == [entries[0].entry_id]
        assert {entry.next_check_at for entry in first} == {now + LEASE}
        assert not await store.due(now=now, limit=9, lease=LEASE)

    async def test_one_api(self, store, make_entry, make_key, now):
        """
        A sweep leaves the entries of other APIs to others.
        """
        await store.add(
            [
                make_entry(key=make_key(api_id=api_id), next_check_at=now)
                for api_id in ("ours", "theirs")
            ]
        )

        leased = await store.due(now=now, limit=9, lease=LEASE, api_id="ours")

        assert [entry.key.api_id for entry in leased] == ["ours"]
        assert len(await store.due(now=now, limit=9, lease=LEASE)) == 1

    async def test_leases_end(self, store, make_entry, now):
        """
        An entry whose check was never finished is due again.
        """
        await store.add([make_entry(next_check_at=now)])
        await store.due(now=now, limit=9, lease=LEASE)

        assert not await store.due(now=now + LEASE / 2, limit=9, lease=LEASE)
        assert len(await store.due(now=now + LEASE, limit=9, lease=LEASE)) == 1

    async def test_backoff(self, store, make_entry, now):
        """
        Checks that find nothing new become rare: a week of sweeps every
        quarter of an hour makes a dozen checks.
        """
        entry = make_entry(next_check_at=now)
        await store.add([entry])
        checks = 0
        for minute in range(0, 7 * 24 * 60, 15):
            at = now + minute * MINUTE
            for due in await store.due(now=at, limit=9, lease=LEASE):
                await store.advance(due.entry_id, due.state, at=at)
                checks += 1

        assert 7 <= checks <= 16

    async def test_two_at_once(self, store, make_entry, now):
        """
        Two sweeps at once share the entries.
        """
        await store.add([make_entry(next_check_at=now) for _ in range(40)])

        leased = await asyncio.gather(
            *(store.due(now=now, limit=10, lease=LEASE) for _ in range(4))
        )

        entry_ids = [entry.entry_id for part in leased for entry in part]
        assert len(set(entry_ids)) == len(entry_ids) == 40


class TestInbox:
    """Work that is done at least once"""

    async def test_once(self, store, now):
        """
        Work is taken oldest first, and a key is taken once.
        """
        at = [now - MINUTE, now - 3 * MINUTE, now - 2 * MINUTE]
        added = [
            await store.enqueue(f"key-{i}", b"\x00\xff%d" % i, at=at[i])
            for i in (0, 1, 2, 0)
        ]

        first = await store.take(now=now, limit=2, lease=LEASE)
        second = await store.take(now=now, limit=9, lease=LEASE)

        assert added == [True, True, True, False]
        assert [item.key for item in first] == ["key-1", "key-2"]
        assert list(second) == [
            InboxItem(key="key-0", body=b"\x00\xff0", at=at[0])
        ]
        assert not await store.take(now=now, limit=9, lease=LEASE)

    async def test_done_keys_stay_known(self, store, now):
        """
        The key of work that is done is known until the window ends.
        """
        await store.enqueue("k", b"body", at=now)
        await store.take(now=now + MINUTE, limit=1, lease=LEASE)
        await store.done("k")

        assert not await store.enqueue("k", b"again", at=now + MINUTE)
        assert not await store.enqueue("k", b"again", at=now + DEDUP_WINDOW)
        assert not await store.take(
            now=now + DEDUP_WINDOW, limit=9, lease=LEASE
        )
        later = now + DEDUP_WINDOW + MINUTE
        assert await store.enqueue("k", b"again", at=later)
        [item] = await store.take(now=later, limit=9, lease=LEASE)
        assert item == InboxItem(key="k", body=b"again", at=later)

    async def test_done_without_take(self, store, now):
        """
        Work that its sender did itself is done without being taken.
        """
        await store.enqueue("k", b"body", at=now)
        await store.done("k")
        await store.done("k")
        await store.done("never-seen")

        assert not await store.take(now=now, limit=9, lease=LEASE)
        assert not await store.enqueue("k", b"body", at=now)

    async def test_undone_work_stays_known(self, store, now):
        """
        Work that is not done is known for as long as it is there.
        """
        await store.enqueue("k", b"body", at=now)

        later = now + 10 * DEDUP_WINDOW
        assert not await store.enqueue("k", b"body", at=later)
        assert len(await store.take(now=later, limit=9, lease=LEASE)) == 1

    async def test_lease_ends(self, store, now):
        """
        Work of a process that died is taken again, and counts its attempts.
        """
        await store.enqueue("k", b"body", at=now)
        attempts = []
        for number in range(3):
            at = now + number * LEASE
            [item] = await store.take(now=at, limit=9, lease=LEASE)
            assert not await store.take(
                now=at + LEASE / 2, limit=9, lease=LEASE
            )
            attempts.append(item.attempts)

        assert attempts == [0, 1, 2]

    async def test_backoff_after_release(self, store, now):
        """
        Work that failed waits twice as long each time, five minutes at most.
        """
        await store.enqueue("k", b"body", at=now)
        at, second = now, datetime.timedelta(seconds=1)
        for seconds in (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300):
            at += seconds * second
            early = await store.take(now=at - second, limit=9, lease=LEASE)
            assert early == []
            (item,) = await store.take(now=at, limit=9, lease=LEASE)
            assert item.key == "k"
            await store.release("k")

    async def test_two_at_once(self, store, now):
        """
        Two workers at once share the work.
        """
        for number in range(40):
            await store.enqueue(f"key-{number}", b"", at=now)

        taken = await asyncio.gather(
            *(store.take(now=now, limit=10, lease=LEASE) for _ in range(4))
        )

        keys = [item.key for part in taken for item in part]
        assert len(set(keys)) == len(keys) == 40

    async def test_release_what_is_unknown(self, store, now):
        """
        Releasing something unknown, or done, does nothing.
        """
        await store.enqueue("k", b"", at=now)
        await store.done("k")
        await store.release("k")
        await store.release("unknown")

        assert not await store.take(
            now=now + 10 * MINUTE, limit=9, lease=LEASE
        )

    async def test_same_key_at_once(self, store, now):
        """
        Of equal webhooks that arrive at once, one is new.
        """
        added = await asyncio.gather(
            *(store.enqueue("k", b"", at=now) for _ in range(20))
        )

        assert sorted(added) == [False] * 19 + [True]


class TestForget:
    """Erasing what is known of customers"""

    async def test_by_link_id(self, store, make_entry, now):
        """
        One customer's entries and work are erased, and no one else's.
        """
        await store.add([make_entry("a"), make_entry("a"), make_entry("b")])
        for key, link_id in (("1", "a"), ("2", "b"), ("3", None)):
            await store.enqueue(key, b"", at=now, link_id=link_id)

        assert await store.forget(link_id="a") == 2

        assert not await store.find(api_id=API, link_id="a")
        assert len(await store.find(api_id=API, link_id="b")) == 1
        items = await store.take(now=now, limit=9, lease=LEASE)
        assert {item.key for item in items} == {"2", "3"}
        assert await store.forget(link_id="a") == 0

    async def test_entities_are_forgotten(self, store, make_entry):
        """
        An entry that was erased is not found by its entity, even after
        another was added.
        """
        await store.add([make_entry("a", entity_ids=("e-1",))])
        await store.forget(link_id="a")
        await store.add([make_entry("b", entity_ids=("e-2",))])

        assert not await store.find(api_id=API, entity_id="e-1")
        assert len(await store.find(api_id=API, entity_id="e-2")) == 1

    async def test_before(self, store, make_entry, now):
        """
        Entries and work that are older than a time are erased.
        """
        old = now - datetime.timedelta(days=90)
        await store.add([make_entry("a", created_at=old), make_entry("a")])
        await store.enqueue("1", b"", at=old)
        await store.enqueue("2", b"", at=now)
        await store.enqueue("3", b"", at=old)
        await store.done("3")

        assert await store.forget(before=now) == 1

        [entry] = await store.find(api_id=API, link_id="a")
        assert entry.created_at == now
        items = await store.take(now=now, limit=9, lease=LEASE)
        assert [item.key for item in items] == ["2"]

    async def test_both(self, store, make_entry, now):
        """
        With both, only old entries of that customer are erased.
        """
        old = now - datetime.timedelta(days=90)
        await store.add(
            [
                make_entry("a", created_at=old),
                make_entry("a"),
                make_entry("b", created_at=old),
            ]
        )

        assert await store.forget(link_id="a", before=now) == 1

        assert len(await store.find(api_id=API, link_id="a")) == 1
        assert len(await store.find(api_id=API, link_id="b")) == 1

    @pytest.mark.parametrize(
        "arguments",
        [{}, {"before": datetime.datetime(2026, 1, 1)}],  # noqa: DTZ001
        ids=["none", "no time zone"],
    )
    async def test_bad_arguments(self, store, make_entry, arguments):
        """
        Without a customer or a time, nothing is erased.
        """
        await store.add([make_entry("a")])

        with pytest.raises(InvalidRequestError):
            await store.forget(**arguments)

        assert len(await store.find(api_id=API, link_id="a")) == 1
