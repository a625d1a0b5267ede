"""
An event that was read from a request is delivered, whatever happens to the
request.
"""

import asyncio
import datetime
import json
import socket

import attrs
import pytest

from aiohttp import web
from yarl import URL

from bankconnect_async import AsyncBankConnect
from bankconnect_async.models.events import ExitEvent, SuccessEvent
from bankconnect_async.models.sessions import Session
from bankconnect_async.web import (
    CallbackProtocol,
    CallbackService,
    WebRequest,
    mount,
)


SESSION = Session(link_id="customer-42", session_id="s-1", redirect_url=URL())
SUCCESS = {
    "type": "finbox-bankconnect",
    "status": "success",
    "payload": {"entityId": "e-1", "linkId": "customer-42"},
}
ENTITY = b'{"entity_id": "e-1", "link_id": "customer-42"}'
WAYS = ["message", "redirect"]


@attrs.define
class Vendor:
    """
    A vendor that confirms only when the test lets it.
    """

    base_url: str
    asked: asyncio.Event
    may_answer: asyncio.Event


@pytest.fixture(name="vendor")
async def _vendor(raw_server, answer):
    """Return a vendor that responds slowly."""
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def script(server, reader, writer):
        while await server.read_request(reader):
            asked.set()
            await may_answer.wait()
            writer.write(answer(ENTITY))

    async with raw_server(script) as server:
        yield Vendor(server.base_url, asked, may_answer)


@pytest.fixture(name="bank")
async def _bank(vendor):
    """Return a client of that vendor."""
    async with AsyncBankConnect(
        "key", base_url=vendor.base_url, redirect_url=None
    ) as bank:
        yield bank


@pytest.fixture(name="endpoints")
def _endpoints(make, bank):
    """Return endpoints that confirm with that vendor."""
    return make(bank)


@pytest.fixture(name="claim")
def _claim(posted):
    """
    Return the request that reports a success, as an endpoint's awaitable.
    """

    def take(endpoints, way):
        if way == "message":
            return endpoints.handle_event(posted(endpoints, SESSION, SUCCESS))
        path = URL(endpoints.protocol.return_url("customer-42")).raw_path
        return endpoints.handle_return(
            WebRequest(path=f"{path}?success=true&entity_id=e-1")
        )

    return take


def request_of(protocol, way):
    """
    Return the bytes by which a browser reports a success.
    """
    origin = str(protocol.base.origin())
    if way == "redirect":
        path = URL(protocol.return_url("customer-42")).raw_path
        line = f"GET {path}?success=true&entity_id=e-1 HTTP/1.1\r\n"
        return f"{line}Host: {origin[7:]}\r\n\r\n".encode()
    token = protocol.listener(SESSION).token
    body = json.dumps({"event": SUCCESS, "token": token})
    return (
        f"POST /bank/events HTTP/1.1\r\nHost: {origin[7:]}\r\n"
        f"Origin: {origin}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


@pytest.mark.parametrize("way", WAYS)
async def test_a_browser_closes_while_the_vendor_is_asked(
    told, bank, vendor, until, way
):
    """
    The event is delivered even if the application cancels handlers of closed
    connections.
    """
    cancelled = asyncio.Event()

    @web.middleware
    async def watch(request, handler):
        try:
            return await handler(request)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    app = web.Application(middlewares=[watch])
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    protocol = CallbackProtocol(
        f"http://127.0.0.1:{port}/bank", secret="s" * 32
    )
    endpoints = CallbackService(
        bank, protocol, on_event=told.on_event, on_failure=told.on_failure
    )
    mount(app, endpoints, get_customer=None)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        _, browser = await asyncio.open_connection("127.0.0.1", port)
        browser.write(request_of(protocol, way))
        await vendor.asked.wait()
        browser.close()
        await cancelled.wait()
        vendor.may_answer.set()
        await until(lambda: told.events or told.failures)
    finally:
        vendor.may_answer.set()
        await runner.cleanup()

    (event,) = told.events
    assert isinstance(event, SuccessEvent)
    assert event.confirmed is True


@pytest.mark.parametrize("way", WAYS)
async def test_a_cancelled_request(endpoints, told, vendor, claim, way):
    """
    In any framework, closing waits for the work of a cancelled request.
    """
    request = asyncio.create_task(claim(endpoints, way))
    await vendor.asked.wait()
    request.cancel()
    closing = asyncio.create_task(endpoints.aclose())
    await asyncio.wait([request])
    vendor.may_answer.set()
    await closing

    assert request.cancelled()
    assert [event.confirmed for event in told.events] == [True]
    assert endpoints.pending == 0


@pytest.mark.parametrize("way", WAYS)
async def test_closing_before_the_vendor_answers(
    endpoints, told, vendor, claim, way
):
    """
    An event that cannot be confirmed in time goes to the failure hook.
    """
    request = asyncio.create_task(claim(endpoints, way))
    await vendor.asked.wait()
    await endpoints.aclose(grace=0.01)
    reply = await request

    ((event, error),) = told.failures
    assert (reply.status, told.events) == (503, [])
    assert (event.entity_id, event.confirmed) == ("e-1", None)
    assert isinstance(error, TimeoutError)


@pytest.mark.parametrize("way", WAYS)
async def test_after_closing(endpoints, told, claim, way):
    """
    An event that arrives after closing is refused, so that it does not seem
    accepted.
    """
    await endpoints.aclose()
    reply = await claim(endpoints, way)

    assert reply.status == 503
    assert told.events == told.failures == []


@pytest.mark.parametrize("error", [TypeError("a bug"), asyncio.CancelledError])
async def test_anything_that_confirming_raises(make, told, claim, error):
    """
    The failure hook receives any error, whatever its class.
    """
    endpoints = make(AsyncBankConnect("key", redirect_url=None))

    async def broken(event, *, session):
        raise error

    endpoints.bank.confirm = broken
    reply = await claim(endpoints, "message")

    ((event, _),) = told.failures
    assert event.entity_id == "e-1"
    assert reply.status in {500, 503}


@pytest.mark.parametrize("way", WAYS)
async def test_a_callback_that_panics(make, told, claim, way):
    """
    A callback that raises no `Exception` gets a response and loses no event.
    """

    class Panic(BaseException):
        pass

    endpoints = make(AsyncBankConnect("key", redirect_url=None))

    async def confirm(event, *, session):
        return attrs.evolve(event, confirmed=True)

    endpoints.bank.confirm = confirm
    told.breaks = Panic("in Rust")
    reply = await claim(endpoints, way)

    ((event, error),) = told.failures
    assert reply.status == 500
    assert event.entity_id == "e-1"
    assert isinstance(error, RuntimeError)
    assert error.__cause__ is told.breaks


class TestHooksThatCancel:
    """
    A hook that raises `CancelledError` loses no event silently.
    """

    @staticmethod
    async def broken(*_):
        """Raise `CancelledError`, as broken code might."""
        raise asyncio.CancelledError

    async def test_callback(self, offline, told, webhook_call):
        """
        An event that the callback rejects goes to the failure hook.
        """
        offline.on_event = self.broken
        await offline.handle_webhook(webhook_call(offline))
        await offline.aclose()

        ((webhook, error),) = told.failures
        assert webhook.entity_id == "e-1"
        assert isinstance(error, TimeoutError)

    async def test_both(self, offline, webhook_call, caplog):
        """
        If both hooks fail, an error names the lost event.
        """
        offline.on_event = offline.on_failure = self.broken
        await offline.handle_webhook(webhook_call(offline))
        await offline.aclose()

        assert [record.levelname for record in caplog.records] == [
            "ERROR",
            "ERROR",
        ]
        assert caplog.records[1].message == (
            "ExtractionWebhook is to be tried again:"
            " {'entity_id': 'e-1', 'statement_id': 'st-1'}"
        )
        assert "customer-42" not in caplog.text

    async def test_a_hook_that_never_ends(
        self, make, webhook_call, caplog, until
    ):
        """
        Closing ends after twice its grace period, and names what is lost.
        """
        stop = asyncio.Event()

        async def deaf(*_):
            while not stop.is_set():
                try:
                    await stop.wait()
                except asyncio.CancelledError:
                    continue

        endpoints = make(
            AsyncBankConnect("key", redirect_url=None), on_failure=deaf
        )
        endpoints.on_event = deaf
        await endpoints.handle_webhook(webhook_call(endpoints))
        try:
            async with asyncio.timeout(10):
                await endpoints.aclose(grace=0.01)
        finally:
            stop.set()
        (record,) = caplog.records
        await until(lambda: not endpoints.pending)

        assert (
            "ExtractionWebhook is to be tried again: {'entity_id': 'e-1'"
            in record.message
        )

    async def test_cancelled_before_it_began(
        self, offline, webhook_call, told
    ):
        """
        If the loop is torn down at once, a webhook stays in the store.
        """
        await offline.start()
        await offline.handle_webhook(webhook_call(offline))
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await offline.aclose()
        (item,) = await offline.bank.store.take(
            now=datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC),
            limit=10,
            lease=datetime.timedelta(0),
        )

        assert b"st-1" in item.body
        assert told.events == told.failures == []


async def test_an_exit_needs_no_confirmation(make, told):
    """
    An event that is no success is delivered without a request to the vendor.
    """
    endpoints = make(AsyncBankConnect("key", redirect_url=None))
    path = URL(endpoints.protocol.return_url("customer-42")).raw_path
    await endpoints.handle_return(WebRequest(path=f"{path}?success=false"))

    (event,) = told.events
    assert isinstance(event, ExitEvent)
