"""
Measure what a created session costs, beside other ways of creating one.
"""

import argparse
import importlib.util
import json
import shutil

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import attrs

from . import growth, history, reading, shares
from .apart import compare_apart
from .contenders import CONTENDERS, NAIVE, Contender, Target
from .curves import measure_curves
from .imports import measure_imports
from .measure import Result
from .medians import median_report
from .rate_control import command as rate_control
from .report import (
    PAGE,
    ROOT,
    Report,
    describe,
    draw,
    draw_curves,
    render,
    replace_block,
    say,
    sum_up,
)
from .serving import Service, serve
from .solo import peak_memory


_OUTPUT: Final = ROOT / "build" / "bench"
# Modules with `run` and `add_options`, and the texts of `--help`.
_OTHERS: Final[dict[str, tuple[ModuleType, str]]] = {
    "rate-control": (rate_control, "compare rate controls"),
    "reading": (reading, "measure reading of a response"),
    "growth": (growth, "measure batches of many rows"),
    "shares": (shares, "measure each layer's CPU time"),
}


def measure(options: argparse.Namespace) -> Report:
    """Do all that was asked for."""
    with serve() as service:
        report = Report(about=describe(service.name))
        for transport, target in _targets(service, options):
            say(f"contenders, {transport}, against {service.name}")
            report.tables[transport] = _compare(target, options)
        say("peak memory")
        for contender in _chosen(options):
            peak, _ = peak_memory(contender, service.plain, 2000)
            report.memory[contender.name] = peak
        if options.curves:
            report.curves = measure_curves(
                service, max(1, options.rounds // 2), full=options.full
            )
    say("imports")
    report.imports = measure_imports(5 if options.quick else 15)
    if options.micro:
        # It imports pyperf, which nothing else needs.
        from .micro import measure_steps

        say("single steps")
        report.micro = measure_steps(quick=options.quick)
    return report


def _targets(
    service: Service, options: argparse.Namespace
) -> Iterator[tuple[str, Target]]:
    yield "plain", service.plain
    if not options.plain:
        yield "tls", service.tls


def _chosen(options: argparse.Namespace) -> list[Contender]:
    has_uvloop = importlib.util.find_spec("uvloop") is not None
    return [
        each
        for each in CONTENDERS
        if (not each.uvloop or has_uvloop)
        and (not options.only or each.name in {*options.only, NAIVE.name})
    ]


def _compare(target: Target, options: argparse.Namespace) -> list[Result]:
    results = compare_apart(
        _chosen(options),
        target,
        rounds=options.rounds,
        processes=options.processes,
    )
    for result in results:
        say(f"{result.name}: {result.cpu:.0f} µs, {result.ratio:.3f}")
    return results


def publish(report: Report, output: Path) -> None:
    """Write this run into the READMEs and the record of the repository."""
    shutil.copy(output / "speed.svg", ROOT / "docs")
    shutil.copy(output / "curves.svg", ROOT / "docs")
    replace_block(ROOT / "README.md", "speed", sum_up(report))
    picture = "![Cost of a session by what surrounds it](../docs/curves.svg)"
    replace_block(PAGE, "run", f"{render(report)}\n{picture}")
    rows = history.append(
        history.PATH, report.about, history.figures_of(report)
    )
    history.draw(rows, ROOT / "docs" / "history.svg")


def _run(options: argparse.Namespace, results: Path) -> Iterator[Report]:
    if options.again:
        yield from map(Report.from_dict, json.loads(results.read_text()))
        return
    documents = []
    for number in range(options.runs):
        say(f"run {number + 1} of {options.runs}")
        report = measure(options)
        documents.append(attrs.asdict(report))
        # Those that are done outlive one that is interrupted.
        results.write_text(json.dumps(documents, indent=1) + "\n")
        yield report


def compare_costs(options: argparse.Namespace) -> None:
    """Measure what sessions cost, draw it, and print it."""
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    report = median_report(list(_run(options, output / "results.json")))
    draw(report, output / "speed.svg")
    if report.curves:
        draw_curves(report, output / "curves.svg")
    if options.publish:
        publish(report, output)
    print(render(report))
    say(f"results.json and pictures are in {output}")


def main() -> None:
    """Read the command line, and run the benchmarks that it names."""
    options = _parse()
    options.run(options)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.set_defaults(run=compare_costs)
    commands = parser.add_subparsers(title="other benchmarks")
    for name, (module, text) in _OTHERS.items():
        other = commands.add_parser(
            name, help=text, description=module.__doc__
        )
        other.set_defaults(run=module.run)
        module.add_options(other)
    add = parser.add_argument
    add("--quick", action="store_true", help="few rounds, plain TCP only")
    add("--full", action="store_true", help="everything, and 10^6 sessions")
    add("--curves", action="store_true", help="vary what surrounds a session")
    add("--micro", action="store_true", help="measure single steps")
    add("--plain", action="store_true", help="leave TLS out")
    add("--rounds", type=int, help="of four blocks for each contender")
    add("--processes", type=int, help="that do so, one after the other")
    add("--runs", type=int, help="of everything; figures are their medians")
    add(
        "--only",
        action="append",
        metavar="NAME",
        choices=[each.name for each in CONTENDERS],
        help="measure this contender; can be repeated",
    )
    add(
        "--publish",
        action="store_true",
        help="measure everything in three runs, and write it into both "
        "READMEs and into history.csv",
    )
    add(
        "--again",
        action="store_true",
        help="measure nothing, take the results of the last time",
    )
    add("--output", type=Path, default=_OUTPUT, help="folder for results")
    options = parser.parse_args()
    options.full = options.full or options.publish
    options.curves = options.curves or options.full
    options.micro = options.micro or options.full
    options.plain = options.plain or options.quick
    options.runs = options.runs or (3 if options.publish else 1)
    options.rounds = options.rounds or (4 if options.quick else 8)
    options.processes = options.processes or (1 if options.quick else 5)
    return options


if __name__ == "__main__":
    main()
