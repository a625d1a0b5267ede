"""
Rate limits per customer.
"""

from collections import OrderedDict
from typing import Final

import attrs

from bankconnect_async.clock import SYSTEM_CLOCK, Clock


_WINDOW: Final = 600.0
_CUSTOMERS: Final = 10_000


@attrs.define(eq=False)
class RateLimit:
    """
    Limits each customer within a fixed window of ten minutes.

    It counts in this process, for the 10,000 most recent customers.

    Attributes:
        limit: The number of acquisitions in a window.
        clock: The clock.
    """

    limit: int
    clock: Clock = attrs.field(default=SYSTEM_CLOCK, repr=False)
    _counts: OrderedDict[str, tuple[float, int]] = attrs.field(
        init=False, repr=False, factory=OrderedDict
    )

    def try_acquire(self, link_id: str) -> bool:
        """Count an acquisition, and tell whether it is within the limit."""
        now = self.clock.monotonic()
        started, count = self._counts.pop(link_id, (now, 0))
        if now - started >= _WINDOW:
            started, count = now, 0
        self._counts[link_id] = started, count + 1
        if len(self._counts) > _CUSTOMERS:
            self._counts.popitem(last=False)
        return count < self.limit
