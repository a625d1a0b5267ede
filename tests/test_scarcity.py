"""
Processes that run out of file descriptors or threads lose no outcome.

Each test starts a process, whose limits are its own.
"""

import asyncio
import collections
import json
import os
import sys


#: Outcomes of calls and of a batch, as the child prints them.
PROGRAM = """
import asyncio, collections, json, sys

from bankconnect_async import (
    AsyncBankConnect, BankConnectError, Created, Pool, RetryPolicy
)

{setup}

def tell(outcome):
    if isinstance(outcome, BankConnectError):
        return f"{{type(outcome).__name__}} {{outcome.delivery}}"
    return type(outcome).__name__

failures = 0

def watch(start):
    def note(end):
        global failures
        failures += end.error is not None
        # Two for each call, and two of the batch.
        if failures == 82:
            recover()
    return note

async def main(base_url):
    bank = AsyncBankConnect(
        "sandbox-api-key",
        base_url=base_url,
        redirect_url=None,
        on_attempt=watch,
        retry=RetryPolicy(attempts=2, wait_initial=0.01),
    )
    async with bank:
        run_short()
        calls = await asyncio.gather(
            *(bank.create_session(f"call-{{n}}") for n in range(40)),
            return_exceptions=True,
        )
        outcomes = bank.create_sessions(
            (f"item-{{n}}" for n in range(60)), concurrency=20
        )
        async with outcomes:
            items = [outcome async for outcome in outcomes]
        recover()
    print(json.dumps({{
        "calls": collections.Counter(tell(each) for each in calls),
        "items": collections.Counter(
            tell(getattr(each, "error", each)) for each in items
        ),
    }}))

asyncio.run(main(sys.argv[1]))
"""

NO_DESCRIPTORS = """
import os, resource

def run_short():
    # Room for ten connections; an import needs one descriptor, too.
    lowest = os.dup(0)
    os.close(lowest)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 10, hard))

def recover():
    pass
"""

NO_THREADS = """
import threading

start = threading.Thread.start

def refuse(self):
    raise RuntimeError("can't start new thread")

def run_short():
    threading.Thread.start = refuse

def recover():
    # The event loop ends its executor in a thread.
    threading.Thread.start = start
"""


async def run(setup, base_url):
    """Run the program in a process of its own, and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM.format(setup=setup),
        base_url,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ,
    )
    printed, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    found = json.loads(printed)
    return [collections.Counter(found[name]) for name in ("calls", "items")]


async def test_out_of_descriptors(sandbox):
    """
    If no connection can be opened, each call says that nothing was sent.
    """
    calls, items = await run(NO_DESCRIPTORS, sandbox.base_url)

    failed = "ConnectError not-sent"
    assert set(calls) == {"Session", failed}
    assert set(items) <= {"Created", failed}
    assert (calls.total(), items.total()) == (40, 60)
    assert calls["Session"] + items["Created"] == sandbox.created()


async def test_out_of_threads(sandbox):
    """
    If no name can be looked up, each call says that nothing was sent, and a
    batch waits until one can be.
    """
    base_url = sandbox.base_url.replace("127.0.0.1", "localhost")

    calls, items = await run(NO_THREADS, base_url)

    failed = "ConnectError not-sent"
    assert calls == {failed: 40}
    assert items == {"Created": 60}
    assert sandbox.created() == 60
