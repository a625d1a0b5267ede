"""
The endpoints as a WSGI application, without a framework.
"""

import io
import logging

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeAlias
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from bankconnect_async.errors import StoreError
from bankconnect_async.portal import BlockingPortal

from .asgi import find_match
from .endpoints import Customer, WebEndpoint, encode_response, respond
from .http import WebRequest, WebResponse, plain
from .service import CallbackService


GetCustomer: TypeAlias = Callable[[WSGIEnvironment], Customer]

_log: Final = logging.getLogger("bankconnect_async.web")


def wsgi_app(
    service: CallbackService,
    *,
    portal: BlockingPortal,
    get_customer: GetCustomer,
    prefix: str | None = None,
) -> WSGIApplication:
    """
    Make a WSGI application of the endpoints that `mount` describes.

    It runs alone, or is mounted, such as in Flask, at the path of
    `CallbackProtocol.base`. Links, cookies and redirects come from the base,
    whatever the path of the mount.

    Args:
        service: The service that answers.
        portal: The portal that runs the client and the service.
        get_customer: The function that identifies the customer of a WSGI
            environment. For strangers it returns `None` (401) or a
            `WebResponse`, such as a redirect to the login.
        prefix: The path of the endpoints within the application, if a proxy
            in front of it rewrites paths; by default they are at the path of
            the base, or where the application is mounted.
    """
    base = service.protocol.base
    public, root = base.path.rstrip("/"), base.raw_path.rstrip("/")

    def answer(environ: WSGIEnvironment, method: str) -> WebResponse:
        script, path = (
            _decode(environ.get(name, ""))
            for name in ("SCRIPT_NAME", "PATH_INFO")
        )
        scope = {"root_path": script, "path": script + path}
        match = find_match(scope, public, prefix)
        if match is None:
            return plain(HTTPStatus.NOT_FOUND, "there is nothing here")
        endpoint = match.endpoint
        customer: Customer = None
        if endpoint.is_visit and method in endpoint.methods:
            customer = get_customer(environ)
        request = WebRequest(
            method=method,
            path=match.url(root, environ.get("QUERY_STRING", "")),
            headers=read_headers(environ),
        )
        has_input = environ.get("CONTENT_LENGTH") or is_terminated(environ)
        stream = environ["wsgi.input"] if has_input else io.BytesIO()
        body = read_input(stream, environ, endpoint.max_body)
        try:
            return portal.call(
                respond_with, service, endpoint, request, body, customer
            )
        except StoreError as error:
            return refuse_start(error)

    def app(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        response = answer(environ, method)
        headers, body = encode_native(response, method)
        status = HTTPStatus(response.status)
        start_response(f"{status.value} {status.phrase}", [*headers.items()])
        return [body]

    return app


async def respond_with(
    service: CallbackService,
    endpoint: WebEndpoint,
    request: WebRequest,
    body: bytes | None,
    customer: Customer,
) -> WebResponse:
    """
    Pass a request to its endpoint in the portal's loop; see `respond`.

    Args:
        service: The service.
        endpoint: The endpoint.
        request: The request, without its body.
        body: The body; `None` if it ended before its end.
        customer: The customer of a visit.
    """

    async def read_chunks() -> AsyncIterator[bytes]:
        if body is None:
            raise ConnectionResetError("the client disconnected")
        yield body

    async def get_customer() -> Customer:
        return customer

    return await respond(
        service,
        endpoint,
        request,
        chunks=read_chunks(),
        get_customer=get_customer,
    )


def refuse_start(error: StoreError) -> WebResponse:
    """
    Make the response if the portal cannot start its service.
    """
    # The endpoints themselves raise none.
    _log.warning("the service cannot start: %s", error)
    return plain(HTTPStatus.SERVICE_UNAVAILABLE, "the store cannot be used")


def encode_native(
    response: WebResponse, method: str
) -> tuple[dict[str, str], bytes]:
    """
    Return the headers as WSGI has them, and the body; see `encode_response`.
    """
    headers, body = encode_response(response, method)
    # WSGI has the bytes of texts as characters of latin-1.
    native = {name: value.decode("latin-1") for name, value in headers.items()}
    return native, body


def read_input(
    stream: Any, environ: Mapping[str, Any], limit: int
) -> bytes | None:
    """
    Read a body, or one byte more than *limit*; `None` for half a body.

    Args:
        stream: The stream of the body.
        environ: The WSGI environment.
        limit: The largest body; 0 if none is read.
    """
    if not limit:
        return b""
    length = environ.get("CONTENT_LENGTH") or ""
    size = min(int(length), limit + 1) if length.isdecimal() else limit + 1
    body = bytearray()
    try:
        while len(body) < size and (chunk := stream.read(size - len(body))):
            body += chunk
    except OSError:
        return None
    return bytes(body) if len(body) == size or not length else None


def is_terminated(environ: Mapping[str, Any]) -> bool:
    """
    Tell whether the stream of a body without a length ends.

    Servers that decode chunked bodies say so. Reading another's stream to its
    end would wait for the next request.
    """
    return bool(environ.get("wsgi.input_terminated"))


def _decode(path: str) -> str:
    # WSGI has the bytes of texts as characters of latin-1.
    return path.encode("latin-1").decode(errors="replace")


def read_headers(environ: Mapping[str, Any]) -> list[tuple[str, str]]:
    """
    Return the headers of a request.

    Args:
        environ: The WSGI environment.
    """
    return [
        (
            name.removeprefix("HTTP_").replace("_", "-"),
            # As aiohttp decodes them.
            value.encode("latin-1").decode(errors="surrogateescape"),
        )
        for name, value in environ.items()
        if name.startswith("HTTP_")
        or name in {"CONTENT_TYPE", "CONTENT_LENGTH"}
    ]
