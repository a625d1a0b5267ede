"""
Sends single requests over a pool that belongs to one event loop.
"""

import asyncio
import functools
import math
import os
import socket
import ssl

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import attrs

from aiohttp import hdrs
from yarl import URL

from bankconnect_async._threads import run_in_thread
from bankconnect_async.config import Pool, Timeouts
from bankconnect_async.errors import (
    ClientClosedError,
    Delivery,
    InvalidResponseError,
    Phase,
    PoolTimeoutError,
    ProxyAuthenticationError,
    TransportError,
)

from .bodies import RequestBody
from .client_session import (
    SESSION_OPTIONS,
    make_client_session,
    refuse_framing,
)
from .connections import (
    PollingConnector,
    PooledConnection,
    send_request,
)
from .deadlines import Deadline, DeadlineScheduler
from .error_mapping import (
    NOTHING_SENT,
    cut_off_error,
    map_error,
    proxy_refusal,
)
from .operation import OK, Operation
from .response_bodies import decompress, read_body
from .semaphore import FifoSemaphore


if TYPE_CHECKING:
    from bankconnect_async.tls import TLS


# Pools that a child process inherited. Closing one would take the parent's
# sockets out of the epoll set that both share.
_INHERITED: Final[list[object]] = []
# The event loop keeps only weak references to its tasks.
_CLOSING: Final[set[asyncio.Future[None]]] = set()
_NEVER_ROUNDED = float("inf")
_REFUSED, _PROXY_REFUSED, _MISDIRECTED = 401, 407, 421


class _Process:
    """
    The process, whose id would be a system call each time.
    """

    id = os.getpid()

    @classmethod
    def note_fork(cls) -> None:
        """Learn the id in a child."""
        cls.id = os.getpid()


if hasattr(os, "register_at_fork"):  # there is none on Windows
    os.register_at_fork(after_in_child=_Process.note_fork)


class _Binding:
    """
    Lets one task at a time bind the pool, in one process and event loop.
    """

    def __init__(self, pid: int, loop: asyncio.AbstractEventLoop) -> None:
        self.pid: Final = pid
        self.loop: Final = loop
        self.lock: Final = asyncio.Lock()


# No repr: the body may be a credential.
@attrs.define(eq=False, repr=False)
class Response:
    """
    A response: status, headers, and as much of the body as arrived.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class LoopResources:
    """
    The resources of a transport in one process and one event loop.

    Attributes:
        loop: The event loop.
        pid: The id of the process.
        session: The session of aiohttp.
        semaphore: The semaphore of the pool.
        deadlines: The scheduler of deadlines.
        polling: The connector, if small bodies may be posted over it without
            the help of the session.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        semaphore: FifoSemaphore,
        polling: PollingConnector | None,
    ) -> None:
        self.loop: Final = asyncio.get_running_loop()
        self.pid: Final = _Process.id
        self.session: Final = session
        self.semaphore: Final = semaphore
        self.deadlines: Final = DeadlineScheduler(self.loop)
        self.polling: Final = polling

    def note_failure(
        self, failure: TransportError, url: URL
    ) -> TransportError:
        """
        Forget the address of a host to which no connection could be made.

        Args:
            failure: The error of one attempt.
            url: The address that was connected to: the proxy's, if there is
                one.

        Returns:
            The *failure*.
        """
        connector = self.session.connector
        if (
            failure.phase is Phase.CONNECTING
            and isinstance(connector, aiohttp.TCPConnector)
            and url.raw_host is not None
        ):
            connector.clear_dns_cache(url.raw_host, url.port)
        return failure


class Transport:
    """
    Sends single requests over one pool of connections.

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

    Attributes:
        timeouts: The time limits of one attempt.
        rate_limits: The functions that return the requests per second that
            a batch allows itself, `None` for no limit.

    Raises:
        ConfigurationError: If the borrowed session has default headers that
            would break requests.
    """

    def __init__(  # noqa: PLR0913
        self,
        *,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        pool: Pool,
        tls: "TLS | ssl.SSLContext | None",
        proxy: URL | None,
        proxy_credentials: str | None,
        borrowed: aiohttp.ClientSession | None,
    ) -> None:
        self.timeouts: Timeouts = timeouts
        self.rate_limits: set[Callable[[], float | None]] = set()
        self._headers = headers
        self._pool = pool
        self._tls = tls
        self._proxy = proxy
        self._borrowed = borrowed
        self._anonymous_tls: ssl.SSLContext | None = None
        self._pid = _Process.id
        self._bound: LoopResources | None = None
        self._binding: _Binding | None = None
        self._reserved = 0
        self._opened = 0
        self._closed = False
        # Whether requests have to check their connections themselves.
        self._checks_connection = self._borrowed is not None
        self._proxy_headers: dict[str, str] = {}
        if proxy_credentials is not None:
            self._proxy_headers["Proxy-Authorization"] = proxy_credentials
        self._per_request: dict[str, Any] = {"allow_redirects": False}
        if self._proxy is not None:
            self._per_request["proxy"] = self._proxy
        if self._borrowed is not None:
            self._per_request |= SESSION_OPTIONS
            refuse_framing(self._borrowed)
        # An attempt without a body does not learn when it is connected.
        # Such a POST has no Content-Type either.
        self._without_body: dict[str, Any] = {
            "skip_auto_headers": ("Content-Type",),
            "timeout": aiohttp.ClientTimeout(
                total=None,
                connect=self.timeouts.connect,
                ceil_threshold=_NEVER_ROUNDED,
            ),
        }

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
        pid, loop = _Process.id, asyncio.get_running_loop()
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

    def check_closable(self) -> None:
        """
        Refuse to close the pool of an event loop that runs in another thread.

        Raises:
            ClientClosedError: If it is such a pool.
        """
        bound = self._bound
        if (
            bound is not None
            and bound.pid == _Process.id
            and bound.loop is not asyncio.get_running_loop()
            and bound.loop.is_running()
        ):
            raise ClientClosedError(
                "the client belongs to another event loop: close it there"
            )

    def _usable(self) -> LoopResources | None:
        if self._closed:
            raise ClientClosedError("the client is closed")
        if self._borrowed is not None and self._pid != _Process.id:
            raise ClientClosedError(
                "the borrowed ClientSession belongs to another process: make "
                "one in each process"
            )
        bound = self._bound
        if bound is None or bound.pid != _Process.id:
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
        session, polling = self._borrowed, None
        if session is None:
            tls = self._tls
            if tls is not None and not isinstance(tls, ssl.SSLContext):
                tls = await run_in_thread(tls.build_context)
                if self._closed:
                    raise ClientClosedError("the client was closed meanwhile")
            session = make_client_session(
                self._pool,
                headers=self._headers,
                tls=tls,
                open_socket=self._open_socket,
            )
            if isinstance(session.connector, PollingConnector):
                self._checks_connection = False
                polling = session.connector if self._proxy is None else None
            else:
                self._checks_connection = True
        return LoopResources(
            session, FifoSemaphore(self._semaphore_size()), polling
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

    def reserve(
        self, concurrency: int, rate_limit: Callable[[], float | None]
    ) -> None:
        """
        Reserve slots for *concurrency* requests, until `release`.

        The semaphore grows to what all callers reserved together, if that
        exceeds the pool's limit. It bounds connections and opens none.

        Args:
            concurrency: The largest number of requests in flight.
            rate_limit: The function that returns the requests per second
                that the caller allows itself, `None` for no limit.
        """
        bound = self._usable()
        self._reserved += concurrency
        self.rate_limits.add(rate_limit)
        if bound is not None:
            bound.semaphore.grow(self._semaphore_size())

    def release(
        self, concurrency: int, rate_limit: Callable[[], float | None]
    ) -> None:
        """Give back what `reserve` took."""
        self._reserved -= concurrency
        self.rate_limits.discard(rate_limit)
        if self._bound is not None:
            self._bound.semaphore.shrink(self._semaphore_size())

    def _semaphore_size(self) -> int:
        wanted = max(self._pool.limit, self._reserved)
        return int(min(wanted, self._ceiling()))

    async def send(
        self,
        operation: Operation[Any],
        body: RequestBody | None = None,
        *,
        time_left: float,
    ) -> Response:
        """
        Make one attempt, and return the response, whatever its status.

        Args:
            operation: The operation.
            body: The body to send, if any.
            time_left: The seconds for everything, with the wait for a slot.

        Raises:
            TransportError: If no complete head of a response came.
            InvalidResponseError: If the body of a 2xx response broke off.
            ClientClosedError: After `aclose`, or in another loop.
        """
        bound = self._usable() or await self.open()
        options = self._options(operation, body)
        timeouts = self.timeouts
        deadline = Deadline(bound.deadlines, time_left, timeouts.connect)
        start_reading = functools.partial(deadline.limit, timeouts.read)
        head: aiohttp.ClientResponse | None = None
        if not bound.semaphore.try_acquire():
            await self._wait_for_slot(bound, deadline)
        # One coroutine for all of this: another costs half a microsecond.
        try:
            if body is None:
                # Nothing tells when the head of this request is sent.
                deadline.limit(timeouts.connect + timeouts.read)
            else:
                body.begun = body.unsent = False
                body.on_progress = start_reading
            head = await send_request(
                bound.session,
                bound.polling if options is self._per_request else None,
                operation,
                body,
                options,
            )
            if head.content.is_eof():
                # Usually the body came with the head.
                content = head.content.read_nowait()
            else:
                content = await read_body(head, operation.limit, start_reading)
            headers = head.headers
            if (
                hdrs.KEEP_ALIVE in headers
                or hdrs.CONTENT_ENCODING in headers
                or head.status == _MISDIRECTED
            ):
                content = await _finish(head, content, operation.limit)
            return Response(head.status, headers, content)
        except asyncio.CancelledError:
            timed_out = deadline.absorb_cancel()
            if not timed_out and deadline.was_cancelled():
                raise
            problem = "did not arrive in time"
            failure = cut_off_error(
                body,
                timed_out=timed_out,
                is_total=deadline.when >= deadline.end,
                url=self._proxy or operation.url,
            )
        # aiohttp, the system and Python itself may raise anything, and the
        # caller has to know whether the request was sent.
        except Exception as exc:  # noqa: BLE001
            problem = "broke off"
            failure = map_error(exc, body, self._proxy)
        finally:
            bound.semaphore.release()
            deadline.clear()
            # One whose body was read has given its connection back, unless
            # the server switched protocols.
            if head is not None and not head.closed:
                head.close()
        # Outside of `except`: the exception may hold the response's bytes.
        if head is not None:
            return _without_body(head, problem)
        raise bound.note_failure(failure, self._proxy or operation.url)

    async def _wait_for_slot(
        self, bound: LoopResources, deadline: Deadline
    ) -> None:
        deadline.limit(self.timeouts.pool)
        try:
            await bound.semaphore.acquire()
        except asyncio.CancelledError:
            timed_out = deadline.absorb_cancel()
            deadline.clear()
            if not timed_out:
                raise
            raise PoolTimeoutError(
                f"no slot of the client's pool became free in time"
                f"{NOTHING_SENT}",
                delivery=Delivery.NOT_SENT,
                phase=Phase.QUEUED,
            ) from None
        if bound.session.closed:
            deadline.clear()
            bound.semaphore.release()
            raise ClientClosedError("the client was closed meanwhile")
        deadline.limit(self.timeouts.connect)

    def _options(
        self, operation: Operation[Any], body: RequestBody | None
    ) -> Mapping[str, Any]:
        options, headers = self._per_request, operation.headers or {}
        if headers or self._checks_connection or self._proxy_headers:
            if body is not None:
                body.checks_connection = self._checks_connection
            if self._borrowed is not None:
                # The session's default headers may have another type or key.
                headers = {**self._headers, **headers}
                if body is not None:
                    headers["Content-Type"] = body.content_type
            options = {**options, **self._route(operation.url, headers)}
        if body is None:
            options = {**options, **self._without_body}
        return options

    def _route(self, url: URL, headers: Mapping[str, str]) -> dict[str, Any]:
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
                self._proxy,
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
        headers = {"Accept-Encoding": "identity", **headers}
        options = await self._without_certificate()
        async with aiohttp.ClientSession(
            connector=bound.session.connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            **{
                **SESSION_OPTIONS,
                "timeout": aiohttp.ClientTimeout(
                    total=None,
                    connect=self.timeouts.connect,
                    sock_read=self.timeouts.read,
                ),
            },
        ) as session:
            response: aiohttp.ClientResponse | TransportError
            try:
                response = await session.get(
                    url,
                    allow_redirects=False,
                    proxy=self._proxy,
                    **options,
                    **self._route(url, headers),
                )
            except UnicodeError:
                raise
            except Exception as exc:  # noqa: BLE001 - aiohttp raises anything
                response = map_error(exc, None, self._proxy)
            # Outside of `except`: reprs of aiohttp's hold the link.
            if isinstance(response, TransportError):
                raise bound.note_failure(response, self._proxy or url)
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
        if (
            tls is None
            or isinstance(tls, ssl.SSLContext)
            or tls.cert_file is None
        ):
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
        if bound is None or bound.pid != _Process.id:
            return
        if self._borrowed is None:
            await bound.session.close()
        self._close_deadlines(bound)

    def abandon(self) -> None:
        """
        Close the pool as far as a finalizer can.
        """
        bound, self._bound = self._bound, None
        if bound is None or bound.pid != _Process.id or self._borrowed:
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


def _without_body(head: aiohttp.ClientResponse, problem: str) -> Response:
    # The head is enough for an error; a success needs its body.
    if head.status in OK:
        raise InvalidResponseError(
            f"the server answered {head.status} and the body {problem}",
            status=head.status,
        )
    return Response(head.status, head.headers, b"")


async def _finish(
    head: aiohttp.ClientResponse, content: bytes, limit: int
) -> bytes:
    # A response still knows its connection once that is given back.
    protocol = getattr(head, "_protocol", None)
    if head.status == _MISDIRECTED and protocol is not None:
        # A retry has to use another connection (RFC 9110, section 15.5.20).
        # The body is read, so `head.close()` no longer reaches this one.
        protocol.close()
    keep_alive = head.headers.get(hdrs.KEEP_ALIVE)
    if keep_alive is not None and isinstance(protocol, PooledConnection):
        protocol.limit_idle(keep_alive)
    encoding = head.headers.get(hdrs.CONTENT_ENCODING)
    if encoding is None:
        return content
    return await decompress(content, encoding, limit)
