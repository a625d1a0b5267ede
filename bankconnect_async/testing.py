"""
Doubles for suites of code that uses this package.

The best double of the vendor is `bankconnect_async.sandbox.Sandbox`: real
HTTP, no patching. What is here controls what a real part cannot: time.
"""

import asyncio

import attrs


@attrs.define
class FakeClock:
    """
    A clock that stands still until something sleeps on it.

    Give it to a client as ``clock=``, and retries wait in no time. Time
    limits of requests in flight still follow the event loop.

    Attributes:
        now: What `monotonic` and, beside an epoch, `time` return; seconds.
        slept: Every sleep, in seconds, in order.
        epoch: What `time` returns while `now` is 0.
    """

    now: float = 0.0
    slept: list[float] = attrs.Factory(list)
    epoch: float = 1_800_000_000.0

    def monotonic(self) -> float:
        """Return the seconds slept so far."""
        return self.now

    def time(self) -> float:
        """Return the wall clock that belongs to it."""
        return self.epoch + self.now

    async def sleep(self, seconds: float, /) -> None:
        """Jump ahead, after letting other tasks run once."""
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)
