"""
The aiohttp example, over a socket.
"""

import runpy
import socket

from pathlib import Path

import aiohttp
import pytest

from aiohttp import web
from yarl import URL

from bankconnect_async import AsyncBankConnect
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.web import CallbackProtocol


EXAMPLE = Path(__file__).parents[2] / "examples" / "aiohttp_app.py"


@pytest.fixture(name="example", scope="module")
def _example():
    """The names of the example."""
    return runpy.run_path(str(EXAMPLE))


@pytest.mark.parametrize(
    ("link_id", "status", "said"),
    [
        ("customer-42", 200, "customer-42 has submitted statements"),
        ("customer-43", 403, "SuccessEvent is to be looked at"),
    ],
)
async def test_redirect(example, capsys, link_id, status, said):
    """
    A customer goes and comes back; a success of somebody else is kept apart.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    base = f"http://127.0.0.1:{listener.getsockname()[1]}/bank"
    protocol = CallbackProtocol(base, secret="s" * 32)
    async with (
        Sandbox("entity") as sandbox,
        aiohttp.ClientSession(headers={"Cookie": "login=l-1"}) as http,
    ):
        bank = AsyncBankConnect(
            sandbox.api_key,
            server_hash=sandbox.server_hash,
            base_url=sandbox.base_url,
            redirect_url=None,
        )
        app = example["make_app"](bank, protocol, {"l-1": "customer-42"})
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        try:
            answer = await http.get(f"{base}/redirect", allow_redirects=False)
            journey = URL(answer.headers["Location"])
            played = await sandbox.play(journey.query["session_id"], "success")
            query = URL(played.redirect).raw_query_string
            url = f"{protocol.return_url(link_id)}?{query}"
            answer = await http.get(URL(url, encoded=True))
            assert answer.status == status
        finally:
            await runner.cleanup()

    assert said in capsys.readouterr().out


async def test_strangers(example):
    """
    Who is not logged in is no customer.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    base = f"http://127.0.0.1:{listener.getsockname()[1]}/bank"
    protocol = CallbackProtocol(base, secret="s" * 32)
    bank = AsyncBankConnect("key", redirect_url=None)
    runner = web.AppRunner(example["make_app"](bank, protocol, {}))
    await runner.setup()
    await web.SockSite(runner, listener).start()
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{base}/connect") as answer,
        ):
            assert answer.status == 401
    finally:
        await runner.cleanup()


def test_from_env(example, monkeypatch):
    """
    The application can be made of environment variables alone.
    """
    monkeypatch.setenv("PUBLIC_URL", "https://lender.example")
    monkeypatch.setenv("SIGNING_KEY", "s" * 32)
    monkeypatch.setenv("BANKCONNECT_API_KEY", "key")
    app = example["from_env"]([])
    paths = {route.resource.canonical for route in app.router.routes()}

    assert "/bank/connect" in paths
