"""
One attempt: a request, its response, and its deadline.
"""

import asyncio
import zlib

from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp

from aiohttp import hdrs
from yarl import URL

from bankconnect_async._threads import run_in_thread
from bankconnect_async.config import Timeouts
from bankconnect_async.errors import (
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    Delivery,
    InvalidResponseError,
    Phase,
    PoolTimeoutError,
    RequestTimeoutError,
    TransportError,
)

from .bodies import RequestBody
from .connections import PooledResponse
from .deadlines import Deadline, DeadlineScheduler
from .error_mapping import NOTHING_SENT, map_error
from .semaphore import FifoSemaphore


#: The largest body that is read, in bytes, unless an operation allows more.
MAX_RESPONSE: Final = 1024 * 1024

#: The statuses of success.
OK: Final = range(200, 300)
_MISDIRECTED = 421
# Looking a member up in its enumeration is a call before Python 3.12.
_QUEUED, _CONNECTING, _SENT = Phase.QUEUED, Phase.CONNECTING, Phase.SENT


class Response:
    """
    A response: status, headers, and as much of the body as arrived.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class LoopResources:
    """
    The resources of a client in one process and one event loop.

    Attributes:
        loop: The event loop.
        pid: The id of the process.
        session: The session of aiohttp.
        semaphore: The semaphore of the pool.
        deadlines: The scheduler of deadlines.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        pid: int,
        session: aiohttp.ClientSession,
        semaphore: FifoSemaphore,
    ) -> None:
        self.loop: Final = loop
        self.pid: Final = pid
        self.session: Final = session
        self.semaphore: Final = semaphore
        self.deadlines: Final = DeadlineScheduler(loop)

    def note_keep_alive(self, head: aiohttp.ClientResponse) -> None:
        """
        Reuse the connection of *head* no longer than the server keeps it.
        """
        if isinstance(head, PooledResponse):
            head.limit_idle()

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
            failure.phase is _CONNECTING
            and isinstance(connector, aiohttp.TCPConnector)
            and url.raw_host is not None
        ):
            connector.clear_dns_cache(url.raw_host, url.port)
        return failure


class RequestAttempt(Deadline):
    """
    One attempt: a request, its response, and its deadline.

    It is its own deadline, which saves an object for each attempt.

    Args:
        bound: The resources of the running loop.
        timeouts: The time limits of one attempt.
        timeout: The seconds that the attempt may take in all.
    """

    __slots__ = ("_bound", "_deadline", "_head", "_phase", "_timeouts")

    def __init__(
        self, bound: LoopResources, timeouts: Timeouts, timeout: float
    ) -> None:
        now = bound.loop.time()
        deadline = now + timeout
        connected_by = min(now + timeouts.connect, deadline)
        Deadline.__init__(self, bound.deadlines, connected_by)
        self._bound = bound
        self._timeouts = timeouts
        self._deadline = deadline
        self._phase = _QUEUED
        self._head: aiohttp.ClientResponse | None = None

    # One coroutine instead of two is worth half a microsecond.
    async def run(  # noqa: C901, PLR0912
        self,
        method: str,
        url: URL,
        body: RequestBody | None,
        options: Mapping[str, Any],
        limit: int = MAX_RESPONSE,
    ) -> Response:
        semaphore, is_read = self._bound.semaphore, False
        try:
            if not semaphore.try_acquire():
                await self._queue(semaphore)
            try:
                if body is None:
                    # Nothing tells when the head of this request is sent.
                    self._phase = _SENT
                    self._limit(self._timeouts.connect + self._timeouts.read)
                else:
                    body.reset(self._start_reading)
                    self._phase = _CONNECTING
                self._head = head = await self._bound.session.request(
                    method, url, data=body, **options
                )
                if head.content.is_eof():
                    # Usually the body came with the head.
                    content = head.content.read_nowait()
                else:
                    content = await _read(head, limit, self._start_reading)
                # The connection is back in the pool.
                is_read = True
                if head.status == _MISDIRECTED:
                    _abandon_connection(head)
                headers = head.headers
                # These checks are cheap, and rarely true.
                if hdrs.KEEP_ALIVE in headers:
                    self._bound.note_keep_alive(head)
                if hdrs.CONTENT_ENCODING in headers:
                    content = await _decompress(
                        content, headers[hdrs.CONTENT_ENCODING], limit
                    )
                return Response(head.status, headers, content)
            finally:
                semaphore.release()
        except asyncio.CancelledError:
            problem = "did not arrive in time"
            if self.absorb_cancel():
                failure = self._timed_out()
            elif self.was_cancelled():
                raise
            else:
                failure = self._interrupted()
        # aiohttp, the system and Python itself may raise anything, and the
        # caller has to know whether the request was sent.
        except Exception as exc:
            if (
                isinstance(exc, RuntimeError)
                and self._bound.session.closed
                and self._head is None
                and not (body is not None and body.begun)
            ):
                raise ClientClosedError(
                    "the client was closed meanwhile"
                ) from exc
            problem = "broke off"
            failure = map_error(exc, body, options.get("proxy"))
        finally:
            self.clear()
            if self._head is not None and not is_read:
                self._head.close()
        # Outside of `except`: the exception may hold the response's bytes.
        if self._head is not None:
            return _without_body(self._head, problem)
        raise self._bound.note_failure(failure, options.get("proxy") or url)

    async def _queue(self, semaphore: FifoSemaphore) -> None:
        self._limit(self._timeouts.pool)
        await semaphore.acquire()
        self._limit(self._timeouts.connect)

    def _start_reading(self) -> None:
        self._phase = _SENT
        self._limit(self._timeouts.read)

    def _limit(self, seconds: float) -> None:
        when = self._bound.loop.time() + seconds
        self.reschedule(min(when, self._deadline))

    def _interrupted(self) -> TransportError:
        # The session was closed, which cancelled a name lookup.
        sent = self._phase is Phase.SENT
        return ConnectionLostError(
            "the pool of connections was closed"
            + (" after the request was sent" if sent else NOTHING_SENT),
            delivery=Delivery.AMBIGUOUS if sent else Delivery.NOT_SENT,
            phase=self._phase,
        )

    def _timed_out(self) -> TransportError:
        match self._phase:
            case Phase.QUEUED:
                return PoolTimeoutError(
                    "no slot of the client's pool became free in time"
                    + NOTHING_SENT,
                    delivery=Delivery.NOT_SENT,
                    phase=Phase.QUEUED,
                )
            case Phase.CONNECTING if self.when < self._deadline:
                return ConnectError(
                    f"connecting took too long{NOTHING_SENT}",
                    delivery=Delivery.NOT_SENT,
                    phase=Phase.CONNECTING,
                )
            case Phase.CONNECTING:
                said, delivery = NOTHING_SENT, Delivery.NOT_SENT
            case _:
                said = "; the request was sent and may have been processed"
                delivery = Delivery.AMBIGUOUS
        return RequestTimeoutError(
            f"time ran out{said}", delivery=delivery, phase=self._phase
        )


def _without_body(head: aiohttp.ClientResponse, problem: str) -> Response:
    # The head is enough for an error; a success needs its body.
    if head.status in OK:
        raise InvalidResponseError(
            f"the server answered {head.status} and the body {problem}",
            status=head.status,
        )
    return Response(head.status, head.headers, b"")


async def _read(
    response: aiohttp.ClientResponse,
    limit: int,
    on_progress: Callable[[], None],
) -> bytes:
    length = response.content_length
    if length is not None and length <= MAX_RESPONSE:
        return await response.read()
    if limit <= MAX_RESPONSE or response.status not in OK:
        return await _read_bounded(response, MAX_RESPONSE)
    # The read timeout of a large body starts again whenever bytes arrive.
    return await _read_bounded(response, limit, on_progress)


class _Content(bytearray):
    """
    Bytes that show in no traceback with locals.
    """

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


async def _read_bounded(
    response: aiohttp.ClientResponse,
    limit: int,
    on_progress: Callable[[], None] | None = None,
) -> bytes:
    content = _Content()
    while not response.content.at_eof():
        content += await response.content.readany()
        if len(content) > limit:
            response.close()
            raise aiohttp.ClientPayloadError("response too long")
        if on_progress is not None:
            on_progress()
    return bytes(content)


def _abandon_connection(head: aiohttp.ClientResponse) -> None:
    # A retry has to use another one (RFC 9110, section 15.5.20). The body is
    # read, so `head.close()` no longer reaches the connection.
    protocol = getattr(head, "_protocol", None)
    if protocol is not None:
        protocol.close()


async def _decompress(content: bytes, encoding: str, limit: int) -> bytes:
    # No compression is asked for; some proxies compress all the same.
    if encoding.lower() not in {"gzip", "x-gzip", "deflate"}:
        return content
    if limit > MAX_RESPONSE:
        return await run_in_thread(_inflate, content, limit)
    return _inflate(content, limit)


def _inflate(content: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        content = inflater.decompress(content, limit + 1)
    except zlib.error as exc:
        raise aiohttp.ClientPayloadError("bad compression") from exc
    if not inflater.eof or len(content) > limit:
        raise aiohttp.ClientPayloadError("cut off, or too long")
    return content
