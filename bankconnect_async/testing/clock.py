"""
A double of the clock.
"""

import asyncio

import attrs


@attrs.define
class FakeClock:
    """
    A clock that moves only while something sleeps on it.

    Pass it to a client as ``clock=``, and retries do not wait. Timeouts of
    requests in flight still follow the event loop.

    Attributes:
        now: The value of `monotonic`, in seconds.
        slept: Every sleep, in seconds, in order.
        epoch: The value of `time` while `now` is 0.
    """

    now: float = 0.0
    slept: list[float] = attrs.Factory(list)
    epoch: float = 1_800_000_000.0

    def monotonic(self) -> float:
        """Return the seconds slept so far."""
        return self.now

    def time(self) -> float:
        """
        Return the wall clock time.
        """
        return self.epoch + self.now

    async def sleep(self, seconds: float, /) -> None:
        """
        Advance the clock, after letting other tasks run once.
        """
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)
