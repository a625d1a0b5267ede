"""
Waiting for processing: schedule, notifications and failures.
"""

import asyncio

from typing import ClassVar

import pytest

from aiohttp import web

from bankconnect_async import (
    AsyncBankConnect,
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    EnrichmentWebhook,
    ExtractionWebhook,
    Failure,
    InfoEvent,
    InvalidResponseError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    ProcessingFailedError,
    RetryPolicy,
    ServerError,
    UnknownWebhook,
    WaitTimeoutError,
)
from bankconnect_async.testing import FakeClock


S = "d8aaa1f6-d2b6-41ba-9e97-f5f843c901ee"
E = "f5057fee-4c3e-4459-82dd-21250b729601"
PROGRESS = f"session_data/{S}/progress/"
STATUS = f"session_data/{S}/session_status/"
IDENTITY = f"entity/{E}/identity/"
TRANSACTIONS = f"entity/{E}/transactions/"


@pytest.fixture(name="said")
def _said(sample):
    """Responses of the session flow, by short names."""

    def refusal(name):
        return 400, sample(f"error.session_data.{name}.json")

    def answer(name):
        return 200, sample(f"session_data.{name}.json")

    return {
        "not requested": refusal("processing_not_requested"),
        "not completed": refusal("processing_not_completed"),
        "processing": answer("progress.response.processing"),
        "completed": answer("progress.response.completed"),
        "good": answer("session_status.response.completed"),
        "bad": answer("session_status.response.failed"),
    }


def stages(session_progress, *statements):
    """Make a progress of statements that are in one stage each."""
    return 200, {
        "session_id": S,
        "session_progress": session_progress,
        "progress": [
            {
                "statement_id": f"s{number}",
                **dict.fromkeys(
                    (
                        "identity_status",
                        "transaction_status",
                        "processing_status",
                        "fraud_status",
                    ),
                    status,
                ),
            }
            for number, status in enumerate(statements)
        ],
    }


def asked(vendor):
    """Return the last part of each requested path."""
    return [each.path.split("/")[-2] for each in vendor.requests]


class Drowsy(FakeClock):
    """
    A clock of a loop that stalls during every sleep.
    """

    async def sleep(self, seconds):
        await super().sleep(seconds + 100)


class TestSession:
    """
    SessionHandle.wait and watch
    """

    async def test_waits_through_every_phase(self, vendor, bank, said, clock):
        """
        Polling continues before, during and right after processing.
        """
        vendor.say(
            PROGRESS,
            said["not requested"],
            said["processing"],
            said["processing"],
            said["completed"],
        )
        vendor.say(STATUS, said["not completed"], said["good"])

        status = await bank.session(S).wait()

        assert status.insights_available
        assert asked(vendor) == ["progress"] * 4 + ["session_status"] * 2
        assert clock.slept == [2, 2, 2, 2]

    @pytest.mark.parametrize("last", ["completed", "processing"])
    async def test_looks_once_more_after_a_stall(self, vendor, said, last):
        """
        A poll that was due before the timeout is made after a stall.
        """
        vendor.say(PROGRESS, said["processing"], said[last])
        vendor.say(STATUS, said["good"])

        async with AsyncBankConnect(
            "key", server_hash="h", base_url=vendor.base_url, clock=Drowsy()
        ) as bank:
            wait = bank.session(S).wait(timeout=60)
            if last == "completed":
                assert (await wait).insights_available
            else:
                with pytest.raises(WaitTimeoutError):
                    await wait
        assert asked(vendor)[:2] == ["progress"] * 2
        assert len(vendor.requests) <= 3

    async def test_reports_distinct_steps(self, vendor, bank, said):
        """
        An unchanged progress is yielded once.
        """
        vendor.say(
            PROGRESS,
            said["not requested"],
            said["processing"],
            said["processing"],
            said["completed"],
        )

        steps = [
            step.session_progress async for step in bank.session(S).watch()
        ]

        assert steps == ["processing", "completed"]
        assert len(vendor.requests) == 4

    async def test_is_done_for_good(self, vendor, bank, said):
        """
        A finished watch stays finished.
        """
        vendor.say(PROGRESS, said["completed"])
        watch = bank.session(S).watch()

        assert [_ async for _ in watch] != []
        assert [_ async for _ in watch] == []
        assert len(vendor.requests) == 1

    async def test_tells_which_failed_and_why(self, vendor, bank, said):
        """
        The error has the account, the code and the response.
        """
        vendor.say(PROGRESS, said["completed"])
        vendor.say(STATUS, said["bad"])

        with pytest.raises(ProcessingFailedError) as caught:
            await bank.session(S).wait()

        error = caught.value
        assert error.failures == (
            Failure(
                account_id="b7b3ff7b-623d-48df-8cd5-8cc6f137bdc5",
                code="UNPARSABLE",
                message="Failed to process because of an unparsable statement",
            ),
        )
        assert error.response.insights_available is False
        assert str(error) == (
            "account b7b3ff7b-623d-48df-8cd5-8cc6f137bdc5 failed: UNPARSABLE"
        )

    async def test_tells_statements_that_failed(self, vendor, bank, said):
        """
        A statement can fail in an account that succeeds.
        """
        vendor.say(PROGRESS, said["completed"])
        statement = {
            "statement_id": "st",
            "statement_status": "FAILED",
            "error_message": "why",
        }
        account = {
            "account_id": "a",
            "account_status": "completed",
            "statements": [statement, {"statement_status": "completed"}],
        }
        vendor.say(STATUS, (200, {"session_id": S, "accounts": [account]}))

        with pytest.raises(ProcessingFailedError) as caught:
            await bank.session(S).wait()

        assert caught.value.failures == (
            Failure(statement_id="st", account_id="a", message="why"),
        )
        assert "statement st failed: why" in str(caught.value)

    async def test_tells_that_there_is_nothing(self, vendor, bank, said):
        """
        Missing insights without a reason are a failure, too.
        """
        vendor.say(PROGRESS, said["completed"])
        vendor.say(
            STATUS, (200, {"session_id": S, "insights_available": False})
        )

        with pytest.raises(ProcessingFailedError, match="no insights"):
            await bank.session(S).wait()

    async def test_old_versions_do_not_say(self, vendor, bank, said):
        """
        A response that omits insights is not a failure.
        """
        vendor.say(PROGRESS, said["completed"])
        vendor.say(STATUS, (200, {"session_id": S}))

        assert (await bank.session(S).wait()).insights_available is None

    @pytest.mark.parametrize(
        ("last", "over"),
        [
            (stages("failed", "processing"), True),
            (stages("processing", "failed"), True),
            (stages("processing", "failed", "completed"), True),
            (stages("processing", "failed", "processing"), False),
            (stages("processing", "completed"), False),
            (stages("processing", None), False),
            (stages("processing"), False),
            (stages(None), False),
        ],
    )
    async def test_failed_statements_end_it(self, vendor, bank, last, over):
        """
        A failed statement is not waited for once the others are done.
        """
        vendor.say(PROGRESS, last, stages("completed"))

        steps = [step async for step in bank.session(S).watch()]

        assert len(steps) == (1 if over else 2)

    async def test_hopeless_errors_end_it(self, vendor, bank, sample):
        """
        A deleted session ends the wait.
        """
        said = sample("error.session_data.session_deleted.json")
        vendor.say(PROGRESS, (410, said))

        with pytest.raises(NotFoundError):
            await bank.session(S).wait()

        assert len(vendor.requests) == 1


async def hang_up(request):
    """Break the connection without a response."""
    request.transport.abort()
    return web.Response()


async def break_off(request):
    """Break the connection in the middle of a response."""
    response = web.StreamResponse()
    response.content_length = 100
    await response.prepare(request)
    await response.write(b"{")
    request.transport.close()
    return response


class TestTroubles:
    """
    Polls that fail
    """

    PASSING: ClassVar = {
        "503": (503, {}),
        "500": (500, {}),
        "501": (501, {}),
        "408": (408, {}),
        "429": (429, {}),
        "hung up": hang_up,
        "broken off": break_off,
        "a gateway's page": (200, b"<html>maintenance</html>"),
        "another document": (200, []),
    }
    FINAL: ClassVar = {
        401: AuthenticationError,
        402: PaymentRequiredError,
        403: PermissionDeniedError,
        404: NotFoundError,
        410: NotFoundError,
        400: BadRequestError,
        422: BadRequestError,
        307: BadRequestError,
    }

    @pytest.mark.parametrize("kind", PASSING)
    @pytest.mark.parametrize("flow", ["session", "entity"])
    async def test_that_can_pass_end_nothing(
        self, vendor, bank, said, kind, flow
    ):
        """
        Polling continues over temporary failures.
        """
        troubles = [self.PASSING[kind]] * 20
        vendor.say(PROGRESS, *troubles, said["completed"])
        vendor.say(STATUS, *troubles, said["good"])
        vendor.say(
            IDENTITY,
            *troubles,
            entity_progress("completed", transaction_status="completed"),
        )

        if flow == "session":
            status = await bank.session(S).wait()
            assert status.insights_available
        else:
            (statement,) = await bank.entity(E).wait()
            assert statement.status == "completed"

    async def test_last_as_long_as_the_wait(self, vendor, bank, clock):
        """
        The timeout error has the last failure as its cause.
        """
        vendor.say(PROGRESS, (503, {"detail": "overloaded"}))

        with pytest.raises(WaitTimeoutError, match="overloaded") as caught:
            await bank.session(S).wait(timeout=60)

        assert clock.now == 60
        assert len(vendor.requests) > 20
        assert isinstance(caught.value.__cause__, ServerError)
        assert caught.value.attempts[-1].status == 503
        assert caught.value.response is None

    async def test_of_earlier_are_forgotten(self, vendor, bank, said):
        """
        A timeout after a good poll has no cause.
        """
        vendor.say(PROGRESS, *[(503, {})] * 9, said["processing"])

        with pytest.raises(WaitTimeoutError) as caught:
            await bank.session(S).wait(timeout=60)

        assert str(caught.value) == "processing was not over in time"
        assert caught.value.__cause__ is None
        assert caught.value.response.session_progress == "processing"

    @pytest.mark.parametrize("status", FINAL)
    async def test_that_cannot_pass_end_it(self, vendor, bank, said, status):
        """
        A permanent failure is raised at once.
        """
        vendor.say(PROGRESS, said["processing"], (status, {}))

        with pytest.raises(self.FINAL[status]):
            await bank.session(S).wait()

        assert len(vendor.requests) == 2

    async def test_of_shape_end_it(self, vendor, bank):
        """
        A response of an unknown shape is raised at once.
        """
        vendor.say(PROGRESS, (200, {"session_id": S, "progress": 7}))

        with pytest.raises(InvalidResponseError):
            await bank.session(S).wait()

    async def test_of_a_closed_client_end_it(self, vendor, bank, said):
        """
        A closed client ends the wait.
        """

        async def answer(_):
            closing.append(asyncio.create_task(bank.aclose()))
            return web.Response(body=said["processing"][1])

        closing = []
        vendor.say(PROGRESS, answer)

        with pytest.raises(ClientClosedError):
            await bank.session(S).wait()
        await closing[0]

    async def test_are_followed_as_late_as_asked(
        self, vendor, bank, clock, said
    ):
        """
        A Retry-After beyond the retries' deadline is waited for.
        """

        async def refuse(_):
            return web.Response(status=503, headers={"Retry-After": "45"})

        vendor.say(PROGRESS, refuse, refuse, said["completed"])
        vendor.say(STATUS, said["good"])

        await bank.session(S).wait()

        assert clock.slept == [45, 45]


def entity_progress(*statuses, **fields):
    """Make a response with statements of these statuses."""
    return 200, {
        "entity_id": E,
        "progress": [
            {"statement_id": f"s{number}", "status": status, **fields}
            for number, status in enumerate(statuses)
        ],
    }


class TestEntity:
    """
    EntityHandle.wait and watch
    """

    async def test_asks_for_identities_instead(self, vendor, bank):
        """
        The identity responses show the transactions' progress, too.
        """
        identity = entity_progress("completed", transaction_status=None)
        processing = entity_progress(
            "completed", transaction_status="processing"
        )
        done = entity_progress("completed", transaction_status="completed")
        vendor.say(IDENTITY, identity, processing, done)

        (statement,) = await bank.entity(E).wait()

        assert statement.status == "completed"
        assert asked(vendor) == ["identity"] * 3

    async def test_asks_for_transactions_in_the_first_dialect(
        self, vendor, bank
    ):
        """
        Without a status of transactions the wait asks for those.
        """
        vendor.say(IDENTITY, entity_progress("completed"))
        vendor.say(
            TRANSACTIONS,
            entity_progress("processing"),
            entity_progress(None),
            entity_progress("completed"),
        )

        (statement,) = await bank.entity(E).wait()

        assert statement.status == "completed"
        assert asked(vendor) == ["identity"] + ["transactions"] * 3

    @pytest.mark.parametrize(
        ("analysis", "path"),
        [("predictors", "predictors"), ("expense_categories", None)],
    )
    async def test_waits_for_one_analysis(self, vendor, bank, analysis, path):
        """
        Each analysis has a progress of its own.
        """
        path = path or f"get_{analysis}"
        vendor.say(
            f"entity/{E}/{path}/",
            entity_progress("processing"),
            entity_progress("completed"),
        )

        steps = [
            [each.status for each in step]
            async for step in bank.entity(E).watch(analysis)
        ]

        assert steps == [["processing"], ["completed"]]

    @pytest.mark.parametrize("status", ["failed", "FAILED"])
    async def test_tells_which_failed_and_why(self, vendor, bank, status):
        """
        The wait ends with all statements and reports failures together.
        """
        about = {"message": "Extraction failed", "transaction_status": None}
        vendor.say(
            f"entity/{E}/accounts/",
            entity_progress(status, "processing", **about),
            entity_progress(status, "completed", **about),
        )

        with pytest.raises(ProcessingFailedError) as caught:
            await bank.entity(E).wait("accounts")

        assert caught.value.failures == (
            Failure(statement_id="s0", message="Extraction failed"),
        )
        assert [each.status for each in caught.value.response] == [
            "failed",
            "completed",
        ]

    async def test_no_identity_no_transactions(self, vendor, bank):
        """
        A statement whose identity failed is not waited for.
        """
        vendor.say(
            IDENTITY, entity_progress("failed", transaction_status=None)
        )

        with pytest.raises(ProcessingFailedError):
            await bank.entity(E).wait()

    async def test_nothing_to_wait_for(self, vendor, bank):
        """
        An entity without statements is done, as in the vendor's package.
        """
        vendor.say(IDENTITY, entity_progress())

        assert await bank.entity(E).wait() == ()

    async def test_no_word_is_not_yet(self, vendor, bank):
        """
        A response without progress continues the wait.
        """
        vendor.say(
            f"entity/{E}/score/",
            (200, {"entity_id": E, "progress": None}),
            entity_progress("completed"),
        )

        assert len(await bank.entity(E).wait("score")) == 1
        assert len(vendor.requests) == 2


class TestPace:
    """
    Intervals and timeouts
    """

    async def test_draws_its_intervals(self, vendor, clock, said):
        """
        Concurrent waits spread out.
        """
        vendor.say(PROGRESS, *[said["processing"]] * 20, said["completed"])
        async with AsyncBankConnect(
            "key", base_url=vendor.base_url, clock=clock
        ) as bank:
            async for _ in bank.session(S).watch(timeout=None, interval=10):
                pass

        assert all(8 <= seconds <= 12 for seconds in clock.slept)
        assert len(set(clock.slept)) > 1

    async def test_gives_up(self, vendor, bank, clock, said):
        """
        A timeout raises an error with the last progress.
        """
        vendor.say(PROGRESS, said["processing"])

        with pytest.raises(WaitTimeoutError) as caught:
            await bank.session(S).wait(timeout=5)

        assert isinstance(caught.value, TimeoutError)
        assert caught.value.response.session_progress == "processing"
        assert clock.slept == [2, 2, 1]
        assert len(vendor.requests) == 3

    async def test_one_time_for_both_phases(self, vendor, bank, clock, said):
        """
        The timeout covers the request for the outcome as well.
        """
        vendor.say(PROGRESS, said["processing"], said["completed"])
        vendor.say(STATUS, said["not completed"])

        with pytest.raises(WaitTimeoutError):
            await bank.session(S).wait(timeout=5)

        assert sum(clock.slept) == 5

    async def test_goes_on_for_ever(self, vendor, bank, said):
        """
        Without a timeout the wait continues.
        """
        vendor.say(PROGRESS, *[said["processing"]] * 300, said["completed"])
        vendor.say(STATUS, said["good"])

        await bank.session(S).wait(timeout=None)

        assert len(vendor.requests) == 302

    async def test_a_call_has_no_more_time(self, vendor, clock):
        """
        The wait's timeout ends the retries of a poll.
        """
        vendor.say(PROGRESS, (503, {}))
        slow = RetryPolicy(
            attempts=99, wait_initial=3, rng=lambda _, high: high, deadline=99
        )
        async with AsyncBankConnect(
            "key", base_url=vendor.base_url, clock=clock, retry=slow
        ) as bank:
            with pytest.raises(WaitTimeoutError) as caught:
                await bank.session(S).wait(timeout=10)

        assert isinstance(caught.value.__cause__, ServerError)
        assert clock.now <= 10

    async def test_a_failure_after_its_time_is_late(self, vendor, bank, clock):
        """
        A poll that the timeout cuts short raises the timeout's error.
        """

        async def answer(_):
            clock.now += 100
            return web.Response(status=500)

        vendor.say(PROGRESS, answer)

        with pytest.raises(WaitTimeoutError) as caught:
            await bank.session(S).wait(timeout=10)

        assert isinstance(caught.value.__cause__, ServerError)
        assert caught.value.attempts

    @pytest.mark.parametrize("what", ["wait", "watch", "entity"])
    async def test_ends_though_the_clock_stands_still(
        self, vendor, said, what
    ):
        """
        A frozen clock does not make a wait endless.
        """

        class Frozen(Stopped):
            async def sleep(self, _, /):
                await asyncio.sleep(0.01)

        vendor.say(PROGRESS, said["processing"])
        vendor.say(IDENTITY, entity_progress("processing"))
        vendor.say(TRANSACTIONS, entity_progress("processing"))
        async with AsyncBankConnect(
            "key", base_url=vendor.base_url, clock=Frozen()
        ) as bank:
            with pytest.raises(WaitTimeoutError):
                match what:
                    case "wait":
                        waiting = bank.session(S).wait(timeout=0.1)
                        await asyncio.wait_for(waiting, 10)
                    case "watch":
                        async with asyncio.timeout(10):
                            async for _ in bank.session(S).watch(timeout=0.1):
                                pass
                    case "entity":
                        waiting = bank.entity(E).wait(timeout=0.1)
                        await asyncio.wait_for(waiting, 10)

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            ({"timeout": 0}, "timeout"),
            ({"timeout": "5"}, "timeout"),
            ({"interval": -1}, "interval"),
            ({"interval": None}, "interval"),
            ({"interval": True}, "interval"),
        ],
    )
    async def test_refuses_nonsense(self, bank, arguments, name):
        """
        The error names a bad number.
        """
        for handle in (bank.session(S), bank.entity(E)):
            with pytest.raises(ConfigurationError) as caught:
                await handle.wait(**arguments)

            assert list(caught.value.fields) == [name]


class Stopped:
    """
    A clock on which a sleep ends only by cancellation.
    """

    def __init__(self):
        self.asleep = asyncio.Event()
        self.sleeps = 0

    def monotonic(self):
        return 0.0

    def time(self):
        return 0.0

    async def sleep(self, _, /):
        self.sleeps += 1
        self.asleep.set()
        await asyncio.Event().wait()


class TestHints:
    """
    AsyncBankConnect.notify
    """

    @pytest.fixture(name="stopped")
    async def _stopped(self, vendor):
        """A clock that stands still, and a client on it."""
        clock = Stopped()
        async with AsyncBankConnect(
            "key", base_url=vendor.base_url, clock=clock
        ) as bank:
            yield clock, bank

    async def test_a_webhook_makes_it_look_at_once(
        self, vendor, stopped, said
    ):
        """
        A webhook only triggers a poll.
        """
        clock, bank = stopped
        vendor.say(PROGRESS, said["processing"], said["completed"])
        vendor.say(STATUS, said["good"])
        waiting = asyncio.create_task(bank.session(S).wait())
        await clock.asleep.wait()

        bank.notify(EnrichmentWebhook(session_id="another"))
        await asyncio.sleep(0)
        assert len(vendor.requests) == 1
        bank.notify(EnrichmentWebhook(session_id=S))

        assert (await waiting).insights_available
        assert clock.sleeps == 1

    async def test_so_does_one_of_the_entity_flow(self, vendor, stopped):
        """
        A webhook of the entity flow has the entity's id.
        """
        clock, bank = stopped
        vendor.say(
            IDENTITY,
            entity_progress("completed", transaction_status="processing"),
            entity_progress("completed", transaction_status="completed"),
        )
        waiting = asyncio.create_task(bank.entity(E).wait())
        await clock.asleep.wait()

        bank.notify(ExtractionWebhook(entity_id=E, progress="completed"))

        (statement,) = await waiting
        assert statement.status == "completed"

    async def test_one_that_comes_during_a_look_counts(
        self, vendor, stopped, said
    ):
        """
        A notification during a poll triggers another poll.
        """
        clock, bank = stopped

        async def answer(_):
            bank.notify(EnrichmentWebhook(session_id=S))
            return web.Response(body=said["processing"][1])

        vendor.say(PROGRESS, answer, said["completed"])
        vendor.say(STATUS, said["good"])

        await bank.session(S).wait()

        assert clock.sleeps == 0

    async def test_all_who_wait_are_told(self, vendor, stopped, said):
        """
        Two waits for one session end together.
        """
        clock, bank = stopped
        vendor.say(PROGRESS, said["processing"], said["processing"])
        waits = [asyncio.create_task(bank.session(S).wait()) for _ in range(2)]
        while clock.sleeps < 2:
            await asyncio.sleep(0.001)
        vendor.say(PROGRESS, said["completed"])
        vendor.say(STATUS, said["good"])

        bank.notify(EnrichmentWebhook(session_id=S))

        assert len(await asyncio.gather(*waits)) == 2

    async def test_nobody_waits(self, vendor, bank):
        """
        A webhook without a waiter or without ids is ignored.
        """
        bank.notify(EnrichmentWebhook(session_id=S))
        bank.notify(UnknownWebhook())
        bank.notify(InfoEvent())

        assert vendor.requests == []

    async def test_cancelled_waits_leave_nothing(self, vendor, stopped, said):
        """
        No task and no listener outlives the wait.
        """
        clock, bank = stopped
        vendor.say(PROGRESS, said["processing"])
        waiting = asyncio.create_task(bank.session(S).wait())
        await clock.asleep.wait()
        before = len(asyncio.all_tasks())

        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0)

        assert len(asyncio.all_tasks()) < before
        assert bank._api.changes._listeners == {}

    async def test_a_watch_can_be_left(self, vendor, bank, said):
        """
        A watch holds no resources between two steps.
        """
        vendor.say(PROGRESS, said["processing"])

        async for _ in bank.session(S).watch():
            break

        assert bank.stats().in_flight == 0
        assert bank._api.changes._listeners == {}

    async def test_a_broken_clock_is_told(self, vendor, said):
        """
        An error of the clock is raised.
        """

        class Broken(Stopped):
            async def sleep(self, _, /):
                raise ZeroDivisionError

        vendor.say(PROGRESS, said["processing"])
        async with AsyncBankConnect(
            "key", base_url=vendor.base_url, clock=Broken()
        ) as bank:
            with pytest.raises(ZeroDivisionError):
                await bank.session(S).wait()
