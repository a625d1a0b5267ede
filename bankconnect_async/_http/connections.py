"""
Connections that are checked before they are reused.

A server may close an idle connection at any time, and the event loop learns
of it at its next turn. A request that is written in between is lost, and
nothing tells whether it was processed. So the socket is polled first.
"""

import functools
import logging
import re
import select
import sys

from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler

from bankconnect_async.config import Pool
from bankconnect_async.retry import uniform


if TYPE_CHECKING:
    import asyncio


# How connections are made and reused is private to a release of aiohttp.
_KNOWN: Final = ("3.14.",)
# Shares of the pool's `max_age`. They differ so that connections that were
# opened together are not closed together; the DNS cache has the last tenth.
_SHORTEST_LIFE, _LONGEST_LIFE, _LOOKUP = 0.7, 0.9, 0.1
# The longest life of a looked up address, in seconds.
_LONGEST_LOOKUP: Final = 10
_TIMEOUT: Final = re.compile(r"\btimeout\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
# The seconds that a request may take to a server that is about to close.
_MARGIN: Final = 1.0
# Windows polls otherwise.
_READABLE: Final = getattr(select, "POLLIN", 0)
# A TLS server may write before it is asked (RFC 8446, 4.6), so bytes to read
# on a new connection do not mean that it has closed. On Linux this does.
_HANG_UP: Final = getattr(select, "POLLRDHUP", 0)

_log = logging.getLogger("bankconnect_async")


class PooledConnection(ResponseHandler):
    """
    A connection that knows whether it may be reused.

    Args:
        pool: The connector that holds it while it is idle.
        loop: The event loop it belongs to.
        max_age: The seconds after which it is not reused.
    """

    def __init__(
        self,
        pool: "PollingConnector",
        loop: "asyncio.AbstractEventLoop",
        *,
        max_age: float,
    ) -> None:
        super().__init__(loop)
        self._pool = pool
        share = uniform(_SHORTEST_LIFE, _LONGEST_LIFE)
        self._retire_at = self._reuse_until = monotonic() + max_age * share

    def connection_made(self, transport: "asyncio.BaseTransport") -> None:
        """Prepare to poll the socket."""
        super().connection_made(transport)
        self.fd = self._pool.register(transport)
        self._poll_hang_up = _make_poll(transport, _HANG_UP)
        self._poll_readable = _make_poll(transport, _READABLE)

    def is_connected(self) -> bool:
        """
        Tell whether a request may be sent over this idle connection.

        aiohttp asks before it reuses one, and when it closes idle ones.
        """
        transport = self.transport
        return (
            transport is not None
            and not transport.is_closing()
            and monotonic() < self._reuse_until
            # An idle connection has nothing to read: it has ended, or has
            # bytes that would be taken for the next response.
            and not (
                self._pool.has_new_events(self.fd) and self._poll_readable(0)
            )
        )

    def has_hung_up(self) -> bool:
        """
        Tell whether the peer has closed the connection.

        Unread bytes are no sign of it, so this serves new connections, too.
        """
        return bool(self._poll_hang_up(0))

    def limit_idle(self, keep_alive: str) -> None:
        """
        Reuse the connection no longer than its server keeps it.

        Args:
            keep_alive: The Keep-Alive header of its latest response.
        """
        until = monotonic() + _parse_keep_alive(keep_alive)
        self._reuse_until = min(self._retire_at, until)


class PooledResponse(aiohttp.ClientResponse):
    """
    A response that still knows its connection once that is given back.
    """

    def limit_idle(self) -> None:
        """Apply the Keep-Alive header, which has to be there."""
        if isinstance(self._protocol, PooledConnection):
            self._protocol.limit_idle(self.headers[hdrs.KEEP_ALIVE])


class PollingConnector(aiohttp.TCPConnector):
    """
    A connector that polls idle connections before it reuses them.

    One system call polls all connections, for all requests of one turn of
    the event loop. Where there is no epoll, each connection is polled.

    Args:
        max_age: The seconds after which a connection is not reused.
        **settings: The other arguments of `aiohttp.TCPConnector`.

    Attributes:
        is_flush_due: Whether requests wait for a flush, which polls again.
    """

    def __init__(self, *, max_age: float, **settings: Any) -> None:
        super().__init__(**settings)
        self._factory: Any = functools.partial(
            PooledConnection, self, loop=self._loop, max_age=max_age
        )
        self.is_flush_due = False
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._events: dict[int, int] = {}

    def register(self, transport: "asyncio.BaseTransport") -> int:
        """Poll a new connection from now on, and return its descriptor."""
        sock = transport.get_extra_info("socket")
        if sock is None:
            return -1
        fd: int = sock.fileno()
        if self._epoll is not None:
            # Closing the socket removes it again. TLS through a proxy makes
            # a second connection over the same socket.
            with suppress(FileExistsError):
                self._epoll.register(fd, _READABLE | _HANG_UP)
        return fd

    def poll(self) -> None:
        """Poll all connections."""
        if self._epoll is not None:
            self._events = dict(self._epoll.poll(0))

    def has_events(self, fd: int) -> bool:
        """Tell whether the latest poll found a reason to poll *fd* alone."""
        return self._epoll is None or fd in self._events

    def has_new_events(self, fd: int) -> bool:
        """
        Poll all connections, unless a flush will, and return `has_events`.
        """
        if not self.is_flush_due:
            self.poll()
        return self.has_events(fd)


def make_connector(
    pool: Pool, *, version: str = aiohttp.__version__, **settings: Any
) -> aiohttp.TCPConnector:
    """
    Return the connector of a new session.

    Args:
        pool: The settings of the pool.
        version: The version of aiohttp. With an unknown one, aiohttp's own
            connector is returned.
        **settings: The other arguments of `aiohttp.TCPConnector`.
    """
    settings |= {
        "keepalive_timeout": pool.keepalive,
        "ttl_dns_cache": int(min(_LONGEST_LOOKUP, pool.max_age * _LOOKUP)),
    }
    if version.startswith(_KNOWN) and hasattr(ResponseHandler, "is_connected"):
        return PollingConnector(max_age=pool.max_age, **settings)
    _log.info(
        "aiohttp %s is not known: its own pool of connections is used, which "
        "follows neither Pool.max_age nor Keep-Alive headers",
        version,
    )
    return aiohttp.TCPConnector(**settings)


def refuse_closed(writer: AbstractStreamWriter) -> None:
    """
    Check that the peer has not closed the connection of *writer*.

    This uses only public parts of aiohttp, for connections that no
    `PollingConnector` made.

    Raises:
        aiohttp.ClientConnectionResetError: If it has.
    """
    transport = writer.transport
    if (
        transport is None
        or transport.is_closing()
        or _make_poll(transport, _HANG_UP)(0)
    ):
        raise aiohttp.ClientConnectionResetError(
            "the server has closed the connection"
        )


def _make_poll(
    transport: "asyncio.BaseTransport", events: int
) -> Callable[[int], list[Any]]:
    sock = transport.get_extra_info("socket")
    if sock is None:
        return lambda _: []
    if sys.platform == "win32":  # which has no poll
        return lambda _: select.select([sock], [], [], 0)[0]
    poll = select.poll()
    poll.register(sock, events)
    return poll.poll


@functools.lru_cache(maxsize=64)
def _parse_keep_alive(text: str) -> float:
    found = _TIMEOUT.search(text)
    if found is None:
        return float("inf")
    seconds = float(found[1])
    return max(seconds - _MARGIN, seconds / 2)
