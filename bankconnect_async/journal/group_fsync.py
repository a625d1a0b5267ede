"""
Group commit: one fsync for all writes of a tenth of a second.
"""

import asyncio
import threading

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final


#: Seconds of writes that go to the disk together.
GROUP: Final = 0.1


class GroupFsync:
    """
    Syncs a file in a thread, a tenth of a second after it was written.

    An event loop that is running then keeps the time. The thread does not
    wait: a thread that waits in Python takes the interpreter's lock from the
    event loop again and again, which cost each record some 5 us.

    Args:
        flush: Flushes to the disk what was written; it blocks.

    Attributes:
        error: The reason why what was written may not be on the disk.
    """

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush = flush
        self._is_scheduled = False
        # The loop that keeps the time, if one does.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: threading.Timer | None = None
        self._is_closed = False
        # Held while work is given to the thread.
        self._submitting = threading.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self.error: OSError | None = None

    def schedule(self) -> None:
        """Fsync the file a tenth of a second from now."""
        # A loop that was stopped may never call.
        if self._is_scheduled and (
            self._loop is None or self._loop.is_running()
        ):
            return
        self._is_scheduled = True
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
            self._timer = timer = threading.Timer(GROUP, self._submit)
            timer.daemon = True
            # An interpreter that is about to end starts no thread.
            with suppress(RuntimeError):
                timer.start()
        else:
            self._loop.call_later(GROUP, self._submit)

    def close(self) -> None:
        """Flush what is left; blocks until it is done."""
        with self._submitting:
            self._is_closed = True
        if self._timer is not None and self._timer.ident is not None:
            self._timer.cancel()
            self._timer.join()
        if self._thread is not None:
            self._thread.shutdown()
        if self._is_scheduled:
            self._sync()

    def _submit(self) -> None:
        with self._submitting:
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
        # In this order: what is written from now on belongs to the next one.
        self._is_scheduled = False
        try:
            self._flush()
        except OSError as exc:
            self.error = exc
