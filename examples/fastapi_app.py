r"""
A whole service in FastAPI: it creates sessions, and hears how they ended.

With `BANKCONNECT_API_KEY`, `BANKCONNECT_SERVER_HASH`,
`BANKCONNECT_BASE_URL`, `PUBLIC_URL` and `SIGNING_KEY` set (`PUBLIC_URL` is
scheme and host, such as `https://lender.example`; the endpoints are below
`/bank`), each of these serves it::

    python -m examples.fastapi_app
    uvicorn --factory examples.fastapi_app:from_env
    hypercorn 'examples.fastapi_app:from_env()'

With `BANKCONNECT_STORE` and `BANKCONNECT_STORE_KEYS` set, any number of such
processes share the sessions::

    gunicorn -w 4 -k uvicorn_worker.UvicornWorker \
        'examples.fastapi_app:from_env()'
"""

import os
import signal
import sys

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import uvicorn

from fastapi import FastAPI, Request
from starlette.types import Scope

from bankconnect_async import AsyncBankConnect, Event, SuccessEvent, Webhook
from bankconnect_async.web import CallbackProtocol, CallbackService, asgi_app


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


def make_app(service: CallbackService, logins: Mapping[str, str]) -> FastAPI:
    """
    Make the application.

    Args:
        service: The service that answers below `/bank`.
        logins: Stands for your own authentication: value of the cookie
            `login` to `link_id`.
    """

    async def get_customer(scope: Scope) -> str | None:
        return logins.get(Request(scope).cookies.get("login", ""))

    # FastAPI passes no lifespan events on to what is mounted.
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.bank, service:
            yield

    app = FastAPI(lifespan=lifespan)
    app.mount("/bank", asgi_app(service, get_customer=get_customer))
    return app


def from_env() -> FastAPI:
    """
    Make the application from environment variables.

    `LOGINS`, such as `l-1=customer-42`, stands for your own authentication.
    """
    protocol = CallbackProtocol(
        f"{os.environ['PUBLIC_URL']}/bank", secret=os.environ["SIGNING_KEY"]
    )
    bank = AsyncBankConnect.from_env(redirect_url=None)
    service = CallbackService(bank, protocol, on_event=on_event)
    pairs = os.environ.get("LOGINS", "").split()
    return make_app(service, dict(pair.split("=", 1) for pair in pairs))


if __name__ == "__main__":
    # uvicorn shuts the service down, and then ends by the same signal.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(from_env(), port=int(os.environ.get("PORT", "8080")))
