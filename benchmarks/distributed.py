"""
Measure batches on the workers of a local Dask cluster.

    python -m benchmarks.distributed scaling   one worker beside two
    python -m benchmarks.distributed limit     two at one token bucket

`scaling` runs the same batch on one and on two worker processes, in turns,
at a server whose responses are late; the first of each pair alternates.
`limit` runs two workers at a server that accepts 300 requests per second.
Starting the clusters does not count.
"""

import argparse
import asyncio
import os
import statistics
import tempfile

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from distributed import LocalCluster

from bankconnect_async.distributed import (
    DistributedBatch,
    create_sessions_distributed,
)

from .rate_control.scenarios import SOCKET_SCENARIOS
from .rate_control.simulator import Score, score
from .rate_control.sockets import link_ids, serve_scenario
from .serving import serve_ours


_LATENCY: Final = 0.05
_WORKERS: Final = 2


@asynccontextmanager
async def prepare(
    items: Iterable[str], workers: int, base_url: str, concurrency: int
) -> AsyncIterator[DistributedBatch]:
    """Start a cluster, and prepare a batch on it."""
    async with LocalCluster(
        n_workers=workers,
        threads_per_worker=2,
        dashboard_address="127.0.0.1:0",
        asynchronous=True,
    ) as cluster:
        with tempfile.TemporaryDirectory(prefix="bench-") as home:
            yield create_sessions_distributed(
                items,
                cluster=cluster.scheduler_address,
                journal=Path(home) / "out.jsonl",
                concurrency=concurrency,
                base_url=base_url,
                redirect_url=None,
            )


async def measure_speed(
    workers: int, base_url: str, options: argparse.Namespace
) -> float:
    """Return the sessions per second of one batch."""
    items = (f"customer-{number}" for number in range(options.rows))
    async with prepare(items, workers, base_url, options.concurrency) as batch:
        stats = await batch
    assert stats.created == options.rows
    return stats.created / stats.seconds


def compare(options: argparse.Namespace) -> None:
    """Print how much faster two workers are than one."""
    ratios = []
    with serve_ours(_LATENCY) as target:
        for pair in range(options.pairs):
            order = (1, 2) if pair % 2 else (2, 1)
            rates = {
                workers: asyncio.run(
                    measure_speed(workers, target.base_url, options)
                )
                for workers in order
            }
            ratios.append(rates[2] / rates[1])
            print(
                f"one worker {rates[1]:,.0f}/s, two {rates[2]:,.0f}/s: "
                f"{ratios[-1]:.2f}"
            )
    print(
        f"median {statistics.median(ratios):.2f}, "
        f"{min(ratios):.2f} to {max(ratios):.2f}"
    )


async def create_for(
    seconds: float, base_url: str, options: argparse.Namespace
) -> None:
    """Create sessions for the items that come in so many *seconds*."""
    async with prepare(
        link_ids(seconds), _WORKERS, base_url, options.concurrency
    ) as batch:
        await batch


def measure_limit(options: argparse.Namespace) -> Score:
    """Return how well two workers use one limit."""
    scenario = SOCKET_SCENARIOS["constant"]
    with serve_scenario(scenario) as server:
        asyncio.run(create_for(options.seconds, server.base_url, options))
    return score(server.run, scenario.limit(), 0, options.seconds)


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.distributed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=["scaling", "limit"])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    os.environ["BANKCONNECT_API_KEY"] = "benchmark-key"
    if options.what == "scaling":
        compare(options)
        return
    reached = measure_limit(options)
    print(
        f"two workers at 300/s, {options.seconds:g} s: "
        f"{reached.utilisation:.1f} % used, {reached.refused:.1f} % refused"
    )


if __name__ == "__main__":
    main()
