"""
What importing the package takes, beyond importing aiohttp.
"""

import os
import statistics
import subprocess
import sys
import tempfile

from pathlib import Path
from typing import Final


_ROOT: Final = Path(__file__).parent.parent
# CPU time, because the wall clock also counts what others do meanwhile; the
# files themselves are in memory after the first run.
_PROGRAM: Final = """
import time
{before}
started = time.process_time()
import {name}
print(time.process_time() - started)
"""
_CASES: Final = {
    "aiohttp": "",
    "bankconnect_async": "import aiohttp",
}


def measure_imports(times: int) -> dict[str, float]:
    """
    Import each in *times* new processes, in turns.

    Returns:
        The median milliseconds of CPU time: of aiohttp, and of the package
        once aiohttp is there.
    """
    found: dict[str, list[float]] = {name: [] for name in _CASES}
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        for number in range(times + 1):
            for name, before in _CASES.items():
                program = _PROGRAM.format(before=before, name=name)
                seconds = _run(program, home)
                # The first one had to compile.
                if number:
                    found[name].append(seconds * 1e3)
    return {name: statistics.median(each) for name, each in found.items()}


def _run(program: str, home: str) -> float:
    # An installed package is compiled; some environments keep the source
    # from being.
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": home,
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=_ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    return float(done.stdout)
