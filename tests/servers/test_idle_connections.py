"""
Idle connections that real servers and proxies have closed.

The event loop stands still until the kernel has the end of every one of
them, so it has seen none when the next requests are due.
"""

import asyncio

from contextlib import AsyncExitStack

import aiohttp
import uvloop

from bankconnect_async import Delivery, RetryPolicy


AT_ONCE = 24


async def test_none_is_reused(go, connect, create_all, stand_still, way):
    """
    In at-most-once, no request is lost and none is sent twice.
    """
    with go(way) as place:
        async with connect(**place.settings) as bank:
            errors = await create_all(bank, AT_ONCE)
            place.end_connections()
            stand_still(bank._executor.transport._bound.session.connector)
            errors += await create_all(bank, AT_ONCE)

    assert errors == []


def test_none_is_reused_under_uvloop(
    go, connect, create_all, stand_still, quick_way
):
    """
    The same holds with the other event loop.
    """

    async def create():
        async with connect(**place.settings) as bank:
            errors = await create_all(bank, AT_ONCE)
            place.end_connections()
            stand_still(bank._executor.transport._bound.session.connector)
            # It reads before it runs tasks, so this has to be no task.
            await bank.create_session("c")
            return errors + await create_all(bank, AT_ONCE)

    with (
        go(quick_way) as place,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        errors = runner.run(create())

    assert errors == []


async def test_none_of_a_borrowed_session_is_written_to(
    go, connect, create_all, stand_still, quick_way
):
    """
    Over a borrowed session, a request on a closed connection counts as not
    sent.
    """
    settings, retry = {}, RetryPolicy(delivery="at-most-once")
    with go(quick_way) as place:
        settings |= place.settings
        connector = aiohttp.TCPConnector(ssl=settings.pop("tls", True))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            connect(client_session=session, retry=retry, **settings) as bank,
        ):
            errors = await create_all(bank, AT_ONCE)
            place.end_connections()
            stand_still(connector)
            errors += await create_all(bank, AT_ONCE)
            attempts = bank.stats().attempts

    assert errors == []
    assert attempts.keys() <= {"succeeded", Delivery.NOT_SENT}


async def test_a_proxy_may_close_without_a_word(serve, connect, stand_still):
    """
    A proxy that closes after each response without a header costs connections
    and no sessions.
    """
    async with AsyncExitStack() as stack:
        server = stack.enter_context(
            serve("nginx", tls=False, keepalive="60s")
        )
        proxy = stack.enter_context(serve("tinyproxy", auth=False))
        bank = await stack.enter_async_context(
            connect(base_url=server.origin, proxy=proxy.origin)
        )
        for number in range(20):
            await bank.create_session(f"c{number}")
            stand_still(bank._executor.transport._bound.session.connector)

    assert bank.stats().attempts == {"succeeded": 20}
