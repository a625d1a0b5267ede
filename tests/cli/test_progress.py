"""
Messages on stderr never block the event loop.
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
    Print on a stderr that takes nothing, until it is released.

    The function returns whether the event loop ended before the release. A
    loop that is blocked in a write is released after some seconds, so that the
    test ends.
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
    A terminal that is stopped with Ctrl-S does not block the event loop.
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
    A full pipe does not block the event loop, and gets all lines later.
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
    A closed stderr drops messages without an error.
    """
    reader, end = os.pipe()
    os.close(reader)

    assert show_beside(end, lambda: None)


def _room(pipe):
    return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
