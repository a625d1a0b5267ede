"""
Write to pipes and terminals, whose readers may pause for hours.
"""

import asyncio
import errno
import os
import select
import threading

from collections import deque
from typing import Final, TypeAlias


_Waiter: TypeAlias = tuple[
    int, asyncio.AbstractEventLoop, "asyncio.Future[None]"
]

# Seconds that `close` waits for a reader that takes nothing.
_PATIENCE: Final = 2.0


class PipeWriter:
    """
    Writes lines in a thread, so that a full pipe blocks no event loop.

    The thread is the only owner of the descriptor, and closes it: it may be
    inside a write for as long as the reader likes.

    Args:
        fd: The descriptor of a pipe, a terminal or a device.

    Attributes:
        error: The error of a failed write; nothing is written after it.
    """

    def __init__(self, fd: int) -> None:
        self.error: OSError | None = None
        self._fd = fd
        # The first line stays here while it is being written.
        self._lines: deque[bytes] = deque()
        self._put = self._written = 0
        self._changed = threading.Condition()
        self._waiters: deque[_Waiter] = deque()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    @property
    def pending(self) -> int:
        """The number of lines that are not written yet."""
        return len(self._lines)

    def write(self, line: bytes) -> None:
        """
        Write a line, or queue it where an event loop is running.

        Raises:
            OSError: If it cannot be written, or an earlier line could not.
        """
        if _is_in_loop():
            self.put(line)
        elif self._thread is not None:
            self.put(line)
            self.wait()
        elif self.error is not None:
            raise self.error
        else:
            self._write(line)

    def put(self, line: bytes) -> None:
        """
        Queue a line.

        Raises:
            OSError: If an earlier one could not be written.
        """
        if self.error is not None:
            raise self.error
        if self._thread is None:
            self._thread = self._start()
        with self._changed:
            self._lines.append(line)
            self._put += 1
            self._changed.notify_all()

    def _start(self) -> threading.Thread:
        thread = threading.Thread(
            target=self._run,
            name="pipe-writer",
            # The interpreter must be able to end while it waits.
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as exc:
            raise OSError(errno.EAGAIN, str(exc)) from exc
        return thread

    async def drain(self) -> None:
        """
        Wait until all lines queued so far are written.

        Raises:
            OSError: If a line cannot be written.
        """
        with self._changed:
            if self.error is None and self._lines:
                loop = asyncio.get_running_loop()
                future = loop.create_future()
                self._waiters.append((self._put, loop, future))
            else:
                future = None
        if future is not None:
            await future
        if self.error is not None:
            raise self.error

    def close(self) -> list[bytes]:
        """
        Close the pipe, once its reader has taken what is queued.

        Returns:
            The lines that were not written, because the pipe is broken or
            its reader took nothing for seconds.
        """
        if self._thread is None:
            if not self._is_closed:
                self._is_closed = True
                os.close(self._fd)
            return []
        self.wait(_PATIENCE)
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            lost = list(self._lines)
            self._lines.clear()
            is_stalled = bool(lost) and self.error is None
            if is_stalled:
                # Waiters for these lines would wait for ever.
                self.error = TimeoutError(
                    errno.ETIMEDOUT, "its reader takes nothing"
                )
            self._wake()
        if not is_stalled:
            self._thread.join()
        return lost

    def wait(self, patience: float | None = None) -> None:
        """
        Block until all lines are written, or cannot be.

        Args:
            patience: The seconds without progress after which to return.
        """
        with self._changed:
            while self._lines and self.error is None:
                written = self._written
                self._changed.wait(patience)
                if patience is not None and self._written == written:
                    return

    def _run(self) -> None:
        while (line := self._next()) is not None:
            try:
                self._write(line)
            except OSError as exc:
                self.error = exc
            with self._changed:
                if self.error is None and self._lines:
                    self._lines.popleft()
                    self._written += 1
                self._wake()
                self._changed.notify_all()
        os.close(self._fd)

    def _next(self) -> bytes | None:
        with self._changed:
            while not self._is_closed and (not self._lines or self.error):
                self._changed.wait()
            return self._lines[0] if self._lines else None

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                # Another process may have made the pipe non-blocking.
                select.select([], [self._fd], [])

    def _wake(self) -> None:
        while self._waiters:
            target, loop, future = self._waiters[0]
            if self.error is None and target > self._written:
                break
            self._waiters.popleft()
            try:
                loop.call_soon_threadsafe(_set_result, future)
            except RuntimeError:
                # That loop is closed, and nobody waits in it.
                continue


def _set_result(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
