"""
A semaphore for requests, which serves waiters in order.
"""

import asyncio

from collections import OrderedDict


class FifoSemaphore:
    """
    A semaphore that hands slots to waiters in order.

    Unlike `asyncio.Semaphore`, taking a free slot is a plain call, so the
    uncontended path creates no coroutine.

    Attributes:
        size: The number of slots.
        in_use: The number of slots taken.
    """

    __slots__ = ("_waiters", "in_use", "size")

    def __init__(self, size: int) -> None:
        self.size: int = size
        self.in_use: int = 0
        # A dict, because thousands of waiters may be cancelled at once.
        self._waiters: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """The number of tasks that wait for a slot."""
        return len(self._waiters)

    def try_acquire(self) -> bool:
        """Take a slot if one is free."""
        if self.in_use < self.size:
            self.in_use += 1
            return True
        return False

    async def acquire(self) -> None:
        """Wait in line for a slot, and take it."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._waiters.pop(waiter, None)
            else:
                # The slot was handed over before the cancel came.
                self.release()
            raise

    def release(self) -> None:
        """Hand the slot to the next waiter, or free it."""
        # After `shrink`, surplus slots are not handed on.
        while self._waiters and self.in_use <= self.size:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(None)
                return
        self.in_use -= 1

    def shrink(self, size: int) -> None:
        """Shrink to *size* slots; surplus slots in use are freed later."""
        self.size = min(self.size, size)

    def grow(self, size: int) -> None:
        """Grow to *size* slots."""
        while self.size < size:
            self.size += 1
            self.in_use += 1
            self.release()
