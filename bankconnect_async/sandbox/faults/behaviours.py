"""
Fault behaviours: effects on a connection or a request, on real sockets.
"""

import abc
import asyncio
import contextlib
import socket
import struct

from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any, ClassVar, Final, Literal, TypeAlias

import attrs

from aiohttp import web

from bankconnect_async.errors import ConfigurationError


Within: TypeAlias = Literal["head", "body"]

#: Bytes that are not HTTP.
GARBAGE: Final = b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n"

# The part of a response that is sent where nothing was processed.
_UNPROCESSED: Final = (
    b'{"redirect_url": "https://sandbox.invalid/?session_id=0"}'
)
# A cut response lacks so many bytes. What is left contains a token.
_MISSING: Final = 8
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


def reset_on_close(sock: socket.socket) -> None:
    """
    Make closing a socket send RST instead of FIN.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def reset(transport: asyncio.Transport) -> None:
    """
    End a connection with RST.
    """
    reset_on_close(transport.get_extra_info("socket"))
    transport.abort()


@attrs.frozen(kw_only=True)
class FaultContext:
    """
    One request that was read, and the means to answer it.

    Attributes:
        request: The request.
        transport: The connection of the request.
        lost: Is set when the connection is lost.
        close_when_idle: Closes the connection after so many seconds, unless
            another request arrives before.
        process: Processes the request and returns the good response.
        now: Returns the seconds since the epoch.
        response: The good response, if the request is processed already.
    """

    request: web.Request
    transport: asyncio.Transport
    lost: asyncio.Event
    close_when_idle: Callable[[float], None]
    process: Callable[[], Awaitable[web.StreamResponse]]
    now: Callable[[], float]
    response: web.StreamResponse | None = None

    def end(self, data: bytes = b"") -> web.Response:
        """
        Send *data*, close the connection, and return an unused response.
        """
        self.transport.write(data)
        self.transport.close()
        return web.Response()


class FaultBehaviour(abc.ABC):
    """
    One way in which a connection or a request goes wrong.

    Attributes:
        is_on_connect: Whether it applies before a connection is accepted.
    """

    is_on_connect: ClassVar[bool] = False

    async def on_connect(self, _: socket.socket, /) -> bool:
        """Apply it to a new connection; return whether to accept that."""
        return True

    @abc.abstractmethod
    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """Apply it to a request, and return the response to send."""


def _is_duration(
    _: object, attribute: "attrs.Attribute[Any]", value: float | None
) -> None:
    if value is not None and not 0 <= value < float("inf"):
        raise ConfigurationError(
            fields={attribute.name: ("must be a number of seconds",)}
        )


@attrs.frozen
class Reset(FaultBehaviour):
    """
    See `Fault.reset`.
    """

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """Reset the connection."""
        reset(context.transport)
        return web.Response()


@attrs.frozen
class RefusedConnect(Reset):
    """
    See `Fault.refuse`.
    """

    is_on_connect = True

    async def on_connect(self, sock: socket.socket, /) -> bool:
        """Reset the connection instead of accepting it."""
        reset_on_close(sock)
        return False


@attrs.frozen
class SlowAccept(FaultBehaviour):
    """
    See `Fault.slow_accept`.
    """

    is_on_connect = True
    seconds: float = attrs.field(validator=_is_duration)

    async def on_connect(self, _: socket.socket, /) -> bool:
        """Accept the connection late."""
        await asyncio.sleep(self.seconds)
        return True

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """Process the request late."""
        await asyncio.sleep(self.seconds)
        return await context.process()


@attrs.frozen
class Close(FaultBehaviour):
    """
    See `Fault.eof` and `Fault.garbage`.
    """

    data: bytes = b""

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """Send the data and close the connection."""
        return context.end(self.data)


@attrs.frozen
class Truncation(FaultBehaviour):
    """
    See `Fault.truncate`.
    """

    within: Within

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """Send the first part and close the connection."""
        return context.end(_split(context.response, self.within)[0])


@attrs.frozen
class Stall(FaultBehaviour):
    """
    See `Fault.stall`.
    """

    seconds: float | None = attrs.field(validator=_is_duration)
    within: Within

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """Wait before the response or in the middle of its body."""
        first, rest = _split(context.response, self.within)
        if self.within == "body":
            context.transport.write(first)
        if self.seconds is not None:
            await asyncio.sleep(self.seconds)
            if self.within == "head":
                return context.response or await context.process()
            return context.end(rest)
        await context.lost.wait()
        return web.Response()


@attrs.frozen(kw_only=True)
class CannedResponse(FaultBehaviour):
    """
    See `Fault.html`, `Fault.empty`, `Fault.error`, `Fault.status` and
    `Fault.redirect`.
    """

    status: int = 200
    retry_after: float | None = attrs.field(
        default=None, validator=_is_duration
    )
    as_date: bool = False
    location: str | None = None
    body: bytes = attrs.field(default=b"", repr=False)
    content_type: str = "text/html"

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """Send this response instead of the good one."""
        headers = {}
        if self.location is not None:
            headers["Location"] = self.location
        if self.retry_after is not None:
            headers["Retry-After"] = (
                formatdate(context.now() + self.retry_after, usegmt=True)
                if self.as_date
                else f"{self.retry_after:.0f}"
            )
        return web.Response(
            status=self.status,
            body=self.body,
            content_type=self.content_type,
            headers=headers,
        )


@attrs.frozen
class HangUp(FaultBehaviour):
    """
    See `Fault.hang_up`.
    """

    seconds: float = attrs.field(validator=_is_duration)

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """Send the response and close the connection when it is idle."""
        response = context.response or await context.process()
        await response.prepare(context.request)
        await response.write_eof()
        context.close_when_idle(self.seconds)
        return response


def _split(
    response: web.StreamResponse | None, within: Within
) -> tuple[bytes, bytes]:
    body = response.body if isinstance(response, web.Response) else None
    if response is None or not isinstance(body, bytes):
        body = _UNPROCESSED
        response = web.Response(content_type="application/json")
    lines = (
        f"HTTP/1.1 {response.status} {response.reason}",
        *(f"{name}: {value}" for name, value in response.headers.items()),
        f"Content-Length: {len(body)}",
    )
    head = "\r\n".join((*lines, "", "")).encode()
    whole = head + body
    end = len(head) // 2 if within == "head" else len(whole) - _MISSING
    return whole[:end], whole[end:]
