"""
A stderr that does not block an event loop.
"""

import io
import os
import sys

from contextlib import suppress
from typing import Final

import click

from bankconnect_async.journal.pipe_writer import PipeWriter


# The largest number of frames that wait for a stopped terminal (Ctrl-S).
_MAX_FRAMES: Final = 20


class Stderr(io.TextIOBase):
    """
    Writes to stderr in a thread.

    Text for a stopped terminal, or for a pipe that nobody reads, stays in
    memory. Text that cannot be written is dropped without an error.

    Args:
        max_pending: The largest number of texts that `write` keeps waiting.
    """

    def __init__(self, *, max_pending: int = _MAX_FRAMES) -> None:
        self._max_pending = max_pending
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        self._pipe: PipeWriter | None = None
        with suppress(OSError, ValueError):
            if sys.stderr is not None:
                sys.stderr.flush()
                self._pipe = PipeWriter(os.dup(sys.stderr.fileno()))

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return self._is_terminal

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write a text, unless too many texts wait."""
        if self._pipe is not None and self._pipe.pending < self._max_pending:
            self._put(text)
        return len(text)

    def print(self, text: str) -> None:
        """Write a line."""
        self._put(f"{text}\n")

    def _put(self, text: str) -> None:
        if self._pipe is None:
            click.echo(text, err=True, nl=False)
            return
        # The encoding may lack a character.
        raw = text.encode(self._encoding, "backslashreplace")
        with suppress(OSError):
            self._pipe.put(raw)

    def close(self) -> None:
        """Wait until everything is written, outside of an event loop."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.wait()
            pipe.close()
        super().close()
