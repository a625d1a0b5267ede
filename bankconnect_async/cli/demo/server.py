"""
The command ``demo``: a small service in front of a sandbox, per dialect.
"""

import asyncio
import secrets
import socket
import webbrowser

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, get_args

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
from bankconnect_async.web import CallbackProtocol, mount

from .campaign import AdjustableClock, Campaign
from .pages import CUSTOMER, Pages, guard


_HOST: Final = "127.0.0.1"
# The page shows that statements are processed meanwhile.
_PROCESSING_TIME: Final = 1.0


@click.command()
@port_option(8610)
@allow_host_option
@dialect_option("The dialect of the first page; the page has the others.")
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
    Serve a demo until interrupted: a campaign from invitations to statements.

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
    app = web.Application(middlewares=[guard(url, hosts)])

    async def show_first(_: web.Request) -> web.Response:
        raise web.HTTPSeeOther(f"/{dialect}/")

    app.router.add_get("/", show_first, allow_head=False)
    async with AsyncExitStack() as stack:
        stack.enter_context(listener)
        for name in get_args(Dialect):
            campaign = await stack.enter_async_context(_campaign(url, name))
            pages = Pages(root=f"/{name}/", campaign=campaign)
            app.add_routes(pages.routes())
            app.on_shutdown.append(campaign.feed.close)
            mount(app, campaign.service, get_customer=_get_customer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, listener).start()
        yield url


@asynccontextmanager
async def _campaign(url: str, dialect: Dialect) -> AsyncIterator[Campaign]:
    clock = AdjustableClock()
    webhook_secret = secrets.token_urlsafe()
    protocol = CallbackProtocol(
        f"{url}{dialect}/bank",
        secret=secrets.token_bytes(),
        webhook_secret=webhook_secret,
        next_url=f"/{dialect}/?back",
        now=clock.time,
    )
    async with (
        Sandbox(
            dialect,
            webhook_secret=webhook_secret,
            processing_time=_PROCESSING_TIME,
            clock=clock,
        ) as sandbox,
        AsyncBankConnect(
            sandbox.api_key,
            server_hash=sandbox.server_hash,
            base_url=sandbox.base_url,
            redirect_url=None,
            clock=clock,
        ) as bank,
    ):
        campaign = Campaign(
            sandbox=sandbox,
            bank=bank,
            protocol=protocol,
            clock=clock,
            lost_url=f"{url}{dialect}/lost",
        )
        await campaign.set_webhooks(are_lost=False)
        yield campaign


async def _get_customer(_: web.Request) -> str:
    # A real service returns the customer who is logged in.
    return CUSTOMER
