"""
Endpoints through which a service learns the outcome of journeys.

`mount` adds the routes to an `aiohttp.web` application; `asgi_app` makes an
ASGI application, which FastAPI, Starlette, Litestar and Quart mount, and
`wsgi_app` one for Flask. `bankconnect_async.web.django` has URL patterns for
Django. For any other framework, `CallbackService` takes a `WebRequest` and
returns a `WebResponse`; `CallbackProtocol` parses and renders without I/O.
"""

from typing import TYPE_CHECKING

from bankconnect_async._lazy import lazy_names

from .asgi import asgi_app
from .dispatcher import OnEvent, OnFailure
from .http import MAX_EVENT, MAX_WEBHOOK, WebRequest, WebResponse, read_body
from .invitations import Invitation, InvitationParameters
from .pages import PageTexts
from .protocol import CallbackProtocol
from .reports import BrowserReport, Notification
from .service import CallbackService
from .sweep import SweepReport


if TYPE_CHECKING:
    from .aiohttp_routes import mount
    from .wsgi import wsgi_app
else:
    # Only `mount` needs `aiohttp.web`.
    __getattr__, __dir__ = lazy_names(
        __name__, {"aiohttp_routes": "mount", "wsgi": "wsgi_app"}
    )


__all__ = [
    "MAX_EVENT",
    "MAX_WEBHOOK",
    "BrowserReport",
    "CallbackProtocol",
    "CallbackService",
    "Invitation",
    "InvitationParameters",
    "Notification",
    "OnEvent",
    "OnFailure",
    "PageTexts",
    "SweepReport",
    "WebRequest",
    "WebResponse",
    "asgi_app",
    "mount",
    "read_body",
    "wsgi_app",
]
