"""
CPU time per created session: this package beside naive aiohttp code.

Both run in this process, on one event loop, in interleaved blocks, so that
the machine's moods meet both alike; what counts is the median ratio of the
pairs. The server is another process.
"""

import argparse
import asyncio
import gc
import statistics
import subprocess
import sys
import time

from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from bankconnect_async import AsyncBankConnect


Create = Callable[[str], Awaitable[object]]

CONNECTIONS = 100
WARM_UP = 1000


async def cpu_per_call(create: Create, count: int) -> float:
    """Return the microseconds of CPU that one call of *create* takes."""
    ids = iter([f"customer-{n}" for n in range(count)])

    async def work() -> None:
        for link_id in ids:
            await create(link_id)

    started = time.process_time()
    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return (time.process_time() - started) / count * 1e6


async def compare(base_url: str, blocks: int, size: int) -> None:
    """Print both costs and their ratio."""
    url = f"{base_url}/v1/session/"
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        AsyncBankConnect(
            "key",
            base_url=base_url,
            redirect_url="https://lender.example/return",
        ) as bank,
    ):

        async def naive(link_id: str) -> object:
            body = {
                "link_id": link_id,
                "api_key": "key",
                "redirect_url": "https://lender.example/return",
            }
            async with session.post(url, json=body) as answer:
                return (await answer.json())["redirect_url"]

        contenders: dict[str, Create] = {
            "naive aiohttp": naive,
            "create_session": bank.create_session,
        }
        for create in contenders.values():
            await cpu_per_call(create, WARM_UP)
        costs: dict[str, list[float]] = {name: [] for name in contenders}
        gc.disable()
        for _ in range(blocks):
            for name, create in contenders.items():
                costs[name].append(await cpu_per_call(create, size))
                gc.collect()
    base = costs["naive aiohttp"]
    print(f"{'':16}{'CPU us/session':>16}{'ratio':>8}")
    for name, values in costs.items():
        ratio = statistics.median(
            ours / theirs for ours, theirs in zip(values, base, strict=True)
        )
        print(f"{name:16}{statistics.median(values):16.1f}{ratio:8.3f}")


def main() -> None:
    """Run the comparison against a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--size", type=int, default=500)
    options = parser.parse_args()
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("server.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        base_url = f"http://127.0.0.1:{port}/bank-connect"
        asyncio.run(compare(base_url, options.blocks, options.size))
        assert server.stdin is not None
        server.stdin.close()


if __name__ == "__main__":
    main()
