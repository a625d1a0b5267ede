"""
Progress: a bar on a terminal, a line every ten seconds elsewhere.
"""

import asyncio

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Final, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bankconnect_async._printable import one_line
from bankconnect_async.cli.stderr import Stderr

from .summary import BatchSummary


_REFRESH: Final = 0.1
_LINE_EVERY: Final = 10.0
_WIDEST_BAR: Final = 20


class BatchProgress:
    """
    Shows a summary on stderr while it grows.

    Args:
        summary: What to show.
    """

    def __init__(self, summary: BatchSummary) -> None:
        # Once, since rich puts itself in front of stderr. Colours that are
        # forced into a log make it no terminal.
        self._stderr = Stderr()
        self._is_terminal = self._stderr.isatty()
        self._tally = summary
        self._console = Console(file=cast("IO[str]", self._stderr))
        self._bar = Progress(
            TextColumn("creating sessions"),
            BarColumn(bar_width=_WIDEST_BAR),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            console=self._console,
        )
        self._task = self._bar.add_task("", total=None, text="")

    @contextmanager
    def watching(self, look: Callable[[], None]) -> Iterator[None]:
        """
        Show the summary now and then; *look* is called before each time.

        It needs a running event loop.
        """
        show = self._draw if self._is_terminal else self._print_line
        every = _REFRESH if self._is_terminal else _LINE_EVERY
        # Older versions of rich end a bar that is not shown with a blank line.
        if self._is_terminal:
            self._bar.start()
        watch = asyncio.create_task(self._watch(look, show, every))
        try:
            yield
        finally:
            watch.cancel()
            look()
            self._tally.tick()
            if self._is_terminal:
                self._draw()
                self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        text = one_line(text)
        if self._is_terminal:
            self._console.print(
                text, markup=False, highlight=False, soft_wrap=True
            )
        else:
            self._stderr.say(text)

    def close(self) -> None:
        """Wait until all of it is shown; no event loop may run by then."""
        self._stderr.close()

    async def _watch(
        self,
        look: Callable[[], None],
        show: Callable[[], None],
        every: float,
    ) -> None:
        while True:
            await asyncio.sleep(every)
            look()
            self._tally.tick()
            show()

    def _draw(self) -> None:
        self._bar.update(
            self._task,
            total=self._tally.total,
            completed=self._tally.passed,
            text=self._tally.as_progress(),
        )

    def _print_line(self) -> None:
        self._stderr.say(self._tally.as_line())
