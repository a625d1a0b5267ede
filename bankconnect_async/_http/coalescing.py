"""
Small requests, which leave together.

aiohttp writes each body in a task of its own, as it may be long and have to
wait for the other side. One that fits into the connection's buffer waits for
nobody, and is written without. Those of one turn of the event loop go in a
row: a server that is given one at a time, with a pause after each, falls
asleep in between, and waking it costs the sender more than the task did.
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


if TYPE_CHECKING:
    from aiohttp.connector import Connection
    from aiohttp.typedefs import LooseHeaders


#: Bytes of a small body, at most. asyncio takes 64 KiB, head included, before
#: anybody has to wait.
SMALL: Final = 32 * 1024

# How a response is made belongs to a release of aiohttp.
_KNOWN: Final = ("3.14.",)
# What limits a request's time is an exchange's clock.
_NO_TIMER: Final = TimerNoop()


class WriteCoalescer:
    """
    Where requests lie until the next turn of the event loop.

    Args:
        loop: Of their session.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pending: list[
            tuple[Connection, Any, StreamWriter, BytesBody]
        ] = []

    def add(
        self,
        conn: "Connection",
        protocol: Any,
        writer: StreamWriter,
        body: BytesBody,
    ) -> None:
        """
        Write *body* soon, behind the head that *writer* has.

        What fails is raised to who reads the answer.

        Args:
            conn: The connection, as long as the request has it.
            protocol: Its protocol.
            writer: Writes to it.
            body: What to write.
        """
        if not self._pending:
            self._loop.call_soon(self.flush)
        self._pending.append((conn, protocol, writer, body))

    def flush(self) -> None:
        # A connection was chosen before those behind it were prepared, and
        # those before it written: its server may have closed it since.
        is_late = len(self._pending) > 1
        waiting, self._pending = iter(self._pending), []
        try:
            for conn, protocol, writer, body in waiting:
                if conn.protocol is None:
                    # It was given back, or up, before it was our turn.
                    continue
                if (
                    is_late
                    and not body.checks_connection
                    and protocol.poll_hang_up(0)
                ):
                    protocol.set_exception(
                        aiohttp.ClientConnectionResetError("closed meanwhile")
                    )
                else:
                    _write(protocol, writer, body)
        finally:
            left = [*waiting]
            if left:
                # Something like a KeyboardInterrupt came.
                self._pending = [*left, *self._pending]
                self._loop.call_soon(self.flush)


def _write(protocol: Any, writer: StreamWriter, body: BytesBody) -> None:
    failure: Exception
    try:
        # It never waits, and so needs no task.
        body.write_with_length(writer, None).send(None)
    except StopIteration:
        return
    except (aiohttp.ClientError, OSError) as exc:
        failure = exc
    except Exception as exc:  # noqa: BLE001 - the reader raises it
        # As aiohttp does; its frames may hold the request.
        failure = aiohttp.ClientConnectionError("the request was not written")
        failure.__cause__ = exc.with_traceback(None)
    else:
        failure = aiohttp.ClientConnectionError("writing had to wait")
    protocol.set_exception(failure)


class CoalescedRequest(aiohttp.ClientRequest):
    """
    A request whose headers were complete when they were given.

    It is for sessions without traces, middlewares and read timeouts. What is
    no POST, goes to a proxy or has another body is written as aiohttp does.
    """

    # aiohttp makes requests of a class, and hands nothing of ours to it.
    coalescer: ClassVar[WriteCoalescer]
    _small: BytesBody | None = None

    def update_headers(self, headers: "LooseHeaders | None") -> None:
        """Take the headers over, behind the one of the host (RFC 9112)."""
        # aiohttp adds them one by one, and looks for each of its own.
        self.headers = CIMultiDict(
            {hdrs.HOST: self.url.host_port_subcomponent or ""}
        )
        self.headers.extend(headers or ())

    def update_auto_headers(
        self, skip_auto_headers: Iterable[str] | None
    ) -> None:
        """Add none: every one of them was given."""

    def update_body_from_data(self, body: Any, _stacklevel: int = 3) -> None:
        """Take the body, and what it says of itself."""
        if (
            isinstance(body, BytesBody)
            and body.length <= SMALL
            # aiohttp may repeat others, with the body that it knows of.
            and self.method == hdrs.METH_POST
            and self.proxy is None
        ):
            self._small = body
            self.headers[hdrs.CONTENT_LENGTH] = str(body.length)
            self.headers[hdrs.CONTENT_TYPE] = body.content_type
        else:
            super().update_body_from_data(body, _stacklevel)

    async def send(self, conn: "Connection") -> aiohttp.ClientResponse:
        """Have it written, and return what its answer is read with."""
        body, protocol = self._small, conn.protocol
        assert protocol is not None  # noqa: S101 - it was just handed out
        if protocol.should_close:
            # Something came while nothing was asked for: it must not be
            # taken for our answer (RFC 9112, 6.3).
            raise aiohttp.ServerDisconnectedError
        if body is None:
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
    loop: asyncio.AbstractEventLoop, *, version: str = aiohttp.__version__
) -> type[aiohttp.ClientRequest]:
    """
    Return what the requests of a session are made of.

    Args:
        loop: Of the session.
        version: Of aiohttp. Under a release that is not known, all requests
            are written as aiohttp does.
    """
    if not version.startswith(_KNOWN):
        return aiohttp.ClientRequest

    class Ours(CoalescedRequest):
        coalescer = WriteCoalescer(loop)

    return Ours
