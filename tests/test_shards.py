"""
`run_shard`, `SessionBatch.run`, and sinks of users.
"""

import asyncio
import sqlite3

from collections.abc import Iterator
from contextlib import asynccontextmanager, closing

import pytest

from bankconnect_async import (
    AsyncBankConnect,
    AuthenticationError,
    Created,
    ResultSink,
    run_shard,
)
from bankconnect_async.journal import CreatedRecord, Journal, read_journal
from bankconnect_async.sandbox import Fault


ROWS = [f"customer-{number}" for number in range(20)]


@pytest.fixture(name="environment", autouse=True)
def _environment(sandbox, monkeypatch):
    """Set the variables of a client of the sandbox."""
    monkeypatch.setenv("BANKCONNECT_API_KEY", sandbox.api_key)
    monkeypatch.setenv("BANKCONNECT_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("BANKCONNECT_REDIRECT_URL", "https://lender.example/r")


class TestRunShard:
    """
    `run_shard`.
    """

    async def test_can_be_run_again(self, sandbox, tmp_path):
        """
        Another run, as of an engine that retries, creates only what failed.
        """
        path = tmp_path / "shard.jsonl"
        sandbox.faults.script(Fault.status(400), prefix=ROWS[3])

        first = await run_shard(ROWS, path)
        second = await run_shard(ROWS, path)

        assert (first.created, first.failures) == (19, {"BadRequestError": 1})
        assert (second.created, second.skipped) == (1, 19)
        assert {
            each.link_id
            for each in read_journal(path)
            if isinstance(each, CreatedRecord)
        } == {*ROWS}
        assert sandbox.created() == 20

    async def test_beats(self, sandbox, tmp_path):
        """
        The heartbeat gets the statistics; what it raises ends nothing.
        """
        beats = []

        def heartbeat(stats):
            beats.append(stats)
            raise RuntimeError

        stats = await run_shard(
            ROWS,
            Journal(tmp_path / "shard.jsonl"),
            rate=200,
            heartbeat=heartbeat,
            heartbeat_interval=0.01,
        )

        assert stats.created == 20
        assert len(beats) > 2
        assert beats[-1].created <= 20
        await asyncio.sleep(0)
        names = [task.get_coro().__name__ for task in asyncio.all_tasks()]
        assert "_beat" not in names

    async def test_a_refused_key_is_raised(self, sandbox, tmp_path):
        """
        An engine sees that the shard failed, and the journal has the rest.
        """
        async with AsyncBankConnect(
            "wrong", base_url=sandbox.base_url, redirect_url=None
        ) as bank:
            with pytest.raises(AuthenticationError):
                await run_shard(ROWS, tmp_path / "a.jsonl", client=bank)

        assert len(list(read_journal(tmp_path / "a.jsonl"))) == 20


class TestRun:
    """
    `SessionBatch.run`.
    """

    async def test_returns_the_statistics(self, tmp_path):
        """
        It runs a batch that was entered or not.
        """
        async with AsyncBankConnect.from_env() as bank:
            stats = await bank.create_sessions(ROWS).run()
            async with bank.create_sessions(ROWS) as outcomes:
                first = await anext(outcomes)
                rest = await outcomes.run()

        assert isinstance(first, Created)
        assert stats.created == rest.created == 20


class DatabaseSink:
    """
    A table of sessions as the sink of a batch, as a user would write it.
    """

    is_resumable = False

    def __init__(self, database):
        self._database = database
        self._queue = []
        self.unrecorded = 0
        database.execute("CREATE TABLE sessions (link_id PRIMARY KEY, url)")

    @asynccontextmanager
    async def opened_for(self, api, *, concurrency=1) -> Iterator[None]:
        yield
        await self.drain()

    def begin(self, index, request, *, link_id=None):
        found = self._database.execute(
            "SELECT 1 FROM sessions WHERE link_id = ?", (link_id,)
        )
        return found.fetchone() is None

    def record_all(self, outcomes):
        self._queue += [
            (each.link_id, each.session.url)
            for each in outcomes
            if isinstance(each, Created)
        ]

    async def drain(self):
        queue, self._queue = self._queue, []
        with self._database:
            self._database.executemany(
                "INSERT INTO sessions VALUES (?, ?)", queue
            )

    def describe_unrecorded(self):
        return ""


async def test_a_database_is_a_sink(sandbox):
    """
    A batch resumes from a table of the user's own.
    """
    with closing(sqlite3.connect(":memory:")) as database:
        sink: ResultSink = DatabaseSink(database)

        first = await run_shard(ROWS[:15], sink)
        second = await run_shard(ROWS, sink)

        found = database.execute("SELECT link_id FROM sessions").fetchall()
    assert (first.created, second.created, second.skipped) == (15, 5, 15)
    assert {*found} == {(row,) for row in ROWS}
