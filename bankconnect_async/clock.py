"""
The clock as a value, which tests can replace.
"""

import asyncio
import time

from typing import Final, Protocol


class Clock(Protocol):
    """
    The source of time, for retries and batches.
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
    The system's clock.
    """

    #: The clock that event loops use by default.
    monotonic: "staticmethod[[], float]" = staticmethod(time.monotonic)
    #: The wall clock.
    time: "staticmethod[[], float]" = staticmethod(time.time)

    async def sleep(self, seconds: float, /) -> None:
        """Sleep on the running event loop."""
        await asyncio.sleep(seconds)


SYSTEM_CLOCK: Final = SystemClock()
