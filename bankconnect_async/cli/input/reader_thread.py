"""
Rows for a batch, without ever keeping its event loop waiting.
"""

import asyncio
import threading

from collections.abc import AsyncIterator, Iterable
from contextlib import closing, suppress
from typing import BinaryIO, Final, Generic, TypeAlias, TypeVar

from .rows import UntrustedRowsError
from .sources import Input


T = TypeVar("T")

# Rows, what reading one raised, or `None` at the end.
_Chunks: TypeAlias = asyncio.Queue[list[T] | Exception | None]

# Handing over each row by itself would halve the rate of a batch.
_CHUNK_ROWS: Final = 64
_CHUNKS_AHEAD: Final = 2


class RowReader(Generic[T]):
    """
    Hands out rows until they end, or until it is told to stop.

    A thread reads them. A pipe may be silent for hours, and a file may be
    slow or hold a million blank lines, while requests are in flight and
    somebody presses Ctrl-C.

    Args:
        rows: What to hand out, once; a pipe is closed at its end.
        source: What they are read from.
    """

    def __init__(self, rows: Iterable[T], source: Input) -> None:
        self._rows = rows
        self._source = source
        self._queue: _Chunks[T] = asyncio.Queue()
        self._stopped = False

    def close(self) -> None:
        """Hand out nothing more."""
        self._stopped = True
        self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[T]:
        thread = self._start_thread()
        try:
            while (chunk := await self._queue.get()) is not None:
                if isinstance(chunk, Exception):
                    raise chunk
                thread.task_done()
                for row in chunk:
                    if self._stopped:
                        return
                    if thread.abort_cause is not None:
                        raise thread.abort_cause
                    yield row
        finally:
            thread.stop()

    def _start_thread(self) -> "ReaderThread[T]":
        thread = ReaderThread(self._queue, asyncio.get_running_loop())
        pipe = self._source.pipe
        if pipe is not None:
            pipe.is_owned_by_thread = True
            pipe.before_read = thread.flush
        threading.Thread(
            target=thread.run,
            args=[self._rows, self._source.stream],
            # It may be waiting for a byte that never comes.
            daemon=True,
        ).start()
        return thread


class ReaderThread(Generic[T]):
    """
    Carries rows from its thread to a loop, some at a time.

    Attributes:
        abort_cause: Why rows that were carried already must not be used.
    """

    def __init__(
        self, queue: _Chunks[T], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._queue = queue
        self._loop = loop
        self._chunk: list[T] = []
        self._slots = threading.Semaphore(_CHUNKS_AHEAD)
        # Of chunks: each has one thread that counts.
        self._chunks_put = self._chunks_taken = 0
        self._stopped = False
        self.abort_cause: UntrustedRowsError | None = None

    def run(self, rows: Iterable[T], stream: BinaryIO) -> None:
        """Deliver all rows, and close *stream*."""
        # A closed loop refuses everything: nobody waits for rows any more.
        with closing(stream), suppress(RuntimeError):
            try:
                for row in rows:
                    if self._stopped:
                        return
                    self._chunk.append(row)
                    is_awaited = self._chunks_put == self._chunks_taken
                    if is_awaited or len(self._chunk) == _CHUNK_ROWS:
                        self.flush()
                self.flush()
            except UntrustedRowsError as exc:
                self.abort_cause = exc
                self._put(exc)
            except Exception as exc:  # noqa: BLE001 - it is the consumer's
                self.flush()
                self._put(exc)
            self._put(None)

    def flush(self) -> None:
        """Hand over what was read; wait until there is room for it."""
        if self._chunk:
            self._slots.acquire()
            self._chunks_put += 1
            chunk, self._chunk = self._chunk, []
            self._put(chunk)

    def task_done(self) -> None:
        """Take note that a chunk was received."""
        self._chunks_taken += 1
        self._slots.release()

    def stop(self) -> None:
        """Read nothing more, as soon as the next row is there."""
        self._stopped = True
        self._slots.release()

    def _put(self, chunk: list[T] | Exception | None) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, chunk)
