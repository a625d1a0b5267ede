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
from typing import TypeVar, TypeVarTuple, cast


T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def run_in_thread(work: Callable[[*Ts], T], *args: *Ts) -> T:
    """
    Run *work* in a thread; if cancelled, wait until the thread is done.

    Work that no thread has begun by then is never done.
    """
    # The first to take it decides: the thread begins, or never will.
    turn = threading.Lock()

    def begin() -> T | None:
        return work(*args) if turn.acquire(blocking=False) else None

    running = _start(begin)
    try:
        await asyncio.wait((running,))
    except asyncio.CancelledError:
        if not turn.acquire(blocking=False):
            await _outlast(running)
        raise
    return cast("T", running.result())


async def finish_in_thread(work: Callable[[*Ts], None], *args: *Ts) -> None:
    """
    Run *work* in a thread, whatever is cancelled: for work that cleans up.
    """
    try:
        running = _start(lambda: work(*args))
    except RuntimeError:
        # The executor is shut down, or the system has no thread left.
        work(*args)
        return
    await finish(running)


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


def _start(work: Callable[[], T]) -> "asyncio.Future[T]":
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    return loop.run_in_executor(None, context.run, work)


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
