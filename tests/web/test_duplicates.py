"""
Keys are remembered for a while, and not without end.
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
    After a while a key is new again, even if it was asked for meanwhile.
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
    What was not taken after all is new again.
    """
    keys = RecentKeys()
    await keys.add("a")
    await keys.discard("a")
    await keys.discard("never seen")

    assert await keys.add("a")


async def test_is_bounded():
    """
    The oldest makes way for the newest.
    """
    keys = RecentKeys(limit=2)
    for key in "abc":
        await keys.add(key)

    assert len(keys) == 2
    assert await keys.add("a")
    assert not await keys.add("c")


def test_limit_makes_sense():
    """
    Nothing can be recognised in no space at all.
    """
    with pytest.raises(ValueError, match="limit"):
        RecentKeys(limit=0)
