"""
The progress of a batch: a bar on a terminal, a line every ten seconds else.
"""

import asyncio

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Final, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

from bankconnect_async._printable import one_line
from bankconnect_async.cli.stderr import Stderr

from .summary import BatchSummary


_BAR_INTERVAL: Final = 0.1
_LINE_INTERVAL: Final = 10.0
_WIDEST_BAR: Final = 20


class BatchProgress:
    """
    Shows a summary on stderr while it grows.

    Args:
        summary: The summary.
    """

    def __init__(self, summary: BatchSummary) -> None:
        # rich replaces `sys.stderr` while it shows a bar.
        self._stderr = Stderr()
        self._summary = summary
        self._console = Console(file=cast("IO[str]", self._stderr))
        # rich shows no bar on a dumb one.
        self._is_terminal = (
            self._stderr.isatty() and not self._console.is_dumb_terminal
        )
        self._bar = Progress(
            TextColumn(summary.title),
            BarColumn(bar_width=_WIDEST_BAR),
            MofNCompleteColumn(),
            # The last column gives way where the terminal is narrow.
            TextColumn(
                "{task.fields[text]}",
                table_column=Column(
                    ratio=1, no_wrap=True, overflow="ellipsis"
                ),
            ),
            console=self._console,
            expand=True,
        )
        self._task = self._bar.add_task("", total=None, text="")

    @contextmanager
    def live(self, update: Callable[[], None]) -> Iterator[None]:
        """
        Show the summary at intervals; it needs a running event loop.

        Args:
            update: Updates the summary.
        """
        # Older versions of rich end a bar that is not shown with a blank line.
        if self._is_terminal:
            self._bar.start()
        refresh = asyncio.create_task(self._refresh(update))
        try:
            yield
        finally:
            refresh.cancel()
            update()
            if self._is_terminal:
                self._draw()
                self._bar.stop()

    def print(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        text = one_line(text)
        if self._is_terminal:
            self._console.print(
                text, markup=False, highlight=False, soft_wrap=True
            )
        else:
            self._stderr.print(text)

    def close(self) -> None:
        """Wait until everything is written, outside of an event loop."""
        self._stderr.close()

    async def _refresh(self, update: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(
                _BAR_INTERVAL if self._is_terminal else _LINE_INTERVAL
            )
            update()
            self._draw()

    def _draw(self) -> None:
        if not self._is_terminal:
            self._stderr.print(self._summary.as_line())
            return
        self._bar.update(
            self._task,
            total=self._summary.total,
            completed=self._summary.processed,
            text=self._summary.as_progress(),
        )
