"""
The endpoints as routes of `aiohttp.web`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from aiohttp import web

from bankconnect_async.models.sessions import SessionRequest

from .http import MAX_EVENT, MAX_WEBHOOK, WebRequest, WebResponse, read_body
from .protocol import (
    CONNECT,
    EVENTS,
    INVITATION,
    REDIRECT,
    RETURN,
    WEBHOOK,
)
from .service import CallbackService


GetCustomer: TypeAlias = Callable[
    [web.Request], Awaitable[str | SessionRequest]
]
_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.Response]]


def mount(
    app: web.Application,
    service: CallbackService,
    *,
    get_customer: GetCustomer,
    prefix: str | None = None,
) -> None:
    """
    Add the endpoints to *app*, which runs the service from its start to its
    cleanup.

    The client and whatever else the callback needs must outlive the cleanup:
    set them up in a `cleanup_ctx` that you append before this call.

    ======================= ==============================================
    GET, POST connect       the page with the journey in a frame
    GET, POST redirect      the redirect to the journey
    GET return/…            the address to which such a journey returns
    POST events             the events that the page around the frame posts
    POST webhook/…          the vendor's webhooks
    GET, POST invitation/…  the links of invitations, without a login
    ======================= ==============================================

    Args:
        app: The application, before it starts.
        service: The service that answers.
        get_customer: The coroutine function that identifies the customer by
            your own authentication. For strangers it raises an exception of
            `aiohttp.web`, such as `HTTPUnauthorized` or `HTTPFound`.
        prefix: The path at which the application sees the endpoints, if a
            proxy in front of it rewrites paths; by default that of
            `CallbackProtocol.base`.
    """
    public = service.protocol.base.raw_path.rstrip("/")
    root = public if prefix is None else prefix.rstrip("/")

    def convert(request: web.Request, body: bytes = b"") -> WebRequest:
        return WebRequest(
            method=request.method,
            path=public + request.raw_path.removeprefix(root),
            headers=request.headers,
            body=body,
        )

    def visit(
        name: str,
        start: Callable[
            [WebRequest, str | SessionRequest], Awaitable[WebResponse]
        ],
    ) -> tuple[web.RouteDef, ...]:
        async def handle(request: web.Request) -> web.Response:
            customer = await get_customer(request)
            return _response(await start(convert(request), customer))

        path = f"{root}/{name}"
        # A HEAD request must not create a session.
        return web.get(path, handle, allow_head=False), web.post(path, handle)

    def receive(
        process: Callable[[WebRequest], Awaitable[WebResponse]], limit: int
    ) -> _Handler:
        async def handle(request: web.Request) -> web.Response:
            body = await read_body(request.content.iter_any(), limit)
            return _response(await process(convert(request, body)))

        return handle

    on_return = receive(service.handle_return, 0)
    on_event = receive(service.handle_event, MAX_EVENT)
    on_invitation = receive(service.handle_invitation, 0)
    on_webhook = receive(service.handle_webhook, MAX_WEBHOOK)

    async def run(_: web.Application) -> AsyncIterator[None]:
        async with service:
            yield

    app.add_routes(
        [
            *visit(CONNECT, service.connect),
            *visit(REDIRECT, service.redirect),
            web.get(
                f"{root}/{RETURN}/{{state:.+}}", on_return, allow_head=False
            ),
            web.post(f"{root}/{EVENTS}", on_event),
            web.post(f"{root}/{WEBHOOK}/{{name}}", on_webhook),
            web.get(f"{root}/{INVITATION}/{{token}}", on_invitation),
            web.post(f"{root}/{INVITATION}/{{token}}", on_invitation),
        ]
    )
    app.cleanup_ctx.append(run)


def _response(response: WebResponse) -> web.Response:
    return web.Response(
        status=response.status, headers=response.headers, body=response.body
    )
