"""
Operations on files that a journal needs, on Windows too.
"""

import errno
import itertools
import os
import stat
import sys
import threading

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final


# Session URLs are credentials: nobody else may read them.
PRIVATE: Final = 0o600

# Windows would write two bytes for the end of a line.
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
# Seconds between attempts to open a FIFO that nobody reads yet.
_FIFO_POLL: Final = 0.05
# What file systems say that have nothing to fsync.
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})
_seeking: Final = threading.Lock()


def open_or_create(path: Path) -> tuple[int, bool]:
    """
    Open a file to append to it, and tell whether it was created.

    Args:
        path: The path of the file.
    """
    flags = os.O_RDWR | os.O_APPEND | _BINARY
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, PRIVATE)
    except FileExistsError:
        return os.open(path, flags), False
    fsync_directory(path)
    return fd, True


def open_stream(path: Path, cancelled: threading.Event) -> int:
    """
    Open a pipe or a device; a FIFO waits for its reader.

    Args:
        path: The path of the pipe.
        cancelled: An event that ends the wait.
    """
    flags = os.O_WRONLY | _BINARY
    if sys.platform == "win32" or not stat.S_ISFIFO(path.stat().st_mode):
        return os.open(path, flags)
    while True:
        try:
            # A blocking open could not be interrupted.
            fd = os.open(path, flags | os.O_NONBLOCK)
        except OSError as exc:
            if exc.errno != errno.ENXIO or cancelled.wait(_FIFO_POLL):
                raise
        else:
            os.set_blocking(fd, True)
            return fd


def make_private(fd: int) -> bool:
    """
    Let nobody but its owner read a file, and tell whether that is so.

    CIFS and vfat have the same permissions for all files, and Windows has
    others.
    """
    if os.chmod not in os.supports_fd:
        return True
    if _is_private(fd):
        return True
    try:
        os.chmod(fd, PRIVATE)
    except OSError as exc:
        if exc.errno not in _UNSUPPORTED | {errno.EPERM}:
            raise
    return _is_private(fd)


def _is_private(fd: int) -> bool:
    return not stat.S_IMODE(os.fstat(fd).st_mode) & ~PRIVATE


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of *data*."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def seek_and_read(fd: int, size: int, offset: int) -> bytes:
    """
    Read bytes from anywhere in a file, and move its position.

    Nothing depends on the position, as writes always append.

    Args:
        fd: The file descriptor.
        size: The most bytes to read.
        offset: The position of the first one.
    """
    with _seeking:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)


#: `os.pread`, which Windows does not have.
read_at: Callable[[int, int, int], bytes] = getattr(os, "pread", seek_and_read)


def fsync(fd: int) -> None:
    """
    Flush a file or a directory to its disk, if it has one.

    Raises:
        OSError: If it may not be there.
    """
    try:
        os.fsync(fd)
    except OSError as exc:
        if exc.errno not in _UNSUPPORTED:
            raise


def fsync_directory(path: Path) -> None:
    """Flush the directory of a new file; Windows cannot."""
    with suppress(OSError):
        fd = os.open(path.parent, os.O_RDONLY)
        try:
            fsync(fd)
        finally:
            os.close(fd)


def copy(fd: int, path: Path, *, block: int = 2**20) -> Path:
    """
    Copy an open file to the next free name after *path*.

    Args:
        fd: The file descriptor.
        path: The start of the name.
        block: The bytes that are read at a time.
    """
    copied = free_name(path)
    target = os.open(
        copied, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, PRIVATE
    )
    try:
        offset = 0
        while piece := read_at(fd, block, offset):
            write_all(target, piece)
            offset += len(piece)
        fsync(target)
    except BaseException:
        copied.unlink()
        raise
    finally:
        os.close(target)
    fsync_directory(copied)
    return copied


def free_name(start: Path) -> Path:
    """Return *start* with the first number that no file has."""
    names = (Path(f"{start}{number}") for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))


def is_displaced(path: Path, fd: int) -> bool:
    """Tell whether a path does not lead to an open file any more."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        # It may be there all the same.
        return False
    return not os.path.samestat(found, os.fstat(fd))


def current_path(fd: int) -> Path | None:
    """Return where a renamed open file is now; only Linux knows."""
    try:
        path = Path(f"/proc/self/fd/{fd}").readlink()
    except OSError:
        return None
    return None if is_displaced(path, fd) else path


def is_deleted(fd: int) -> bool:
    """Tell whether an open file has no name any more."""
    path = current_path(fd)
    # NFS keeps a deleted file under such a name until it is closed.
    is_nfs = path is not None and path.name.startswith(".nfs")
    return is_nfs or not os.fstat(fd).st_nlink


def is_stdout(fd: int) -> bool:
    """Tell whether a descriptor leads where stdout leads."""
    try:
        return os.path.samestat(os.fstat(fd), os.fstat(1))
    except OSError:
        return False


def is_pipe_or_device(path: Path) -> bool:
    """Tell whether a path leads to something that cannot be read again."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)
