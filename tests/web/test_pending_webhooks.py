"""
A webhook is acknowledged at once, and none is lost.
"""

import asyncio
import datetime
import logging

import pytest

from bankconnect_async import AsyncBankConnect, MemorySessionStore
from bankconnect_async.errors import DecodeError, StoreError
from bankconnect_async.models.webhooks import ExtractionWebhook, UnknownWebhook


LATER = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)


class Panic(BaseException):
    """
    A panic of a library in Rust, which is no `Exception`.
    """


class TestWebhooks:
    """
    A webhook is acknowledged at once, and none is lost.
    """

    async def test_answer_does_not_wait(
        self, make, webhook_call, told, caplog
    ):
        """
        The response is sent before the callback has ended.
        """
        gate = asyncio.Event()

        async def slow(webhook):
            await gate.wait()
            told.events.append(webhook)

        endpoints = make(AsyncBankConnect("key", redirect_url=None))
        endpoints.on_event = slow
        reply = await endpoints.handle_webhook(webhook_call(endpoints))
        assert (reply.status, told.events) == (200, [])
        gate.set()
        await endpoints.aclose()

        (webhook,) = told.events
        assert isinstance(webhook, ExtractionWebhook)
        assert webhook.statement_id == "st-1"
        assert not caplog.records

    async def test_duplicates(self, offline, webhook_call, told):
        """
        A repeated webhook is acknowledged and not delivered again; a different
        one is.
        """
        for _ in range(3):
            reply = await offline.handle_webhook(webhook_call(offline))
            assert reply.status == 200
        await offline.handle_webhook(
            webhook_call(offline, progress="failed", reason="x")
        )
        await offline.aclose()

        assert [webhook.progress for webhook in told.events] == [
            "completed",
            "failed",
        ]

    async def test_failure_goes_to_the_hook(self, offline, webhook_call, told):
        """
        A webhook whose callback fails goes to the failure hook once, complete.
        """
        told.breaks = RuntimeError("no database")
        for _ in range(2):
            await offline.handle_webhook(webhook_call(offline))
        await offline.aclose()

        ((webhook, error),) = told.failures
        assert webhook.raw["statement_id"] == "st-1"
        assert error is told.breaks

    async def test_hook_fails_too(
        self, make, webhook_call, told, caplog, until
    ):
        """
        A webhook that both hooks refuse is handed on again by itself; when it
        is sent again meanwhile, that makes no second one.
        """

        async def broken(what, error):
            raise OSError("disk full")

        endpoints = make(
            AsyncBankConnect("key", redirect_url=None),
            on_failure=broken,
            poll_interval=0.01,
        )
        told.breaks = RuntimeError("no database")
        await endpoints.handle_webhook(webhook_call(endpoints))
        await until(lambda: not endpoints.pending)
        told.breaks = None
        reply = await endpoints.handle_webhook(webhook_call(endpoints))
        await until(lambda: told.events)
        await endpoints.aclose()

        assert reply.status == 200
        assert len(told.events) == 1
        assert [record.levelno for record in caplog.records] == [
            logging.ERROR,
            logging.ERROR,
        ]
        assert "is to be tried again" in caplog.records[1].message

    @pytest.mark.parametrize("error", [RuntimeError, Panic])
    async def test_last_attempt(self, make, webhook_call, told, until, error):
        """
        A webhook whose callback fails every time goes to the failure hook
        each time, and is not tried forever.
        """
        endpoints = make(
            AsyncBankConnect("key", redirect_url=None),
            max_attempts=2,
            poll_interval=0.01,
        )
        told.breaks = error("no database")
        await endpoints.handle_webhook(webhook_call(endpoints))
        await until(lambda: len(told.failures) == 2)
        await until(lambda: not endpoints.pending)
        taken = await endpoints.bank.store.take(
            now=LATER, limit=10, lease=datetime.timedelta(0)
        )
        await endpoints.aclose()

        assert taken == []
        assert [webhook.statement_id for webhook, _ in told.failures] == [
            "st-1"
        ] * 2
        for _, failure in told.failures:
            assert isinstance(failure, RuntimeError)
            assert told.breaks in {failure, failure.__cause__}

    async def test_store_fails(self, make, webhook_call, told, caplog):
        """
        A webhook that cannot be stored is refused, so that the vendor keeps
        it.
        """

        class Broken(MemorySessionStore):
            async def enqueue(self, *_, **__):
                raise StoreError("disk full")

        endpoints = make(
            AsyncBankConnect("key", redirect_url=None, store=Broken())
        )
        reply = await endpoints.handle_webhook(webhook_call(endpoints))
        await endpoints.aclose()

        assert reply.status == 503
        assert reply.headers["Retry-After"]
        assert told.events == told.failures == []
        assert "disk full" in caplog.text

    async def test_a_store_that_raises_anything(
        self, make, webhook_call, told, until, caplog
    ):
        """
        An error of a store is logged, and its work is done when it can be
        read again.
        """

        class Broken(MemorySessionStore):
            errors = 3

            async def take(self, **kwargs):
                if self.errors:
                    self.errors -= 1
                    raise RuntimeError("no such store")
                return await super().take(**kwargs)

        endpoints = make(
            AsyncBankConnect("key", redirect_url=None, store=Broken()),
            poll_interval=0.01,
        )
        await endpoints.handle_webhook(webhook_call(endpoints))
        await until(lambda: told.events)
        await endpoints.aclose()

        assert caplog.text.count("the inbox cannot be read") == 3

    async def test_not_understood(self, offline, webhook_call, told):
        """
        An object of an unknown shape is refused, and goes to the failure hook.
        """
        call = webhook_call(offline, b'{"news": [1, 2]}')
        reply = await offline.handle_webhook(call)
        await offline.aclose()

        assert reply.status == 400
        ((webhook, error),) = told.failures
        assert isinstance(webhook, UnknownWebhook)
        assert webhook.raw == {"news": [1, 2]}
        assert isinstance(error, DecodeError)

    @pytest.mark.parametrize("depth", [254, 300, 1000])
    async def test_nested_deeply(self, offline, webhook_call, told, depth):
        """
        Every acknowledged webhook is delivered, however deeply it is nested.
        """
        nested = b"[" * depth + b"]" * depth
        body = b'{"progress": "completed", "news": %b}' % nested
        replies = [
            await offline.handle_webhook(webhook_call(offline, one))
            for one in (body, body, b'{"event_name": "NEWS", ' + body[1:])
        ]
        await offline.aclose()

        assert [reply.status for reply in replies] == [200] * 3
        assert [webhook.raw["progress"] for webhook in told.events] == [
            "completed"
        ] * 2

    async def test_too_many(self, make, webhook_call, told, until):
        """
        Webhooks beyond the limit of pending ones wait in the store, and those
        for which it has no room are refused, so that the vendor keeps them.
        """
        gate = asyncio.Event()
        begun = []

        async def slow(webhook):
            begun.append(webhook)
            await gate.wait()
            told.events.append(webhook)

        store = MemorySessionStore(limit=3)
        endpoints = make(
            AsyncBankConnect("key", redirect_url=None, store=store),
            max_pending=2,
        )
        endpoints.on_event = slow
        statuses = [
            (
                await endpoints.handle_webhook(
                    webhook_call(endpoints, statement_id=f"st-{number}")
                )
            ).status
            for number in range(4)
        ]
        await until(lambda: len(begun) == 2)
        assert endpoints.pending == 3
        gate.set()
        await endpoints.aclose()

        assert statuses == [200, 200, 200, 503]
        assert len(told.events) == 3

    async def test_closing(self, offline, webhook_call, told):
        """
        During and after closing, webhooks are refused, so that the vendor
        keeps them.
        """
        await offline.aclose()
        reply = await offline.handle_webhook(webhook_call(offline))

        assert reply.status == 503
        assert reply.headers["Retry-After"]
        assert told.events == []

    async def test_callback_that_never_ends(
        self, make, webhook_call, told, until
    ):
        """
        A callback that does not end in time is cancelled, and its webhook goes
        to the failure hook.
        """
        entered = []

        async def stuck(webhook):
            entered.append(webhook)
            await asyncio.Event().wait()

        endpoints = make(AsyncBankConnect("key", redirect_url=None))
        endpoints.on_event = stuck
        await endpoints.handle_webhook(webhook_call(endpoints))
        await until(lambda: entered)
        await endpoints.aclose(grace=0.01)

        ((webhook, error),) = told.failures
        assert webhook is entered[0]
        assert isinstance(error, TimeoutError)

    async def test_refused(self, offline, webhook_call, told):
        """
        A refused webhook reaches neither hook.
        """
        call = webhook_call(offline, b"[]")
        reply = await offline.handle_webhook(call)
        await offline.aclose()

        assert reply.status == 400
        assert told.events == told.failures == []

    async def test_shared_store(self, make, webhook_call, told):
        """
        Endpoints that share a store recognise each other's webhooks.
        """
        shared = MemorySessionStore()
        banks = [
            AsyncBankConnect("key", redirect_url=None, store=shared)
            for _ in range(2)
        ]
        for endpoints in map(make, banks):
            await endpoints.handle_webhook(webhook_call(endpoints))
            await endpoints.aclose()

        assert len(told.events) == 1


async def test_wakes_those_who_wait(offline, webhook_call, told):
    """
    A webhook makes a wait for its entity poll at once.
    """
    woken = []
    with offline.bank._api.changes.subscribe("en-1", lambda: woken.append(1)):
        await offline.handle_webhook(webhook_call(offline, entity_id="en-1"))

    await offline.aclose()
    assert woken == [1]
    assert len(told.events) == 1
