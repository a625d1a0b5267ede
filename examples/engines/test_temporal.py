"""
The activity of the Temporal example, in Temporal's own test environment.
"""

import asyncio

import pytest

from temporal_worker import ShardInput, create_sessions
from temporalio.testing import ActivityEnvironment

from bankconnect_async.journal import read_journal
from bankconnect_async.sandbox import Fault, Sandbox


@pytest.fixture(name="sandbox")
async def _sandbox(monkeypatch):
    """Serve the API, and set the variables of its clients."""
    async with Sandbox() as sandbox:
        monkeypatch.setenv("BANKCONNECT_API_KEY", sandbox.api_key)
        monkeypatch.setenv("BANKCONNECT_BASE_URL", sandbox.base_url)
        monkeypatch.setenv(
            "BANKCONNECT_REDIRECT_URL", "https://lender.example/return"
        )
        yield sandbox


@pytest.fixture(name="links")
def _links(tmp_path):
    """Write thirty link ids."""
    path = tmp_path / "links.txt"
    path.write_text("".join(f"customer-{number}\n" for number in range(30)))
    return path


async def test_shards_create_all_sessions(sandbox, links, tmp_path):
    """
    Each row is in one shard, and a shard tells that it is alive.
    """
    environment = ActivityEnvironment()
    beats = []
    environment.on_heartbeat = lambda *details: beats.append(details)

    counts = [
        await environment.run(
            create_sessions, ShardInput(str(links), str(tmp_path), index, 3)
        )
        for index in range(3)
    ]

    assert counts == [{"created": 10, "skipped": 0, "failed": 0}] * 3
    assert sandbox.created() == 30
    assert beats


async def test_a_cancelled_shard_goes_on(sandbox, links, tmp_path):
    """
    A session that a cancelled activity created is not created again.
    """
    shard = ShardInput(str(links), str(tmp_path), 0, 1)
    sandbox.faults.script(Fault.stall(), prefix="customer-7")
    journal = tmp_path / "0-of-1.jsonl"
    journal.touch()
    environment = ActivityEnvironment()
    running = asyncio.ensure_future(environment.run(create_sessions, shard))
    async with asyncio.timeout(20):
        while len(list(read_journal(journal))) < 29:
            await asyncio.sleep(0.01)
    environment.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    counts = await ActivityEnvironment().run(create_sessions, shard)

    assert counts == {"created": 1, "skipped": 29, "failed": 0}
