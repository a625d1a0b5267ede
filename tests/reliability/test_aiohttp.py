"""
What the delivery classes take for granted of aiohttp.

None of this is about our code. Should one of these fail with a new aiohttp,
the classes may be wrong with it: look at what changed before anything else.
"""

import asyncio
import socket

import aiohttp
import attrs
import pytest

from aiohttp.http_writer import StreamWriter

from bankconnect_async._http.bodies import _ONE_PIECE, BytesBody


CONTENT = b'{"link_id": "c"}'
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Witness(aiohttp.BytesPayload):
    """
    A body that records the calls on it.
    """

    def __init__(self, content=CONTENT):
        super().__init__(content, content_type="application/json")
        self.lengths = []
        self.failure = None
        self.before_write = None

    async def write_with_length(self, writer, content_length):
        self.lengths.append(content_length)
        if self.before_write is not None:
            self.before_write(writer)
        try:
            await super().write_with_length(writer, content_length)
        except BaseException as exc:
            self.failure = exc
            raise


@pytest.fixture(name="http")
async def _http():
    """Return a session with our settings: no redirects, no raising."""
    async with aiohttp.ClientSession() as session:
        yield session


async def post(http, server, body, **kwargs):
    """Post a body, and return status and content."""
    async with http.post(
        server.base_url, data=body, allow_redirects=False, **kwargs
    ) as response:
        return response.status, await response.read()


def saying(*answers):
    """Script a server that sends these responses in turn, then closes."""

    async def script(server, reader, writer):
        for answer in answers:
            await server.read_request(reader)
            writer.write(answer)
            await writer.drain()

    return script


class TestTheBody:
    """
    The payload records when it is written.
    """

    async def test_its_write_is_called_once(self, http, raw_server):
        """
        Sending a request calls `write_with_length`, with the whole length.
        """
        body = Witness()
        async with raw_server(saying(GOOD)) as server:
            assert await post(http, server, body) == (200, b"{}")

        assert body.lengths == [len(CONTENT)]
        assert server.requests == [CONTENT]

    async def test_it_may_be_sent_again(self, http, raw_server):
        """
        The same payload serves a second attempt.
        """
        body = Witness()
        async with raw_server(saying(GOOD, GOOD)) as server:
            for _ in range(2):
                await post(http, server, body)

        assert server.requests == [CONTENT, CONTENT]

    async def test_its_write_is_not_called_without_a_connection(self, http):
        """
        Without a connection the write has not begun.
        """
        body = Witness()
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            with pytest.raises(aiohttp.ClientConnectorError):
                await http.post(url, data=body)

        assert body.lengths == []

    async def test_nor_before_the_handshake(self, http, raw_server):
        """
        A server that speaks no TLS receives nothing of the body.
        """

        async def script(server, reader, writer):
            await reader.read(1)
            writer.write(GOOD)

        body = Witness()
        async with raw_server(script) as server:
            url = server.base_url.replace("http:", "https:")
            with pytest.raises(aiohttp.ClientConnectorError):
                await http.post(url, data=body)

        assert body.lengths == []

    async def test_nor_before_the_proxy_connects(self, http, raw_server):
        """
        A proxy that refuses to connect receives nothing of the body.
        """
        body = Witness()
        refusal = b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n"

        async def script(server, reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(refusal)

        async with raw_server(script) as proxy:
            with pytest.raises(aiohttp.ClientHttpProxyError):
                await http.post(
                    "https://api.invalid/", data=body, proxy=proxy.base_url
                )

        assert body.lengths == []

    async def test_a_write_that_fails_has_handed_on_nothing(
        self, http, raw_server
    ):
        """
        On a closing connection the write raises before it sends a byte.
        """
        stale = Witness()
        stale.before_write = lambda writer: writer.transport.abort()
        async with raw_server(saying(GOOD, GOOD)) as server:
            await post(http, server, Witness())
            with pytest.raises(aiohttp.ClientOSError):
                await post(http, server, stale)

        assert isinstance(stale.failure, aiohttp.ClientConnectionResetError)
        assert server.requests == [CONTENT]

    async def test_our_own_tells_both(self, http, raw_server):
        """
        `BytesBody` records whether it was begun and whether it was written.
        """
        body = BytesBody(CONTENT, content_type="application/json")
        async with raw_server(saying(GOOD)) as server:
            await post(http, server, body)

        assert (body.begun, body.unsent) == (True, False)


@attrs.define
class Pipe:
    """
    A transport that records every write.
    """

    pieces: list[bytes] = attrs.Factory(list)
    closing: bool = False

    def write(self, piece):
        self.pieces.append(bytes(piece))

    def writelines(self, pieces):
        self.pieces.append(b"".join(pieces))

    def is_closing(self):
        return self.closing


@attrs.define
class Wire:
    """
    The parts of a protocol that a writer needs.
    """

    transport: Pipe = attrs.Factory(Pipe)
    _paused: bool = False


class TestTheWriter:
    """
    How aiohttp writes a request to the connection.
    """

    @pytest.mark.parametrize("size", [1, 1000, _ONE_PIECE])
    async def test_small_bodies_go_in_one_piece(self, size):
        """
        Head and body are one write: either all of it was passed on or nothing.
        """
        wire = Wire()
        writer = StreamWriter(wire, asyncio.get_running_loop())
        await writer.write_headers("POST / HTTP/1.1", {"Host": "x"})
        assert wire.transport.pieces == []

        await Witness(b"x" * size).write_with_length(writer, size)

        (piece,) = wire.transport.pieces
        assert piece.endswith(b"\r\n\r\n" + b"x" * size)

    async def test_a_closing_connection_is_noticed_first(self):
        """
        Nothing is written to a connection that is closing.
        """
        wire = Wire(transport=Pipe(closing=True))
        writer = StreamWriter(wire, asyncio.get_running_loop())
        await writer.write_headers("POST / HTTP/1.1", {"Host": "x"})

        with pytest.raises(aiohttp.ClientConnectionResetError):
            await Witness().write_with_length(writer, len(CONTENT))

        assert wire.transport.pieces == []


class TestTheAnswer:
    """
    How aiohttp reads responses and reports broken ones.
    """

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_redirects_are_not_followed(self, http, raw_server, status):
        """
        With `allow_redirects=False` a redirect is a response.
        """
        async with raw_server(saying(GOOD)) as elsewhere:
            said = (
                f"HTTP/1.1 {status} Gone\r\nContent-Length: 0\r\n"
                f"Location: {elsewhere.base_url}\r\n\r\n"
            )
            async with raw_server(saying(said.encode())) as server:
                assert await post(http, server, Witness()) == (status, b"")

        assert elsewhere.connections == 0

    @pytest.mark.parametrize(
        "said",
        [
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"\x15\x03\x01\x00\x02\x02F\r\n\r\n",
            b"HTTP/1.1 OK\r\n\r\n",
        ],
        ids=["ssh", "tls", "no-status"],
    )
    async def test_garbage_is_an_error_of_the_response(
        self, http, raw_server, said
    ):
        """
        Bytes that are not HTTP raise `ClientResponseError`, after the body
        began.
        """
        body = Witness()
        async with raw_server(saying(said)) as server:
            with pytest.raises(aiohttp.ClientResponseError):
                await post(http, server, body)

        assert body.lengths

    @pytest.mark.parametrize(
        "said", [b"", b"HTTP/1.1 200 OK\r\nContent-"], ids=["nothing", "half"]
    )
    async def test_half_a_head_is_a_lost_connection(
        self, http, raw_server, said
    ):
        """
        An end before the head is complete raises `ServerDisconnectedError`.
        """
        async with raw_server(saying(said)) as server:
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await post(http, server, Witness())

    async def test_half_a_body_is_an_error_of_the_payload(
        self, http, raw_server
    ):
        """
        The head is complete before the body breaks off.
        """
        said = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"
        async with raw_server(saying(said)) as server:
            response = await http.post(server.base_url, data=Witness())
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()

    async def test_statuses_do_not_raise(self, raw_server):
        """
        `raise_for_status=False` of a request overrides the session's.
        """
        said = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
        async with (
            raw_server(saying(said)) as server,
            aiohttp.ClientSession(raise_for_status=True) as http,
        ):
            found = await post(http, server, Witness(), raise_for_status=False)

        assert found == (500, b"")

    async def test_middlewares_are_left_out(self, raw_server):
        """
        `middlewares=()` of a request replaces the session's.
        """

        async def wrong(request, handler):
            raise AssertionError("a middleware ran")

        async with (
            raw_server(saying(GOOD)) as server,
            aiohttp.ClientSession(middlewares=(wrong,)) as http,
        ):
            found = await post(http, server, Witness(), middlewares=())

        assert found == (200, b"{}")


class TestSends:
    """
    How often aiohttp sends one request.
    """

    async def test_a_post_is_never_repeated(self, http, raw_server):
        """
        A POST over a kept connection that breaks is not sent again.
        """
        async with raw_server(saying(GOOD, b"")) as server:
            await post(http, server, Witness())
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await post(http, server, Witness())

        assert len(server.requests) == 2

    async def test_a_kept_connection_is_used_again(self, http, raw_server):
        """
        Reading a response to its end returns the connection to the pool.
        """
        async with raw_server(saying(GOOD, GOOD)) as server:
            for _ in range(2):
                response = await http.post(server.base_url, data=Witness())
                await response.read()

        assert server.connections == 1

    async def test_connecting_has_its_own_limit(self, http, raw_server):
        """
        `connect` covers the handshake, and raises before the body began.
        """

        async def silent(server, reader, writer):
            await reader.read()

        body = Witness()
        async with raw_server(silent) as server:
            url = server.base_url.replace("http:", "https:")
            with pytest.raises(aiohttp.ConnectionTimeoutError):
                await http.post(
                    url,
                    data=body,
                    timeout=aiohttp.ClientTimeout(total=None, connect=0.05),
                )

        assert body.lengths == []
