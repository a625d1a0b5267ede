"""
The endpoints in Django under WSGI; `test_adapters.py` compares the responses.
"""

import contextlib
import io

from wsgiref.util import setup_testing_defaults

import pytest

from django.core.exceptions import PermissionDenied
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponseRedirect
from django.test import Client, override_settings
from django.urls import include, path, reverse

from bankconnect_async import (
    AsyncBankConnect,
    BlockingPortal,
    SQLiteSessionStore,
)
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.web import (
    CallbackProtocol,
    CallbackService,
    WebResponse,
)
from bankconnect_async.web.django import url_patterns, with_lifespan


BASE = "https://lender.example/bank"
WEBHOOK = '{"progress": "completed", "entity_id": "e-1"}'


def read_header(request):
    """Identify the customer by a header."""
    return request.headers.get("X-Customer")


@contextlib.contextmanager
def views(get_customer=read_header, **settings):
    """
    Serve the views below ``/shop/bank``, behind Django's CSRF check.

    The service is reached by the path of its base behind a proxy.
    """
    told = []

    async def on_event(event):
        told.append(event)

    bank = AsyncBankConnect(
        **{"api_key": "k", "redirect_url": None, **settings}
    )
    protocol = CallbackProtocol(BASE, secret="s" * 32)
    service = CallbackService(bank, protocol, on_event=on_event)
    with contextlib.closing(BlockingPortal(bank, service)) as portal:
        endpoints = url_patterns(
            service, portal=portal, get_customer=get_customer
        )
        with override_settings(
            ROOT_URLCONF=(path("shop/bank/", include(endpoints)),),
            MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
        ):
            client = Client(
                enforce_csrf_checks=True,
                headers={"Host": "lender.example"},
                raise_request_exception=False,
            )
            yield client, protocol, told
            portal.close()


def inside(url):
    """Return the path at which the views see a URL of the service."""
    return str(url).replace("https://lender.example", "/shop")


def ask(**environ):
    """Ask Django as a server does; return the status, headers and body."""
    heads = []
    setup_testing_defaults(environ)
    body = get_wsgi_application()(environ, lambda *head: heads.append(head))
    ((status, headers),) = heads
    return status, dict(headers), b"".join(body)


def test_no_query():
    """
    A server need not name a query that is empty.
    """
    with views():
        status, _, _ = ask(PATH_INFO="/shop/bank/connect")

    assert status == "401 Unauthorized"


def test_head():
    """
    The response to a HEAD request has the length of a body, and none.
    """
    with views() as (_, protocol, _):
        url = inside(protocol.invitation_url("c-1", invitation_id="i-1"))
        status, headers, body = ask(
            PATH_INFO=url, REQUEST_METHOD="HEAD", QUERY_STRING=""
        )

    assert status == "200 OK"
    assert int(headers["Content-Length"]) > 0
    assert body == b""


def test_location():
    """
    A header that is not ASCII is sent in UTF-8, as by the other adapters.
    """
    login = WebResponse(status=303, headers={"Location": "/вход"})
    with views(lambda _: login):
        _, headers, _ = ask(PATH_INFO="/shop/bank/connect", QUERY_STRING="")

    assert headers["Location"].encode("latin-1").decode() == "/вход"


def test_content_type():
    """
    The type of a response is sent, whatever the case of its name.
    """
    login = WebResponse(
        status=401, headers={"content-type": "text/plain"}, body=b"who?"
    )
    with views(lambda _: login):
        _, headers, _ = ask(PATH_INFO="/shop/bank/connect", QUERY_STRING="")

    assert headers["content-type"] == "text/plain"


def test_webhook(caplog):
    """
    A webhook needs no CSRF token; a refused one is not logged, because its
    path may be a secret.
    """
    with views() as (client, protocol, told):
        url = inside(protocol.webhook_url)
        answer = client.post(url, WEBHOOK, content_type="application/json")
        assert answer.status_code == 200
        assert client.put(url).status_code == 405
        text = client.post(f"{url}x", WEBHOOK, content_type="text/plain")
        assert text.status_code == 404

    assert [webhook.entity_id for webhook in told] == ["e-1"]
    assert protocol.webhook_url.rpartition("/")[2] not in caplog.text


def test_session():
    """
    A customer gets a session, whose frame has the URLs of the base.
    """
    sandbox = Sandbox()
    with BlockingPortal(sandbox):
        options = {"api_key": sandbox.api_key, "base_url": sandbox.base_url}
        with views(**options) as (client, _, _):
            page = client.get(
                reverse("bankconnect-connect"), headers={"X-Customer": "c-1"}
            )
            assert page.status_code == 200
            assert b"/bank/events" in page.content
            assert b"/shop/" not in page.content
        assert len(sandbox.sessions) == 1


def refuse(_):
    """Refuse everybody."""
    raise PermissionDenied


async def send_to_login(request):
    """Redirect everybody to the login."""
    return HttpResponseRedirect(f"/login?next={request.path}")


@pytest.mark.parametrize(
    ("get_customer", "status"),
    [(lambda _: None, 401), (refuse, 403), (send_to_login, 302)],
)
def test_strangers(get_customer, status):
    """
    A stranger gets the response of the function, sync or async.
    """
    with views(get_customer) as (client, _, _):
        assert client.get("/shop/bank/connect").status_code == status


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"CONTENT_LENGTH": str(len(WEBHOOK))}, 200),
        ({"CONTENT_LENGTH": "999"}, 400),
        ({"CONTENT_LENGTH": "", "wsgi.input_terminated": True}, 200),
    ],
)
def test_body(environ, status):
    """
    A body that ends early is not processed; a chunked one is complete.
    """
    with views() as (client, protocol, told):
        answer = client.post(
            inside(protocol.webhook_url),
            content_type="application/json",
            **{**environ, "wsgi.input": io.BytesIO(WEBHOOK.encode())},
        )

    assert answer.status_code == status
    assert len(told) == (status == 200)


def test_store_that_cannot_be_used(tmp_path, caplog):
    """
    Without its store, the service answers with 503, which the vendor repeats.
    """
    store = SQLiteSessionStore(tmp_path / "missing" / "store.sqlite")
    with views(store=store) as (client, protocol, _):
        answer = client.post(
            inside(protocol.webhook_url),
            WEBHOOK,
            content_type="application/json",
        )

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert "the service cannot start" in caplog.text


async def test_lifespan():
    """
    The portal starts and ends with the server.
    """
    steps = iter(["startup", "shutdown"])
    sent, notes = [], []

    async def receive():
        return {"type": f"lifespan.{next(steps)}"}

    async def send(message):
        sent.append(message["type"])

    async def application(scope, _, __):
        notes.append(scope["type"])

    portal = BlockingPortal()
    app = with_lifespan(application, portal)
    await app({"type": "http"}, receive, send)
    await app({"type": "lifespan"}, receive, send)

    assert notes == ["http"]
    assert sent == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    with pytest.raises(RuntimeError, match="the portal is closed"):
        portal.start()
