"""
A report as text.
"""

import io

from collections.abc import Iterable, Mapping
from typing import Final

from rich.bar import Bar
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
    three_digits,
    time,
)


# The width of a file or a pipe, and the greatest one of a full bar.
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
    _print_facts(console, "Sessions created", facts)
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
        )
    if report.latency.count:
        _print_facts(
            console,
            "Latency of the attempts that created a session",
            quantiles(report.latency),
        )
    if report.rate:
        highest = three_digits(max(each.rate for each in report.rate))
        width = duration(report.rate[0].seconds)
        _print_facts(
            console, "Rate", [("highest", f"{highest} rows/s, over {width}")]
        )


def _print_journeys(console: Console, report: JourneyReport) -> None:
    _print_counts(console, "Journeys", report.funnel, whole=report.sessions)
    if report.ambiguous:
        console.print(
            f"{number(report.ambiguous)} more may exist: the response to "
            f"their request was lost.\n",
        )
    if report.completion.count:
        _print_facts(
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
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(max_width=_BAR)
    for name, count in counts.items():
        table.add_row(
            Text(one_line(name)),
            number(count),
            share(count, whole),
            Bar(size=max(whole, 1), begin=0, end=count, color="blue"),
        )
    _print(console, title, table)


def _print_facts(
    console: Console, title: str, facts: Iterable[tuple[str, str]]
) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name, text in facts:
        table.add_row(name, Text(text))
    _print(console, title, table)


def _print(console: Console, title: str, table: Table) -> None:
    console.print(Text(title, style="bold"))
    console.print(table)
    console.print()
