"""
The store of deduplication keys expires its entries and is bounded.
"""

import datetime

import pytest

from bankconnect_async.web import RecentKeys


async def test_knows_what_it_saw():
    """
    A key is new once.
    """
    keys = RecentKeys()

    assert [await keys.add(key) for key in "abab"] == [
        True,
        True,
        False,
        False,
    ]


async def test_forgets_in_time(clock):
    """
    A key expires after its lifetime, even if it was looked up meanwhile.
    """
    keys = RecentKeys(max_age=datetime.timedelta(seconds=60), clock=clock)
    await keys.add("a")
    clock.now = 59.0
    assert not await keys.add("a")
    clock.now = 60.0

    assert await keys.add("a")
    assert len(keys) == 1


async def test_forgets_on_request():
    """
    A discarded key is new again.
    """
    keys = RecentKeys()
    await keys.add("a")
    await keys.discard("a")
    await keys.discard("never seen")

    assert await keys.add("a")


async def test_is_bounded():
    """
    The oldest entry is evicted first.
    """
    keys = RecentKeys(limit=2)
    for key in "abc":
        await keys.add(key)

    assert len(keys) == 2
    assert await keys.add("a")
    assert not await keys.add("c")


def test_limit_makes_sense():
    """
    A store without room for one key is refused.
    """
    with pytest.raises(ValueError, match="limit"):
        RecentKeys(limit=0)
