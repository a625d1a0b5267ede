"""
Slots for requests, handed on in the order of asking.
"""

import asyncio

from collections import deque


class Gate:
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
        self._queue: deque[asyncio.Future[None]] = deque()

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
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                # The slot was ours already when the cancel came.
                self.leave()
            elif turn in self._queue:
                self._queue.remove(turn)
            raise

    def leave(self) -> None:
        """Hand the slot on, or free it."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1

    def widen(self, size: int) -> None:
        """Grow to *size* slots; a gate never shrinks."""
        while self.size < size:
            self.size += 1
            self.taken += 1
            self.leave()
