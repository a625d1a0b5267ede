"""
The endpoints in FastAPI: six routes of one line each.

With `BANKCONNECT_API_KEY`, `BANKCONNECT_BASE_URL`, `PUBLIC_URL` and
`SIGNING_KEY` set (`PUBLIC_URL` is scheme and host, such as
`https://lender.example`; the endpoints are below `/bank`)::

    uvicorn --factory examples.fastapi_app:from_env

With `BANKCONNECT_STORE` and `BANKCONNECT_STORE_KEYS` set, any number of such
processes share the sessions.
"""

import os

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Cookie, Depends, FastAPI, HTTPException, Request, Response

from bankconnect_async import AsyncBankConnect, Event, SuccessEvent, Webhook
from bankconnect_async.web import (
    MAX_WEBHOOK,
    CallbackProtocol,
    CallbackService,
    WebRequest,
    WebResponse,
    read_body,
)


async def on_event(event: Event | Webhook) -> None:
    """
    Handle what happened, perhaps twice: insert it by `event.key`.

    A success that comes here is confirmed.
    """
    match event:
        case SuccessEvent(link_id=link_id, entity_id=id_, session_id=None):
            print(f"{link_id} has submitted statements, see entity {id_}")
        case SuccessEvent(link_id=link_id, session_id=id_):
            print(f"{link_id} has submitted statements, see session {id_}")
        case _:
            print(event)


async def call(request: Request) -> WebRequest:
    """
    Tell the endpoints of a request.
    """
    return WebRequest(
        method=request.method,
        path=f"{request.url.path}?{request.url.query}",
        headers=request.headers,
        body=await read_body(request.stream(), MAX_WEBHOOK),
    )


def response(reply: WebResponse) -> Response:
    """
    Tell FastAPI of a reply.
    """
    return Response(reply.body, reply.status, dict(reply.headers))


def make_app(service: CallbackService, logins: Mapping[str, str]) -> FastAPI:
    """
    Make the application.

    Args:
        service: What answers below ``/bank``.
        logins: Stands for your own authentication: value of the cookie
            `login` to `link_id`.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.bank, service:
            yield

    def customer(login: Annotated[str, Cookie()] = "") -> str:
        if login not in logins:
            raise HTTPException(401)
        return logins[login]

    app = FastAPI(lifespan=lifespan)
    called = Annotated[WebRequest, Depends(call)]
    known = Annotated[str, Depends(customer)]

    @app.get("/bank/connect")
    @app.post("/bank/connect")
    async def connect(call: called, link_id: known) -> Response:
        return response(await service.connect(call, link_id))

    @app.get("/bank/redirect")
    @app.post("/bank/redirect")
    async def redirect(call: called, link_id: known) -> Response:
        return response(await service.redirect(call, link_id))

    # The endpoints read the whole path.
    @app.get("/bank/return/{state:path}")  # noqa: FAST003
    async def returned(call: called) -> Response:
        return response(await service.handle_return(call))

    @app.get("/bank/invitation/{token}")  # noqa: FAST003
    @app.post("/bank/invitation/{token}")
    async def invitation(call: called) -> Response:
        return response(await service.handle_invitation(call))

    @app.post("/bank/events")
    async def events(call: called) -> Response:
        return response(await service.handle_event(call))

    @app.post("/bank/webhook/{name}")  # noqa: FAST003
    async def webhook(call: called) -> Response:
        return response(await service.handle_webhook(call))

    return app


def from_env() -> FastAPI:
    """
    Make the application from environment variables.

    Nobody is let in until your own authentication stands where *logins* is.
    """
    protocol = CallbackProtocol(
        f"{os.environ['PUBLIC_URL']}/bank", secret=os.environ["SIGNING_KEY"]
    )
    bank = AsyncBankConnect.from_env()
    service = CallbackService(bank, protocol, on_event=on_event)
    return make_app(service, logins={})
