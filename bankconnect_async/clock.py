"""
Time as a value that can be passed in, so that tests can jump it.
"""

import asyncio
import time

from typing import Final, Protocol


class Clock(Protocol):
    """
    What retries need to know about time.
    """

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    def time(self) -> float:
        """Return seconds since the epoch, to compare with HTTP dates."""
        ...

    async def sleep(self, seconds: float, /) -> None:
        """Let *seconds* pass."""
        ...


class SystemClock:
    """
    The machine's own clock.
    """

    #: The clock that event loops use by default.
    monotonic = staticmethod(time.monotonic)

    def time(self) -> float:
        """Return the wall clock."""
        return time.time()

    async def sleep(self, seconds: float, /) -> None:
        """Sleep on the running event loop."""
        await asyncio.sleep(seconds)


SYSTEM_CLOCK: Final = SystemClock()
