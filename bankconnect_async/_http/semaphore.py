"""
Slots for requests, handed on in the order of asking.
"""

import asyncio

from collections import OrderedDict


class FifoSemaphore:
    """
    Lets so many in at a time; the others queue.

    `asyncio.Semaphore` would do, but its `acquire` is a coroutine also where
    a slot is free, and asks twice whether one is. Here that costs a
    comparison, and a slot goes straight from who leaves to who waits.

    Attributes:
        size: Slots in all.
        in_use: Slots in use.
    """

    __slots__ = ("_waiters", "in_use", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.in_use = 0
        # A dict, because thousands may leave the queue at once.
        self._waiters: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Who queues."""
        return len(self._waiters)

    def try_acquire(self) -> bool:
        """Take a slot, if one is free and nobody waits for it."""
        if self.in_use < self.size:
            self.in_use += 1
            return True
        return False

    async def acquire(self) -> None:
        """Take a slot, as soon as it is our turn."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                # The slot was ours already when the cancel came.
                self.release()
            else:
                self._waiters.pop(waiter, None)
            raise

    def release(self) -> None:
        """Hand the slot on, or free it."""
        # After `shrink`, some slots are not handed on.
        while self._waiters and self.in_use <= self.size:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(None)
                return
        self.in_use -= 1

    def shrink(self, size: int) -> None:
        """Shrink to *size* slots; those in use beyond that run out."""
        self.size = min(self.size, size)

    def grow(self, size: int) -> None:
        """Grow to *size* slots."""
        while self.size < size:
            self.size += 1
            self.in_use += 1
            self.release()
