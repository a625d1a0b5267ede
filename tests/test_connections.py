"""
When pooled connections are reused, and when not.
"""

import asyncio
import functools
import logging
import select
import socket

import pytest

from yarl import URL

from bankconnect_async import (
    ConnectError,
    ConnectionLostError,
    Delivery,
    Pool,
)
from bankconnect_async._http.bodies import BytesBody
from bankconnect_async._http.coalescing import WriteCoalescer
from bankconnect_async._http.connections import (
    _parse_keep_alive,
    make_connector,
)


def body():
    """Make a JSON body."""
    return BytesBody(b"{}", content_type="application/json")


@pytest.fixture(name="answering")
def _answering(answer):
    """Script a server whose responses have these header lines."""

    def make(headers=""):
        async def script(server, reader, writer):
            while True:
                await server.read_request(reader)
                writer.write(answer(headers=headers))

        return script

    return make


async def send(transport, server, method="POST"):
    """Send one request."""
    return await transport.send_to(
        URL(server.base_url),
        body() if method == "POST" else None,
        method=method,
    )


def idle(transport):
    """Return the idle connections of a transport."""
    connector = transport._bound.session.connector
    return [
        connection
        for connections in connector._conns.values()
        for connection, _ in connections
    ]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("timeout=5", 4),
        ("timeout=5, max=100", 4),
        ("max=100,timeout=5", 4),
        ('Timeout = "5"', 4),
        ("timeout=2", 1),
        ("timeout=1", 0.5),
        ("timeout=0", 0),
        ("timeout=75", 74),
        ("max=100", float("inf")),
        ("timeout=soon", float("inf")),
        ("timeout=-1", float("inf")),
        ("mytimeout=1", float("inf")),
        ("", float("inf")),
    ],
)
def test_keep_alive_headers_are_read(header, seconds):
    """
    A connection is dropped before the time that the server announced.
    """
    assert _parse_keep_alive(header) == seconds


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_servers_say_how_long_a_connection_is_kept(
    make_transport, raw_server, answering, method
):
    """
    After half of the one second that the server named, another connection is
    opened, though the first is still open.
    """
    transport = make_transport(pool=Pool(keepalive=60))
    async with raw_server(answering("Keep-Alive: timeout=1\r\n")) as server:
        await send(transport, server, method)
        (kept,) = idle(transport)
        async with asyncio.timeout(5):
            while kept.is_connected():
                await asyncio.sleep(0.01)
        assert not kept.transport.is_closing()
        await send(transport, server, method)
        await transport.aclose()

    assert server.connections == 2


async def test_a_long_time_is_no_reason_to_keep_it_longer(
    make_transport, raw_server, answering
):
    """
    The pool's own limit holds, whatever a server announces.
    """
    transport = make_transport(pool=Pool(keepalive=0.05))
    async with raw_server(answering("Keep-Alive: timeout=9\r\n")) as server:
        await send(transport, server)
        async with asyncio.timeout(5):
            while idle(transport):
                await asyncio.sleep(0.01)
        await transport.aclose()

    assert server.connections == 1


async def test_busy_connections_get_old(make_transport, raw_server, answering):
    """
    A client that never stops sending still gets new connections, one by one.
    """
    transport = make_transport(pool=Pool(max_age=0.1))
    async with raw_server(answering()) as server, asyncio.timeout(10):
        while server.connections < 3:
            assert (await send(transport, server)).status == 200
        await transport.aclose()

    assert transport.connections_opened == 3


async def test_connections_do_not_get_old_together(
    make_transport, raw_server, answering
):
    """
    Connections that were opened together have different maximum ages, none
    above the pool's.
    """
    loop = asyncio.get_running_loop()
    transport = make_transport(pool=Pool(max_age=100))
    async with raw_server(answering()) as server:
        began = loop.time()
        await asyncio.gather(*(send(transport, server) for _ in range(50)))
        ends = sorted(each._retire_at for each in idle(transport))
        latest = loop.time() + 90
        await transport.aclose()

    assert len(ends) == 50
    assert began + 70 <= ends[0] < ends[-1] - 10
    assert ends[-1] <= latest


async def test_a_failed_connect_forgets_the_address(
    make_transport, raw_server, answering
):
    """
    After a failed connect the name is looked up again, and nothing is sent
    twice.
    """
    transport = make_transport()
    async with raw_server(answering()) as server:
        url = URL(server.base_url).with_host("localhost")
        await transport.send_to(url, body())
        connector = transport._bound.session.connector
        assert connector._cached_hosts
        (kept,) = idle(transport)
        kept.close()

    with pytest.raises(ConnectError):
        await transport.send_to(url, body())
    known = ("localhost", url.port) in connector._cached_hosts
    await transport.aclose()

    assert not known


async def test_unasked_bytes_are_no_answer_to_a_question(
    make_transport, raw_server, answer
):
    """
    Bytes on an idle connection are not read as the next response, which could
    be another customer's data.
    """
    go_on = asyncio.Event()

    async def script(server, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(b"ours"))
        if server.connections == 1:
            await go_on.wait()
            writer.write(answer(b"foreign"))
            await reader.read()

    transport = make_transport()
    async with raw_server(script) as server:
        await send(transport, server, "GET")
        (kept,) = idle(transport)
        go_on.set()
        async with asyncio.timeout(5):
            while not kept.should_close:
                await asyncio.sleep(0)
        found = await send(transport, server, "GET")
        await transport.aclose()

    assert found.body == b"ours"
    assert server.connections == 2


async def test_one_that_ends_before_its_turn_is_not_written_to(
    monkeypatch, make_transport, raw_server, answer
):
    """
    If the server closes while a request waits for the others of its loop
    iteration, the request counts as not sent.
    """
    ends, add = [], WriteCoalescer.add

    async def script(server, reader, writer):
        await server.read_request(reader)
        writer.write(answer())
        ends.append(writer.get_extra_info("socket"))
        await reader.read()

    def closing(coalescer, *args):
        add(coalescer, *args)
        if len(coalescer._pending) == 2:
            for end in ends:
                end.shutdown(socket.SHUT_WR)

    async def send_two():
        return await asyncio.gather(
            *(send(transport, server) for _ in range(2)),
            return_exceptions=True,
        )

    transport = make_transport()
    async with raw_server(script) as server:
        await send_two()
        monkeypatch.setattr(WriteCoalescer, "add", closing)
        lost = await send_two()
        await transport.aclose()

    assert {type(each) for each in lost} == {ConnectionLostError}
    assert {each.delivery for each in lost} == {Delivery.NOT_SENT}
    assert server.requests == [b"{}", b"{}"]


async def test_another_aiohttp_is_told(caplog):
    """
    With an unknown release aiohttp's own pool is used, and an INFO line says
    what is off.
    """
    with caplog.at_level(logging.INFO, "bankconnect_async"):
        connector = make_connector(Pool(), version="9.0")
        await connector.close()

    assert "Pool.max_age" in caplog.text
    assert "9.0" in caplog.text


async def test_another_aiohttp_loses_nothing_either(
    monkeypatch, make_transport, raw_server, answer
):
    """
    With an unknown release the request itself checks whether the server has
    closed.
    """
    monkeypatch.setattr(
        "bankconnect_async._http.client_session.make_connector",
        functools.partial(make_connector, version="9.0"),
    )
    ends = []

    async def script(server, reader, writer):
        await server.read_request(reader)
        writer.write(answer())
        ends.append(writer.get_extra_info("socket"))
        await reader.read()

    transport = make_transport()
    async with raw_server(script) as server:
        await send(transport, server)
        (kept,) = idle(transport)
        # The event loop has no turn in which it could see this.
        ends[0].shutdown(socket.SHUT_WR)
        sock = kept.transport.get_extra_info("socket")
        assert select.select([sock], [], [], 5)[0]
        with pytest.raises(ConnectionLostError) as caught:
            await send(transport, server)
        assert (await send(transport, server)).status == 200
        await transport.aclose()

    assert caught.value.delivery is Delivery.NOT_SENT
    assert server.requests == [b"{}", b"{}"]
