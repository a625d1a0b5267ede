"""
Batches through outages of every kind, over real sockets.
"""

import asyncio

import pytest

from bankconnect_async import (
    AsyncBankConnect,
    BatchStoppedError,
    Created,
    Delivery,
    RetryPolicy,
)
from bankconnect_async.sandbox import Fault, Sandbox
from bankconnect_async.testing import FakeClock


OUTAGES = {
    "reset": Fault.reset(),
    "reset-after": Fault.reset(after=True),
    "eof": Fault.eof(),
    "refuse": Fault.refuse(),
    "500": Fault.status(500),
    "503": Fault.status(503, retry_after=1),
    "html": Fault.html(),
    "cut": Fault.truncate(after=True),
    "cut-head": Fault.truncate(within="head"),
    "garbage": Fault.garbage(),
    "404": Fault.status(404),
}


def connect(sandbox, **settings):
    """Make a client of a sandbox."""
    return AsyncBankConnect(
        sandbox.api_key,
        base_url=sandbox.base_url,
        redirect_url=None,
        **settings,
    )


@pytest.fixture(name="bank")
async def _bank(sandbox):
    """Return a client of the sandbox."""
    async with connect(sandbox) as bank:
        yield bank


async def run(bank, count, **options):
    """Run a batch; return its outcomes by index, and the batch."""
    found = {}
    source = (f"c{number}" for number in range(count))
    async with bank.create_sessions(source, **options) as outcomes:
        async for outcome in outcomes:
            assert outcome.index not in found
            found[outcome.index] = outcome
    assert sorted(found) == list(range(count))
    return found.values(), outcomes


def failures(found):
    """Return the errors among outcomes."""
    return [each.error for each in found if not isinstance(each, Created)]


async def pass_outage(name, count):
    """
    Run a batch whose first 3 seconds are an outage.

    Returns:
        How many items failed, how many retries there were, and the outcomes
        with a session that the server does not know.
    """
    async with Sandbox() as sandbox, connect(sandbox) as bank:
        sandbox.faults.always(OUTAGES[name])
        asyncio.get_running_loop().call_later(3, sandbox.faults.clear)

        found, batch = await run(bank, count, concurrency=16)

        failed, retries = len(failures(found)), batch.stats().retries
        print(f"{name}: {failed} failed, {retries} retries")
        unknown = [
            each
            for each in found
            if isinstance(each, Created) and not sandbox.created(each.link_id)
        ]
        return failed, retries, unknown


@pytest.mark.parametrize(
    "count",
    [
        500,
        # As few, whatever the size.
        pytest.param(5000, marks=pytest.mark.long),
    ],
)
async def test_an_outage_at_the_start_burns_few_items(count):
    """
    Items wait while everything fails, so few of them fail themselves.
    """
    failed, retries, unknown = await pass_outage("503", count)

    assert failed <= 100
    assert retries <= 100
    assert unknown == []


@pytest.mark.long
async def test_outages_of_other_kinds():
    """
    The same holds for every kind of outage.
    """
    names = OUTAGES.keys() - {"503"}
    # They wait together, since that is most of what they do.
    async with asyncio.TaskGroup() as group:
        tasks = {
            name: group.create_task(pass_outage(name, 500)) for name in names
        }

    for name, task in tasks.items():
        failed, retries, unknown = task.result()
        assert failed <= 100, name
        assert retries <= 100, name
        assert unknown == [], name


async def test_at_most_once_holds_in_an_outage(sandbox):
    """
    An ambiguous attempt is never repeated, whatever the circuit does.
    """
    sandbox.faults.always(Fault.reset(after=True))
    asyncio.get_running_loop().call_later(1, sandbox.faults.clear)

    retry = RetryPolicy(delivery="at-most-once")
    async with connect(sandbox, retry=retry) as bank:
        found, batch = await run(bank, 300, concurrency=16)

    errors = failures(found)
    assert 10 <= len(errors) <= 100
    assert {error.delivery for error in errors} == {Delivery.AMBIGUOUS}
    assert all(len(error.attempts) == 1 for error in errors)
    assert batch.stats().retries == 0
    assert all(sandbox.created(each.link_id) == 1 for each in found)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault.status(404), "the server answered 404"),
        (Fault.redirect(), "the server answered 307: a redirect"),
        (Fault.html(), "the body is not JSON"),
    ],
    ids=["404", "307", "html"],
)
async def test_a_wrong_server_ends_a_batch(client_of, sandbox, fault, said):
    """
    After a few probes nothing more is sent, and the other items fail with the
    reason.
    """
    sandbox.faults.always(fault)

    async with client_of(sandbox, clock=FakeClock()) as bank:
        found, batch = await run(bank, 1000, concurrency=16)

    errors = failures(found)
    unsent = [e for e in errors if isinstance(e, BatchStoppedError)]
    assert len(errors) == 1000
    assert len(unsent) >= 900
    assert sandbox.requests <= 40
    assert all(said in str(error) for error in unsent)
    assert said in str(batch.abort_cause)


async def test_one_sick_node_delays_only_its_own_items(bank, sandbox):
    """
    A worker whose item waits for a Retry-After takes another one.
    """
    sandbox.faults.always(Fault.status(503, retry_after=1), prefix="sick")
    sick = ["sick-1", "sick-2"]
    source = [*sick, *(f"c{number}" for number in range(500))]
    done = 0
    async with bank.create_sessions(source, concurrency=2) as outcomes:
        async for outcome in outcomes:
            assert isinstance(outcome, Created)
            done += 1
            if done == 500:
                # All others are done, and both still wait.
                assert sorted(outcomes.unreported) == sick
                assert outcomes.stats().in_flight == 2
                sandbox.faults.clear()

    assert done == 502
    assert outcomes.stats().limit is None


async def test_waiting_items_are_bounded(bank, sandbox):
    """
    Once two items per worker wait, the workers keep their slots while they
    wait.
    """
    sandbox.faults.always(Fault.status(503, retry_after=60), prefix="sick")
    source = [
        f"c{number}" if number % 2 else f"sick-{number}"
        for number in range(1000)
    ]
    async with bank.create_sessions(source, concurrency=4) as outcomes:
        async with asyncio.timeout(60):
            while outcomes.stats().in_flight < 12:
                await anext(outcomes)
        assert outcomes.stats().in_flight == 12
        assert sandbox.requests < 100
        outcomes.drain()
