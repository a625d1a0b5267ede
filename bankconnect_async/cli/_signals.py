"""
Ctrl-C, and the polite way to end a process.
"""

import asyncio
import signal

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final


_SIGNALS: Final = signal.SIGINT, signal.SIGTERM


@contextmanager
def on_interrupt(handle: Callable[[], None]) -> Iterator[None]:
    """
    Call *handle* on the running loop for each SIGINT and SIGTERM.

    Where loops know no signals (Windows), Ctrl-C raises as it always does.
    """
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError):
        for number in _SIGNALS:
            loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        with suppress(NotImplementedError):
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
