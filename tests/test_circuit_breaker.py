"""
The circuit breaker of a batch, told the time.
"""

import pytest

from bankconnect_async.batch.circuit_breaker import CircuitBreaker


def opened(*, kind=None):
    """Make a breaker that nothing but failures opened, at time 0."""
    breaker = CircuitBreaker(rng=max)
    for _ in range(10):
        breaker.on_failure(0.0, 0.0, kind)
    assert not breaker.is_closed
    return breaker


def probe(breaker, now, *, kind=None, is_first=True):
    """Send the next probe, which fails, and return the time."""
    now += breaker.wait(now)
    breaker.on_send(now, is_first=is_first)
    breaker.on_failure(now + 0.01, now, kind)
    return now


def test_a_success_in_between_keeps_the_circuit_closed():
    """
    Nine failures of ten, over and over, are not yet an outage.
    """
    breaker = CircuitBreaker()
    for number in range(1000):
        if number % 10:
            breaker.on_failure(0.0, 0.0)
        else:
            breaker.on_success(0.0)
        assert breaker.is_closed


def test_probes_become_rare():
    """
    The intervals double up to 5 s, and then are a quarter of the outage.
    """
    breaker, now, times = opened(), 0.0, []
    for _ in range(12):
        now = probe(breaker, now)
        times.append(now)

    assert times[:7] == [0.25, 0.75, 1.75, 3.75, 7.75, 12.75, 17.75]
    assert times[9] - times[8] == pytest.approx(times[8] / 4)


def test_batches_do_not_probe_together():
    """
    An interval is between half of itself and the whole, as chance has it.
    """
    early = CircuitBreaker(rng=min)
    for _ in range(10):
        early.on_failure(0.0, 0.0)
    late, now = opened(), 0.0
    for _ in range(12):
        assert early.wait(now) == late.wait(now) / 2
        now += late.wait(now)
        early.on_send(now, is_first=True)
        late.on_send(now, is_first=True)


def test_a_function_that_draws_nothing_spaces_probes_all_the_same():
    """
    Half of the interval passes, whatever the user's function returns.
    """
    breaker = CircuitBreaker(rng=lambda _low, _high: 0.0)
    for _ in range(10):
        breaker.on_failure(0.0, 0.0)

    assert breaker.wait(0.0) == 0.125


def test_an_outage_of_hours_draws_few_retries():
    """
    Past 50 retries, only first attempts are probes.
    """
    breaker, now, sent = opened(), 0.0, 0
    while breaker.allows_retry():
        now = probe(breaker, now, is_first=False)
        sent += 1

    assert sent == 50
    breaker.on_success(now)
    assert breaker.allows_retry()


def test_successes_close_it_step_by_step():
    """
    Each success allows three more requests, and sixteen unused close it.
    """
    breaker = opened()
    now = breaker.wait(0.0)
    breaker.on_send(now, is_first=True)
    breaker.on_success(now)
    allowed = 0
    while not breaker.wait(now) and not breaker.is_closed:
        breaker.on_send(now, is_first=True)
        allowed += 1
        if allowed == 4:
            break
    assert breaker.wait(now) > 0

    for _ in range(6):
        breaker.on_success(now)
    assert breaker.is_closed
    assert breaker.wait(now) == 0


def test_failures_of_before_a_success_do_not_count():
    """
    A request that was sent before the recovery tells nothing new.
    """
    breaker = opened()
    for _ in range(6):
        breaker.on_success(5.0)
    for _ in range(100):
        breaker.on_failure(6.0, 4.0)

    assert breaker.is_closed


def test_a_probe_that_was_not_sent_is_replaced_at_once():
    """
    An item whose time is over leaves the probe to the next one.
    """
    breaker = opened()
    now = breaker.wait(0.0)
    breaker.on_send(now, is_first=False)
    assert breaker.wait(now) > 0
    breaker.on_unsent(now)

    assert breaker.wait(now) == 0


@pytest.mark.parametrize(
    ("kinds", "is_hopeless"),
    [
        ([404] * 5, True),
        ([404] * 4, False),
        ([None] * 50, False),
        ([404, 404, None, 404, 404, 307], False),
        ([None, 307, *[404] * 5], True),
    ],
)
def test_five_probes_alike_leave_no_hope(kinds, is_hopeless):
    """
    Only what waiting cannot change ends a batch.
    """
    breaker, now = opened(kind=404), 0.0
    for kind in kinds:
        now = probe(breaker, now, kind=kind)

    assert breaker.is_hopeless is is_hopeless
