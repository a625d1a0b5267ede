"""
The pool of connections, and whose it is.

This module and those below it (`_exchange`, `_request`, `_connections`,
`_translation`, `_body`) are the only ones that speak through aiohttp's client.
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


# What a child process inherited: closing it there would take the parent's
# sockets out of the epoll set that both share.
_INHERITED: Final[list[object]] = []
# A loop keeps weak references to its tasks only.
_CLOSING: Final[set[asyncio.Future[None]]] = set()
# Default headers of a borrowed session that would garble our requests.
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
# Of an answer's head: bytes of one line, and number of lines. aiohttp's own
# limits refuse heads that proxies add to.
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
    Lets one task of one process and loop do the binding.
    """

    def __init__(self, pid: int, loop: asyncio.AbstractEventLoop) -> None:
        self.pid: Final = pid
        self.loop: Final = loop
        self.lock: Final = asyncio.Lock()


class Transport:
    """
    Sends bodies and returns answers, over one pool of connections.

    The pool belongs to the process and the event loop of the first request;
    a client that was made before a fork gets a pool of its own in the child.

    Args:
        headers: Sent with every request.
        timeouts: Limits of one attempt.
        pool: How many connections, kept how long.
        tls: `None` for the system's certificates.
        proxy: Address of an HTTP proxy, without credentials.
        proxy_credentials: Value of a Proxy-Authorization header.
        borrowed: A session of the caller's, used and never closed.

    Raises:
        ConfigurationError: If *borrowed* has default headers that would
            garble our requests.
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
        # Nothing tells an attempt without a body when it is connected.
        self._without_body = {
            "timeout": aiohttp.ClientTimeout(
                total=None,
                connect=timeouts.connect,
                ceil_threshold=_NEVER_ROUNDED,
            ),
        }
        # Whether requests have to check their connections themselves.
        self._is_wary = borrowed is not None
        self._proxy_headers: dict[str, str] = {}
        if proxy is not None:
            self._per_request["proxy"] = proxy
        if proxy_credentials is not None:
            self._proxy_headers["Proxy-Authorization"] = proxy_credentials
        if borrowed is not None:
            _refuse_framing(borrowed)

    @property
    def in_flight(self) -> int:
        """Requests that have a slot."""
        return self._bound.semaphore.in_use if self._bound else 0

    @property
    def waiting(self) -> int:
        """Requests that wait for one."""
        return self._bound.semaphore.waiting if self._bound else 0

    @property
    def connections_opened(self) -> int | None:
        """Sockets opened so far; `None` over a borrowed session."""
        return self._opened if self._borrowed is None else None

    @property
    def is_open(self) -> bool:
        """Whether it holds a pool that was not closed."""
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
        self._is_wary = not isinstance(connector, PollingConnector)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            request_class=request_class(asyncio.get_running_loop(), connector),
            response_class=PooledResponse,
            headers=self._headers,
            **self._per_session,
        )

    def _open_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        # What aiohttp does itself; a trace would tell too, at a price for
        # every request.
        self._opened += 1
        family, kind, protocol, _, _ = address
        return socket.socket(family, kind, protocol)

    def _ceiling(self) -> float:
        # Who waits inside aiohttp's own pool would seem to be connecting.
        connector = self._borrowed and self._borrowed.connector
        if not connector:
            return math.inf
        limits = connector.limit, connector.limit_per_host
        return min(limit or math.inf for limit in limits)

    def reserve(self, concurrency: int) -> None:
        """
        Make room for *concurrency* more requests, until `release`.

        The semaphore grows to what all callers reserved together, where
        that is more than the pool's limit. Its size is a ceiling, not a
        number of connections.
        """
        bound = self._usable()
        self._reserved += concurrency
        if bound is not None:
            bound.semaphore.grow(self._semaphore_size())

    def release(self, concurrency: int) -> None:
        """Take back what `reserve` was told, and the room with it."""
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
        Send one request and return the answer, whatever its status.

        Args:
            method: Of HTTP.
            url: Where to.
            body: What to send, if anything.
            headers: Beside those of every request.
            timeout: Seconds this may take in all, waiting for a slot included.
            limit: Bytes of the answer that are read at most.

        Raises:
            TransportError: If no complete head of an answer came.
            InvalidResponseError: If the body of a 2xx answer broke off.
            ClientClosedError: After `aclose`, or in another loop.
        """
        # No coroutine: there is nothing to wait for but the attempt.
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
        if headers or self._is_wary or self._proxy_headers:
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
            body.checks_connection = self._is_wary
        if self._borrowed is not None:
            # Its own default headers may name another type or key.
            headers = {**self._headers, **headers}
            if body is not None:
                headers["Content-Type"] = body.content_type
        return {**self._per_request, **self._route(url, headers)}

    def _route(self, url: URL, headers: dict[str, str]) -> dict[str, Any]:
        if not self._proxy_headers:
            return {"headers": headers}
        # An https server is reached by CONNECT, which has its own.
        if url.scheme == "https":
            return {"headers": headers, "proxy_headers": self._proxy_headers}
        return {"headers": {**headers, **self._proxy_headers}}

    def proxy_refusal(
        self, status: int, headers: Mapping[str, str], url: URL
    ) -> ProxyAuthenticationError | None:
        """
        Return the error if a proxy answered that wants credentials.

        Only a response to plain HTTP can be a proxy's: behind CONNECT, all
        of them are the server's.
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
                phase=Phase.ANSWERED,
            )
        return None

    @asynccontextmanager
    async def get_external(
        self, url: URL, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """
        Ask another server than the vendor's, over the same pool.

        Nothing of ours goes there: no key, no cookie, no default header, no
        client certificate of a `TLS`.

        Args:
            url: Where.
            headers: All there are, but for those of the protocol.

        Raises:
            TransportError: If it could not be asked.
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
            except Exception as exc:  # noqa: BLE001 - see `RequestAttempt.run`
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
        # A client certificate says who we are.
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
        self._let_go(bound)

    def abandon(self) -> None:
        """
        Let go of the pool as far as a finalizer can.
        """
        bound, self._bound = self._bound, None
        if bound is None or bound.pid != _pid or self._borrowed:
            return
        connector = bound.session.connector
        # Else aiohttp would tell of the session and of the connector, too.
        bound.session.detach()
        if connector is not None and bound.loop.is_running():
            closing = asyncio.ensure_future(connector.close())
            _CLOSING.add(closing)
            closing.add_done_callback(_CLOSING.discard)
        self._let_go(bound)

    def _let_go(self, bound: LoopResources) -> None:
        # Calls in flight over a borrowed session still need their limits.
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
