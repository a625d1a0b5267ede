"""
The endpoints as routes of `aiohttp.web`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from aiohttp import web

from .endpoints import ENDPOINTS, Customer, EndpointMatch, below, respond
from .http import WebRequest
from .service import CallbackService


GetCustomer: TypeAlias = Callable[[web.Request], Awaitable[Customer]]
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
        app: The application, before it starts. It may become a
            sub-application: if the path of `CallbackProtocol.base` begins
            with the prefix of `add_subapp`, the endpoints are at that path.
        service: The service that answers.
        get_customer: The coroutine function that identifies the customer by
            your own authentication. For strangers it returns `None` (401) or
            a `WebResponse`, or raises an exception of `aiohttp.web`, such as
            `HTTPUnauthorized` or `HTTPFound`.
        prefix: The path at which the application sees the endpoints, if a
            proxy in front of it rewrites paths; by default that of
            `CallbackProtocol.base`.
    """
    public = service.protocol.base.raw_path.rstrip("/")

    def handler(name: str) -> _Handler:
        async def handle(request: web.Request) -> web.Response:
            match = EndpointMatch(name, request.match_info.get("token", ""))
            query = request.raw_path.partition("?")[2]
            response = await respond(
                service,
                match.endpoint,
                WebRequest(
                    method=request.method,
                    path=match.url(public, query),
                    headers=request.headers,
                ),
                chunks=_read_chunks(request),
                get_customer=lambda: get_customer(request),
            )
            return web.Response(
                status=response.status,
                headers=response.headers,
                body=response.body,
            )

        return handle

    for name, endpoint in ENDPOINTS.items():
        path = f"/{name}/{{token:.+}}" if endpoint.has_token else f"/{name}"
        resource = _Resource(path, public=public, prefix=prefix)
        # The endpoints themselves refuse other methods.
        resource.add_route("*", handler(name))
        app.router.register_resource(resource)

    async def run(_: web.Application) -> AsyncIterator[None]:
        async with service:
            yield

    app.cleanup_ctx.append(run)


async def _read_chunks(request: web.Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.content.iter_any():
            yield chunk
    except web.RequestPayloadError as error:
        raise ConnectionResetError("the body is malformed") from error


class _Resource(web.DynamicResource):
    """
    The path of an endpoint, also within a sub-application.

    aiohttp adds the prefix of a sub-application to each of its paths, but
    the path of the base contains it already.
    """

    def __init__(self, path: str, *, public: str, prefix: str | None) -> None:
        self._endpoint_path = path
        self._is_public = prefix is None
        self._root = public if prefix is None else prefix.rstrip("/")
        self._mounted_at = ""
        super().__init__(self._root + path)

    def add_prefix(self, prefix: str) -> None:
        """Move the path into a sub-application at *prefix*."""
        # aiohttp comes from the innermost application to the outermost.
        self._mounted_at = prefix + self._mounted_at
        is_part = (
            self._is_public and below(self._root, self._mounted_at) is not None
        )
        root = self._root if is_part else self._mounted_at + self._root
        match web.DynamicResource(root + self._endpoint_path).get_info():
            case {"formatter": formatter, "pattern": pattern}:
                self._formatter, self._pattern = formatter, pattern
