"""
The only module that speaks through aiohttp's client.

What becomes of a request decides whether it may be repeated, and exception
types do not tell it: a reset before the server read anything and one after
it processed everything look the same. The body's own payload object knows
when its write began, and whether that write failed before a byte was handed
to the connection.
"""

import asyncio
import math
import os
import socket
import ssl
import zlib

from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
import attrs

from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from ._alarms import Alarm, Alarms
from .errors import (
    CertificateError,
    ClientClosedError,
    ConfigurationError,
    ConnectFailedError,
    ConnectionLostError,
    Delivery,
    Phase,
    QueueTimeoutError,
    RequestTimeoutError,
    TransportError,
    UnreadableAnswerError,
)
from .settings import TLS, Pool, Timeouts


#: Bytes of an answer that are read at most.
MAX_ANSWER: Final = 1024 * 1024
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
# aiohttp hands a body of this size over in one piece; only of a larger one
# can a part have left when the write fails.
_ONE_PIECE = 64 * 1024
_NEVER_ROUNDED = float("inf")
_OK = range(200, 300)


class Body(aiohttp.BytesPayload):
    """
    A request body that notes how far its sending came.

    Its bytes show in no repr: they hold the API key.

    Attributes:
        begun: Whether its write was begun.
        unsent: Whether that write failed before anything was handed on.
    """

    def __init__(self, content: bytes, *, content_type: str) -> None:
        super().__init__(content, content_type=content_type)
        self.begun = False
        self.unsent = False
        self._on_begun: Callable[[], None] | None = None

    def fresh(self, on_begun: Callable[[], None]) -> None:
        """Get ready for another attempt; *on_begun* is called in it."""
        self.begun = self.unsent = False
        self._on_begun = on_begun

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,
    ) -> None:
        """Write the body, taking notes."""
        self.begun = True
        if self._on_begun is not None:
            self._on_begun()
        try:
            await super().write_with_length(writer, content_length)
        except Exception as exc:  # noqa: BLE001 - it is raised below
            self.unsent = len(self._value) <= _ONE_PIECE
            failure = exc.with_traceback(None)
        else:
            return
        # The frames in between hold headers and body as locals, which a
        # traceback with locals would print.
        raise failure


@attrs.define
class Answer:
    """
    A complete head, and the body as far as it could be read.
    """

    # Not frozen: one is made for every call, and freezing costs a microsecond.
    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


# Narrow rows first: the first match counts.
TRANSLATIONS: Final[
    tuple[tuple[type[Exception], type[TransportError], str], ...]
] = (
    (
        aiohttp.ClientConnectorCertificateError,
        CertificateError,
        "the server's TLS certificate was refused",
    ),
    (
        aiohttp.ServerFingerprintMismatch,
        CertificateError,
        "the server's TLS fingerprint is not the expected one",
    ),
    (
        aiohttp.ClientSSLError,
        ConnectFailedError,
        "the TLS handshake failed",
    ),
    (
        aiohttp.ClientProxyConnectionError,
        ConnectFailedError,
        "the proxy could not be reached",
    ),
    (
        aiohttp.ClientHttpProxyError,
        ConnectFailedError,
        "the proxy refused to connect",
    ),
    (
        aiohttp.ClientConnectorDNSError,
        ConnectFailedError,
        "the server's name could not be looked up",
    ),
    (
        aiohttp.ClientConnectorError,
        ConnectFailedError,
        "no connection could be made",
    ),
    (
        aiohttp.ConnectionTimeoutError,
        ConnectFailedError,
        "connecting took too long",
    ),
    (
        aiohttp.ServerTimeoutError,
        RequestTimeoutError,
        "the server did not answer in time",
    ),
    (
        aiohttp.ClientResponseError,
        ConnectionLostError,
        "the answer is not HTTP",
    ),
    (
        aiohttp.ClientPayloadError,
        ConnectionLostError,
        "the answer broke off",
    ),
    (
        aiohttp.InvalidURL,
        ConnectFailedError,
        "the address cannot be used",
    ),
    (
        aiohttp.NonHttpUrlClientError,
        ConnectFailedError,
        "the address cannot be used",
    ),
    (
        aiohttp.ClientError,
        ConnectionLostError,
        "the connection was lost",
    ),
    (TimeoutError, ConnectFailedError, "connecting took too long"),
    (OSError, ConnectionLostError, "the connection was lost"),
)


def translate(exc: Exception, body: Body | None) -> TransportError:
    """
    Put what aiohttp raised into our terms.

    Args:
        exc: What was raised.
        body: The request's body, which knows how far it came; `None` for a
            request without one, of which only a failed connect is sure not
            to have been sent.
    """
    cls, text = next(
        (cls, text)
        for foreign, cls, text in TRANSLATIONS
        if isinstance(exc, foreign)
    )
    if isinstance(exc, OSError) and exc.errno is not None and exc.errno > 0:
        text = f"{text} ({os.strerror(exc.errno)})"
    if body is None:
        begun = sent = not issubclass(cls, ConnectFailedError)
    else:
        begun, sent = body.begun, body.begun and not body.unsent
    error: TransportError
    if sent:
        if not issubclass(cls, RequestTimeoutError):
            cls = ConnectionLostError
        error = cls(
            f"{text} after the request was sent",
            delivery=Delivery.AMBIGUOUS,
            phase=Phase.SENT,
        )
    else:
        error = cls(
            f"{text}; nothing was sent",
            delivery=Delivery.NOT_SENT,
            phase=Phase.SENT if begun else Phase.CONNECTING,
        )
    # This one quotes what a server or a proxy sent, in words and in locals.
    if not isinstance(exc, aiohttp.ClientResponseError):
        error.__cause__ = exc
    return error


@attrs.define
class _Binding:
    """
    Lets one task of one process and loop do the binding.
    """

    pid: int
    loop: asyncio.AbstractEventLoop
    lock: asyncio.Lock = attrs.Factory(asyncio.Lock)


@attrs.define
class _Bound:
    """
    What belongs to one process and one event loop.
    """

    loop: asyncio.AbstractEventLoop
    pid: int
    session: aiohttp.ClientSession
    gate: asyncio.Semaphore
    gate_size: int
    alarms: Alarms
    in_flight: int = 0
    waiting: int = 0


class Transport:
    """
    Sends bodies and returns answers, over one pool of connections.

    The pool belongs to the process and the event loop of the first request;
    a client that was made before a fork gets a pool of its own in the child.

    Args:
        headers: Sent with every request.
        timeouts: Limits of one attempt.
        pool: Size and keep-alive.
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
        self._proxy = proxy
        self._borrowed = borrowed
        self._pid = os.getpid()
        self._bound: _Bound | None = None
        self._binding: _Binding | None = None
        self._admitted = 0
        self._opened = 0
        self._closed = False
        self._per_request: dict[str, Any] = {
            "allow_redirects": False,
            "raise_for_status": False,
            "auto_decompress": False,
            "middlewares": (),
            "timeout": aiohttp.ClientTimeout(
                total=None,
                connect=timeouts.connect,
                ceil_threshold=_NEVER_ROUNDED,
            ),
        }
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
        return self._bound.in_flight if self._bound else 0

    @property
    def waiting(self) -> int:
        """Requests that wait for one."""
        return self._bound.waiting if self._bound else 0

    @property
    def connections_opened(self) -> int | None:
        """Sockets opened so far; `None` over a borrowed session."""
        return self._opened if self._borrowed is None else None

    @property
    def is_open(self) -> bool:
        """Whether it holds a pool that was not closed."""
        return self._bound is not None and not self._closed

    async def open(self) -> None:
        """
        Bind to the running event loop, if that has not happened yet.

        Raises:
            ClientClosedError: After `aclose`, or in another loop.
            ConfigurationError: If the TLS files cannot be used.
        """
        pid, loop = os.getpid(), asyncio.get_running_loop()
        binding = self._binding
        if binding is None or (binding.pid, binding.loop) != (pid, loop):
            binding = self._binding = _Binding(pid, loop)
        async with binding.lock:
            if self._usable() is None:
                if self._bound is not None:
                    _INHERITED.append(self._bound)
                self._bound = await self._bind()

    def _usable(self) -> _Bound | None:
        if self._closed:
            raise ClientClosedError("the client is closed")
        pid = os.getpid()
        if self._borrowed is not None and self._pid != pid:
            raise ClientClosedError(
                "the borrowed ClientSession belongs to another process: make "
                "one in each process"
            )
        bound = self._bound
        if bound is None or bound.pid != pid:
            return None
        if bound.loop is not asyncio.get_running_loop():
            raise ClientClosedError(
                "the client belongs to another event loop: make one client "
                "for each loop"
            )
        if bound.session.closed:
            raise ClientClosedError("the borrowed ClientSession is closed")
        return bound

    async def _bind(self) -> _Bound:
        loop = asyncio.get_running_loop()
        # aiohttp would count queueing as request time and knows no separate
        # limit for it, so requests queue here and its own pool has no limit.
        size: float = self._pool.limit
        session = self._borrowed
        if session is None:
            session = await self._make_session()
        else:
            size = min(size, self._ceiling())
        return _Bound(
            loop=loop,
            pid=os.getpid(),
            session=session,
            gate=asyncio.Semaphore(int(size)),
            gate_size=int(size),
            alarms=Alarms(loop),
        )

    async def _make_session(self) -> aiohttp.ClientSession:
        tls = self._tls
        if isinstance(tls, TLS):
            tls = await asyncio.to_thread(tls.build_context)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                keepalive_timeout=self._pool.keepalive,
                ttl_dns_cache=10,
                ssl=True if tls is None else tls,
                socket_factory=self._open_socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
        )

    def _open_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        # What aiohttp does itself; a trace would tell too, at a price for
        # every request.
        self._opened += 1
        family, kind, protocol, _, _ = address
        return socket.socket(family, kind, protocol)

    def _ceiling(self) -> float:
        # Who waits inside aiohttp's own pool waits on its connect timeout.
        connector = self._borrowed and self._borrowed.connector
        if not connector:
            return math.inf
        limits = connector.limit, connector.limit_per_host
        return min(limit or math.inf for limit in limits)

    def admit(self, concurrency: int) -> None:
        """
        Make room for *concurrency* more requests, until `dismiss`.

        The gate grows to what all admitted callers want together. It does
        not shrink again; its size is a ceiling, not a number of connections.
        """
        self._admitted += concurrency
        bound = self._usable()
        if bound is not None:
            wanted = min(self._admitted, self._ceiling())
            while bound.gate_size < wanted:
                bound.gate.release()
                bound.gate_size += 1

    def dismiss(self, concurrency: int) -> None:
        """Take back what `admit` was told."""
        self._admitted -= concurrency

    async def send(
        self,
        method: str,
        url: URL,
        body: Body | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        within: float,
    ) -> Answer:
        """
        Send one request and return the answer, whatever its status.

        Args:
            method: Of HTTP.
            url: Where to.
            body: What to send, if anything.
            headers: Beside those of every request.
            within: Seconds this may take in all, waiting for a slot included.

        Raises:
            TransportError: If no complete head of an answer came.
            UnreadableAnswerError: If the body of a 2xx answer broke off.
            ClientClosedError: After `aclose`, or in another loop.
        """
        bound = self._usable()
        if bound is None:
            await self.open()
            bound = self._usable()
            assert bound is not None  # noqa: S101 - open() bound it
        options = self._per_request
        if self._proxy_headers:
            # An https server is reached by CONNECT, which has its own.
            if url.scheme == "https":
                options = {**options, "proxy_headers": self._proxy_headers}
            else:
                headers = {**(headers or {}), **self._proxy_headers}
        if self._borrowed is not None:
            # Its own default headers may name another type or key.
            headers = {**self._headers, **(headers or {})}
            if body is not None:
                headers["Content-Type"] = body.content_type
        if headers:
            options = {**options, "headers": headers}
        give_up_at = bound.loop.time() + within
        attempt = _Attempt(bound, self._timeouts, give_up_at)
        return await attempt.run(method, url, body, options)

    async def aclose(self) -> None:
        """Close the pool; a borrowed session stays open."""
        self._closed = True
        bound, self._bound = self._bound, None
        if bound is None or bound.pid != os.getpid():
            return
        if self._borrowed is None:
            await bound.session.close()
        self._let_go(bound)

    def abandon(self) -> None:
        """
        Let go of the pool as far as a finalizer can.
        """
        bound, self._bound = self._bound, None
        if bound is None or bound.pid != os.getpid() or self._borrowed:
            return
        connector = bound.session.connector
        # Else aiohttp would tell of the session and of the connector, too.
        bound.session.detach()
        if connector is not None and bound.loop.is_running():
            closing = asyncio.ensure_future(connector.close())
            _CLOSING.add(closing)
            closing.add_done_callback(_CLOSING.discard)
        self._let_go(bound)

    def _let_go(self, bound: _Bound) -> None:
        # Calls in flight over a borrowed session still need their limits.
        if not bound.alarms.pending:
            bound.alarms.close()


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


class _Attempt:
    """
    One request and its answer, and the clock that runs meanwhile.
    """

    __slots__ = (
        "_alarm", "_bound", "_give_up_at", "_head", "_phase", "_timeouts",
    )  # fmt: skip

    def __init__(
        self, bound: _Bound, timeouts: Timeouts, give_up_at: float
    ) -> None:
        self._bound = bound
        self._timeouts = timeouts
        self._give_up_at = give_up_at
        self._alarm: Alarm = bound.alarms.set(give_up_at)
        self._phase = Phase.QUEUED
        self._head: aiohttp.ClientResponse | None = None

    async def run(
        self,
        method: str,
        url: URL,
        body: Body | None,
        options: Mapping[str, Any],
    ) -> Answer:
        gate = self._bound.gate
        try:
            if gate.locked():
                await self._queue(gate)
            else:
                await gate.acquire()
            self._bound.in_flight += 1
            try:
                self._begin(body)
                return await self._exchange(method, url, body, options)
            finally:
                self._bound.in_flight -= 1
                gate.release()
        except asyncio.CancelledError:
            timed_out = self._alarm.explains_cancel()
            if not timed_out and self._alarm.was_cancelled():
                raise
        finally:
            self._alarm.clear()
            if self._head is not None:
                # Does nothing to a connection that was given back.
                self._head.close()
        if self._head is not None:
            return _without_body(self._head, "did not arrive in time")
        raise self._timed_out() if timed_out else self._interrupted()

    async def _queue(self, gate: asyncio.Semaphore) -> None:
        self._limit(self._timeouts.queue)
        self._bound.waiting += 1
        try:
            await gate.acquire()
        finally:
            self._bound.waiting -= 1

    def _begin(self, body: Body | None) -> None:
        if body is None:
            # Nothing tells when the head of such a request goes out.
            self._phase = Phase.SENT
            self._limit(self._timeouts.connect + self._timeouts.read)
            return
        body.fresh(self._start_reading)
        self._phase = Phase.CONNECTING
        self._alarm.move(self._give_up_at)

    def _limit(self, seconds: float) -> None:
        now = self._bound.loop.time()
        self._alarm.move(min(self._give_up_at, now + seconds))

    def _start_reading(self) -> None:
        self._phase = Phase.SENT
        self._limit(self._timeouts.read)

    async def _exchange(
        self,
        method: str,
        url: URL,
        body: Body | None,
        options: Mapping[str, Any],
    ) -> Answer:
        try:
            # Not `async with`: a body that was read to its end has already
            # given its connection back.
            self._head = response = await self._bound.session.request(
                method, url, data=body, **options
            )
            return Answer(
                response.status, response.headers, await _read(response)
            )
        except (aiohttp.ClientError, OSError) as exc:
            failure = translate(exc, body) if self._head is None else None
        except RuntimeError as exc:
            if not self._bound.session.closed:
                raise
            raise ClientClosedError("the client was closed meanwhile") from exc
        # Outside of `except`: what broke there may hold the answer's bytes.
        if failure is not None:
            raise failure
        assert self._head is not None  # noqa: S101 - or there is a failure
        return _without_body(self._head, "broke off")

    def _interrupted(self) -> TransportError:
        # The session was closed, and cancelled a name lookup of ours.
        sent = self._phase is Phase.SENT
        return ConnectionLostError(
            "the pool of connections was closed "
            + ("after the request was sent" if sent else "; nothing was sent"),
            delivery=Delivery.AMBIGUOUS if sent else Delivery.NOT_SENT,
            phase=self._phase,
        )

    def _timed_out(self) -> TransportError:
        match self._phase:
            case Phase.QUEUED:
                return QueueTimeoutError(
                    "no slot of the client's pool became free in time; "
                    "nothing was sent",
                    delivery=Delivery.NOT_SENT,
                    phase=Phase.QUEUED,
                )
            case Phase.CONNECTING:
                said, delivery = "nothing was sent", Delivery.NOT_SENT
            case _:
                said = "the request was sent and may have been processed"
                delivery = Delivery.AMBIGUOUS
        return RequestTimeoutError(
            f"time ran out; {said}", delivery=delivery, phase=self._phase
        )


def _without_body(head: aiohttp.ClientResponse, what: str) -> Answer:
    # The head is enough to know a refusal; a promise needs its body.
    if head.status in _OK:
        raise UnreadableAnswerError(
            f"the server answered {head.status} and the body {what}",
            status=head.status,
        )
    return Answer(head.status, head.headers, b"")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    length = response.content_length
    if length is not None and length <= MAX_ANSWER:
        content = await response.read()
    else:
        content = await _read_bounded(response)
    encoding = response.headers.get("Content-Encoding")
    if encoding and encoding.lower() in {"gzip", "x-gzip", "deflate"}:
        return _inflate(content)
    return content


class _Content(bytearray):
    """
    Bytes that show in no traceback with locals.
    """

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    content = _Content()
    while not response.content.at_eof():
        content += await response.content.readany()
        if len(content) > MAX_ANSWER:
            response.close()
            raise aiohttp.ClientPayloadError("answer too long")
    return bytes(content)


def _inflate(content: bytes) -> bytes:
    # We ask for no compression; some proxies compress all the same.
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        content = inflater.decompress(content, MAX_ANSWER + 1)
    except zlib.error as exc:
        raise aiohttp.ClientPayloadError("bad compression") from exc
    if not inflater.eof or len(content) > MAX_ANSWER:
        raise aiohttp.ClientPayloadError("cut off, or too long")
    return content
