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
_Arrivals: TypeAlias = asyncio.Queue[list[T] | Exception | None]

# Handing over each row by itself would halve the rate of a batch.
_PARCEL: Final = 64
_PARCELS_AHEAD: Final = 2


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
        self._arrivals: _Arrivals[T] = asyncio.Queue()
        self._stopped = False

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopped = True
        self._arrivals.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[T]:
        courier = self._send_courier()
        try:
            while (parcel := await self._arrivals.get()) is not None:
                if isinstance(parcel, Exception):
                    raise parcel
                courier.welcome()
                for row in parcel:
                    if self._stopped:
                        return
                    if courier.distrust is not None:
                        raise courier.distrust
                    yield row
        finally:
            courier.stop()

    def _send_courier(self) -> "ReaderThread[T]":
        courier = ReaderThread(self._arrivals, asyncio.get_running_loop())
        pipe = self._source.pipe
        if pipe is not None:
            pipe.is_lent = True
            pipe.before_read = courier.deliver
        threading.Thread(
            target=courier.run,
            args=[self._rows, self._source.stream],
            # It may be waiting for a byte that never comes.
            daemon=True,
        ).start()
        return courier


class ReaderThread(Generic[T]):
    """
    Carries rows from its thread to a loop, some at a time.

    Attributes:
        distrust: Why rows that were carried already must not be used.
    """

    def __init__(
        self, arrivals: _Arrivals[T], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._arrivals = arrivals
        self._loop = loop
        self._parcel: list[T] = []
        self._room = threading.Semaphore(_PARCELS_AHEAD)
        # Of parcels: each has one thread that counts.
        self._delivered = self._received = 0
        self._stopped = False
        self.distrust: UntrustedRowsError | None = None

    def run(self, rows: Iterable[T], stream: BinaryIO) -> None:
        """Deliver all rows, and close *stream*."""
        # A closed loop refuses everything: nobody waits for rows any more.
        with closing(stream), suppress(RuntimeError):
            try:
                for row in rows:
                    if self._stopped:
                        return
                    self._parcel.append(row)
                    is_awaited = self._delivered == self._received
                    if is_awaited or len(self._parcel) == _PARCEL:
                        self.deliver()
                self.deliver()
            except UntrustedRowsError as exc:
                self.distrust = exc
                self._put(exc)
            except Exception as exc:  # noqa: BLE001 - it is the consumer's
                self.deliver()
                self._put(exc)
            self._put(None)

    def deliver(self) -> None:
        """Hand over what was read; wait until there is room for it."""
        if self._parcel:
            self._room.acquire()
            self._delivered += 1
            parcel, self._parcel = self._parcel, []
            self._put(parcel)

    def welcome(self) -> None:
        """Take note that a parcel was received."""
        self._received += 1
        self._room.release()

    def stop(self) -> None:
        """Read nothing more, as soon as the next row is there."""
        self._stopped = True
        self._room.release()

    def _put(self, parcel: list[T] | Exception | None) -> None:
        self._loop.call_soon_threadsafe(self._arrivals.put_nowait, parcel)
