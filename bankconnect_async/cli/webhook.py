"""
The command ``webhook``.
"""

import asyncio

from contextlib import AbstractAsyncContextManager
from typing import Literal, TypeAlias, get_args

import click

from yarl import URL

from bankconnect_async._codec.session_requests import is_plain_http, read_url
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.errors import ConfigurationError
from bankconnect_async.store import MemorySessionStore
from bankconnect_async.web.protocol import PLAIN_HTTP

from .callbacks import make_protocol
from .messages import print_message
from .options import ApiOptions, connection_options


_Flow: TypeAlias = Literal["session", "entity"]


@click.command()
@click.argument("url", metavar="[URL]", required=False)
@click.option(
    "--flow",
    type=click.Choice(get_args(_Flow)),
    required=True,
    help="The flow that the vendor has set for you: each has a webhook.",
)
@connection_options
def webhook(*, api: ApiOptions, url: str | None, flow: _Flow) -> None:
    """
    Set the URL to which the vendor sends webhooks.

    By default it is that of your CallbackService, which is made from
    BANKCONNECT_CALLBACK_URL and BANKCONNECT_SIGNING_KEY. Give the URL of any
    other endpoint. Run the command once for each deployment, and again after
    either of the two has changed; repeating it does no harm.

    A URL without TLS is refused, except one of this machine; --allow-http
    allows it, too.
    """
    if url is None:
        url = make_protocol(allow_http=api.allow_http).webhook_url
    elif not api.allow_http and _is_refused(url):
        raise ConfigurationError(fields={"url": (PLAIN_HTTP,)})
    # The store of the service is not touched.
    bank = api.connect(store=MemorySessionStore())
    asyncio.run(_update(bank, url, flow))
    # The path is a secret.
    print_message(f"webhooks of the {flow} flow go to {URL(url).origin()}/…")


def _is_refused(text: str) -> bool:
    url = read_url(text)
    # The client says what is wrong.
    return url is not None and is_plain_http(url)


async def _update(
    connection: AbstractAsyncContextManager[AsyncBankConnect],
    url: str,
    flow: _Flow,
) -> None:
    async with connection as bank:
        await bank.update_webhook(url, flow=flow)
