"""
Connections that are checked before they are reused.

A server closes an idle connection when it likes, and the event loop learns
of it at its next turn. A request that is written in between is lost, and
nobody can say whether it was processed. So the socket is polled first.
"""

import functools
import logging
import random
import re
import select

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler

from bankconnect_async.config import Pool


if TYPE_CHECKING:
    import asyncio


# What makes connections, and what is asked before one is reused, belongs to
# a release of aiohttp.
_KNOWN: Final = ("3.14.",)
# Shares of the pool's `max_age`. They differ so that connections that were
# opened together are not closed together; the last tenth is the DNS cache's.
_SHORTEST_LIFE, _LONGEST_LIFE, _LOOKUP = 0.7, 0.9, 0.1
# Seconds that a looked up address is used at most.
_LONGEST_LOOKUP: Final = 10
_TIMEOUT: Final = re.compile(r"\btimeout\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
# Seconds that a request may be on its way to a server that is about to close.
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
        loop: The event loop it belongs to.
        max_age: The seconds after which it is reused no more.
    """

    def __init__(
        self, loop: "asyncio.AbstractEventLoop", *, max_age: float
    ) -> None:
        super().__init__(loop)
        share = random.uniform(_SHORTEST_LIFE, _LONGEST_LIFE)  # noqa: S311
        self._retire_at = self._reuse_until = monotonic() + max_age * share

    def connection_made(self, transport: "asyncio.BaseTransport") -> None:
        """Prepare to poll the socket."""
        super().connection_made(transport)
        #: Tells whether the other side has closed: ``poll_hang_up(0)``. Unread
        #: bytes are no sign of it, so this serves new connections, too.
        self.poll_hang_up = _make_poll(transport, _HANG_UP)
        self._poll = _make_poll(transport, _READABLE)

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
            # An idle connection has nothing to say: it has ended, or has
            # bytes that would be taken for the next response.
            and not self._poll(0)
        )

    def limit_idle(self, keep_alive: str) -> None:
        """
        Keep the connection no longer than its server does.

        Args:
            keep_alive: The header of its latest response.
        """
        until = monotonic() + _parse_keep_alive(keep_alive)
        self._reuse_until = min(self._retire_at, until)


class PooledResponse(aiohttp.ClientResponse):
    """
    A response that remembers its connection, also once that is given back.
    """

    def limit_idle(self) -> None:
        """Follow the Keep-Alive header, which is there."""
        if isinstance(self._protocol, PooledConnection):
            self._protocol.limit_idle(self.headers[hdrs.KEEP_ALIVE])


class PollingConnector(aiohttp.TCPConnector):
    """
    A connector that polls idle connections before it reuses them.

    Args:
        max_age: The seconds after which a connection is reused no more.
        **settings: The other arguments of its base.
    """

    def __init__(self, *, max_age: float, **settings: Any) -> None:
        super().__init__(**settings)
        self._factory: Any = functools.partial(
            PooledConnection, loop=self._loop, max_age=max_age
        )


def make_connector(
    pool: Pool, *, version: str = aiohttp.__version__, **settings: Any
) -> aiohttp.TCPConnector:
    """
    Return the connector of a session of ours.

    Args:
        pool: How long connections are kept.
        version: The version of aiohttp. With one that is not known, its own
            connector is returned.
        **settings: The other arguments of a `TCPConnector`.
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
    Raise what a writer raises to whom the loop told that it is closed.

    This needs no more of aiohttp than what is public, and serves requests
    over connections that `PollingConnector` did not make. It polls new
    connections, too.
    """
    transport = writer.transport
    if (
        transport is None
        or transport.is_closing()
        or _make_poll(transport, _HANG_UP)(0)
    ):
        raise aiohttp.ClientConnectionResetError("the server has closed it")


def _make_poll(
    transport: "asyncio.BaseTransport", events: int
) -> Callable[[int], list[Any]]:
    sock = transport.get_extra_info("socket")
    if sock is None:
        return lambda _: []
    if not hasattr(select, "poll"):  # there is none on Windows
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
