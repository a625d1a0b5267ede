"""
Locks that keep a second writer away from a file; Windows has none.
"""

import errno
import sys

from typing import Final


if sys.platform != "win32":
    import fcntl


# What file systems without locks say, as some in networks do.
_UNSUPPORTED: Final = frozenset(
    {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
)


def lock(fd: int) -> bool:
    """
    Lock a file until it is closed, and tell whether that is possible.

    Raises:
        BlockingIOError: If another process has locked it.
    """
    if sys.platform != "win32":
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno not in _UNSUPPORTED:
                raise
        else:
            return True
    return False
