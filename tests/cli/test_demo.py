"""
The campaign of ``bankconnect demo``, without a browser.
"""

import asyncio

import aiohttp
import pytest

from bankconnect_async.cli.demo import campaign as _campaign
from bankconnect_async.cli.demo import pages as _pages
from bankconnect_async.cli.demo import server as _server
from bankconnect_async.sandbox import Fault


@pytest.fixture(name="customers")
def _customers(monkeypatch):
    """Leave two customers."""
    names = {"customer-01": "Asha", "customer-02": "Balu"}
    monkeypatch.setattr(_campaign, "CUSTOMERS", names)
    return names


async def test_answers_and_collects_again(customers, unused_tcp_port, until):
    """
    Two clicks at once answer once, and statements that cannot be fetched at
    first are fetched with the next attempt.
    """
    url = f"http://127.0.0.1:{unused_tcp_port}/"
    async with _server._campaign(url, "entity") as campaign, campaign.service:
        campaign.service._dispatcher.inbox.poll_interval = 0.02
        await asyncio.gather(
            campaign.let_others_answer(), campaign.let_others_answer()
        )
        sent = campaign.sandbox._sender.sent
        await until(lambda: len(sent) == len(customers))
        assert campaign.sandbox.created() == len(customers)

        # The sweep's own request is good.
        campaign.sandbox.faults.script(
            None, Fault.status(400), prefix="customer-02"
        )
        await campaign.sweep()
        entries = campaign.feed._entries
        await until(lambda: any(each.kind == "refused" for each in entries))
        assert "customer-02" not in campaign.statements
        campaign.clock.ahead += 10
        await until(lambda: campaign.statements.keys() == customers.keys())


async def test_stream_ends(monkeypatch):
    """
    The stream of a page ends when the browser leaves.
    """
    ended = asyncio.Event()
    stream = _pages.Pages._stream

    async def watched(self, request):
        try:
            return await stream(self, request)
        finally:
            ended.set()

    monkeypatch.setattr(_pages.Pages, "_stream", watched)
    async with _server._serving(_server._listen(0), "seed") as url:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{url}seed/live") as response,
        ):
            assert await response.content.readline() == b"retry: 1000\n"
            assert not ended.is_set()
        async with asyncio.timeout(20):
            await ended.wait()
