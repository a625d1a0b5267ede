"""
How a batch with a journal grows with its rows, and how its resume starts.

    python -m benchmarks growth --rows 1000000

One process creates the sessions of so many link ids at the static answer of
nginx, and notes after each part what it cost. A second process then resumes:
its source has one link id more, and the start is over when that one has its
session, because all others are known to be done by then.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs

from bankconnect_async import Created
from bankconnect_async.journal import Journal

from .contenders import CONNECTIONS, Setting, Target, link_ids, open_client
from .measure import quartiles
from .report import PAGE, ROOT, replace_block, say, table
from .solo import peak


#: The most bytes of memory that a row adds.
BYTES_TARGET: Final = 16
#: The most seconds of a resume's start, for each million rows.
RESUME_TARGET: Final = 30
#: The rows of a part.
PART: Final = 20_000
#: The rows of the first line of the table, which others are compared with.
BASE: Final = 100_000
_MILLION: Final = 1_000_000
_MEBIBYTE: Final = 2**20
# How often the yardstick encodes and decodes its record.
_TIMES: Final = 500


@attrs.frozen(kw_only=True)
class Part:
    """
    Some rows of a batch.

    Attributes:
        rows: The number of rows up to its end.
        cpu: The microseconds of CPU for each of its rows.
        yardstick: The microseconds of CPU that a fixed piece of work took at
            its end, which tell how fast the machine was.
        peak: The peak memory so far, in MiB.
        size: The bytes of the journal.
    """

    rows: int
    cpu: float
    yardstick: float
    peak: float
    size: int


@attrs.frozen(kw_only=True)
class Resume:
    """
    The start of a resume.

    Attributes:
        rows: The number of rows that were done.
        opened: The seconds until the journal was read.
        seconds: The seconds until all rows were known to be done, and a new
            one had its session.
        cpu: The same in seconds of CPU.
        peak: The peak memory in MiB.
    """

    rows: int
    opened: float
    seconds: float
    cpu: float
    peak: float


async def run_batch(
    target: Target, path: Path, rows: int
) -> AsyncIterator[Part]:
    """
    Create sessions with a journal, in this process; yields each part.

    Args:
        target: The server.
        path: The path of the new journal.
        rows: The number of rows.
    """
    async with (
        open_client(Setting(target=target)) as bank,
        bank.create_sessions(
            link_ids(rows), concurrency=CONNECTIONS, journal=Journal(path)
        ) as outcomes,
    ):
        before, created = time.process_time(), 0
        async for outcome in outcomes:
            assert isinstance(outcome, Created)
            created += 1
            if not created % PART:
                yield _end_part(created, time.process_time() - before, path)
                before = time.process_time()
    assert created == rows, f"{created} of {rows}"


def _end_part(rows: int, cpu: float, path: Path) -> Part:
    # Nothing else of this process runs meanwhile.
    return Part(
        rows=rows,
        cpu=cpu / PART * 1e6,
        yardstick=_measure_yardstick(),
        peak=peak(),
        size=path.stat().st_size,
    )


def _measure_yardstick() -> float:
    record = {"link_id": "customer-1", "line": 1, "seconds": 0.1}
    before = time.process_time()
    for _ in range(_TIMES):
        record = json.loads(json.dumps(record))
    return (time.process_time() - before) * 1e6


async def run_resume(
    target: Target, path: Path, rows: int
) -> AsyncIterator[Resume]:
    """
    Resume a batch that is done but for one more row; yields its cost.

    Args:
        target: The server.
        path: The path of the journal.
        rows: The number of rows that it holds.
    """
    async with open_client(Setting(target=target)) as bank:
        start, cpu = time.monotonic(), time.process_time()
        async with bank.create_sessions(
            link_ids(rows + 1), concurrency=CONNECTIONS, journal=Journal(path)
        ) as outcomes:
            opened = time.monotonic() - start
            indexes = [outcome.index async for outcome in outcomes]
            seconds = time.monotonic() - start
            cpu = time.process_time() - cpu
    assert indexes == [rows], indexes
    yield Resume(
        rows=rows, opened=opened, seconds=seconds, cpu=cpu, peak=peak()
    )


_Run: TypeAlias = Callable[
    [Target, Path, int], AsyncIterator[Part] | AsyncIterator[Resume]
]
_RUNS: Final[dict[str, _Run]] = {"batch": run_batch, "resume": run_resume}


def measure(
    target: Target, home: Path | None, rows: int
) -> tuple[list[Part], Resume]:
    """
    Run a batch and its resume, each in a process of its own.

    Args:
        target: The server.
        home: The folder of the journal, which is removed again; by default
            that of temporary files.
        rows: The number of rows.
    """
    with tempfile.TemporaryDirectory(dir=home, prefix="growth-") as folder:
        parts, (resume,) = (
            list(_run_apart(what, rows, folder, target)) for what in _RUNS
        )
    return [Part(**each) for each in parts], Resume(**resume)


def _run_apart(
    what: str, rows: int, folder: str, target: Target
) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.growth", what, str(rows)]
    command += [f"{folder}/journal.jsonl", target.base_url]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            say(f"{what}: {line.decode().strip()}")
            yield json.loads(line)
    assert not process.returncode


def render(parts: Sequence[Part], resume: Resume) -> str:
    """
    Return the results as a table with a line for each power of ten.

    Args:
        parts: The parts of the batch.
        resume: The start of its resume.
    """
    lines = [*_decades(parts[-1].rows)]
    stages = [
        [part for part in parts if start < part.rows <= end]
        for start, end in pairwise([0, *lines])
    ]
    first = stages[0]
    header = [
        "rows", "CPU µs", "x the first", "quartiles", "peak MiB",
        "bytes a row", "journal MB",
    ]  # fmt: skip
    rows = [_row(stage, first) for stage in stages]
    million = resume.rows / _MILLION
    return (
        f"{table(header, rows)}\n\n"
        f"A resume of {resume.rows:,} rows starts after "
        f"{resume.seconds:.0f} s: {resume.seconds / million:.1f} s for each "
        f"million, at most {RESUME_TARGET}, of which reading the journal "
        f"takes {resume.opened / million:.1f} s. In CPU time it is "
        f"{resume.cpu / million:.1f} s for each million, and the peak memory "
        f"is {resume.peak:.0f} MiB."
    )


def _decades(rows: int) -> Iterator[int]:
    end = BASE
    while end < rows:
        yield end
        end *= 10
    yield rows


def _row(stage: Sequence[Part], first: Sequence[Part]) -> list[str]:
    last = stage[-1]
    base = statistics.median(_scaled(part) for part in first)
    costs = [_scaled(part) / base for part in stage]
    low, middle, high = quartiles(costs)
    return [
        f"{last.rows:,}",
        f"{statistics.median(part.cpu for part in stage):.0f}",
        f"{middle:.2f}",
        f"{low:.2f} - {high:.2f}",
        f"{last.peak:.0f}",
        f"{bytes_per_row(first[-1], last):.1f}" if stage != first else "-",
        f"{last.size / 1e6:,.0f}",
    ]


def _scaled(part: Part) -> float:
    return part.cpu / part.yardstick


def bytes_per_row(first: Part, last: Part) -> float:
    """Return the bytes of memory that a row between two parts added."""
    rows = last.rows - first.rows
    return (last.peak - first.peak) * _MEBIBYTE / rows


def run(options: argparse.Namespace) -> None:
    """Measure a batch and its resume, and print the table."""
    # The processes that are measured hold nothing of what it imports.
    from .serving import serve

    if options.rows < BASE or options.rows % PART:
        raise SystemExit(
            f"--rows: must be a multiple of {PART:,}, from {BASE:,}"
        )
    with serve() as service:
        say(f"growth against {service.name}")
        text = render(*measure(service.plain, options.home, options.rows))
    print(text)
    if options.publish:
        replace_block(PAGE, "growth", text)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add = parser.add_argument
    add("--rows", type=int, default=_MILLION, help="by default a million")
    add("--home", type=Path, help="folder for the journal, 300 bytes a row")
    add("--publish", action="store_true", help="write it into the README")


async def _print_costs(
    what: str, rows: str, journal: str, base_url: str
) -> None:
    target = Target(base_url=base_url)
    cost: Part | Resume
    async for cost in _RUNS[what](target, Path(journal), int(rows)):
        print(json.dumps(attrs.asdict(cost)), flush=True)


if __name__ == "__main__":
    asyncio.run(_print_costs(*sys.argv[1:]))
