"""
Many calls over a failing server: guarantees for all of them together.
"""

import asyncio
import collections

import attrs
import pytest

from bankconnect_async import Delivery, RetryPolicy, Session, Timeouts
from bankconnect_async.sandbox import Fault


pytestmark = pytest.mark.long

QUICK = Timeouts(connect=5, read=0.25, pool=30)

# About every second request meets one of these.
STORM = {
    Fault.refuse(): 0.1,
    Fault.reset(): 0.05,
    Fault.reset(after=True): 0.05,
    Fault.eof(): 0.04,
    Fault.eof(after=True): 0.04,
    Fault.stall(): 0.003,
    Fault.stall(after=True): 0.003,
    Fault.stall(0.3): 0.003,
    Fault.stall(within="body", after=True): 0.003,
    Fault.truncate(): 0.02,
    Fault.truncate(after=True): 0.02,
    Fault.truncate(within="head"): 0.02,
    Fault.truncate(within="head", after=True): 0.02,
    Fault.garbage(after=True): 0.02,
    Fault.html(): 0.02,
    Fault.html(after=True): 0.02,
    Fault.empty(after=True): 0.02,
    Fault.status(500): 0.02,
    Fault.status(502, after=True): 0.02,
    Fault.status(504, after=True): 0.02,
    Fault.status(408): 0.01,
    Fault.status(429, retry_after=1): 0.02,
    Fault.status(503, retry_after=1, as_date=True): 0.02,
    Fault.redirect(): 0.01,
    Fault.hang_up(): 0.05,
    Fault.hang_up(0.001): 0.05,
}

# Three in ten, of any kind.
ROUGH = {
    Fault.reset(): 0.05,
    Fault.reset(after=True): 0.05,
    Fault.eof(after=True): 0.05,
    Fault.status(500): 0.05,
    Fault.status(503, retry_after=1): 0.05,
    Fault.html(): 0.05,
}


# All that is said of an attempt that may have made a session.
OPEN = {Delivery.AMBIGUOUS, Delivery.CREATED_UNREADABLE}


async def pass_outages(sandbox) -> None:
    """Take the sandbox down for a moment, over and over."""
    seen = 0
    while True:
        seen += 500
        while sandbox.requests < seen:
            await asyncio.sleep(0.01)
        async with sandbox.outage():
            await asyncio.sleep(0.01)


def check_promise(sandbox, link_id, outcome, mode) -> None:
    """Check that the error of one call agrees with the server's records."""
    created = sandbox.created(link_id)
    if mode == "at-most-once":
        assert created <= 1, link_id
    if isinstance(outcome, Session):
        assert created >= 1, link_id
        assert outcome.session_id in sandbox.sessions
        assert created <= outcome.attempts
    else:
        may_have = [each.delivery in OPEN for each in outcome.attempts]
        assert created <= sum(may_have), (link_id, outcome.attempts)


def tally(outcomes) -> collections.Counter:
    """Count the outcomes of many calls."""
    return collections.Counter(
        "created" if isinstance(outcome, Session) else str(outcome.delivery)
        for outcome in outcomes.values()
    )


@attrs.frozen
class Weather:
    """
    How many calls use which route, and with which settings.
    """

    route: str
    calls: int
    mode: str = "at-least-once"
    name: str = ""

    def __str__(self) -> str:
        said = self.name or self.mode, self.route, str(self.calls)
        return "-".join(said)


@pytest.mark.parametrize(
    "weather",
    [
        Weather("tcp", 3000),
        Weather("tcp", 1500, "at-most-once"),
        Weather("tls", 1000, "at-most-once"),
        Weather("borrowed-strict", 1000),
        Weather("borrowed-strict", 1000, "at-most-once"),
    ],
    ids=str,
)
async def test_not_sent_means_not_processed(meet, call_all, seed, weather):
    """
    No attempt that counts as not sent or rejected has created a session.
    """
    calls = weather.calls
    async with meet(
        weather.route,
        timeouts=QUICK,
        retry=RetryPolicy(delivery=weather.mode),
    ) as (sandbox, bank):
        sandbox.faults.random(STORM, seed=seed)
        outages = asyncio.create_task(pass_outages(sandbox))
        outcomes = await call_all(bank, (f"c{n}" for n in range(calls)))
        outages.cancel()
        await asyncio.wait([outages])
        said = tally(outcomes)
        print(f"{calls} calls, {sandbox.requests} requests: {said}")

        for link_id, outcome in outcomes.items():
            check_promise(sandbox, link_id, outcome, weather.mode)

    assert len(outcomes) == calls
    # It was no walk in the park.
    assert said["created"] > calls / 10
    assert said["not-sent"]


@pytest.mark.parametrize("route", ["tcp", "borrowed-strict"])
async def test_thirty_percent_fail(meet, call_all, seed, route):
    """
    With three attempts at a server that fails at 30 %, 96 of 100 calls
    succeed.
    """
    async with meet(route) as (sandbox, bank):
        sandbox.faults.random(ROUGH, seed=seed)

        outcomes = await call_all(bank, (f"c{n}" for n in range(3000)))

        rate = tally(outcomes)["created"] / len(outcomes)
        print(f"{rate:.2%} of 3000 calls, {sandbox.requests} requests")
        assert rate >= 0.96
        assert sandbox.requests > 1.3 * len(outcomes)


OUTAGES = {
    "500": Fault.status(500),
    "503": Fault.status(503, retry_after=1),
    "reset": Fault.reset(),
    "refuse": Fault.refuse(),
    "silence": Fault.stall(),
}


@pytest.mark.parametrize(
    "outage",
    [
        *(Weather("tcp", 500, name=name) for name in OUTAGES),
        *(Weather("tcp", 2000, name=name) for name in ("500", "reset")),
        *(Weather("tls", 500, name=name) for name in OUTAGES),
        *(Weather("borrowed", 500, name=name) for name in OUTAGES),
        *(Weather("borrowed-strict", 500, name=name) for name in OUTAGES),
    ],
    ids=str,
)
async def test_an_outage_is_not_made_worse(meet, call_all, outage):
    """
    However many calls fail, at most 100 requests more than calls are sent.
    """
    read = 0.05 if outage.name == "silence" else 15
    timeouts = Timeouts(connect=5, read=read, pool=60)
    async with meet(outage.route, timeouts=timeouts) as (sandbox, bank):
        sandbox.faults.always(OUTAGES[outage.name])

        link_ids = (f"c{number}" for number in range(outage.calls))
        failed = await call_all(bank, link_ids, at_once=100)

        attempts = sum(bank.stats().attempts.values())
        seen = max(sandbox.requests, sandbox.connections)
        print(f"{outage.calls} calls, {attempts} attempts, {seen} seen")
        assert tally(failed)["created"] == 0
        assert attempts <= outage.calls + 100
        assert seen <= attempts
        # All that could be spent was.
        assert bank.stats().tokens < 10
