"""
Deadlines of many tasks, on one timer of the event loop.
"""

import asyncio
import math

from typing import Final


# Turns of the event loop between a deadline and its cancel. The loop fires
# timers before it wakes the tasks whose sockets it has just read, so after
# a stall each response that had come in time would be lost. A new connection
# takes about six turns to its request.
_GRACE_TURNS: Final = 16
# Tasks cancelled in one turn; each costs some 0.1 ms.
_AT_ONCE: Final = 100


class Deadline:
    """
    A time limit on the work of the current task, and on each part of it.

    The limit starts when the object is made and ends with `clear`.

    Args:
        scheduler: The scheduler of the running loop.
        timeout: The seconds for all of the work.
        limit: The seconds for its first part.

    Attributes:
        end: The time at which all of the work has to be over, on the loop's
            clock.
        when: The time of the cancel, on the loop's clock.
        expired: Whether the deadline cancelled its task.
    """

    __slots__ = (
        "_cancelling",
        "_scheduler",
        "_task",
        "end",
        "expired",
        "when",
    )

    def __init__(
        self, scheduler: "DeadlineScheduler", timeout: float, limit: float
    ) -> None:
        # Finding out which loop runs is a system call.
        task = asyncio.current_task(scheduler.loop)
        if task is None:
            raise RuntimeError("a deadline needs a task")
        self._scheduler = scheduler
        self._task = task
        self._cancelling = task.cancelling()
        self.expired = False
        self.end = scheduler.loop.time() + timeout
        scheduler.pending.add(self)
        self.limit(limit)

    def limit(self, seconds: float) -> None:
        """Limit the part of the work that begins now."""
        when = min(self._scheduler.loop.time() + seconds, self.end)
        self.when = when
        if when < self._scheduler.due:
            self._scheduler.schedule(when)

    def clear(self) -> None:
        """Remove the deadline, because the work is over."""
        self._scheduler.pending.discard(self)
        if self.expired:
            # The work ended before the cancel arrived.
            self.absorb_cancel()

    def absorb_cancel(self) -> bool:
        """
        Take the deadline's own cancel back.

        Returns:
            Whether nobody else cancelled the task.
        """
        if not self.expired:
            return False
        self.expired = False
        return self._task.uncancel() <= self._cancelling

    def was_cancelled(self) -> bool:
        """
        Tell whether the task was asked to cancel.

        A `CancelledError` can also come from a future that several tasks
        share, such as a name lookup of aiohttp.
        """
        return self._task.cancelling() > self._cancelling

    def expire(self) -> None:
        """Cancel the task."""
        self.expired = True
        self._task.cancel()


class DeadlineScheduler:
    """
    Schedules the deadlines of one event loop.

    A task is cancelled some turns of the loop after its deadline, and only
    if its work is not over by then.

    `asyncio.timeout` sets and cancels a timer of the loop for every call,
    and almost none of them ever fires. Here one timer waits for the earliest
    deadline; adding and removing one is a set operation.

    Args:
        loop: The event loop that runs the timer.

    Attributes:
        loop: The event loop that runs the timer.
        due: The time at which the timer fires, on the loop's clock.
        pending: The deadlines that have not expired.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._handle: asyncio.Handle | None = None
        self.due = math.inf
        self.pending: set[Deadline] = set()

    def schedule(self, when: float) -> None:
        """Make the timer fire at *when* instead."""
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
        if any(each.when <= now for each in self.pending):
            # No timer is needed until these have expired.
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
        overdue = [each for each in self.pending if each.when <= overdue_at]
        for each in overdue[:_AT_ONCE]:
            self.pending.discard(each)
            each.expire()
        if len(overdue) > _AT_ONCE:
            self._expire(overdue_at, 1)
        else:
            self._schedule_next()

    def _schedule_next(self) -> None:
        self._handle, self.due = None, math.inf
        if self.pending:
            self.schedule(min(each.when for each in self.pending))
