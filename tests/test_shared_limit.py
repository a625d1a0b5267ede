"""
Limits and pauses that the workers of a cluster share.
"""

import statistics

from random import Random

import attrs
import pytest

from bankconnect_async.batch.adaptive_rate import AdaptiveRate
from bankconnect_async.distributed.messages import Directive, Heartbeat
from bankconnect_async.distributed.shared_limit import (
    SharedLimit,
    apply_limit,
)
from benchmarks.rate_control import servers, simulator


IDLE = Heartbeat(
    api="https://api.example/v1",
    redirect_url=None,
    created={},
    failures={},
    in_flight=0,
    retries=0,
    rate=0.0,
    limit=None,
    is_probing=False,
    found=None,
    pause_end=0.0,
    secrets="",
    clock=0.0,
    key=b"",
)


class Coordinator:
    """
    A `SharedLimit` and the latest heartbeat of each worker.
    """

    def __init__(self):
        self.shared = SharedLimit()
        self.heartbeats = {}

    def part(self, name):
        """Return what a worker is told."""
        return self.shared.part(name, self.heartbeats[name])

    def hear(self, name, *, limit=None, **values):
        """Receive a heartbeat, which answers a directive with *limit*."""
        self.heartbeats[name] = heartbeat = attrs.evolve(IDLE, **values)
        is_due = self.shared.split(self.heartbeats)
        directive = Directive(limit=limit)
        self.shared.update(name, heartbeat, directive, now=0.0)
        return is_due


@pytest.fixture(name="coordinator")
def _coordinator():
    """Two workers, one of which has found a limit."""
    coordinator = Coordinator()
    coordinator.hear("a", rate=200)
    coordinator.hear("b", rate=100)
    coordinator.hear("a", found=180)
    return coordinator


class TestLimits:
    """
    The limit of each worker.
    """

    def test_unlimited(self):
        """
        Nothing is limited before a worker has found a limit.
        """
        coordinator = Coordinator()
        is_due = [coordinator.hear(name, rate=50) for name in "abc"]

        assert not any(is_due)
        assert [coordinator.part(name) for name in "abc"] == [None] * 3

    def test_one_found(self, coordinator):
        """
        A worker that has found no limit gets half of what the other one
        found and it sends itself, and that one keeps what it found.
        """
        assert coordinator.part("a") is None
        assert coordinator.part("b") == (180 + 100) / 2

    def test_both_found(self, coordinator):
        """
        Workers that have found their limits keep them.
        """
        coordinator.hear("b", found=70)

        assert coordinator.part("a") is None
        assert coordinator.part("b") is None

    def test_another_worker(self, coordinator):
        """
        When a worker comes, the limit is split among all.
        """
        coordinator.hear("b", found=120)

        assert coordinator.hear("c")
        assert [coordinator.part(name) for name in "abc"] == [100] * 3
        coordinator.hear("a", found=100, limit=100)
        assert [coordinator.part(name) for name in "abc"] == [None, 100, 100]

    def test_lost_worker(self, coordinator):
        """
        When a worker is lost, the others get its part.
        """
        coordinator.hear("b", found=120)
        del coordinator.heartbeats["b"]

        assert coordinator.hear("a", found=180)
        assert coordinator.part("a") == 300

    def test_continued_worker(self, coordinator):
        """
        A worker that was stopped and goes on does not count twice.
        """
        coordinator.hear("b", found=120)
        del coordinator.heartbeats["b"]
        coordinator.hear("a", found=180)
        coordinator.hear("a", found=300, limit=300)

        assert coordinator.hear("b", found=120)
        assert [coordinator.part(name) for name in "ab"] == [150, 150]

    def test_two_at_once(self, coordinator):
        """
        Workers that come before the others know their parts change nothing
        of the sum.
        """
        coordinator.hear("b", found=120)
        coordinator.hear("c")
        coordinator.hear("d")
        coordinator.hear("a", found=180)

        assert [coordinator.part(name) for name in "abcd"] == [75] * 4

    def test_late_directive(self, coordinator):
        """
        The response to a directive of before a split does not end it.
        """
        coordinator.hear("c", rate=0)
        before = coordinator.part("a")
        coordinator.hear("d", rate=0)
        coordinator.hear("a", limit=before, found=before)

        parts = [coordinator.part(name) for name in "abcd"]
        assert sum(parts) == pytest.approx(280)


class TestPauses:
    """
    The pause of all workers.
    """

    @pytest.fixture(name="shared")
    def _shared(self):
        """A worker whose clock shows 1,000 has a pause of 30 seconds."""
        shared = SharedLimit()
        heartbeat = attrs.evolve(IDLE, clock=1000.0, pause_end=1030.0)
        shared.update("a", heartbeat, Directive(), now=5.0)
        return shared

    def test_of_one_worker(self, shared):
        """
        A pause ends for all when it ends for the worker that was refused.
        """
        assert shared.resumed_at == 35

    def test_late_messages(self, shared):
        """
        A pause does not grow with each heartbeat that arrives late.
        """
        for seconds in range(1, 10):
            late = attrs.evolve(IDLE, clock=1000.0 + seconds, pause_end=1030.0)
            shared.update("a", late, Directive(), now=5.5 + seconds)
            other = attrs.evolve(IDLE, clock=70.0 + seconds, pause_end=100.0)
            shared.update("b", other, Directive(pause_end=100.0), now=7.0)

        assert shared.resumed_at == 35

    def test_longer(self, shared):
        """
        A pause that another worker was told and that ends later counts.
        """
        other = attrs.evolve(IDLE, clock=70.0, pause_end=120.0)
        shared.update("b", other, Directive(pause_end=99.0), now=6.0)

        assert shared.resumed_at == 56


class Worker:
    """
    The rate control of one worker process, in simulated time.
    """

    def __init__(self):
        self.rate = AdaptiveRate(0.0, max_pause=120)
        self.delay = self.rate.delay
        self.latest = None

    def is_paused(self, now):
        """Return whether all requests wait."""
        return self.rate.pause(now) > 0

    def on_send(self, now, _failures):
        """Count a request."""
        self.rate.on_send(now)

    def on_response(self, now, sent_at, response):
        """Learn from a response."""
        if response.is_success:
            self.rate.on_success(now, sent_at)
            return False
        return self.rate.on_throttle(now, sent_at, response.retry_after)

    def beat(self, name, shared, now):
        """Exchange a directive and a heartbeat."""
        directive = Directive()
        if self.latest is not None:
            directive = Directive(
                limit=shared.part(name, self.latest),
                found=self.latest.found,
                sharers=shared.sharers,
                pause_end=shared.resumed_at,
            )
        apply_limit(self.rate, directive, now)
        seconds = min(max(now, 1.0), 5.0)
        self.latest = attrs.evolve(
            IDLE,
            clock=now,
            rate=self.rate.served.since(now - seconds) / seconds,
            limit=self.rate.limit(now),
            found=self.rate.found,
            pause_end=self.rate.resumed_at,
        )
        shared.update(name, self.latest, directive, now)


def simulate(ends, *, seed):
    """
    Run workers on a token bucket of 300 per second, with a burst of 30.

    Args:
        ends: The time when each worker ends.
        seed: The seed of all jitter.
    """
    bucket = servers.TokenBucket(
        servers.constant(300), 30, retry_after=servers.in_seconds(1)
    )
    shared = SharedLimit()
    names = [f"worker-{number}" for number in range(len(ends))]
    workers = {name: Worker() for name in names}
    batches = {
        name: simulator.Simulation(
            server=bucket,
            controller=worker,
            rng=Random(f"{seed}{name}"),
            workers=64,
            latency=0.02,
        )
        for name, worker in workers.items()
    }
    for millisecond in range(1000 * max(ends)):
        now = millisecond / 1000
        active = [
            name for name, end in zip(names, ends, strict=True) if now < end
        ]
        for place, name in enumerate(active):
            batches[name].advance(now)
            if millisecond % 1000 == 150 * place:
                shared.split(active)
                workers[name].beat(name, shared, now)
    return [batch.run for batch in batches.values()]


def score(runs, start, end):
    """Rate what some workers did together."""
    both = simulator.Run(
        served=[time for run in runs for time in run.served],
        refused=[time for run in runs for time in run.refused],
    )
    return simulator.score(both, servers.constant(300), start, end)


@pytest.mark.long
class TestOneBucket:
    """
    Several workers at one server.
    """

    @pytest.mark.parametrize("seed", range(3))
    def test_together(self, seed):
        """
        Two workers together use most of the limit, with few refusals.
        """
        reached = score(simulate([60, 60], seed=seed), 0, 60)

        assert reached.utilisation > 85
        assert reached.refused < 5

    @pytest.mark.parametrize("seed", range(2))
    def test_four(self, seed):
        """
        Four workers together do not probe more often than one.
        """
        reached = score(simulate([60] * 4, seed=seed), 0, 60)

        assert reached.utilisation > 91
        assert reached.refused < 5

    def test_one_left(self):
        """
        If one of two workers ends, the other one uses the whole limit.
        """
        reached = [
            score(simulate([20, 40], seed=seed), 22, 40) for seed in range(4)
        ]

        assert statistics.fmean(each.utilisation for each in reached) > 75
        assert max(each.refused for each in reached) < 5
