"""
Compare rate controls in a simulation, and run ours over sockets.
"""

import argparse
import shutil

from pathlib import Path
from typing import Final

from benchmarks.report import ROOT, replace_block, say

from .comparison import Results, compare, render
from .plots import draw
from .scenarios import SCENARIOS
from .sockets import measure


_SEEDS: Final = 5
_OUTPUT: Final = ROOT / "build" / "rate-control"
_PAGE: Final = ROOT / "docs" / "rate-control.md"
_PICTURES: Final = ROOT / "docs" / "rate-control"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this comparison."""
    add = parser.add_argument
    add("--quick", action="store_true", help="one seed, and no sockets")
    add(
        "--only",
        action="append",
        metavar="NAME",
        choices=list(SCENARIOS),
        help="simulate this scenario, and no sockets; can be repeated",
    )
    add(
        "--publish",
        action="store_true",
        help="run everything, and write the page and its pictures",
    )
    add("--output", type=Path, default=_OUTPUT, help="folder for pictures")


def run(options: argparse.Namespace) -> None:
    """Simulate, draw and print what was asked for."""
    if options.publish:
        options.quick, options.only = False, None
    results = compare(
        options.only or SCENARIOS,
        seeds=1 if options.quick else _SEEDS,
    )
    draw(results, options.output)
    print(simulated := render(results))
    say(f"the pictures are in {options.output}")
    if options.quick or options.only:
        return
    print(measure())
    if options.publish:
        shutil.copytree(options.output, _PICTURES, dirs_exist_ok=True)
        replace_block(_PAGE, "simulated", simulated)
        replace_block(_PAGE, "pictures", list_pictures(results))


def list_pictures(results: Results) -> str:
    """Return Markdown that shows the picture of each scenario."""
    return "\n\n".join(
        f"**{SCENARIOS[name].title}**\n\n"
        f"![Rate against limit](rate-control/{name}.svg)"
        for name in results
    )
