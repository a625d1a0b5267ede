"""
Connections that are checked before they are reused, and their requests.

A server may close an idle connection at any time, and the event loop learns
of it at its next turn. A request that is written in between is lost, and
nothing tells whether it was processed. So the socket is polled first.
"""

import asyncio
import functools
import logging
import re
import select

from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast

import aiohttp

from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import TimerNoop
from aiohttp.http import StreamWriter
from multidict import CIMultiDict

from bankconnect_async.config import Pool
from bankconnect_async.retry import uniform

from .bodies import BytesBody
from .coalescing import WriteCoalescer
from .sockets import HANG_UP, READABLE, make_poll


if TYPE_CHECKING:
    from aiohttp.connector import Connection
    from aiohttp.typedefs import LooseHeaders
    from yarl import URL

    from .operation import Operation


# How connections are made and reused is private to a release of aiohttp.
_KNOWN: Final = ("3.14.",)
# Shares of the pool's `max_age`. They differ so that connections that were
# opened together are not closed together; the DNS cache has the last tenth.
_SHORTEST_LIFE, _LONGEST_LIFE, _LOOKUP = 0.7, 0.9, 0.1
# The longest life of a looked up address, in seconds.
_LONGEST_LOOKUP: Final = 10
_TIMEOUT: Final = r"\btimeout\s*=\s*\"?(\d{1,9})"
# The seconds that a request may take to a server that is about to close.
_MARGIN: Final = 1.0

#: Limits of a response's head: bytes of a line, and number of lines. aiohttp's
#: own limits are too small for heads to which proxies add lines.
HEAD_LIMITS: Final[Mapping[str, Any]] = {
    "max_line_size": 64 * 1024,
    "max_field_size": 64 * 1024,
    "max_headers": 1024,
}
# The largest body that is coalesced, in bytes. asyncio buffers 64 KiB, head
# included, before a writer has to wait.
SMALL: Final = 32 * 1024
# `Transport.send` limits the time of a request.
_NO_TIMER: Final = TimerNoop()

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
        self.pool = pool
        share = uniform(_SHORTEST_LIFE, _LONGEST_LIFE)
        self._retire_at = self._reuse_until = monotonic() + max_age * share

    def connection_made(self, transport: "asyncio.BaseTransport") -> None:
        """Prepare to poll the socket."""
        super().connection_made(transport)
        self.fd = self.pool.register(transport)
        self._poll_hang_up = make_poll(transport, HANG_UP)
        self._poll_readable = make_poll(transport, READABLE)

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
                self.pool.has_new_events(self.fd) and self._poll_readable(0)
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


class PollingConnector(aiohttp.TCPConnector):
    """
    A connector that polls idle connections before it reuses them.

    One system call polls all connections, for all requests of one turn of
    the event loop. Where there is no epoll, each connection is polled.

    Args:
        max_age: The seconds after which a connection is not reused.
        **settings: The other arguments of `aiohttp.TCPConnector`.

    Attributes:
        coalescer: The coalescer of small requests.
    """

    def __init__(self, *, max_age: float, **settings: Any) -> None:
        super().__init__(**settings)
        self._factory: Any = functools.partial(
            PooledConnection, self, loop=self._loop, max_age=max_age
        )
        self.coalescer = WriteCoalescer(self._loop, self, self._acquired)
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
                self._epoll.register(fd, READABLE | HANG_UP)
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
        if not self.coalescer.is_flush_due:
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


@functools.lru_cache(maxsize=64)
def _parse_keep_alive(text: str) -> float:
    found = re.search(_TIMEOUT, text, re.IGNORECASE)
    if found is None:
        return float("inf")
    seconds = float(found[1])
    return max(seconds - _MARGIN, seconds / 2)


def _is_small_post(body: object, method: str) -> TypeGuard[BytesBody]:
    """
    Return whether a request with this body is coalesced.
    """
    return (
        isinstance(body, BytesBody)
        and body.length <= SMALL
        # aiohttp may itself send other methods again, with its own body.
        and method == hdrs.METH_POST
    )


class CoalescedRequest(aiohttp.ClientRequest):
    """
    A request whose headers were complete when they were given.

    It is for sessions without traces, middlewares and read timeouts. A
    request through a proxy, with another method than POST or with another
    body is written by aiohttp.
    """

    _small: BytesBody | None = None

    def update_headers(self, headers: "LooseHeaders | None") -> None:
        """Copy the headers, after the host's own (RFC 9112)."""
        # aiohttp adds them one by one, and looks for each of its own.
        self.headers = CIMultiDict(
            {hdrs.HOST: self.url.host_port_subcomponent or ""}
        )
        self.headers.extend(headers or ())

    def update_auto_headers(
        self, skip_auto_headers: Iterable[str] | None
    ) -> None:
        """Note those to leave out; all others were given."""
        if skip_auto_headers:
            super().update_auto_headers(skip_auto_headers)

    def update_body_from_data(self, body: Any, _stacklevel: int = 3) -> None:
        """Set the body, and the headers that describe it."""
        if _is_small_post(body, self.method) and self.proxy is None:
            self._small = body
            self.headers[hdrs.CONTENT_LENGTH] = str(body.length)
            self.headers[hdrs.CONTENT_TYPE] = body.media_type
        else:
            super().update_body_from_data(body, _stacklevel)

    async def send(self, conn: "Connection") -> aiohttp.ClientResponse:
        """Schedule the write, and return the response to read."""
        body, protocol = self._small, conn.protocol
        if not isinstance(protocol, PooledConnection) or protocol.should_close:
            # Something came before the request: it must not be taken for its
            # response (RFC 9112, 6.3).
            raise aiohttp.ServerDisconnectedError
        coalescer = protocol.pool.coalescer
        if body is None:
            # It is not written by the flush, which polls again.
            if coalescer.is_flush_due and protocol.has_hung_up():
                raise aiohttp.ClientConnectionResetError("closed meanwhile")
            return await super().send(conn)
        writer = StreamWriter(protocol, self.loop)
        await writer.write_headers(
            f"{self.method} {self.url.raw_path_qs} HTTP/1.1", self.headers
        )
        coalescer.add(conn, protocol, writer, body)
        return self.response_class(
            self.method,
            self.original_url,
            writer=None,
            continue100=None,
            timer=_NO_TIMER,
            request_info=self.request_info,
            traces=[],
            loop=self.loop,
            session=self.session,
            stream_writer=writer,
        )


def send_request(
    session: aiohttp.ClientSession,
    connector: PollingConnector | None,
    operation: "Operation[Any]",
    body: object,
    options: Mapping[str, Any],
) -> Awaitable[aiohttp.ClientResponse]:
    """
    Return an awaitable of the head of a response.

    Args:
        session: The session.
        connector: Its connector, if `make_client_session` made the session
            and the request has no options of its own; else `None`.
        operation: The operation.
        body: The body, if any.
        options: Further arguments of `ClientSession.request`.
    """
    method, url = operation.method, operation.url
    if connector is not None and _is_small_post(body, method):
        return _post_small(session, connector, url, body)
    return session.request(method, url, data=body, **options)


async def _post_small(
    session: aiohttp.ClientSession,
    connector: PollingConnector,
    url: "URL",
    body: BytesBody,
) -> aiohttp.ClientResponse:
    # `ClientSession.request` does the same, and then some: redirects, cookies,
    # traces, middlewares, timeouts and proxies, which such a session does not
    # have, took a seventh of the CPU time of a create.
    request = CoalescedRequest(
        hdrs.METH_POST,
        url,
        headers=session.headers,
        data=body,
        loop=asyncio.get_running_loop(),
        session=session,
        timer=_NO_TIMER,
    )
    conn = await connector.connect(request, traces=[], timeout=session.timeout)
    try:
        cast("PooledConnection", conn.protocol).set_response_params(
            timer=_NO_TIMER,
            read_until_eof=True,
            auto_decompress=False,
            **HEAD_LIMITS,
        )
        response = await request.send(conn)
        try:
            await response.start(conn)
        except BaseException:
            response.close()
            raise
    except BaseException:
        conn.close()
        raise
    return response


def request_class(
    connector: aiohttp.BaseConnector,
) -> type[aiohttp.ClientRequest]:
    """
    Return the class of the requests over a connector.

    aiohttp writes all requests over a connector of its own.
    """
    if isinstance(connector, PollingConnector):
        return CoalescedRequest
    return aiohttp.ClientRequest
