"""
A report as text.
"""

import io

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bankconnect_async._printable import one_line
from bankconnect_async.report import (
    CampaignReport,
    CreationReport,
    JourneyReport,
)
from bankconnect_async.report.units import (
    duration,
    number,
    quantiles,
    share,
    time,
)


# The width of a file or a pipe, and that of a full bar.
_WIDTH: Final = 100
_BAR: Final = 30


def render_text(report: CampaignReport, *, is_terminal: bool) -> str:
    """
    Return the figures as text.

    Args:
        report: The report.
        is_terminal: Whether to use the colours and the width of a terminal.
    """
    text = io.StringIO()
    console = Console(
        file=text,
        force_terminal=is_terminal,
        highlight=False,
        width=None if is_terminal else _WIDTH,
    )
    if report.creation is not None:
        _print_creation(console, report.creation)
    if report.journeys is not None:
        _print_journeys(console, report.journeys)
    # Tables fill their cells with blanks.
    lines = text.getvalue().splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _print_creation(console: Console, report: CreationReport) -> None:
    facts = [
        ("API", one_line(", ".join(report.apis)) or "none"),
        ("records", number(report.records)),
        ("stale records, left out", number(report.stale)),
    ]
    if report.first_at is not None and report.last_at is not None:
        facts.append(("first record", time(report.first_at)))
        facts.append(("last record", time(report.last_at)))
    _print_table(console, "Sessions created", facts)
    _print_counts(
        console,
        "Rows",
        {
            "created": report.created,
            "failed": report.failed,
            "repeated link id": report.repeated,
        },
    )
    if report.errors:
        _print_counts(console, "Failed rows by their error", report.errors)
    if report.uncertain:
        console.print(
            f"{number(report.uncertain)} of them may have a session all the "
            f"same: reconcile them with the vendor.\n",
            soft_wrap=True,
        )
    if report.latency.count:
        _print_table(
            console,
            "Latency of the attempts that created a session",
            quantiles(report.latency),
        )
    if report.rate:
        _print_table(
            console,
            "Rate",
            [
                (
                    "highest",
                    f"{max(each.rate for each in report.rate):,.3g} rows/s, "
                    f"over {duration(report.rate[0].seconds)}",
                )
            ],
        )


def _print_journeys(console: Console, report: JourneyReport) -> None:
    _print_counts(console, "Journeys", report.funnel, whole=report.sessions)
    if report.ambiguous:
        console.print(
            f"The server may not have created {number(report.ambiguous)} of "
            f"them.\n",
            soft_wrap=True,
        )
    if report.completion.count:
        _print_table(
            console,
            "Time from a session to its statements",
            quantiles(report.completion),
        )
    if report.problems:
        _print_counts(console, "Exits and errors", report.problems)


def _print_counts(
    console: Console,
    title: str,
    counts: Mapping[str, int],
    *,
    whole: int | None = None,
) -> None:
    whole = sum(counts.values()) if whole is None else whole
    _print_table(
        console,
        title,
        [
            (
                one_line(name),
                number(count),
                share(count, whole),
                "█" * round(_BAR * count / whole) if whole else "",
            )
            for name, count in counts.items()
        ],
    )


def _print_table(
    console: Console, title: str, rows: Iterable[Sequence[str]]
) -> None:
    table = Table.grid(padding=(0, 2))
    for place, row in enumerate(rows):
        if not place:
            is_counts = len(row) > 2  # noqa: PLR2004 - name, number, share
            table.add_column(overflow="fold")
            for _ in row[1:3]:
                table.add_column(justify="right" if is_counts else "left")
            for _ in row[3:]:
                table.add_column(style="blue")
        table.add_row(*map(Text, row))
    console.print(Text(title, style="bold"))
    console.print(table)
    console.print()
