r"""
A whole service in aiohttp: it creates sessions, and hears how they ended.

With `BANKCONNECT_API_KEY`, `BANKCONNECT_SERVER_HASH`,
`BANKCONNECT_BASE_URL`, `PUBLIC_URL` and `SIGNING_KEY` set (`PUBLIC_URL` is
scheme and host, such as `https://lender.example`; the endpoints are below
`/bank`)::

    python -m aiohttp.web -H 127.0.0.1 -P 8080 examples.aiohttp_app:from_env

With `BANKCONNECT_STORE` and `BANKCONNECT_STORE_KEYS` set, any number of such
processes share the sessions::

    gunicorn -w 4 -k aiohttp.GunicornWebWorker \
        'examples.aiohttp_app:from_env()'
"""

import os

from collections.abc import AsyncIterator, Mapping, Sequence

from aiohttp import web

from bankconnect_async import AsyncBankConnect, Event, SuccessEvent, Webhook
from bankconnect_async.web import CallbackProtocol, CallbackService, mount


async def on_event(event: Event | Webhook) -> None:
    """
    Handle what happened, perhaps twice: insert it by `event.key`.

    A success that comes here is confirmed.
    """
    match event:
        case SuccessEvent(link_id=link_id):
            print(f"{link_id} has submitted statements")
        case _:
            print(event)


async def on_failure(what: Event | Webhook, error: Exception) -> None:
    """
    Look at what failed. The store hands webhooks and successes on again.
    """
    print(f"{type(what).__name__} is to be looked at: {error}")


def make_app(
    bank: AsyncBankConnect,
    protocol: CallbackProtocol,
    logins: Mapping[str, str],
) -> web.Application:
    """
    Make the application.

    Args:
        bank: The client; it is closed with the application.
        protocol: The settings of the endpoints.
        logins: Stands for your own authentication: value of the cookie
            `login` to `link_id`.
    """

    async def open_bank(_: web.Application) -> AsyncIterator[None]:
        async with bank:
            yield

    async def get_customer(request: web.Request) -> str | None:
        return logins.get(request.cookies.get("login", ""))

    app = web.Application()
    # Before mount: the last webhooks may still need the client.
    app.cleanup_ctx.append(open_bank)
    service = CallbackService(
        bank, protocol, on_event=on_event, on_failure=on_failure
    )
    mount(app, service, get_customer=get_customer)
    return app


def from_env(_: Sequence[str] = ()) -> web.Application:
    """
    Make the application from environment variables.

    `LOGINS`, such as `l-1=customer-42`, stands for your own authentication.
    """
    protocol = CallbackProtocol(
        f"{os.environ['PUBLIC_URL']}/bank", secret=os.environ["SIGNING_KEY"]
    )
    bank = AsyncBankConnect.from_env(redirect_url=None)
    pairs = os.environ.get("LOGINS", "").split()
    logins = dict(pair.split("=", 1) for pair in pairs)
    return make_app(bank, protocol, logins)
