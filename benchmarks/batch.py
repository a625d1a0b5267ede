"""
What `create_sessions` promises of many sessions, measured.

    python -m benchmarks.batch memory     a million rows beside ten thousand
    python -m benchmarks.batch latency    beside naive workers, at 50 ms

The server is another process.
"""

import argparse
import asyncio
import gc
import json
import resource
import statistics
import subprocess
import sys
import time

import aiohttp

from bankconnect_async import AsyncBankConnect, Created

from .contenders import link_ids
from .report import ROOT
from .serving import serve_ours


RETURN_URL = "https://lender.example/return"


def connect(base_url: str) -> AsyncBankConnect:
    """Make a client with the usual settings."""
    return AsyncBankConnect("key", base_url=base_url, redirect_url=RETURN_URL)


async def create(bank: AsyncBankConnect, rows: int, concurrency: int) -> int:
    """Run one batch, and return how many sessions came of it."""
    created = 0
    async with bank.create_sessions(
        link_ids(rows), concurrency=concurrency
    ) as outcomes:
        async for outcome in outcomes:
            created += isinstance(outcome, Created)
    return created


# memory


async def measure_rows(base_url: str, rows: int) -> dict[str, float]:
    """Return what so many rows take, in this process."""
    async with connect(base_url) as bank:
        await create(bank, 1000, 64)
        wall, cpu = time.monotonic(), time.process_time()
        created = await create(bank, rows, 64)
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    assert created == rows, f"{created} of {rows}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "peak_mb": peak,
        "rows_per_second": rows / wall,
        "cpu_us_per_row": cpu / rows * 1e6,
    }


def compare_memory(sizes: list[int], repeats: int) -> None:
    """Print memory and rate of each size, each in processes of its own."""
    print(f"{'rows':>9}{'peak MB':>10}{'rows/s':>9}{'CPU us/row':>12}")
    with serve_ours() as server:
        for rows in sizes:
            # A small run is over in a moment: it is repeated, and its median
            # compared.
            runs = [
                json.loads(
                    subprocess.run(
                        [
                            sys.executable,
                            "-m",
                            "benchmarks.batch",
                            "memory",
                            f"--rows={rows}",
                            f"--server={server.base_url}",
                        ],
                        cwd=ROOT,
                        stdout=subprocess.PIPE,
                        check=True,
                    ).stdout
                )
                for _ in range(repeats if rows < max(sizes) else 1)
            ]
            peak, rate, cpu = (
                statistics.median(run[name] for run in runs)
                for name in ("peak_mb", "rows_per_second", "cpu_us_per_row")
            )
            print(f"{rows:9,}{peak:10.1f}{rate:9.0f}{cpu:12.1f}", flush=True)


# latency


async def run_naive(base_url: str, rows: int, concurrency: int) -> int:
    """Do what everybody writes: workers over one iterator."""
    url = f"{base_url}/v1/session/"
    source = link_ids(rows)
    created = 0

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal created
        for link_id in source:
            body = {
                "link_id": link_id,
                "api_key": "key",
                "redirect_url": RETURN_URL,
            }
            async with session.post(url, json=body) as answer:
                created += bool((await answer.json())["redirect_url"])

    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(work(session) for _ in range(concurrency)))
    return created


async def run_ours(base_url: str, rows: int, concurrency: int) -> int:
    """Do it with a batch."""
    async with connect(base_url) as bank:
        return await create(bank, rows, concurrency)


async def compare_latency(
    base_url: str, rows: int, concurrency: int, blocks: int
) -> None:
    """Print the rates of both, and the ratio of each pair."""
    rates: list[tuple[float, float]] = []
    for block in range(blocks + 1):
        pair = []
        for run in (run_naive, run_ours):
            gc.collect()
            started = time.monotonic()
            created = await run(base_url, rows, concurrency)
            assert created == rows, f"{created} of {rows}"
            pair.append(rows / (time.monotonic() - started))
        if block:
            # The first pair only warms up.
            rates.append((pair[0], pair[1]))
            print(
                f"naive {pair[0]:7.0f} rows/s, batch {pair[1]:7.0f} rows/s, "
                f"ratio {pair[1] / pair[0]:.3f}",
                flush=True,
            )
    ratio = statistics.median(ours / naive for naive, ours in rates)
    print(f"median ratio {ratio:.3f}")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["memory", "latency"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--server", help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.05)
    options = parser.parse_args()
    match options.what:
        case "memory" if options.server is not None:
            figures = asyncio.run(measure_rows(options.server, options.rows))
            print(json.dumps(figures))
        case "memory":
            compare_memory(
                [10_000, options.rows or 1_000_000], options.repeats
            )
        case _:
            with serve_ours(options.latency) as server:
                asyncio.run(
                    compare_latency(
                        server.base_url,
                        options.rows or 10_000,
                        options.concurrency,
                        options.repeats,
                    )
                )


if __name__ == "__main__":
    main()
