"""
Fetch the data of many sessions and entities, one outcome for each kind.
"""

from typing import TYPE_CHECKING

from bankconnect_async._lazy import lazy_names


if TYPE_CHECKING:
    from .collection import Collection, CollectionStats
    from .journal import CollectionJournal
    from .outcomes import Collected, NotCollected, SavedFile
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "collection": "Collection CollectionStats",
            "journal": "CollectionJournal",
            "outcomes": "Collected NotCollected SavedFile",
        },
    )


__all__ = [
    "Collected",
    "Collection",
    "CollectionJournal",
    "CollectionStats",
    "NotCollected",
    "SavedFile",
]
