"""
The FastAPI example, in process and over a socket.
"""

import asyncio
import contextlib
import html
import json
import re
import runpy
import socket

from pathlib import Path

import aiohttp
import pytest
import uvicorn

from fastapi.testclient import TestClient
from yarl import URL

from bankconnect_async import AsyncBankConnect, SuccessEvent
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.web import (
    MAX_WEBHOOK,
    CallbackProtocol,
    CallbackService,
)


EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi_app.py"
ORIGIN = "http://testserver"
LOGIN = {"Cookie": "login=l-1"}


@pytest.fixture(name="example", scope="module")
def _example():
    """The names of the example."""
    return runpy.run_path(str(EXAMPLE))


@pytest.fixture(name="serve")
def _serve(example):
    """Make the application, and the list of what its callback is told."""

    def make(bank, origin=ORIGIN):
        told = []

        async def on_event(event):
            await example["on_event"](event)
            told.append(event)

        protocol = CallbackProtocol(f"{origin}/bank", secret="s" * 32)
        service = CallbackService(bank, protocol, on_event=on_event)
        app = example["make_app"](service, {"l-1": "customer-42"})
        return app, protocol, told

    return make


@pytest.fixture(name="client")
def _client(serve):
    """A test client whose bank is never asked, and what was told."""
    app, protocol, told = serve(AsyncBankConnect("k", redirect_url=None))
    with TestClient(app, base_url=ORIGIN, follow_redirects=False) as client:
        yield client, protocol, told


def test_return(client, capsys):
    """
    A customer who left comes back to a page, and the callback is told.
    """
    browser, protocol, told = client
    answer = browser.get(f"{protocol.return_url('customer-42')}?success=false")

    assert answer.status_code == 200
    assert "not complete yet" in answer.text
    assert (
        "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    )
    assert told[0].link_id == "customer-42"
    assert "ExitEvent" in capsys.readouterr().out


def test_webhook(client):
    """
    A webhook is answered, and told once the client is closed.
    """
    browser, protocol, told = client
    body = {"progress": "completed", "entity_id": "e-1"}
    answer = browser.post(protocol.webhook_url, json=body)
    browser.__exit__()

    assert answer.status_code == 200
    assert [webhook.entity_id for webhook in told] == ["e-1"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "connect", 401),
        ("GET", "redirect", 401),
        ("GET", "return/x?success=true", 403),
        ("POST", "events", 415),
        ("GET", "events", 405),
        ("POST", "webhook/x", 404),
    ],
)
def test_error_responses(client, method, path, status):
    """
    Statuses of refusals are those of the endpoints.
    """
    browser, _, told = client
    answer = browser.request(method, f"/bank/{path}")

    assert answer.status_code == status
    assert told == []


def test_large_body(client):
    """
    A body over the limit is refused.
    """
    browser, protocol, _ = client
    answer = browser.post(
        protocol.webhook_url,
        content=b" " * (MAX_WEBHOOK + 1),
        headers={"Content-Type": "application/json"},
    )

    assert answer.status_code == 413


@contextlib.asynccontextmanager
async def running(app, listener):
    """
    Serve *app* on a socket by uvicorn.
    """
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    # Signals are for pytest.
    server.capture_signals = contextlib.nullcontext
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.005)
        yield
    finally:
        server.should_exit = True
        await task


@pytest.mark.parametrize("dialect", ["seed", "session"])
async def test_over_a_socket(serve, dialect):
    """
    Both workflows end in a confirmed success, over uvicorn.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with (
        Sandbox(dialect) as sandbox,
        aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(unsafe=True)
        ) as http,
    ):
        bank = AsyncBankConnect(
            sandbox.api_key,
            server_hash=sandbox.server_hash,
            base_url=sandbox.base_url,
            redirect_url=None,
        )
        app, _, told = serve(bank, origin)
        async with running(app, listener):
            answer = await http.get(f"{origin}/bank/connect", headers=LOGIN)
            settings = _settings(await answer.text())
            (session_id,) = sandbox.sessions
            played = await sandbox.play(session_id, "success")
            answer = await http.post(
                f"{origin}{settings['postTo']}",
                json={
                    "event": played.messages[0],
                    "token": settings["token"],
                },
                headers={"Origin": origin},
            )
            assert answer.status == 204
            answer = await http.get(
                f"{origin}/bank/redirect", headers=LOGIN, allow_redirects=False
            )
            journey = URL(answer.headers["Location"])
            played = await sandbox.play(journey.query["session_id"], "success")
            answer = await http.get(URL(played.redirect, encoded=True))
            assert answer.status == 200

    assert [type(event) for event in told] == [SuccessEvent, SuccessEvent]
    assert all(event.confirmed for event in told)


def _settings(text):
    found = re.search('data-bankconnect="([^"]*)"', text)
    return json.loads(html.unescape(found[1]))


def test_from_env(example, monkeypatch):
    """
    The application can be made of environment variables alone.
    """
    monkeypatch.setenv("PUBLIC_URL", "https://lender.example")
    monkeypatch.setenv("SIGNING_KEY", "s" * 32)
    monkeypatch.setenv("BANKCONNECT_API_KEY", "key")
    monkeypatch.setenv("BANKCONNECT_REDIRECT_URL", "https://lender.example")
    paths = {route.path for route in example["from_env"]().routes}

    assert "/bank/connect" in paths
