"""
Signals that end a process, and how to hold them back.
"""

import signal
import sys

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final


#: The signals of a terminal, as far as the platform has them.
TERMINAL_SIGNALS: Final = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGHUP")
    if hasattr(signal, name)
)
#: All signals that ask a process to end.
END_SIGNALS: Final = *TERMINAL_SIGNALS, signal.SIGTERM


@contextmanager
def signals_blocked(numbers: Iterable[signal.Signals]) -> Iterator[None]:
    """
    Hold signals back in this thread, and in processes that it starts.

    On Windows, which has no signal masks, it does nothing.

    Args:
        numbers: The signals.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
