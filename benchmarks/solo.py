"""
One contender alone in a process, for its peak memory.
"""

import argparse
import json
import re
import resource
import subprocess
import sys

from pathlib import Path
from typing import Final

from .contenders import CONTENDERS, Contender, Setting, Target
from .measure import opened


_ROOT: Final = Path(__file__).parent.parent
_STATUS: Final = Path("/proc/self/status")


def peak_memory(
    contender: Contender, target: Target, count: int
) -> tuple[float, float]:
    """
    Create *count* sessions in a new process.

    Returns:
        Its peak memory in MiB, and microseconds of CPU for each session.
    """
    command = [sys.executable, "-m", "benchmarks.solo", contender.name]
    command += ["--base-url", target.base_url, "--count", str(count)]
    if target.ca_file is not None:
        command += ["--ca-file", target.ca_file]
    done = subprocess.run(
        command, cwd=_ROOT, stdout=subprocess.PIPE, check=True
    )
    told = json.loads(done.stdout)
    return told["peak"], told["cpu"]


def peak() -> float:
    """Return the peak memory of this process, in MiB."""
    # What getrusage calls the peak includes that of the parent at the time
    # of the fork, on Linux.
    if _STATUS.exists():
        found = re.search(
            r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE
        )
        assert found is not None
        return int(found[1]) / 1024
    # Bytes, on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def main() -> None:
    """Run as told, and print the peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--ca-file")
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    target = Target(base_url=options.base_url, ca_file=options.ca_file)
    (contender,) = (each for each in CONTENDERS if each.name == options.name)
    with opened(contender, Setting(target=target)) as ready:
        block = ready.run(options.count)
        print(json.dumps({"peak": peak(), "cpu": block.cpu}))


if __name__ == "__main__":
    main()
