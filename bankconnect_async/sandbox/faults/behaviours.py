"""
How a request is spoiled, over real sockets.
"""

import abc
import asyncio
import socket

from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, Literal, TypeAlias

import attrs

from aiohttp import web

from bankconnect_async.errors import ConfigurationError
from bankconnect_async.sandbox.http.listener import Connection, reset_on_close


Within: TypeAlias = Literal["head", "body"]

_OK: Final = 200
_GARBAGE: Final = b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n"
# What a server begins to say that has processed nothing.
_PROMISE: Final = b'{"redirect_url": "https://sandbox.invalid/?session_id=0"}'
# So much is missing at the end of what is cut: a token is in what is left.
_MISSING: Final = 8


@attrs.frozen(kw_only=True)
class FaultContext:
    """
    One request that was read, and the way its answer would go.

    Attributes:
        connection: Where it came from.
        process: Do what was asked for, and return the good answer.
        now: Seconds since the epoch.
        answer: The good answer, if it was processed already.
    """

    connection: Connection
    process: Callable[[], Awaitable[web.StreamResponse]]
    now: Callable[[], float]
    answer: web.StreamResponse | None = None


class FaultBehaviour(abc.ABC):
    """
    One way to spoil a request.
    """

    @abc.abstractmethod
    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """Do it, and return what is left to answer."""


class ConnectFaultBehaviour(FaultBehaviour):
    """
    A way that is there before the connection is let in.
    """

    @abc.abstractmethod
    async def on_connect(self, sock: socket.socket, /) -> bool:
        """Do it, and tell whether the connection is let in after all."""


def _is_duration(
    _: object, attribute: "attrs.Attribute[Any]", value: float | None
) -> None:
    if value is not None and not 0 <= value < float("inf"):
        raise ConfigurationError(
            fields={attribute.name: ("must be a number of seconds",)}
        )


@attrs.frozen
class RefusedConnect(ConnectFaultBehaviour):
    """
    See `Fault.refuse`.
    """

    async def on_connect(self, sock: socket.socket, /) -> bool:
        """Have it reset."""
        reset_on_close(sock)
        return False

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """Reset what is open already."""
        context.connection.reset()
        return _unsaid()


@attrs.frozen
class SlowAccept(ConnectFaultBehaviour):
    """
    See `Fault.slow_accept`.
    """

    seconds: float = attrs.field(validator=_is_duration)

    async def on_connect(self, _: socket.socket, /) -> bool:
        """Let it wait."""
        await asyncio.sleep(self.seconds)
        return True

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """Let what is open already wait."""
        await asyncio.sleep(self.seconds)
        return await context.process()


@attrs.frozen
class Reset(FaultBehaviour):
    """
    See `Fault.reset`.
    """

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """End it with RST."""
        context.connection.reset()
        return _unsaid()


@attrs.frozen
class EOF(FaultBehaviour):
    """
    See `Fault.eof`.
    """

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """End it with FIN."""
        context.connection.close()
        return _unsaid()


@attrs.frozen
class Garbage(FaultBehaviour):
    """
    See `Fault.garbage`.
    """

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """Say what is no HTTP."""
        context.connection.write(_GARBAGE)
        context.connection.close()
        return _unsaid()


@attrs.frozen
class Truncation(FaultBehaviour):
    """
    See `Fault.truncate`.
    """

    within: Within

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """Say the first part and go."""
        begun, _ = _cut(context.answer, self.within)
        context.connection.write(begun)
        context.connection.close()
        return _unsaid()


@attrs.frozen
class Stall(FaultBehaviour):
    """
    See `Fault.stall`.
    """

    seconds: float | None = attrs.field(validator=_is_duration)
    within: Within

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """Wait, with the first part of the body said or nothing."""
        begun, rest = _cut(context.answer, self.within)
        if self.within == "body":
            context.connection.write(begun)
        if self.seconds is None:
            await context.connection.lost.wait()
            return _unsaid()
        await asyncio.sleep(self.seconds)
        if self.within == "head":
            return context.answer or await context.process()
        context.connection.write(rest)
        context.connection.close()
        return _unsaid()


@attrs.frozen(kw_only=True)
class CannedResponse(FaultBehaviour):
    """
    See `Fault.html`, `Fault.empty`, `Fault.status` and `Fault.redirect`.
    """

    status: int = _OK
    retry_after: float | None = attrs.field(
        default=None, validator=_is_duration
    )
    as_date: bool = False
    location: str | None = None
    body: bytes = attrs.field(default=b"", repr=False)

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """Say something else."""
        return web.Response(
            status=self.status,
            body=self.body,
            content_type="text/html",
            headers=self._headers(context.now()),
        )

    def _headers(self, now: float) -> dict[str, str]:
        headers = {}
        if self.location is not None:
            headers["Location"] = self.location
        if self.retry_after is not None:
            headers["Retry-After"] = (
                formatdate(now + self.retry_after, usegmt=True)
                if self.as_date
                else f"{self.retry_after:.0f}"
            )
        return headers


@attrs.frozen
class HangUp(FaultBehaviour):
    """
    See `Fault.hang_up`.
    """

    seconds: float = attrs.field(validator=_is_duration)

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """Let the answer be the last one."""
        context.connection.close_if_idle(self.seconds)
        return context.answer or await context.process()


def _unsaid() -> web.Response:
    # It goes nowhere: the connection is over or being closed.
    return web.Response()


def _cut(
    answer: web.StreamResponse | None, within: Within
) -> tuple[bytes, bytes]:
    body = answer.body if isinstance(answer, web.Response) else None
    content = body if isinstance(body, bytes) else _PROMISE
    status = _OK if answer is None else answer.status
    headers = {"Content-Type": "application/json"}
    if answer is not None:
        headers.update(answer.headers)
    headers["Content-Length"] = str(len(content))
    lines = (f"{name}: {value}\r\n" for name, value in headers.items())
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"{''.join(lines)}\r\n"
    ).encode()
    whole = head + content
    end = len(head) // 2 if within == "head" else len(whole) - _MISSING
    return whole[:end], whole[end:]
