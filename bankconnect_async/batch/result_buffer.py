"""
Buffers of outcomes between the workers of a batch and its consumer.
"""

import asyncio

from typing import TypeVar

from .protocols import Indexed


OutcomeT = TypeVar("OutcomeT", bound=Indexed)


class ResultBuffer(asyncio.Queue[OutcomeT | None]):
    """
    A queue of outcomes, in the order in which they come, with `None` at last.
    """

    def skip(self, index: int) -> None:
        """Expect no outcome for the input at *index*."""

    def close(self) -> None:
        """Let `get` return `None` after what is left."""
        self.put_nowait(None)


class OrderedResultBuffer(ResultBuffer[OutcomeT]):
    """
    A queue of outcomes in the order of the source, with `None` at last.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pending: dict[int, OutcomeT | None] = {}
        self._next_index = 0

    def put_nowait(self, item: OutcomeT | None) -> None:
        """Add an outcome, which leaves after those before it."""
        if item is None:
            super().put_nowait(None)
        else:
            self._insert(item.index, item)

    def skip(self, index: int) -> None:
        """Expect no outcome for the input at *index*."""
        self._insert(index, None)

    def _insert(self, index: int, outcome: OutcomeT | None) -> None:
        self._pending[index] = outcome
        while self._next_index in self._pending:
            following = self._pending.pop(self._next_index)
            self._next_index += 1
            if following is not None:
                super().put_nowait(following)

    def close(self) -> None:
        """Release what is left, in order; then `get` returns `None`."""
        # After a drain there are gaps that nothing will fill.
        for _, outcome in sorted(self._pending.items()):
            if outcome is not None:
                super().put_nowait(outcome)
        self._pending.clear()
        super().close()
