"""
Buffers of outcomes between the workers of a batch and its consumer.
"""

from collections import deque
from typing import TypeVar

from .protocols import Indexed


OutcomeT = TypeVar("OutcomeT", bound=Indexed)


# Not an `asyncio.Queue`, which costs each outcome ten calls.
class ResultBuffer(deque[OutcomeT | None]):
    """
    Outcomes in the order in which they come, with `None` at last.
    """

    def skip(self, index: int) -> None:
        """Expect no outcome for the input at *index*."""

    def close(self) -> None:
        """Append the `None` that ends the outcomes."""
        self.append(None)


class OrderedResultBuffer(ResultBuffer[OutcomeT]):
    """
    Outcomes in the order of the source, with `None` at last.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pending: dict[int, OutcomeT | None] = {}
        self._next_index = 0

    def append(self, item: OutcomeT | None, /) -> None:
        """Add an outcome, which follows those before it in the source."""
        if item is None:
            super().append(None)
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
                super().append(following)

    def close(self) -> None:
        """Append what is left, in order, and `None`."""
        # After a drain there are gaps that nothing will fill.
        for _, outcome in sorted(self._pending.items()):
            if outcome is not None:
                super().append(outcome)
        self._pending.clear()
        super().close()
