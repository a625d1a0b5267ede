"""
Time limits for many tasks with one timer of the event loop.
"""

import asyncio
import math


class Alarm:
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

    def __init__(self, alarms: "Alarms", when: float) -> None:
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


class Alarms:
    """
    All alarms of one event loop.

    `asyncio.timeout` sets and cancels a timer of the loop for every call,
    and almost none of them ever fires. Here one timer waits for the earliest
    limit; setting and clearing an alarm is a set operation.

    Attributes:
        loop: It.
        due: When that timer fires, on the loop's clock.
        pending: Alarms that have not rung.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self.due = math.inf
        self.pending: set[Alarm] = set()

    def expect(self, when: float) -> None:
        """Have the timer fire at *when*, which is before it is due."""
        self.close()
        self.due = when
        self._timer = self.loop.call_at(when, self._ring)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.due = None, math.inf

    def _ring(self) -> None:
        self._timer, self.due = None, math.inf
        now = self.loop.time()
        for alarm in [alarm for alarm in self.pending if alarm.when <= now]:
            self.pending.discard(alarm)
            alarm.ring()
        if self.pending:
            self.expect(min(alarm.when for alarm in self.pending))
