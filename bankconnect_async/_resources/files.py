"""
Local files: which can be read and written.

All functions block, and belong into a thread.
"""

import errno
import io
import os
import secrets
import stat

from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from bankconnect_async.errors import InvalidRequestError


#: The names of files that are not complete, as a pattern.
PART_NAMES: Final = ".bankconnect-*.part"

_PRIVATE: Final = 0o600
# Windows translates ends of lines without it.
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_problem(mode: int) -> str | None:
    """
    Return the kind of something that is not a regular file, else `None`.
    """
    if stat.S_ISREG(mode):
        return None
    kind = next((kind for is_it, kind in _KINDS if is_it(mode)), "no file")
    return f"is {kind}"


def open_regular(path: Path) -> IO[bytes]:
    """
    Open a regular file for reading; never wait for a writer.

    Raises:
        OSError: If it cannot be read, or is not a regular file.
        ValueError: If *path* is not a path.
    """
    # Opening alone does something to some devices.
    _check_regular(path.stat().st_mode)
    # A FIFO that came since would wait for its writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY
    fd = os.open(path, flags)
    try:
        _check_regular(os.fstat(fd).st_mode)
        return os.fdopen(fd, "rb")
    except OSError:
        os.close(fd)
        raise


def _check_regular(mode: int) -> None:
    if problem := kind_problem(mode):
        raise OSError(errno.EINVAL, f"it {problem}, not a regular file")


class PartFile:
    """
    A file that appears at its place when it is complete.

    Until then it has a name of its own in the same folder. Only one thread at
    a time may use it.

    Args:
        target: The place. A file there is replaced; anything else is refused.
        is_new: Whether a file there is refused, too.
    """

    def __init__(self, target: Path, *, is_new: bool = False) -> None:
        self._target = target
        self._is_new = is_new
        # Not made of the target's name, which may be as long as names get.
        self._path = target.with_name(
            f".bankconnect-{secrets.token_hex(8)}.part"
        )
        self._file: io.FileIO | None = None
        self._is_there = False

    def create(self) -> None:
        """
        Create an empty file, for its owner only.

        Raises:
            InvalidRequestError: If there can be no file at its place.
            FileExistsError: If there is one, and it is to be new.
            OSError: If it cannot be created.
        """
        self._check_target()
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | _BINARY
        fd = os.open(self._path, flags, _PRIVATE)
        self._is_there = True
        self._file = io.FileIO(fd, "w")

    def append(self, content: bytes) -> None:
        """
        Write all of *content*.
        """
        file, rest = self._open(), memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]

    def restart(self) -> None:
        """
        Truncate the file.
        """
        file = self._open()
        file.seek(0)
        file.truncate()

    def commit(self) -> None:
        """
        Move the file to its place, after an fsync.

        Raises:
            InvalidRequestError: If there is something else than a file now.
            FileExistsError: If there is a file now, and it is to be new.
            OSError: If that fails.
        """
        os.fsync(self._open().fileno())
        self._close()
        self._check_target()
        self._move()
        self._is_there = False

    def _move(self) -> None:
        if self._is_new:
            try:
                # Unlike a rename, it replaces nothing that came since.
                os.link(self._path, self._target)
            except FileExistsError:
                raise
            except OSError:
                # The file system has no links.
                pass
            else:
                self.unlink()
                return
        self._path.replace(self._target)

    def discard(self) -> None:
        """
        Remove the file, unless it was committed.
        """
        if self._is_there:
            self._is_there = False
            # The caller gets the first error.
            with suppress(OSError):
                self._close()
            self.unlink()

    def unlink(self) -> None:
        """
        Remove its name alone; a thread may still write to it.
        """
        with suppress(OSError):
            self._path.unlink()

    def _check_target(self) -> None:
        problem: str | None
        try:
            problem = kind_problem(self._target.stat().st_mode)
        except FileNotFoundError:
            return
        except ValueError:
            problem = "is not a path"
        else:
            if self._is_new:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        if problem is not None:
            raise InvalidRequestError(fields={"to": (problem,)})

    def _open(self) -> io.FileIO:
        if self._file is None:
            raise OSError(errno.EBADF, "the file is closed")
        return self._file

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
