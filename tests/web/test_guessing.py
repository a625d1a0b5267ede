"""
A customer cannot use the service to guess ids at the vendor.
"""

import asyncio
import itertools

import pytest

from yarl import URL

from bankconnect_async.errors import InvalidCallbackError
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.testing import FakeClock
from bankconnect_async.web import WebRequest


GUESSES = 300


@pytest.fixture(name="guess")
def _guess(posted):
    """Report a success with a new random id, and return the status."""
    numbers = itertools.count()

    async def claim(endpoints, session, way):
        id_ = f"guess-{next(numbers)}"
        if way == "redirect":
            path = URL(endpoints.protocol.return_url(session.link_id)).raw_path
            call = WebRequest(path=f"{path}?success=true&entity_id={id_}")
            return (await endpoints.handle_return(call)).status
        message = {
            "type": "finbox-bankconnect",
            "status": "success",
            "payload": {"entityId": id_},
        }
        call = posted(endpoints, session, message)
        return (await endpoints.handle_event(call)).status

    return claim


@pytest.fixture(name="sandbox")
async def _sandbox():
    """Run a sandbox of the entity flow."""
    async with Sandbox("entity") as sandbox:
        yield sandbox


@pytest.fixture(name="bank")
async def _bank(sandbox, bank_of):
    """Return its client."""
    async with bank_of(sandbox) as bank:
        yield bank


@pytest.fixture(name="endpoints")
def _endpoints(make, bank):
    """Return endpoints with default settings."""
    return make(bank)


@pytest.mark.parametrize("way", ["message", "redirect"])
async def test_guesses_are_bounded(endpoints, told, sandbox, guess, way):
    """
    Of 300 simultaneous guesses of one customer, ten reach the vendor; the
    others are refused, and each goes to the failure hook.
    """
    session = await endpoints.bank.create_session("thief")
    seen = sandbox.requests
    statuses = await asyncio.gather(
        *(guess(endpoints, session, way) for _ in range(GUESSES))
    )

    assert sandbox.requests - seen == 10
    assert sorted(statuses) == [403] * 10 + [429] * (GUESSES - 10)
    assert len(told.failures) == GUESSES
    assert {type(error) for _, error in told.failures} == {
        InvalidCallbackError
    }
    assert len({event.key for event, _ in told.failures}) == GUESSES


async def test_new_tokens_do_not_help(make, sandbox, bank, guess):
    """
    The limit is per customer, over all sessions and workflows.
    """
    endpoints = make(bank, max_confirmations=4)
    for _ in range(3):
        session = await bank.create_session("thief")
        for way in ("message", "redirect"):
            await guess(endpoints, session, way)
    seen = sandbox.requests
    last = await guess(endpoints, session, "message")
    other = await guess(
        endpoints, await bank.create_session("customer-42"), "message"
    )

    assert (last, other) == (429, 403)
    # The other customer's session and guess.
    assert sandbox.requests - seen == 2


async def test_the_bound_is_for_ten_minutes(make, bank, guess):
    """
    After ten minutes the customer's reports are confirmed again.
    """
    clock = FakeClock()
    endpoints = make(bank, max_confirmations=1)
    endpoints._confirmations.clock = clock
    session = await bank.create_session("customer-42")
    statuses = []
    for wait in (0, 599, 1):
        await clock.sleep(wait)
        statuses.append(await guess(endpoints, session, "message"))

    assert statuses == [403, 429, 403]


async def test_memory_is_bounded(offline, monkeypatch):
    """
    The count of the customer who reported longest ago is evicted.
    """
    monkeypatch.setattr("bankconnect_async.web.limits._CUSTOMERS", 2)
    for name in ("a", "b", "a", "c"):
        offline._confirmations.try_acquire(name)

    assert list(offline._confirmations._counts) == ["a", "c"]
