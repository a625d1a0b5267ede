"""
Pictures of the served rate against the limit.
"""

import re

from pathlib import Path
from typing import Any, Final

from benchmarks.report import pyplot, save

from .comparison import NO_CONTROL, Result, Results
from .scenarios import SCENARIOS, Scenario


_LIMIT_COLOR: Final = "#868e96"
_SERVED_COLOR: Final = "#0b7285"
_REFUSED_COLOR: Final = "#e03131"
# The height of a panel, as a multiple of the highest limit.
_HEIGHT: Final = 1.3
# A number with more decimals than an eye can see.
_LONG_NUMBER: Final = re.compile(r"(?<=[ \"])\d+\.\d{2,}(?=[ \"\n])")


def draw(results: Results, folder: Path) -> None:
    """Write a picture of each scenario into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    plt = pyplot()
    for name, by_control in results.items():
        # Without control the curve of refusals would hide everything else.
        drawn = [each for each in by_control if each != NO_CONTROL]
        figure, panels = plt.subplots(
            1, len(drawn), figsize=(3.6 * len(drawn), 2.1), sharey=True
        )
        for axes, control in zip(panels, drawn, strict=True):
            _draw_panel(axes, SCENARIOS[name], by_control[control])
            score = by_control[control].scores[-1]
            axes.set_title(
                f"{control}: {score.utilisation:.0f} % used, "
                f"{score.refused:.1f} % refused",
                fontsize=9,
            )
        panels[0].set_ylabel("requests per second")
        figure.tight_layout()
        path = folder / f"{name}.svg"
        save(figure, path)
        _shorten(path)


def _draw_panel(axes: Any, scenario: Scenario, result: Result) -> None:
    curve = result.curve
    times = [curve.step * (point + 0.5) for point in range(len(curve.served))]
    limit = scenario.limit()
    limits = [limit(time) for time in times]
    refused = [
        sum(each) for each in zip(curve.refused, curve.failed, strict=True)
    ]
    axes.plot(times, limits, color=_LIMIT_COLOR, linestyle=":")
    axes.plot(times, refused, color=_REFUSED_COLOR, linewidth=0.8)
    axes.plot(times, curve.served, color=_SERVED_COLOR, linewidth=1.2)
    axes.locator_params(nbins=4)
    axes.set_ylim(0, _HEIGHT * max(limits))
    axes.set_xlim(0, scenario.seconds)
    axes.set_xlabel("seconds", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _shorten(path: Path) -> None:
    """Round all numbers of a picture; most of its size is decimals."""
    text = path.read_text(encoding="utf-8")
    path.write_text(
        _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.1f}", text),
        encoding="utf-8",
    )
