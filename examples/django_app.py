"""
A whole service in Django: it creates sessions, and hears how they ended.

With `BANKCONNECT_API_KEY`, `BANKCONNECT_SERVER_HASH`,
`BANKCONNECT_BASE_URL`, `PUBLIC_URL` and `SIGNING_KEY` set (`PUBLIC_URL` is
scheme and host, such as `https://lender.example`; the endpoints are below
`/bank`), under ASGI::

    python -m examples.django_app
    uvicorn examples.django_app:asgi

or under WSGI, where any number of processes share the sessions, with
`BANKCONNECT_STORE` and `BANKCONNECT_STORE_KEYS` set::

    gunicorn -w 4 --threads 4 examples.django_app:wsgi
"""

import os
import signal
import sys

import uvicorn

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest
from django.urls import include, path
from yarl import URL

from bankconnect_async import (
    AsyncBankConnect,
    BlockingPortal,
    Event,
    SuccessEvent,
    Webhook,
)
from bankconnect_async.web import CallbackProtocol, CallbackService
from bankconnect_async.web.django import url_patterns, with_lifespan


PUBLIC_URL = os.environ["PUBLIC_URL"]

# Your project has these in its settings module.
settings.configure(
    ALLOWED_HOSTS=[URL(PUBLIC_URL).host],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ["SIGNING_KEY"],
)


async def on_event(event: Event | Webhook) -> None:
    """
    Handle what happened, perhaps twice: insert it by `event.key`.

    A success that comes here is confirmed.
    """
    match event:
        case SuccessEvent(link_id=link_id):
            print(f"{link_id} has submitted statements")
        case _:
            print(event)


def get_customer(request: HttpRequest) -> str | None:
    """
    Identify the customer; `None` is answered with 401.

    `LOGINS`, such as `l-1=customer-42`, stands for your own authentication.
    """
    return logins.get(request.COOKIES.get("login", ""))


pairs = os.environ.get("LOGINS", "").split()
logins = dict(pair.split("=", 1) for pair in pairs)
bank = AsyncBankConnect.from_env(redirect_url=None)
service = CallbackService(
    bank,
    CallbackProtocol(f"{PUBLIC_URL}/bank", secret=os.environ["SIGNING_KEY"]),
    on_event=on_event,
)
# It starts with the first request, in each worker.
portal = BlockingPortal(bank, service)

endpoints = url_patterns(service, portal=portal, get_customer=get_customer)
urlpatterns = [path("bank/", include(endpoints))]

wsgi = get_wsgi_application()
asgi = with_lifespan(get_asgi_application(), portal)

if __name__ == "__main__":
    # uvicorn shuts the service down, and then ends by the same signal.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(asgi, port=int(os.environ.get("PORT", "8080")))
