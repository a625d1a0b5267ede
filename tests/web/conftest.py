"""
Shared fixtures of the endpoint tests: a service, and a recorder of its events.
"""

import json
import socket

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import attrs
import pytest

from aiohttp import web
from django.conf import settings as django_settings
from yarl import URL

from bankconnect_async import AsyncBankConnect, RetryPolicy
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.web import (
    CallbackProtocol,
    CallbackService,
    WebRequest,
    mount,
)


# Django has one set of settings in a process.
django_settings.configure(
    ALLOWED_HOSTS=["lender.example", "127.0.0.1"],
    LOGGING_CONFIG=None,
    SECRET_KEY="k" * 32,
)

SECRET = "correct horse battery staple long enough"
BASE = "https://lender.example/bank"


@attrs.define
class Told:
    """
    A recorder of what the service hands on.

    Attributes:
        events: Events and webhooks, in order.
        failures: Each with its error, in order.
        breaks: What the callback raises, if anything.
    """

    events: list[Any] = attrs.Factory(list)
    failures: list[tuple[Any, Exception]] = attrs.Factory(list)
    breaks: BaseException | None = None

    async def on_event(self, event: Any) -> None:
        """Take an event, or raise."""
        if self.breaks is not None:
            raise self.breaks
        self.events.append(event)

    async def on_failure(self, what: Any, error: Exception) -> None:
        """Take a failure."""
        self.failures.append((what, error))


@pytest.fixture(name="told")
def _told() -> Told:
    """Return a recorder of the service's callbacks."""
    return Told()


@pytest.fixture(name="protocol", scope="session")
def _handlers() -> Callable[..., CallbackProtocol]:
    """Make the protocol of a service at https://lender.example/bank."""

    def make(base: str = BASE, **settings: Any) -> CallbackProtocol:
        return CallbackProtocol(base, **{"secret": SECRET, **settings})

    return make


@pytest.fixture(name="ours", scope="session")
def _ours(protocol) -> CallbackProtocol:
    """Return a protocol with its default settings."""
    return protocol()


@pytest.fixture(name="json_call", scope="session")
def _json_call() -> Callable[..., WebRequest]:
    """Make the request that the listener of our own page sends."""

    def make(body: bytes, *, path: str = "", **headers: str) -> WebRequest:
        given = {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return WebRequest(
            path=path,
            headers={
                "Origin": "https://lender.example",
                "Content-Type": "application/json",
                **given,
            },
            body=body,
        )

    return make


@attrs.frozen
class Service:
    """
    A service on loopback, with its sandbox and a browser's client.
    """

    sandbox: Sandbox
    bank: AsyncBankConnect
    endpoints: CallbackService
    told: Told
    http: aiohttp.ClientSession
    runner: web.AppRunner

    @property
    def base(self) -> str:
        """The base URL of its endpoints."""
        return str(self.endpoints.protocol.base)

    async def entries(self, link_id: str) -> Any:
        """Return what the store knows of a customer, newest first."""
        return await self.bank.store.find(
            api_id=self.bank.store_api_id, link_id=link_id
        )

    async def connect(self, link_id: str) -> Any:
        """Open the connect page, and return the session of the sandbox."""
        known = set(self.sandbox.sessions)
        async with self.http.get(
            f"{self.base}/connect", headers={"X-Customer": link_id}
        ) as answer:
            assert answer.status == 200
        (new,) = set(self.sandbox.sessions) - known
        return self.sandbox.sessions[new]

    @property
    def origin(self) -> str:
        """The origin as a browser names it."""
        return str(self.endpoints.protocol.base.origin())


Serve = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture(name="serve")
def _serve(told: Told) -> Serve:
    """
    Run a service: ``async with serve(dialect) as service``.

    *options* are of the service, *settings* of its protocol.
    """

    @asynccontextmanager
    async def serve(
        dialect: Any = "seed",
        *,
        prefix: str = "/bank",
        options: dict[str, Any] | None = None,
        **settings: Any,
    ) -> AsyncIterator[Service]:
        app = web.Application()
        runner = web.AppRunner(app, access_log=None)
        # The port has to be known before the routes are.
        listener = socket.create_server(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{listener.getsockname()[1]}/bank"
        async with (
            Sandbox(dialect) as sandbox,
            AsyncBankConnect(
                sandbox.api_key,
                server_hash=sandbox.server_hash,
                base_url=sandbox.base_url,
                redirect_url=None,
            ) as bank,
            aiohttp.ClientSession(
                cookie_jar=aiohttp.CookieJar(unsafe=True)
            ) as http,
        ):
            endpoints = CallbackService(
                bank,
                CallbackProtocol(base, secret=SECRET, **settings),
                on_event=told.on_event,
                on_failure=told.on_failure,
                **(options or {}),
            )
            mount(app, endpoints, get_customer=_get_customer, prefix=prefix)
            await runner.setup()
            await web.SockSite(runner, listener).start()
            try:
                yield Service(sandbox, bank, endpoints, told, http, runner)
            finally:
                await runner.cleanup()

    return serve


async def _get_customer(request: web.Request) -> str:
    """Identify the customer, as a service would by its own session."""
    if "X-Customer" not in request.headers:
        raise web.HTTPUnauthorized
    return request.headers["X-Customer"]


@pytest.fixture(name="listening", scope="session")
def _listening() -> Callable[..., AbstractAsyncContextManager[str]]:
    """Serve a handler of webhooks on a free port; yields its URL."""

    @asynccontextmanager
    async def listening(handle: Any) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/webhook", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0]
            yield f"http://{host}:{port}/webhook"
        finally:
            await runner.cleanup()

    return listening


@pytest.fixture(name="make")
def _make(told, protocol):
    """Make endpoints that report to `told`."""

    def make(bank, **settings):
        return CallbackService(
            bank,
            settings.pop("protocol", None) or protocol(),
            on_event=told.on_event,
            **{"on_failure": told.on_failure, **settings},
        )

    return make


@pytest.fixture(name="webhook_call")
def _webhook_call(json_call):
    """Make a request that the vendor sends."""

    def make(endpoints, body=None, **changes):
        body = (
            body
            or json.dumps(
                {
                    "entity_id": "e-1",
                    "statement_id": "st-1",
                    "link_id": "customer-42",
                    "progress": "completed",
                    "reason": "",
                    **changes,
                }
            ).encode()
        )
        path = URL(endpoints.protocol.webhook_url).raw_path
        return json_call(body, path=path)

    return make


@pytest.fixture(name="offline")
def _offline(make):
    """Return endpoints whose client sends nothing."""
    return make(AsyncBankConnect("key", redirect_url=None))


@pytest.fixture(name="bank_of")
def _bank_of():
    """Make a client of a sandbox that tries once."""

    def make(sandbox, **settings):
        given = {
            "api_key": sandbox.api_key,
            "server_hash": sandbox.server_hash,
            "base_url": sandbox.base_url,
            "redirect_url": None,
            "retry": RetryPolicy(attempts=1),
        }
        return AsyncBankConnect(**{**given, **settings})

    return make


@pytest.fixture(name="posted")
def _posted(json_call):
    """Make the request by which a page for *session* posts *message*."""

    def make(endpoints, session, message):
        token = endpoints.protocol.listener(session).token
        return json_call(
            json.dumps({"event": message, "token": token}).encode()
        )

    return make
