"""
Run the benchmarks: ``nox -s bench``, or ``python -m benchmarks``.
"""

import argparse
import importlib.util

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .contenders import CONTENDERS, NAIVE, Contender, Setting, Target
from .imports import measure_imports
from .measure import Result, compare
from .report import ROOT, Report, describe, draw, render, say
from .serving import Service, serve
from .solo import peak_memory


_OUTPUT: Final = ROOT / "build" / "bench"


def measure(options: argparse.Namespace) -> Report:
    """Do all that was asked for."""
    with serve() as service:
        report = Report(about=describe(service.name))
        for transport, target in _targets(service, options):
            say(f"contenders, {transport}, against {service.name}")
            report.tables[transport] = list(_compare(target, options))
        say("peak memory")
        for contender in _chosen(options):
            peak, _ = peak_memory(contender, service.plain, 2000)
            report.memory[contender.name] = peak
    say("imports")
    report.imports = measure_imports(5 if options.quick else 15)
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
        and (not options.only or each.name in (*options.only, NAIVE.name))
    ]


def _compare(target: Target, options: argparse.Namespace) -> Iterator[Result]:
    others = [each for each in _chosen(options) if each is not NAIVE]
    results = []
    for result in compare(
        NAIVE, others, Setting(target=target), options.rounds
    ):
        say(f"{result.name}: {result.cpu:.0f} µs, {result.ratio:.3f}")
        results.append(result)
    yield results.pop()
    yield from results


def main() -> None:
    """Read the command line, measure, and tell."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="few rounds, plain TCP only"
    )
    parser.add_argument("--plain", action="store_true", help="leave TLS out")
    parser.add_argument(
        "--rounds", type=int, help="of four blocks for each contender"
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        choices=[each.name for each in CONTENDERS],
        help="measure this contender (can be repeated)",
    )
    parser.add_argument("--output", type=Path, default=_OUTPUT)
    options = parser.parse_args()
    options.plain = options.plain or options.quick
    options.rounds = options.rounds or (4 if options.quick else 12)
    report = measure(options)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "results.json").write_text(report.to_json())
    draw(report, options.output / "speed.svg")
    print(render(report))
    say(f"results.json and speed.svg are in {options.output}")


if __name__ == "__main__":
    main()
