"""
Writes results to stdout or to a new file.
"""

import errno
import io
import os
import sys

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
import orjson

from bankconnect_async._printable import printable_json
from bankconnect_async._resources.files import PartFile
from bankconnect_async.tables import write_file

from .messages import CommandError


if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


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


def write_json(document: object) -> None:
    """
    Write *document* to stdout as a line of JSON, without control characters.
    """
    raw = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    write_output(printable_json(raw))


def check_new_files(paths: Iterable[str | None]) -> None:
    """
    Check that there can be new files at *paths*, and leave none there.

    Args:
        paths: The paths; `None` for a file that is not wanted.

    Raises:
        CommandError: If a file exists or cannot be written, or if two paths
            are the same.
    """
    seen = set()
    for path in paths:
        if path is None:
            continue
        with _new_part(path, other="file"):
            pass
        place = os.path.realpath(path)
        if place in seen:
            raise CommandError(f"{path}: is named twice: name another file")
        seen.add(place)


@contextmanager
def new_file(path: str, *, other: str = "file") -> Iterator[BinaryIO]:
    """
    Write a new file that only its owner can read, whole or not at all.

    Args:
        path: The path of the file.
        other: The thing to name again if the path is taken.

    Raises:
        CommandError: If the file exists or cannot be written.
    """
    with _new_part(path, other=other) as part:
        with io.BufferedWriter(_PartStream(part)) as file:
            yield file
        part.commit()


@contextmanager
def _new_part(path: str, *, other: str) -> Iterator[PartFile]:
    if os.path.lexists(path):
        raise CommandError(
            f"{path}: exists already and is not overwritten: name another "
            f"{other}"
        )
    try:
        part = PartFile(Path(path), is_new=True)
    except ValueError as exc:
        # It is empty.
        raise CommandError(f"{path}: cannot be written: {exc}") from exc
    try:
        part.create()
        yield part
    except OSError as exc:
        raise CommandError(
            f"{path}: cannot be written: {exc.strerror}"
        ) from exc
    finally:
        part.discard()


class _PartStream(io.RawIOBase):
    """
    Appends to a file that is not complete.

    Args:
        part: The file, which stays open.
    """

    def __init__(self, part: PartFile) -> None:
        self._part = part

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, content: "ReadableBuffer") -> int:
        """Write all of *content*."""
        raw = bytes(content)
        self._part.append(raw)
        return len(raw)


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
