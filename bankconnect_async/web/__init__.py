"""
What a service mounts to hear how its customers' journeys ended.

`mount` adds the routes to an `aiohttp.web` application. For any other
framework there is `CallbackService`, which takes a `WebRequest` and returns a
`WebResponse`, and below it `CallbackProtocol`, which decides without doing any
I/O. Only `mount` needs `aiohttp.web`, so only asking for it imports that.
"""

from typing import TYPE_CHECKING, Any

from .deduplication import DedupStore, RecentKeys
from .http import MAX_EVENT, MAX_WEBHOOK, WebRequest, WebResponse, read_body
from .pages import PageTexts
from .protocol import CallbackProtocol
from .reports import BrowserReport, Notification
from .service import CallbackService, OnEvent, OnFailure


if TYPE_CHECKING:
    from .aiohttp_routes import mount


__all__ = [
    "MAX_EVENT",
    "MAX_WEBHOOK",
    "BrowserReport",
    "CallbackProtocol",
    "CallbackService",
    "DedupStore",
    "Notification",
    "OnEvent",
    "OnFailure",
    "PageTexts",
    "RecentKeys",
    "WebRequest",
    "WebResponse",
    "mount",
    "read_body",
]


def __getattr__(name: str) -> Any:
    if name != "mount":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .aiohttp_routes import mount  # noqa: PLC0415 - see above

    return mount
