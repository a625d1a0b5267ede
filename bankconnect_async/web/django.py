"""
The endpoints as URL patterns of Django.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from bankconnect_async.errors import StoreError
from bankconnect_async.portal import BlockingPortal

from .asgi import ASGIApp, Receive, Scope, Send, run_lifespan
from .endpoints import ENDPOINTS, Customer, EndpointMatch
from .http import WebRequest, WebResponse
from .service import CallbackService
from .wsgi import (
    encode_native,
    is_terminated,
    read_headers,
    read_input,
    refuse_start,
    respond_with,
)


# Django has no types of its own.
#: The customer, or an `HttpResponse` for a stranger; `None` for a 401.
DjangoCustomer: TypeAlias = Customer | Any
GetCustomer: TypeAlias = (
    Callable[[HttpRequest], DjangoCustomer]
    | Callable[[HttpRequest], Awaitable[DjangoCustomer]]
)


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
        environ = request.META
        query = environ.get("QUERY_STRING", "")
        web_request = WebRequest(
            method=request.method,
            path=EndpointMatch(name, token).url(root, query),
            headers=read_headers(environ),
        )
        # Django takes a chunked body for none.
        is_chunked = not environ.get("CONTENT_LENGTH") and is_terminated(
            environ
        )
        stream = environ["wsgi.input"] if is_chunked else request
        body = read_input(stream, environ, endpoint.max_body)
        try:
            response = await portal.acall(
                respond_with, service, endpoint, web_request, body, customer
            )
        except StoreError as error:
            response = refuse_start(error)
        return _convert(response, request.method)

    return csrf_exempt(view)


class _Response(HttpResponse):  # type: ignore[misc]
    """
    A response that Django does not log, because its path may be a secret.
    """

    _has_been_logged = True


def _convert(response: WebResponse, method: str) -> HttpResponse:
    headers, body = encode_native(response, method)
    converted = _Response(body, status=response.status)
    # Django's default is HTML.
    del converted.headers["Content-Type"]
    for name, value in headers.items():
        converted.headers[name] = value
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
