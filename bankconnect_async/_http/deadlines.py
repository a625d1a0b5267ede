"""
Time limits for many tasks with one timer of the event loop.
"""

import asyncio
import math

from typing import Final


# Turns of the event loop between a deadline and its cancel. The loop fires
# timers before it wakes the tasks whose sockets it has just read, so after
# a stall each answer that had come in time would be lost. A connection takes
# about six turns from being made to its request.
_GRACE_TURNS: Final = 16
# Tasks cancelled in one turn; each costs some 0.1 ms.
_AT_ONCE: Final = 100


class Deadline:
    """
    A time limit on one task's current work.

    It is set when it is made, in that task, and has to be cleared.

    Args:
        scheduler: The scheduler of the running loop.
        when: Time on the loop's clock.

    Attributes:
        when: At which the task is cancelled.
        expired: Whether that happened.
    """

    __slots__ = ("_cancelling", "_scheduler", "_task", "expired", "when")

    def __init__(self, scheduler: "DeadlineScheduler", when: float) -> None:
        # Finding out which loop runs is a system call.
        task = asyncio.current_task(scheduler.loop)
        assert task is not None  # noqa: S101 - we are in a coroutine
        self._scheduler = scheduler
        self._task = task
        self._cancelling = task.cancelling()
        self.when = when
        self.expired = False
        scheduler.pending.add(self)
        if when < scheduler.due:
            scheduler.schedule(when)

    def reschedule(self, when: float) -> None:
        """Set another time."""
        self.when = when
        if when < self._scheduler.due:
            self._scheduler.schedule(when)

    def clear(self) -> None:
        """Take the limit away; the work is over."""
        self._scheduler.pending.discard(self)
        if self.expired:
            # The work ended before the cancel arrived.
            self.absorb_cancel()

    def absorb_cancel(self) -> bool:
        """
        Tell whether a `CancelledError` is ours alone, and take it back.

        If somebody else cancelled the task as well, theirs goes first.
        """
        if not self.expired:
            return False
        self.expired = False
        return self._task.uncancel() <= self._cancelling

    def was_cancelled(self) -> bool:
        """
        Tell whether somebody asked for this task to be cancelled.

        A `CancelledError` can also stray in from a future that was shared
        with others, as aiohttp's name lookups are.
        """
        return self._task.cancelling() > self._cancelling

    def expire(self) -> None:
        """Cancel the task."""
        self.expired = True
        self._task.cancel()


class DeadlineScheduler:
    """
    All deadlines of one event loop.

    A deadline expires some turns of the loop after its time, and only if its
    work is not over by then.

    `asyncio.timeout` sets and cancels a timer of the loop for every call,
    and almost none of them ever fires. Here one timer waits for the earliest
    limit; setting and clearing a deadline is a set operation.

    Attributes:
        loop: It.
        due: When that timer fires, on the loop's clock.
        pending: The deadlines that have not expired.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._handle: asyncio.Handle | None = None
        self.due = math.inf
        self.pending: set[Deadline] = set()

    def schedule(self, when: float) -> None:
        """Have the timer fire at *when*, which is before it is due."""
        self.close()
        self.due = when
        self._handle = self.loop.call_at(when, self._fire)

    def close(self) -> None:
        """Stop the timer."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self.due = None, math.inf

    def _fire(self) -> None:
        now = self.loop.time()
        if any(deadline.when <= now for deadline in self.pending):
            # No timer is needed until they have expired.
            self.due = -math.inf
            self._expire(now, _GRACE_TURNS)
        else:
            self._schedule_next()

    def _expire(self, overdue_at: float, turns: int) -> None:
        if turns:
            self._handle = self.loop.call_soon(
                self._expire, overdue_at, turns - 1
            )
            return
        overdue = [
            deadline
            for deadline in self.pending
            if deadline.when <= overdue_at
        ]
        for deadline in overdue[:_AT_ONCE]:
            self.pending.discard(deadline)
            deadline.expire()
        if len(overdue) > _AT_ONCE:
            self._expire(overdue_at, 1)
        else:
            self._schedule_next()

    def _schedule_next(self) -> None:
        self._handle, self.due = None, math.inf
        if self.pending:
            self.schedule(min(deadline.when for deadline in self.pending))
