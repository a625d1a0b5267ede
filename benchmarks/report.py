"""
What was measured, as tables, JSON and a picture.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import sys

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from .measure import Result


ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = (
    "aiohttp",
    "orjson",
    "uvloop",
    "httpx",
    "requests",
)
#: Name of a contender without TLS, and what its ratio may be at most.
TARGETS: Final = {
    "create_session": 1.00,
    "create_sessions": 0.95,
    "create_sessions, journal": 1.05,
    "create_session, uvloop": 0.80,
}
#: Milliseconds that the import may take beyond aiohttp's.
IMPORT_TARGET: Final = 20.0


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

    def to_json(self) -> str:
        """Write everything down."""
        return json.dumps(attrs.asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Read it back."""
        told = json.loads(text)
        told["tables"] = {
            name: [Result(**each) for each in results]
            for name, results in told["tables"].items()
        }
        return cls(**told)

    def find(self, name: str, transport: str = "plain") -> Result | None:
        """Return a contender's result, if it was measured."""
        results = self.tables.get(transport, [])
        return next((each for each in results if each.name == name), None)


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
    }


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
    if held := _targets(report):
        parts += ["### Targets", held]
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
        "", "CPU µs", "x naive", "quartiles", "sessions/s", "p50 ms",
        "p99 ms", "peak MiB",
    ]  # fmt: skip
    rows = [
        [
            each.name,
            f"{each.cpu:,.0f}",
            f"{each.ratio:.2f}",
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


def _number(value: float | None, form: str = ".1f") -> str:
    return "-" if value is None else format(value, form)


def _targets(report: Report) -> str:
    rows = [
        [f"{name}, x naive", f"{found.ratio:.2f}", f"{limit:.2f}"]
        for name, limit in TARGETS.items()
        if (found := report.find(name)) is not None
    ]
    if (above := report.imports.get("bankconnect_async")) is not None:
        name = "import, ms above aiohttp's"
        rows.append([name, f"{above:.0f}", f"{IMPORT_TARGET:.0f}"])
    return table(["", "measured", "at most"], rows) if rows else ""


def _curve(name: str, points: Sequence[Mapping[str, float]]) -> str:
    columns = list(points[0])
    rows = [
        [
            f"{point[column]:,.2f}"
            if column.startswith("x ")
            else f"{point[column]:,.0f}"
            for column in columns
        ]
        for point in points
    ]
    flat = ", ".join(
        f"{column} {max(values) / min(values):.2f}"
        for column in columns
        if column != name and (values := [each[column] for each in points])
    )
    return f"{table(columns, rows)}\n\nHighest by lowest: {flat}."


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


def draw(report: Report, path: Path) -> None:
    """Draw the contenders without TLS, by their ratios to the naive one."""
    import matplotlib as mpl

    mpl.use("svg")
    # The same numbers give the same file.
    mpl.rcParams |= {"svg.hashsalt": "bench", "font.size": 10}
    import matplotlib.pyplot as plt

    results = sorted(report.tables["plain"], key=lambda each: -each.ratio)
    figure, axes = plt.subplots(figsize=(8, 0.34 * len(results) + 1.1))
    colors = [
        "#0b7285" if each.name.startswith("create_") else "#adb5bd"
        for each in results
    ]
    axes.barh(
        [each.name for each in results],
        [each.ratio for each in results],
        color=colors,
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
    figure.savefig(
        path, bbox_inches="tight", metadata={"Date": None}, facecolor="white"
    )
    plt.close(figure)


def say(text: str) -> None:
    """Tell whoever waits what is going on."""
    sys.stderr.write(f"benchmarks: {text}\n")
