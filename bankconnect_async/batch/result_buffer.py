"""
The buffer of outcomes between the workers of a batch and its consumer.
"""

import asyncio

from collections import deque

from .outcomes import Outcome


class ResultBuffer:
    """
    A queue of outcomes that can put them into the order of the source.

    Args:
        ordered: Whether outcomes leave in the order of their indexes.
    """

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._pending: dict[int, Outcome | None] = {}
        self._next_index = 0
        self._ready: deque[Outcome] = deque()
        self._changed = asyncio.Event()
        self._is_closed = False

    def put(self, outcome: Outcome) -> None:
        """Add an outcome."""
        if self._ordered:
            self._insert(outcome.index, outcome)
        else:
            self._ready.append(outcome)
        self._changed.set()

    def skip(self, index: int) -> None:
        """Expect no outcome for the input at *index*."""
        if self._ordered:
            self._insert(index, None)
            self._changed.set()

    def _insert(self, index: int, outcome: Outcome | None) -> None:
        self._pending[index] = outcome
        while self._next_index in self._pending:
            following = self._pending.pop(self._next_index)
            self._next_index += 1
            if following is not None:
                self._ready.append(following)

    def get_nowait(self) -> Outcome | None:
        """Return the next outcome, if there is one."""
        return self._ready.popleft() if self._ready else None

    async def get(self) -> Outcome | None:
        """Wait for the next outcome; `None` after the last."""
        while not self._ready and not self._is_closed:
            self._changed.clear()
            await self._changed.wait()
        return self.get_nowait()

    def close(self) -> None:
        """Release what is left, in order, and let `get` end."""
        # After a drain there are gaps that nothing will fill.
        for _, outcome in sorted(self._pending.items()):
            if outcome is not None:
                self._ready.append(outcome)
        self._pending.clear()
        self._is_closed = True
        self._changed.set()
