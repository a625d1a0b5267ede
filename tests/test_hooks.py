"""
Code of the user runs inside the package's own: whatever it raises, nothing is
lost.
"""

import asyncio
import logging

import pytest

from yarl import URL

from bankconnect_async import (
    AsyncBankConnect,
    Created,
    Delivery,
    JournalError,
    RetryPolicy,
    ServerError,
)
from bankconnect_async.journal import CreatedRecord, Journal, read_journal
from bankconnect_async.sandbox import Fault, Sandbox
from bankconnect_async.testing import FakeClock


#: What a hook may raise that is not meant for the whole process.
RAISED = [ValueError, asyncio.CancelledError, GeneratorExit]


def connect(sandbox, **settings):
    """Make a client of *sandbox*, in the inline-frame workflow."""
    return AsyncBankConnect(
        sandbox.api_key,
        base_url=sandbox.base_url,
        redirect_url=None,
        **settings,
    )


def ids(count):
    """Make link ids."""
    return [f"customer-{number}" for number in range(count)]


async def collect(outcomes):
    """Exhaust a batch."""
    async with outcomes:
        return [outcome async for outcome in outcomes]


def hook_that_raises(cls, when):
    """Make an `on_attempt` hook that raises at the start or at the end."""

    def end(attempt):
        raise cls("made up")

    def start(attempt):
        if when == "start":
            raise cls("made up")
        return end

    return start


def errors(caplog):
    """Return the log records of errors."""
    return [each for each in caplog.records if each.levelname == "ERROR"]


def created_ids(path):
    """Return the link ids of all created records, in order."""
    return sorted(
        record.link_id
        for record in read_journal(path)
        if isinstance(record, CreatedRecord)
    )


class TestOnAttempt:
    """
    Hooks that observe attempts.
    """

    @pytest.mark.parametrize("when", ["start", "end"])
    @pytest.mark.parametrize("cls", RAISED)
    async def test_what_it_raises_changes_no_result(
        self, sandbox, caplog, cls, when
    ):
        """
        The session is returned, and the exception is logged once.
        """
        hook = hook_that_raises(cls, when)
        async with connect(sandbox, on_attempt=hook) as bank:
            found = [await bank.create_session(each) for each in ids(3)]

        assert [session.link_id for session in found] == ids(3)
        (logged,) = errors(caplog)
        assert logged.name == "bankconnect_async"
        assert "on_attempt" in logged.getMessage()
        assert logged.exc_info[0] is cls

    @pytest.mark.parametrize("when", ["start", "end"])
    @pytest.mark.parametrize("cls", RAISED)
    async def test_what_it_raises_replaces_no_error(self, sandbox, cls, when):
        """
        A failing call fails with its own error and both its attempts.
        """
        sandbox.faults.always(Fault.status(500))
        async with connect(
            sandbox,
            clock=FakeClock(),
            retry=RetryPolicy(attempts=2),
            on_attempt=hook_that_raises(cls, when),
        ) as bank:
            with pytest.raises(ServerError) as caught:
                await bank.create_session("customer-42")

        assert len(caught.value.attempts) == 2

    @pytest.mark.parametrize("when", ["start", "end"])
    @pytest.mark.parametrize("cls", RAISED)
    async def test_a_batch_goes_on(self, sandbox, tmp_path, cls, when):
        """
        Every session of a batch has an outcome and a record.
        """
        path = tmp_path / "out.jsonl"
        hook = hook_that_raises(cls, when)
        async with connect(sandbox, on_attempt=hook) as bank:
            found = await collect(
                bank.create_sessions(
                    ids(50), concurrency=7, journal=Journal(path)
                )
            )

        assert all(isinstance(each, Created) for each in found)
        assert created_ids(path) == sorted(ids(50))
        assert sandbox.created() == 50

    async def test_it_says_what_is_sent_and_what_came(self, sandbox):
        """
        A hook knows method, template, host, port, call and status.
        """
        seen = []

        def start(attempt):
            seen.append(attempt)
            return seen.append

        sandbox.faults.script(Fault.status(500), Fault.eof(), None)
        url = URL(sandbox.base_url)
        async with connect(
            sandbox, clock=FakeClock(), on_attempt=start
        ) as bank:
            await bank.create_session("customer-42")
            await bank.create_session("customer-43")

        starts, ends = seen[::2], seen[1::2]
        assert {
            (each.method, each.template, each.host, each.port)
            for each in starts
        } == {("POST", "/v1/session/", url.host, url.port)}
        assert [each.number for each in starts] == [1, 2, 3, 1]
        calls = [each.call_id for each in starts]
        assert calls[0] == calls[1] == calls[2] != calls[3]
        assert [each.status for each in ends] == [500, None, 200, 200]

    async def test_what_cannot_be_called_at_the_end_is_logged(
        self, sandbox, caplog
    ):
        """
        A hook that returns no function changes no result.
        """
        async with connect(sandbox, on_attempt=lambda _: "no hook") as bank:
            await bank.create_session("customer-42")

        (logged,) = errors(caplog)
        assert logged.exc_info[0] is TypeError

    @pytest.mark.parametrize("cls", [KeyboardInterrupt, SystemExit])
    @pytest.mark.parametrize("when", ["start", "end"])
    def test_what_ends_the_process_ends_it_without_loss(
        self, tmp_path, cls, when
    ):
        """
        When the process ends, the journal has each item that the server
        received.
        """
        path = tmp_path / "out.jsonl"
        seen, made = [], set()

        def end(attempt):
            seen.append(attempt)
            if len(seen) == 20:
                raise cls

        def start(attempt):
            if when == "end":
                return end
            return end(attempt)

        async def main():
            async with Sandbox() as sandbox:
                try:
                    async with connect(sandbox, on_attempt=start) as bank:
                        await collect(
                            bank.create_sessions(
                                ids(500), concurrency=5, journal=Journal(path)
                            )
                        )
                finally:
                    made.update(
                        each for each in ids(500) if sandbox.created(each)
                    )

        with pytest.raises(cls):
            asyncio.run(main())

        records = {each.link_id: each for each in read_journal(path)}
        assert len(made) >= 15
        assert made <= records.keys()
        lost = [
            each
            for each in records.values()
            if not isinstance(each, CreatedRecord)
        ]
        assert {each.delivery for each in lost} <= {Delivery.AMBIGUOUS}
        # Of those in flight, and of no others.
        assert len(lost) <= 5


class TestSources:
    """
    Sources of items, and their preparation.
    """

    @pytest.mark.parametrize("asynchronous", [True, False])
    async def test_a_cancelled_source_is_told_from_a_cancelled_batch(
        self, sandbox, tmp_path, asynchronous
    ):
        """
        The items before it are recorded, and the error is no cancellation.
        """
        path = tmp_path / "out.jsonl"

        def plain():
            yield from ids(20)
            raise asyncio.CancelledError

        async def later():
            for each in plain():
                yield each

        source = later() if asynchronous else plain()
        async with connect(sandbox) as bank:
            with pytest.raises(RuntimeError, match="source of the batch"):
                await collect(
                    bank.create_sessions(source, journal=Journal(path))
                )

        assert created_ids(path) == sorted(ids(20))

    async def test_a_builder_of_redirect_urls_that_raises_costs_its_items(
        self, sandbox
    ):
        """
        Items that cannot be prepared fail unsent, and the others go on.
        """
        async with connect(sandbox) as bank:
            prepare = bank._creator.prepare

            def build(item):
                if item.endswith("3"):
                    raise LookupError("made up")
                return prepare(item)

            bank._creator.prepare = build
            found = await collect(bank.create_sessions(ids(20), ordered=True))

        failed = [each for each in found if not isinstance(each, Created)]
        assert [each.link_id for each in failed] == [
            "customer-3", "customer-13",
        ]  # fmt: skip
        assert {each.error.delivery for each in failed} == {Delivery.NOT_SENT}
        assert sandbox.created() == 18

    async def test_workers_that_somebody_cancels_end_the_batch_loudly(
        self, sandbox, tmp_path
    ):
        """
        A batch whose tasks were cancelled from outside ends with an error.
        """
        path = tmp_path / "out.jsonl"
        sandbox.faults.always(Fault.stall())
        async with connect(sandbox) as bank:
            with pytest.raises(RuntimeError, match="was cancelled"):
                async with bank.create_sessions(
                    ids(20), concurrency=3, journal=Journal(path)
                ) as outcomes:
                    while sandbox.requests < 3:
                        await asyncio.sleep(0)
                    for task in outcomes._tasks:
                        task.cancel()
                    async for _ in outcomes:
                        pass

        assert [each.delivery for each in read_journal(path)] == [
            Delivery.AMBIGUOUS
        ] * 3
        assert len(outcomes.unreported) >= 3


class TestRetries:
    """
    Retry policies and clocks of the user.
    """

    @pytest.mark.parametrize("cls", [ValueError, asyncio.CancelledError])
    async def test_a_policy_that_raises_leaves_the_error(
        self, sandbox, caplog, cls
    ):
        """
        If the policy cannot compute a wait, the call ends with the error of
        its attempt.
        """

        def draw(low, high):
            raise cls("made up")

        sandbox.faults.always(Fault.status(500))
        async with connect(sandbox, retry=RetryPolicy(rng=draw)) as bank:
            with pytest.raises(ServerError) as caught:
                await bank.create_session("customer-42")

        error = caught.value
        assert error.delivery is Delivery.AMBIGUOUS
        assert [each.stopped for each in error.attempts] == [
            f"the retry policy or the clock raised {cls.__name__}"
        ]
        assert errors(caplog)[0].exc_info[0] is cls

    async def test_a_clock_that_cannot_sleep_leaves_the_error(self, sandbox):
        """
        If the clock cannot sleep, the call ends with the error of its attempt.
        """

        class Broken(FakeClock):
            async def sleep(self, seconds, /):
                raise LookupError

        sandbox.faults.always(Fault.status(500))
        async with connect(sandbox, clock=Broken()) as bank:
            with pytest.raises(ServerError):
                await bank.create_session("customer-42")
            (failed,) = await collect(bank.create_sessions(["customer-43"]))

        assert isinstance(failed.error, ServerError)

    async def test_a_clock_that_breaks_costs_no_session(
        self, sandbox, monkeypatch
    ):
        """
        A failure of the batch's measurements cannot lose the session.
        """

        def broken(turn):
            raise LookupError

        monkeypatch.setattr(
            "bankconnect_async.batch.throttle.BatchThrottle.on_success",
            broken,
        )
        async with connect(sandbox) as bank:
            found = await collect(bank.create_sessions(ids(9)))

        assert sum(isinstance(each, Created) for each in found) == 9

    async def test_a_cancel_while_it_waits_is_a_cancel(self, sandbox):
        """
        A caller who cancels gets a CancelledError, and no other error.
        """
        waiting = asyncio.Event()

        class Slow(FakeClock):
            async def sleep(self, seconds, /):
                waiting.set()
                await asyncio.Event().wait()

        sandbox.faults.always(Fault.status(500))
        async with connect(sandbox, clock=Slow()) as bank:
            task = asyncio.create_task(bank.create_session("customer-42"))
            await waiting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


class TestLogs:
    """
    Handlers and filters of the log.
    """

    async def test_a_filter_that_raises_replaces_no_error(self, sandbox):
        """
        A failed attempt raises its own error, whatever logging does.
        """

        def refuse(record):
            raise LookupError

        log = logging.getLogger("bankconnect_async")
        sandbox.faults.always(Fault.status(400))
        before = log.level
        log.addFilter(refuse)
        log.setLevel(logging.INFO)
        try:
            async with connect(sandbox) as bank:
                found = await collect(bank.create_sessions(ids(5)))
        finally:
            log.removeFilter(refuse)
            log.setLevel(before)

        assert {each.error.status for each in found} == {400}

    async def test_records_have_their_numbers(self, sandbox, caplog):
        """
        The record of a failed attempt has its numbers as attributes.
        """
        sandbox.faults.script(Fault.status(500), None)
        with caplog.at_level(logging.INFO, "bankconnect_async"):
            async with connect(sandbox, clock=FakeClock()) as bank:
                await bank.create_session("customer-42")

        (record,) = [
            each for each in caplog.records if hasattr(each, "attempt")
        ]
        assert (
            vars(record).items()
            >= {
                "operation": "POST session",
                "attempt": 1,
                "error_type": "ServerError",
                "delivery": "ambiguous",
                "status": 500,
                "tokens": 500,
            }.items()
        )


class TestJournals:
    """
    Journals of the user, and subclasses of ours.
    """

    @pytest.mark.parametrize(
        "answer", [LookupError, asyncio.CancelledError, 0]
    )
    async def test_lines_that_cannot_be_told_stop_it(
        self, sandbox, tmp_path, answer
    ):
        """
        Nothing is sent for an input whose line is unknown.
        """
        path = tmp_path / "out.jsonl"

        def line_of(index):
            if index < 5:
                return index + 1
            if answer == 0:
                return "six"
            raise answer

        async with connect(sandbox) as bank:
            with pytest.raises(JournalError, match="line_of"):
                await collect(
                    bank.create_sessions(
                        ids(50),
                        concurrency=3,
                        journal=Journal(path, line_of=line_of),
                    )
                )

        assert created_ids(path) == ids(5)
        assert sandbox.created() == 5

    @pytest.mark.parametrize("cls", [LookupError, asyncio.CancelledError])
    async def test_a_journal_that_raises_anything_stops_it(
        self, sandbox, tmp_path, cls
    ):
        """
        An outcome that cannot be recorded is reported, and nothing more is
        sent.
        """

        class Broken(Journal):
            def record(self, outcome, *, line=None):
                raise cls

        seen = []
        async with connect(sandbox) as bank:
            with pytest.raises(JournalError, match=cls.__name__):
                async with bank.create_sessions(
                    ids(500),
                    concurrency=3,
                    journal=Broken(tmp_path / "out.jsonl"),
                ) as outcomes:
                    async for each in outcomes:
                        seen.append(each)  # noqa: PERF401 - it raises

        assert len(seen) == sandbox.created() < 10
