"""
``bankconnect batch --dask``: the same rows on the workers of a cluster.
"""

from typing import Any

from bankconnect_async.distributed.coordinator import DistributedBatch

from .run import BatchRun


async def run_on_cluster(run: BatchRun, **options: Any) -> None:
    """
    Create a session for every row on the workers of a cluster.

    Args:
        run: The run.
        **options: The arguments of `DistributedBatch` that come from the
            command line.

    Raises:
        ConfigurationError: If there is no cluster, or a worker cannot make
            its client.
    """
    batch = DistributedBatch(
        source=run.requests(),
        journal=run.journal,
        rate=run.rate,
        on_ready=run.check_redirect_url,
        on_warning=run.progress.print,
        **options,
    )
    await run.process(batch, batch)
