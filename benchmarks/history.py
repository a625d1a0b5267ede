"""
The record of speed: a row of `history.csv` for each published run.

A ratio compares with others of its own run only: machines and hours differ.
So the record has the ratio to naive code of the same run, and no times but
that of the import.
"""

import csv
import re

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from .report import ROOT, Report, pyplot, save


#: The record.
PATH: Final = ROOT / "benchmarks" / "history.csv"
#: The columns that say what was measured, and where.
ABOUT: Final = (
    "date",
    "commit",
    "machine",
    "python",
    "aiohttp",
    "uvloop",
    "server",
    "runs",
)
# The names of the contenders that are recorded, up to a comma.
_RECORDED: Final = frozenset(
    {"create_session", "create_sessions", "tuned aiohttp", "bare protocol"}
)
# Points of curves that are recorded: the curve, the value and the column.
_POINTS: Final = {
    "create_session_1_in_flight": ("requests in flight", 1, "x naive"),
    "create_session_22_parameters": ("parameters", 22, "x naive"),
    "create_sessions_1_in_flight": (
        "requests in flight",
        1,
        "create_sessions x naive",
    ),
    "create_sessions_22_parameters": (
        "parameters",
        22,
        "create_sessions x naive",
    ),
}
_PANELS: Final = {"default event loop": "", "uvloop": "_uvloop"}
_LINES: Final = {
    "create_sessions_journal": "#9775fa",
    "create_sessions": "#5f3dc4",
    "create_session": "#0b7285",
}


@attrs.frozen
class Figure:
    """
    A recorded figure.

    Attributes:
        value: The median.
        low, high: The quartiles, if there are any.
    """

    value: float
    low: float | None = None
    high: float | None = None


def about_columns(about: Mapping[str, str]) -> dict[str, str]:
    """
    Return what a row says about its run.

    Args:
        about: What a report says about it.
    """
    versions = dict(
        each.rsplit(" ", 1) for each in about["versions"].lower().split(", ")
    )
    known = {**versions, "runs": "1", **about}
    return {column: known.get(column, "") for column in ABOUT}


def figures_of(report: Report) -> dict[str, Figure]:
    """
    Return the figures of a report that are recorded.

    Args:
        report: The report.
    """
    found = {
        column_of(each.name): Figure(each.ratio, each.low, each.high)
        for each in report.tables.get("plain", ())
        if each.name.partition(", ")[0] in _RECORDED
    }
    for column, point in _POINTS.items():
        if (ratio := report.point(*point)) is not None:
            found[column] = Figure(ratio)
    if "bankconnect_async" in report.imports:
        found["import_ms"] = Figure(report.imports["bankconnect_async"])
    return found


def column_of(name: str) -> str:
    """Return the name of the column for what has *name* in tables."""
    return re.sub(r"\W+", "_", name.lower())


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a record; a new one has none."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append(
    path: Path, about: Mapping[str, str], figures: Mapping[str, Figure]
) -> list[dict[str, str]]:
    """
    Append a row, unless it is there, and return all rows.

    New columns come at the end.

    Args:
        path: The path of the record.
        about: What a report says about its run.
        figures: The figures by the name of the column.
    """
    row = about_columns(about)
    for name, figure in figures.items():
        for suffix, value in (
            ("", figure.value),
            ("_q1", figure.low),
            ("_q3", figure.high),
        ):
            if value is not None:
                row[name + suffix] = f"{value:.3f}".rstrip("0").rstrip(".")
    row = _filled(row)
    rows = [*(each for each in map(_filled, read(path)) if each != row), row]
    write(path, rows)
    return rows


def _filled(row: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in row.items() if value}


def write(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write a record whose rows may have different columns."""
    rows = list(rows)
    columns = dict.fromkeys(name for row in rows for name in row)
    new = path.with_name(f"{path.name}.new")
    with new.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    # The old record stays until the new one is complete.
    new.replace(path)


def draw(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """
    Draw the ratios of all runs over their commits.

    Args:
        rows: The rows of the record, from old to new.
        path: The path of the picture.
    """
    plt = pyplot()
    rows = [row for row in rows if row.get("create_session")]
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True)
    for axes, (title, suffix) in zip(panels, _PANELS.items(), strict=True):
        for name, color in _LINES.items():
            _draw_line(axes, rows, name + suffix, color)
        axes.axhline(1, color="#495057", linewidth=1, linestyle=":")
        axes.set_title(f"Speed over time, {title}", loc="left", fontsize=10)
        axes.set_xticks(
            range(len(rows)),
            [f"{row['commit']}\n{row['date']}" for row in rows],
            fontsize=8,
            rotation=30,
        )
        axes.set_xlabel("commit that was measured")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(0, panels[0].get_ylim()[1])
    panels[0].set_ylabel("CPU time, x naive aiohttp")
    panels[0].legend(fontsize=8, frameon=False, loc="lower left")
    figure.tight_layout()
    save(figure, path)


def _draw_line(
    axes: Any, rows: Sequence[Mapping[str, str]], name: str, color: str
) -> None:
    found = [(place, row) for place, row in enumerate(rows) if row.get(name)]
    places = [place for place, _ in found]
    middle, low, high = (
        [float(row[name + suffix]) for _, row in found]
        for suffix in ("", "_q1", "_q3")
    )
    axes.fill_between(places, low, high, color=color, alpha=0.15, linewidth=0)
    axes.plot(places, middle, color=color, label=name, linewidth=1.2)
    for place, value, (_, row) in zip(places, middle, found, strict=True):
        # Single runs are hollow.
        face = "white" if row["runs"] == "1" else color
        axes.plot(place, value, "o", color=color, markerfacecolor=face)
