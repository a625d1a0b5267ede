"""
The endpoints as an ASGI application, without a framework.
"""

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    MutableMapping,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeAlias

from .endpoints import (
    Customer,
    EndpointMatch,
    below,
    encode_response,
    find_endpoint,
    respond,
)
from .http import WebRequest, WebResponse, plain
from .service import CallbackService


Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
GetCustomer: TypeAlias = Callable[[Scope], Awaitable[Customer]]


def asgi_app(
    service: CallbackService,
    *,
    get_customer: GetCustomer,
    prefix: str | None = None,
) -> ASGIApp:
    """
    Make an ASGI application of the endpoints that `mount` describes.

    It runs alone, or is mounted in a framework at the path of
    `CallbackProtocol.base`. Links, cookies and redirects come from the base,
    whatever the path of the mount.

    If the server, or the framework, passes lifespan events on, the
    application opens the client and the service, and closes both. Starlette
    and FastAPI do not pass them on to what is mounted: there, write
    ``async with service.bank, service:`` in the lifespan of your application.

    Args:
        service: The service that answers.
        get_customer: The coroutine function that identifies the customer of
            a scope, such as by what a middleware has put into it. For
            strangers it returns `None` (401) or a `WebResponse`, or raises
            an exception that the framework around it handles.
        prefix: The path of the endpoints within the application, if a proxy
            in front of it rewrites paths; by default they are at the path of
            the base, or where the application is mounted.
    """
    base = service.protocol.base
    public, root = base.path.rstrip("/"), base.raw_path.rstrip("/")

    async def answer(
        scope: Scope, match: EndpointMatch, receive: Receive
    ) -> WebResponse:
        query = scope.get("query_string", b"").decode("latin-1")
        request = WebRequest(
            method=scope["method"],
            path=match.url(root, query),
            # As aiohttp decodes them.
            headers=[
                (
                    name.decode("latin-1"),
                    value.decode(errors="surrogateescape"),
                )
                for name, value in scope["headers"]
            ],
        )
        return await respond(
            service,
            match.endpoint,
            request,
            chunks=_read_chunks(receive),
            get_customer=lambda: get_customer(scope),
        )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                found = find_match(scope, public, prefix)
                response = (
                    plain(HTTPStatus.NOT_FOUND, "there is nothing here")
                    if found is None
                    else await answer(scope, found, receive)
                )
                await _send(send, response, scope["method"])
            case "lifespan":
                await run_lifespan(_opened(service), receive, send)
            case "websocket":
                await send({"type": "websocket.close"})
            case unknown:
                raise ValueError(f"{unknown} is no ASGI scope of this app")

    return app


def find_match(
    scope: Mapping[str, Any], public: str, prefix: str | None
) -> EndpointMatch | None:
    """
    Find the endpoint for a request, if there is one.

    Args:
        scope: Its `path` and `root_path`, as in ASGI.
        public: The path of the base.
        prefix: The path of the endpoints, if it is another one.
    """
    matches = map(find_endpoint, _paths(scope, public, prefix))
    return next((match for match in matches if match is not None), None)


def _paths(
    scope: Mapping[str, Any], public: str, prefix: str | None
) -> Iterator[str]:
    """
    Yield the paths below the base that a scope may mean.

    The path of a scope begins with its `root_path`, except in older servers
    and frameworks.
    """
    root = scope.get("root_path", "").rstrip("/")
    path = below(scope["path"], root)
    inner = scope["path"] if path is None else path
    if prefix is not None:
        paths = [below(inner, prefix.rstrip("/"))]
    else:
        paths = [below(root + inner, public), below(inner, public), inner]
    yield from (path for path in paths if path is not None)


async def _read_chunks(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionResetError("the client disconnected")
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def _send(send: Send, response: WebResponse, method: str) -> None:
    headers, body = encode_response(response, method)
    await send(
        {
            "type": "http.response.start",
            "status": int(response.status),
            "headers": [
                (name.lower().encode("ascii"), value)
                for name, value in headers.items()
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def run_lifespan(
    resource: AbstractAsyncContextManager[Any], receive: Receive, send: Send
) -> None:
    """
    Enter *resource* when the server starts, and leave it when it stops.
    """
    await receive()
    phase = "startup"
    try:
        async with resource:
            await send({"type": "lifespan.startup.complete"})
            phase = "shutdown"
            await receive()
    except Exception as error:
        await send({"type": f"lifespan.{phase}.failed", "message": str(error)})
        raise
    await send({"type": "lifespan.shutdown.complete"})


@asynccontextmanager
async def _opened(service: CallbackService) -> AsyncIterator[None]:
    async with service.bank, service:
        yield
