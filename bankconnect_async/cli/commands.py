"""
Exit codes, and commands that can be run again to resume.
"""

import enum

from collections.abc import Collection
from typing import Final

import click

from .batch.summary import BatchSummary


_ARGS: Final = "bankconnect_async.args"


class Exit(enum.IntEnum):
    """
    The exit codes of ``bankconnect``.
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_AUTHENTICATED = 3
    INTERRUPTED = 130


class ResumableCommand(click.Command):
    """
    Remembers its arguments, to print the command that resumes it.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse *args*, and remember them."""
        ctx.meta[_ARGS] = list(args)
        return super().parse_args(ctx, args)


def command_line(
    ctx: click.Context, *, without: Collection[str] = ()
) -> list[str]:
    """
    Return the words of the command that runs.

    Args:
        ctx: The context of a `ResumableCommand`.
        without: The options to leave out.
    """
    args = [arg for arg in ctx.meta[_ARGS] if arg not in without]
    return ["bankconnect", str(ctx.command.name), *args]


def summary_code(summary: BatchSummary) -> Exit:
    """
    Return the exit code for what became of the rows.
    """
    if summary.mismatched:
        return Exit.USAGE
    if summary.interrupted:
        return Exit.INTERRUPTED
    if summary.not_authenticated:
        return Exit.NOT_AUTHENTICATED
    if summary.failed or summary.stopped:
        return Exit.FAILED
    return Exit.OK
