"""
Reads rows in a thread, so that no read blocks the event loop of a batch.
"""

import asyncio
import threading

from collections.abc import AsyncIterator, Iterable
from contextlib import closing, suppress
from typing import Final, Generic, TypeVar

from .rows import UntrustedRowsError
from .sources import Input


T = TypeVar("T")

# Single rows would halve the rate of a batch.
_CHUNK_ROWS: Final = 64
_CHUNKS_AHEAD: Final = 2


class RowReader(Generic[T]):
    """
    Yields rows that a thread reads, until they end or until `close`.

    A pipe may be silent for hours, and a file may be slow or hold a million
    blank lines, while requests are in flight and the user presses Ctrl-C.

    Args:
        rows: The rows; they are iterated over once.
        source: The input behind them, which is closed at its end.
    """

    def __init__(self, rows: Iterable[T], source: Input) -> None:
        self._rows = rows
        self._source = source
        # Rows, the error of reading one, or `None` at the end.
        self._queue: asyncio.Queue[list[T] | Exception | None]
        self._queue = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._chunk: list[T] = []
        self._slots = threading.Semaphore(_CHUNKS_AHEAD)
        # Each of the two counters is written by one thread only.
        self._chunks_put = self._chunks_taken = 0
        self._is_closed = self._is_left = False
        # Why rows that wait in the queue must not be used.
        self._abort_cause: UntrustedRowsError | None = None

    def close(self) -> None:
        """Yield no more rows."""
        self._is_closed = True
        self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[T]:
        self._loop = asyncio.get_running_loop()
        if self._source.pipe is not None:
            self._source.pipe.is_owned_by_thread = True
            self._source.pipe.before_read = self._flush
        # A daemon may stay blocked in a read when the process exits.
        threading.Thread(target=self._run, daemon=True).start()
        try:
            while (chunk := await self._queue.get()) is not None:
                if isinstance(chunk, Exception):
                    raise chunk
                self._chunks_taken += 1
                self._slots.release()
                for row in chunk:
                    if self._is_closed:
                        return
                    if self._abort_cause is not None:
                        raise self._abort_cause
                    yield row
        finally:
            # The thread ends when it has the next row.
            self._is_left = True
            self._slots.release()

    def _run(self) -> None:
        # A closed loop refuses everything: the batch is over.
        with closing(self._source.stream), suppress(RuntimeError):
            try:
                for row in self._rows:
                    if self._is_left:
                        return
                    self._chunk.append(row)
                    is_awaited = self._chunks_put == self._chunks_taken
                    if is_awaited or len(self._chunk) == _CHUNK_ROWS:
                        self._flush()
                self._flush()
            except UntrustedRowsError as exc:
                self._abort_cause = exc
                self._put(exc)
            except Exception as exc:  # noqa: BLE001 - the iterator raises it
                self._flush()
                self._put(exc)
            self._put(None)

    def _flush(self) -> None:
        # It blocks while the queue is full.
        if self._chunk:
            self._slots.acquire()
            self._chunks_put += 1
            chunk, self._chunk = self._chunk, []
            self._put(chunk)

    def _put(self, chunk: list[T] | Exception | None) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, chunk)
