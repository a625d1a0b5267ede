"""
The endpoints as routes of `aiohttp.web`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from aiohttp import web

from bankconnect_async.models.sessions import SessionRequest

from .http import MAX_EVENT, MAX_WEBHOOK, WebRequest, WebResponse, read_body
from .protocol import CONNECT, EVENTS, REDIRECT, RETURN, WEBHOOK
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
    Add the endpoints to *app*, and the wait for webhooks to its cleanup.

    It takes the application rather than return routes, because routes alone
    would leave webhooks behind that were answered and not yet handed on.
    What the callback needs, such as the client, has to outlive them: set it
    up in a `cleanup_ctx` that was appended before.

    ======================= ==============================================
    GET, POST connect       the page with the journey in a frame
    GET, POST redirect      to the journey in the whole window
    GET return/…            where such a journey comes back
    POST events             what the page around the frame heard
    POST webhook/…          what the vendor says from server to server
    ======================= ==============================================

    Args:
        app: Before it is started.
        service: What answers.
        get_customer: Tells who is asking, by the service's own authentication.
            It raises an exception of `aiohttp.web`, such as
            `HTTPUnauthorized` or `HTTPFound` to a login, for strangers.
        prefix: Where the application sees the paths, if a proxy in front of
            it rewrites them; else that of `CallbackProtocol.base`.
    """
    public = service.protocol.base.raw_path.rstrip("/")
    at = public if prefix is None else prefix.rstrip("/")

    def call(request: web.Request, body: bytes = b"") -> WebRequest:
        path = public + request.raw_path.removeprefix(at)
        return WebRequest(
            method=request.method,
            path=path,
            headers=request.headers,
            body=body,
        )

    def begun_by(
        begin: Callable[
            [WebRequest, str | SessionRequest], Awaitable[WebResponse]
        ],
    ) -> _Handler:
        async def handle(request: web.Request) -> web.Response:
            return _response(
                await begin(call(request), await get_customer(request))
            )

        return handle

    def begun_at(
        name: str,
        begin: Callable[
            [WebRequest, str | SessionRequest], Awaitable[WebResponse]
        ],
    ) -> tuple[web.RouteDef, ...]:
        path, handle = f"{at}/{name}", begun_by(begin)
        # Whoever asks for the head of a page does not mean to go there.
        return (
            web.get(path, handle, allow_head=False),
            web.post(path, handle),
        )

    def taken_by(
        take: Callable[[WebRequest], Awaitable[WebResponse]], limit: int
    ) -> _Handler:
        async def handle(request: web.Request) -> web.Response:
            body = await read_body(request.content.iter_any(), limit)
            return _response(await take(call(request, body)))

        return handle

    async def returned(request: web.Request) -> web.Response:
        return _response(await service.handle_return(call(request)))

    app.add_routes(
        [
            *begun_at(CONNECT, service.connect),
            *begun_at(REDIRECT, service.redirect),
            web.get(f"{at}/{RETURN}/{{state}}", returned, allow_head=False),
            web.post(
                f"{at}/{EVENTS}", taken_by(service.handle_event, MAX_EVENT)
            ),
            web.post(
                f"{at}/{WEBHOOK}/{{name}}",
                taken_by(service.handle_webhook, MAX_WEBHOOK),
            ),
        ]
    )
    app.cleanup_ctx.append(_closing(service))


def _closing(
    service: CallbackService,
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def close(_: web.Application) -> AsyncIterator[None]:
        yield
        await service.aclose()

    return close


def _response(reply: WebResponse) -> web.Response:
    return web.Response(
        status=reply.status, headers=reply.headers, body=reply.body
    )
