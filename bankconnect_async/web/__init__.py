"""
What a service mounts to hear how its customers' journeys ended.

`mount` adds the routes to an `aiohttp.web` application. For any other
framework there is `Endpoints`, which takes a `Call` and gives a `Reply`, and
below it `Handlers`, which decides without doing any I/O. Only `mount` needs
`aiohttp.web`, so only asking for it imports that.
"""

from typing import TYPE_CHECKING, Any

from .deduplication import RecentKeys, Seen
from .http import MAX_EVENT, MAX_WEBHOOK, Call, Reply, read_body
from .pages import Texts
from .protocol import Handlers
from .reports import Claim, Notification
from .service import Endpoints, OnEvent, OnFailure


if TYPE_CHECKING:
    from .aiohttp_routes import mount


__all__ = [
    "MAX_EVENT",
    "MAX_WEBHOOK",
    "Call",
    "Claim",
    "Endpoints",
    "Handlers",
    "Notification",
    "OnEvent",
    "OnFailure",
    "RecentKeys",
    "Reply",
    "Seen",
    "Texts",
    "mount",
    "read_body",
]


def __getattr__(name: str) -> Any:
    if name != "mount":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .aiohttp_routes import mount  # noqa: PLC0415 - see above

    return mount
