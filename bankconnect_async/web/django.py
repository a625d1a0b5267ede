"""
The endpoints as URL patterns of Django.
"""

import logging

from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from bankconnect_async.errors import StoreError
from bankconnect_async.portal import BlockingPortal

from .asgi import ASGIApp, Receive, Scope, Send, run_lifespan
from .endpoints import ENDPOINTS, Customer, EndpointMatch, WebEndpoint, respond
from .http import WebRequest, WebResponse, plain
from .service import CallbackService


# Django has no types of its own.
#: The customer, or an `HttpResponse` for a stranger; `None` for a 401.
DjangoCustomer: TypeAlias = Customer | Any
GetCustomer: TypeAlias = (
    Callable[[HttpRequest], DjangoCustomer]
    | Callable[[HttpRequest], Awaitable[DjangoCustomer]]
)

_log: Final = logging.getLogger("bankconnect_async.web")


def url_patterns(
    service: CallbackService,
    *,
    portal: BlockingPortal,
    get_customer: GetCustomer,
) -> list[Any]:
    """
    Make the URL patterns of the endpoints that `mount` describes.

    ::

        portal = BlockingPortal(bank, service)
        endpoints = url_patterns(
            service, portal=portal, get_customer=get_customer
        )
        urlpatterns = [path("bank/", include(endpoints))]

    The views are async, and work under ASGI and WSGI alike, because the
    service runs in the portal's loop. They check the origin of what browsers
    post themselves, so they are exempt from Django's CSRF check. Links,
    cookies and redirects come from `CallbackProtocol.base`, whatever the path
    of the `include`.

    Args:
        service: The service that answers.
        portal: The portal that runs the client and the service.
        get_customer: The function, or coroutine function, that identifies the
            customer by your own authentication. For strangers it returns
            `None` (401) or a response, such as a redirect to the login, or
            raises an exception of Django's, such as `PermissionDenied`.
    """
    return [
        path(
            f"{name}/<path:token>" if endpoint.has_token else name,
            _make_view(name, service, portal, get_customer),
            name=f"bankconnect-{name}",
        )
        for name, endpoint in ENDPOINTS.items()
    ]


def _make_view(
    name: str,
    service: CallbackService,
    portal: BlockingPortal,
    get_customer: GetCustomer,
) -> Any:
    endpoint = ENDPOINTS[name]
    root = service.protocol.base.raw_path.rstrip("/")
    # A function that uses the database must not run in an event loop.
    identify: Any = (
        get_customer
        if iscoroutinefunction(get_customer)
        else sync_to_async(get_customer)
    )

    async def view(request: Any, token: str = "") -> HttpResponse:
        customer: DjangoCustomer = None
        if endpoint.is_visit and request.method in endpoint.methods:
            customer = await identify(request)
        if isinstance(customer, HttpResponse):
            return customer
        url = EndpointMatch(name, token).url(
            root, request.META["QUERY_STRING"]
        )
        try:
            response = await portal.acall(
                _respond,
                service,
                endpoint,
                WebRequest(
                    method=request.method, path=url, headers=request.headers
                ),
                body=_read_body(request, endpoint.max_body),
                customer=customer,
            )
        except StoreError as error:
            # From the start of the portal; endpoints raise none.
            _log.warning("the service cannot start: %s", error)
            response = plain(
                HTTPStatus.SERVICE_UNAVAILABLE, "the store cannot be used"
            )
        return _convert(response)

    return csrf_exempt(view)


async def _respond(
    service: CallbackService,
    endpoint: WebEndpoint,
    request: WebRequest,
    *,
    body: bytes | None,
    customer: Customer,
) -> WebResponse:
    # What the request itself needs is read in its own loop and thread.
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


def _read_body(request: Any, limit: int) -> bytes | None:
    """
    Read at most one byte more than *limit*; `None` for half a body.
    """
    if not limit:
        return b""
    length = request.META.get("CONTENT_LENGTH") or ""
    stream = request
    if not length and request.META.get("wsgi.input_terminated"):
        # Django takes a chunked body for none.
        stream = request.META["wsgi.input"]
    try:
        body: bytes = stream.read(limit + 1)
    except UnreadablePostError:
        return None
    expected = int(length) if length.isdecimal() else 0
    return body if len(body) >= min(expected, limit + 1) else None


class _Response(HttpResponse):  # type: ignore[misc]
    """
    A response that Django does not log, because its path may be a secret.
    """

    _has_been_logged = True


def _convert(response: WebResponse) -> HttpResponse:
    converted = _Response(
        response.body, status=response.status, headers=response.headers
    )
    if "Content-Type" not in response.headers:
        # Django's default is HTML.
        del converted.headers["Content-Type"]
    if response.status != HTTPStatus.NO_CONTENT:
        converted.headers["Content-Length"] = str(len(response.body))
    return converted


def with_lifespan(application: ASGIApp, portal: BlockingPortal) -> ASGIApp:
    """
    Start and close *portal* with the server of an ASGI application.

    ::

        application = with_lifespan(get_asgi_application(), portal)

    Django takes no lifespan events itself. Without this, the portal starts
    with the first request, and some servers end a process without closing
    it. Then other processes hand on what it had begun.

    Args:
        application: The application of Django's.
        portal: The portal.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await run_lifespan(portal, receive, send)
        else:
            await application(scope, receive, send)

    return app
