"""
Stores of sessions: what became of each, for every process of a service.

`SessionStore` is the protocol. A store keeps a `SessionEntry` for each session
and an `InboxItem` for each webhook.
"""

from typing import TYPE_CHECKING

from bankconnect_async._lazy import lazy_names


if TYPE_CHECKING:
    from .address import open_store
    from .entries import (
        InboxItem,
        Reserved,
        SessionEntry,
        SessionKey,
        SessionState,
    )
    from .memory import MemorySessionStore
    from .postgres import PostgresSessionStore
    from .protocol import SessionStore
    from .sqlite import SQLiteSessionStore
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "address": "open_store",
            "entries": (
                "InboxItem Reserved SessionEntry SessionKey SessionState"
            ),
            "memory": "MemorySessionStore",
            "postgres": "PostgresSessionStore",
            "protocol": "SessionStore",
            "sqlite": "SQLiteSessionStore",
        },
    )


__all__ = [
    "InboxItem",
    "MemorySessionStore",
    "PostgresSessionStore",
    "Reserved",
    "SQLiteSessionStore",
    "SessionEntry",
    "SessionKey",
    "SessionState",
    "SessionStore",
    "open_store",
]
