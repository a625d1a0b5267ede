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
        taken: Slots in use.
    """

    __slots__ = ("_queue", "size", "taken")

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        # A dict, because thousands may leave the queue at once.
        self._queue: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Who queues."""
        return len(self._queue)

    def enter(self) -> bool:
        """Take a slot, if one is free and nobody waits for it."""
        if self.taken < self.size:
            self.taken += 1
            return True
        return False

    async def queue(self) -> None:
        """Take a slot, as soon as it is our turn."""
        turn = asyncio.get_running_loop().create_future()
        self._queue[turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                # The slot was ours already when the cancel came.
                self.leave()
            else:
                self._queue.pop(turn, None)
            raise

    def leave(self) -> None:
        """Hand the slot on, or free it."""
        # After `narrow`, some slots are not handed on.
        while self._queue and self.taken <= self.size:
            turn, _ = self._queue.popitem(last=False)
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1

    def narrow(self, size: int) -> None:
        """Shrink to *size* slots; those in use beyond that run out."""
        self.size = min(self.size, size)

    def widen(self, size: int) -> None:
        """Grow to *size* slots."""
        while self.size < size:
            self.size += 1
            self.taken += 1
            self.leave()
