"""
What a session costs stays what it is.

Nothing here reads a clock that others move: CPU time counts beside that of
other code in the same process, and calls and modules are counted.
"""

import asyncio
import importlib
import json
import os
import platform
import subprocess
import sys

from collections import Counter
from pathlib import Path

import pytest

from bankconnect_async import AsyncBankConnect, SessionRequest
from bankconnect_async._codec.session_requests import (
    decode_session,
    encode_session,
    make_session,
)


ROOT = Path(__file__).parent.parent
# Of the CPU time of naive aiohttp code, which does none of what we do.
CPU_AT_MOST = {"create_session": 1.10, "create_sessions": 1.10}
# Calls of Python and C functions; Pythons differ by one at most. The pure
# steps have one or two to spare for other releases of attrs.
ENCODE_AT_MOST = 7
DECODE_AT_MOST = 18
# Those that this package makes or takes, writing included, and all of them
# with aiohttp's and the event loop's, for each of fifty sessions at once.
CREATE_AT_MOST = 98
CREATE_IN_ALL_AT_MOST = 286
# Who creates a session needs none of these.
NOT_IMPORTED = {
    "aiolimiter",
    "click",
    "distributed",
    "itsdangerous",
    "pypdf",
    "rich",
    "tenacity",
    "uvloop",
}
CREATED = b'{"redirect_url": "https://journey.example/?session_id=1d"}'
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
    What an answer is read into is there already: no page of it is mapped.
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


class Calls:
    """
    Counts calls of functions, by name, while it is entered.
    """

    def __init__(self, *, counts_all=True):
        self.seen = Counter()
        self._counts_all = counts_all
        # A coroutine that goes on is no new call of it.
        self._frames = set()

    def __enter__(self):
        sys.setprofile(self._note)
        return self.seen

    def __exit__(self, *exc_info):
        sys.setprofile(None)

    def _note(self, frame, event, function):
        if frame.f_code is Calls.__exit__.__code__:
            return
        if event == "call" and frame not in self._frames:
            self._frames.add(frame)
            name, caller = frame.f_code.co_qualname, frame.f_back
            counts = is_ours(frame) or (caller and is_ours(caller))
        elif event == "c_call":
            name, counts = function.__qualname__, is_ours(frame)
        else:
            return
        if counts or self._counts_all:
            self.seen[name] += 1


def is_ours(frame):
    """Tell whether a frame runs code of the package."""
    return frame.f_globals.get("__name__", "").startswith("bankconnect_async")


def fewest(counts):
    """Return the run with the fewest calls: the first ones fill caches."""
    return min(counts, key=Counter.total)


def test_encoding_takes_few_calls():
    """
    A request is written without detours.
    """
    request = SessionRequest(
        link_id="customer-42", redirect_url="https://lender.example/return"
    )
    counts = []
    for _ in range(3):
        with Calls() as seen:
            encode_session(request, "key")
        counts.append(seen)

    assert 0 < fewest(counts).total() <= ENCODE_AT_MOST, fewest(counts)


def test_decoding_takes_few_calls():
    """
    A good answer is read without detours.
    """
    counts = []
    for _ in range(3):
        with Calls() as seen:
            make_session(decode_session(CREATED), link_id="customer-42")
        counts.append(seen)

    assert 0 < fewest(counts).total() <= DECODE_AT_MOST, fewest(counts)


@pytest.mark.parametrize(
    ("counts_all", "limit"),
    [(False, CREATE_AT_MOST), (True, CREATE_IN_ALL_AT_MOST)],
)
async def test_creating_takes_few_calls(monkeypatch, counts_all, limit):
    """
    Few calls lie between a caller and the socket, few of them ours.
    """
    # At the end of the path, so that the installed package is measured.
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])
    serving = importlib.import_module("benchmarks.serving")

    counts, count = [], 50
    # In a process of its own, whose calls do not count.
    with serving.serve_ours() as target:
        async with AsyncBankConnect(
            "key", base_url=target.base_url, redirect_url=None
        ) as bank:
            for _ in range(10):
                with Calls(counts_all=counts_all) as seen:
                    await asyncio.gather(
                        *(
                            bank.create_session("customer")
                            for _ in range(count)
                        )
                    )
                counts.append(seen)

    assert 0 < fewest(counts).total() / count <= limit, fewest(counts)
    if counts_all:
        # Head and body are one piece.
        assert fewest(counts)["socket.send"] == count


def test_calls_are_counted():
    """
    The counter sees Python and C functions, ours and others'.
    """

    def add(numbers):
        return sum(numbers)

    with Calls() as seen:
        add([1, 2])
        len("ab")

    assert seen == {add.__qualname__: 1, "sum": 1, "len": 1}
