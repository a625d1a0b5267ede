"""
Small requests, which are written together.

aiohttp writes each body in a task of its own, as it may be long and have to
wait for the peer. A body that fits into the connection's buffer never waits,
and needs no task. The requests of one turn of the event loop are written in a
row: a server that gets one at a time, with a pause after each, falls asleep
in between, and waking it costs the sender more than the task did.
"""

import asyncio

from collections.abc import Collection
from typing import TYPE_CHECKING

import aiohttp

from aiohttp.client_proto import ResponseHandler
from aiohttp.http import StreamWriter

from .bodies import BytesBody


if TYPE_CHECKING:
    from aiohttp.connector import Connection

    from .connections import PollingConnector, PooledConnection


class WriteCoalescer:
    """
    Collects requests until the next turn of the event loop.

    Args:
        loop: The event loop of the connector.
        connector: The connector of the requests.
        in_use: The connections that have a request.

    Attributes:
        is_flush_due: Whether requests wait for a flush, which polls their
            connections.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connector: "PollingConnector",
        in_use: Collection[ResponseHandler],
    ) -> None:
        self.is_flush_due = False
        # Whether the latest flush had several requests.
        self._had_several = True
        self._loop = loop
        self._connector = connector
        self._in_use = in_use
        self._pending: list[
            tuple[Connection, PooledConnection, StreamWriter, BytesBody]
        ] = []

    def add(
        self,
        conn: "Connection",
        protocol: "PooledConnection",
        writer: StreamWriter,
        body: BytesBody,
    ) -> None:
        """
        Write *body* soon, after the head that *writer* has buffered.

        It is written at once where requests are sent one by one.

        An error is raised where the response is read.

        Args:
            conn: The connection, which the request may lose before.
            protocol: The protocol of the connection.
            writer: The writer to the connection.
            body: The body.
        """
        self._pending.append((conn, protocol, writer, body))
        if not self._had_several and len(self._in_use) == 1:
            # A turn of the event loop costs two system calls.
            self.flush()
        elif not self.is_flush_due:
            self.is_flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write all requests that were added."""
        self.is_flush_due = False
        # A connection was chosen before those behind it were prepared, and
        # those before it written: its server may have closed it since.
        self._had_several = is_late = len(self._pending) > 1
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
                self.is_flush_due = True
                self._loop.call_soon(self.flush)


def _write(
    protocol: "PooledConnection", writer: StreamWriter, body: BytesBody
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
