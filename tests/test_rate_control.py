"""
The simulator of `benchmarks/rate_control`.
"""

import itertools

from collections import Counter
from random import Random

import attrs
import pytest

from benchmarks.rate_control import (
    comparison,
    ours,
    published,
    scenarios,
    servers,
    simulator,
    sockets,
)


def simulate(server, controller=None, *, seconds=5, seed=1, **settings):
    """Run a batch at *server*; without a controller it sends all it can."""
    simulation = simulator.Simulation(
        server=server,
        controller=controller or published.NoControl(),
        rng=Random(seed),
        **{"workers": 200, "latency": 0.02} | settings,
    )
    return simulation.advance(seconds)


def accepted(limiter, seconds=5):
    """Send requests at random times; return when they were accepted."""
    rng = Random(1)
    times = itertools.accumulate(
        rng.expovariate(2000) for _ in range(2000 * seconds)
    )
    return [time for time in times if limiter.accepts(time)]


def most_within(times, seconds):
    """Return the largest number of *times* within so many *seconds*."""
    most = start = 0
    for end, time in enumerate(times):
        while times[start] <= time - seconds:
            start += 1
        most = max(most, end - start + 1)
    return most


@pytest.mark.parametrize("seconds", [0.1, 1, 5])
def test_a_token_bucket_accepts_its_burst_and_its_rate(seconds):
    """
    In no span does a bucket accept more than its burst and rate allow.
    """
    bucket = servers.TokenBucket(servers.constant(300), 30)

    times = accepted(bucket)

    assert most_within(times, seconds) <= 30 + 300 * seconds
    assert len(times) == pytest.approx(30 + 300 * times[-1], abs=3)


def test_a_bucket_follows_a_rate_that_varies():
    """
    A bucket of a varying rate accepts what the rate allows in each second.
    """
    bucket = servers.TokenBucket(servers.steps(2, 300, 100), 5)

    seconds = Counter(int(time) for time in accepted(bucket))

    assert [seconds[second] for second in range(4)] == pytest.approx(
        [300, 300, 100, 100], abs=8
    )


def test_a_fixed_window_accepts_its_count_in_each_second():
    """
    Each second of the clock accepts the count, and no more.
    """
    seconds = Counter(int(time) for time in accepted(servers.FixedWindow(300)))

    assert [seconds[second] for second in range(4)] == [300] * 4


def test_a_sliding_window_accepts_its_count_in_any_second():
    """
    No span of one second accepts more than the count.
    """
    times = accepted(servers.SlidingWindow(300))

    assert most_within(times, 1) == 300


def test_a_concurrency_limit_accepts_so_many_at_a_time():
    """
    Ten requests of 50 ms each are 200 per second, and never eleven at once.
    """
    times = accepted(servers.ConcurrencyLimit(10, 0.05))

    assert most_within(times, 0.05) == 10
    assert len(times) == pytest.approx(200 * times[-1], rel=0.1)


def test_no_more_requests_are_in_flight_than_there_are_workers():
    """
    A server that serves as many requests as there are workers refuses none.
    """
    server = servers.ConcurrencyLimit(50, 0.05)

    run = simulate(server, workers=50)

    assert not run.refused
    assert len(run.served) > 500


def test_an_outage_serves_nothing():
    """
    Requests fail while the outage lasts, and are served before and after.
    """
    failure = servers.Response(503)
    server = servers.Outage(servers.Unlimited(), 1, 3, failure)

    run = simulate(server)

    assert not [time for time in run.served if 1 <= time < 3]
    assert run.served[0] < 1
    assert run.served[-1] > 3
    assert 1 <= run.failed[0] <= run.failed[-1] < 3
    assert [server.limit(time) for time in (0, 2, 4)] == [
        float("inf"),
        0,
        float("inf"),
    ]


def test_a_timeout_takes_its_time():
    """
    A worker whose request gets no response is busy until the timeout.
    """
    failure = servers.Response(None, seconds=2)
    server = servers.Outage(servers.Unlimited(), 0, 9, failure)

    run = simulate(server, workers=10, seconds=1.9)

    assert len(run.failed) == 10


def test_a_sick_node_fails_its_share():
    """
    One node of many fails the share of requests that it gets.
    """
    failure = servers.Response(503, retry_after=1)
    server = servers.SickNode(servers.Unlimited(), 0.02, failure, Random(1))

    run = simulate(server, workers=64)

    share = len(run.failed) / len(run.served + run.failed)
    assert share == pytest.approx(0.02, abs=0.005)


def test_a_refusal_says_when_to_try_again():
    """
    A Retry-After is none, a number of seconds, or the next whole second.
    """
    hints = servers.no_hint, servers.in_seconds(1), servers.next_second

    refusals = [
        servers.FixedWindow(0, retry_after=hint).respond(7.25)
        for hint in hints
    ]

    assert [each.retry_after for each in refusals] == [None, 1, 0.75]
    assert all(each.is_throttled for each in refusals)


def test_a_seed_repeats_its_run():
    """
    The same seed gives the same run, and another seed another one.
    """
    runs = [
        simulate(
            servers.TokenBucket(servers.constant(300), 30),
            seed=seed,
            seconds=1,
        )
        for seed in (1, 1, 2)
    ]

    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_aimd_is_refused_less_than_no_control():
    """
    Additive increase keeps most refusals away, at the price of some rate.
    """
    scores = [
        simulator.score(
            simulate(servers.FixedWindow(300), controller, seconds=20),
            servers.constant(300),
            0,
            20,
        )
        for controller in (published.AIMD(), published.NoControl())
    ]

    assert scores[0].refused < 10
    assert scores[1].refused > 50
    assert scores[0].utilisation < scores[1].utilisation == pytest.approx(100)


def test_scenarios_are_well_formed():
    """
    Each scenario has a file name, a server with a limit, and ordered spans.
    """
    for name, scenario in scenarios.SCENARIOS.items():
        limit = scenario.limit()
        assert name == scenario.name
        assert name.replace("-", "").isalnum()
        assert limit(0) > 0
        for target in scenario.targets:
            assert 0 <= target.start < target.end <= scenario.seconds

    starred = [
        each.title for each in scenarios.SCENARIOS.values() if each.is_starred
    ]
    for title, other in itertools.pairwise(starred):
        assert title != other


@pytest.mark.parametrize(
    ("name", "seconds", "utilisation", "refused"),
    [
        ("constant", 20, 85, 5),
        ("constant-no-hint", 20, 90, 5),
        ("wave-120", 60, 75, 2),
        ("wave-120-no-hint", 60, 85, 2),
        ("sick-node-5", 2, 80, 0),
        ("sick-node-20", 2, 50, 0),
    ],
)
def test_a_batch_uses_what_the_server_accepts(
    name, seconds, utilisation, refused
):
    """
    A batch uses most of a limit that stays or varies, with few refusals.
    """
    target = scenarios.Target(0, seconds, utilisation, refused)
    scenario = attrs.evolve(scenarios.SCENARIOS[name], targets=(target,))

    run = scenario.simulate(ours.CreateSessions(), seed=1)

    (reached,) = scenario.scores(run)
    assert target.is_met(reached), reached


def test_an_outage_draws_few_requests():
    """
    While everything fails, a batch sends probes; then it is back at once.
    """
    failure = servers.Response(503)
    server = servers.Outage(servers.Unlimited(), 1, 11, failure)

    run = simulate(server, ours.CreateSessions(), workers=20, seconds=16)

    assert len(run.failed) <= 20 + 50
    assert min(time for time in run.served if time > 11) < 11 + 6


def test_results_are_the_worst_of_all_seeds():
    """
    A figure of the table is the worst one that any seed had.
    """
    curve = comparison.Curve(step=1, served=[], refused=[], failed=[])
    results = [
        comparison.Result(
            scores=[simulator.Score(utilisation, refused)],
            failed=failed,
            curve=curve,
        )
        for utilisation, refused, failed in [(90, 1, 7), (80, 3, 5)]
    ]

    worst = comparison.Result.worst_of(results)

    assert worst.scores == [simulator.Score(80, 3)]
    assert worst.failed == 7


def test_the_table_marks_what_misses_its_target():
    """
    A score below its target is bold, and one that meets it is not.
    """
    result = comparison.run_once("no-burst", "no control", seed=1)

    lines = comparison.render(
        {"no-burst": dict.fromkeys(comparison.CONTROLS, result)}
    ).splitlines()

    assert lines[2].startswith("| 100/s, burst 1, Retry-After 1 ")
    assert "| 80 / 5 |" in lines[2]
    assert lines[2].count("**") == 2 * len(comparison.CONTROLS)


def test_a_curve_counts_requests_per_second():
    """
    Each point of a curve is the rate of its step.
    """
    run = simulator.Run(served=[0.05, 0.06, 1.95], refused=[1.0])

    curve = comparison.Curve.of(run, seconds=2)

    assert curve.step == 0.1
    assert curve.served == pytest.approx([20] + [0] * 18 + [10])
    assert sum(curve.refused) * curve.step == pytest.approx(1)
    assert not any(curve.failed)


@pytest.mark.long
def test_a_batch_runs_over_sockets(monkeypatch):
    """
    A real batch gets a session for each item from a real server.
    """
    # The server is a program of the checkout.
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    scenario = attrs.evolve(
        scenarios.SOCKET_SCENARIOS["sick-node-20"],
        targets=(scenarios.Target(0, 1),),
    )

    run = sockets.run_scenario(scenario)

    assert run.served
    assert not run.refused
