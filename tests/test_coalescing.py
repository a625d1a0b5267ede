"""
Small requests of one loop iteration are written together; others as aiohttp
writes them.
"""

import asyncio
import functools

from contextlib import suppress

import aiohttp
import pytest

from yarl import URL

from bankconnect_async import ConnectionLostError, Delivery
from bankconnect_async._http.bodies import BytesBody
from bankconnect_async._http.coalescing import WriteCoalescer
from bankconnect_async._http.connections import (
    SMALL,
    CoalescedRequest,
    make_connector,
    request_class,
)
from bankconnect_async.config import Pool


KEY = "0123456789abcdef"
HEADERS = {"x-api-key": KEY, "Accept": "*/*"}


class Noting(BytesBody):
    """
    A body that counts how often it is written with and without a task.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.by_a_task = []
        self.before = lambda: None

    async def write_with_length(self, writer, content_length):
        self.by_a_task.append(asyncio.current_task() is not None)
        self.before()
        await super().write_with_length(writer, content_length)


def noting(size=16):
    """Make a body of so many bytes."""
    return Noting(b"x" * size, content_type="application/json")


@pytest.fixture(name="transport")
async def _transport(make_transport):
    """Return a transport with short limits."""
    transport = make_transport(headers=HEADERS)
    yield transport
    await transport.aclose()


@pytest.fixture(name="heads")
def _heads():
    """Return the request heads that a server received."""
    return []


@pytest.fixture(name="script")
def _script(heads, answer):
    """A server that reads whole requests and sends short responses."""

    async def script(server, reader, writer):
        while True:
            heads.append(await server.read_request(reader))
            writer.write(answer())

    return script


async def send(transport, server, body, method="POST"):
    """Send *body* once."""
    return await transport.send_to(
        URL(server.base_url) / "v1" / "session/", body, method=method
    )


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, 2**20])
async def test_arrives_whole(transport, raw_server, script, heads, size):
    """
    A body of any size arrives complete, and its connection is kept.
    """
    async with raw_server(script) as server:
        for _ in range(2):
            assert (await send(transport, server, noting(size))).status == 200
        host = URL(server.base_url).authority

    assert server.requests == [b"x" * size] * 2
    assert server.connections == 1
    (head,) = set(heads)
    first, *lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")
    assert first == "POST /bank-connect/v1/session/ HTTP/1.1"
    assert sorted(lines) == [
        "Accept: */*",
        f"Content-Length: {size}",
        "Content-Type: application/json",
        f"Host: {host}",
        f"x-api-key: {KEY}",
    ]


async def test_is_sent_as_aiohttp_sends_it(
    monkeypatch, transport, raw_server, script, heads
):
    """
    Without the help of the session, a request has the same head.
    """
    calls = []
    request = aiohttp.ClientSession.request

    def watched(session, *args, **kwargs):
        calls.append(args)
        return request(session, *args, **kwargs)

    monkeypatch.setattr(aiohttp.ClientSession, "request", watched)
    async with raw_server(script) as server:
        await send(transport, server, noting())
        assert not calls
        (await transport.open()).polling = None
        await send(transport, server, noting())

    assert len(calls) == 1
    assert heads[0] == heads[1]
    assert server.connections == 1


async def test_a_cancelled_request_leaves_no_connection(
    transport, raw_server, script
):
    """
    A request that is cancelled in any turn frees its slot, and gives back no
    connection on which a response may still come.
    """
    async with raw_server(script) as server:
        await send(transport, server, noting())
        for turns in range(6):
            task = asyncio.create_task(send(transport, server, noting(turns)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert transport.in_flight == 0
            assert (await send(transport, server, noting())).status == 200

    # Bodies of other sizes are those of cancelled requests.
    sizes = [len(request) for request in server.requests]
    assert sizes.count(16) == 7


async def test_needs_no_task(transport, raw_server, script):
    """
    A small body is written from the event loop, a larger one by a task.
    """
    small, large = noting(SMALL), noting(SMALL + 1)
    async with raw_server(script) as server:
        for body in (small, large):
            await send(transport, server, body)

    assert small.by_a_task == [False]
    assert large.by_a_task == [True]


async def test_leave_together(monkeypatch, transport, raw_server, script):
    """
    Requests of one loop iteration are written in order when the last of them
    is ready.
    """
    bodies = [noting(size) for size in range(1, 6)]
    seen = []
    add = WriteCoalescer.add

    def watched(coalescer, conn, protocol, writer, body):
        seen.append(("add", body.size))
        add(coalescer, conn, protocol, writer, body)

    monkeypatch.setattr(WriteCoalescer, "add", watched)
    for body in bodies:
        body.before = functools.partial(seen.append, ("write", body.size))
    async with raw_server(script) as server:
        # Connections are there the second time.
        for _ in range(2):
            seen.clear()
            await asyncio.gather(
                *(send(transport, server, body) for body in bodies)
            )

    assert seen == [(how, n) for how in ("add", "write") for n in range(1, 6)]


async def test_one_by_one(monkeypatch, transport, raw_server, script):
    """
    A request that follows another one, with no other in flight, is written at
    once; after requests that left together it waits for others.
    """
    seen = []
    add = WriteCoalescer.add

    def watched(coalescer, *args):
        add(coalescer, *args)
        seen.append("added")

    monkeypatch.setattr(WriteCoalescer, "add", watched)
    body = noting()
    body.before = functools.partial(seen.append, "written")
    async with raw_server(script) as server:
        for _ in range(2):
            for _ in range(2):
                await send(transport, server, body)
            await asyncio.gather(
                *(send(transport, server, noting()) for _ in range(3))
            )

    together = ["added"] * 3
    one_by_one = ["added", "written", "written", "added"]
    assert seen == (one_by_one + together) * 2


async def test_one_that_fails_harms_no_other(transport, raw_server, script):
    """
    A failed write reaches its own caller only, and the other requests are
    sent.
    """
    bodies = [noting() for _ in range(3)]

    def fail():
        raise ValueError("broken")

    bodies[1].before = fail
    async with raw_server(script) as server:
        await asyncio.gather(
            *(send(transport, server, noting()) for _ in bodies)
        )
        first, failed, last = await asyncio.gather(
            *(send(transport, server, body) for body in bodies),
            return_exceptions=True,
        )

    assert (first.status, last.status) == (200, 200)
    assert isinstance(failed, ConnectionLostError)
    assert transport.in_flight == 0


async def test_goes_on_after_an_interruption(transport, raw_server, script):
    """
    An exception in one write, as from a signal, holds back no other.
    """
    bodies = [noting() for _ in range(3)]
    caught = []

    class Interruption(BaseException):
        pass

    def interrupt():
        raise Interruption

    class Catching(WriteCoalescer):
        def flush(self):
            # The loop would end with it.
            try:
                super().flush()
            except Interruption as exc:
                caught.append(exc)

    async with raw_server(script) as server:
        await asyncio.gather(
            *(send(transport, server, noting()) for _ in bodies)
        )
        bodies[0].before = interrupt
        connector = transport._bound.session.connector
        connector.coalescer = Catching(
            asyncio.get_running_loop(), connector, connector._acquired
        )
        tasks = [
            asyncio.create_task(send(transport, server, body))
            for body in bodies
        ]
        answers = [await task for task in tasks[1:]]
        tasks[0].cancel()
        await asyncio.wait(tasks)

    assert len(caught) == 1
    assert [each.status for each in answers] == [200, 200]


async def test_may_not_wait(transport, raw_server, script):
    """
    If the write of a small body had to wait, its caller gets an error.
    """

    class Waiting(BytesBody):
        async def write_with_length(self, writer, content_length):
            self.begun = True
            await asyncio.sleep(0)

    body = Waiting(b"{}", content_type="application/json")
    async with raw_server(script) as server:
        with pytest.raises(ConnectionLostError) as caught:
            await send(transport, server, body)

    assert caught.value.delivery is Delivery.AMBIGUOUS


async def test_closed_before_it_leaves(
    monkeypatch, transport, raw_server, script
):
    """
    A request that a closed client had not written counts as not sent.
    """
    body, is_put = noting(), asyncio.Event()
    add = WriteCoalescer.add

    def watched(*args):
        add(*args)
        is_put.set()
        # As soon as this turn allows.
        closing.append(asyncio.ensure_future(transport.aclose()))

    closing = []
    async with raw_server(script) as server:
        await send(transport, server, noting())
        monkeypatch.setattr(WriteCoalescer, "add", watched)
        coalescer = transport._bound.session.connector.coalescer
        monkeypatch.setattr(
            coalescer,
            "flush",
            functools.partial(later, WriteCoalescer.flush, coalescer),
        )
        with pytest.raises(ConnectionLostError) as caught:
            await send(transport, server, body)
        await asyncio.wait(closing)

    assert is_put.is_set()
    assert caught.value.delivery is Delivery.NOT_SENT
    assert server.requests == [b"x" * 16]


def later(function, *args):
    """Call in a later loop iteration."""
    loop = asyncio.get_running_loop()
    loop.call_soon(loop.call_soon, function, *args)


async def test_what_was_not_asked_for_is_no_answer(
    transport, raw_server, answer
):
    """
    An unrequested second response is not read as the response to the next
    request.
    """
    go_on = asyncio.Event()

    async def script(server, reader, writer):
        while True:
            await server.read_request(reader)
            writer.write(answer(b"whose"))
            if len(server.requests) == 1:
                await go_on.wait()
                writer.write(answer(b"foreign"))

    async with raw_server(script) as server:
        await send(transport, server, noting(1))
        ((kept, _),) = next(
            iter(transport._bound.session.connector._conns.values())
        )
        go_on.set()
        async with asyncio.timeout(5):
            while not kept.should_close:
                await asyncio.sleep(0)
        with pytest.raises(ConnectionLostError) as caught:
            await send(transport, server, noting(2))
        answered = await send(transport, server, noting(3))

    assert caught.value.delivery is Delivery.NOT_SENT
    assert answered.body == b"whose"
    assert server.requests == [b"x", b"xxx"]


@pytest.mark.parametrize("size", [1, SMALL, SMALL + 1])
async def test_early_answers_count(transport, raw_server, answer, size):
    """
    A response before the end of the request reaches the caller.
    """

    async def script(server, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(status="413 Too Large"))
        await reader.read()

    async with raw_server(script) as server:
        assert (await send(transport, server, noting(size))).status == 413


async def test_puts_are_known_to_aiohttp(transport, raw_server, script):
    """
    A request that aiohttp may retry by itself is written by aiohttp, with its
    body.
    """
    body = noting()
    attempts = 0

    async def breaking(server, reader, writer):
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await server.read_request(reader)
            return
        await script(server, reader, writer)

    async with raw_server(breaking) as server:
        assert (await send(transport, server, body, "PUT")).status == 200

    assert server.requests == [b"x" * 16] * 2
    assert body.by_a_task == [True, True]


async def test_proxies_get_the_whole_address(
    make_transport, raw_server, script, heads
):
    """
    A proxy gets the absolute form of the target (RFC 9112, 3.2.2).
    """
    body = noting()
    async with raw_server(script) as proxy:
        transport = make_transport(proxy=URL(proxy.base_url).origin())
        url = URL("http://bankconnect.invalid/v1/session/")
        await transport.send_to(url, body)
        await transport.aclose()

    assert heads[0].startswith(
        b"POST http://bankconnect.invalid/v1/session/ HTTP/1.1\r\n"
    )
    assert proxy.requests == [b"x" * 16]


async def test_known_releases():
    """
    With the installed release of aiohttp, small requests are coalesced.
    """
    connector = make_connector(Pool())
    cls = request_class(connector)
    await connector.close()

    assert issubclass(cls, CoalescedRequest)


@pytest.fixture(
    name="unknown_release", params=["3.15.0", "3.140.0", "4.0.0a2"]
)
def _unknown_release(request, monkeypatch):
    """Pretend that a release of aiohttp is installed that is not known."""
    monkeypatch.setattr(
        "bankconnect_async._http.client_session.make_connector",
        functools.partial(make_connector, version=request.param),
    )


@pytest.mark.usefixtures("unknown_release")
async def test_unknown_releases(transport, raw_server, script, heads):
    """
    With an unknown release, aiohttp sends requests itself.
    """
    body = noting()
    async with raw_server(script) as server:
        assert (await send(transport, server, body)).status == 200

    assert server.requests == [b"x" * 16]
    assert f"x-api-key: {KEY}\r\n".encode() in heads[0]
    assert body.by_a_task == [True]
