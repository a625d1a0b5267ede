"""
What is shown on stderr, and that nobody waits for it.
"""

import asyncio
import fcntl
import os
import sys
import threading

import pytest

from bankconnect_async.cli.batch.progress import BatchProgress
from bankconnect_async.cli.batch.summary import BatchSummary


@pytest.fixture(name="show_beside")
def _show_beside(monkeypatch):
    """
    Say and show things on a stderr that takes nothing.

    It returns whether the loop was still running when it could be released:
    one that waits in a write is released after a while, for the test to end.
    """

    def run(end, release):
        done = threading.Event()
        found = []

        def watch():
            found.append(done.wait(20))
            release()

        async def main():
            with bar.live(lambda: None):
                for number in range(5):
                    bar.print(f"said {number}")
                    bar._draw()
                    await asyncio.sleep(0)
            done.set()

        with os.fdopen(end, "w") as stderr:
            monkeypatch.setattr(sys, "stderr", stderr)
            bar = BatchProgress(BatchSummary())
            thread = threading.Thread(target=watch)
            thread.start()
            asyncio.run(main())
            thread.join()
            bar.close()
        return found[0]

    return run


def test_a_stopped_terminal_stops_no_loop(show_beside):
    """
    After Ctrl-S what is said waits, and the event loop does not.
    """
    terminal, end = os.openpty()
    shown = []

    def release():
        os.write(terminal, b"\x11")
        while b"said 4" not in b"".join(shown):
            shown.append(os.read(terminal, 65536))

    os.write(terminal, b"\x13")
    assert show_beside(end, release)
    os.close(terminal)


def test_a_full_pipe_stops_no_loop(show_beside):
    """
    A log that is not read holds up nothing, and gets it all in the end.
    """
    reader, end = os.pipe()
    os.write(end, b"#" * _room(reader))
    shown = []

    def release():
        while b"said 4" not in b"".join(shown):
            shown.append(os.read(reader, 65536))

    assert show_beside(end, release)
    os.close(reader)
    text = b"".join(shown).decode()
    assert [f"said {number}" in text for number in range(5)] == [True] * 5


def test_a_stderr_that_is_gone_stops_nothing(show_beside):
    """
    Without anybody who reads it, progress is given up without an error.
    """
    reader, end = os.pipe()
    os.close(reader)

    assert show_beside(end, lambda: None)


def _room(pipe):
    return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
