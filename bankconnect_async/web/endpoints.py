"""
The table of the endpoints, and how a request passes through one of them.

The adapters of frameworks differ in how they find an endpoint and in how
they write a response; everything between is here.
"""

import asyncio

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, TypeAlias
from urllib.parse import quote

import attrs

from bankconnect_async.models.sessions import SessionRequest

from .guards import is_uncompressed
from .http import (
    MAX_EVENT,
    MAX_WEBHOOK,
    WebRequest,
    WebResponse,
    method_not_allowed,
    plain,
    read_body,
)
from .protocol import (
    CONNECT,
    EVENTS,
    INVITATION,
    REDIRECT,
    RETURN,
    WEBHOOK,
)
from .service import CallbackService


#: What identifies a customer; `None` or a response for a stranger.
Customer: TypeAlias = str | SessionRequest | WebResponse | None

_PATH_CHARACTERS: Final = "/-._~!$&'()*+,;=:@"
_VISIT: Final = ("GET", "POST")


@attrs.frozen(kw_only=True)
class WebEndpoint:
    """
    One endpoint.

    Attributes:
        handle: The name of the method of `CallbackService`.
        methods: The HTTP methods that it takes.
        is_visit: Whether the service has to identify the customer first.
        has_token: Whether a token follows the name in the path.
        max_body: The largest body in bytes; 0 if no body is read.
    """

    handle: str
    methods: tuple[str, ...]
    is_visit: bool = False
    has_token: bool = False
    max_body: int = 0


#: By the name, which is the first part of the path below the base. HEAD must
#: not create a session, or process an outcome.
ENDPOINTS: Final[Mapping[str, WebEndpoint]] = {
    CONNECT: WebEndpoint(handle="connect", methods=_VISIT, is_visit=True),
    REDIRECT: WebEndpoint(handle="redirect", methods=_VISIT, is_visit=True),
    RETURN: WebEndpoint(
        handle="handle_return", methods=("GET",), has_token=True
    ),
    EVENTS: WebEndpoint(
        handle="handle_event",
        methods=("POST",),
        max_body=MAX_EVENT,
    ),
    WEBHOOK: WebEndpoint(
        handle="handle_webhook",
        methods=("POST",),
        has_token=True,
        max_body=MAX_WEBHOOK,
    ),
    INVITATION: WebEndpoint(
        handle="handle_invitation",
        methods=("GET", "HEAD", "POST"),
        has_token=True,
    ),
}


@attrs.frozen
class EndpointMatch:
    """
    An endpoint and the token in the path to it.

    Attributes:
        name: The name of the endpoint.
        token: The rest of the path, unquoted; empty if there is none.
    """

    name: str
    token: str = attrs.field(default="", repr=False)

    @property
    def endpoint(self) -> WebEndpoint:
        """The row of the table."""
        return ENDPOINTS[self.name]

    def url(self, root: str, query: str = "") -> str:
        """
        Return the path and query, as a browser sends them.

        Args:
            root: The quoted path of the base, without a slash at its end.
            query: The quoted query.
        """
        token = quote(self.token, safe=_PATH_CHARACTERS, errors="replace")
        path = "/".join([root, self.name, *([token] if token else [])])
        return f"{path}?{query}" if query else path


def find_endpoint(path: str) -> EndpointMatch | None:
    """
    Find the endpoint for a path below the base, if there is one.

    Args:
        path: The path, unquoted, such as `/connect`.
    """
    # Litestar adds a slash to the path of what is mounted.
    name, _, token = path.strip("/").partition("/")
    endpoint = ENDPOINTS.get(name)
    if endpoint is None or bool(token) != endpoint.has_token:
        return None
    return EndpointMatch(name, token)


def below(path: str, prefix: str) -> str | None:
    """
    Return the part of *path* after *prefix*; `None` if it is elsewhere.
    """
    rest = path.removeprefix(prefix)
    if not path.startswith(prefix) or (rest and not rest.startswith("/")):
        return None
    return rest


async def respond(
    service: CallbackService,
    endpoint: WebEndpoint,
    request: WebRequest,
    *,
    chunks: AsyncIterable[bytes],
    get_customer: Callable[[], Awaitable[Customer]],
) -> WebResponse:
    """
    Pass a request to its endpoint.

    405: The endpoint does not take this method.
    401: `get_customer` returned `None`.
    408: The body took longer than `CallbackService.body_timeout`.
    Others: See the endpoint's method of `CallbackService`.

    Args:
        service: The service.
        endpoint: The endpoint.
        request: The request, without its body.
        chunks: The body; it raises `ConnectionError` if the sender
            disconnects before its end.
        get_customer: The function that identifies the customer.
    """
    handle: Callable[..., Awaitable[WebResponse]]
    # By its name, so that a subclass can replace it.
    handle = getattr(service, endpoint.handle)
    if request.method not in endpoint.methods:
        return method_not_allowed(endpoint.methods)
    if endpoint.is_visit:
        customer = await get_customer()
        if customer is None:
            return plain(HTTPStatus.UNAUTHORIZED, "log in first")
        if isinstance(customer, WebResponse):
            return customer
        return await handle(request, customer)
    body = await _read_body(service, endpoint, request, chunks)
    if isinstance(body, WebResponse):
        return body
    return await handle(attrs.evolve(request, body=body))


def encode_response(
    response: WebResponse, method: str
) -> tuple[dict[str, bytes], bytes]:
    """
    Return the headers, with the length of the body, and the body to send.

    Args:
        response: The response.
        method: The method of the request.
    """
    headers = {
        name: value.encode() for name, value in response.headers.items()
    }
    if response.status != HTTPStatus.NO_CONTENT:
        headers["Content-Length"] = str(len(response.body)).encode("ascii")
    return headers, b"" if method == "HEAD" else response.body


async def _read_body(
    service: CallbackService,
    endpoint: WebEndpoint,
    request: WebRequest,
    chunks: AsyncIterable[bytes],
) -> bytes | WebResponse:
    # A compressed body is refused, so nobody needs to decompress it.
    if not endpoint.max_body or not is_uncompressed(request):
        return b""
    try:
        async with asyncio.timeout(service.body_timeout):
            return await read_body(chunks, endpoint.max_body)
    except TimeoutError:
        problem = "the body took too long to arrive"
        return plain(HTTPStatus.REQUEST_TIMEOUT, problem)
    except ConnectionError:
        # Nobody reads it, but half a body must not be processed.
        return plain(HTTPStatus.BAD_REQUEST, "the body is incomplete")
