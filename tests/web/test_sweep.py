"""
A sweep finds what lost webhooks would have told.
"""

import contextlib
import datetime
import math
import random
import time

import attrs
import pytest

from aiohttp import web
from yarl import URL

from bankconnect_async import (
    AsyncBankConnect,
    BankConnectError,
    RetryPolicy,
    SessionRequest,
    SessionState,
)
from bankconnect_async._codec.event_keys import event_key
from bankconnect_async._codec.webhooks import decode_webhook
from bankconnect_async.errors import AuthenticationError
from bankconnect_async.models.webhooks import (
    EnrichmentWebhook,
    ExpiryWebhook,
    ExtractionWebhook,
    UploadWebhook,
)
from bankconnect_async.sandbox import Fault, Sandbox, statement_pdf
from bankconnect_async.web.sweep import sweep


MINUTE = datetime.timedelta(minutes=1)
DAY = datetime.timedelta(days=1)
#: An address at which nobody gets a webhook.
LOST = "http://127.0.0.1:9/webhook"


@attrs.define
class Scene:
    """
    A sandbox whose webhooks are lost, its client, and a clock.
    """

    sandbox: Sandbox
    bank: AsyncBankConnect
    later: datetime.timedelta = 20 * MINUTE

    def now(self):
        """Return a time that is *later*."""
        return datetime.datetime.now(datetime.UTC) + self.later

    async def play(self, action="success", *, link_id="customer-42", **fields):
        """Play a customer's journey, and return its session."""
        session = await self.bank.create_session(
            SessionRequest(link_id=link_id, redirect_url=None, **fields)
        )
        if action is not None:
            await self.sandbox.play(session.session_id, action)
        return session

    async def sweep(self, **settings):
        """Sweep, and return the report and the webhooks that it found."""
        report = await sweep(self.bank, now=self.now, **settings)
        items = await self.bank.store.take(
            now=self.now(), limit=1000, lease=MINUTE
        )
        for item in items:
            await self.bank.store.done(item.key)
        return report, [decode_webhook(item.body) for item in items]

    async def lost(self):
        """Return the keys of the webhooks that were lost."""
        return {
            event_key(decode_webhook(sent.body))
            for sent in await self.sandbox.webhooks_sent()
        }

    async def entries(self, link_id="customer-42"):
        """Return the entries of a customer, newest first."""
        return await self.bank.store.find(
            api_id=self.bank.store_api_id, link_id=link_id
        )

    async def advance(self, state):
        """Set the state of the customer's only session."""
        (entry,) = await self.entries()
        await self.bank.store.advance(
            entry.entry_id, state, at=datetime.datetime.now(datetime.UTC)
        )

    async def calls(self, work):
        """Do some work, and return the number of requests that it sent."""
        requests = self.sandbox.requests
        await work
        return self.sandbox.requests - requests


def keys(webhooks):
    """Return the keys of webhooks."""
    return {event_key(webhook) for webhook in webhooks}


@pytest.fixture(name="stage")
async def _stage():
    """Set a scene: ``await stage(dialect)``."""
    async with contextlib.AsyncExitStack() as stack:

        async def stage(dialect, *, processing_time=0, **settings):
            sandbox = await stack.enter_async_context(
                Sandbox(
                    dialect,
                    processing_time=processing_time,
                    webhook_url=LOST,
                )
            )
            given = {
                "api_key": sandbox.api_key,
                "server_hash": sandbox.server_hash,
            }
            bank = await stack.enter_async_context(
                AsyncBankConnect(
                    base_url=sandbox.base_url,
                    redirect_url=None,
                    **{**given, **settings},
                )
            )
            return Scene(sandbox, bank)

        yield stage


@pytest.fixture(name="sweep_of")
def _sweep_of(raw_server, answer):
    """
    Sweep the session of a scene at a server that gives chosen bodies:
    ``await sweep_of(scene, {b"part of the path": body})``.
    """

    async def sweep_of(scene, bodies):
        async def respond(server, reader, writer):
            while head := await server.read_request(reader):
                writer.write(
                    answer(
                        next(
                            body
                            for part, body in bodies.items()
                            if part in head
                        )
                    )
                )

        (entry,) = await scene.entries()
        async with (
            raw_server(respond) as server,
            AsyncBankConnect(
                "key", base_url=server.base_url, redirect_url=None
            ) as bank,
        ):
            key = attrs.evolve(entry.key, api_id=bank.store_api_id)
            await bank.store.add([attrs.evolve(entry, key=key)])
            report = await sweep(bank, now=scene.now)
            return report, await bank.store.take(
                now=scene.now(), limit=9, lease=MINUTE
            )

    return sweep_of


class TestBothFlows:
    """
    A sweep of either flow costs few calls, and loses nothing.
    """

    @pytest.mark.parametrize("dialect", ["seed", "entity", "session"])
    async def test_never_opened(self, stage, dialect):
        """
        A session that was never opened costs one call, and rarely.
        """
        scene = await stage(dialect)
        await scene.play(None)

        assert await scene.calls(scene.sweep()) == 1
        assert await scene.calls(scene.sweep()) == 0
        scene.later += 30 * MINUTE
        assert await scene.calls(scene.sweep()) == 1

    @pytest.mark.parametrize("dialect", ["seed", "entity", "session"])
    async def test_lost_webhooks(self, stage, dialect):
        """
        Each lost webhook is found, with its key.
        """
        scene = await stage(dialect)
        session = await scene.play()
        if dialect == "session":
            handle = scene.bank.session(session)
            await handle.initiate_processing()
            await handle.wait()

        report, found = await scene.sweep()

        assert report.found == len(found) == (2 if dialect == "session" else 1)
        assert keys(found) == await scene.lost()

    async def test_many_unopened_sessions(self, stage):
        """
        Of many sessions that nobody opened, only those that are due cost a
        call.
        """
        scene = await stage("session")
        await scene.play(None)
        (entry,) = await scene.entries()
        await scene.bank.store.add(
            [
                attrs.evolve(
                    entry,
                    entry_id=f"entry-{number}",
                    next_check_at=entry.created_at
                    + (number % 100 + 1) * 10 * MINUTE,
                )
                for number in range(3000)
            ]
        )

        # Each hundredth is due after ten minutes, and so on.
        assert await scene.calls(scene.sweep(concurrency=16)) == 2 * 30 + 1

    async def test_limit(self, stage):
        """
        A sweep checks no more sessions than it may, and the rest later.
        """
        scene = await stage("session")
        for number in range(5):
            await scene.play(None, link_id=f"customer-{number}")

        reports = [
            (await scene.sweep(limit=3, concurrency=2))[0] for _ in range(3)
        ]

        assert [report.checked for report in reports] == [3, 2, 0]

    async def test_failures(self, stage):
        """
        A session that could not be checked is due again soon.
        """
        scene = await stage("session")
        session = await scene.play()
        scene.sandbox.faults.always(Fault.status(400))
        report, _ = await scene.sweep()
        assert report.failures == {"BadRequestError": 1}
        (entry,) = await scene.entries()
        assert "400" in entry.last_problem

        scene.sandbox.faults.clear()
        scene.later += 2 * DAY
        report, (webhook,) = await scene.sweep()

        assert webhook.session_id == session.session_id

    async def test_refused_key(self, stage):
        """
        A key that the vendor refuses stops the sweep after one call.
        """
        scene = await stage("session")
        for number in range(5):
            await scene.play(None, link_id=f"customer-{number}")
        scene.sandbox.faults.always(Fault.status(401))

        with pytest.raises(AuthenticationError):
            await scene.sweep(concurrency=1)
        assert len(scene.sandbox.request_log) == 6

    @pytest.mark.parametrize("dialect", ["seed", "session"])
    async def test_ambiguous(self, stage, dialect):
        """
        A session that may exist is closed by time, without a call.
        """
        scene = await stage(dialect)
        scene.sandbox.faults.always(Fault.reset(after=True))
        with contextlib.suppress(BankConnectError):
            await scene.bank.create_session(
                "customer-42", retry=RetryPolicy(attempts=1)
            )
        scene.sandbox.faults.clear()

        assert await scene.calls(scene.sweep()) == 0
        scene.later = 31 * DAY
        assert await scene.calls(scene.sweep()) == 0
        (entry,) = await scene.entries()
        assert entry.state is SessionState.EXPIRED


class TestSessionFlow:
    """
    The upload status and the outcome of each session tell what happened.
    """

    @pytest.mark.parametrize("code", ["UNPARSABLE", "INCOMPLETE_MONTHS", None])
    async def test_failed(self, stage, code):
        """
        The end of processing has the key of its webhook, well or badly.
        """
        scene = await stage("session", processing_time=math.inf)
        session = await scene.play()
        await scene.bank.session(session).initiate_processing()
        assert len((await scene.sweep())[1]) == 1
        assert (await scene.entries())[0].state is SessionState.PROCESSING
        scene.sandbox.finish(session.session_id, error_code=code)
        scene.later *= 3

        _, (webhook,) = await scene.sweep()

        assert event_key(webhook) in await scene.lost()

    async def test_numbers_of_any_size(self, stage, sweep_of):
        """
        Webhooks are made of what the server says, with all its digits.
        """
        rest = b'"session_id": "s", "accounts": [{"balance": 1.10}]}'
        scene = await stage("session")
        await scene.play()

        report, items = await sweep_of(
            scene,
            {
                b"upload_status": b'{"upload_status": "COMPLETED", ' + rest,
                b"": b"{" + rest,
            },
        )

        assert (report.found, report.failures) == (2, {})
        assert all(b"1.10" in item.body for item in items)

    async def test_expired(self, stage):
        """
        An expired session is told once.
        """
        scene = await stage("session")
        session = await scene.play(None)
        scene.sandbox.expire(session.session_id)

        _, (webhook,) = await scene.sweep()

        assert isinstance(webhook, ExpiryWebhook)
        assert keys([webhook]) == await scene.lost()

    async def test_processing_undone(self, stage):
        """
        Uploads that a browser reported are told if nobody processes them.
        """
        scene = await stage("session")
        await scene.play()
        await scene.advance(SessionState.SUBMITTED)

        _, (webhook,) = await scene.sweep()

        assert isinstance(webhook, UploadWebhook)

    async def test_deleted(self, stage):
        """
        A session that was deleted is closed.
        """
        scene = await stage("session")
        session = await scene.play()
        await scene.bank.session(session).delete()

        report, found = await scene.sweep()

        assert (report.closed, found) == (1, [])
        (entry,) = await scene.entries()
        assert entry.state is SessionState.DELETED


class TestEntityFlow:
    """
    The webhooks and the entities of a customer tell what happened.
    """

    @pytest.mark.parametrize(
        "error_type", ["MU003", "NB003", "NB000", "CONSENT_REJECTED"]
    )
    async def test_failed(self, stage, error_type):
        """
        A failure has the key of its webhook, if that had an entity or not.
        """
        scene = await stage("entity")
        session = await scene.play(None)
        await scene.sandbox.play(
            session.session_id, "failure", error_type=error_type
        )

        _, found = await scene.sweep()

        assert found
        assert keys(found) == await scene.lost()

    async def test_any_time(self, stage, sweep_of):
        """
        The time of a webhook may be any that can be written.
        """
        scene = await stage("entity")
        await scene.play()
        webhook = (
            b'{"entity_id": "e", "statement_id": "st", "progress": "failed", '
            b'"link_id": "customer-42", "date_time": "9999-12-31 23:59:59"}'
        )

        report, (item,) = await sweep_of(
            scene, {b"": b'{"payloads": [%b]}' % webhook}
        )

        assert (report.found, report.failures) == (1, {})
        assert b"9999-12-31 23" in item.body

    async def test_older_journeys(self, stage):
        """
        A session does not get the entity of an earlier one.
        """
        scene = await stage("entity")
        await scene.play()
        _, (first,) = await scene.sweep()
        await scene.bank.store.advance(
            (await scene.entries())[0].entry_id,
            SessionState.COMPLETED,
            at=scene.now(),
        )

        await scene.play(None)
        scene.later += 30 * MINUTE
        report, found = await scene.sweep()
        assert (report.checked, found) == (1, [])

        await scene.play()
        scene.later += 30 * MINUTE
        _, (second,) = await scene.sweep()
        assert second.entity_id != first.entity_id
        owners = [entry.entity_ids for entry in await scene.entries()]
        assert owners == [(second.entity_id,), (), (first.entity_id,)]

    async def test_uploads_without_webhooks(self, stage):
        """
        With webhooks of net banking only, uploads are found by the entity.
        """
        scene = await stage("entity")
        await scene.bank.update_webhook(LOST, flow="entity", mode=0)
        await scene.play()
        await scene.advance(SessionState.OPENED)

        _, (webhook,) = await scene.sweep()

        (entity_id,) = scene.sandbox.entities
        assert webhook.entity_id == entity_id
        assert webhook.progress == "completed"

    async def test_expired(self, stage):
        """
        An entry is closed when nobody can open its session any more.
        """
        scene = await stage("entity")
        await scene.play(None, session_expiry=60)
        scene.later = 61 * MINUTE

        report, found = await scene.sweep()

        assert (report.closed, found) == (1, [])
        (entry,) = await scene.entries()
        assert entry.state is SessionState.EXPIRED


class TestService:
    """
    A service hands on what its sweep finds as if the webhook had come.
    """

    async def test_expired_in_part(self, serve, told, until):
        """
        The processing of a session that expired before all was uploaded is
        tried, and the expiry is told with its accounts.
        """
        later = [0.0]
        async with serve(
            "session", now=lambda: time.time() + later[-1]
        ) as service:
            session = await service.bank.create_session("customer-42")
            today = datetime.datetime.now(datetime.UTC).date()
            await service.bank.session(session).upload(
                statement_pdf(from_date=today - 30 * DAY), bank_name="axis"
            )
            service.sandbox.expire(session.session_id)
            later.append(1200.0)

            await service.endpoints.sweep()
            await until(lambda: not service.endpoints.pending)

            (webhook,) = told.events
            assert isinstance(webhook, ExpiryWebhook)
            assert webhook.link_id == "customer-42"
            assert webhook.accounts
            processed = service.sandbox.processed("initiate_processing")
            assert (processed, told.failures) == (1, [])

    @pytest.mark.parametrize("dialect", ["entity", "session"])
    async def test_webhooks_lost_at_random(
        self, serve, until, json_call, listening, dialect
    ):
        """
        If every fifth webhook is lost, one sweep finds every outcome, once
        for each key, and knows the lost webhooks when they come after all.
        """
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        losses, lost, arrived = random.Random(seed), [], []
        later = [0.0]
        async with serve(
            dialect, now=lambda: time.time() + later[-1]
        ) as service:
            endpoints = service.endpoints
            path = URL(endpoints.protocol.webhook_url).raw_path

            async def deliver(body):
                response = await endpoints.handle_webhook(
                    json_call(body, path=path)
                )
                assert response.status == 200

            async def relay(request):
                body = await request.read()
                if losses.random() < 0.2:
                    lost.append(body)
                else:
                    await deliver(body)
                arrived.append(body)
                return web.Response()

            async with listening(relay) as url:
                await service.bank.update_webhook(url, flow=dialect)
                for number in range(30):
                    session = await service.bank.create_session(f"c-{number}")
                    await service.sandbox.play(session.session_id, "success")
                stages = 1 if dialect == "entity" else 2

                def outcomes():
                    return {
                        webhook.link_id
                        for webhook in service.told.events
                        if isinstance(
                            webhook, ExtractionWebhook | EnrichmentWebhook
                        )
                    }

                await until(
                    lambda: (
                        len(arrived)
                        == 30 + (stages - 1) * (30 - len(uploads(lost)))
                    )
                )
                losses.random = lambda: 1.0
                later.append(1200.0)

                report = await endpoints.sweep()

                assert report.found >= len(lost)
                await until(lambda: len(outcomes()) == 30)
                for body in lost:
                    await deliver(body)
                await until(lambda: not endpoints.pending)

        told_keys = [event.key for event in service.told.events]
        assert len(told_keys) == len({*told_keys}) == stages * 30


def uploads(bodies):
    """Return the webhooks about complete uploads."""
    webhooks = map(decode_webhook, bodies)
    return [each for each in webhooks if isinstance(each, UploadWebhook)]
