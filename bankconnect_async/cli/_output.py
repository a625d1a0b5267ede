"""
Where results go: JSON lines, each with a write of its own.
"""

import os
import stat
import sys

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Self

import attrs
import orjson


_STDOUT: Final = "-"
_STDOUT_NAME: Final = "stdout"


class OutputError(Exception):
    """
    The output cannot be written; the message begins with its name.
    """


class OutputClosedError(OutputError):
    """
    Whoever read the output has gone, as ``head`` does.
    """


@attrs.define(kw_only=True)
class Output:
    """
    An open output.

    Attributes:
        name: What to call it.
    """

    name: str
    _fd: int = attrs.field(alias="fd")
    # Where the last whole record of a file of ours ends; a pipe has no such.
    _end: int | None = attrs.field(alias="end")

    @property
    def is_stdout(self) -> bool:
        """Whether it is stdout, where nothing else may then be printed."""
        return self.name == _STDOUT_NAME

    @classmethod
    def open(cls, path: str) -> Self:
        """
        Make a new file, or take stdout for ``-``.

        Raises:
            OutputError: If there is a file already, or none can be made.
        """
        if path == _STDOUT:
            return cls(name=_STDOUT_NAME, fd=_dup_stdout(), end=None)
        try:
            fd, is_new = _open_file(path)
        except FileExistsError:
            raise OutputError(
                f"{path}: exists already and is not overwritten: name another "
                f"--output"
            ) from None
        except OSError as exc:
            raise OutputError(
                f"{path}: cannot be made: {exc.strerror}. Name an --output in "
                f"a directory that you can write to"
            ) from exc
        return cls(name=path, fd=fd, end=0 if is_new else None)

    def write(self, record: Mapping[str, Any]) -> None:
        """
        Append one record; it survives this process from then on.

        Raises:
            OutputError: If there is no room, or nobody to read it.
        """
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        try:
            self._write(line)
        except BrokenPipeError:
            raise OutputClosedError(f"{self.name}: was closed") from None
        except OSError as exc:
            self._drop_torn_record()
            raise OutputError(
                f"{self.name}: cannot be written: {exc.strerror}"
            ) from exc
        if self._end is not None:
            self._end += len(line)

    def close(self) -> None:
        """Close it; a file in which nothing stands is removed again."""
        os.close(self._fd)
        if self._end == 0:
            with suppress(FileNotFoundError):
                os.unlink(self.name)  # noqa: PTH108

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def _drop_torn_record(self) -> None:
        if self._end is not None:
            with suppress(OSError):
                os.ftruncate(self._fd, self._end)


def _dup_stdout() -> int:
    if sys.stdout is None:
        raise OutputError("stdout: is closed. Name a file as --output")
    sys.stdout.flush()
    return os.dup(sys.stdout.fileno())


def _open_file(path: str) -> tuple[int, bool]:
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        # Session URLs are credentials: nobody else may read them.
        new = os.O_CREAT | os.O_EXCL | os.O_APPEND
        return os.open(path, flags | new, 0o600), True
    except FileExistsError:
        if not _is_pipe_or_device(path):
            raise
        # There is nothing in it that could be overwritten.
        return os.open(path, flags), False


def _is_pipe_or_device(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)
