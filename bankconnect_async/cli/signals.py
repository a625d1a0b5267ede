"""
Ctrl-C, and the signals that end a process or close its terminal.
"""

import asyncio
import signal

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final


_NAMES: Final = "SIGINT", "SIGTERM", "SIGHUP"


@contextmanager
def on_interrupt(handle: Callable[[], None]) -> Iterator[None]:
    """
    Call *handle* on the running loop for each SIGINT, SIGTERM and SIGHUP.

    A SIGHUP that is ignored, as `nohup` does, stays ignored.

    Where loops know no signals (Windows), Ctrl-C raises as it always does.
    """
    loop = asyncio.get_running_loop()
    numbers = [
        getattr(signal, name) for name in _NAMES if hasattr(signal, name)
    ]
    numbers = [
        number
        for number in numbers
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
