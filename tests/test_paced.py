"""
A paced view of a client sends its calls as a batch does.
"""

import asyncio

import pytest

from bankconnect_async import (
    AuthenticationError,
    BatchStoppedError,
    ConfigurationError,
    NotFoundError,
)
from bankconnect_async.sandbox import Fault, Sandbox
from bankconnect_async.testing import FakeClock


@pytest.fixture(name="sandbox")
async def _sandbox():
    """Run a sandbox of the session flow."""
    async with Sandbox("session") as sandbox:
        yield sandbox


class TestPace:
    """
    Calls share one rate, one pause and one end.
    """

    async def test_rate(self, sandbox, client_of):
        """
        A fixed rate spaces the calls evenly.
        """
        clock = FakeClock()
        async with client_of(sandbox, clock=clock) as bank:
            session = await bank.create_session("customer-42")
            async with bank.paced(rate=10, concurrency=4) as paced:
                handle = paced.session(session)
                await asyncio.gather(
                    *(handle.upload_status() for _ in range(20))
                )

        assert 1.7 <= clock.now <= 2.1

    async def test_concurrency(self, sandbox, client_of):
        """
        No more calls are in flight than there are slots.
        """
        async with client_of(sandbox) as bank:
            session = await bank.create_session("customer-42")
            most = 0

            async def ask(paced):
                nonlocal most
                asking = asyncio.ensure_future(
                    paced.session(session).upload_status()
                )
                while not asking.done():
                    most = max(most, bank.stats().in_flight)
                    await asyncio.sleep(0)
                await asking

            async with bank.paced(concurrency=3) as paced:
                await asyncio.gather(*(ask(paced) for _ in range(12)))

        assert most == 3

    async def test_unknown_ids(self, sandbox, client_of):
        """
        Ids that the vendor does not know are no outage.
        """
        async with client_of(sandbox) as bank, bank.paced() as paced:
            for number in range(50):
                with pytest.raises(NotFoundError):
                    await paced.session(f"unknown-{number}").progress()

    async def test_refused_key(self, sandbox, client_of):
        """
        After a refused key nothing more is sent.
        """
        async with (
            client_of(sandbox, api_key="wrong") as bank,
            bank.paced() as paced,
        ):
            with pytest.raises(AuthenticationError):
                await paced.session("s-1").progress()
            requests = sandbox.requests
            with pytest.raises(BatchStoppedError):
                await paced.session("s-1").progress()

        assert sandbox.requests == requests

    async def test_429(self, sandbox, client_of):
        """
        A 429 pauses all calls for as long as the server asks.
        """
        clock = FakeClock()
        async with client_of(sandbox, clock=clock) as bank:
            session = await bank.create_session("customer-42")
            sandbox.faults.script(Fault.status(429, retry_after=7))
            async with bank.paced(concurrency=1) as paced:
                handle = paced.session(session)
                await asyncio.gather(
                    *(handle.upload_status() for _ in range(3))
                )

        assert clock.now >= 7

    @pytest.mark.parametrize("bad", [{"rate": 0}, {"concurrency": 0.5}])
    async def test_settings(self, sandbox, client_of, bad):
        """
        A number that is not above 0 is refused.
        """
        bank = client_of(sandbox)

        with pytest.raises(ConfigurationError) as caught:
            bank.paced(**bad)

        assert [*caught.value.fields] == [*bad]
