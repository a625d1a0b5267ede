"""
A service in a process of its own, which tests kill.

Its arguments are JSON: the sandbox, the public base, the store, and the files
to write to. It prints its port when it listens.
"""

import asyncio
import datetime
import json
import os
import socket
import sys
import time

from aiohttp import web

from bankconnect_async import AsyncBankConnect, RetryPolicy, open_store
from bankconnect_async.web import CallbackProtocol, CallbackService, mount


async def get_customer(request):
    """
    Identify the customer by a header.
    """
    return request.headers["X-Customer"]


async def main(settings):
    """
    Serve until the process is killed.
    """
    events = os.open(
        settings["events"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600
    )

    async def on_event(event):
        line = [type(event).__name__, event.key, event.link_id]
        if settings.get("is_stuck"):
            line.append("began")
        # One write for each line, so that processes do not mix theirs.
        os.write(events, f"{json.dumps(line)}\n".encode())
        if settings.get("is_stuck"):
            await asyncio.Event().wait()

    store = open_store(settings["store"], settings["key"])
    bank = AsyncBankConnect(
        settings["api_key"],
        server_hash=settings["server_hash"],
        base_url=settings["base_url"],
        redirect_url=None,
        retry=RetryPolicy(attempts=3),
        store=store,
    )
    service = CallbackService(
        bank,
        CallbackProtocol(
            settings["public"],
            secret=settings["secret"],
            now=lambda: time.time() + settings.get("later", 0.0),
        ),
        on_event=on_event,
        continue_for=(
            datetime.timedelta(minutes=30)
            if settings.get("continues", True)
            else None
        ),
        lease=datetime.timedelta(seconds=settings["lease"]),
        poll_interval=0.05,
    )

    async def sweep(_):
        report = await service.sweep()
        return web.json_response({"found": report.found})

    async def pending(_):
        return web.json_response({"pending": service.pending})

    app = web.Application()
    app.add_routes([web.post("/sweep", sweep), web.get("/pending", pending)])
    mount(app, service, get_customer=get_customer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    print(listener.getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
