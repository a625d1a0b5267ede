"""
Keep every outcome on disk, and resume from there.
"""

from .journal import (
    Journal,
    read_journal,
)
from .merging import Conflict, MergeResult, merge_journals
from .records import (
    CreatedRecord,
    FailedRecord,
    Record,
)


__all__ = [
    "Conflict",
    "CreatedRecord",
    "FailedRecord",
    "Journal",
    "MergeResult",
    "Record",
    "merge_journals",
    "read_journal",
]
