"""
Create sessions on several processes, or on a Dask cluster (extra ``[dask]``).
"""

from typing import TYPE_CHECKING

from bankconnect_async._lazy import lazy_names


if TYPE_CHECKING:
    from .coordinator import DistributedBatch, create_sessions_distributed
    from .processes import ProcessBatch, create_sessions_in_processes
else:
    # A worker process does not need its coordinator.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "coordinator": "DistributedBatch create_sessions_distributed",
            "processes": "ProcessBatch create_sessions_in_processes",
        },
    )


__all__ = [
    "DistributedBatch",
    "ProcessBatch",
    "create_sessions_distributed",
    "create_sessions_in_processes",
]
