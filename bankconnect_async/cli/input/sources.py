"""
Where rows come from: a file, a pipe, or stdin.
"""

import errno
import gzip
import io
import os
import stat
import sys
import zlib

from collections.abc import Callable
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
    A pipe or a terminal, which may keep its reader waiting for hours.

    Attributes:
        before_read: Called each time before it may come to that.
        is_owned_by_thread: A thread reads it, and will close it.
    """

    def __init__(self, stream: io.RawIOBase) -> None:
        self._stream = stream
        self.before_read: Callable[[], None] = _do_nothing
        self.is_owned_by_thread = False

    def readable(self) -> bool:
        """Say yes, as a buffer around it asks."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        """Read what there is; wait while there is nothing."""
        self.before_read()
        return self._stream.readinto(buffer)

    def close(self) -> None:
        """Close what is behind it, too."""
        self._stream.close()
        super().close()


def _do_nothing() -> None:
    pass


class _Apart(io.RawIOBase):
    """
    Reads a file without moving in it.

    Args:
        fd: Of the file.
        start: Where to begin.
    """

    def __init__(self, fd: int, start: int) -> None:
        self._fd = fd
        self._at = start

    def readable(self) -> bool:
        """Say yes, as a buffer around it asks."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read what comes next."""
        view = memoryview(buffer).cast("B")
        data = read_at(self._fd, len(view), self._at)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


class _Unpacked(io.RawIOBase):
    """
    The content of a stream, unpacked if it is gzip.

    That is found out when the first byte is asked for: a pipe may not have
    it yet. Damage is an `OSError` like any other.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._packed: BinaryIO = io.BufferedReader(raw, _BLOCK)
        self._reader: BinaryIO | None = None

    def readable(self) -> bool:
        """Say yes, as a buffer around it asks."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read what there is; wait while there is nothing."""
        if self._reader is None:
            self._reader = self._choose()
        try:
            # Not `read`, which would wait until the buffer is full.
            return self._reader.readinto1(buffer)  # type: ignore[attr-defined,no-any-return]
        except EOFError:
            raise OSError(errno.EIO, "its gzip data is cut off") from None
        except (zlib.error, gzip.BadGzipFile):
            raise OSError(errno.EIO, "its gzip data is damaged") from None

    def close(self) -> None:
        """Close what is behind it, too."""
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
        name: What to call it.
        stream: Its bytes, unpacked.
        pipe: What is behind them, unless it is a file on disk.
        start: Where it stood when it was opened, as stdin may not stand at
            the beginning.
    """

    name: str
    stream: BinaryIO
    pipe: Pipe | None
    start: int
    _fd: int = attrs.field(alias="fd")

    def close(self) -> None:
        """
        Close it, unless it is lent to a thread.

        That may be waiting for the next byte, and closing would wait, too.
        """
        if self.pipe is None or not self.pipe.is_owned_by_thread:
            self.stream.close()

    def read_apart(self) -> BinaryIO | None:
        """
        Read a file a second time, without moving in it.

        `None` where that is not possible.
        """
        if self.pipe is not None or not hasattr(os, "pread"):
            return None
        return _unpack(_Apart(self._fd, self.start))

    def count_lines(self) -> int | None:
        """Count all lines of a file; `None` where that is not possible."""
        apart = self.read_apart()
        if apart is None:
            return None
        count, last = 0, b"\n"
        try:
            with apart as stream:
                while block := stream.read(_BLOCK):
                    count += block.count(b"\n")
                    last = block[-1:]
        except OSError:
            # Whoever reads the rows will tell.
            return None
        return count + (last != b"\n")


def open_input(path: str) -> Input:
    """
    Open a file, or stdin for ``-``; what gzip has packed is unpacked.

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
            stream=_unpack(pipe or raw),
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
    Refuse to write to the file that is read.

    Raises:
        InputFileError: If they are one, whatever their names.
    """
    try:
        read = os.stat(0 if source == _STDIN else source)  # noqa: PTH116
        written = os.stat(output)  # noqa: PTH116
    except OSError:
        # Whoever opens them will tell.
        return
    if stat.S_ISREG(read.st_mode) and os.path.samestat(read, written):
        raise InputFileError(
            f"{output}: is the input, too: name another --output"
        )


def _unpack(raw: io.RawIOBase) -> BinaryIO:
    return io.BufferedReader(_Unpacked(raw), _BLOCK)


def _open_stdin() -> io.FileIO:
    if sys.stdin is None:
        raise InputFileError("stdin: is closed. Give a file instead")
    # Not `sys.stdin` itself: the interpreter closes that when it exits, and
    # must not meet a thread which is still reading it.
    return io.FileIO(0, closefd=False)
