"""
The command ``demo``: a small service in front of a sandbox.
"""

import asyncio
import secrets
import socket
import webbrowser

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final, Literal

import click

from aiohttp import web

from bankconnect_async.cli.options import (
    allow_host_option,
    dialect_option,
    port_option,
)
from bankconnect_async.cli.signals import serve_until_interrupted
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.errors import ConfigurationError
from bankconnect_async.sandbox import Dialect, Sandbox
from bankconnect_async.sandbox.http.origins import host_name
from bankconnect_async.web import CallbackProtocol, CallbackService, mount

from .event_feed import EventFeed
from .pages import CUSTOMER, Pages


_HOST: Final = "127.0.0.1"


@click.command()
@port_option(8610)
@allow_host_option
@dialect_option("The dialect of the sandbox.")
@click.option(
    "--open",
    "is_opened",
    is_flag=True,
    help="Open the demo in the default browser.",
)
def demo(
    *,
    port: int,
    allow_hosts: tuple[str, ...],
    dialect: Dialect,
    is_opened: bool,
) -> None:
    """
    Serve a demo of both workflows until interrupted.

    It needs no account and no network: a sandbox on this machine simulates
    the bank connection.
    """
    hosts = frozenset(map(host_name, allow_hosts))
    serving = _serving(_listen(port), dialect, hosts)

    async def announce(url: str) -> None:
        click.echo(
            "A demo on a sandbox, not FinBox; nothing leaves this machine.\n"
            f"Open {url} in a browser. Ctrl-C stops it."
        )
        if is_opened:
            # It may block until the browser has started.
            await asyncio.to_thread(webbrowser.open, url)

    asyncio.run(serve_until_interrupted(serving, announce))


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((_HOST, port))
    except OSError as exc:
        raise ConfigurationError(
            f"cannot listen on {_HOST}, port {port} ({exc.strerror}): choose "
            f"another --port"
        ) from exc


@asynccontextmanager
async def _serving(
    listener: socket.socket,
    dialect: Dialect,
    hosts: Collection[str] = frozenset(),
) -> AsyncIterator[str]:
    url = f"http://{_HOST}:{listener.getsockname()[1]}/"
    webhook_secret = secrets.token_urlsafe()
    protocol = CallbackProtocol(
        f"{url}bank",
        secret=secrets.token_bytes(),
        webhook_secret=webhook_secret,
        next_url="/?back",
    )
    flow: Literal["session", "entity"]
    flow = "session" if dialect == "session" else "entity"
    with listener:
        async with (
            Sandbox(dialect, webhook_secret=webhook_secret) as sandbox,
            AsyncBankConnect(
                sandbox.api_key,
                server_hash=sandbox.server_hash,
                base_url=sandbox.base_url,
                redirect_url=None,
            ) as bank,
        ):
            await bank.update_webhook(protocol.webhook_url, flow=flow)
            pages = Pages(
                url=url,
                hosts=hosts,
                sandbox=sandbox,
                bank=bank,
                protocol=protocol,
                feed=EventFeed(),
            )
            runner = web.AppRunner(
                _make_app(pages), access_log=None, shutdown_timeout=2
            )
            await runner.setup()
            try:
                await web.SockSite(runner, listener).start()
                yield url
            finally:
                await runner.cleanup()


def _make_app(pages: Pages) -> web.Application:
    feed = pages.feed
    app = web.Application(middlewares=[pages.guard])
    app.add_routes(pages.routes())
    app.on_shutdown.append(feed.close)
    service = CallbackService(
        pages.bank,
        pages.protocol,
        on_event=feed.add,
        on_failure=feed.add_failure,
    )
    mount(app, service, get_customer=_get_customer)
    return app


async def _get_customer(_: web.Request) -> str:
    # A real service returns the customer who is logged in.
    return CUSTOMER
