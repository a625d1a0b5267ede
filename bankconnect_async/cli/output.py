"""
Bytes that go out as a whole, to stdout or to a new file.
"""

import os
import sys

import click

from bankconnect_async._printable import one_line


def print_message(text: str) -> None:
    """
    Print one line to stderr, without anything that moves a cursor.
    """
    click.echo(one_line(text), err=True)


class OutputError(Exception):
    """
    The output cannot be written; the message begins with its name.
    """


class OutputClosedError(OutputError):
    """
    Whoever read the output has gone, as ``head`` does.
    """


def emit(content: bytes, path: str) -> None:
    """
    Write *content* to a new file that only its owner can read, or to ``-``.

    Raises:
        OutputError: If that cannot be done.
    """
    if path == "-":
        _emit_to_stdout(content)
        return
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            file.write(content)
    except FileExistsError:
        raise OutputError(
            f"{path}: exists already and is not overwritten: name another "
            f"--output"
        ) from None
    except OSError as exc:
        raise OutputError(
            f"{path}: cannot be written: {exc.strerror}"
        ) from exc


def _emit_to_stdout(content: bytes) -> None:
    try:
        click.echo(content, nl=False)
    except OSError as exc:
        # What stdout did not take would be tried again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(exc, BrokenPipeError):
            raise OutputClosedError("stdout: was closed") from None
        raise OutputError(
            f"stdout: cannot be written: {exc.strerror}"
        ) from exc
