"""
Work in threads whose callers are cancelled meanwhile.
"""

import asyncio
import contextvars
import threading

from concurrent.futures import ThreadPoolExecutor

import pytest

from bankconnect_async._threads import finish_in_thread, run_in_thread


class Held:
    """
    Work that begins and ends when the test says so.
    """

    def __init__(self):
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.over = False

    def run(self, result=None):
        self.begun.set()
        assert self.go_on.wait(10)
        self.over = True
        if isinstance(result, Exception):
            raise result
        return result


@pytest.fixture(name="held")
def _held():
    """Such work; it ends with the test at the latest."""
    held = Held()
    yield held
    held.go_on.set()


async def begin(task, held):
    """Wait until the thread of *task* has begun."""
    while not held.begun.is_set():
        await asyncio.sleep(0.001)
    assert not task.done()


async def test_results_and_errors_come_back():
    """
    The caller gets the result or the exception, and the work has the caller's
    context.
    """
    name = contextvars.ContextVar("name")
    name.set("ours")

    assert await run_in_thread(divmod, 7, 2) == (3, 1)
    assert await run_in_thread(name.get) == "ours"
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(divmod, 7, 0)


@pytest.mark.parametrize("how", [run_in_thread, finish_in_thread])
@pytest.mark.parametrize("result", [None, ValueError("lost")])
async def test_a_cancelled_caller_waits(held, how, result):
    """
    A cancelled caller ends after its thread, however often it is cancelled.
    """
    task = asyncio.create_task(how(held.run, result))
    await begin(task, held)

    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    held.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert held.over


async def occupy(held):
    """Occupy all threads."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    busy = asyncio.create_task(run_in_thread(held.run))
    await begin(busy, held)
    return busy


async def test_work_that_did_not_begin_never_does(held):
    """
    A caller that is cancelled while all threads are busy need not wait.
    """
    busy, done = await occupy(held), []
    task = asyncio.create_task(run_in_thread(done.append, 1))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not busy.done()
    held.go_on.set()
    await busy
    await run_in_thread(done.append, 2)
    assert done == [2]


async def test_cleaning_up_is_done_all_the_same(held):
    """
    Cleanup waits for a thread and then runs.
    """
    busy, done = await occupy(held), []
    task = asyncio.create_task(finish_in_thread(done.append, 1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    held.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await busy

    assert done == [1]


async def test_cleaning_up_needs_no_thread():
    """
    If no thread can be started any more, cleanup runs at once.
    """
    loop, done = asyncio.get_running_loop(), []
    await run_in_thread(done.append, 1)
    await loop.shutdown_default_executor()

    await finish_in_thread(done.append, 2)

    assert done == [1, 2]


@pytest.mark.parametrize("how", [run_in_thread, finish_in_thread])
async def test_no_thread_can_be_started(how, monkeypatch):
    """
    If the system has no thread left, the work runs once, in the loop.
    """

    def start(thread):
        raise RuntimeError("can't start new thread")

    done = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        await how(done.append, 1)
    assert done == [1]

    # The executor has queued the first work, too.
    await run_in_thread(done.append, 2)
    await run_in_thread(done.append, 3)
    assert done == [1, 2, 3]


async def test_a_cancelled_caller_tells_its_thread(held):
    """
    The work can learn that its caller was cancelled.
    """
    task = asyncio.create_task(
        run_in_thread(held.run, on_cancel=held.go_on.set)
    )
    await begin(task, held)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert held.over
