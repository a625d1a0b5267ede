"""
Measure the report of a large journal in a process of its own.

    python -m benchmarks.journal_report --records 1000000

The journal has a failure for every twentieth link id, and a second run over
those an hour later.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

from pathlib import Path
from typing import Any, Final

import attrs


_ERRORS: Final = "ServerError", "RateLimitError", "RequestTimeoutError"
_CREATED: Final = (
    '{"link_id":"customer-%07d","line":%d,"redirect_url":"https://portal.'
    'example/bank-connect/session?session_id=%032x","session_id":"%032x",'
    '"attempts":1,"api":"portal.example/v1","request":"0123456789abcdef",'
    '"at":"%s","seconds":%.9f}\n'
)
_FAILED: Final = (
    '{"link_id":"customer-%07d","line":%d,"attempts":3,"error":{"type":"%s",'
    '"code":null,"message":"the server responded with 500","fields":{},'
    '"status":500,"delivery":"ambiguous","retry_after":null},'
    '"api":"portal.example/v1","request":"0123456789abcdef","at":"%s"}\n'
)
# Records per second, and the link ids of which the first run misses one.
_RATE: Final = 500
_EVERY: Final = 20


@attrs.frozen(kw_only=True)
class ReportCost:
    """
    The cost of a report.

    Attributes:
        seconds: The time until it was done.
        cpu: The seconds of CPU.
        peak: The peak memory in MiB.
        figures: The figures.
    """

    seconds: float
    cpu: float
    peak: float
    figures: Any


def write_journal(path: Path, records: int) -> None:
    """
    Write a journal.

    Args:
        path: The path of the new file.
        records: The number of records.
    """
    customers = records * _EVERY // (_EVERY + 1)
    with path.open("w") as file:
        for number in range(customers):
            at = _time(number // _RATE)
            if number % _EVERY:
                file.write(_created(number, at))
            else:
                error = _ERRORS[number % len(_ERRORS)]
                file.write(_FAILED % (number, number + 2, error, at))
        start = customers // _RATE + 3600
        for place in range(records - customers):
            at = _time(start + place // _RATE)
            file.write(_created(place * _EVERY, at))


def _created(number: int, at: str) -> str:
    seconds = 0.02 + number * 7919 % 1000 / 2000
    return _CREATED % (number, number + 2, number, number, at, seconds)


def _time(seconds: int) -> str:
    moment = time.gmtime(1_772_366_400 + seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)


def measure(journal: Path, page: Path) -> ReportCost:
    """
    Run ``bankconnect report --html`` over a journal.

    Args:
        journal: The path of the journal.
        page: The path of the page, which is new.
    """
    command = [sys.executable, "-m", "bankconnect_async.cli", "report"]
    command += [str(journal), "--html", str(page), "--json"]
    started = time.perf_counter()
    # subprocess waits without the resources of this one child.
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(command, stdout=output)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        assert child.returncode == 0
        output.seek(0)
        figures = json.load(output)
    # Bytes, on macOS.
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return ReportCost(
        seconds=seconds,
        cpu=usage.ru_utime + usage.ru_stime,
        peak=usage.ru_maxrss / unit,
        figures=figures,
    )


def main() -> None:
    """Run as told, and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        journal = Path(directory) / "campaign.jsonl"
        write_journal(journal, options.records)
        cost = measure(journal, Path(directory) / "report.html")
        size = (Path(directory) / "report.html").stat().st_size
    if options.json:
        print(json.dumps(attrs.asdict(cost) | {"size": size}))
    else:
        print(
            f"{options.records:,} records: {cost.seconds:.1f} s, "
            f"{cost.cpu:.1f} s of CPU, {cost.peak:.0f} MiB"
        )


if __name__ == "__main__":
    main()
