"""
Frames: the messages between the processes of one machine.

Both ends are processes of one batch, connected by sockets that no other
process has, one for each direction.
"""

import asyncio
import io
import pickle
import socket
import struct

from typing import Any, Final

import attrs

from bankconnect_async.errors import BankConnectError

from .messages import JobSpec, Rows, unpack


_PACKAGE: Final = f"{__name__.partition('.')[0]}."
_LENGTH: Final = struct.Struct("!I")


@attrs.frozen
class Job:
    """
    The first frame to a worker process.

    Attributes:
        spec: The batch.
        environ: The variables that the client is made from; their values are
            secrets.
        loop: The class of the event loop, if it is that of uvloop.
    """

    spec: JobSpec
    environ: dict[str, str] = attrs.field(repr=False)
    loop: type | None = None


@attrs.frozen
class Records:
    """
    The outcomes of some rows.

    Attributes:
        rows: The numbers of the rows.
        failures: The number of failed ones, by the name of the error.
        lines: The lines for the journal.
        abort_cause: The error that aborted the batch in this process.
    """

    rows: list[int]
    failures: dict[str, int]
    lines: bytes = attrs.field(repr=False)
    abort_cause: BankConnectError | None = None


@attrs.frozen
class Done:
    """
    The last frame of a worker process.

    Attributes:
        error: The reason why it ended early, if it did.
    """

    error: BankConnectError | None = None


@attrs.frozen
class Work:
    """
    Rows for a worker process, and what became of its records.

    Attributes:
        written: The number of frames of records that are in the journal.
        rows: The rows, each with its line; numbered in their order from 0.
        is_last: Whether no more rows come.
    """

    written: int
    rows: Rows = attrs.field(repr=False, factory=list)
    is_last: bool = False


class _Pickler(pickle.Pickler):
    """
    Writes texts of the user's own classes, which a process may lack, as `str`.
    """

    def reducer_override(self, value: Any) -> Any:
        """Return how to make a value, if not in the usual way."""
        cls = type(value)
        if issubclass(cls, str) and not cls.__module__.startswith(_PACKAGE):
            return str, (str.__str__(value),)
        return NotImplemented


def encode_frame(message: object) -> bytes:
    """Encode a message with its length in front."""
    with io.BytesIO() as file:
        _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(message)
        raw = file.getvalue()
    return _LENGTH.pack(len(raw)) + raw


def frame_size(head: bytes | bytearray) -> int:
    """Return how many bytes follow the head of a frame."""
    size: int = _LENGTH.unpack(head)[0]
    return size


class SocketEnd(asyncio.Protocol):
    """
    One end of a socket, which is used in one direction only.

    With one socket for both directions, a write to a process that is gone
    would discard what it had sent before.

    Attributes:
        closed: A future that is done when the connection is closed.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.closed: Final[asyncio.Future[Exception | None]] = (
            loop.create_future()
        )
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is closed."""
        if not self.closed.done():
            self.closed.set_result(exc)

    async def connect(self, connection: socket.socket) -> None:
        """Use a socket."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self, sock=connection)

    def send(self, message: object) -> None:
        """Send a message, if the other process is there."""
        if self._transport is not None and not self.closed.done():
            self._transport.write(encode_frame(message))

    async def close(self) -> None:
        """Close the connection once everything is sent."""
        if self._transport is not None:
            self._transport.close()
            # A cancelled caller must not cancel it for others.
            await asyncio.wait([self.closed])

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()


class FrameDecoder:
    """
    Cuts a stream of bytes into messages.
    """

    #: The number of bytes in front of a message.
    head: Final = _LENGTH.size

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """
        Return the messages that are complete with *data*.

        Raises:
            ImportError: If this process lacks the class of something in one.
            AttributeError: As above.
        """
        buffer, head = self._buffer, self.head
        buffer += data
        begin, raw = 0, []
        while len(buffer) - begin >= head:
            end = begin + head + frame_size(buffer[begin : begin + head])
            if len(buffer) < end:
                break
            raw.append(bytes(buffer[begin + head : end]))
            begin = end
        del buffer[:begin]
        return list(map(unpack, raw))


class FrameLink(SocketEnd):
    """
    The connection to another process: the end that messages come from.

    Those to the other process go through a socket of their own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._writer = SocketEnd()
        self._decoder = FrameDecoder()

    async def attach(
        self, incoming: socket.socket, outgoing: socket.socket
    ) -> None:
        """
        Connect to the other process.

        Args:
            incoming: The socket of what comes.
            outgoing: The socket of what is sent.
        """
        await self._writer.connect(outgoing)
        await self.connect(incoming)

    def send(self, message: object) -> None:
        """Send a message, if the other process is there."""
        self._writer.send(message)

    def abort(self) -> None:
        """Close both sockets at once."""
        self._writer.abort()
        super().abort()
