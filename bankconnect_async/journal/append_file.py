"""
A file of lines that only grows, for one writer and for nobody else's eyes.
"""

import errno
import io
import itertools
import os
import stat
import sys
import tempfile
import threading

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, Self

import attrs

from bankconnect_async.errors import (
    JournalError,
    JournalLockedError,
    JournalMismatchError,
)

from .group_fsync import GroupFsync, sync
from .pipe_writer import PipeWriter


STDOUT: Final = "-"

_STDOUT_NAME: Final = "stdout"
_PRIVATE: Final = 0o600
_BLOCK: Final = 2**20
# A line that goes on is read further only if it begins like a record.
_LONG: Final = 16 * 2**20
# What a full disk says, and what says that nothing can be written at all.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_HOPELESS: Final = _FULL | {errno.EFBIG, errno.EIO, errno.EROFS}
# Bytes of the last line that are compared with the file.
_TAIL: Final = 64
# Seconds between attempts to open a FIFO that nobody reads yet.
_KNOCK: Final = 0.05
# How often a file that is moved while it is opened is opened again.
_TRIES: Final = 10
# What file systems say that have no locks, as some in networks do.
_LOCKLESS: Final = frozenset(
    {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
)


@attrs.define(kw_only=True, eq=False)
class AppendFile:
    """
    An open file of lines, or a pipe for them.

    It alone uses its descriptor, which is closed once, under a lock, after
    its threads have ended.

    Attributes:
        name: What to call it.
        is_stdout: Whether it is stdout, where nothing else may be printed.
        is_locked: Whether a second writer would be kept away.
        backup: Name of what stood there before, if that was put aside.
        unsynced: After `close`, the lines that may not be on the disk.
        unwritten: After `close`, how many lines a pipe has not taken.
    """

    name: str
    is_stdout: bool
    is_locked: bool
    backup: str | None
    unsynced: list[bytes] = attrs.field(factory=list, init=False)
    _path: str = attrs.field(alias="path")
    _fd: int = attrs.field(alias="fd")
    # Where the last whole line ends; a pipe and a device have no such.
    _end: int | None = attrs.field(alias="end")
    _is_new: bool = attrs.field(alias="is_new")
    _count: int = attrs.field(default=0, init=False)
    # The last line, and where it ends: set as one, as a thread compares it.
    _last: tuple[int, bytes] = attrs.field(default=(0, b""), init=False)
    _synced: int = attrs.field(default=0, init=False)
    # Room on the disk that is given back when there is no other.
    _reserve: io.FileIO | None = attrs.field(default=None, init=False)
    _is_full: bool = attrs.field(default=False, init=False)
    _is_spoilt: bool = attrs.field(default=False, init=False)
    _is_closed: bool = attrs.field(default=False, init=False)
    # What another program did to it: it cannot be gone on with.
    _damage: Literal["displaced", "changed"] | None = attrs.field(
        default=None, init=False
    )
    # Why what was written may not be on the disk.
    _error: OSError | None = attrs.field(default=None, init=False)
    _fsync: GroupFsync | None = attrs.field(default=None, init=False)
    # Of a pipe, a terminal or a device: it owns the descriptor.
    _pipe: PipeWriter | None = attrs.field(default=None, alias="pipe")
    unwritten: int = attrs.field(default=0, init=False)
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
        Open or make a file, and lock it; nothing in it is changed.

        Args:
            path: Of a file, a pipe or a device; ``-`` for stdout.
            fresh: Put aside what stands there, and make a new one.
            cancelled: Set when nobody waits for a FIFO's reader any more.

        Raises:
            JournalError: If there cannot be one.
            JournalLockedError: If somebody writes to it.
        """
        if path == STDOUT:
            return cls._stream(_STDOUT_NAME, _dup_stdout())
        try:
            if _is_pipe_or_device(path):
                return cls._stream(
                    path, _open_stream(path, cancelled or threading.Event())
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
            path=name,
            is_stdout=name == _STDOUT_NAME or _is_stdout(fd),
            is_locked=False,
            backup=None,
            fd=fd,
            end=None,
            is_new=False,
            pipe=PipeWriter(fd),
        )

    @classmethod
    def _open_file(cls, path: str, *, fresh: bool) -> Self:
        # A link is followed; one to nowhere is refused. The working directory
        # may change while the file is open.
        real = (
            os.path.realpath(path)
            if Path(path).exists()
            else os.path.abspath(path)  # noqa: PTH100
        )
        backup = None
        for _ in range(_TRIES):
            fd, is_new = _open_or_make(real)
            try:
                is_locked = _lock(fd)
                # Whoever had the lock before may have moved or removed it.
                is_there = not _is_displaced(real, fd)
                size = os.fstat(fd).st_size
                if is_there and not (fresh and size):
                    return cls(
                        name=path,
                        path=real,
                        is_stdout=_is_stdout(fd),
                        is_locked=is_locked,
                        backup=backup,
                        fd=fd,
                        end=size,
                        is_new=is_new,
                    )
                if is_there:
                    backup = _back_up(real)
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
        raise JournalError(
            f"{path}: cannot be opened: it is moved or replaced again and "
            f"again: see what does that, or use another path"
        )

    @property
    def is_stream(self) -> bool:
        """Whether what goes there cannot be read again."""
        return self._end is None

    @property
    def pending(self) -> int:
        """How many lines wait for the reader of a pipe."""
        return 0 if self._pipe is None else self._pipe.pending

    async def drain(self) -> None:
        """
        Wait until a pipe has taken all lines; a file has taken them at once.

        Raises:
            JournalError: If one cannot be written.
        """
        if self._pipe is not None:
            try:
                await self._pipe.drain()
            except OSError as exc:
                raise self._unwritable(exc) from exc

    @property
    def is_damaged(self) -> bool:
        """Whether another program deleted, moved or changed it."""
        return self._damage is not None

    @property
    def fd(self) -> int:
        """The file descriptor."""
        return self._fd

    def lines(self, goes_on: Callable[[bytes], bool]) -> Iterator[bytes]:
        """
        Read all lines, their ends included; a pipe has none.

        Args:
            goes_on: Tells from its first 16 MiB whether a line can be a
                record.

        Raises:
            JournalMismatchError: If a line is longer and no record.
        """
        if self._end is None:
            return
        raw = io.FileIO(self._fd, closefd=False)
        raw.seek(0)
        with io.BufferedReader(raw, _BLOCK) as reader:
            number = 0
            while line := reader.readline(_LONG):
                number += 1
                if len(line) == _LONG and line[-1:] != b"\n":
                    if not goes_on(line):
                        raise JournalMismatchError(
                            f"{self.name}: line {number} is too long and is "
                            f"no record of a session: use another path"
                        )
                    line += reader.readline()
                yield line

    def repair(self, *, end: int, missing: bytes, count: int) -> None:
        """
        Drop what stands behind *end*, or append what is *missing* there.

        Each is one step, so that it may be interrupted anywhere. A file that
        others can read is taken from them.

        Args:
            end: Where the last whole line ends.
            missing: What that line lacks.
            count: Of the records that there are.

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
        self._end = self._synced = end
        self._last = end, b""
        if missing:
            self.append(missing)
        self._count = count

    def reserve(self, size: int) -> None:
        """
        Keep so many bytes of the disk for lines that are to come; blocks.

        They are in a file without a name beside this one. When the disk is
        full, it is given up, and they are written all the same.

        Raises:
            JournalError: If they could not be written now.
        """
        if self._end is None:
            return
        self._drop_reserve()
        self._is_full = False
        try:
            self._reserve = tempfile.TemporaryFile(  # noqa: SIM115
                dir=os.path.dirname(self._path),  # noqa: PTH120
                buffering=0,
            )
            # Where they would be, as there may be a limit for files, too.
            os.lseek(self._reserve.fileno(), self._end, os.SEEK_SET)
            _write(self._reserve.fileno(), os.urandom(size))
            sync(self._reserve.fileno())
        except OSError as exc:
            self._drop_reserve()
            if exc.errno in _HOPELESS:
                raise JournalError(
                    f"{self.name}: cannot be written: {exc.strerror}: "
                    f"nothing was sent, as it could not be recorded"
                ) from exc

    def _drop_reserve(self) -> bool:
        reserve, self._reserve = self._reserve, None
        if reserve is None:
            return False
        reserve.close()
        return True

    def append(self, line: bytes) -> None:
        """
        Write a line; it survives this process from then on.

        Where an event loop is running, a line for a pipe is queued: `drain`
        waits for it.

        Raises:
            JournalError: If it did not get there whole, or if earlier ones
                may not have got to the disk.
        """
        with self._lock:
            if self._error is not None:
                raise self._unwritable(self._error)
            self._append(line)

    def _append(self, line: bytes) -> None:
        if self._is_closed:
            raise JournalError(f"{self.name}: was closed")
        if self._pipe is not None:
            try:
                self._pipe.write(line)
            except OSError as exc:
                raise self._unwritable(exc) from exc
            return
        if self._is_spoilt:
            raise JournalError(
                f"{self.name}: cannot be written: its last line is torn"
            )
        try:
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
                self._fsync = GroupFsync(self._bring_to_disk)
            self._fsync.schedule()

    def _write_whole(self, line: bytes) -> None:
        written = 0
        try:
            written = os.write(self._fd, line)
            if written < len(line):
                _write(self._fd, memoryview(line)[written:])
        except OSError:
            if written:
                self._drop_torn_line()
            raise

    def refuse_if_broken(self) -> None:
        """
        Refuse to go on where a record may not be kept; does not block.

        Raises:
            JournalError: If something is wrong with the file.
        """
        self._refuse_if_lost()
        if self._is_full:
            raise JournalError(
                f"{self.name}: its disk is full: nothing more is sent; make "
                f"room, and do the same again"
            )

    def _refuse_if_lost(self) -> None:
        if self._damage is not None:
            raise JournalError(
                f"{self.name}: was deleted, renamed or changed by another "
                f"program: nothing more is sent"
            )
        if self._error is not None:
            raise self._unwritable(self._error)

    def sync(self) -> None:
        """
        Bring it to the disk; blocks.

        Raises:
            JournalError: If it may not be there, or nowhere to be found.
        """
        if self._end is not None:
            self._bring_to_disk()
            self._refuse_if_lost()

    def close(self) -> None:
        """
        Bring it to the disk and close it; an empty one is removed again.

        What another program deleted meanwhile is saved beside it.

        Raises:
            JournalError: If it may not be on the disk, or is not where it
                was; it says where the records are. If a pipe has not taken
                all lines; `unwritten` says how many.
        """
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        if self._pipe is not None:
            self._close_pipe(self._pipe)
            return
        report = None
        try:
            if self._fsync is not None:
                self._fsync.close()
            if self._end:
                self._look_for_damage(*self._last)
                self.unsynced = self._read_unsynced()
                report = self._report_damage()
            elif self._is_new and not _is_displaced(self._path, self._fd):
                with suppress(OSError):
                    os.unlink(self._path)  # noqa: PTH108
        finally:
            self._release()
        if report is not None:
            raise JournalError(f"{self.name}: {report}")
        if self._error is not None:
            raise self._unwritable(self._error) from self._error

    def _close_pipe(self, pipe: PipeWriter) -> None:
        self._fd = -1
        self.unwritten = len(pipe.close())
        if self.unwritten:
            assert pipe.error is not None  # noqa: S101 - the pipe lost lines
            raise self._unwritable(pipe.error) from pipe.error

    def leave(self) -> None:
        """Close a file that nothing was written to, wherever it is now."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._release()

    def _release(self) -> None:
        self._drop_reserve()
        if self._pipe is not None:
            self._close_pipe(self._pipe)
            return
        fd, self._fd = self._fd, -1
        os.close(fd)

    def _bring_to_disk(self) -> None:
        # In this order: what is written from now on belongs to the next one.
        end, line = self._last
        try:
            sync(self._fd)
        except OSError as exc:
            self._error = exc
        if self._error is None:
            self._synced = end
        self._look_for_damage(end, line)

    def _look_for_damage(self, end: int, line: bytes) -> None:
        if self._damage is not None:
            return
        tail = line[-_TAIL:]
        try:
            if _is_displaced(self._path, self._fd):
                self._damage = "displaced"
            elif os.pread(self._fd, len(tail), end - len(tail)) != tail:
                self._damage = "changed"
        except OSError as exc:
            self._error = exc

    def _read_unsynced(self) -> list[bytes]:
        assert self._end is not None  # noqa: S101 - it is no stream
        if self._error is None or self._damage is not None:
            return []
        with suppress(OSError):
            size = self._end - self._synced
            return os.pread(self._fd, size, self._synced).splitlines()
        return []

    def _report_damage(self) -> str | None:
        if self._damage is None:
            return None
        if self._damage == "changed":
            lost = max(self._count - self._count_lines(), 0)
            return (
                f"was changed by another program while it was open: {lost} "
                f"of its {self._count} records are nowhere, though their "
                f"sessions exist"
            )
        records = f"its records ({self._count})"
        found = _name_of(self._fd)
        if os.fstat(self._fd).st_nlink and not _is_about_to_go(found):
            where = "where it is now" if found is None else f"in {found}"
            return (
                f"was renamed while it was open: {records} are {where}: move "
                f"that back to {self._path} to go on"
            )
        try:
            saved = self._save()
        except OSError as exc:
            return (
                f"was deleted while it was open, and could not be saved: "
                f"{exc.strerror}: {records} are nowhere, though their "
                f"sessions exist"
            )
        return (
            f"was deleted or replaced while it was open: {records} were "
            f"saved to {saved}: move that back to {self._path} to go on"
        )

    def _count_lines(self) -> int:
        with suppress(OSError):
            return sum(
                bool(line.strip()) for line in self.lines(lambda _: True)
            )
        return 0

    def _save(self) -> str:
        try:
            return self._copy_to(self._path)
        except OSError:
            # Its directory may be gone, too.
            name = Path(self._path).name
            return self._copy_to(f"{tempfile.gettempdir()}/{name}")

    def _copy_to(self, path: str) -> str:
        saved = _free_name(f"{path}.saved-")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(saved, flags, _PRIVATE)
        try:
            at = 0
            while piece := os.pread(self._fd, _BLOCK, at):
                _write(fd, piece)
                at += len(piece)
            sync(fd)
        except BaseException:
            os.unlink(saved)  # noqa: PTH108
            raise
        finally:
            os.close(fd)
        _sync_directory(saved)
        return saved

    def _drop_torn_line(self) -> None:
        if self._end is not None:
            try:
                os.ftruncate(self._fd, self._end)
            except OSError:
                self._is_spoilt = True

    def _unwritable(self, exc: OSError) -> JournalError:
        if isinstance(exc, BrokenPipeError):
            return JournalError(
                f"{self.name}: cannot be written: its reader has closed it"
            )
        return JournalError(f"{self.name}: cannot be written: {exc.strerror}")


def _write(fd: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _open_stream(path: str, cancelled: threading.Event) -> int:
    flags = os.O_WRONLY | os.O_CLOEXEC
    if not stat.S_ISFIFO(os.stat(path).st_mode):  # noqa: PTH116
        return os.open(path, flags)
    while True:
        try:
            # Opening waits for a reader, and nothing could interrupt it.
            fd = os.open(path, flags | os.O_NONBLOCK)
        except OSError as exc:
            if exc.errno != errno.ENXIO:
                raise
            if cancelled.wait(_KNOCK):
                raise
        else:
            os.set_blocking(fd, True)
            return fd


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


def _back_up(path: str) -> str:
    # Nobody else does this meanwhile, as we have the lock.
    backup = _free_name(f"{path}.old-")
    os.rename(path, backup)  # noqa: PTH104
    _sync_directory(path)
    return backup


def _free_name(start: str) -> str:
    names = (f"{start}{number}" for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))


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


def _is_displaced(path: str, fd: int) -> bool:
    try:
        found = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        # It may be there all the same.
        return False
    return not os.path.samestat(found, os.fstat(fd))


def _name_of(fd: int) -> str | None:
    # Linux knows what an open file is called now.
    try:
        name = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
    except OSError:
        return None
    return None if _is_displaced(name, fd) else name


def _is_about_to_go(name: str | None) -> bool:
    # NFS keeps what was deleted under such a name until it is closed.
    return name is not None and Path(name).name.startswith(".nfs")


def _is_pipe_or_device(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)
