"""
Writes results to stdout or to a new file.
"""

import errno
import os
import sys
import tempfile

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import click

from bankconnect_async.tables import write_file

from .messages import CommandError


def write_output(content: bytes, path: str = "-") -> None:
    """
    Write *content* to stdout, or to a new file that only its owner can read.

    The file is whole or not there.

    Args:
        content: The whole output.
        path: The path of the file; ``-`` for stdout.

    Raises:
        CommandError: If the file exists or cannot be written.
    """
    if path == "-":
        _write_to_stdout(content)
        return
    try:
        write_file(content, Path(path), is_new=True)
    except FileExistsError:
        raise CommandError(
            f"{path}: exists already and is not overwritten: name another "
            f"--output"
        ) from None
    except OSError as exc:
        raise CommandError(
            f"{path}: cannot be written: {exc.strerror}"
        ) from exc
    except ValueError as exc:
        raise CommandError(f"{path}: cannot be written: {exc}") from exc


@contextmanager
def new_file(path: str) -> Iterator[BinaryIO]:
    """
    Write a new file that only its owner can read, whole or not at all.

    Args:
        path: The path of the file.

    Raises:
        CommandError: If the file exists or cannot be written.
    """
    target = Path(path)
    if path == "-" or os.path.lexists(path):
        raise CommandError(
            "stdout is for the figures: name a file instead of -"
            if path == "-"
            else f"{path}: exists already and is not overwritten: name "
            f"another file"
        )
    try:
        fd, part = tempfile.mkstemp(
            prefix=f".{target.name}-", dir=target.parent
        )
        try:
            with os.fdopen(fd, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(part).replace(target)
        finally:
            with suppress(FileNotFoundError):
                Path(part).unlink()
    except OSError as exc:
        raise CommandError(
            f"{path}: cannot be written: {exc.strerror}"
        ) from exc


def _write_to_stdout(content: bytes) -> None:
    try:
        click.echo(content, nl=False)
    except OSError as exc:
        # Python would try to write the rest when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if exc.errno == errno.EPIPE:
            # The reader has closed it, as `head` does.
            raise click.exceptions.Exit(1) from None
        raise CommandError(
            f"stdout: cannot be written: {exc.strerror}", exit_code=1
        ) from exc
