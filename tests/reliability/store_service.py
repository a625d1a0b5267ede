"""
A process of a service that shares a store with others; tests kill it.
"""

import asyncio
import datetime
import json
import sqlite3
import sys
import time

from contextlib import closing
from pathlib import Path
from typing import Any

import attrs

from aiohttp import web

from bankconnect_async import AsyncBankConnect, open_store
from bankconnect_async.web import (
    CallbackProtocol,
    CallbackService,
    journeys,
    mount,
)


# A customer whose session a killed process was creating waits for this long,
# and so does what such a process had begun.
LEASE = datetime.timedelta(seconds=2)


@attrs.frozen
class Outcomes:
    """
    The database of the service: a row for each key.
    """

    path: Path

    async def insert(self, event: Any) -> None:
        """Insert an event, unless its key is there."""
        row = (
            event.key,
            type(event).__name__,
            event.link_id,
            getattr(event, "session_id", None),
        )
        with (
            closing(sqlite3.connect(self.path, timeout=60)) as database,
            database,
        ):
            database.execute(
                "INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?)", row
            )


async def get_customer(request: web.Request) -> str:
    """Identify the customer, as a service would by its own session."""
    return request.headers["X-Customer"]


async def serve(  # noqa: PLR0913
    *,
    port: int,
    base: str,
    bank: dict[str, Any],
    store: str,
    keys: list[str],
    outcomes: str,
    shift: str,
) -> None:
    """
    Serve until killed.

    Args:
        port: The port of this process.
        base: The address that browsers know, which is another process's.
        bank: The settings of the client.
        store: The address of the store.
        keys: Its encryption keys.
        outcomes: The path of the service's own database.
        shift: The path of the seconds by which its clock is ahead.
    """
    journeys._LEASE = LEASE
    async with (
        open_store(store, keys) as opened,
        AsyncBankConnect(**bank, redirect_url=None, store=opened) as client,
    ):
        service = CallbackService(
            client,
            CallbackProtocol(
                base,
                secret="correct horse battery staple long enough",
                require_webhook_secret=False,
                now=lambda: time.time() + float(Path(shift).read_text()),
            ),
            on_event=Outcomes(Path(outcomes)).insert,
            lease=LEASE,
            poll_interval=0.1,
            max_confirmations=1000,
        )
        app = web.Application()
        mount(app, service, get_customer=get_customer)

        async def handle_sweep(_: web.Request) -> web.Response:
            report = await service.sweep()
            return web.json_response(attrs.asdict(report))

        async def webhook_url(_: web.Request) -> web.Response:
            return web.Response(text=service.protocol.webhook_url)

        app.router.add_post("/sweep", handle_sweep)
        app.router.add_get("/webhook-url", webhook_url)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(**json.loads(sys.argv[1])))
