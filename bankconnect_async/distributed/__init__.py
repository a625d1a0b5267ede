"""
Create sessions on several processes, or on a Dask cluster (extra ``[dask]``).
"""

from .coordinator import (
    DistributedBatch,
    create_sessions_distributed,
)
from .processes import ProcessBatch, create_sessions_in_processes


__all__ = [
    "DistributedBatch",
    "ProcessBatch",
    "create_sessions_distributed",
    "create_sessions_in_processes",
]
