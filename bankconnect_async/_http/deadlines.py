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
        alarms: Those of the running loop.
        when: Time on the loop's clock.

    Attributes:
        when: At which the task is cancelled.
        rang: Whether that happened.
    """

    __slots__ = ("_alarms", "_cancelling", "_task", "rang", "when")

    def __init__(self, alarms: "DeadlineScheduler", when: float) -> None:
        # Finding out which loop runs is a system call.
        task = asyncio.current_task(alarms.loop)
        assert task is not None  # noqa: S101 - we are in a coroutine
        self._alarms = alarms
        self._task = task
        self._cancelling = task.cancelling()
        self.when = when
        self.rang = False
        alarms.pending.add(self)
        if when < alarms.due:
            alarms.expect(when)

    def move(self, when: float) -> None:
        """Set another time."""
        self.when = when
        if when < self._alarms.due:
            self._alarms.expect(when)

    def clear(self) -> None:
        """Take the limit away; the work is over."""
        self._alarms.pending.discard(self)
        if self.rang:
            # The work ended before the cancel arrived.
            self.explains_cancel()

    def explains_cancel(self) -> bool:
        """
        Tell whether a `CancelledError` is ours alone, and take it back.

        If somebody else cancelled the task as well, theirs goes first.
        """
        if not self.rang:
            return False
        self.rang = False
        return self._task.uncancel() <= self._cancelling

    def was_cancelled(self) -> bool:
        """
        Tell whether somebody asked for this task to be cancelled.

        A `CancelledError` can also stray in from a future that was shared
        with others, as aiohttp's name lookups are.
        """
        return self._task.cancelling() > self._cancelling

    def ring(self) -> None:
        """Cancel the task."""
        self.rang = True
        self._task.cancel()


class DeadlineScheduler:
    """
    All alarms of one event loop.

    An alarm rings some turns of the loop after its time, and only if its
    work is not over by then.

    `asyncio.timeout` sets and cancels a timer of the loop for every call,
    and almost none of them ever fires. Here one timer waits for the earliest
    limit; setting and clearing an alarm is a set operation.

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

    def expect(self, when: float) -> None:
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
        if any(alarm.when <= now for alarm in self.pending):
            # No timer is needed until they have rung.
            self.due = -math.inf
            self._ring(now, _GRACE_TURNS)
        else:
            self._expect_next()

    def _ring(self, overdue_at: float, turns: int) -> None:
        if turns:
            self._handle = self.loop.call_soon(
                self._ring, overdue_at, turns - 1
            )
            return
        overdue = [alarm for alarm in self.pending if alarm.when <= overdue_at]
        for alarm in overdue[:_AT_ONCE]:
            self.pending.discard(alarm)
            alarm.ring()
        if len(overdue) > _AT_ONCE:
            self._ring(overdue_at, 1)
        else:
            self._expect_next()

    def _expect_next(self) -> None:
        self._handle, self.due = None, math.inf
        if self.pending:
            self.expect(min(alarm.when for alarm in self.pending))
