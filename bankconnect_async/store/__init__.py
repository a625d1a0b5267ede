"""
Stores of sessions: what became of each, for every process of a service.

`SessionStore` is the protocol. What it keeps are `SessionEntry` and
`InboxItem`.
"""

from .entries import (
    InboxItem,
    Reserved,
    SessionEntry,
    SessionKey,
    SessionState,
)
from .protocol import SessionStore


__all__ = [
    "InboxItem",
    "Reserved",
    "SessionEntry",
    "SessionKey",
    "SessionState",
    "SessionStore",
]
