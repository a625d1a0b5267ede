"""
Limit what one customer can make the service ask of the vendor.
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
    A limit for each customer within a fixed window of ten minutes.

    It is kept in this process, for the last 10,000 customers.

    Attributes:
        limit: The number of times that are allowed.
        clock: A seam for tests.
    """

    limit: int
    clock: Clock = attrs.field(default=SYSTEM_CLOCK, repr=False)
    _counts: OrderedDict[str, tuple[float, int]] = attrs.field(
        init=False, repr=False, factory=OrderedDict
    )

    def allows(self, link_id: str) -> bool:
        """Count one more time, and tell whether it is allowed."""
        now = self.clock.monotonic()
        begun, count = self._counts.pop(link_id, (now, 0))
        if now - begun >= _WINDOW:
            begun, count = now, 0
        self._counts[link_id] = begun, count + 1
        if len(self._counts) > _CUSTOMERS:
            self._counts.popitem(last=False)
        return count < self.limit
