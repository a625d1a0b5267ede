"""
Keep every outcome on disk, and resume from there.
"""

from .journal import (
    Journal,
    read_journal,
)
from .records import (
    CreatedRecord,
    FailedRecord,
    Record,
)


__all__ = [
    "CreatedRecord",
    "FailedRecord",
    "Journal",
    "Record",
    "read_journal",
]
