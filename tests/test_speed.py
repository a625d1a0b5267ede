"""
The cost of a session does not grow.

Nothing here reads a clock that others move: CPU time counts beside that of
other code in the same process, and modules and sends are counted.
"""

import asyncio
import json
import os
import platform
import subprocess
import sys

from pathlib import Path

import pytest

from bankconnect_async import AsyncBankConnect
from benchmarks import code_path, serving


ROOT = Path(__file__).parent.parent
# Of the CPU time of naive aiohttp code, which does none of what we do.
CPU_AT_MOST = {"create_session": 1.10, "create_sessions": 1.10}
# Who creates a session needs none of these.
NOT_IMPORTED = {
    "click",
    "distributed",
    "itsdangerous",
    "pypdf",
    "rich",
    "tenacity",
    "uvloop",
}
# Coverage, warnings and debugging cost many times what is measured; and once
# Dask has started workers, its setting of MALLOC_TRIM_THRESHOLD_ stands in
# the environment, with which glibc learns nothing from what was freed.
NOT_A_USERS = (
    "COVERAGE",
    "GLIBC_TUNABLES",
    "MALLOC_",
    "PYTHONASYNCIODEBUG",
    "PYTHONDEVMODE",
    "PYTHONTRACE",
)


def run(program):
    """Run a program as a user's Python would, and return what it prints."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(NOT_A_USERS)
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    return json.loads(done.stdout)


@pytest.mark.long
@pytest.mark.parametrize(("name", "limit"), CPU_AT_MOST.items())
def test_costs_no_more_than_naive_code(name, limit):
    """
    A session stays near the CPU time that naive aiohttp code takes.
    """
    # At the end of the path, so that the installed package is measured.
    program = (
        f"import sys; sys.path.append({str(ROOT)!r})\n"
        f"from benchmarks.guard import main; main({name!r}, {limit})"
    )

    ratios = run(program)

    assert min(ratios) <= limit, ratios


def test_imports_what_it_needs():
    """
    Importing the package leaves out what a create does not need.
    """
    loaded = run(
        "import json, sys, bankconnect_async;"
        "print(json.dumps(sorted(sys.modules)))"
    )

    assert "bankconnect_async.client" in loaded
    assert NOT_IMPORTED.isdisjoint(loaded)


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="others map memory otherwise"
)
def test_answers_need_no_new_memory():
    """
    Answers are read into memory that is there already: no page is mapped.
    """
    faults = run(
        f"import sys; sys.path.append({str(ROOT)!r})\n"
        "import asyncio, json, resource\n"
        "from bankconnect_async import AsyncBankConnect\n"
        "from benchmarks.serving import serve_ours\n"
        "async def main(base_url):\n"
        "    async with AsyncBankConnect(\n"
        "        'key', base_url=base_url, redirect_url=None\n"
        "    ) as bank:\n"
        "        seen = []\n"
        "        for _ in range(500):\n"
        "            await bank.create_session('customer-42')\n"
        "            usage = resource.getrusage(resource.RUSAGE_SELF)\n"
        "            seen.append(usage.ru_minflt)\n"
        "        return min(seen[n + 99] - seen[n] for n in (200, 300, 400))\n"
        "with serve_ours() as target:\n"
        "    print(asyncio.run(main(target.base_url)))\n"
    )

    # It was two for each session, in each hundred of them.
    assert faults < 20


async def test_head_and_body_are_sent_at_once():
    """
    Each request is one `send`: head and body are one piece.
    """
    sends = 0

    def count_sends(_, event, function):
        nonlocal sends
        sends += event == "c_call" and function.__qualname__ == "socket.send"

    # In a process of its own, whose calls do not count.
    with serving.serve_ours() as target:
        async with AsyncBankConnect(
            "key", base_url=target.base_url, redirect_url=None
        ) as bank:
            await bank.create_session("customer")
            sys.setprofile(count_sends)
            try:
                await asyncio.gather(
                    *(bank.create_session("customer") for _ in range(50))
                )
            finally:
                sys.setprofile(None)

    assert sends == 50


@pytest.mark.parametrize(
    ("trace", "files", "moves"),
    [(code_path.trace_create, 12, 23), (code_path.trace_batch_item, 15, 35)],
)
async def test_the_path_of_a_session_is_short(trace, files, moves):
    """
    A session goes through few files of the package, with few moves between
    them.
    """
    # A response that comes in two pieces wakes its reader twice.
    paths = [await trace() for _ in range(3)]

    assert 0 < min(len(path.files) for path in paths) <= files
    assert 0 < min(path.moves for path in paths) <= moves
