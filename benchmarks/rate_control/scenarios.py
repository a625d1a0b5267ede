"""
The scenarios: servers, and what a rate control should reach at them.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Final, TypeAlias

import attrs

from .servers import (
    ConcurrencyLimit,
    FixedWindow,
    Outage,
    Rate,
    Response,
    RetryAfter,
    Server,
    SickNode,
    SlidingWindow,
    TokenBucket,
    Unlimited,
    constant,
    in_seconds,
    next_second,
    no_hint,
    steps,
    wave,
)
from .simulator import (
    Controller,
    Run,
    Score,
    Simulation,
    generator,
    score,
)


#: Percent: no limit on refusals.
EVERYTHING: Final = 100.0


@attrs.frozen
class Target:
    """
    A goal for a span of time, in percent.

    Attributes:
        start: The time where the span starts.
        end: The time where it ends.
        utilisation: The least share of the limit to use.
        refused: The largest share of requests to be refused.
    """

    start: float
    end: float
    utilisation: float = 0.0
    refused: float = EVERYTHING

    def is_met(self, reached: Score) -> bool:
        """Return whether a score is good enough."""
        return (
            reached.utilisation >= self.utilisation
            and reached.refused <= self.refused
        )


#: Builds a server; whatever happens at random there follows the generator.
_Builder: TypeAlias = Callable[[Random], Server]


@attrs.frozen(kw_only=True)
class Scenario:
    """
    A server, the batch that it serves, and what should come of it.

    Attributes:
        name: The name of the picture's file.
        title: The description.
        server: The function that builds the server.
        targets: What to reach; the scenario ends with the last of them.
        workers: The number of workers.
        latency: The seconds from a request to its response.
        is_starred: Whether the targets win over those of other scenarios.
    """

    name: str
    title: str
    server: _Builder
    targets: tuple[Target, ...]
    workers: int = 200
    latency: float = 0.02
    is_starred: bool = False

    @property
    def seconds(self) -> float:
        """The duration."""
        return max(target.end for target in self.targets)

    def limit(self) -> Rate:
        """Return the highest rate that the batch can reach, by time."""
        server = self.server(generator(0))
        reach = self.workers / self.latency
        return lambda now: min(server.limit(now), reach)

    def simulate(self, controller: Controller, seed: int) -> Run:
        """Simulate the whole scenario."""
        rng = generator(seed)
        simulation = Simulation(
            server=self.server(rng),
            controller=controller,
            rng=rng,
            workers=self.workers,
            latency=self.latency,
        )
        return simulation.advance(self.seconds)

    def scores(self, run: Run) -> list[Score]:
        """Rate a run in the span of each target."""
        limit = self.limit()
        return [
            score(run, limit, target.start, target.end)
            for target in self.targets
        ]


@attrs.frozen
class _Hint:
    """
    The time to wait, as a refusal names it.
    """

    title: str
    suffix: str
    retry_after: RetryAfter


_SECOND: Final = _Hint("Retry-After 1", "", in_seconds(1))
_NONE: Final = _Hint("no Retry-After", "-no-hint", no_hint)
_DATE: Final = _Hint("Retry-After as a date", "-date", next_second)


def _bucket(
    rate: float | Rate, burst: float, hint: _Hint, status: int = 429
) -> _Builder:
    return lambda _rng: TokenBucket(
        rate if callable(rate) else constant(rate),
        burst,
        retry_after=hint.retry_after,
        status=status,
    )


_USUAL: Final = _bucket(300, 30, _SECOND)


def _outage(failure: Response) -> _Builder:
    return lambda rng: Outage(_USUAL(rng), 50, 70, failure)


def _sick_node(share: float) -> _Builder:
    failure = Response(503, retry_after=1)
    return lambda rng: SickNode(Unlimited(), share, failure, rng)


def _windows(hint: _Hint) -> Iterator[Scenario]:
    yield Scenario(
        name=f"fixed-window{hint.suffix}",
        title=f"fixed window of 300 in each second, {hint.title}",
        server=lambda _rng: FixedWindow(300, retry_after=hint.retry_after),
        targets=(Target(0, 300, 90, 2),),
    )
    yield Scenario(
        name=f"sliding-window{hint.suffix}",
        title=f"sliding window of 300 in any second, {hint.title}",
        server=lambda _rng: SlidingWindow(300, retry_after=hint.retry_after),
        targets=(Target(0, 300),),
    )


def _wave(period: float, hint: _Hint, seconds: float) -> Scenario:
    return Scenario(
        name=f"wave-{period:g}{hint.suffix}",
        title=f"300 ± 150/s, period {period:g} s, {hint.title}",
        server=_bucket(wave(300, 150, period), 30, hint),
        targets=(Target(0, seconds, 85, 2),),
        is_starred=True,
    )


def _buckets(hint: _Hint) -> Iterator[Scenario]:
    yield _wave(120, hint, seconds=300)
    yield _wave(300, hint, seconds=300)
    yield Scenario(
        name=f"fast{hint.suffix}",
        title=f"3,000/s, burst 300, {hint.title}",
        server=_bucket(3000, 300, hint),
        targets=(Target(0, 60, 85, 3),),
    )
    yield Scenario(
        name=f"large-burst{hint.suffix}",
        title=f"50/s, burst 900, {hint.title}",
        server=_bucket(50, 900, hint),
        targets=(Target(0, 120, 85, 10),),
    )
    yield Scenario(
        name=f"no-burst{hint.suffix}",
        title=f"100/s, burst 1, {hint.title}",
        server=_bucket(100, 1, hint),
        targets=(Target(0, 60, 80, 5),),
    )
    yield Scenario(
        name=f"steps{hint.suffix}",
        title=f"300, 100, 300/s for 60 s each, {hint.title}",
        server=_bucket(steps(60, 300, 100, 300), 30, hint),
        targets=(Target(0, 180, 75, 5),),
    )


def _variants() -> Iterator[Scenario]:
    """Change the latency or the number of workers of the first scenario."""
    for name, title, change in (
        ("latency-1ms", "latency 1 ms", {"latency": 0.001}),
        ("latency-200ms", "latency 200 ms", {"latency": 0.2}),
        ("workers-20", "20 workers", {"workers": 20}),
        ("workers-1000", "1,000 workers", {"workers": 1000}),
    ):
        usual = Scenario(
            name=name,
            title=f"300/s, burst 30, Retry-After 1, {title}",
            server=_USUAL,
            targets=(Target(0, 60, 85, 5),),
        )
        yield attrs.evolve(usual, **change)


def _failures() -> Iterator[Scenario]:
    for name, title, failure in (
        ("503", "503", Response(503)),
        ("503-hint", "503, Retry-After 1", Response(503, retry_after=1)),
        ("reset", "connections reset", Response(None)),
        ("timeout", "no responses within 2 s", Response(None, seconds=2)),
    ):
        yield Scenario(
            name=f"outage-{name}",
            title=f"outage from 50 to 70 s: {title}",
            server=_outage(failure),
            targets=(Target(80, 120, 85),),
        )


def _sick_nodes() -> Iterator[Scenario]:
    for share, least in ((0.0, 95), (0.005, 80), (0.02, 50)):
        sick = f"one node answers {100 * share:g} % with 503, Retry-After 1"
        yield Scenario(
            name=f"sick-node-{1000 * share:g}",
            title=sick if share else "no limit, 64 workers",
            server=_sick_node(share),
            targets=(Target(0, 10, least),),
            workers=64,
            is_starred=True,
        )


#: All scenarios, by name.
SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="constant",
            title="300/s, burst 30, Retry-After 1",
            server=_USUAL,
            targets=(
                Target(0, 20, 85, 5),
                Target(0, 60, 92, 3),
                Target(0, 300, 95, 2),
            ),
            is_starred=True,
        ),
        Scenario(
            name="constant-no-hint",
            title="300/s, burst 30, no Retry-After",
            server=_bucket(300, 30, _NONE),
            targets=(Target(0, 60, 93, 4),),
        ),
        *_buckets(_SECOND),
        *_buckets(_NONE),
        *_windows(_DATE),
        *_windows(_NONE),
        *_windows(_SECOND),
        *_variants(),
        Scenario(
            name="unavailable",
            title="300/s, burst 30, 503 and Retry-After 1 beyond",
            server=_bucket(300, 30, _SECOND, status=503),
            targets=(Target(0, 60),),
        ),
        Scenario(
            name="concurrency",
            title="10 requests at a time, 50 ms each, no Retry-After",
            server=lambda _rng: ConcurrencyLimit(10, 0.05),
            targets=(Target(0, 60),),
        ),
        *_failures(),
        *_sick_nodes(),
    )
}

#: The starred scenarios, as they run over sockets in less time.
SOCKET_SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.name: scenario
    for scenario in (
        attrs.evolve(
            SCENARIOS["constant"],
            targets=(Target(0, 20, 85, 5), Target(0, 60, 92, 3)),
        ),
        _wave(60, _SECOND, seconds=60),
        _wave(60, _NONE, seconds=60),
        *_sick_nodes(),
    )
}
