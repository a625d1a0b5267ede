"""
Split one rate limit among the workers of a cluster, in shares that expire.

A share is valid until a time on the worker's own clock, counted from its last
heartbeat. So a worker that was stopped, or that a message reaches late,
cannot use a share which others have by then.
"""

import asyncio
import math

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final


#: Seconds after a heartbeat during which the worker's share is valid.
LEASE: Final = 5.0
# The seconds that a late timer may catch up, and the margin of the window, as
# requests take different times to reach the server.
_CATCH_UP: Final = 0.02
_MARGIN: Final = 1.02
# Seconds for which a share counts after its end, as no second may have more
# requests than the rate.
_SECOND: Final = 1.0


class RateShares:
    """
    Splits a rate so that the shares of one second never add up to more.

    Shares are whole numbers but for one, since three times 16.7 a second
    would be up to 51 in one second.

    Args:
        rate: The requests per second of all workers together.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        # The shares that each worker may use, and those that it has used in
        # the last second, with the latest times until which they count.
        self._granted: dict[str, list[tuple[float, float]]] = {}
        self._former: dict[str, list[tuple[float, float]]] = {}

    @property
    def most(self) -> int:
        """The number of workers that can have a share."""
        return max(1, math.floor(self._rate))

    def grant(
        self, address: str, sharers: Iterable[str], now: float, end: float
    ) -> float:
        """
        Return the share to send to a worker now.

        Args:
            address: The worker.
            sharers: All workers that get a share.
            now: The time.
            end: The latest time at which the share expires.
        """
        others = sum(
            self._count(each, now) for each in self._granted if each != address
        )
        share = min(
            self.wanted(address, sharers), max(self._rate - others, 0.0)
        )
        granted = self._granted.get(address, [])
        self._granted[address] = [
            *_current(granted, now),
            (share, end + _SECOND),
        ]
        return share

    def _count(self, address: str, now: float) -> float:
        counted = self._granted[address] + self._former.get(address, [])
        return max((share for share, _ in _current(counted, now)), default=0.0)

    def wanted(self, address: str, sharers: Iterable[str]) -> float:
        """Return the share that a worker has in the long run."""
        return _split(self._rate, list(sharers)[: self.most]).get(address, 0.0)

    def confirm(
        self, address: str, share: float, now: float, end: float
    ) -> None:
        """
        Note that a worker uses this share now, and no other one.

        Args:
            address: The worker.
            share: The share.
            now: The time.
            end: The latest time at which the share expires.
        """
        granted = self._granted.get(address, [])
        self._granted[address] = [(share, end + _SECOND)]
        self._former[address] = [
            *_current(self._former.get(address, []), now),
            *(
                (former, now + _SECOND)
                for former, _ in _current(granted, now)
                if former > share
            ),
        ]

    def freed_at(self, now: float, sharers: Iterable[str]) -> float | None:
        """
        Return the next time at which a share no longer counts that nobody
        uses any more.

        Args:
            now: The time.
            sharers: All workers that get a share.
        """
        gone = self._granted.keys() - set(sharers)
        unused = [
            *self._former.values(),
            *(self._granted[address] for address in gone),
        ]
        return min(
            (until for each in unused for _, until in _current(each, now)),
            default=None,
        )


class LeasedLimiter:
    """
    Limits the requests of one worker to its share of the rate.

    Args:
        clock: A function that returns the time.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rate = self._end = self._next = 0.0
        self._sent: deque[float] = deque()
        self._changed = asyncio.Event()

    def renew(self, rate: float, end: float) -> None:
        """Use *rate* until the time *end*."""
        self._rate, self._end = rate, end
        self._changed.set()

    async def acquire(self) -> None:
        """Wait until the next request may be sent."""
        while True:
            self._changed.clear()
            wait = self._try()
            if wait == 0:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    def _try(self) -> float | None:
        # Return the seconds to wait; None means: wait for a new share.
        now = self._clock()
        if self._rate <= 0 or now >= self._end:
            return None
        most = math.ceil(self._rate)
        while len(self._sent) > most:
            self._sent.popleft()
        free = self._next
        if len(self._sent) == most:
            free = max(free, self._sent[0] + _MARGIN * most / self._rate)
        if free > now:
            return free - now
        self._sent.append(now)
        self._next = max(self._next, now - _CATCH_UP) + 1 / self._rate
        return 0


def _current(
    shares: list[tuple[float, float]], now: float
) -> list[tuple[float, float]]:
    return [each for each in shares if each[1] > now]


def _split(rate: float, sharers: list[str]) -> dict[str, float]:
    if not sharers:
        return {}
    whole, rest = divmod(rate, len(sharers))
    return {
        each: whole + min(1.0, max(0.0, rest - place))
        for place, each in enumerate(sharers)
    }
