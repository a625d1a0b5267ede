"""
The endpoints in aiohttp and as an ASGI application give the same responses.
"""

import asyncio
import contextlib
import io
import socket

import aiohttp
import attrs
import pytest
import pytest_asyncio
import uvicorn

from aiohttp import web

from bankconnect_async import AsyncBankConnect
from bankconnect_async.web import (
    MAX_EVENT,
    MAX_WEBHOOK,
    CallbackProtocol,
    CallbackService,
    asgi_app,
    mount,
)


SECRET = "s" * 32
JSON = {"Content-Type": "application/json"}
WEBHOOK = b'{"progress": "completed", "entity_id": "e-1"}'
BODY_TIMEOUT = 0.2
# The headers that servers add.
SERVER_HEADERS = {"date", "server", "connection", "content-length"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@attrs.frozen
class Adapter:
    """
    A running service, and what its callback got.
    """

    service: CallbackService
    told: list
    http: aiohttp.ClientSession

    @property
    def base(self):
        """The base URL."""
        return str(self.service.protocol.base)

    @property
    def urls(self):
        """The URLs that only this service can make, by name."""
        protocol = self.service.protocol
        return {
            "RETURN": f"{protocol.return_url('c-1')}?success=false",
            "INVITATION": protocol.invitation_url("c-1", invitation_id="i-1"),
            "WEBHOOK": protocol.webhook_url,
        }

    async def ask(self, method, path, headers, body):
        """Send a request; return what is the same in both adapters."""
        url = self.urls.get(path) or self.base + path
        data = body and io.BytesIO(body)
        async with self.http.request(
            method, url, headers=headers, data=data, allow_redirects=False
        ) as answer:
            text = await answer.text()
            names = {name.lower() for name in answer.headers}
            is_page = "html" in answer.headers.get("Content-Type", "")
            return (
                answer.status,
                names - SERVER_HEADERS,
                answer.headers.get("Allow"),
                # Each page has a nonce of its own.
                len(text) if is_page else text,
            )


@contextlib.asynccontextmanager
async def serve_aiohttp(service, listener, get_customer):
    """
    Serve the routes of aiohttp.
    """

    async def identify(request):
        return await get_customer(request.headers.get("X-Customer"))

    app = web.Application()
    mount(app, service, get_customer=identify)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    try:
        yield
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def serve_asgi(service, listener, get_customer):
    """
    Serve the ASGI application by uvicorn.
    """

    async def identify(scope):
        headers = dict(scope["headers"])
        return await get_customer(headers.get(b"x-customer", b"").decode())

    app = asgi_app(service, get_customer=identify)
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


async def get_customer(name):
    """
    Identify a customer by a header; its value is the customer's id.
    """
    return name or None


@contextlib.asynccontextmanager
async def adapter(serve, **settings):
    """
    Run a service whose client sends nothing.
    """
    told = []

    async def on_event(event):
        told.append(event)

    listener = socket.create_server(("127.0.0.1", 0))
    base = f"http://127.0.0.1:{listener.getsockname()[1]}/bank"
    service = CallbackService(
        AsyncBankConnect("key", redirect_url=None),
        CallbackProtocol(base, secret=SECRET),
        on_event=on_event,
        body_timeout=BODY_TIMEOUT,
        **settings,
    )
    async with (
        serve(service, listener, get_customer),
        aiohttp.ClientSession() as http,
        service.bank,
    ):
        yield Adapter(service, told, http)


@pytest_asyncio.fixture(name="adapters", loop_scope="module", scope="module")
async def _adapters():
    """The service in aiohttp, and as an ASGI application under uvicorn."""
    async with (
        adapter(serve_aiohttp) as routes,
        adapter(serve_asgi) as application,
    ):
        yield routes, application


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [
        ("GET", "", ({}, None), 404),
        ("GET", "/unknown", ({}, None), 404),
        ("GET", "/connect/more", ({}, None), 404),
        ("GET", "/return", ({}, None), 404),
        ("GET", "/connect", ({}, None), 401),
        ("HEAD", "/connect", ({"X-Customer": "c-1"}, None), 405),
        ("PUT", "/redirect", ({"X-Customer": "c-1"}, b"body"), 405),
        ("GET", "/redirect", ({"Sec-Purpose": "prefetch"}, None), 401),
        (
            "GET",
            "/redirect",
            ({"X-Customer": "c-1", "Sec-Purpose": "prefetch"}, None),
            403,
        ),
        (
            "GET",
            "/connect?a=%20b",
            ({"X-Customer": "c-1", "Sec-Fetch-Site": "cross-site"}, None),
            200,
        ),
        ("POST", "/connect", ({"X-Customer": "c-1"}, b"button=1"), 403),
        ("GET", "/return/x", ({}, None), 403),
        ("GET", "/return/%C3%A9%20/%2F", ({}, None), 403),
        ("GET", "RETURN", ({}, None), 200),
        ("HEAD", "RETURN", ({}, None), 405),
        ("GET", "/events", ({}, None), 405),
        ("OPTIONS", "/events", ({}, None), 405),
        ("POST", "/events", ({}, b"{}"), 415),
        ("POST", "/events", (JSON, b"{}"), 403),
        ("POST", "/events", (JSON, b" " * (MAX_EVENT + 1)), 413),
        ("POST", "/webhook/x", (JSON, WEBHOOK), 404),
        ("PUT", "WEBHOOK", (JSON, WEBHOOK), 405),
        ("POST", "WEBHOOK", (JSON, b"[]"), 400),
        ("POST", "WEBHOOK", (JSON, b" " * (MAX_WEBHOOK + 1)), 413),
        ("POST", "WEBHOOK", (JSON, WEBHOOK), 200),
        (
            "POST",
            "WEBHOOK",
            ({**JSON, "Expect": "100-continue"}, WEBHOOK),
            200,
        ),
        (
            "POST",
            "WEBHOOK",
            ({**JSON, "Content-Encoding": "gzip"}, WEBHOOK),
            415,
        ),
        ("GET", "INVITATION", ({}, None), 200),
        ("HEAD", "INVITATION", ({}, None), 200),
        ("GET", "/invitation/x", ({}, None), 403),
        ("POST", "/invitation/x", ({}, b""), 403),
        ("DELETE", "INVITATION", ({}, None), 405),
    ],
)
async def test_same_responses(adapters, method, path, sent, status):
    """
    A request gets the same status, headers and text from both adapters.
    """
    first, second = [
        await adapter.ask(method, path, *sent) for adapter in adapters
    ]

    assert first[0] == status
    if status == 404 and path != "/webhook/x":
        # Other addresses belong to the application around the routes.
        assert second[0] == status
    else:
        assert first == second
