"""
What was written, brought to the disk in groups and beside the event loop.
"""

import errno
import os
import threading

from typing import Final


#: Seconds of writes that go to the disk together.
GROUP: Final = 0.1
# What file systems say that have nothing to sync.
_NEEDLESS: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})


class Syncer:
    """
    Syncs a file in a thread, a tenth of a second after it was written.

    Args:
        fd: The file, which stays the caller's to close.

    Attributes:
        error: Why what was written may not be on the disk.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._is_dirty = threading.Event()
        # Cheaper to ask than the event.
        self._is_noted = False
        self._is_closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.error: OSError | None = None

    def note(self) -> None:
        """Take note that something was written."""
        if self._is_noted:
            return
        self._is_noted = True
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="journal", daemon=True
            )
            self._thread.start()
        self._is_dirty.set()

    def close(self) -> None:
        """Sync what is left; blocks until it is done."""
        if self._thread is not None:
            # In this order: whoever sees the second has seen the first.
            self._is_dirty.set()
            self._is_closing.set()
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._is_dirty.wait()
            self._is_closing.wait(GROUP)
            self._is_dirty.clear()
            # In this order: a note that comes now sets the event again.
            self._is_noted = False
            try:
                sync(self._fd)
            except OSError as exc:
                self.error = exc
            if self._is_closing.is_set() and not self._is_dirty.is_set():
                return


def sync(fd: int) -> None:
    """
    Bring a file or a directory to the disk, where there is one.

    Raises:
        OSError: If it may not be there.
    """
    try:
        os.fsync(fd)
    except OSError as exc:
        if exc.errno not in _NEEDLESS:
            raise
