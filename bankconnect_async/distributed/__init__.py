"""
Create sessions on a Dask cluster (extra ``[dask]``).
"""

from .coordinator import (
    DistributedBatch,
    create_sessions_distributed,
)


__all__ = [
    "DistributedBatch",
    "create_sessions_distributed",
]
