"""
How far the sessions of a store have come.
"""

import datetime

import pytest

from bankconnect_async import (
    MemorySessionStore,
    SessionEntry,
    SessionKey,
    SessionState,
    report_store,
)


@pytest.fixture
def add(noon):
    """Adds sessions to a store, each with its state."""

    async def add(store, *states, api_id="api", **fields):
        start = len([entry async for entry in store.entries()])
        await store.add(
            [
                SessionEntry(
                    entry_id=f"entry-{start + place}",
                    key=SessionKey(api_id=api_id, link_id=f"c{place}"),
                    created_at=noon,
                    changed_at=noon + datetime.timedelta(minutes=10),
                    state=state,
                    **fields,
                )
                for place, state in enumerate(states)
            ]
        )

    return add


async def test_funnel(add):
    """
    A session counts for each step up to its state; an expired one was
    created.
    """
    store = MemorySessionStore()
    await add(store, *SessionState, SessionState.COMPLETED)

    journeys = (await report_store(store)).journeys
    assert journeys.funnel == {
        "created": 9,
        "opened": 7,
        "submitted": 6,
        "completed": 2,
        "failed": 1,
        "exited": 0,
        "expired": 1,
        "deleted": 1,
    }
    assert journeys.sessions == 9
    assert journeys.completion.count == 2
    assert journeys.completion.max == 600


async def test_problems(add):
    """
    Exits count as long as nothing is submitted; each problem is one line.
    """
    store = MemorySessionStore()
    await add(
        store,
        SessionState.OPENED,
        SessionState.EXPIRED,
        SessionState.COMPLETED,
        last_problem="bank\nis down",
    )
    await add(
        store,
        SessionState.CREATED,
        SessionState.COMPLETED,
        is_ambiguous=True,
    )

    journeys = (await report_store(store)).journeys
    assert journeys.exited == 2
    assert journeys.problems == {"bank is down": 3}
    assert journeys.ambiguous == 1
    # Those of which something was heard exist.
    assert (journeys.sessions, journeys.funnel["created"]) == (4, 4)


async def test_many_problems(add):
    """
    Problems of which no two are alike take little memory.
    """
    store = MemorySessionStore()
    for number in range(150):
        await add(store, SessionState.OPENED, last_problem=f"no. {number}")

    journeys = (await report_store(store)).journeys
    assert journeys.problems["other"] == 50
    assert journeys.exited == 150


async def test_one_api(add):
    """
    The sessions of another API can be left out.
    """
    store = MemorySessionStore()
    await add(store, SessionState.OPENED)
    await add(store, SessionState.OPENED, api_id="other")

    report = await report_store(store, api_id="other")
    assert (report.creation, report.journeys.sessions) == (None, 1)
