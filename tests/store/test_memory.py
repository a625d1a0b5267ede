"""
The store in memory.
"""

import datetime

import pytest

from bankconnect_async import (
    ConfigurationError,
    MemorySessionStore,
    StoreError,
)


API = "api/v1#1a2b3c4d"
LEASE = datetime.timedelta(seconds=30)


async def test_oldest_entries_are_evicted(make_entry):
    """
    The store keeps the newest entries, and nothing of those it evicted.
    """
    store = MemorySessionStore(limit=3)
    entries = [make_entry(f"link-{n}", entity_ids=("e",)) for n in range(8)]
    for entry in entries[:4]:
        await store.add([entry])
    assert not await store.find(api_id=API, link_id="link-0")
    await store.add(entries[4:])

    found = await store.find(api_id=API, entity_id="e")

    assert {entry.link_id for entry in found} == {"link-5", "link-6", "link-7"}
    assert len(store._entries) == 3
    assert len(store._index) == 3 * 2 + 1


async def test_entries_are_made_when_needed(make_entry):
    """
    An entry that is added without waiting is made when it is looked for.
    """
    store = MemorySessionStore(limit=2)
    made = []

    def make(facts):
        made.append(make_entry(*facts))
        return made[-1]

    store.builder = make
    for _ in range(5):
        store.add_nowait(("late",))
    assert not made

    assert len(await store.find(api_id=API, link_id="late")) == 2
    assert len(made) == 2


async def test_inbox_is_bounded(now):
    """
    Work beyond the limit is refused, and old keys are evicted.
    """
    store = MemorySessionStore(limit=2)
    for number in range(5):
        await store.enqueue(f"done-{number}", b"", at=now)
        await store.done(f"done-{number}")
    await store.enqueue("1", b"", at=now)
    await store.enqueue("2", b"", at=now)

    with pytest.raises(StoreError, match="the inbox is full"):
        await store.enqueue("3", b"", at=now)

    assert not await store.enqueue("done-4", b"", at=now)
    assert len(store._finished) == 2


async def test_rights_are_bounded(make_key, now):
    """
    Rights that nobody uses or releases do not pile up.
    """
    store = MemorySessionStore(limit=2)
    for number in range(9):
        await store.reserve(
            make_key(f"link-{number}"),
            now=now,
            lease=LEASE if number % 2 else datetime.timedelta(0),
        )

    assert len(store._reservations) <= 2


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"limit": 0}, "limit"),
        ({"dedup_window": -LEASE}, "dedup_window"),
        ({"dedup_window": 60}, "dedup_window"),
    ],
)
def test_bad_settings(settings, name):
    """
    A wrong setting is refused by its name.
    """
    with pytest.raises(ConfigurationError, match=f"{name}.*must be"):
        MemorySessionStore(**settings)


def test_repr_shows_no_secrets():
    """
    The repr of a store shows its limit only.
    """
    assert repr(MemorySessionStore(7)) == "MemorySessionStore(limit=7)"
