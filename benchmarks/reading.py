"""
What reading a large response costs, beside `orjson.loads` of its bytes.

    python -m benchmarks reading

The response is the insights of a session with two accounts and 20,000
transactions. Each way of reading takes turns with orjson, which keeps neither
the digits of amounts nor the types of fields.
"""

import argparse
import asyncio
import gc
import json
import random
import statistics
import subprocess
import sys
import time

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import orjson

from aiohttp import web

from bankconnect_async import AsyncBankConnect
from bankconnect_async._codec.responses import decode
from bankconnect_async.models import Insights

from . import history
from .measure import quartiles
from .report import PAGE, ROOT, describe, replace_block, table
from .solo import peak


#: The most times the CPU time of `orjson.loads`, by the way of reading.
TARGETS: Final = {"open": 1.2, "read every row": 3.0, "to Arrow": 4.0}
#: The most memory that `transactions()` takes, in MiB.
MEMORY_TARGET: Final = 150
_ENTITY: Final = "f5057fee-4c3e-4459-82dd-21250b729601"
_ACCOUNTS: Final = 2
_CATEGORIES: Final = "Salary", "Bills", "Transfers", "Shopping", "Others"


def transaction(number: int, rng: random.Random) -> dict[str, Any]:
    """Return the line *number* of a statement, as the vendor writes it."""
    party = f"SAMPLE PARTY {number % 97}"
    return {
        "transaction_type": rng.choice(["credit", "debit"]),
        "transaction_note": f"UPI/{number:012d}/{party}",
        "chq_num": "",
        "amount": round(rng.uniform(1, 99_999), 2),
        "balance": round(rng.uniform(1, 9_999_999), 2),
        "date": f"{2025 + number % 2}-{number % 12 + 1:02d}"
        f"-{number % 28 + 1:02d} 00:00:00",
        "hash": f"{rng.getrandbits(128):032x}",
        "category": rng.choice(_CATEGORIES),
    }


def insights(rows: int) -> bytes:
    """Return the insights of a session with so many transactions."""
    rng = random.Random(1)  # noqa: S311 - not for secrets
    return json.dumps(
        {
            "session_id": "d8aaa1f6-d2b6-41ba-9e97-f5f843c901ee",
            "link_id": "customer-1",
            "accounts": [
                {
                    "account_id": f"account-{account}",
                    "data": {
                        "account_details": {"bank": "axis"},
                        "transactions": [
                            {
                                **transaction(number, rng),
                                "metadata": {
                                    "unclean_merchant": "SAMPLE",
                                    "transaction_channel": "upi",
                                    "description": "",
                                },
                            }
                            for number in range(rows // _ACCOUNTS)
                        ],
                    },
                }
                for account in range(_ACCOUNTS)
            ],
        },
        separators=(",", ":"),
    ).encode()


def transactions(rows: int) -> bytes:
    """Return the response of `transactions/` with so many rows."""
    rng = random.Random(1)  # noqa: S311 - not for secrets
    return json.dumps(
        {
            "entity_id": _ENTITY,
            "transactions": [
                {
                    **transaction(number, rng),
                    "description": "",
                    "transaction_channel": "upi",
                    "account_id": "account-1",
                }
                for number in range(rows)
            ],
        }
    ).encode()


def open_(raw: bytes) -> Insights:
    """Decode the response, and read none of its rows."""
    return decode(Insights, raw)


def read_rows(raw: bytes) -> list[object]:
    """Decode the response, and read the date and amount of each row."""
    return [
        (row.date, row.amount)
        for account in decode(Insights, raw).accounts
        for row in account.transactions
    ]


def to_arrow(raw: bytes) -> list[object]:
    """Decode the response, and make Arrow tables of the rows."""
    return [
        account.transactions.to_arrow()
        for account in decode(Insights, raw).accounts
    ]


_WAYS: Final[Mapping[str, Callable[[bytes], object]]] = {
    "open": open_,
    "read every row": read_rows,
    "to Arrow": to_arrow,
}


@attrs.frozen(kw_only=True)
class Cost:
    """
    The cost of one way of reading.

    Attributes:
        cpu: The milliseconds of CPU time; the median.
        ratio: The ratio to `orjson.loads` in the same turn; the median.
        low, high: The quartiles of the ratios.
    """

    cpu: float
    ratio: float
    low: float
    high: float


def _cpu(read: Callable[[bytes], object], raw: bytes) -> float:
    # Objects of others are neither traversed nor freed at its expense.
    gc.collect()
    gc.freeze()
    started = time.process_time()
    result = read(raw)
    seconds = time.process_time() - started
    del result
    gc.unfreeze()
    return seconds


def compare(
    ways: Mapping[str, Callable[[bytes], object]], raw: bytes, rounds: int
) -> dict[str, Cost]:
    """
    Measure *ways*, each in turns with `orjson.loads`.

    Args:
        ways: The ways, by their names.
        raw: The bytes of the response.
        rounds: The number of turns.
    """
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, read in ways.items():
            pair = _cpu(orjson.loads, raw), _cpu(read, raw)
            if number:
                # The first turn only warms up.
                pairs[name].append(pair)
    return {name: _summarize(found) for name, found in pairs.items()}


def _summarize(pairs: list[tuple[float, float]]) -> Cost:
    ratios = [ours / base for base, ours in pairs]
    low, middle, high = quartiles(ratios)
    return Cost(
        cpu=statistics.median(ours for _, ours in pairs) * 1e3,
        ratio=middle,
        low=low,
        high=high,
    )


# memory


async def _fetch(raw: bytes, rows: int) -> float:
    async def respond(_: web.Request) -> web.Response:
        return web.Response(body=raw, content_type="application/json")

    app = web.Application()
    app.router.add_get("/{path:.*}", respond)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/bank-connect"
    async with AsyncBankConnect(
        "key", server_hash="hash", base_url=url, redirect_url=None
    ) as bank:
        idle = peak()
        found = await bank.entity(_ENTITY).transactions()
        assert len(found.transactions) == rows
        assert all(row.amount for row in found.transactions)
        grown = peak() - idle
    await runner.cleanup()
    return grown


def measure_memory(rows: int) -> float:
    """
    Return what `transactions()` adds to the peak of an idle client, in MiB.

    It runs in a process of its own, whose server holds the response already.
    """
    command = [sys.executable, "-m", "benchmarks.reading", str(rows)]
    child = subprocess.run(
        command,
        cwd=ROOT,
        input=transactions(rows),
        stdout=subprocess.PIPE,
        check=True,
    )
    return float(child.stdout)


# report


def render(costs: Mapping[str, Cost], memory: float) -> str:
    """Return the results as a table, and the memory below it."""
    rows = [
        [
            name,
            f"{cost.cpu:.1f}",
            f"{cost.ratio:.2f}",
            f"{cost.low:.2f} - {cost.high:.2f}",
            f"{TARGETS[name]:.1f}" if name in TARGETS else "-",
        ]
        for name, cost in costs.items()
    ]
    header = ["", "CPU ms", "x orjson", "quartiles", "at most"]
    return (
        f"{table(header, rows)}\n\n"
        f"`transactions()` of 20,000 rows, all of them read: {memory:.0f} MiB "
        f"above an idle client (target: at most {MEMORY_TARGET})."
    )


def run(options: argparse.Namespace) -> None:
    """Measure all ways, and print the tables."""
    raw = insights(options.rows)
    ways = {"orjson.loads": orjson.loads, **_WAYS}
    costs = compare(ways, raw, options.rounds)
    text = render(costs, measure_memory(options.rows))
    print(text)
    if options.publish:
        replace_block(PAGE, "reading", text)
        history.append(history.PATH, describe("none"), _figures(costs))


def _figures(costs: Mapping[str, Cost]) -> dict[str, history.Figure]:
    return {
        history.column_of(f"reading {name}"): history.Figure(
            cost.ratio, cost.low, cost.high
        )
        for name, cost in costs.items()
        if name in TARGETS
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--publish", action="store_true", help="write it into the README"
    )


if __name__ == "__main__":
    print(asyncio.run(_fetch(sys.stdin.buffer.read(), int(sys.argv[1]))))
