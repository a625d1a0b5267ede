"""
The same rows on several processes, or on the workers of a Dask cluster.
"""

from typing import Any

from bankconnect_async.cli.options import ApiOptions
from bankconnect_async.distributed.coordinator import DistributedBatch
from bankconnect_async.distributed.processes import ProcessBatch
from bankconnect_async.distributed.worker_batch import WorkerBatch

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
    await _run(run, DistributedBatch, **options)


async def run_on_processes(
    run: BatchRun, api: ApiOptions, **options: Any
) -> None:
    """
    Create a session for every row on several processes of this machine.

    Args:
        run: The run.
        api: The options of the API.
        **options: The arguments of `ProcessBatch` that come from the command
            line.

    Raises:
        ConfigurationError: If a process cannot be started, or cannot make
            its client.
    """
    async with api.serve() as (environ, settings):
        await _run(
            run, ProcessBatch, environ=environ, settings=settings, **options
        )


async def _run(
    run: BatchRun, make_batch: type[WorkerBatch], **options: Any
) -> None:
    batch = make_batch(
        source=run.requests(),
        journal=run.journal,
        rate=run.rate,
        on_ready=run.check_redirect_url,
        on_warning=run.progress.print,
        **options,
    )
    await run.process(batch, batch)
