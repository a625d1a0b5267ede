"""
The endpoints in aiohttp, in Django, and as an ASGI and a WSGI application
give the same responses.
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
from aiohttp.test_utils import TestClient, TestServer
from django.core.asgi import get_asgi_application
from django.test import override_settings
from django.urls import include
from django.urls import path as url_path
from werkzeug.serving import make_server
from yarl import URL

from bankconnect_async import AsyncBankConnect, BlockingPortal, open_store
from bankconnect_async.errors import StoreError
from bankconnect_async.web import (
    MAX_EVENT,
    MAX_WEBHOOK,
    CallbackProtocol,
    CallbackService,
    WebRequest,
    WebResponse,
    asgi_app,
    mount,
    wsgi_app,
)
from bankconnect_async.web.django import url_patterns


SECRET = "s" * 32
WEBHOOK_SECRET = "clé"
JSON = {"Content-Type": "application/json"}
WEBHOOK = b'{"progress": "completed", "entity_id": "e-1"}'
CHUNK = b"%x\r\n%s\r\n" % (len(WEBHOOK), WEBHOOK)
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

    async with serve_app(asgi_app(service, get_customer=identify), listener):
        yield


@contextlib.asynccontextmanager
async def serve_django(service, listener, get_customer):
    """
    Serve the URL patterns of Django by uvicorn.
    """

    async def identify(request):
        return await get_customer(request.headers.get("X-Customer"))

    async with BlockingPortal(service) as portal:
        endpoints = url_patterns(service, portal=portal, get_customer=identify)
        with override_settings(
            ROOT_URLCONF=(url_path("bank/", include(endpoints)),)
        ):
            async with serve_app(get_asgi_application(), listener):
                yield


@contextlib.asynccontextmanager
async def serve_wsgi(service, listener, get_customer):
    """
    Serve the WSGI application by the server of Flask.
    """

    def identify(environ):
        return portal.call(get_customer, environ.get("HTTP_X_CUSTOMER"))

    async with BlockingPortal(service) as portal:
        app = wsgi_app(service, portal=portal, get_customer=identify)
        with listener:
            server = make_server(
                "127.0.0.1", 0, app, threaded=True, fd=listener.fileno()
            )
        serving = asyncio.create_task(
            asyncio.to_thread(server.serve_forever, 0.01)
        )
        yield
        server.shutdown()
        await serving


@contextlib.asynccontextmanager
async def serve_app(app, listener):
    """
    Serve an ASGI application by uvicorn.
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
        CallbackProtocol(
            base,
            secret=SECRET,
            webhook_secret=WEBHOOK_SECRET,
            require_webhook_secret=False,
        ),
        on_event=on_event,
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
    """The service in each adapter."""
    async with (
        adapter(serve_aiohttp) as routes,
        adapter(serve_asgi) as application,
        adapter(serve_django) as views,
        adapter(serve_wsgi) as wsgi,
    ):
        yield routes, application, views, wsgi


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
        ("POST", "WEBHOOK", ({**JSON, "X-Secret-Key": "key"}, b"[]"), 403),
        (
            "POST",
            "WEBHOOK",
            ({**JSON, "X-Secret-Key": WEBHOOK_SECRET}, b"[]"),
            400,
        ),
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
    A request gets the same status, headers and text from every adapter.
    """
    first, *others = [
        await adapter.ask(method, path, *sent) for adapter in adapters
    ]

    assert first[0] == status
    if status == 404 and path != "/webhook/x":
        # Other addresses belong to the application around the routes.
        assert [other[0] for other in others] == [status] * 3
    else:
        assert others == [first] * 3


async def write(adapter, body, *, length):
    """
    Send a part of a webhook's body; return the open connection.
    """
    url = URL(adapter.service.protocol.webhook_url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = (
        f"POST {url.raw_path} HTTP/1.1\r\nHost: {url.host}\r\n"
        f"Content-Type: application/json\r\n{length}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize("serve", [serve_aiohttp, serve_asgi])
async def test_slow_bodies(serve):
    """
    A body that does not arrive in time is refused, and is not processed.
    """
    async with adapter(serve, body_timeout=0.05) as service:
        reader, writer = await write(
            service, WEBHOOK[:9], length=f"Content-Length: {len(WEBHOOK)}"
        )
        async with asyncio.timeout(10):
            status = await reader.readline()
        writer.close()

    assert status.split()[1] == b"408"
    assert service.told == []


@pytest.mark.parametrize(
    ("length", "body"),
    [
        # A whole webhook, but more was announced.
        ("Content-Length: 1000", WEBHOOK),
        ("Transfer-Encoding: chunked", CHUNK),
        ("Transfer-Encoding: chunked", CHUNK + b"xyz\r\n"),
    ],
)
@pytest.mark.parametrize("number", range(4))
async def test_broken_bodies(adapters, caplog, number, length, body):
    """
    A body that ends before its end is not processed, and is no error of ours.
    """
    adapter = adapters[number]
    before = len(adapter.told)
    reader, writer = await write(adapter, body, length=length)
    writer.write_eof()
    async with asyncio.timeout(10):
        await reader.read()
    writer.close()

    assert len(adapter.told) == before
    # aiohttp logs what it cannot parse.
    assert "bankconnect_async" not in caplog.text


async def test_split_cookies():
    """
    Headers that come in parts, as cookies do in HTTP/2, are put together.
    """
    request = WebRequest(
        headers=[("cookie", "a=1"), ("Cookie", "b=2"), ("x", "y"), ("X", "z")]
    )

    assert (request.cookie("a"), request.cookie("b")) == ("1", "2")
    assert request.headers["x"] == "y, z"


@pytest.fixture(name="offline")
def _offline():
    """Make an ASGI application at a base whose client sends nothing."""

    def make(base, prefix=None):
        async def on_event(event):
            del event

        service = CallbackService(
            AsyncBankConnect("key", redirect_url=None),
            CallbackProtocol(base, secret=SECRET),
            on_event=on_event,
        )
        return asgi_app(service, get_customer=get_customer, prefix=prefix)

    return make


async def call(app, path, root_path="", query=b"", **changes):
    """
    Call an ASGI application without a server; return its first message.
    """
    sent = []

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "root_path": root_path,
        "query_string": query,
        "headers": [],
        **changes,
    }
    await app(scope, receive, send)
    return sent[0]


@pytest.mark.parametrize(
    ("settings", "path", "root_path", "is_found"),
    [
        (("/bank", None), "/bank/events", "", True),
        (("/bank", None), "/bankevents", "", False),
        (("/bank", None), "/other/events", "", False),
        (("", None), "/events", "", True),
        (("/a%20b", None), "/a b/events", "", True),
        # Mounted: the path has the root path, or, in old servers, has not.
        (("/bank", None), "/bank/events", "/bank", True),
        (("/bank", None), "/events", "/bank", True),
        (("/api/bank", None), "/api/bank/events", "/api/bank", True),
        (("/api/bank", None), "/bank/events", "/api", True),
        # A proxy sends requests for the base to another path.
        (("/bank", None), "/api/bank/events", "/api", True),
        (("/public", None), "/private/events", "/private", True),
        (("/public", None), "/private/events", "", False),
        (("/public", "/private/"), "/private/events", "", True),
        (("/public", "/private"), "/public/events", "", False),
        (("/public", ""), "/api/events", "/api", True),
    ],
)
async def test_paths(offline, settings, path, root_path, is_found):
    """
    The application knows its endpoints by the base and the root path.
    """
    base, prefix = settings
    app = offline(f"https://lender.example{base}", prefix)
    message = await call(app, path, root_path)

    # The event has no content type.
    assert message["status"] == (415 if is_found else 404)


async def test_other_scopes(offline):
    """
    A WebSocket is closed, and an unknown kind of scope is an error.
    """
    app = offline("https://lender.example/bank")
    message = await call(app, "/bank/events", type="websocket")
    assert message == {"type": "websocket.close"}
    with pytest.raises(ValueError, match="gopher is no ASGI scope"):
        await call(app, "/", type="gopher")


async def test_failed_lifespan(tmp_path):
    """
    A store that cannot be opened fails the startup with its reason.
    """
    service = CallbackService(
        AsyncBankConnect(
            "key", redirect_url=None, store=open_store(str(tmp_path))
        ),
        CallbackProtocol("https://lender.example/bank", secret=SECRET),
        on_event=get_customer,
    )
    app = asgi_app(service, get_customer=get_customer)
    sent = []

    async def receive():
        return {"type": "lifespan.startup"}

    async def send(message):
        sent.append(message)

    with pytest.raises(StoreError) as caught:
        await app({"type": "lifespan"}, receive, send)

    assert sent == [
        {"type": "lifespan.startup.failed", "message": str(caught.value)}
    ]


@pytest.mark.parametrize(
    ("base", "prefixes", "prefix"),
    [
        ("/bank", ["/bank"], None),
        ("/bank", ["/bank"], ""),
        ("/api/bank", ["/api"], None),
        ("/api/v1/bank", ["/v1", "/api"], None),
        ("/bank", ["/proxied"], ""),
    ],
)
async def test_sub_applications(base, prefixes, prefix):
    """
    The routes work in a sub-application, with the path of the base once.
    """
    protocol = CallbackProtocol(f"https://lender.example{base}", secret=SECRET)
    async with AsyncBankConnect("key", redirect_url=None) as bank:
        service = CallbackService(bank, protocol, on_event=get_customer)
        app = web.Application()
        mount(app, service, get_customer=get_customer, prefix=prefix)
        for path in prefixes:
            inner, app = app, web.Application()
            app.add_subapp(path, inner)
        path = URL(protocol.webhook_url).raw_path
        if prefixes == ["/proxied"]:
            path = path.replace("/bank", "/proxied")
        async with TestClient(TestServer(app)) as browser:
            answer = await browser.post(path, data=b"[]", headers=JSON)
            assert answer.status == 400


async def test_subclasses():
    """
    An endpoint calls the method of a service's own class.
    """

    class Service(CallbackService):
        async def handle_webhook(self, request):
            assert request.method == "POST"
            return WebResponse(status=202, headers={})

    app = asgi_app(
        Service(
            AsyncBankConnect("key", redirect_url=None),
            CallbackProtocol("https://lender.example/bank", secret=SECRET),
            on_event=get_customer,
        ),
        get_customer=get_customer,
    )
    message = await call(app, "/bank/webhook/x")
    assert message["status"] == 202


async def test_cancelled_requests():
    """
    An event is processed although a framework cancels its request.
    """
    began, may_end = asyncio.Event(), asyncio.Event()
    told = []

    async def on_event(event):
        began.set()
        await may_end.wait()
        told.append(event.link_id)

    protocol = CallbackProtocol("https://lender.example/bank", secret=SECRET)
    path = URL(protocol.return_url("c-1")).path
    async with AsyncBankConnect("key", redirect_url=None) as bank:
        service = CallbackService(bank, protocol, on_event=on_event)
        app = asgi_app(service, get_customer=get_customer)
        request = asyncio.create_task(
            call(app, path, query=b"success=false", method="GET")
        )
        await began.wait()
        request.cancel()
        await asyncio.wait([request])
        assert request.cancelled()
        may_end.set()
        await service.aclose()

    assert told == ["c-1"]
