"""
Measure a batch with a journal on several processes beside one process.

    python -m benchmarks.processes

Both have as many requests in flight in all, and take turns at nginx with a
static answer, each in a process of its own. The first of each pair
alternates. Starting the processes does not count.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from bankconnect_async.distributed import create_sessions_in_processes
from bankconnect_async.journal import Journal

from .batch import RETURN_URL, connect
from .contenders import link_ids
from .report import ROOT
from .serving import serve


_WARM_UP: Final = 1000


@attrs.frozen
class Usage:
    """
    What a batch took.

    Attributes:
        seconds: The time.
        parent: The CPU time of the process that writes the journal.
        workers: The CPU time of the others.
    """

    seconds: float
    parent: float
    workers: float

    def above(self, other: "Usage", rows: int) -> "Usage":
        """Return what each of so many rows took, above another batch."""
        return Usage(
            (self.seconds - other.seconds) / rows,
            (self.parent - other.parent) / rows,
            (self.workers - other.workers) / rows,
        )


async def run_alone(base_url: str, rows: int, concurrency: int) -> float:
    """Run a batch in this process, and return its seconds."""
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        async with connect(base_url) as bank:
            batch = bank.create_sessions(
                link_ids(rows),
                concurrency=concurrency,
                journal=Journal(Path(home, "out.jsonl")),
            )
            stats = await batch.run()
    assert stats.created == rows
    return stats.seconds


async def run_on(
    processes: int, base_url: str, rows: int, concurrency: int
) -> float:
    """Run a batch on so many processes, and return its seconds."""
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        stats = await create_sessions_in_processes(
            link_ids(rows),
            processes=processes,
            journal=Path(home, "out.jsonl"),
            concurrency=concurrency,
            environ={"BANKCONNECT_API_KEY": "key"},
            base_url=base_url,
            redirect_url=RETURN_URL,
        )
    assert stats.created == rows
    return stats.seconds


def measure(options: argparse.Namespace, rows: int) -> Usage:
    """Run one batch in this process, or in children of it."""
    work = (
        run_on(options.only, options.server, rows, options.concurrency)
        if options.only > 1
        else run_alone(options.server, rows, options.concurrency)
    )
    before = _cpu()
    seconds = asyncio.run(work)
    parent, workers = (
        after - was for was, after in zip(before, _cpu(), strict=True)
    )
    return Usage(seconds, parent, workers)


def _cpu() -> list[float]:
    # Of children only those that have ended count, as all of them have.
    return [
        sum(resource.getrusage(who)[:2])
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]


def _measure_apart(
    processes: int, server: str, options: argparse.Namespace
) -> Usage:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.processes"),
            *(f"--only={processes}", f"--server={server}"),
            *(
                f"--rows={options.rows}",
                f"--concurrency={options.concurrency}",
            ),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    return Usage(**json.loads(done.stdout))


def _pairs(
    server: str, options: argparse.Namespace
) -> Iterator[tuple[Usage, Usage]]:
    for pair in range(options.pairs):
        order = [1, options.processes]
        if pair % 2:
            order.reverse()
        found = {each: _measure_apart(each, server, options) for each in order}
        yield found[1], found[options.processes]


def compare(options: argparse.Namespace) -> None:
    """Print how much faster several processes are than one."""
    count, pairs = options.processes, []
    print(f"cores: {os.cpu_count()}; load: {os.getloadavg()[0]:.1f}")
    with serve() as service:
        for one, many in _pairs(service.plain.base_url, options):
            pairs.append((one, many))
            print(
                f"one {1 / one.seconds:7,.0f}/s at {_share(one):3.0f} % of a "
                f"core, {count} {1 / many.seconds:7,.0f}/s: "
                f"{one.seconds / many.seconds:.2f}",
                flush=True,
            )
    ratios = [one.seconds / many.seconds for one, many in pairs]
    alone = _median_us(one.parent for one, _ in pairs)
    parent = _median_us(many.parent for _, many in pairs)
    workers = _median_us(many.workers for _, many in pairs)
    print(
        f"median {statistics.median(ratios):.2f}, {min(ratios):.2f} to "
        f"{max(ratios):.2f}\n"
        f"CPU us/row: one process {alone:.0f}; parent {parent:.1f}, workers "
        f"{workers:.0f}\n"
        f"so {count} processes and their parent, on a core each, reach "
        f"{alone / max(parent, workers / count):.2f}, and on {count} cores "
        f"for all of them {alone / (parent + workers) * count:.2f}"
    )


def _share(usage: Usage) -> float:
    return 100 * usage.parent / usage.seconds


def _median_us(values: Iterator[float]) -> float:
    return statistics.median(values) * 1e6


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.processes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--server", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.server is None:
        compare(options)
        return
    base = measure(options, _WARM_UP)
    usage = measure(options, _WARM_UP + options.rows)
    print(json.dumps(attrs.asdict(usage.above(base, options.rows))))


if __name__ == "__main__":
    main()
