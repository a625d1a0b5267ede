"""
Small requests, which are written together.

aiohttp writes each body in a task of its own, as it may be long and have to
wait for the peer. A body that fits into the connection's buffer never waits,
and needs no task. The requests of one turn of the event loop are written in a
row: a server that gets one at a time, with a pause after each, falls asleep
in between, and waking it costs the sender more than the task did.
"""

import asyncio

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Final

import aiohttp

from aiohttp import hdrs
from aiohttp.helpers import TimerNoop
from aiohttp.http import StreamWriter
from multidict import CIMultiDict

from .bodies import BytesBody
from .connections import PollingConnector, PooledConnection


if TYPE_CHECKING:
    from aiohttp.connector import Connection
    from aiohttp.typedefs import LooseHeaders


#: The largest small body, in bytes. asyncio buffers 64 KiB, head included,
#: before a writer has to wait.
SMALL: Final = 32 * 1024

# `Transport.send` limits the time of a request.
_NO_TIMER: Final = TimerNoop()


class WriteCoalescer:
    """
    Collects requests until the next turn of the event loop.

    Args:
        loop: The event loop of the session.
        connector: The connector of the session.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connector: PollingConnector
    ) -> None:
        self._loop = loop
        self._connector = connector
        self._pending: list[
            tuple[Connection, PooledConnection, StreamWriter, BytesBody]
        ] = []

    def add(
        self,
        conn: "Connection",
        protocol: PooledConnection,
        writer: StreamWriter,
        body: BytesBody,
    ) -> None:
        """
        Write *body* soon, after the head that *writer* has buffered.

        An error is raised where the response is read.

        Args:
            conn: The connection, which the request may lose before.
            protocol: The protocol of the connection.
            writer: The writer to the connection.
            body: The body.
        """
        if not self._pending:
            self._schedule()
        self._pending.append((conn, protocol, writer, body))

    @property
    def is_flush_due(self) -> bool:
        """Whether requests wait to be written."""
        return bool(self._pending)

    def _schedule(self) -> None:
        self._connector.is_flush_due = True
        self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write all requests that were added."""
        self._connector.is_flush_due = False
        # A connection was chosen before those behind it were prepared, and
        # those before it written: its server may have closed it since.
        is_late = len(self._pending) > 1
        if is_late:
            self._connector.poll()
        pending, self._pending = iter(self._pending), []
        try:
            for conn, protocol, writer, body in pending:
                if conn.protocol is None:
                    # The request has ended without being written.
                    continue
                if (
                    is_late
                    and self._connector.has_events(protocol.fd)
                    and protocol.has_hung_up()
                ):
                    protocol.set_exception(
                        aiohttp.ClientConnectionResetError("closed meanwhile")
                    )
                else:
                    _write(protocol, writer, body)
        finally:
            left = [*pending]
            if left:
                # Something like a KeyboardInterrupt came.
                self._pending = [*left, *self._pending]
                self._schedule()


def _write(
    protocol: PooledConnection, writer: StreamWriter, body: BytesBody
) -> None:
    failure: Exception
    try:
        # It never waits, so it needs no task.
        body.write_with_length(writer, None).send(None)
    except StopIteration:
        return
    except (aiohttp.ClientError, OSError) as exc:
        failure = exc
    except Exception as exc:  # noqa: BLE001 - raised by the reader
        # aiohttp wraps it, too; its frames may hold the request.
        failure = aiohttp.ClientConnectionError("the request was not written")
        failure.__cause__ = exc.with_traceback(None)
    else:
        failure = aiohttp.ClientConnectionError("writing had to wait")
    protocol.set_exception(failure)


class CoalescedRequest(aiohttp.ClientRequest):
    """
    A request whose headers were complete when they were given.

    It is for sessions without traces, middlewares and read timeouts. A
    request through a proxy, with another method than POST or with another
    body is written by aiohttp.

    Attributes:
        coalescer: The coalescer of the session, in a subclass: aiohttp makes
            requests from a class and passes on no argument of the session's
            owner.
    """

    coalescer: ClassVar[WriteCoalescer]
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
        if (
            isinstance(body, BytesBody)
            and body.length <= SMALL
            # aiohttp may itself send other methods again, with its own body.
            and self.method == hdrs.METH_POST
            and self.proxy is None
        ):
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
        if body is None:
            # It is not written by the flush, which polls again.
            if self.coalescer.is_flush_due and protocol.has_hung_up():
                raise aiohttp.ClientConnectionResetError("closed meanwhile")
            return await super().send(conn)
        writer = StreamWriter(protocol, self.loop)
        await writer.write_headers(
            f"{self.method} {self.url.raw_path_qs} HTTP/1.1", self.headers
        )
        self.coalescer.add(conn, protocol, writer, body)
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


def request_class(
    loop: asyncio.AbstractEventLoop, connector: aiohttp.BaseConnector
) -> type[aiohttp.ClientRequest]:
    """
    Return the class of the requests of a session.

    Args:
        loop: The event loop of the session.
        connector: The connector of the session. With one of aiohttp's own,
            because the release of aiohttp is not known, aiohttp writes all
            requests.
    """
    if not isinstance(connector, PollingConnector):
        return aiohttp.ClientRequest
    return type(
        "CoalescedRequest",
        (CoalescedRequest,),
        {"coalescer": WriteCoalescer(loop, connector)},
    )
