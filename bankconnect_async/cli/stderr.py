"""
What is said on stderr while an event loop runs, which must not wait for it.
"""

import io
import os
import sys

from contextlib import suppress
from typing import Final

import click

from bankconnect_async.journal.pipe_writer import PipeWriter


# A terminal that is stopped with Ctrl-S gets no more pictures than that.
_MOST_PICTURES: Final = 20


class Stderr(io.TextIOBase):
    """
    Writes to stderr, however slowly that is read.

    A stopped terminal, or a pipe that nobody reads, keeps what is said in
    memory. What cannot be written at all is given up without an error.
    """

    def __init__(self) -> None:
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
        """Say yes, as printers ask."""
        return True

    def write(self, text: str) -> int:
        """Draw something that may be left out."""
        if self._pipe is not None and self._pipe.pending < _MOST_PICTURES:
            self._put(text)
        return len(text)

    def say(self, text: str) -> None:
        """Print a line."""
        self._put(f"{text}\n")

    def _put(self, text: str) -> None:
        if self._pipe is None:
            click.echo(text, err=True, nl=False)
            return
        # As `click.echo` does, where an encoding lacks a character.
        raw = text.encode(self._encoding, "backslashreplace")
        with suppress(OSError):
            self._pipe.put(raw)

    def close(self) -> None:
        """Wait until all is written; no event loop may run by then."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.wait()
            pipe.close()
        super().close()
