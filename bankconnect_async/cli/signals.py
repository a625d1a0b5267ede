"""
Handling of Ctrl-C and of the signals that end a process.
"""

import asyncio
import signal

from collections.abc import Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    contextmanager,
    suppress,
)
from typing import Any, TypeVar

from bankconnect_async._signals import END_SIGNALS


T = TypeVar("T")


@contextmanager
def on_interrupt(handle: Callable[[], None]) -> Iterator[None]:
    """
    Call *handle* on the running loop for each SIGINT, SIGTERM and SIGHUP.

    An ignored SIGHUP stays ignored, as `nohup` requires. Event loops on
    Windows have no signal handlers: Ctrl-C raises `KeyboardInterrupt` there.
    """
    loop = asyncio.get_running_loop()
    numbers = [
        number
        for number in END_SIGNALS
        if number in {signal.SIGINT, signal.SIGTERM}
        or signal.getsignal(number) is not signal.SIG_IGN
    ]
    with suppress(NotImplementedError):
        for number in numbers:
            loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        with suppress(NotImplementedError):
            for number in numbers:
                loop.remove_signal_handler(number)


async def finish_or_cancel(
    work: Awaitable[Any], drain: Callable[[], None]
) -> None:
    """
    Wait for *work*; the first signal drains it, and another one cancels it.

    Args:
        work: The work.
        drain: Makes the work end early.
    """
    task = asyncio.ensure_future(work)
    is_draining = False

    def interrupt() -> None:
        nonlocal is_draining
        if is_draining:
            task.cancel()
        else:
            is_draining = True
            drain()

    with on_interrupt(interrupt):
        try:
            await task
        except asyncio.CancelledError:
            if not is_draining:
                raise


async def serve_until_interrupted(
    server: AbstractAsyncContextManager[T],
    announce: Callable[[T], Awaitable[None]],
) -> None:
    """
    Run a server until a signal arrives.

    Args:
        server: The server, which is started and stopped.
        announce: Prints the address of the started server.
    """
    stopped = asyncio.Event()
    async with server as started:
        with on_interrupt(stopped.set):
            await announce(started)
            await stopped.wait()
