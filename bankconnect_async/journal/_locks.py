"""
Locks that keep a second writer away from a file.
"""

import errno
import os
import sys

from typing import Final


if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


# What file systems without locks say, as some in networks do.
_UNSUPPORTED: Final = frozenset(
    {
        errno.EINVAL,
        errno.ENOLCK,
        errno.ENOSYS,
        errno.ENOTSUP,
        errno.EOPNOTSUPP,
    }
)
# Nobody can read a byte that is locked on Windows, so it is the last one to
# which its C library can count.
_LOCKED_BYTE: Final = 2**31 - 1


def lock(fd: int) -> bool:
    """
    Lock a file until `unlock`, and tell whether that is possible.

    A child that is forked meanwhile holds the lock, too.

    Raises:
        BlockingIOError: If another process has locked it.
    """
    try:
        _lock(fd)
    except OSError as exc:
        if exc.errno not in _UNSUPPORTED:
            raise
        return False
    return True


def _lock(fd: int) -> None:
    if sys.platform == "win32":
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError as exc:
            raise BlockingIOError(exc.errno, exc.strerror) from exc
    else:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def unlock(fd: int) -> None:
    """
    Let others lock a file that is about to be closed.
    """
    # Windows has no forks, and ends the lock with the descriptor.
    if sys.platform != "win32":
        fcntl.flock(fd, fcntl.LOCK_UN)
