"""
Create sessions for many customers, one outcome for each input.
"""

from .session_batch import (
    Created,
    Failed,
    Item,
    Outcome,
    SessionBatch,
    Source,
    check_number,
    check_source,
    make_limiter,
    stopped,
)


__all__ = [
    "Created",
    "Failed",
    "Item",
    "Outcome",
    "SessionBatch",
    "Source",
    "check_number",
    "check_source",
    "make_limiter",
    "stopped",
]
