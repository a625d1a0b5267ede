"""
Where rows come from: a file, a pipe, or stdin.
"""

import io
import os
import stat
import sys

from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Final

import attrs

from ._rows import InputFileError


if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


_STDIN: Final = "-"
_BLOCK: Final = 2**16


class Pipe(io.RawIOBase):
    """
    A pipe or a terminal, which may keep its reader waiting for hours.

    Attributes:
        before_read: Called each time before it may come to that.
        is_lent: A thread reads it, and will close it.
    """

    def __init__(self, stream: io.RawIOBase) -> None:
        self._stream = stream
        self.before_read: Callable[[], None] = _do_nothing
        self.is_lent = False

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


@attrs.frozen(kw_only=True)
class Input:
    """
    An open input.

    Attributes:
        name: What to call it.
        stream: Its bytes.
        pipe: What is behind them, unless it is a file on disk.
    """

    name: str
    stream: BinaryIO
    pipe: Pipe | None

    def close(self) -> None:
        """
        Close it, unless it is lent to a thread.

        That may be waiting for the next byte, and closing would wait, too.
        """
        if self.pipe is None or not self.pipe.is_lent:
            self.stream.close()

    def count_lines(self) -> int | None:
        """Count the lines that are left; `None` for a pipe."""
        if self.pipe is not None:
            return None
        position = self.stream.tell()
        count, last = 0, b"\n"
        while block := self.stream.read(_BLOCK):
            count += block.count(b"\n")
            last = block[-1:]
        self.stream.seek(position)
        return count + (last != b"\n")


def open_input(path: str) -> Input:
    """
    Open a file, or stdin for ``-``.

    Raises:
        InputFileError: If it cannot be read.
    """
    name = "stdin" if path == _STDIN else path
    try:
        raw = _open_stdin() if path == _STDIN else io.FileIO(path)
    except OSError as exc:
        raise InputFileError(
            f"{name}: cannot be read: {exc.strerror}. Give a CSV file, a "
            f"JSON lines file, or - for stdin"
        ) from exc
    if stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        return Input(
            name=name, stream=io.BufferedReader(raw, _BLOCK), pipe=None
        )
    pipe = Pipe(raw)
    return Input(name=name, stream=io.BufferedReader(pipe, _BLOCK), pipe=pipe)


def _open_stdin() -> io.FileIO:
    if sys.stdin is None:
        raise InputFileError("stdin: is closed. Give a file instead")
    # Not `sys.stdin` itself: the interpreter closes that when it exits, and
    # must not meet a thread which is still reading it.
    return io.FileIO(0, closefd=False)
