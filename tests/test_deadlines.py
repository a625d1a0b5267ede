"""
One timer limits many tasks, and swallows no foreign cancellation.
"""

import asyncio
import math

import pytest

from bankconnect_async._http.deadlines import Deadline, DeadlineScheduler


@pytest.fixture(name="deadlines")
async def _deadlines():
    """Return a scheduler of the running loop."""
    deadlines = DeadlineScheduler(asyncio.get_running_loop())
    yield deadlines
    deadlines.close()


async def limited(deadlines, seconds, work):
    """
    Await *work* for at most *seconds*; return whether the deadline expired.
    """
    deadline = Deadline(deadlines, seconds, seconds)
    try:
        await work
    except asyncio.CancelledError:
        if not deadline.absorb_cancel():
            raise
        return True
    else:
        return False
    finally:
        deadline.clear()


async def test_only_late_tasks_expire(deadlines):
    """
    Of many tasks only those past their deadline are cancelled.
    """
    never = asyncio.Event()
    early = asyncio.Event()
    early.set()

    expired = await asyncio.gather(
        *(limited(deadlines, 0.01 * n, never.wait()) for n in range(5)),
        *(limited(deadlines, 60, early.wait()) for _ in range(5)),
    )

    assert expired == [True] * 5 + [False] * 5
    assert not deadlines.pending


async def test_a_task_goes_on_after_its_deadline(deadlines):
    """
    The cancellation is undone: the task is not marked as cancelled.
    """
    assert await limited(deadlines, 0, asyncio.Event().wait())
    task = asyncio.current_task()

    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_a_foreign_cancel_goes_first(deadlines):
    """
    A task that is cancelled from outside while its deadline expires ends as
    cancelled.
    """
    task = asyncio.create_task(limited(deadlines, 60, asyncio.Event().wait()))
    await asyncio.sleep(0)
    task.cancel()
    for deadline in deadlines.pending:
        deadline.expire()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert not deadlines.pending


async def test_a_part_of_the_work_can_be_limited(deadlines):
    """
    A part of the work gets a limit of its own within the deadline.
    """
    deadline = Deadline(deadlines, math.inf, math.inf)
    deadline.limit(0)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.Event().wait()

    assert deadline.absorb_cancel()
    assert not deadline.absorb_cancel()


async def test_a_late_cancel_is_taken_back(deadlines):
    """
    If the work ends before the cancellation arrives, clearing undoes it.
    """
    task = asyncio.current_task()
    assert task is not None
    deadline = Deadline(deadlines, 0, 0)
    deadline.expire()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)

    deadline.clear()

    assert task.cancelling() == 0


async def test_one_timer_serves_all(deadlines, monkeypatch):
    """
    A thousand deadlines of the same length arm the loop's timer once.
    """
    loop = asyncio.get_running_loop()
    armed = []
    call_at = loop.call_at
    monkeypatch.setattr(
        loop, "call_at", lambda *args: armed.append(args) or call_at(*args)
    )
    for n in range(1000):
        Deadline(deadlines, 2000, 30 + n).clear()

    assert len(armed) == 1


async def test_thousands_expire_in_several_turns(deadlines):
    """
    The loop goes on while many tasks expire at once.
    """
    never = asyncio.Event()
    tasks = [
        asyncio.create_task(limited(deadlines, 0, never.wait()))
        for _ in range(1000)
    ]
    await asyncio.sleep(0)
    left, most = len(deadlines.pending), 0
    while deadlines.pending:
        await asyncio.sleep(0)
        most = max(most, left - len(deadlines.pending))
        left = len(deadlines.pending)

    assert await asyncio.gather(*tasks) == [True] * 1000
    assert 0 < most <= 100
