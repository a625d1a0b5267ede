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

from .rows import UNREADABLE, InputFileError, named_errors


if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


_STDIN: Final = "-"
_BLOCK: Final = 2**16
_GZIP: Final = b"\x1f\x8b"


class _Reader(io.RawIOBase):
    """
    A raw stream for reading.
    """

    def readable(self) -> bool:
        """Return True."""
        return True


class Pipe(_Reader):
    """
    A pipe or a terminal, whose reader may wait for hours.

    Attributes:
        before_read: A callback before each read that may block.
        is_owned_by_thread: Whether a thread reads the pipe, and closes it.
    """

    def __init__(self, stream: io.RawIOBase) -> None:
        self._stream = stream
        self.before_read: Callable[[], None] | None = None
        self.is_owned_by_thread = False

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        """Read the available bytes; block while there are none."""
        if self.before_read is not None:
            self.before_read()
        return self._stream.readinto(buffer)

    def close(self) -> None:
        """Close the stream behind it, too."""
        self._stream.close()
        super().close()


class _PositionedReader(_Reader):
    """
    Reads a file without moving its position.

    Args:
        fd: The file descriptor.
        start: The offset of the first byte.
    """

    def __init__(self, fd: int, start: int) -> None:
        self._fd = fd
        self._at = start

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read the next bytes."""
        view = memoryview(buffer).cast("B")
        data = read_at(self._fd, len(view), self._at)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


class _GzipDetector(_Reader):
    """
    Reads a stream, and decompresses it if it is gzip.

    The first read detects gzip, because a pipe may have no byte before.
    Damaged data raise an `OSError`.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._packed = io.BufferedReader(raw, _BLOCK)
        self._reader: (
            gzip.GzipFile | io.BufferedReader[io.RawIOBase] | None
        ) = None

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read the available bytes; block while there are none."""
        if self._reader is None:
            self._reader = self._packed
            if self._packed.peek(len(_GZIP)).startswith(_GZIP):
                self._reader = gzip.GzipFile(fileobj=self._packed)
        try:
            # `readinto` would block until the buffer is full.
            return self._reader.readinto1(buffer)
        except EOFError:
            raise OSError(errno.EIO, "its gzip data is cut off") from None
        except (zlib.error, gzip.BadGzipFile):
            raise OSError(errno.EIO, "its gzip data is damaged") from None

    def close(self) -> None:
        """Close the stream behind it, too."""
        self._packed.close()
        super().close()


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
        Close the stream, unless a thread owns it.

        The thread may be blocked in a read, for which `close` would wait.
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
        return _decompressed(_PositionedReader(self._fd, self.start))

    def count_lines(self) -> int | None:
        """Count the lines of a file; `None` where that is not possible."""
        reader = self.reopen()
        if reader is None:
            return None
        count, last = 0, b"\n"
        try:
            with reader:
                while block := reader.read(_BLOCK):
                    count += block.count(b"\n")
                    last = block[-1:]
        except OSError:
            # Reading the rows reports the error.
            return None
        return count + (last != b"\n")


def open_input(path: str) -> Input:
    """
    Open a file, or stdin for ``-``, and decompress gzip.

    Raises:
        InputFileError: If it cannot be read.
    """
    name = "stdin" if path == _STDIN else path
    with named_errors(name, UNREADABLE):
        raw = _open_stdin() if path == _STDIN else io.FileIO(path)
        is_file = stat.S_ISREG(os.fstat(raw.fileno()).st_mode)
        pipe = None if is_file else Pipe(raw)
        return Input(
            name=name,
            stream=_decompressed(pipe or raw),
            pipe=pipe,
            start=raw.tell() if is_file else 0,
            fd=raw.fileno(),
        )


def refuse_same_file(source: str, output: str) -> None:
    """
    Refuse to write to the file that is read.

    Raises:
        InputFileError: If both names lead to the same file.
    """
    try:
        read = os.fstat(0) if source == _STDIN else Path(source).stat()
        written = Path(output).stat()
    except OSError:
        # Opening the files reports the error.
        return
    if stat.S_ISREG(read.st_mode) and os.path.samestat(read, written):
        raise InputFileError(
            f"{output}: is the input, too: name another --output"
        )


def _decompressed(raw: io.RawIOBase) -> BinaryIO:
    return io.BufferedReader(_GzipDetector(raw), _BLOCK)


def _open_stdin() -> io.FileIO:
    if sys.stdin is None:
        raise InputFileError("stdin: is closed. Give a file instead")
    # The interpreter closes `sys.stdin` when it exits, while a thread may
    # still read it.
    return io.FileIO(0, closefd=False)
