"""
A progress bar on a terminal, and silence elsewhere.
"""

import sys

from types import TracebackType
from typing import Final, Self

import click

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from ._tally import Tally


_PAUSE: Final = 0.1


class TallyBar:
    """
    Shows a tally on stderr while it grows.

    Args:
        tally: What to show.

    Attributes:
        is_visible: Whether anybody sees it; colours that are forced into a
            log do not count.
    """

    def __init__(self, tally: Tally) -> None:
        # Once, since rich puts itself in front of stderr.
        self.is_visible = sys.stderr is not None and sys.stderr.isatty()
        self._tally = tally
        self._console = Console(stderr=True)
        self._shown = 0.0
        self._bar = Progress(
            TextColumn("creating sessions"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]} failed"),
            TextColumn("{task.fields[rate]:.0f} rows/s"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task("", total=None, failed=0, rate=0.0)

    def expect(self, total: int) -> None:
        """Set the number of rows."""
        self._bar.update(self._task, total=total)

    def __enter__(self) -> Self:
        # Older versions of rich end a bar that is not shown with a blank line.
        if self.is_visible:
            self._bar.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tally.tick()
        if self.is_visible:
            self._update()
            self._bar.stop()

    def show(self) -> None:
        """Take over the tally's numbers, some times a second."""
        self._tally.tick()
        if self.is_visible and self._tally.seconds >= self._shown + _PAUSE:
            self._shown = self._tally.seconds
            self._update()

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        if self.is_visible:
            self._console.print(
                text, markup=False, highlight=False, soft_wrap=True
            )
        else:
            click.echo(text, err=True)

    def _update(self) -> None:
        self._bar.update(
            self._task,
            completed=self._tally.done,
            failed=self._tally.failed,
            rate=self._tally.rate,
        )
