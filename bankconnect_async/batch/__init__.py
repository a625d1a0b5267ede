"""
Create sessions for many customers, one outcome for each input.
"""

from .outcomes import Created, Failed, Item, Outcome, Source
from .session_batch import SessionBatch


__all__ = ["Created", "Failed", "Item", "Outcome", "SessionBatch", "Source"]
