"""
A server that answers every request with the same session, and does no more.

Run as a program it prints its port and serves until its stdin is closed. It
stands in for nginx where there is none, and where answers have to be late.
"""

import argparse
import asyncio
import ssl
import sys

from collections.abc import Callable
from functools import partial


BODY = (
    b'{"redirect_url": '
    b'"https://bankconnectclient.finbox.in/?session_id=04165baaad1e1cd00d"}'
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class Answering(asyncio.Protocol):
    """
    Answers each complete request; knows no routes and no errors.

    Args:
        answer: Chooses the answer.
        delay: Seconds between a request and its answer.
    """

    def __init__(
        self, answer: Callable[[], bytes] = lambda: ANSWER, delay: float = 0
    ) -> None:
        self._answer = answer
        self._delay = delay
        self._buffer = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        assert self._transport is not None
        self._buffer += data
        while (end := _end_of_request(self._buffer)) is not None:
            self._buffer = self._buffer[end:]
            answer = self._answer()
            if self._delay:
                loop = asyncio.get_running_loop()
                loop.call_later(self._delay, self._transport.write, answer)
            else:
                self._transport.write(answer)


def _end_of_request(buffer: bytes) -> int | None:
    head = buffer.find(b"\r\n\r\n")
    if head < 0:
        return None
    length = 0
    for line in buffer[:head].split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    end = head + 4 + length
    return end if len(buffer) >= end else None


async def serve(
    make: Callable[[], Answering], tls: ssl.SSLContext | None = None
) -> None:
    """Serve on a free port of loopback until stdin ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        make, "127.0.0.1", 0, backlog=1024, ssl=tls
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--certificate", help="PEM file with its key")
    options = parser.parse_args()
    tls = None
    if options.certificate is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(options.certificate)
    asyncio.run(serve(partial(Answering, delay=options.delay), tls))


if __name__ == "__main__":
    main()
