"""
Which webhooks were seen already.
"""

import datetime

from collections import OrderedDict
from typing import Protocol

import attrs

from bankconnect_async.clock import SYSTEM_CLOCK, Clock


class DedupStore(Protocol):
    """
    Where keys of webhooks are kept.

    A service of several processes keeps them where all of them look, such as
    ``SET key "" NX EX 3600`` of Redis.
    """

    async def add(self, key: str, /) -> bool:
        """Note *key*, and tell whether it is new."""
        ...

    async def discard(self, key: str, /) -> None:
        """Forget *key*, because its webhook was not taken after all."""
        ...


def _positive(
    _: object, attribute: "attrs.Attribute[int]", value: int
) -> None:
    if value < 1:
        raise ValueError(f"{attribute.name} must be 1 or more")


@attrs.define(eq=False)
class RecentKeys:
    """
    Keeps keys in this process, for a while and not without end.

    The entity flow reports a failure that happens twice in the same words,
    so the while should not be long.

    Attributes:
        limit: How many; the oldest makes way.
        max_age: For how long.
        clock: A seam for tests.
    """

    limit: int = attrs.field(default=10_000, validator=_positive)
    max_age: datetime.timedelta = datetime.timedelta(hours=1)
    clock: Clock = attrs.field(default=SYSTEM_CLOCK, repr=False)
    _keys: OrderedDict[str, float] = attrs.field(
        init=False, repr=False, factory=OrderedDict
    )

    async def add(self, key: str, /) -> bool:
        """Note *key*, and tell whether it is new."""
        now = self.clock.monotonic()
        self._forget(now - self.max_age.total_seconds())
        if key in self._keys:
            return False
        self._keys[key] = now
        if len(self._keys) > self.limit:
            self._keys.popitem(last=False)
        return True

    async def discard(self, key: str, /) -> None:
        """Forget *key*."""
        self._keys.pop(key, None)

    def __len__(self) -> int:
        return len(self._keys)

    def _forget(self, before: float) -> None:
        while self._keys and next(iter(self._keys.values())) <= before:
            self._keys.popitem(last=False)
