"""
Fixtures for statement data: a server with scripted responses.
"""

import json

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import attrs
import pytest

from aiohttp import web

from bankconnect_async import AsyncBankConnect, RetryPolicy
from bankconnect_async.testing import FakeClock


@attrs.frozen
class Request:
    """
    One request as it arrived.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    #: Fields of a multipart form; a file as its name and content.
    form: Mapping[str, Any]


@attrs.define
class Vendor:
    """
    A server that records requests and sends scripted responses.

    Attributes:
        base_url: What a client takes as its base URL.
        requests: Everything that arrived, in order.
        answers: What to answer next, for each path below the version; the
            last one stays. An answer is a status and a JSON value or bytes;
            or a function of the request that makes one.
    """

    base_url: str = ""
    requests: list[Request] = attrs.Factory(list)
    answers: dict[str, list[Any]] = attrs.Factory(dict)

    def say(self, path: str, *answers: Any) -> None:
        """Script the responses of one path."""
        self.answers[path] = list(answers)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Record the request, and respond."""
        kept = await _keep(request)
        self.requests.append(kept)
        script = self.answers.get(kept.path, [(404, {"detail": "Not found."})])
        answer = script.pop(0) if len(script) > 1 else script[0]
        if callable(answer):
            answer = await answer(request)
        if isinstance(answer, web.StreamResponse):
            return answer
        status, body = answer
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return web.Response(
            status=status, body=body, content_type="application/json"
        )


async def _keep(request: web.Request) -> Request:
    form: dict[str, Any] = {}
    if request.content_type.startswith("multipart/"):
        body = b""
        async for part in await request.multipart():
            content = await part.read()
            form[part.name] = (
                content.decode()
                if part.filename is None
                else (part.filename, bytes(content))
            )
    else:
        body = await request.read()
    return Request(
        method=request.method,
        path=request.path.removeprefix("/bank-connect/v1/"),
        query=dict(request.query),
        headers={key.lower(): value for key, value in request.headers.items()},
        body=body,
        form=form,
    )


@pytest.fixture(name="serve", scope="session")
def _serve() -> Callable:
    """Run a handler on a free port; yields its origin."""
    from contextlib import asynccontextmanager  # noqa: PLC0415

    @asynccontextmanager
    async def serve(handler: Any) -> AsyncIterator[str]:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0]
            yield f"http://{host}:{port}"
        finally:
            await runner.cleanup()

    return serve


@pytest.fixture(name="vendor")
async def _vendor(serve: Callable) -> AsyncIterator[Vendor]:
    """The scripted server."""
    vendor = Vendor()
    async with serve(vendor.answer) as origin:
        vendor.base_url = f"{origin}/bank-connect"
        yield vendor


@pytest.fixture(name="bank")
async def _bank(
    vendor: Vendor, clock: FakeClock
) -> AsyncIterator[AsyncBankConnect]:
    """A client of it, with a clock on which waiting takes no time."""
    async with AsyncBankConnect(
        "key",
        server_hash="hash",
        base_url=vendor.base_url,
        redirect_url=None,
        clock=clock,
        retry=RetryPolicy(rng=lambda low, high: (low + high) / 2),
    ) as bank:
        yield bank
