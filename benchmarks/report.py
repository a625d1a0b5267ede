"""
What was measured, as tables and pictures.
"""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import attrs

from .measure import Result


ROOT: Final = Path(__file__).parent.parent
#: The page with the results that are published.
PAGE: Final = ROOT / "benchmarks" / "README.md"
PACKAGES: Final = (
    "aiohttp",
    "orjson",
    "uvloop",
    "httpx",
    "requests",
)
_US: Final = "bankconnect_async"
_RATIO: Final = "x naive"


@attrs.define(kw_only=True)
class Report:
    """
    All results of a run.

    Attributes:
        about: Machine, versions, server, date.
        tables: Results by transport, the base first.
        memory: Peak MiB by contender.
        imports: Milliseconds by what is imported.
        curves: Points by what is varied.
        micro: Microseconds by operation.
    """

    about: dict[str, str]
    tables: dict[str, list[Result]] = attrs.Factory(dict)
    memory: dict[str, float] = attrs.Factory(dict)
    imports: dict[str, float] = attrs.Factory(dict)
    curves: dict[str, list[dict[str, float]]] = attrs.Factory(dict)
    micro: dict[str, float] = attrs.Factory(dict)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Report":
        """Return the report of which `attrs.asdict` made *told*."""
        tables = {
            name: [Result(**each) for each in results]
            for name, results in told["tables"].items()
        }
        return cls(**{**told, "tables": tables})

    def find(self, name: str, transport: str = "plain") -> Result | None:
        """Return a contender's result, if it was measured."""
        results = self.tables.get(transport, [])
        return next((each for each in results if each.name == name), None)

    def ratio(self, name: str) -> float | None:
        """Return a contender's ratio without TLS, if it was measured."""
        found = self.find(name)
        return None if found is None else found.ratio

    def point(self, curve: str, value: float, column: str) -> float | None:
        """
        Return a figure of a curve, if it was measured.

        Args:
            curve: The name of the curve.
            value: The value that is varied.
            column: The name of the figure.
        """
        return next(
            (
                point[column]
                for point in self.curves.get(curve, ())
                if point[curve] == value and column in point
            ),
            None,
        )


@attrs.frozen
class Goal:
    """
    A figure that has to stay below a limit.

    Attributes:
        name: What is measured.
        most: The limit.
        measured: Returns the figure of a report, if there is one.
        form: The format of both numbers.
    """

    name: str
    most: float
    measured: Callable[[Report], float | None]
    form: str = ".2f"


def _above_batch(report: Report) -> float | None:
    batch = report.ratio("create_sessions")
    store = report.ratio("create_sessions, SQLite store")
    return None if batch is None or store is None else store - batch


_RATIOS: Final = {
    "create_session": 0.68,
    "create_sessions": 0.68,
    "create_sessions, journal": 0.76,
    "create_session, uvloop": 0.64,
    "create_sessions, uvloop": 0.64,
    "create_sessions, journal, uvloop": 0.72,
}
#: Without TLS; each ratio is to naive code on the default event loop.
GOALS: Final = (
    *(
        Goal(f"{name}, x naive", most, methodcaller("ratio", name))
        for name, most in _RATIOS.items()
    ),
    Goal(
        "create_sessions, SQLite store, above one without", 0.15, _above_batch
    ),
    Goal(
        "create_session, 22 parameters, x naive",
        0.85,
        methodcaller("point", "parameters", 22, _RATIO),
    ),
    Goal(
        "create_sessions, 22 parameters, x naive",
        0.80,
        methodcaller("point", "parameters", 22, f"create_sessions {_RATIO}"),
    ),
    Goal(
        "create_sessions, one in flight, x naive",
        0.90,
        methodcaller(
            "point", "requests in flight", 1, f"create_sessions {_RATIO}"
        ),
    ),
    Goal(
        "import, ms above aiohttp's",
        15.0,
        lambda report: report.imports.get(_US),
        ".0f",
    ),
)


def describe(server: str) -> dict[str, str]:
    """Return what a reader has to know about this run."""
    versions = [
        f"{name} {importlib.metadata.version(name)}"
        for name in PACKAGES
        if _is_installed(name)
    ]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{_processor()}, {os.cpu_count()} cores, "
        f"{platform.system()} {platform.release()}",
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *versions]
        ),
        "server": server,
        "commit": _commit(),
    }


def _commit() -> str:
    """Return the commit of this checkout, ``-dirty`` if it was changed."""
    git = shutil.which("git")
    command = [git or "git", "describe", "--always", "--dirty", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()
    return "unknown"


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = info.exists() and re.search(
        r"^model name\s*: (.+)$", info.read_text(), re.MULTILINE
    )
    return found[1].strip() if found else platform.processor()


def render(report: Report) -> str:
    """Return everything as Markdown that reads well in a terminal, too."""
    parts = [_list(f"{name}: {text}" for name, text in report.about.items())]
    for transport, results in report.tables.items():
        heading = {"plain": "Plain TCP", "tls": "TLS"}[transport]
        memory = report.memory if transport == "plain" else {}
        parts += [f"### {heading}", _results(results, memory)]
    if goals := _goals(report):
        parts += ["### Targets", goals]
    for name, points in report.curves.items():
        parts += [f"### Cost by {name}", _curve(name, points)]
    if report.micro:
        rows = [[name, f"{cost:.2f}"] for name, cost in report.micro.items()]
        parts += ["### Single steps", table(["step", "µs"], rows)]
    return "\n\n".join(parts) + "\n"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _results(results: Sequence[Result], memory: Mapping[str, float]) -> str:
    header = [
        "", "CPU µs", "x naive", "runs", "quartiles", "sessions/s",
        "p50 ms", "p99 ms", "peak MiB",
    ]  # fmt: skip
    rows = [
        [
            each.name,
            f"{each.cpu:,.0f}",
            f"{each.ratio:.2f}",
            _range(each.runs or [each.ratio]),
            f"{each.low:.2f} - {each.high:.2f}",
            f"{each.rate:,.0f}",
            _number(each.p50),
            _number(each.p99),
            _number(memory.get(each.name), ".0f"),
        ]
        for each in results
    ]
    if not memory:
        header, rows = header[:-1], [row[:-1] for row in rows]
    return table(header, rows)


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} - {max(values):.2f}"


def _number(value: float | None, form: str = ".1f") -> str:
    return "-" if value is None else format(value, form)


def _goals(report: Report) -> str:
    rows = [
        [
            goal.name,
            format(found, goal.form),
            format(goal.most, goal.form),
            _verdict(found, goal),
        ]
        for goal in GOALS
        if (found := goal.measured(report)) is not None
    ]
    return table(["", "measured", "at most", ""], rows) if rows else ""


def _verdict(found: float, goal: Goal) -> str:
    # What is printed decides: nobody has to ask why 0.68 misses 0.68.
    is_met = float(format(found, goal.form)) <= goal.most
    return "met" if is_met else "missed"


def _curve(name: str, points: Sequence[Mapping[str, float]]) -> str:
    columns = list(points[0])
    rows = [
        [_cost(column, point[column]) for column in columns]
        for point in points
    ]
    flat = ", ".join(
        f"{column} {max(values) / min(values):.2f}"
        for column in columns
        if column != name and (values := [each[column] for each in points])
    )
    return f"{table(columns, rows)}\n\nHighest by lowest: {flat}."


def _cost(column: str, value: float) -> str:
    return format(value, ",.2f" if column.endswith(_RATIO) else ",.0f")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table whose columns stand below each other."""
    lines = [list(header), *map(list, rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = [
        "-" * widths[0],
        *("-" * (width - 1) + ":" for width in widths[1:]),
    ]
    lines.insert(1, rule)
    return "\n".join(
        "| "
        + " | ".join(
            [
                line[0].ljust(widths[0]),
                *(
                    cell.rjust(width)
                    for cell, width in zip(line[1:], widths[1:], strict=True)
                ),
            ]
        )
        + " |"
        for line in lines
    )


def sum_up(report: Report) -> str:
    """
    Return the picture and what matters to a user, as Markdown.

    Raises:
        ValueError: If a contender was left out that it takes.
    """
    naive, ours, batch, httpx, faster = (
        _needed(report, name)
        for name in (
            "naive aiohttp",
            "create_session",
            "create_sessions",
            "httpx",
            "create_sessions, uvloop",
        )
    )
    about = report.about
    lines = [
        f"**CPU**: {ours.cpu:.0f} µs for a session, {ours.ratio:.2f} times "
        f"what naive aiohttp code takes; httpx takes {httpx.ratio:.0f} times "
        "as much as naive code.",
        f"**Throughput**: {_rounded(ours.rate)} sessions per second from one "
        f"process, {_rounded(batch.rate)} as a batch, and "
        f"{_rounded(faster.rate)} as a batch with uvloop (extra `[speed]`).",
        f"**Weight**: {report.imports[_US]:.0f} ms of import beyond aiohttp's "
        f"{report.imports['aiohttp']:.0f}, and "
        f"{report.memory[ours.name] - report.memory[naive.name]:.0f} MiB of "
        f"memory beyond its {report.memory[naive.name]:.0f}.",
    ]
    said = (
        f"{about['date']}, {about['versions'].partition(',')[0]}, one core of "
        f"{about['machine'].partition(',')[0]}, 100 connections to "
        f"{about['server']} on loopback."
    )
    return "\n\n".join(
        (
            "![CPU time of a session, beside other ways](docs/speed.svg)",
            _list(lines),
            f"{said} `nox -s bench` measures it on your machine; "
            "[benchmarks](benchmarks/README.md) has all of it, and how to "
            "read it.",
        )
    )


def _needed(report: Report, name: str) -> Result:
    found = report.find(name)
    if found is None:
        raise ValueError(f"{name} was not measured")
    return found


def _rounded(rate: float) -> str:
    return f"{round(rate, -2):,.0f}"


def replace_block(path: Path, name: str, text: str) -> None:
    """
    Put *text* between the two comments that *name* a block of a file.

    Raises:
        ValueError: If they do not stand there.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = path.read_text().partition(begin)
    _, also_found, after = rest.partition(end)
    if not found or not also_found:
        raise ValueError(f"{path} has no block {name}")
    path.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")


def pyplot() -> ModuleType:
    """Return matplotlib's pyplot, which draws the same file each time."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {
        "svg.hashsalt": "bench",
        "svg.fonttype": "none",
        "font.size": 10,
        "font.sans-serif": ["DejaVu Sans", "sans-serif"],
    }
    import matplotlib.pyplot as plt

    module: ModuleType = plt
    return module


def draw(report: Report, path: Path) -> None:
    """Draw the contenders without TLS, by their ratios to the naive one."""
    plt = pyplot()
    results = sorted(report.tables["plain"], key=lambda each: -each.ratio)
    figure, axes = plt.subplots(figsize=(8, 0.34 * len(results) + 1.1))
    axes.barh(
        [each.name for each in results],
        [each.ratio for each in results],
        color=[_color(each.name) for each in results],
    )
    for place, each in enumerate(results):
        label = f" {each.ratio:.2f} x ({each.cpu:,.0f} µs)"
        axes.text(each.ratio, place, label, va="center", fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(0.1, max(each.ratio for each in results) * 6)
    axes.axvline(1, color="#495057", linewidth=1, linestyle=":")
    axes.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
    axes.set_xlabel(
        "CPU time of a session, as a multiple of naive aiohttp's (log scale)"
    )
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


_OURS: Final = "#0b7285"
_OTHERS: Final = "#adb5bd"
_LINES: Final = {"create_session": _OURS, "create_sessions": "#5f3dc4"}


def draw_curves(report: Report, path: Path) -> None:
    """Draw what a session costs under all that was varied."""
    plt = pyplot()
    figure, panels = plt.subplots(
        1, len(report.curves), figsize=(3.2 * len(report.curves), 2.6)
    )
    for axes, (name, points) in zip(
        panels, report.curves.items(), strict=True
    ):
        places = range(len(points))
        for column in points[0]:
            if column.endswith(" µs"):
                costs = [point[column] for point in points]
                label = column.removesuffix(" µs")
                axes.plot(
                    places,
                    costs,
                    marker="o",
                    label=label,
                    color=_LINES.get(label, _OTHERS),
                )
        # From zero, or the eye takes noise for a slope.
        axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
        axes.set_xticks(places, [f"{point[name]:,.0f}" for point in points])
        axes.set_xlabel(name)
        axes.legend(fontsize=8, frameon=False, loc="lower left")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("CPU µs per session")
    figure.tight_layout()
    save(figure, path)


def _color(name: str) -> str:
    return _OURS if name.startswith("create_") else _OTHERS


def save(figure: Any, path: Path) -> None:
    """Write a figure to a file."""
    figure.savefig(
        path, bbox_inches="tight", metadata={"Date": None}, facecolor="white"
    )
    pyplot().close(figure)


def say(text: str) -> None:
    """Tell whoever waits what is going on."""
    sys.stderr.write(f"benchmarks: {text}\n")
