"""
One request and its answer, and the clock that runs meanwhile.
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


#: Bytes of an answer that are read at most, unless a call says otherwise.
MAX_RESPONSE: Final = 1024 * 1024

#: The statuses of success.
OK: Final = range(200, 300)
_MISDIRECTED = 421
# Looking a member up in its enumeration is a call before Python 3.12.
_QUEUED, _CONNECTING, _SENT = Phase.QUEUED, Phase.CONNECTING, Phase.SENT


class Response:
    """
    A complete head, and the body as far as it could be read.
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
    What belongs to one process and one event loop.
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
        Reuse the connection of *head* no longer than its server keeps it.
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
            url: The address that was connected to, the proxy's if there is
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
    One request and its answer, and the clock that runs meanwhile.

    It is the deadline itself: one object for each call less.
    """

    __slots__ = ("_bound", "_deadline", "_head", "_phase", "_timeouts")

    def __init__(
        self, bound: LoopResources, timeouts: Timeouts, timeout: float
    ) -> None:
        now = bound.loop.time()
        deadline = now + timeout
        connected_by = now + timeouts.connect
        if connected_by > deadline:  # noqa: PLR1730 - see `_limit`
            connected_by = deadline
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
        failure: TransportError | None
        try:
            if not semaphore.try_acquire():
                await self._queue(semaphore)
            try:
                if body is None:
                    # Nothing tells when the head of such a request goes out.
                    self._phase = _SENT
                    self._limit(self._timeouts.connect + self._timeouts.read)
                else:
                    body.reset(self._start_reading)
                    self._phase = _CONNECTING
                self._head = head = await self._bound.session.request(
                    method, url, data=body, **options
                )
                if head.content.is_eof():
                    # Usually all of it came with the head.
                    content = head.content.read_nowait()
                else:
                    content = await _read(head, limit, self._start_reading)
                # It has given its connection back.
                is_read = True
                if head.status == _MISDIRECTED:
                    _abandon_connection(head)
                headers = head.headers
                # These are no calls, and hardly ever true.
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
            lacks = "did not arrive in time"
            if self.absorb_cancel():
                failure = self._timed_out()
            elif self.was_cancelled():
                raise
            else:
                failure = self._interrupted()
        # aiohttp, the system and Python itself raise anything: the caller
        # has to know what became of the request all the same.
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
            lacks = "broke off"
            failure = (
                map_error(exc, body, options.get("proxy"))
                if self._head is None
                else None
            )
        finally:
            self.clear()
            if self._head is not None and not is_read:
                self._head.close()
        # Outside of `except`: what broke there may hold the answer's bytes.
        if self._head is not None:
            return _without_body(self._head, lacks)
        assert failure is not None  # noqa: S101 - without a head there is one
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
        if when > self._deadline:  # noqa: PLR1730 - `min` costs three times
            when = self._deadline
        self.reschedule(when)

    def _interrupted(self) -> TransportError:
        # The session was closed, and cancelled a name lookup of ours.
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


def _without_body(head: aiohttp.ClientResponse, what: str) -> Response:
    # The head is enough to know a refusal; a promise needs its body.
    if head.status in OK:
        raise InvalidResponseError(
            f"the server answered {head.status} and the body {what}",
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
    # What is large may take its time, as long as it keeps coming.
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
            raise aiohttp.ClientPayloadError("answer too long")
        if on_progress is not None:
            on_progress()
    return bytes(content)


def _abandon_connection(head: aiohttp.ClientResponse) -> None:
    # A repeated request has to use another one (RFC 9110, section 15.5.20).
    # The body is read, so `head.close()` no longer reaches the connection.
    protocol = getattr(head, "_protocol", None)
    if protocol is not None:
        protocol.close()


async def _decompress(content: bytes, encoding: str, limit: int) -> bytes:
    # We ask for no compression; some proxies compress all the same.
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
