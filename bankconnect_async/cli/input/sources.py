"""
Input streams: a file, a pipe, or stdin.
"""

import errno
import gzip
import io
import os
import stat
import sys
import zlib

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import attrs

from bankconnect_async.journal.file_system import read_at

from .rows import InputFileError


if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


_STDIN: Final = "-"
_BLOCK: Final = 2**16
_GZIP: Final = b"\x1f\x8b"


class Pipe(io.RawIOBase):
    """
    A pipe or a terminal, on which a read may block for hours.

    Attributes:
        before_read: The function that is called before each read.
        is_owned_by_thread: Whether a thread reads and closes it.
    """

    def __init__(self, stream: io.RawIOBase) -> None:
        self._stream = stream
        self.before_read: Callable[[], None] = _do_nothing
        self.is_owned_by_thread = False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        """Read the available bytes; block while there are none."""
        self.before_read()
        return self._stream.readinto(buffer)

    def close(self) -> None:
        """Close the stream behind it, too."""
        self._stream.close()
        super().close()


def _do_nothing() -> None:
    pass


class _PositionedReader(io.RawIOBase):
    """
    Reads a file without moving its position.

    Args:
        fd: The file descriptor.
        start: The offset of the first byte.
    """

    def __init__(self, fd: int, start: int) -> None:
        self._fd = fd
        self._at = start

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read the next bytes."""
        view = memoryview(buffer).cast("B")
        data = read_at(self._fd, len(view), self._at)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


class _GzipDetector(io.RawIOBase):
    """
    Reads a stream, and decompresses it if it is gzip.

    The first read detects gzip, because a pipe may have no byte before.
    Damaged data raise an `OSError`.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._packed: BinaryIO = io.BufferedReader(raw, _BLOCK)
        self._reader: BinaryIO | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read the available bytes; block while there are none."""
        if self._reader is None:
            self._reader = self._choose()
        try:
            # `read` would block until the buffer is full.
            return self._reader.readinto1(buffer)  # type: ignore[attr-defined,no-any-return]
        except EOFError:
            raise OSError(errno.EIO, "its gzip data is cut off") from None
        except (zlib.error, gzip.BadGzipFile):
            raise OSError(errno.EIO, "its gzip data is damaged") from None

    def close(self) -> None:
        """Close the stream behind it, too."""
        self._packed.close()
        super().close()

    def _choose(self) -> BinaryIO:
        head = self._packed.peek(len(_GZIP))  # type: ignore[attr-defined]
        if not head.startswith(_GZIP):
            return self._packed
        return gzip.GzipFile(fileobj=self._packed)  # type: ignore[return-value]


@attrs.frozen(kw_only=True)
class Input:
    """
    An open input.

    Attributes:
        name: The name in messages.
        stream: The decompressed bytes.
        pipe: The pipe that is read, unless it is a file on disk.
        start: The offset of the first byte; that of stdin may not be 0.
    """

    name: str
    stream: BinaryIO
    pipe: Pipe | None
    start: int
    _fd: int = attrs.field(alias="fd")

    def close(self) -> None:
        """
        Close the stream, unless a thread reads it.

        The thread may wait for the next byte, and closing would block, too.
        """
        if self.pipe is None or not self.pipe.is_owned_by_thread:
            self.stream.close()

    def reopen(self) -> BinaryIO | None:
        """
        Open a second reader of a file, with a position of its own.

        The result is `None` where that is not possible.
        """
        if self.pipe is not None or not hasattr(os, "pread"):
            return None
        return _buffer(_PositionedReader(self._fd, self.start))

    def count_lines(self) -> int | None:
        """Count the lines of a file; `None` where that is not possible."""
        reader = self.reopen()
        if reader is None:
            return None
        count, last = 0, b"\n"
        try:
            with reader as stream:
                while block := stream.read(_BLOCK):
                    count += block.count(b"\n")
                    last = block[-1:]
        except OSError:
            # Reading the rows reports this.
            return None
        return count + (last != b"\n")


def open_input(path: str) -> Input:
    """
    Open a file, or stdin for ``-``, and decompress gzip.

    Raises:
        InputFileError: If it cannot be read.
    """
    name = "stdin" if path == _STDIN else path
    try:
        raw = _open_stdin() if path == _STDIN else io.FileIO(path)
        is_file = stat.S_ISREG(os.fstat(raw.fileno()).st_mode)
        pipe = None if is_file else Pipe(raw)
        return Input(
            name=name,
            stream=_buffer(pipe or raw),
            pipe=pipe,
            start=raw.tell() if is_file else 0,
            fd=raw.fileno(),
        )
    except OSError as exc:
        raise InputFileError(
            f"{name}: cannot be read: {exc.strerror}. Give a CSV file, a "
            f"JSON lines file, or - for stdin"
        ) from exc


def refuse_same_file(source: str, output: str) -> None:
    """
    Refuse an output that is the input.

    Raises:
        InputFileError: If both are the same file.
    """
    try:
        read = os.fstat(0) if source == _STDIN else Path(source).stat()
        written = Path(output).stat()
    except OSError:
        # Opening the files reports this.
        return
    if stat.S_ISREG(read.st_mode) and os.path.samestat(read, written):
        raise InputFileError(
            f"{output}: is the input, too: name another --output"
        )


def _buffer(raw: io.RawIOBase) -> BinaryIO:
    return io.BufferedReader(_GzipDetector(raw), _BLOCK)


def _open_stdin() -> io.FileIO:
    if sys.stdin is None:
        raise InputFileError("stdin: is closed. Give a file instead")
    # The interpreter closes `sys.stdin` at exit, which would block while a
    # thread still reads it.
    return io.FileIO(0, closefd=False)
