"""
All controls in all scenarios: the worst of some seeds, as Markdown.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import attrs

from benchmarks.report import table

from .ours import CreateSessions
from .published import AIMD, Botocore, NoControl
from .scenarios import EVERYTHING, SCENARIOS, Scenario, Target
from .simulator import Controller, Run, Score


NO_CONTROL: Final = "no control"
#: The controls that are compared, by name.
CONTROLS: Final[dict[str, Callable[[], Controller]]] = {
    "create_sessions": CreateSessions,
    "botocore, adaptive mode": Botocore,
    "AIMD": AIMD,
    NO_CONTROL: NoControl,
}
# The number of points of a curve.
_POINTS: Final = 120


@attrs.frozen(kw_only=True)
class Curve:
    """
    The server's responses in the course of one run.

    Attributes:
        step: The seconds from point to point.
        served: The accepted requests per second, by point.
        refused: The requests per second that were answered 429, by point.
        failed: The requests per second that failed otherwise, by point.
    """

    step: float
    served: list[float]
    refused: list[float]
    failed: list[float]

    @classmethod
    def of(cls, run: Run, seconds: float) -> "Curve":
        """Count what came of a run of so many *seconds*."""
        step = max(0.1, seconds / _POINTS)
        count = round(seconds / step)

        def rates(times: Iterable[float]) -> list[float]:
            counts = [0] * (count + 1)
            for time in times:
                counts[int(time / step)] += 1
            return [each / step for each in counts[:count]]

        return cls(
            step=step,
            served=rates(run.served),
            refused=rates(run.refused),
            failed=rates(run.failed),
        )


@attrs.frozen(kw_only=True)
class Result:
    """
    One control in one scenario, with one seed or the worst of several.

    Attributes:
        scores: The score for each target.
        failed: The number of requests that failed, refusals left out.
        curve: The curve of the first seed.
    """

    scores: list[Score]
    failed: int
    curve: Curve

    @classmethod
    def worst_of(cls, results: Sequence["Result"]) -> "Result":
        """Return the worst of each figure."""
        return cls(
            scores=[
                Score(
                    utilisation=min(score.utilisation for score in scores),
                    refused=max(score.refused for score in scores),
                )
                for scores in zip(
                    *(each.scores for each in results), strict=True
                )
            ],
            failed=max(each.failed for each in results),
            curve=results[0].curve,
        )


#: The result of each control, by scenario and control.
Results = dict[str, dict[str, Result]]


def run_once(scenario: str, control: str, seed: int) -> Result:
    """Simulate a scenario with one control and one seed."""
    chosen = SCENARIOS[scenario]
    run = chosen.simulate(CONTROLS[control](), seed)
    return Result(
        scores=chosen.scores(run),
        failed=len(run.failed),
        curve=Curve.of(run, chosen.seconds),
    )


def compare(scenarios: Iterable[str], seeds: int) -> Results:
    """Simulate *scenarios* with all controls, each with so many seeds."""
    numbers = range(1, seeds + 1)
    with ProcessPoolExecutor() as pool:
        pending = {
            scenario: {
                control: [
                    pool.submit(run_once, scenario, control, seed)
                    for seed in numbers
                ]
                for control in CONTROLS
            }
            for scenario in scenarios
        }
        return {
            scenario: {
                control: Result.worst_of([each.result() for each in futures])
                for control, futures in by_control.items()
            }
            for scenario, by_control in pending.items()
        }


def render(results: Results) -> str:
    """Return the table of all results as Markdown."""
    header = ["Scenario", "Seconds", "Wanted", *CONTROLS]
    rows = [
        [
            _title(scenario) if number == 0 else "",
            f"{target.start:g} to {target.end:g}",
            show_target(target),
            *(
                show_score(target, by_control[control].scores[number])
                for control in CONTROLS
            ),
        ]
        for name, by_control in results.items()
        for scenario in [SCENARIOS[name]]
        for number, target in enumerate(scenario.targets)
    ]
    failures = [
        [
            _title(SCENARIOS[name]),
            *(f"{by_control[control].failed:,}" for control in CONTROLS),
        ]
        for name, by_control in results.items()
        if any(result.failed for result in by_control.values())
    ]
    parts = [table(header, rows)]
    if failures:
        parts.append(table(["Failed requests", *CONTROLS], failures))
    return "\n\n".join(parts) + "\n"


def _title(scenario: Scenario) -> str:
    return f"{scenario.title} \\*" if scenario.is_starred else scenario.title


def show_target(target: Target) -> str:
    """Write down what is wanted."""
    if not target.utilisation:
        return "-"
    if target.refused == EVERYTHING:
        return f"{target.utilisation:g}"
    return f"{target.utilisation:g} / {target.refused:g}"


def show_score(target: Target, score: Score) -> str:
    """Write down what was reached, in bold if it is not enough."""
    text = f"{score.utilisation:.1f} / {score.refused:.1f}"
    return text if target.is_met(score) else f"**{text}**"
