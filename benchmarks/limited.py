"""
A server that takes its time, and no more than so many requests a second.

Run as a program it prints its port and serves until its stdin is closed. Then
it prints, as JSON, how many requests it served and refused in each second.
"""

import argparse
import asyncio
import json
import math
import sys

from collections import Counter
from functools import partial

import attrs


BODY = (
    b'{"redirect_url": '
    b'"https://bankconnectclient.finbox.in/?session_id=04165baaad1e1cd00d"}'
)


@attrs.define
class Bucket:
    """
    Tokens: so many come in each second, up to so many.

    Attributes:
        rate: Tokens per second.
        burst: Tokens at most.
    """

    rate: float
    burst: float
    _tokens: float = attrs.field(init=False)
    _filled_at: float = attrs.field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self._tokens = self.burst

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        if math.isinf(self.rate):
            return True
        filled = self._tokens + (now - self._filled_at) * self.rate
        self._tokens, self._filled_at = min(self.burst, filled), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@attrs.define
class Desk:
    """
    What all connections have in common.

    Attributes:
        bucket: Whom to let in.
        latency: Seconds until an answer.
        good: The answer to those who are.
        bad: The answer to those who are not.
        served: How many were let in, by second since the first request.
        refused: How many were not.
    """

    bucket: Bucket
    latency: float
    good: bytes
    bad: bytes
    served: Counter[int] = attrs.Factory(Counter)
    refused: Counter[int] = attrs.Factory(Counter)
    _opened_at: float | None = attrs.field(default=None, init=False)

    def answer(self, now: float) -> bytes:
        """Choose the answer to one request."""
        if self._opened_at is None:
            self._opened_at = now
        second = int(now - self._opened_at)
        if self.bucket.take(now):
            self.served[second] += 1
            return self.good
        self.refused[second] += 1
        return self.bad

    def report(self) -> str:
        """Return all counts."""
        seconds = max([*self.served, *self.refused], default=-1) + 1
        return json.dumps(
            {
                "served": [self.served[n] for n in range(seconds)],
                "refused": [self.refused[n] for n in range(seconds)],
            }
        )


class Limited(asyncio.Protocol):
    """
    Answers each complete request, later.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self._buffer += data
        while (end := _end_of_request(self._buffer)) is not None:
            self._buffer = self._buffer[end:]
            answer = self._desk.answer(self._loop.time())
            if self._desk.latency:
                self._loop.call_later(self._desk.latency, self._write, answer)
            else:
                self._write(answer)

    def _write(self, answer: bytes) -> None:
        assert self._transport is not None
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


def _write_answer(status: str, body: bytes, headers: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body


async def serve(desk: Desk) -> None:
    """Serve on a free port of loopback until stdin ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        partial(Limited, desk), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()
    print(desk.report(), flush=True)


def main() -> None:
    """Serve as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=math.inf)
    parser.add_argument("--burst", type=float, default=1.0)
    parser.add_argument("--status", default="429 Too Many Requests")
    parser.add_argument("--retry-after", type=int)
    options = parser.parse_args()
    headers = ""
    if options.retry_after is not None:
        headers = f"Retry-After: {options.retry_after}\r\n"
    desk = Desk(
        bucket=Bucket(rate=options.rate, burst=options.burst),
        latency=options.latency,
        good=_write_answer("200 OK", BODY),
        bad=_write_answer(options.status, b"{}", headers),
    )
    asyncio.run(serve(desk))


if __name__ == "__main__":
    main()
