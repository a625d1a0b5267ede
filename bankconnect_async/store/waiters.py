"""
Tasks that wait for a change of something with a key.
"""

import asyncio

from collections.abc import Hashable
from typing import Final, Self


class Waiters:
    """
    Wakes the tasks of this process that wait for a key.
    """

    def __init__(self) -> None:
        self._futures: Final[dict[Hashable, set[asyncio.Future[None]]]] = {}

    def __bool__(self) -> bool:
        return bool(self._futures)

    def watch(self, key: Hashable) -> "KeyWatch":
        """
        Return a context in which no change of *key* is missed.
        """
        return KeyWatch(self._futures, key)

    def wake(self, key: Hashable) -> None:
        """Wake the tasks that wait for *key*."""
        _finish(self._futures.get(key, ()))

    def wake_all(self) -> None:
        """Wake all tasks that wait."""
        for futures in self._futures.values():
            _finish(futures)


class KeyWatch:
    """
    Waits for the next change of one key since it was entered.

    Args:
        futures: The futures of all tasks that wait, by key.
        key: The key.
    """

    def __init__(
        self,
        futures: dict[Hashable, set[asyncio.Future[None]]],
        key: Hashable,
    ) -> None:
        self._futures = futures
        self._key = key

    def __enter__(self) -> Self:
        self._future = asyncio.get_running_loop().create_future()
        self._futures.setdefault(self._key, set()).add(self._future)
        return self

    def __exit__(self, *_: object) -> None:
        futures = self._futures[self._key]
        futures.discard(self._future)
        if not futures:
            del self._futures[self._key]

    async def wait(self, seconds: float) -> None:
        """Wait for the change, at most so many *seconds*."""
        await asyncio.wait((self._future,), timeout=seconds)


def _finish(futures: "set[asyncio.Future[None]] | tuple[()]") -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
