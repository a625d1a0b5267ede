"""
Work in threads that never outlives its caller.

A cancelled `asyncio.to_thread` returns at once, and its thread goes on with
files that the caller closes meanwhile. By then their descriptors may belong
to other files of the process.
"""

import asyncio
import contextvars
import threading

from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar, TypeVarTuple


T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def run_in_thread(
    work: Callable[[*Ts], T],
    *args: *Ts,
    on_cancel: Callable[[], object] | None = None,
) -> T:
    """
    Run *work* in a thread; if cancelled, wait until the thread is done.

    Work that no thread has begun by then is never done. If no thread can be
    had, it is done in the event loop.

    Args:
        work: The blocking function.
        *args: Its arguments.
        on_cancel: Called if the caller is cancelled; it may tell the work to
            hurry.
    """
    job = _Job(lambda: work(*args))
    running = job.start()
    try:
        await asyncio.wait((running,))
    except asyncio.CancelledError:
        if on_cancel is not None:
            on_cancel()
        if not job.call_off():
            await _outlast(running)
        raise
    return running.result()


async def finish_in_thread(work: Callable[[*Ts], None], *args: *Ts) -> None:
    """
    Run *work* in a thread, whatever is cancelled: for work that cleans up.
    """
    await finish(_Job(lambda: work(*args)).start())


async def finish(future: "asyncio.Future[T]") -> T:
    """
    Wait until *future* is done, and only then raise `CancelledError`.
    """
    try:
        await asyncio.wait((future,))
    except asyncio.CancelledError:
        await _outlast(future)
        raise
    return future.result()


class _Job(Generic[T]):
    """
    Work that is done once, by whoever takes it first, or never.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._turn = threading.Lock()
        self._result: Future[T] = Future()

    def start(self) -> "asyncio.Future[T]":
        loop = asyncio.get_running_loop()
        running = asyncio.wrap_future(self._result)
        context = contextvars.copy_context()
        try:
            loop.run_in_executor(None, context.run, self._begin)
        except RuntimeError:
            # The executor is shut down, or the system has no thread left. It
            # may have queued the work all the same.
            self._begin()
        return running

    def call_off(self) -> bool:
        """Tell whether nobody has begun it: then nobody will."""
        return self._turn.acquire(blocking=False)

    def _begin(self) -> None:
        if not self._turn.acquire(blocking=False):
            return
        try:
            value = self._work()
        except BaseException as exc:  # noqa: BLE001 - the caller raises it
            self._result.set_exception(exc)
        else:
            self._result.set_result(value)


async def _outlast(future: "asyncio.Future[T]") -> None:
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError:
            # The caller has one to raise already.
            continue
    if not future.cancelled():
        # Take note of what it raised: nobody else is there to hear it.
        future.exception()
