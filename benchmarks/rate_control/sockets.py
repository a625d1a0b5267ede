"""
Real batches at a real server that has the limits of a scenario.

Run as a program, with the name of a scenario, it is the server: it prints its
port and serves until its stdin is closed. Then it prints what it answered.
"""

import asyncio
import itertools
import json
import math
import sys
import time

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import attrs

from bankconnect_async import AsyncBankConnect, Created
from benchmarks.report import say, table
from benchmarks.server import ANSWER, Answering, serve
from benchmarks.serving import local_target, run_server

from .comparison import show_score, show_target
from .scenarios import SOCKET_SCENARIOS, Scenario
from .servers import Response, constant
from .simulator import Run, generator, score


_SEED: Final = 1
# Scenarios whose server has no limit: what this machine reaches at a healthy
# one stands for it.
_BASELINES: Final = {
    "sick-node-5": "sick-node-0",
    "sick-node-20": "sick-node-0",
}


def _encode(response: Response) -> bytes:
    if response.is_success:
        return ANSWER
    header = ""
    if response.retry_after is not None:
        header = f"Retry-After: {math.ceil(response.retry_after)}\r\n"
    return (
        f"HTTP/1.1 {response.status} Refused\r\n{header}"
        "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    ).encode()


def _serve(scenario: Scenario) -> None:
    """Be the server of a scenario, and print its run in the end."""
    server = scenario.server(generator(_SEED))
    run = Run()
    started_at: float | None = None

    def answer() -> bytes:
        nonlocal started_at
        now = time.monotonic()
        if started_at is None:
            started_at = now
        response = server.respond(now - started_at)
        run.record(now - started_at, response)
        return _encode(response)

    asyncio.run(serve(partial(Answering, answer, scenario.latency)))
    print(json.dumps(attrs.asdict(run)), flush=True)


@attrs.define
class ScenarioServer:
    """
    A server in another process.

    Attributes:
        base_url: The base URL of its API.
        run: What it answered, once it has ended.
    """

    base_url: str
    run: Run = attrs.Factory(Run)


@contextmanager
def serve_scenario(scenario: Scenario) -> Iterator[ScenarioServer]:
    """Start the server of a scenario; its run is known in the end."""
    with run_server("-m", __name__, scenario.name) as (process, port):
        assert process.stdin is not None
        assert process.stdout is not None
        server = ScenarioServer(local_target(port).base_url)
        try:
            yield server
        finally:
            process.stdin.close()
            server.run = Run(**json.loads(process.stdout.readline()))


def link_ids(seconds: float) -> Iterator[str]:
    """Yield link ids for so many *seconds*, counted from the first."""
    ends_at = time.monotonic() + seconds
    for number in itertools.count():
        if time.monotonic() >= ends_at:
            return
        yield f"customer-{number}"


async def _create(base_url: str, scenario: Scenario) -> None:
    """Create sessions for the time of a scenario."""
    async with (
        AsyncBankConnect("key", base_url=base_url, redirect_url=None) as bank,
        bank.create_sessions(
            link_ids(scenario.seconds), concurrency=scenario.workers
        ) as outcomes,
    ):
        async for outcome in outcomes:
            assert isinstance(outcome, Created), outcome


def run_scenario(scenario: Scenario) -> Run:
    """
    Run a batch at a server, and return what the server answered.

    Raises:
        AssertionError: If an item became no session.
    """
    say(f"over sockets, {scenario.seconds:g} s: {scenario.title}")
    with serve_scenario(scenario) as process:
        asyncio.run(_create(process.base_url, scenario))
    return process.run


def measure() -> str:
    """Run the starred scenarios, and return their results as Markdown."""
    rows = []
    rates: dict[str, float] = {}
    for name, scenario in SOCKET_SCENARIOS.items():
        run = run_scenario(scenario)
        rates[name] = len(run.served) / scenario.seconds
        limit = scenario.limit()
        if name in _BASELINES:
            limit = constant(rates[_BASELINES[name]])
        for target in scenario.targets:
            reached = score(run, limit, target.start, target.end)
            rows.append(
                [
                    scenario.title,
                    f"{target.start:g} to {target.end:g}",
                    show_target(target),
                    show_score(target, reached),
                    f"{rates[name]:,.0f}",
                ]
            )
    return table(
        ["Scenario", "Seconds", "Wanted", "Reached", "Served per second"], rows
    )


if __name__ == "__main__":
    _serve(SOCKET_SCENARIOS[sys.argv[1]])
