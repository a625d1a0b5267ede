"""
The same in one process after the other.

Where things happen to lie in memory makes some hundredths of difference in
the ratio of two contenders, for as long as a process lives.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from .contenders import NAIVE, Contender, Setting, Target
from .measure import Pair, Result, collect, summarize
from .report import say


def compare_apart(
    contenders: Sequence[Contender],
    target: Target,
    *,
    rounds: int,
    processes: int,
) -> list[Result]:
    """
    Measure *contenders* beside naive code, which comes first.

    Args:
        contenders: Naive code among them or not. Those that take part in
            few rounds, as they cost a multiple, do so in one process only.
        target: Whom to ask.
        rounds: Of four blocks each, in each process.
        processes: How many.
    """
    found: dict[str, list[Pair]] = {NAIVE.name: []}
    for number in range(processes):
        say(f"process {number + 1} of {processes}")
        others = [
            each
            for each in contenders
            if each is not NAIVE and (each.rounds == 1 or not number)
        ]
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            done = process.submit(_collect, others, target, rounds)
        for name, pairs in done.result():
            found.setdefault(name, []).extend(pairs)
    return [summarize(name, pairs) for name, pairs in found.items()]


def _collect(
    others: list[Contender], target: Target, rounds: int
) -> list[tuple[str, list[Pair]]]:
    return list(collect(NAIVE, others, Setting(target=target), rounds))
