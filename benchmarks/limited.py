"""
A server that takes its time, and no more than so many requests a second.

Run as a program it prints its port and serves until its stdin is closed. Then
it prints, as JSON, how many requests it served and refused in each second.
"""

import argparse
import asyncio
import json
import math
import time

from collections import Counter
from functools import partial

import attrs

from .server import BODY, Answering, serve


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
        good: The answer to those who are.
        bad: The answer to those who are not.
        served: How many were let in, by second since the first request.
        refused: How many were not.
    """

    bucket: Bucket
    good: bytes
    bad: bytes
    served: Counter[int] = attrs.Factory(Counter)
    refused: Counter[int] = attrs.Factory(Counter)
    _opened_at: float | None = attrs.field(default=None, init=False)

    def answer(self) -> bytes:
        """Choose the answer to one request."""
        now = time.monotonic()
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


def _write_answer(status: str, body: bytes, headers: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body


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
        good=_write_answer("200 OK", BODY),
        bad=_write_answer(options.status, b"{}", headers),
    )
    asyncio.run(serve(partial(Answering, desk.answer, options.latency)))
    print(desk.report(), flush=True)


if __name__ == "__main__":
    main()
