"""
Create sessions for many customers, one outcome for each input.
"""

from typing import TYPE_CHECKING

from bankconnect_async._lazy import lazy_names


if TYPE_CHECKING:
    from .outcomes import Created, Failed, Item, Outcome, Source
    from .paced import PacedClient
    from .protocols import ResultSink
    from .session_batch import BatchOptions, SessionBatch
else:
    # Creating a single session needs none of them. Whoever has one of them
    # can start a batch once the process is out of file descriptors.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "outcomes": "Source",
            "paced": "PacedClient",
            "protocols": "ResultSink",
            "session_batch": (
                "BatchOptions Created Failed Item Outcome SessionBatch"
            ),
        },
    )


__all__ = [
    "BatchOptions",
    "Created",
    "Failed",
    "Item",
    "Outcome",
    "PacedClient",
    "ResultSink",
    "SessionBatch",
    "Source",
]
