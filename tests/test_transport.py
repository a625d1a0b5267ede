"""
One attempt over real sockets: the server's behaviour and its delivery class.
"""

import asyncio
import gzip
import socket
import ssl
import struct
import subprocess
import sys
import threading

from collections.abc import Iterator

import aiohttp
import pytest
import trustme

from yarl import URL

from bankconnect_async import (
    TLS,
    CertificateError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    Delivery,
    HeadTooLargeError,
    InvalidResponseError,
    Phase,
    Pool,
    PoolTimeoutError,
    RequestTimeoutError,
    Timeouts,
    TransportError,
)
from bankconnect_async._http.bodies import BytesBody
from bankconnect_async._http.connections import PollingConnector
from bankconnect_async._http.error_mapping import ERROR_MAP, map_error
from bankconnect_async._http.operation import MAX_RESPONSE
from bankconnect_async.retry import is_retryable


def body(content=b"{}"):
    """Make a JSON body."""
    return BytesBody(content, content_type="application/json")


@pytest.fixture(name="transport")
async def _transport(make_transport):
    """Return a transport with short limits."""
    transport = make_transport()
    yield transport
    await transport.aclose()


def no_limit() -> None:
    """Return the rate limit of a batch without one."""


async def post(transport, server, content=b"{}", *, seconds=5.0):
    """Send *content* to *server* once."""
    return await transport.send_to(
        URL(server.base_url), body(content), time_left=seconds
    )


def saying(*answers):
    """
    Script a server that responds to each request with the next of *answers*.
    """
    left = list(answers)

    async def script(server, reader, writer):
        while left:
            await server.read_request(reader)
            writer.write(left.pop(0))
            await writer.drain()

    return script


def reset(writer):
    """Close with RST rather than FIN."""
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.transport.abort()


FORK = """
import asyncio, gc, os, warnings
from bankconnect_async import AsyncBankConnect
from bankconnect_async.sandbox import Sandbox

warnings.simplefilter("ignore")


async def create(bank, count):
    return await asyncio.gather(
        *(bank.create_session(f"c{n}") for n in range(count))
    )


async def main():
    async with Sandbox() as sandbox:
        bank = AsyncBankConnect(
            sandbox.api_key, base_url=sandbox.base_url, redirect_url=None
        )
        made = len(await create(bank, 3))
        told, tell = os.pipe()
        if not os.fork():
            # A new loop, as servers that fork give their workers.
            asyncio._set_running_loop(None)
            asyncio.set_event_loop(None)

            async def work():
                done = len(await create(bank, 3))
                gc.collect()
                os.write(tell, b"child %d" % done)

            asyncio.new_event_loop().run_until_complete(work())
            os._exit(0)
        loop = asyncio.get_running_loop()
        print((await loop.run_in_executor(None, os.read, told, 99)).decode())
        await asyncio.to_thread(os.wait)
        made += len(await create(bank, 3))
        await bank.aclose()
        print("parent", made)


asyncio.run(main())
"""


async def test_returns_any_complete_answer(transport, raw_server, answer):
    """
    Status, headers and body come back for every status.
    """
    script = saying(
        answer(b'{"a": 1}', headers="Retry-After: 7\r\n"),
        answer(b"no", status="500 Oops"),
    )
    async with raw_server(script) as server:
        first = await post(transport, server)
        second = await post(transport, server)

    assert (first.status, first.body) == (200, b'{"a": 1}')
    assert first.headers["retry-after"] == "7"
    assert (second.status, second.body) == (500, b"no")
    assert server.connections == 1
    assert "{" not in repr(first).removeprefix("Answer")


async def test_sends_our_headers_and_the_body(transport, raw_server, answer):
    """
    The key is in the header, the body arrives unchanged, and nothing is added.
    """
    heads = []

    async def script(server, reader, writer):
        heads.append(await server.read_request(reader))
        writer.write(answer())

    async with raw_server(script) as server:
        await post(transport, server, b'{"link_id": "x"}')

    assert server.requests == [b'{"link_id": "x"}']
    assert b"x-api-key: k\r\n" in heads[0]
    assert b"Content-Type: application/json\r\n" in heads[0]
    assert b"Cookie" not in heads[0]


async def test_never_follows_a_redirect(transport, raw_server, answer):
    """
    A 307 is returned, because following it would send the key elsewhere.
    """
    async with (
        raw_server(saying(answer())) as elsewhere,
        raw_server(
            saying(
                answer(
                    status="307 Temporary Redirect",
                    headers=f"Location: {elsewhere.base_url}\r\n",
                )
            )
        ) as server,
    ):
        found = await post(transport, server)

    assert found.status == 307
    assert elsewhere.connections == 0


async def test_closes_a_connection_that_switched_protocols(
    transport, raw_server
):
    """
    A 101 is returned, and its connection, which no longer speaks HTTP, is
    closed without a warning in the debug mode of asyncio.
    """
    ended, warned = asyncio.Event(), []
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.set_exception_handler(lambda _, context: warned.append(context))

    async def script(server, reader, writer):
        await server.read_request(reader)
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\n"
            b"Connection: upgrade\r\nUpgrade: other\r\n\r\n"
        )
        assert await reader.read() == b""
        ended.set()

    async with raw_server(script) as server:
        found = await post(transport, server)
        async with asyncio.timeout(5):
            await ended.wait()

    assert found.status == 101
    assert warned == []


async def test_keeps_no_cookies(transport, raw_server, answer):
    """
    A cookie for one customer is not sent with the next request.
    """
    heads = []

    async def script(server, reader, writer):
        for _ in range(2):
            heads.append(await server.read_request(reader))
            writer.write(answer(headers="Set-Cookie: a=b\r\n"))

    async with raw_server(script) as server:
        await post(transport, server)
        await post(transport, server)

    assert b"Cookie" not in heads[1]


class TestDelivery:
    """
    The delivery class of a request without a complete response.
    """

    async def fail(self, transport, server, **kwargs) -> TransportError:
        """Send once; return the error."""
        with pytest.raises(TransportError) as caught:
            await post(transport, server, **kwargs)
        return caught.value

    async def test_refused(self, transport, raw_server):
        """
        If nobody listens, nothing was sent.
        """
        async with raw_server(saying()) as server:
            pass

        error = await self.fail(transport, server)

        assert type(error) is ConnectError
        assert error.delivery is Delivery.NOT_SENT
        assert error.phase is Phase.CONNECTING

    async def test_no_tls_at_the_other_end(self, transport, raw_server):
        """
        The message is OpenSSL's, not that of an equal errno.
        """

        async def script(server, reader, writer):
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async with raw_server(script) as server:
            with pytest.raises(ConnectError) as caught:
                await transport.send_to(
                    URL(server.base_url).with_scheme("https"), body()
                )

        assert "TLS handshake failed (" in str(caught.value)
        assert "permitted" not in str(caught.value)
        assert caught.value.delivery is Delivery.NOT_SENT

    async def test_unknown_name(self, transport):
        """
        If a name cannot be looked up, nothing was sent.
        """
        with pytest.raises(ConnectError, match="looked up") as caught:
            await transport.send_to(URL("http://bankconnect.invalid/"), body())

        assert caught.value.delivery is Delivery.NOT_SENT

    async def test_closed_while_certificates_are_read(
        self, make_transport, monkeypatch
    ):
        """
        A client that is closed meanwhile opens no pool.
        """
        begun, go_on = threading.Event(), threading.Event()

        def build_context(tls):
            begun.set()
            go_on.wait(20)
            return ssl.create_default_context()

        monkeypatch.setattr(TLS, "build_context", build_context)
        transport = make_transport(tls=TLS())
        opening = asyncio.create_task(transport.open())
        await asyncio.to_thread(begun.wait, 20)
        await transport.aclose()
        go_on.set()

        with pytest.raises(ClientClosedError):
            await opening
        assert not transport.is_open

    async def test_closed_after_reading(self, transport, raw_server):
        """
        A server that read everything and closed may have processed the
        request.
        """

        async def script(server, reader, writer):
            await server.read_request(reader)

        async with raw_server(script) as server:
            error = await self.fail(transport, server)

        assert type(error) is ConnectionLostError
        assert error.delivery is Delivery.AMBIGUOUS
        assert error.phase is Phase.SENT
        assert server.requests == [b"{}"]

    async def test_reset_after_reading(self, transport, raw_server):
        """
        A server that read everything and reset the connection may have
        processed the request.
        """

        async def script(server, reader, writer):
            await server.read_request(reader)
            reset(writer)

        async with raw_server(script) as server:
            error = await self.fail(transport, server)

        assert error.delivery is Delivery.AMBIGUOUS

    @pytest.mark.parametrize(
        "said",
        [
            b"HTTP/1.1 200",
            b"HTTP/1.1 200 OK\r\nContent-Type: ",
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"\x16\x03\x01\x00garbage\r\n\r\n",
        ],
        ids=["half a status", "half a head", "another protocol", "bytes"],
    )
    async def test_no_complete_head(self, transport, raw_server, said):
        """
        Half a head, or garbage, leaves the outcome ambiguous.
        """
        async with raw_server(saying(said)) as server:
            error = await self.fail(transport, server)

        assert error.delivery is Delivery.AMBIGUOUS

    async def test_silence(self, make_transport, raw_server):
        """
        No response within the read timeout leaves the outcome ambiguous.
        """

        async def script(server, reader, writer):
            await server.read_request(reader)
            await asyncio.Event().wait()

        transport = make_transport(timeouts=Timeouts(read=0.05))
        async with raw_server(script) as server:
            error = await self.fail(transport, server)
            await transport.aclose()

        assert type(error) is RequestTimeoutError
        assert error.delivery is Delivery.AMBIGUOUS
        assert server.requests == [b"{}"]

    async def test_a_stale_connection_says_not_sent(
        self, transport, raw_server, answer
    ):
        """
        A failed write on a kept connection counts as not sent.
        """

        class Closing(BytesBody):
            async def write_with_length(self, writer, content_length):
                # The connection dies between being taken from the pool and
                # being written to.
                writer.transport.abort()
                await super().write_with_length(writer, content_length)

        async with raw_server(saying(answer(), answer())) as server:
            await post(transport, server)
            with pytest.raises(ConnectionLostError) as caught:
                await transport.send_to(
                    URL(server.base_url),
                    Closing(b"{}", content_type="application/json"),
                )

        assert caught.value.delivery is Delivery.NOT_SENT
        assert server.requests == [b"{}"]


class TestAnswers:
    """
    Responses with a complete head and an incomplete body.
    """

    @pytest.mark.parametrize("status", [200, 201])
    async def test_a_broken_promise(self, transport, raw_server, status):
        """
        A 2xx response that breaks off means that the session was created,
        without its URL.
        """
        said = f"HTTP/1.1 {status} OK\r\nContent-Length: 99\r\n\r\n{{".encode()
        async with raw_server(saying(said)) as server:
            with pytest.raises(InvalidResponseError) as caught:
                await post(transport, server)

        assert caught.value.status == status
        assert caught.value.delivery is Delivery.CREATED_UNREADABLE

    async def test_a_broken_refusal(self, transport, raw_server):
        """
        An error response that breaks off is still a rejection, headers
        included.
        """
        said = (
            b"HTTP/1.1 429 Slow\r\nRetry-After: 3\r\n"
            b"Content-Length: 99\r\n\r\n{"
        )
        async with raw_server(saying(said)) as server:
            found = await post(transport, server)

        assert (found.status, found.body) == (429, b"")
        assert found.headers["Retry-After"] == "3"

    @pytest.mark.parametrize(("status", "raises"), [(200, True), (400, False)])
    async def test_a_body_that_never_ends(
        self, make_transport, raw_server, status, raises
    ):
        """
        If time runs out within the body, the head decides the class.
        """

        async def script(server, reader, writer):
            await server.read_request(reader)
            writer.write(
                f"HTTP/1.1 {status} X\r\nContent-Length: 9\r\n\r\n{{".encode()
            )
            await asyncio.Event().wait()

        transport = make_transport(timeouts=Timeouts(read=0.1))
        async with raw_server(script) as server:
            if raises:
                with pytest.raises(InvalidResponseError, match="in time"):
                    await post(transport, server)
            else:
                assert (await post(transport, server)).status == status
        await transport.aclose()

    @pytest.mark.parametrize("chunked", [True, False])
    async def test_too_long(self, transport, raw_server, chunked):
        """
        At most 1 MiB of a response is held.
        """
        sent = []

        async def script(server, reader, writer):
            await server.read_request(reader)
            head = (
                "Transfer-Encoding: chunked"
                if chunked
                else f"Content-Length: {64 * MAX_RESPONSE}"
            )
            writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode())
            piece = b"x" * 65536
            if chunked:
                piece = b"10000\r\n" + piece + b"\r\n"
            for _ in range(64 * MAX_RESPONSE // 65536):
                writer.write(piece)
                await writer.drain()
                sent.append(len(piece))

        async with raw_server(script) as server:
            with pytest.raises(InvalidResponseError):
                await post(transport, server)

        assert sum(sent) < 32 * MAX_RESPONSE

    async def test_exactly_long_enough(self, transport, raw_server, answer):
        """
        1 MiB is read, with a Content-Length and in chunks.
        """
        content = b"x" * MAX_RESPONSE
        chunked = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"100000\r\n" + content + b"\r\n0\r\n\r\n"
        )
        async with raw_server(saying(answer(content), chunked)) as server:
            assert (await post(transport, server)).body == content
            assert (await post(transport, server)).body == content

    async def test_compressed_against_our_wish(
        self, transport, raw_server, answer
    ):
        """
        A proxy's compression is undone within the same limit.
        """
        gzipped = "Content-Encoding: gzip\r\n"
        bomb = gzip.compress(b"x" * (MAX_RESPONSE + 1))
        script = saying(
            answer(gzip.compress(b'{"a": 1}'), headers=gzipped),
            answer(bomb, headers=gzipped),
        )
        async with raw_server(script) as server:
            assert (await post(transport, server)).body == b'{"a": 1}'
            with pytest.raises(InvalidResponseError):
                await post(transport, server)

        async with raw_server(saying(answer(b"x", headers=gzipped))) as server:
            with pytest.raises(InvalidResponseError):
                await post(transport, server)


class TestLargeHeads:
    """
    Response heads that proxies have enlarged.
    """

    @pytest.fixture(name="over", params=["own", "borrowed"])
    async def _over(self, request, make_transport):
        """
        Return a transport over its own pool, and one over a borrowed session.
        """
        borrowed = None
        if request.param == "borrowed":
            borrowed = aiohttp.ClientSession()
        transport = make_transport(borrowed=borrowed)
        yield transport
        await transport.aclose()
        if borrowed is not None:
            await borrowed.close()

    @pytest.mark.parametrize(
        "headers",
        [
            f"X-Trace: {'x' * 9_000}\r\n",
            "".join(f"X-Trace-{number}: x\r\n" for number in range(140)),
        ],
        ids=["long", "many"],
    )
    async def test_are_read(self, over, raw_server, answer, headers):
        """
        A header of 9,000 bytes and 140 headers are accepted.
        """
        script = saying(answer(headers=headers), answer(headers=headers))
        async with raw_server(script) as server:
            assert (await post(over, server)).status == 200
            found = await over.send_to(URL(server.base_url), method="GET")
            assert found.body == b"{}"

    @pytest.mark.parametrize(
        "headers",
        [
            f"X-Trace: {'x' * 70_000}\r\n",
            "".join(f"X-{number}: x\r\n" for number in range(1_100)),
        ],
        ids=["long", "many"],
    )
    async def test_have_a_limit(self, over, raw_server, answer, headers):
        """
        A larger head is an error of its own, which is not retryable.
        """
        async with raw_server(saying(answer(headers=headers))) as server:
            with pytest.raises(HeadTooLargeError) as caught:
                await post(over, server)

        assert caught.value.delivery is Delivery.AMBIGUOUS
        assert not is_retryable(caught.value, "at-least-once")
        assert "xxx" not in f"{caught.value!r}{caught.value.__cause__!r}"


class Strange(Exception):  # noqa: N818 - it stands for any class
    """
    An exception of no known class.
    """


class TestWhateverIsRaised:
    """
    Exceptions of any class, before and after a request was begun.
    """

    @pytest.mark.parametrize(
        "error", [Strange("x"), MemoryError(), RuntimeError("x"), OSError(24)]
    )
    @pytest.mark.parametrize("sent", [False, True])
    async def test_is_an_error_with_its_delivery(
        self, transport, raw_server, monkeypatch, error, sent
    ):
        """
        Any exception becomes a typed error with the right delivery class.
        """
        connect = PollingConnector.connect
        start = aiohttp.ClientResponse.start

        async def fail_to_connect(connector, *args, **kwargs):
            if sent:
                return await connect(connector, *args, **kwargs)
            raise error

        async def fail_to_start(response, *args):
            await start(response, *args)
            raise error

        monkeypatch.setattr(PollingConnector, "connect", fail_to_connect)
        monkeypatch.setattr(aiohttp.ClientResponse, "start", fail_to_start)
        async with raw_server(saying(b"HTTP/1.1 204 X\r\n\r\n")) as server:
            with pytest.raises(TransportError) as caught:
                await post(transport, server)

        assert caught.value.delivery is (
            Delivery.AMBIGUOUS if sent else Delivery.NOT_SENT
        )
        assert ("nothing was sent" in str(caught.value)) is not sent
        assert transport.in_flight == 0


class TestQueue:
    """
    The semaphore in front of the pool.
    """

    async def test_bounds_what_is_in_flight(
        self, make_transport, raw_server, answer
    ):
        """
        The pool's limit is never exceeded, and all requests succeed.
        """
        now, peak = 0, 0

        async def script(server, reader, writer):
            nonlocal now, peak
            while True:
                await server.read_request(reader)
                now += 1
                peak = max(peak, now)
                await asyncio.sleep(0)
                now -= 1
                writer.write(answer())

        transport = make_transport(pool=Pool(limit=3))
        async with raw_server(script) as server:
            found = await asyncio.gather(
                *(post(transport, server) for _ in range(30))
            )
            await transport.aclose()

        assert [each.status for each in found] == [200] * 30
        assert peak == 3
        assert server.connections <= 3

    async def test_has_a_limit_of_its_own(self, make_transport, raw_server):
        """
        A timeout in the queue counts as not sent, and releases no slot.
        """

        async def script(server, reader, writer):
            await server.read_request(reader)
            await asyncio.Event().wait()

        transport = make_transport(
            pool=Pool(limit=1), timeouts=Timeouts(read=60, pool=0.05)
        )
        async with raw_server(script) as server:
            first = asyncio.create_task(post(transport, server, seconds=60))
            while not server.requests:
                await asyncio.sleep(0)
            with pytest.raises(PoolTimeoutError) as caught:
                await post(transport, server)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            await transport.aclose()

        assert caught.value.delivery is Delivery.NOT_SENT
        assert caught.value.phase is Phase.QUEUED
        assert server.connections == 1

    async def test_the_deadline_counts_in_the_queue(
        self, make_transport, raw_server
    ):
        """
        The deadline of a call includes its time in the queue.
        """

        async def script(server, reader, writer):
            await server.read_request(reader)
            await asyncio.Event().wait()

        transport = make_transport(pool=Pool(limit=1))
        loop = asyncio.get_running_loop()
        async with raw_server(script) as server:
            first = asyncio.create_task(post(transport, server, seconds=60))
            while not server.requests:
                await asyncio.sleep(0)
            started = loop.time()
            with pytest.raises(PoolTimeoutError):
                await post(transport, server, seconds=0.1)
            took = loop.time() - started
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await transport.aclose()

        assert 0.1 <= took < 1

    async def test_cancelling_frees_the_slot(
        self, make_transport, raw_server, answer
    ):
        """
        A cancelled request releases its slot and its connection.
        """
        silent = True

        async def script(server, reader, writer):
            await server.read_request(reader)
            if silent:
                await asyncio.Event().wait()
            writer.write(answer())

        transport = make_transport(pool=Pool(limit=1))
        async with raw_server(script) as server:
            task = asyncio.create_task(post(transport, server))
            while not server.requests:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            silent = False

            assert (await post(transport, server)).status == 200
            await transport.aclose()

    async def test_can_be_raised(self, make_transport, raw_server):
        """
        Batches raise the limit until they end.
        """
        everybody = asyncio.Barrier(14)

        async def script(server, reader, writer):
            await server.read_request(reader)
            await everybody.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        transport = make_transport(pool=Pool(limit=2))
        await transport.open()
        transport.reserve(4, no_limit)
        transport.reserve(9, no_limit)
        async with raw_server(script) as server:
            tasks = [
                asyncio.create_task(post(transport, server)) for _ in range(20)
            ]
            while everybody.n_waiting < 13:
                await asyncio.sleep(0)
            assert server.connections == 13
            sizes = []
            for concurrency in (9, 4):
                transport.release(concurrency, no_limit)
                sizes.append(transport._bound.semaphore.size)
            assert sizes == [4, 2]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await transport.aclose()


class TestLifetime:
    """
    The ownership and the lifetime of the pool.
    """

    async def test_closing_is_final_and_idempotent(self, transport):
        """
        A closed transport raises an error; closing it twice is allowed.
        """
        await transport.open()
        await transport.aclose()
        await transport.aclose()

        with pytest.raises(ClientClosedError, match="closed"):
            await transport.open()
        assert not transport.is_open

    def test_another_loop_is_told(self, make_transport, raw_server, answer):
        """
        The error for use in a second event loop names the mistake.
        """
        transport = make_transport()

        async def send():
            await transport.send_to(
                URL("http://127.0.0.1:1/"), body(), time_left=1
            )

        with asyncio.Runner() as first:
            first.run(transport.open())
            with (
                asyncio.Runner() as second,
                pytest.raises(ClientClosedError, match="another event loop"),
            ):
                second.run(send())
            first.run(transport.aclose())

    async def test_closing_in_flight_ends_the_call(
        self, make_transport, raw_server
    ):
        """
        A request in flight while the client closes has an outcome.
        """

        async def script(server, reader, writer):
            await server.read_request(reader)
            await asyncio.Event().wait()

        transport = make_transport()
        async with raw_server(script) as server:
            task = asyncio.create_task(post(transport, server))
            while not server.requests:
                await asyncio.sleep(0)
            await transport.aclose()
            with pytest.raises(TransportError) as caught:
                await task

        assert caught.value.delivery is Delivery.AMBIGUOUS

    async def test_a_borrowed_session_stays_open(
        self, make_transport, raw_server, answer
    ):
        """
        A borrowed session is used with our settings and left unchanged.
        """

        async def wrong(request, handler):
            raise AssertionError("a middleware ran")

        heads = []

        async def script(server, reader, writer):
            heads.append(await server.read_request(reader))
            writer.write(answer(b"no", status="500 No"))

        async with (
            raw_server(script) as server,
            aiohttp.ClientSession(
                raise_for_status=True,
                middlewares=(wrong,),
                headers={"X-Theirs": "1", "Content-Type": "text/plain"},
                connector=aiohttp.TCPConnector(limit=2),
            ) as session,
        ):
            transport = make_transport(borrowed=session)
            found = await post(transport, server)
            transport.reserve(5, no_limit)
            await transport.aclose()
            assert not session.closed

        assert found.status == 500
        assert b"x-api-key: k\r\n" in heads[0]
        assert b"Content-Type: application/json\r\n" in heads[0]

    async def test_limits_outlive_the_client_over_a_borrowed_session(
        self, make_transport, raw_server
    ):
        """
        A call in flight keeps its timeout after the client was closed.
        """

        async def script(server, reader, writer):
            await server.read_request(reader)
            await asyncio.Event().wait()

        async with raw_server(script) as server, aiohttp.ClientSession() as s:
            transport = make_transport(borrowed=s, timeouts=Timeouts(read=0.1))
            task = asyncio.create_task(post(transport, server))
            while not server.requests:
                await asyncio.sleep(0)
            await transport.aclose()

            with pytest.raises(RequestTimeoutError):
                await task

    @pytest.mark.parametrize("name", ["Content-Length", "host", "Expect"])
    async def test_garbling_headers_are_refused(self, make_transport, name):
        """
        A borrowed session with request-specific default headers is refused.
        """
        async with aiohttp.ClientSession(headers={name: "1"}) as session:
            with pytest.raises(ConfigurationError) as caught:
                make_transport(borrowed=session)

        assert list(caught.value.fields) == ["client_session"]

    async def test_the_gate_knows_the_limits_of_a_borrowed_connector(
        self, make_transport
    ):
        """
        The semaphore respects the limits of a borrowed connector, because
        aiohttp's queue would count as connecting.
        """
        connector = aiohttp.TCPConnector(limit=5, limit_per_host=2)
        async with aiohttp.ClientSession(connector=connector) as session:
            transport = make_transport(borrowed=session)
            await transport.open()
            transport.reserve(100, no_limit)
            assert transport._bound.semaphore.size == 2
            await transport.aclose()

    async def test_a_stray_cancel_is_an_answer_of_the_pool(
        self, transport, monkeypatch
    ):
        """
        A lookup that aiohttp cancels while closing is an error, not a
        cancellation.
        """

        async def cancelled(*args, **kwargs):
            raise asyncio.CancelledError

        await transport.open()
        connector = transport._bound.session.connector
        monkeypatch.setattr(connector, "_resolve_host", cancelled)
        with pytest.raises(ConnectionLostError, match="closed") as caught:
            await transport.send_to(URL("http://api.example/"), body())

        assert caught.value.delivery is Delivery.NOT_SENT

    def test_a_child_leaves_the_parent_s_pool_alone(self, tmp_path):
        """
        After a fork the child opens its own pool, and the parent's connections
        work.
        """
        script = tmp_path / "fork.py"
        script.write_text(FORK)

        done = subprocess.run(
            [sys.executable, str(script)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

        assert (done.returncode, done.stdout) == (0, "child 3\nparent 6\n")

    async def test_a_borrowed_session_stays_in_its_process(
        self, make_transport, monkeypatch
    ):
        """
        A forked child cannot use a borrowed session.
        """
        async with aiohttp.ClientSession() as session:
            transport = make_transport(borrowed=session)
            monkeypatch.setattr(
                "bankconnect_async._http.transport._Process.id", -1
            )
            with pytest.raises(ClientClosedError, match="another process"):
                await transport.open()

    async def test_a_closed_borrowed_session_is_told(
        self, make_transport, raw_server
    ):
        """
        The error for a closed borrowed session says what happened.
        """
        async with aiohttp.ClientSession() as session:
            transport = make_transport(borrowed=session)
            await transport.open()

        with pytest.raises(ClientClosedError, match="borrowed"):
            await transport.open()
        await transport.aclose()


@pytest.fixture(name="authority", scope="module")
def _authority() -> trustme.CA:
    """Return a certificate authority that nobody trusts."""
    return trustme.CA()


@pytest.fixture(name="secure_server")
async def _secure_server(authority, answer):
    """
    Run an HTTPS server that requests a client certificate; yields it with its
    clients.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    subjects = []

    async def handle(reader, writer):
        subjects.append(writer.get_extra_info("peercert"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(headers="Connection: close\r\n"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    yield URL(f"https://127.0.0.1:{port}/"), subjects
    server.close()
    await server.wait_closed()


class TestTLS:
    """
    Server and client certificates.
    """

    async def test_an_unknown_authority_is_refused(
        self, transport, secure_server
    ):
        """
        Verification is on by default, and nothing is sent.
        """
        url, subjects = secure_server
        with pytest.raises(CertificateError) as caught:
            await transport.send_to(url, body())

        assert caught.value.delivery is Delivery.NOT_SENT
        assert not subjects

    async def test_a_private_authority_and_a_client_certificate(
        self, make_transport, authority, secure_server, tmp_path
    ):
        """
        A private authority and a client certificate are read from PEM files.
        """
        ca_file, cert_file = tmp_path / "ca.pem", tmp_path / "client.pem"
        authority.cert_pem.write_to_path(str(ca_file))
        certificate = authority.issue_cert("client.lender.example")
        certificate.private_key_and_cert_chain_pem.write_to_path(
            str(cert_file)
        )
        transport = make_transport(
            tls=TLS(ca_file=ca_file, cert_file=cert_file)
        )
        url, subjects = secure_server

        found = await transport.send_to(url, body())
        await transport.aclose()

        assert found.status == 200
        assert "client.lender.example" in str(subjects)

    async def test_a_context_of_one_s_own(
        self, make_transport, authority, secure_server
    ):
        """
        A given `SSLContext` is used unchanged.
        """
        context = ssl.create_default_context()
        authority.configure_trust(context)
        transport = make_transport(tls=context)
        url, _ = secure_server

        found = await transport.send_to(url, body())
        await transport.aclose()

        assert found.status == 200


async def test_a_proxy_sees_the_request(make_transport, raw_server, answer):
    """
    A proxy receives the server's name and the proxy credentials.
    """
    heads = []

    async def script(server, reader, writer):
        heads.append(await server.read_request(reader))
        writer.write(answer())

    async with raw_server(script) as proxy:
        port = URL(proxy.base_url).port
        transport = make_transport(
            proxy=URL(f"http://127.0.0.1:{port}"),
            proxy_credentials="Basic eDp5",
        )
        found = await transport.send_to(URL("http://api.invalid/x"), body())
        await transport.aclose()

    assert found.status == 200
    assert heads[0].startswith(b"POST http://api.invalid/x HTTP/1.1")
    assert b"Proxy-Authorization: Basic eDp5\r\n" in heads[0]


def subclasses(cls: type) -> Iterator[type]:
    """Yield all subclasses of a class."""
    yield cls
    for child in cls.__subclasses__():
        yield from subclasses(child)


@pytest.mark.parametrize(
    "foreign",
    [
        # In one order, so that processes agree about the tests there are.
        *sorted(
            {
                cls
                for cls in subclasses(aiohttp.ClientError)
                if cls.__module__.startswith("aiohttp")
            },
            key=lambda cls: cls.__name__,
        ),
        TimeoutError,
        OSError,
        ConnectionResetError,
    ],
    ids=lambda cls: cls.__name__,
)
def test_every_foreign_error_finds_a_row(foreign):
    """
    Every aiohttp error is mapped, whether the request was sent or not.
    """
    exc = foreign.__new__(foreign)
    unsent, sent = body(), body()
    sent.begun = True

    assert map_error(exc, unsent).delivery is Delivery.NOT_SENT
    assert map_error(exc, sent).delivery is Delivery.AMBIGUOUS


def test_no_row_is_shadowed():
    """
    No narrow row of the map follows a wide one.
    """
    for index, (narrow, _, _) in enumerate(ERROR_MAP):
        for wide, _, _ in ERROR_MAP[:index]:
            assert not issubclass(narrow, wide)
