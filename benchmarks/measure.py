"""
CPU time in interleaved blocks, within one process.

Two processes that do the same differ by a fifth in the CPU time they take;
two neighbouring blocks of one process by a hundredth or two. So contenders
take turns in one process, A B B A, each on an event loop of its own that
stands still meanwhile, and what counts is the median of the pairs' ratios.
"""

import asyncio
import gc
import statistics
import time

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeAlias

import attrs

from .contenders import Contender, Job, Setting, new_ids


@attrs.frozen(kw_only=True)
class Block:
    """
    Some sessions in a row.

    Attributes:
        cpu: Microseconds of this process's CPU time for each session.
        rate: Sessions in a second of wall-clock time.
        seconds: Each session's latency, as far as it can be seen.
    """

    cpu: float
    rate: float
    seconds: list[float] = attrs.field(repr=False)


#: Of the base and of another contender, one right after the other.
Pair: TypeAlias = tuple[Block, Block]


@attrs.frozen
class Opened:
    """
    A contender that is ready, and the loop on which it runs.
    """

    contender: Contender
    _runner: asyncio.Runner
    _job: Job

    def run(self, count: int | None = None) -> Block:
        """Create *count* sessions, by default the contender's own number."""
        count = count or self.contender.size
        ids = new_ids(count)
        # What others left behind is neither looked at nor freed at the
        # expense of this one; its own garbage is.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        wall, cpu = time.perf_counter(), time.process_time()
        seconds = self._runner.run(self._job(ids))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return Block(cpu=cpu / count * 1e6, rate=count / wall, seconds=seconds)


@contextmanager
def opened(contender: Contender, setting: Setting) -> Iterator[Opened]:
    """Get a contender ready, and warm it up."""
    with asyncio.Runner(loop_factory=_loop_factory(contender)) as runner:
        context = contender.open(setting)
        # Each run is a task of its own, so `async with` cannot span them.
        ready = Opened(contender, runner, runner.run(_enter(context)))
        try:
            ready.run(2 * contender.size)
            yield ready
        finally:
            runner.run(_leave(context))


def _loop_factory(
    contender: Contender,
) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not contender.uvloop:
        return None
    import uvloop

    new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return new_loop


async def _enter(context: AbstractAsyncContextManager[Job]) -> Job:
    return await context.__aenter__()


async def _leave(context: AbstractAsyncContextManager[Job]) -> None:
    await context.__aexit__(None, None, None)


def take_turns(
    base: Callable[[], Block], other: Callable[[], Block], rounds: int
) -> Iterator[Pair]:
    """Run both *rounds* times as A B B A; yields the pairs."""
    for _ in range(rounds):
        first = base()
        yield first, other()
        last = other()
        yield base(), last


@attrs.frozen(kw_only=True)
class Result:
    """
    The result of the blocks of one contender.

    Attributes:
        name: Of the contender.
        cpu: Microseconds for each session; the median block.
        ratio: Of that to the base; the median pair.
        low, high: Quartiles of the pairs' ratios.
        rate: Sessions in a second; the median block.
        p50, p99: Latency in milliseconds, where it could be seen.
        pairs: How many there were.
        runs: The ratio of each run, if the result is the median of several.
    """

    name: str
    cpu: float
    ratio: float
    low: float
    high: float
    rate: float
    p50: float | None
    p99: float | None
    pairs: int
    runs: list[float] = attrs.Factory(list)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the quartiles; those of one value are all the same."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def summarize(name: str, pairs: Sequence[Pair]) -> Result:
    """Sum up what the second of each pair did, beside the first."""
    ratios = [block.cpu / base.cpu for base, block in pairs]
    blocks = [block for _, block in pairs]
    seconds = sorted(each for block in blocks for each in block.seconds)
    low, middle, high = quartiles(ratios)
    return Result(
        name=name,
        cpu=statistics.median(block.cpu for block in blocks),
        ratio=middle,
        low=low,
        high=high,
        rate=statistics.median(block.rate for block in blocks),
        p50=_quantile(seconds, 0.5),
        p99=_quantile(seconds, 0.99),
        pairs=len(pairs),
    )


def _quantile(seconds: Sequence[float], share: float) -> float | None:
    return seconds[int(len(seconds) * share)] * 1e3 if seconds else None


def compare(
    base: Contender,
    others: Sequence[Contender],
    setting: Setting,
    rounds: int,
) -> Iterator[Result]:
    """
    Measure *others* beside *base* in this process, as `collect` does.
    """
    for name, pairs in collect(base, others, setting, rounds):
        yield summarize(name, pairs)


def collect(
    base: Contender,
    others: Sequence[Contender],
    setting: Setting,
    rounds: int,
) -> Iterator[tuple[str, list[Pair]]]:
    """
    Run *others* beside *base*, one after the other; yields *base* last.

    Args:
        base: What ratios are of.
        others: Whom to measure.
        setting: Given to all of them.
        rounds: Of four blocks each, for a contender that takes part in all.
    """
    blocks: list[Block] = []
    with opened(base, setting) as first:
        for contender in others:
            with opened(contender, setting) as other:
                # It stood still while the other one warmed up.
                first.run()
                part = max(1, round(rounds * contender.rounds))
                pairs = list(take_turns(first.run, other.run, part))
            blocks += [block for block, _ in pairs]
            yield contender.name, pairs
        if not blocks:
            blocks = [first.run() for _ in range(2 * rounds)]
    yield base.name, [(block, block) for block in blocks]
