"""
How much faster two worker processes are than one.

``python -m benchmarks.distributed`` runs the same batch on Dask clusters of
one and of two processes, in turns, against a server whose answers are late.
Starting the clusters does not count, and the first of each pair alternates.
"""

import argparse
import asyncio
import os
import statistics
import tempfile

from pathlib import Path
from typing import Final

from distributed import LocalCluster

from bankconnect_async.distributed import create_sessions_distributed

from .serving import serve_ours


_LATENCY: Final = 0.05


async def measure(
    workers: int, base_url: str, options: argparse.Namespace
) -> float:
    """Return the sessions per second of one batch."""
    async with LocalCluster(
        n_workers=workers,
        threads_per_worker=2,
        dashboard_address="127.0.0.1:0",
        asynchronous=True,
    ) as cluster:
        with tempfile.TemporaryDirectory(prefix="bench-") as home:
            stats = await create_sessions_distributed(
                (f"customer-{number}" for number in range(options.rows)),
                cluster=cluster.scheduler_address,
                journal=Path(home) / "out.jsonl",
                concurrency=options.concurrency,
                base_url=base_url,
                redirect_url=None,
            )
    assert stats.created == options.rows
    return stats.created / stats.seconds


def main() -> None:
    """Measure, and print the ratio of each pair."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.distributed", description=__doc__
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    os.environ["BANKCONNECT_API_KEY"] = "benchmark-key"
    ratios = []
    with serve_ours(_LATENCY) as target:
        for pair in range(options.pairs):
            order = (1, 2) if pair % 2 else (2, 1)
            rates = {
                workers: asyncio.run(
                    measure(workers, target.base_url, options)
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


if __name__ == "__main__":
    main()
