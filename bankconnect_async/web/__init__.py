"""
What a service mounts to hear how its customers' journeys ended.

`mount` adds the routes to an `aiohttp.web` application. For any other
framework there is `Endpoints`, which takes a `Call` and gives a `Reply`, and
below it `Handlers`, which decides without doing any I/O. Only `mount` needs
`aiohttp.web`, so only asking for it imports that.
"""

from typing import TYPE_CHECKING, Any

from ._claims import Claim, Notification
from ._duplicates import RecentKeys, Seen
from ._messages import MAX_EVENT, MAX_WEBHOOK, Call, Reply, read_body
from ._pages import Texts
from .endpoints import Endpoints, OnEvent, OnFailure
from .handlers import Handlers


if TYPE_CHECKING:
    from ._aiohttp import mount


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
    from ._aiohttp import mount  # noqa: PLC0415 - see above

    return mount
