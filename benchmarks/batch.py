"""
What `create_sessions` promises of many sessions, measured.

    python benchmarks/batch.py memory     a million rows beside ten thousand
    python benchmarks/batch.py latency    beside naive workers, at 50 ms
    python benchmarks/batch.py throttle   at a server with a rate limit

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

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import attrs

from bankconnect_async import AsyncBankConnect, Created


RETURN_URL = "https://lender.example/return"


@attrs.define
class Server:
    """
    The other process.

    Attributes:
        base_url: Where it is.
        report: What it said at the end.
    """

    base_url: str
    report: dict[str, Any] = attrs.Factory(dict)


@contextmanager
def serve(**settings: float) -> Iterator[Server]:
    """Run a server with these settings of `limited.py`."""
    arguments = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in settings.items()
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.limited", *arguments],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())
        server = Server(f"http://127.0.0.1:{port}/bank-connect")
        try:
            yield server
        finally:
            process.stdin.close()
            server.report = json.loads(process.stdout.readline())


def connect(base_url: str) -> AsyncBankConnect:
    """Make a client with the usual settings."""
    return AsyncBankConnect("key", base_url=base_url, redirect_url=RETURN_URL)


def link_ids(count: int) -> Iterator[str]:
    """Yield so many link ids, one by one."""
    return (f"customer-{number}" for number in range(count))


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
    with serve() as server:
        for rows in sizes:
            # A small run is over in a moment: it is repeated, and its median
            # compared.
            runs = [
                json.loads(
                    subprocess.run(
                        [
                            sys.executable,
                            __file__,
                            "memory",
                            f"--rows={rows}",
                            f"--server={server.base_url}",
                        ],
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


# throttle


async def run_throttled(
    base_url: str, seconds: float, concurrency: int
) -> dict[str, int]:
    """Create sessions for so long, and settle what was begun."""
    found = {"created": 0, "failed": 0}

    def endless() -> Iterator[str]:
        ends = time.monotonic() + seconds
        number = 0
        while time.monotonic() < ends:
            yield f"customer-{number}"
            number += 1

    async with (
        connect(base_url) as bank,
        bank.create_sessions(endless(), concurrency=concurrency) as outcomes,
    ):
        async for outcome in outcomes:
            good = isinstance(outcome, Created)
            found["created" if good else "failed"] += 1
    return found | {"taken": outcomes.stats().taken}


def compare_throttled(
    *, rate: float, latency: float, concurrency: int, seconds: int
) -> None:
    """Print how much of the limit was reached, and how much was refused."""
    with serve(
        latency=latency, rate=rate, burst=rate / 10, retry_after=1
    ) as server:
        found = asyncio.run(
            run_throttled(server.base_url, seconds, concurrency)
        )
    served = server.report["served"][:seconds]
    refused = server.report["refused"][3:]
    later = sum(refused) + sum(server.report["served"][3:])
    print(
        f"{concurrency} workers, {latency * 1000:g} ms: "
        f"{sum(served) / seconds / rate:.1%} of {rate:g}/s over {seconds} s, "
        f"{sum(refused) / later:.2%} refused after 3 s; "
        f"{found['taken']} taken, {found['created']} created, "
        f"{found['failed']} failed"
    )
    print("  served each second:", *server.report["served"])


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["memory", "latency", "throttle"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--server", help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--latency", type=float)
    parser.add_argument("--rate", type=float, default=300)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    match options.what:
        case "memory" if options.server is not None:
            figures = asyncio.run(measure_rows(options.server, options.rows))
            print(json.dumps(figures))
        case "memory":
            compare_memory(
                [10_000, options.rows or 1_000_000], options.repeats
            )
        case "latency":
            with serve(latency=options.latency or 0.05) as server:
                asyncio.run(
                    compare_latency(
                        server.base_url,
                        options.rows or 10_000,
                        options.concurrency,
                        options.repeats,
                    )
                )
        case _:
            compare_throttled(
                rate=options.rate,
                latency=options.latency or 0.02,
                concurrency=options.concurrency,
                seconds=options.seconds,
            )


if __name__ == "__main__":
    main()
