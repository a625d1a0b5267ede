"""
The vendor's endpoints, one module for each resource.

Modules that creating a session does not need are imported when they are
first used (PEP 562).
"""

from typing import TYPE_CHECKING

from bankconnect_async._lazy import lazy_names


if TYPE_CHECKING:
    from . import organisation, uploads
    from .confirmation import confirm
    from .downloads import download
    from .entities import Entities, EntityHandle, upload
    from .sessions import SessionHandle
    from .stored_sessions import StoredSessions, store_api_id


__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "confirmation": "confirm",
        "downloads": "download",
        "entities": "Entities EntityHandle upload",
        "sessions": "SessionHandle",
        "stored_sessions": "StoredSessions store_api_id",
    },
    submodules=("organisation", "uploads"),
)

__all__ = [
    "Entities",
    "EntityHandle",
    "SessionHandle",
    "StoredSessions",
    "confirm",
    "download",
    "organisation",
    "store_api_id",
    "upload",
    "uploads",
]
