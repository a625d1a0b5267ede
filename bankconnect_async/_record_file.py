"""
A file of lines that only grows, for one writer and for nobody else's eyes.
"""

import errno
import io
import os
import stat
import sys

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import attrs

from ._syncer import Syncer, sync
from .errors import JournalError, JournalInUseError


STDOUT: Final = "-"

_STDOUT_NAME: Final = "stdout"
_PRIVATE: Final = 0o600
_BLOCK: Final = 2**20
# An answer has a megabyte at most, and JSON may escape each of its bytes.
_LONGEST: Final = 16 * 2**20
# What file systems say that have no locks, as some in networks do.
_LOCKLESS: Final = frozenset(
    {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
)


@attrs.define(kw_only=True, eq=False)
class RecordFile:
    """
    An open file of lines, or a pipe for them.

    Attributes:
        name: What to call it.
        is_stdout: Whether it is stdout, where nothing else may be printed.
        is_locked: Whether a second writer would be kept away.
        kept_as: Name of what stood there before, if that was put aside.
    """

    name: str
    is_stdout: bool
    is_locked: bool
    kept_as: str | None
    _path: str = attrs.field(alias="path")
    _fd: int = attrs.field(alias="fd")
    # Where the last whole line ends; a pipe and a device have no such.
    _end: int | None = attrs.field(alias="end")
    _is_new: bool = attrs.field(alias="is_new")
    _is_spoilt: bool = attrs.field(default=False, init=False)
    _syncer: Syncer | None = attrs.field(default=None, init=False)

    @classmethod
    def open(cls, path: str, *, fresh: bool = False) -> Self:
        """
        Open or make a file, and lock it; nothing in it is changed.

        Args:
            path: Of a file, a pipe or a device; ``-`` for stdout.
            fresh: Put aside what stands there, and make a new one.

        Raises:
            JournalError: If there cannot be one.
            JournalInUseError: If somebody writes to it.
        """
        if path == STDOUT:
            return cls._stream(_STDOUT_NAME, _dup_stdout())
        try:
            if _is_pipe_or_device(path):
                flags = os.O_WRONLY | os.O_CLOEXEC
                return cls._stream(path, os.open(path, flags))
            return cls._open_file(path, fresh=fresh)
        except BlockingIOError:
            raise JournalInUseError(
                f"{path}: another process is writing to it: wait until that "
                f"is done, or use another path"
            ) from None
        except OSError as exc:
            raise JournalError(
                f"{path}: cannot be written: {exc.strerror}: use another "
                f"path, in a directory that you can write to"
            ) from exc

    @classmethod
    def _stream(cls, name: str, fd: int) -> Self:
        return cls(
            name=name,
            path=name,
            is_stdout=name == _STDOUT_NAME or _is_stdout(fd),
            is_locked=False,
            kept_as=None,
            fd=fd,
            end=None,
            is_new=False,
        )

    @classmethod
    def _open_file(cls, path: str, *, fresh: bool) -> Self:
        # A link is followed; one to nowhere is refused.
        real = os.path.realpath(path) if Path(path).exists() else path
        kept_as = None
        while True:
            fd, is_new = _open_or_make(real)
            try:
                is_locked = _lock(fd)
                # Whoever had the lock before may have moved or removed it.
                is_there = _is_at(real, fd)
                size = os.fstat(fd).st_size
                if is_there and not (fresh and size):
                    return cls(
                        name=path,
                        path=real,
                        is_stdout=_is_stdout(fd),
                        is_locked=is_locked,
                        kept_as=kept_as,
                        fd=fd,
                        end=size,
                        is_new=is_new,
                    )
                if is_there:
                    kept_as = _put_aside(real)
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    @property
    def is_stream(self) -> bool:
        """Whether what goes there cannot be read again."""
        return self._end is None

    @property
    def fd(self) -> int:
        """The file descriptor."""
        return self._fd

    def lines(self) -> Iterator[bytes]:
        """Read all lines, their ends included; a pipe has none."""
        if self._end is None:
            return
        raw = io.FileIO(self._fd, closefd=False)
        raw.seek(0)
        with io.BufferedReader(raw, _BLOCK) as reader:
            while line := reader.readline(_LONGEST):
                yield line

    def heal(self, *, end: int, missing: bytes) -> None:
        """
        Drop what stands behind *end*, or append what is *missing* there.

        Each is one step, so that it may be interrupted anywhere. A file that
        others can read is taken from them.

        Raises:
            JournalError: If that cannot be done.
        """
        if self._end is None:
            return
        try:
            if stat.S_IMODE(os.fstat(self._fd).st_mode) & ~_PRIVATE:
                os.fchmod(self._fd, _PRIVATE)
            if end < self._end:
                os.ftruncate(self._fd, end)
        except OSError as exc:
            raise self._unwritable(exc) from exc
        self._end = end
        if missing:
            self.append(missing)

    def append(self, line: bytes) -> None:
        """
        Write a line; it survives this process from then on.

        Raises:
            JournalError: If it did not get there whole, or if earlier ones
                may not have got to the disk.
        """
        syncer = self._syncer
        if self._is_spoilt or (syncer is not None and syncer.error):
            raise self._broken()
        try:
            written = os.write(self._fd, line)
            if written < len(line):
                self._write(memoryview(line)[written:])
        except OSError as exc:
            self._drop_torn_line()
            raise self._unwritable(exc) from exc
        if self._end is not None:
            self._end += len(line)
            if syncer is None:
                self._syncer = syncer = Syncer(self._fd)
            syncer.note()

    def _broken(self) -> JournalError:
        if self._syncer is not None and self._syncer.error is not None:
            return self._unwritable(self._syncer.error)
        return JournalError(
            f"{self.name}: cannot be written: its last line is torn"
        )

    def sync(self) -> None:
        """
        Bring it to the disk; blocks.

        Raises:
            JournalError: If it may not be there.
        """
        if self._end is not None:
            try:
                sync(self._fd)
            except OSError as exc:
                raise self._unwritable(exc) from exc

    def close(self) -> None:
        """
        Bring it to the disk and close it; an empty one is removed again.

        Raises:
            JournalError: If it may not be on the disk.
        """
        if self._syncer is not None:
            self._syncer.close()
        if self._is_new and self._end == 0 and _is_at(self._path, self._fd):
            with suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108
        os.close(self._fd)
        if self._syncer is not None and self._syncer.error is not None:
            error = self._syncer.error
            raise self._unwritable(error) from error

    def _write(self, rest: memoryview) -> None:
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def _drop_torn_line(self) -> None:
        if self._end is not None:
            try:
                os.ftruncate(self._fd, self._end)
            except OSError:
                self._is_spoilt = True

    def _unwritable(self, exc: OSError) -> JournalError:
        return JournalError(f"{self.name}: cannot be written: {exc.strerror}")


def _open_or_make(path: str) -> tuple[int, bool]:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    try:
        # Session URLs are credentials: nobody else may read them.
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, _PRIVATE)
    except FileExistsError:
        return os.open(path, flags), False
    _sync_directory(path)
    return fd, True


def _lock(fd: int) -> bool:
    try:
        import fcntl  # noqa: PLC0415 - there is none on Windows
    except ImportError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno not in _LOCKLESS:
            raise
        return False
    return True


def _put_aside(path: str) -> str:
    # Nobody else does this meanwhile, as we have the lock.
    number = 1
    while True:
        kept_as = f"{path}.old-{number}"
        if not os.path.lexists(kept_as):
            os.rename(path, kept_as)  # noqa: PTH104
            _sync_directory(path)
            return kept_as
        number += 1


def _sync_directory(path: str) -> None:
    directory = os.path.dirname(path) or os.curdir  # noqa: PTH120
    with suppress(OSError):
        fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            sync(fd)
        finally:
            os.close(fd)


def _dup_stdout() -> int:
    if sys.stdout is None:
        raise JournalError("stdout: is closed: use another path")
    sys.stdout.flush()
    return os.dup(sys.stdout.fileno())


def _is_stdout(fd: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.fstat(1))
    except OSError:
        return False


def _is_at(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))  # noqa: PTH116
    except OSError:
        return False


def _is_pipe_or_device(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)
