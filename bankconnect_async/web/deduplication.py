"""
Stores that recognise duplicate webhooks.
"""

import datetime

from collections import OrderedDict
from typing import Protocol

import attrs

from bankconnect_async.clock import SYSTEM_CLOCK, Clock


class DedupStore(Protocol):
    """
    A set of webhook keys.

    A service of several processes implements it on a shared store, such as
    with ``SET key "" NX EX 3600`` of Redis.
    """

    async def add(self, key: str, /) -> bool:
        """Add *key*, and tell whether it is new."""
        ...

    async def discard(self, key: str, /) -> None:
        """Remove *key*, because its webhook was not processed."""
        ...


def _positive(
    _: object, attribute: "attrs.Attribute[int]", value: int
) -> None:
    if value < 1:
        raise ValueError(f"{attribute.name} must be 1 or more")


@attrs.define(eq=False)
class RecentKeys:
    """
    Keeps recent keys in this process.

    The entity flow reports a second failure in the same words as the first,
    so the keys should expire soon.

    Attributes:
        limit: The number of keys; the oldest ones are evicted.
        max_age: The lifetime of a key.
        clock: The clock.
    """

    limit: int = attrs.field(default=10_000, validator=_positive)
    max_age: datetime.timedelta = datetime.timedelta(hours=1)
    clock: Clock = attrs.field(default=SYSTEM_CLOCK, repr=False)
    _keys: OrderedDict[str, float] = attrs.field(
        init=False, repr=False, factory=OrderedDict
    )

    async def add(self, key: str, /) -> bool:
        """Add *key*, and tell whether it is new."""
        now = self.clock.monotonic()
        self._expire(now - self.max_age.total_seconds())
        if key in self._keys:
            return False
        self._keys[key] = now
        if len(self._keys) > self.limit:
            self._keys.popitem(last=False)
        return True

    async def discard(self, key: str, /) -> None:
        """Remove *key*."""
        self._keys.pop(key, None)

    def __len__(self) -> int:
        return len(self._keys)

    def _expire(self, before: float) -> None:
        while self._keys and next(iter(self._keys.values())) <= before:
            self._keys.popitem(last=False)
