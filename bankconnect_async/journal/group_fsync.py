"""
What was written, brought to the disk in groups and beside the event loop.
"""

import asyncio
import errno
import os
import threading

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final


#: Seconds of writes that go to the disk together.
GROUP: Final = 0.1
# What file systems say that have nothing to sync.
_NEEDLESS: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})


class GroupFsync:
    """
    Syncs a file in a thread, a tenth of a second after it was written.

    If a loop was running then, it keeps the time, and has to go on. The
    thread knows nothing of time: one that waits in Python takes the
    interpreter's lock from the event loop again and again, which cost each
    record some 5 us.

    Args:
        work: Brings what was written to the disk.

    Attributes:
        error: Why what was written may not be on the disk.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._is_scheduled = False
        # Keeps the time of what is noted, if it is a loop that does so.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: threading.Timer | None = None
        self._is_closed = False
        # Held for no longer than handing over takes.
        self._handing_over = threading.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self.error: OSError | None = None

    def schedule(self) -> None:
        """Fsync the file a tenth of a second from now."""
        # A loop that stands still may never call.
        if self._is_scheduled and (
            self._loop is None or self._loop.is_running()
        ):
            return
        self._is_scheduled = True
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
            self._timer = timer = threading.Timer(GROUP, self._hand_over)
            timer.daemon = True
            # An interpreter that is about to end starts nothing more.
            with suppress(RuntimeError):
                timer.start()
        else:
            self._loop.call_later(GROUP, self._hand_over)

    def close(self) -> None:
        """Sync what is left; blocks until it is done."""
        with self._handing_over:
            self._is_closed = True
        if self._timer is not None and self._timer.ident is not None:
            self._timer.cancel()
            self._timer.join()
        if self._thread is not None:
            self._thread.shutdown()
        if self._is_scheduled:
            self._sync()

    def _hand_over(self) -> None:
        with self._handing_over:
            if self._is_closed:
                return
            if self._thread is None:
                self._thread = ThreadPoolExecutor(
                    1, thread_name_prefix="journal"
                )
            try:
                self._thread.submit(self._sync)
            except RuntimeError:
                self._sync()

    def _sync(self) -> None:
        # In this order: what is noted from now on belongs to the next one.
        self._is_scheduled = False
        try:
            self._work()
        except OSError as exc:
            self.error = exc


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
