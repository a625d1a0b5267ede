"""
Wait for a right that other processes may hold.
"""

import asyncio
import datetime
import time

from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from bankconnect_async.retry import uniform

from .entries import Reserved, SessionEntry
from .waiters import Waiters


# The pauses, in seconds, between two looks at a right of another process.
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.25


async def poll_reservation(
    reserved: Reserved,
    *,
    attempt: Callable[
        [Reserved, datetime.timedelta],
        Awaitable[Reserved | SessionEntry | float],
    ],
    give_back: Callable[[Reserved], None],
    waiters: Waiters,
) -> Reserved | SessionEntry:
    """
    Try to reserve until there is a live entry or the right is granted.

    Args:
        reserved: The right, as it is if it is granted at once.
        attempt: The function that tries it once, with the right and the time
            that has passed. It returns the live entry, the right, or the
            seconds after which to try again at the latest.
        give_back: The function that ends a right that may be granted to a
            caller who has gone.
        waiters: The tasks of this process that wait.
    """
    started, pause = time.monotonic(), _FIRST_PAUSE
    passed = datetime.timedelta()
    while True:
        current = attrs.evolve(reserved, until=reserved.until + passed)
        with waiters.watch(reserved.key) as change:
            try:
                found = await attempt(current, passed)
            except asyncio.CancelledError:
                give_back(current)
                raise
            if isinstance(found, Reserved | SessionEntry):
                return found
            # Jitter, so that processes that wait spread out.
            await change.wait(min(pause * uniform(0.5, 1), max(found, 0.001)))
        pause = min(2 * pause, _LONGEST_PAUSE)
        passed = datetime.timedelta(seconds=time.monotonic() - started)
