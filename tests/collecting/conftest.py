"""
Fixtures for collections: sessions whose data can be fetched.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from aiohttp import web

from bankconnect_async import AsyncBankConnect, Session
from bankconnect_async.sandbox import Sandbox, statement_pdf


PDF = statement_pdf()


@pytest.fixture(name="service")
async def _service() -> AsyncIterator[Sandbox]:
    """A sandbox of the session flow, which processes at once."""
    async with Sandbox("session", processing_time=0) as sandbox:
        yield sandbox


@pytest.fixture(name="bank")
async def _bank(service, client_of) -> AsyncIterator[AsyncBankConnect]:
    """A client of it."""
    async with client_of(service) as bank:
        yield bank


@pytest.fixture(name="complete")
def _complete(bank, service) -> Callable[..., Awaitable[list[Session]]]:
    """Create sessions, and complete their journeys and their processing."""

    async def complete(count: int, *, process: bool = True) -> list[Session]:
        sessions = []
        for number in range(count):
            session = await bank.create_session(f"customer-{number}")
            await service.play(session.session_id, "success")
            if process:
                await bank.session(session.session_id).initiate_processing()
            sessions.append(session)
        return sessions

    return complete


@pytest.fixture(name="vendor_of")
def _vendor_of() -> Callable[
    [dict[str, Any]], AbstractAsyncContextManager[AsyncBankConnect]
]:
    """A client of a server that lists the given PDFs, with a link each."""

    @asynccontextmanager
    async def serve(
        listing: dict[str, Any],
    ) -> AsyncIterator[AsyncBankConnect]:
        async def respond(request: web.Request) -> web.Response:
            if request.path == "/file":
                statuses = listing.get("file_statuses") or [200]
                return web.Response(body=PDF, status=statuses.pop(0))
            origin = str(request.url.origin())
            statements = [
                {**each, "pdf_url": each["pdf_url"] and origin + "/file"}
                for each in listing["statements"]
            ]
            return web.json_response({"statements": statements})

        app = web.Application()
        app.router.add_get("/{path:.*}", respond)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        try:
            async with AsyncBankConnect(
                "key",
                base_url=f"http://{host}:{port}/bank-connect",
                redirect_url=None,
            ) as bank:
                yield bank
        finally:
            await runner.cleanup()

    return serve
