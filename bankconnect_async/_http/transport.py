"""
The pool of connections, bound to one process and one event loop.
"""

import asyncio
import math
import os
import socket
import ssl

from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import attrs

from yarl import URL

from bankconnect_async._threads import run_in_thread
from bankconnect_async.config import TLS, Pool, Timeouts
from bankconnect_async.errors import (
    ClientClosedError,
    ConfigurationError,
    Delivery,
    Phase,
    ProxyAuthenticationError,
    TransportError,
)

from .attempt import MAX_RESPONSE, LoopResources, RequestAttempt, Response
from .bodies import RequestBody
from .coalescing import request_class
from .connections import PollingConnector, PooledResponse, make_connector
from .error_mapping import map_error, proxy_refusal
from .semaphore import FifoSemaphore


# Pools that a child process inherited. Closing one would take the parent's
# sockets out of the epoll set that both share.
_INHERITED: Final[list[object]] = []
# The event loop keeps only weak references to its tasks.
_CLOSING: Final[set[asyncio.Future[None]]] = set()
# Default headers of a borrowed session that would break requests.
_FRAMING: Final = frozenset(
    {
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "transfer-encoding",
        "upgrade",
    }
)
_NEVER_ROUNDED = float("inf")
_REFUSED, _PROXY_REFUSED = 401, 407
# Limits of a response's head: bytes of a line, and number of lines. aiohttp's
# own limits are too small for heads to which proxies add lines.
_HEADS: Final[Mapping[str, Any]] = {
    "max_line_size": 64 * 1024,
    "max_field_size": 64 * 1024,
    "max_headers": 1024,
}
_pid = os.getpid()
# Larger than the 256 KiB that asyncio reads into.
_LARGE_BLOCK: Final = 2**20


def _note_fork() -> None:
    global _pid  # noqa: PLW0603 - asking for it is a system call each time
    _pid = os.getpid()


if hasattr(os, "register_at_fork"):  # there is none on Windows
    os.register_at_fork(after_in_child=_note_fork)


class _Binding:
    """
    Lets one task at a time bind the pool, in one process and event loop.
    """

    def __init__(self, pid: int, loop: asyncio.AbstractEventLoop) -> None:
        self.pid: Final = pid
        self.loop: Final = loop
        self.lock: Final = asyncio.Lock()


class Transport:
    """
    Sends requests over one pool of connections.

    The pool belongs to the process and the event loop of the first request;
    a client that was made before a fork gets a pool of its own in the child.

    Args:
        headers: The headers of every request.
        timeouts: The time limits of one attempt.
        pool: The settings of the pool.
        tls: The TLS settings; `None` for the system's certificates.
        proxy: The address of an HTTP proxy, without credentials.
        proxy_credentials: The value of the Proxy-Authorization header.
        borrowed: A session of the caller's, which is never closed.

    Raises:
        ConfigurationError: If *borrowed* has default headers that would
            break requests.
    """

    def __init__(  # noqa: PLR0913
        self,
        *,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        pool: Pool,
        tls: TLS | ssl.SSLContext | None,
        proxy: URL | None,
        proxy_credentials: str | None,
        borrowed: aiohttp.ClientSession | None,
    ) -> None:
        self._headers = headers
        self._timeouts = timeouts
        self._pool = pool
        self._tls = tls
        self._anonymous_tls: ssl.SSLContext | None = None
        self._borrowed = borrowed
        self._pid = _pid
        self._bound: LoopResources | None = None
        self._binding: _Binding | None = None
        self._reserved = 0
        self._opened = 0
        self._closed = False
        self._per_session: dict[str, Any] = {
            "raise_for_status": False,
            "auto_decompress": False,
            "middlewares": (),
            "timeout": aiohttp.ClientTimeout(total=None),
            **_HEADS,
        }
        self._per_request: dict[str, Any] = {"allow_redirects": False}
        if borrowed is not None:
            self._per_request |= self._per_session
        # An attempt without a body does not learn when it is connected.
        # Such a POST has no Content-Type either.
        self._without_body: dict[str, Any] = {
            "skip_auto_headers": ("Content-Type",),
            "timeout": aiohttp.ClientTimeout(
                total=None,
                connect=timeouts.connect,
                ceil_threshold=_NEVER_ROUNDED,
            ),
        }
        # Whether requests have to check their connections themselves.
        self._checks_connection = borrowed is not None
        self._proxy_headers: dict[str, str] = {}
        if proxy is not None:
            self._per_request["proxy"] = proxy
        if proxy_credentials is not None:
            self._proxy_headers["Proxy-Authorization"] = proxy_credentials
        if borrowed is not None:
            _refuse_framing(borrowed)

    @property
    def in_flight(self) -> int:
        """The number of requests that have a slot."""
        return self._bound.semaphore.in_use if self._bound else 0

    @property
    def waiting(self) -> int:
        """The number of requests that wait for a slot."""
        return self._bound.semaphore.waiting if self._bound else 0

    @property
    def connections_opened(self) -> int | None:
        """The sockets opened so far; `None` over a borrowed session."""
        return self._opened if self._borrowed is None else None

    @property
    def is_open(self) -> bool:
        """Whether there is a pool that was not closed."""
        return self._bound is not None and not self._closed

    async def open(self) -> LoopResources:
        """
        Bind to the running event loop, if that has not happened yet.

        Raises:
            ClientClosedError: After `aclose`, or in another loop.
            ConfigurationError: If the TLS files cannot be used.
        """
        pid, loop = _pid, asyncio.get_running_loop()
        binding = self._binding
        if binding is None or (binding.pid, binding.loop) != (pid, loop):
            binding = self._binding = _Binding(pid, loop)
        async with binding.lock:
            bound = self._usable()
            if bound is None:
                if self._bound is not None:
                    _INHERITED.append(self._bound)
                self._bound = bound = await self._bind()
            return bound

    def _usable(self) -> LoopResources | None:
        if self._closed:
            raise ClientClosedError("the client is closed")
        if self._borrowed is not None and self._pid != _pid:
            raise ClientClosedError(
                "the borrowed ClientSession belongs to another process: make "
                "one in each process"
            )
        bound = self._bound
        if bound is None or bound.pid != _pid:
            return None
        if bound.loop is not asyncio.get_running_loop():
            raise ClientClosedError(
                "the client belongs to another event loop: make one client "
                "for each loop"
            )
        if self._borrowed is not None and bound.session.closed:
            raise ClientClosedError("the borrowed ClientSession is closed")
        return bound

    async def _bind(self) -> LoopResources:
        loop = asyncio.get_running_loop()
        # aiohttp would count queueing as request time and knows no separate
        # limit for it, so requests queue here and its own pool has no limit.
        session = self._borrowed
        if session is None:
            session = await self._make_session()
        return LoopResources(
            loop=loop,
            pid=_pid,
            session=session,
            semaphore=FifoSemaphore(self._semaphore_size()),
        )

    async def _make_session(self) -> aiohttp.ClientSession:
        tls = self._tls
        if isinstance(tls, TLS):
            tls = await run_in_thread(tls.build_context)
            if self._closed:
                raise ClientClosedError("the client was closed meanwhile")
        _keep_read_buffers()
        connector = make_connector(
            self._pool,
            limit=0,
            ssl=True if tls is None else tls,
            socket_factory=self._open_socket,
        )
        self._checks_connection = not isinstance(connector, PollingConnector)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            request_class=request_class(asyncio.get_running_loop(), connector),
            response_class=PooledResponse,
            headers=self._headers,
            **self._per_session,
        )

    def _open_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        # aiohttp does the same itself. A trace would count as well, at a cost
        # for every request.
        self._opened += 1
        family, kind, protocol, _, _ = address
        return socket.socket(family, kind, protocol)

    def _ceiling(self) -> float:
        # A request that waits in aiohttp's own pool would seem to connect.
        connector = self._borrowed and self._borrowed.connector
        if not connector:
            return math.inf
        limits = connector.limit, connector.limit_per_host
        return min(limit or math.inf for limit in limits)

    def reserve(self, concurrency: int) -> None:
        """
        Reserve slots for *concurrency* requests, until `release`.

        The semaphore grows to what all callers reserved together, if that
        exceeds the pool's limit. It bounds connections and opens none.
        """
        bound = self._usable()
        self._reserved += concurrency
        if bound is not None:
            bound.semaphore.grow(self._semaphore_size())

    def release(self, concurrency: int) -> None:
        """Give back what `reserve` took."""
        self._reserved -= concurrency
        if self._bound is not None:
            self._bound.semaphore.shrink(self._semaphore_size())

    def _semaphore_size(self) -> int:
        wanted = max(self._pool.limit, self._reserved)
        return int(min(wanted, self._ceiling()))

    def send(  # noqa: PLR0913
        self,
        method: str,
        url: URL,
        body: RequestBody | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float,
        limit: int = MAX_RESPONSE,
    ) -> Awaitable[Response]:
        """
        Send one request and return the response, whatever its status.

        Args:
            method: The HTTP method.
            url: The address.
            body: The body to send, if any.
            headers: The headers beside those of every request.
            timeout: The seconds for everything, with the wait for a slot.
            limit: The largest body of a response that is read, in bytes.

        Raises:
            TransportError: If no complete head of a response came.
            InvalidResponseError: If the body of a 2xx answer broke off.
            ClientClosedError: After `aclose`, or in another loop.
        """
        # Not a coroutine, because only the attempt waits.
        bound = self._bound
        if (
            bound is None
            or bound.loop is not asyncio.get_running_loop()
            or bound.pid != _pid
            or self._closed
            or self._borrowed is not None
        ):
            bound = self._usable()
        if bound is None:
            return self._open_and_send(
                method,
                url,
                body,
                headers=headers,
                timeout=timeout,
                limit=limit,
            )
        options = self._per_request
        if headers or self._checks_connection or self._proxy_headers:
            options = self._options(url, body, headers)
        if body is None:
            options = {**options, **self._without_body}
        attempt = RequestAttempt(bound, self._timeouts, timeout)
        return attempt.run(method, url, body, options, limit)

    async def _open_and_send(self, *args: Any, **kwargs: Any) -> Response:
        await self.open()
        return await self.send(*args, **kwargs)

    def _options(
        self,
        url: URL,
        body: RequestBody | None,
        headers: Mapping[str, str] | None,
    ) -> dict[str, Any]:
        headers = dict(headers or {})
        if body is not None:
            body.checks_connection = self._checks_connection
        if self._borrowed is not None:
            # The session's default headers may have another type or key.
            headers = {**self._headers, **headers}
            if body is not None:
                headers["Content-Type"] = body.content_type
        return {**self._per_request, **self._route(url, headers)}

    def _route(self, url: URL, headers: dict[str, str]) -> dict[str, Any]:
        if not self._proxy_headers:
            return {"headers": headers}
        # An https server is reached by CONNECT, which has its own headers.
        if url.scheme == "https":
            return {"headers": headers, "proxy_headers": self._proxy_headers}
        return {"headers": {**headers, **self._proxy_headers}}

    def proxy_refusal(
        self, status: int, headers: Mapping[str, str], url: URL
    ) -> ProxyAuthenticationError | None:
        """
        Return the error if the response is a proxy's that wants credentials.

        Only a response to plain HTTP can be a proxy's: behind CONNECT, all
        responses are the server's.
        """
        if url.scheme != "http":
            return None
        # RFC 9110 has 407 for it; tinyproxy says 401 to wrong credentials.
        challenge = headers.get("WWW-Authenticate", "").lower()
        if status == _PROXY_REFUSED or (
            status == _REFUSED
            and self._proxy_headers
            and challenge.startswith("basic")
        ):
            return proxy_refusal(
                self._per_request.get("proxy"),
                status,
                delivery=Delivery.REJECTED,
                phase=Phase.RESPONDED,
            )
        return None

    @asynccontextmanager
    async def get_external(
        self, url: URL, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """
        Get a URL of another server than the vendor's, over the same pool.

        The request has no key, no cookie, no default header and no client
        certificate of a `TLS`.

        Args:
            url: The URL.
            headers: The headers, except those of the protocol.

        Raises:
            TransportError: If there was no response.
            aiohttp.ClientError: If the response broke off.
        """
        bound = await self.open()
        proxy = self._per_request.get("proxy")
        headers = {"Accept-Encoding": "identity", **headers}
        options = await self._without_certificate()
        async with aiohttp.ClientSession(
            connector=bound.session.connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=self._timeouts.connect,
                sock_read=self._timeouts.read,
            ),
            **_HEADS,
        ) as session:
            response: aiohttp.ClientResponse | TransportError
            try:
                response = await session.get(
                    url,
                    allow_redirects=False,
                    proxy=proxy,
                    **options,
                    **self._route(url, headers),
                )
            except UnicodeError:
                raise
            except Exception as exc:  # noqa: BLE001 - aiohttp raises anything
                response = map_error(exc, None, proxy)
            # Outside of `except`: reprs of aiohttp's hold the link.
            if isinstance(response, TransportError):
                raise bound.note_failure(response, proxy or url)
            async with response:
                refusal = self.proxy_refusal(
                    response.status, response.headers, url
                )
                if refusal is not None:
                    raise refusal
                yield response

    async def _without_certificate(self) -> dict[str, Any]:
        # A client certificate would identify the client.
        tls = self._tls
        if not isinstance(tls, TLS) or tls.cert_file is None:
            return {}
        if self._anonymous_tls is None:
            tls = attrs.evolve(
                tls, cert_file=None, key_file=None, key_password=None
            )
            self._anonymous_tls = await run_in_thread(tls.build_context)
        return {"ssl": self._anonymous_tls}

    async def aclose(self) -> None:
        """Close the pool; a borrowed session stays open."""
        self._closed = True
        bound, self._bound = self._bound, None
        if bound is None or bound.pid != _pid:
            return
        if self._borrowed is None:
            await bound.session.close()
        self._close_deadlines(bound)

    def abandon(self) -> None:
        """
        Close the pool as far as a finalizer can.
        """
        bound, self._bound = self._bound, None
        if bound is None or bound.pid != _pid or self._borrowed:
            return
        connector = bound.session.connector
        # Otherwise aiohttp would warn of the session and the connector, too.
        bound.session.detach()
        if connector is not None and bound.loop.is_running():
            closing = asyncio.ensure_future(connector.close())
            _CLOSING.add(closing)
            closing.add_done_callback(_CLOSING.discard)
        self._close_deadlines(bound)

    def _close_deadlines(self, bound: LoopResources) -> None:
        # Requests over a borrowed session still need their deadlines.
        if not bound.deadlines.pending:
            bound.deadlines.close()


def _keep_read_buffers() -> None:
    # Until a block this large was freed once, glibc maps and unmaps the
    # buffer of every read (mallopt(3), M_MMAP_THRESHOLD): three system calls
    # and two page faults, a sixth of what a session costs. Some blocks at a
    # time: free memory of the heap may serve for the first ones.
    blocks = [bytes(_LARGE_BLOCK) for _ in range(8)]
    del blocks


def _refuse_framing(session: aiohttp.ClientSession) -> None:
    names = sorted(
        name for name in session.headers if name.lower() in _FRAMING
    )
    if names:
        raise ConfigurationError(
            fields={
                "client_session": (
                    f"has default headers that belong to single requests: "
                    f"{', '.join(names)}",
                )
            }
        )
