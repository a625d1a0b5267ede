"""
Messages on stderr never block the event loop.
"""

import asyncio
import collections
import contextlib
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


@pytest.fixture(name="show")
def _show(monkeypatch):
    """
    Show a summary once on a terminal of 80 columns, and return the text.
    """

    def run(summary, *, term):
        terminal, end = os.openpty()
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("TERM", term)

        async def main():
            with bar.live(lambda: None):
                bar._draw()

        with os.fdopen(end, "w") as stderr:
            monkeypatch.setattr(sys, "stderr", stderr)
            bar = BatchProgress(summary)
            asyncio.run(main())
            bar.close()
        parts = []
        # Linux fails to read a terminal that nobody has open.
        with contextlib.suppress(OSError):
            while part := os.read(terminal, 65536):
                parts.append(part)
        os.close(terminal)
        return b"".join(parts).decode()

    return run


LONG = BatchSummary(
    total=1_000_000,
    created=123_456,
    failures=collections.Counter(
        RateLimitError=654_321, InvalidRequestError=1_234
    ),
    recent_rate=1_234,
    limit=1_500,
    pause=12,
)


def test_a_narrow_terminal_keeps_the_count(show):
    """
    On 80 columns the title, the bar and the count are whole; what does not
    fit beside them is cut.
    """
    text = show(LONG, term="xterm")
    frame = [line for line in text.splitlines() if "sessions" in line][-1]

    assert "creating sessions" in frame
    assert "\N{BOX DRAWINGS HEAVY HORIZONTAL}" * 10 in frame
    assert "779011/1000000" in frame
    assert "655555 failed" in frame
    assert "\N{HORIZONTAL ELLIPSIS}" in frame


def test_a_dumb_terminal_shows_lines(show):
    """
    A terminal that cannot move its cursor shows the progress in lines.
    """
    text = show(LONG, term="dumb")

    assert "779011 of 1000000 rows, 655555 failed, " in text
    assert "\x1b" not in text
