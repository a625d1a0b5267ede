"""
Blocking work in threads that ends before its caller does.

A cancelled `asyncio.to_thread` returns at once, while its thread continues to
use files that the caller then closes. Their descriptors may belong to other
files of the process by then.
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

    Work that no thread has begun by then is not done at all. If no thread can
    be started, the work runs in the event loop.

    Args:
        work: The blocking function.
        *args: The arguments of *work*.
        on_cancel: Called if the caller is cancelled; it may make the work end
            sooner.
    """
    job = _Job(lambda: work(*args))
    running = job.start()
    try:
        await asyncio.wait((running,))
    except asyncio.CancelledError:
        if on_cancel is not None:
            on_cancel()
        if not job.call_off():
            await _wait_for(running)
        raise
    return running.result()


async def finish_in_thread(work: Callable[[*Ts], None], *args: *Ts) -> None:
    """
    Run *work* in a thread despite cancellation: for work that cleans up.
    """
    await finish(_Job(lambda: work(*args)).start())


async def finish(future: "asyncio.Future[T]") -> T:
    """
    Wait until *future* is done, and only then raise `CancelledError`.
    """
    try:
        await asyncio.wait((future,))
    except asyncio.CancelledError:
        await _wait_for(future)
        raise
    return future.result()


class _Job(Generic[T]):
    """
    Work that runs at most once, in a thread or in the event loop.
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
            # The executor is shut down, or the system has no thread left. The
            # work may be queued all the same.
            self._begin()
        return running

    def call_off(self) -> bool:
        """
        Prevent the work from starting; return whether it had not started.
        """
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


async def _wait_for(future: "asyncio.Future[T]") -> None:
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError:
            # The caller raises its own.
            continue
    if not future.cancelled():
        # Retrieve its exception, or asyncio reports one that nobody retrieved.
        future.exception()
