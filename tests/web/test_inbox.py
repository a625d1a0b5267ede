"""
The inbox of a service does what is in the store, whoever put it there.
"""

import asyncio
import datetime

import pytest

from bankconnect_async import MemorySessionStore
from bankconnect_async.web.inbox import Inbox


@pytest.fixture(name="inbox_of")
def _inbox_of():
    """Make the inbox of one more process."""

    def make(store, work):
        return Inbox(
            store=store,
            work=work,
            now=lambda: datetime.datetime.now(datetime.UTC),
            limit=10,
            lease=datetime.timedelta(minutes=1),
            poll_interval=0.01,
        )

    return make


async def test_work_that_another_process_took(inbox_of, until, caplog):
    """
    Work that one process put in and another one does is no longer pending in
    the first, which closes at once.
    """
    done = []

    async def work(item):
        done.append(item.key)
        return True

    store = MemorySessionStore()
    first, second = inbox_of(store, work), inbox_of(store, work)
    await store.open()
    await first.put("key", b"{}")
    assert first.pending == 1
    assert await second.take() == 1
    await until(lambda: not second.pending)

    async with asyncio.timeout(20):
        await first.aclose(grace=60)

    assert (first.pending, done) == (0, ["key"])
    assert not caplog.records


def test_closing_in_another_loop(inbox_of):
    """
    An inbox whose event loop is closed ends quietly in the next one, and its
    work stays in the store.
    """

    async def work(item):
        await asyncio.Event().wait()

    store = MemorySessionStore()
    inbox = inbox_of(store, work)
    asyncio.run(inbox.put("key", b"{}"))

    assert asyncio.run(inbox.aclose(grace=60)) == []
    hour = datetime.timedelta(hours=1)
    later = datetime.datetime.now(datetime.UTC) + hour
    (item,) = asyncio.run(store.take(now=later, limit=1, lease=hour))
    assert item.key == "key"
