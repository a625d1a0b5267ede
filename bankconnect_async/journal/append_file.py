"""
A file of lines that only grows, for one writer and its owner's eyes only.
"""

import errno
import io
import os
import sys
import tempfile
import threading

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, Literal, Self

import attrs

from bankconnect_async.errors import (
    JournalError,
    JournalLockedError,
    JournalMismatchError,
)

from ._locks import lock, unlock
from .file_system import (
    copy,
    current_path,
    free_name,
    fsync,
    fsync_directory,
    is_deleted,
    is_displaced,
    is_pipe_or_device,
    is_stdout,
    make_private,
    open_or_create,
    open_stream,
    read_at,
    write_all,
)
from .group_fsync import GroupFsync
from .pipe_writer import PipeWriter


STDOUT: Final = "-"

_STDOUT_NAME: Final = "stdout"
_BLOCK: Final = 2**20
# A longer line is read to its end only if it begins like a record.
_LONG: Final = 16 * 2**20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNWRITABLE: Final = _FULL | {errno.EFBIG, errno.EIO, errno.EROFS}
# The bytes of the last line that are compared with the file.
_TAIL: Final = 64
# How often a file that is moved while it is opened is opened again.
_TRIES: Final = 10


@attrs.define(kw_only=True, eq=False)
class AppendFile:
    """
    An open file of lines, or a pipe for them.

    It alone uses its descriptor, which is closed once, under a lock, after
    its threads have ended.

    Attributes:
        name: The name of the file in messages.
        is_stdout: Whether it is stdout, where nothing else may be printed.
        is_locked: Whether a second writer is kept away.
        is_private: Whether only its owner can read it, once it is repaired.
        backup: The path that the earlier file was moved to, if it was.
        fd: The file descriptor; -1 after `close`.
        unsynced: After `close`, the lines that may not be on the disk.
        unwritten: After `close`, the number of lines that a pipe lost.
    """

    name: str
    is_stdout: bool
    fd: int
    is_locked: bool = False
    is_private: bool = attrs.field(default=True, init=False)
    backup: str | None = None
    unsynced: list[bytes] = attrs.field(factory=list, init=False)
    unwritten: int = attrs.field(default=0, init=False)
    _path: Path = attrs.field(alias="path")
    # The end of the last whole line; a pipe and a device have none.
    _end: int | None = attrs.field(alias="end", default=None)
    _is_new: bool = attrs.field(alias="is_new", default=False)
    _count: int = attrs.field(default=0, init=False)
    # The last line and its end: set together, as a thread compares them.
    _last: tuple[int, bytes] = attrs.field(default=(0, b""), init=False)
    _synced: int = attrs.field(default=0, init=False)
    # Room on the disk that is given back when there is no other.
    _reserve: IO[bytes] | None = attrs.field(default=None, init=False)
    _is_full: bool = attrs.field(default=False, init=False)
    _is_torn: bool = attrs.field(default=False, init=False)
    _is_closed: bool = attrs.field(default=False, init=False)
    # What another program did to the file, which cannot be used then.
    _damage: Literal["displaced", "changed"] | None = attrs.field(
        default=None, init=False
    )
    # The reason why what was written may not be on the disk.
    _error: OSError | None = attrs.field(default=None, init=False)
    _fsync: GroupFsync | None = attrs.field(default=None, init=False)
    # The owner of the descriptor of a pipe, a terminal or a device.
    _pipe: PipeWriter | None = attrs.field(alias="pipe", default=None)
    # The process that opened it; a forked child only has a copy.
    _pid: int = attrs.field(factory=os.getpid, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    @classmethod
    def open(
        cls,
        path: str,
        *,
        fresh: bool = False,
        cancelled: threading.Event | None = None,
    ) -> Self:
        """
        Open or create a file, and lock it; its content stays as it is.

        Args:
            path: The path of a file, a pipe or a device; ``-`` for stdout.
            fresh: Whether to back up an earlier file, and create a new one.
            cancelled: An event that ends the wait for a FIFO's reader.

        Raises:
            JournalError: If the file cannot be opened.
            JournalLockedError: If another process writes to it.
        """
        if path == STDOUT:
            return cls._stream(_STDOUT_NAME, _dup_stdout())
        try:
            if is_pipe_or_device(Path(path)):
                return cls._stream(
                    path,
                    open_stream(Path(path), cancelled or threading.Event()),
                )
            return cls._open_file(path, fresh=fresh)
        except BlockingIOError:
            raise JournalLockedError(
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
            path=Path(name),
            is_stdout=name == _STDOUT_NAME or is_stdout(fd),
            fd=fd,
            pipe=PipeWriter(fd),
        )

    @classmethod
    def _open_file(cls, name: str, *, fresh: bool) -> Self:
        # A link is followed; one to nowhere is refused. The working directory
        # may change while the file is open.
        path = Path(name)
        path = path.resolve() if path.exists() else path.absolute()
        backup = None
        for _ in range(_TRIES):
            fd, is_new = open_or_create(path)
            try:
                is_locked = lock(fd)
                # The last owner of the lock may have moved the file.
                is_there = not is_displaced(path, fd)
                size = os.fstat(fd).st_size
                if is_there and not (fresh and size):
                    return cls(
                        name=name,
                        path=path,
                        is_stdout=is_stdout(fd),
                        is_locked=is_locked,
                        backup=backup,
                        fd=fd,
                        end=size,
                        is_new=is_new,
                    )
                if sys.platform == "win32":
                    # An open file cannot be renamed there.
                    os.close(fd)
                    fd = -1
                if is_there:
                    # The lock keeps others from doing this meanwhile.
                    backup = str(path.rename(free_name(Path(f"{path}.old-"))))
                    fsync_directory(path)
            except BaseException:
                _close(fd)
                raise
            _close(fd)
        raise JournalError(
            f"{name}: cannot be opened: it is moved or replaced again and "
            f"again: see what does that, or use another path"
        )

    @property
    def is_stream(self) -> bool:
        """Whether what is written cannot be read again."""
        return self._end is None

    @property
    def is_damaged(self) -> bool:
        """Whether another program deleted, moved or changed the file."""
        return self._damage is not None

    @property
    def pending(self) -> int:
        """The number of lines that wait for the reader of a pipe."""
        return 0 if self._pipe is None else self._pipe.pending

    async def drain(self) -> None:
        """
        Wait until a pipe has taken all lines; a file has taken them at once.

        Raises:
            JournalError: If a line cannot be written.
        """
        if self._pipe is not None:
            try:
                await self._pipe.drain()
            except OSError as exc:
                raise self._unwritable(exc) from exc

    def lines(self, is_record: Callable[[bytes], bool]) -> Iterator[bytes]:
        """
        Read all lines with their ends; a pipe has none.

        Args:
            is_record: Tells from its first 16 MiB whether a line can be a
                record.

        Raises:
            JournalMismatchError: If a longer line cannot be a record.
        """
        if self._end is None:
            return
        raw = io.FileIO(self.fd, closefd=False)
        raw.seek(0)
        with io.BufferedReader(raw, _BLOCK) as reader:
            number = 0
            while line := reader.readline(_LONG):
                number += 1
                if len(line) == _LONG and line[-1:] != b"\n":
                    if not is_record(line):
                        raise JournalMismatchError(
                            f"{self.name}: line {number} is too long and is "
                            f"no record of a session: use another path"
                        )
                    line += reader.readline()
                yield line

    def repair(self, *, end: int, missing: bytes, count: int) -> None:
        """
        Truncate the file to *end*, or append the *missing* end of a line.

        Each is one step, so that it may be interrupted anywhere. A file that
        others can read is made private, if its file system can do that.

        Args:
            end: The end of the last whole line.
            missing: The bytes that this line lacks.
            count: The number of records.

        Raises:
            JournalError: If that cannot be done.
        """
        if self._end is None:
            return
        try:
            self.is_private = make_private(self.fd)
            if end < self._end:
                os.ftruncate(self.fd, end)
        except OSError as exc:
            raise self._unwritable(exc) from exc
        self._end = self._synced = end
        self._last = end, b""
        if missing:
            self.append(missing)
        self._count = count

    def reserve(self, size: int) -> None:
        """
        Reserve disk space for lines to come; blocks.

        The space belongs to a file without a name beside this one. It is given
        back when the disk is full, so that these lines can be written.

        Args:
            size: The number of bytes.

        Raises:
            JournalError: If so many bytes cannot be written now.
        """
        if self._end is None:
            return
        self._drop_reserve()
        self._is_full = False
        try:
            self._reserve = _open_nameless(self._path.parent)
            # At the same offset, as there may be a limit for files, too.
            os.lseek(self._reserve.fileno(), self._end, os.SEEK_SET)
            write_all(self._reserve.fileno(), os.urandom(size))
            fsync(self._reserve.fileno())
        except OSError as exc:
            self._drop_reserve()
            if exc.errno in _UNWRITABLE:
                raise JournalError(
                    f"{self.name}: cannot be written: {exc.strerror}: "
                    f"nothing was sent, as it could not be recorded"
                ) from exc

    def _drop_reserve(self) -> bool:
        reserve, self._reserve = self._reserve, None
        if reserve is None:
            return False
        # Some file systems have errors of the disk here; it is closed anyway.
        with suppress(OSError):
            reserve.close()
        return True

    def append(self, line: bytes) -> None:
        """
        Write a line; from then on it survives this process.

        Where an event loop is running, a line for a pipe is queued: `drain`
        waits for it.

        Raises:
            JournalError: If the line was not written whole, or earlier ones
                may not be on the disk.
        """
        with self._lock:
            if self._error is not None:
                raise self._unwritable(self._error)
            self._append(line)

    def _append(self, line: bytes) -> None:
        if self._is_closed:
            raise JournalError(f"{self.name}: was closed")
        if self._is_torn:
            raise JournalError(
                f"{self.name}: cannot be written: its last line is torn"
            )
        try:
            if self._pipe is not None:
                self._pipe.write(line)
            else:
                self._write_whole(line)
        except OSError as exc:
            if exc.errno not in _FULL or not self._drop_reserve():
                raise self._unwritable(exc) from exc
            self._is_full = True
            self._append(line)
            return
        if self._end is not None:
            self._end += len(line)
            self._count += line.count(b"\n")
            self._last = self._end, line
            if self._fsync is None:
                self._fsync = GroupFsync(self._flush)
            self._fsync.schedule()

    def _write_whole(self, line: bytes) -> None:
        written = 0
        try:
            written = os.write(self.fd, line)
            if written < len(line):
                write_all(self.fd, memoryview(line)[written:])
        except OSError:
            if written and self._end is not None:
                try:
                    os.ftruncate(self.fd, self._end)
                except OSError:
                    self._is_torn = True
            raise

    def check(self) -> None:
        """
        Check that records can be kept; does not block.

        Raises:
            JournalError: If something is wrong with the file.
        """
        self._check_damage()
        if self._is_full:
            raise JournalError(
                f"{self.name}: its disk is full: nothing more is sent; make "
                f"room, and run the same batch again to resume"
            )

    def _check_damage(self) -> None:
        if self._damage is not None:
            raise JournalError(
                f"{self.name}: was deleted, renamed or changed by another "
                f"program: nothing more is sent"
            )
        if self._error is not None:
            raise self._unwritable(self._error)

    def sync(self) -> None:
        """
        Flush the file to its disk; blocks.

        Raises:
            JournalError: If records may not be on the disk, or are lost.
        """
        if self._end is not None:
            self._flush()
            self._check_damage()

    def close(self) -> None:
        """
        Flush the file to its disk and close it; an empty one is removed.

        If another program deleted it meanwhile, a copy is saved beside it.

        Raises:
            JournalError: If records may not be on the disk, or are not where
                they were; it says where they are. If a pipe has not taken
                all lines; `unwritten` says how many.
        """
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        if self._pipe is not None:
            self._close_pipe(self._pipe)
            return
        if self._pid != os.getpid():
            self._close_file()
            return
        report = None
        try:
            if self._fsync is not None:
                self._fsync.close()
            if self._end:
                self._find_damage(*self._last)
                self.unsynced = self._read_unsynced()
                report = self._report_damage()
            elif self._is_new and not is_displaced(self._path, self.fd):
                if sys.platform == "win32":
                    # An open file cannot be removed there.
                    self._close_file()
                with suppress(OSError):
                    self._path.unlink()
        finally:
            self._close_file()
        if report is not None:
            raise JournalError(f"{self.name}: {report}")
        if self._error is not None:
            raise self._unwritable(self._error) from self._error

    def close_unchanged(self) -> None:
        """Close a file that nothing was written to, wherever it is now."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            if self._pipe is not None:
                self._close_pipe(self._pipe)
            else:
                self._close_file()

    def _close_pipe(self, pipe: PipeWriter) -> None:
        self.fd = -1
        self.unwritten = len(pipe.close())
        if self.unwritten and pipe.error is not None:
            raise self._unwritable(pipe.error) from pipe.error

    def _close_file(self) -> None:
        self._drop_reserve()
        fd, self.fd = self.fd, -1
        if fd >= 0 and self.is_locked and self._pid == os.getpid():
            # Closing it ends the lock, too.
            with suppress(OSError):
                unlock(fd)
        _close(fd)

    def _flush(self) -> None:
        # In this order: what is written from now on belongs to the next one.
        end, line = self._last
        try:
            fsync(self.fd)
        except OSError as exc:
            self._error = exc
        if self._error is None:
            self._synced = end
        self._find_damage(end, line)

    def _find_damage(self, end: int, line: bytes) -> None:
        if self._damage is not None:
            return
        tail = line[-_TAIL:]
        try:
            if is_displaced(self._path, self.fd):
                self._damage = "displaced"
            elif read_at(self.fd, len(tail), end - len(tail)) != tail:
                self._damage = "changed"
        except OSError as exc:
            self._error = exc

    def _read_unsynced(self) -> list[bytes]:
        if self._error is None or self._damage is not None:
            return []
        with suppress(OSError):
            size = self._last[0] - self._synced
            return read_at(self.fd, size, self._synced).splitlines()
        return []

    def _report_damage(self) -> str | None:
        if self._damage is None:
            return None
        if self._damage == "changed":
            lost = max(self._count - self._count_lines(), 0)
            return (
                f"was changed by another program while it was open: {lost} "
                f"of its {self._count} records are lost, though their "
                f"sessions exist"
            )
        records = f"its records ({self._count})"
        if not is_deleted(self.fd):
            found = current_path(self.fd)
            where = "where it is now" if found is None else f"in {found}"
            return (
                f"was renamed while it was open: {records} are {where}: move "
                f"that back to {self._path} to resume"
            )
        try:
            saved = self._save()
        except OSError as exc:
            return (
                f"was deleted while it was open, and could not be saved: "
                f"{exc.strerror}: {records} are lost, though their "
                f"sessions exist"
            )
        return (
            f"was deleted or replaced while it was open: {records} were "
            f"saved to {saved}: move that back to {self._path} to resume"
        )

    def _count_lines(self) -> int:
        with suppress(OSError):
            return sum(
                bool(line.strip()) for line in self.lines(lambda _: True)
            )
        return 0

    def _save(self) -> Path:
        name = f"{self._path.name}.saved-"
        try:
            return copy(self.fd, self._path.with_name(name))
        except OSError:
            # Its directory may be deleted, too.
            return copy(self.fd, Path(tempfile.gettempdir(), name))

    def _unwritable(self, exc: OSError) -> JournalError:
        if isinstance(exc, BrokenPipeError):
            return JournalError(
                f"{self.name}: cannot be written: its reader has closed it"
            )
        return JournalError(f"{self.name}: cannot be written: {exc.strerror}")


def _open_nameless(directory: Path) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=directory, buffering=0)


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)


def _dup_stdout() -> int:
    if sys.stdout is None:
        raise JournalError("stdout: is closed: use another path")
    sys.stdout.flush()
    return os.dup(sys.stdout.fileno())
