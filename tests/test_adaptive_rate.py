"""
The rate that a batch finds, against limiters of many kinds, in made-up time.
"""

import collections
import heapq
import itertools
import math
import random

import attrs
import pytest

from bankconnect_async.batch.adaptive_rate import AdaptiveRate
from bankconnect_async.batch.circuit_breaker import CircuitBreaker
from bankconnect_async.stats import Meter


LONGEST_PAUSE = 120
# Seconds that a worker needs to send a request.
CPU = 1e-4


class Bucket:
    """
    Lets *burst* through at once and *rate* a second; the rate may change.
    """

    def __init__(self, rate=300, burst=30, retry_after=1, changes=()):
        self.rate, self.burst, self.retry_after = rate, burst, retry_after
        self.changes = list(changes)
        self.tokens, self.at = burst, 0

    def __call__(self, now):
        while self.changes and now >= self.changes[0][0]:
            self.rate = self.changes.pop(0)[1]
        rate = self.rate(now) if callable(self.rate) else self.rate
        filled = self.tokens + (now - self.at) * rate
        self.tokens, self.at = min(self.burst, filled), now
        if self.tokens < 1:
            return ("refused", self.retry_after)
        self.tokens -= 1
        return None


class Window:
    """
    Lets so many through in each second, and tells when the next begins.
    """

    def __init__(self, count=300, *, tells=True):
        self.count, self.tells = count, tells
        self.second = self.used = 0

    def __call__(self, now):
        if int(now) != self.second:
            self.second, self.used = int(now), 0
        if self.used >= self.count:
            return ("refused", self.second + 1 - now if self.tells else None)
        self.used += 1
        return None


class SlidingWindow:
    """
    Lets so many through in any second, and asks for a pause of one.
    """

    def __init__(self, count=300):
        self.times = collections.deque([-1.0] * count, maxlen=count)

    def __call__(self, now):
        if now - self.times[0] < 1:
            return ("refused", 1)
        self.times.append(now)
        return None


class Failing:
    """
    Answers 503 by chance, in an outage, and where a limiter refuses.
    """

    def __init__(self, share=0.0, *, until=None, limiter=None):
        self.share, self.until, self.limiter = share, until, limiter
        self.random = random.Random(5)

    def __call__(self, now):
        out = self.until and self.until[0] <= now < self.until[1]
        full = self.limiter and self.limiter(now)
        if out or full or self.random.random() < self.share:
            return ("failed", 1)
        return None


@attrs.define
class Run:
    """
    A simulated batch, counted by the second.
    """

    rate: AdaptiveRate
    breaker: CircuitBreaker = attrs.Factory(lambda: CircuitBreaker(rng=max))
    served: collections.Counter = attrs.Factory(collections.Counter)
    refused: collections.Counter = attrs.Factory(collections.Counter)

    def share(self, limit, seconds, since=0):
        """Tell how much of the limit was reached."""
        found = sum(self.served[n] for n in range(since, seconds))
        return found / limit / (seconds - since)

    def refusals(self, since=3):
        """Tell how much was refused after the first seconds."""
        bad = sum(n for t, n in self.refused.items() if t >= since)
        good = sum(n for t, n in self.served.items() if t >= since)
        return bad / (good + bad)

    def hear(self, now, sent_at, trouble):
        """Tell the controllers of a response, as the throttle does."""
        if trouble is None:
            self.served[int(now)] += 1
            self.rate.on_success(now, sent_at)
            self.breaker.on_success(now)
            return
        self.refused[int(now)] += 1
        how, retry_after = trouble
        if how == "refused":
            self.rate.on_throttle(now, sent_at, retry_after)
            return
        if self.breaker.is_closed or sent_at <= self.breaker.opened_at:
            self.rate.on_failure(now, sent_at)
        else:
            self.rate.on_lost(sent_at)
        self.breaker.on_failure(now, sent_at)


def simulate(server, *, workers=200, latency=0.02, seconds=20, ceiling=None):
    """
    Have workers send one request after the other, in line.
    """
    chance = random.Random(1)
    run = Run(controller(ceiling=ceiling))
    rate, events, ticket = run.rate, [], itertools.count()
    line = collections.deque(range(workers))
    busy_until, pump_at = 0.0, 0.0

    def plan(when, what, *details):
        heapq.heappush(events, (when, next(ticket), what, details))

    def pump(now):
        nonlocal busy_until, pump_at
        while line:
            delay = rate.delay(now) or run.breaker.wait(now)
            if (due := max(now + delay, busy_until)) > now:
                if not now < pump_at <= due:
                    pump_at = due
                    plan(due, "pump")
                return
            line.popleft()
            rate.on_send(now)
            run.breaker.on_send(now, is_first=True)
            busy_until = now + CPU
            way = latency / 2 * (1 + chance.random() / 10)
            plan(now + way, "arrive", now, way)

    plan(0.0, "pump")
    while events and events[0][0] < seconds:
        now, _, what, details = heapq.heappop(events)
        if what == "arrive":
            sent_at, way = details
            plan(now + way, "response", sent_at, server(now))
            continue
        if what == "response":
            sent_at, trouble = details
            run.hear(now, sent_at, trouble)
            line.append(0)
        pump(now)
    return run


@pytest.mark.parametrize("workers", [20, 64, 200, 1000])
@pytest.mark.parametrize("latency", [0.001, 0.02])
@pytest.mark.parametrize("retry_after", [1, None])
def test_a_bucket_is_used_up_and_not_overdrawn(workers, latency, retry_after):
    """
    300 a second are found by 20 workers or 1,000, told to wait or not.
    """
    run = simulate(
        Bucket(retry_after=retry_after), workers=workers, latency=latency
    )

    assert run.share(300, 20) >= 0.85
    assert run.refusals() <= 0.05


@pytest.mark.long
@pytest.mark.parametrize(
    ("server", "least"),
    [
        pytest.param(Bucket(burst=300), 0.95, id="large burst"),
        pytest.param(Bucket(rate=3000, burst=300), 8.5, id="fast"),
        pytest.param(Bucket(rate=5, burst=5), 0.015, id="slow"),
        pytest.param(Bucket(burst=1), 0.25, id="no burst"),
        pytest.param(Bucket(rate=50, burst=900), 0.29, id="huge burst"),
        pytest.param(Window(), 0.7, id="window"),
        pytest.param(Window(tells=False), 0.7, id="window that is silent"),
        pytest.param(SlidingWindow(), 0.75, id="sliding window"),
        pytest.param(Failing(limiter=Bucket()), 0.85, id="503 instead of 429"),
    ],
)
def test_other_limiters(server, least):
    """
    Windows, and buckets of other sizes, are borne with.
    """
    run = simulate(server)

    assert run.share(300, 20) >= least
    assert run.refusals() <= 0.12


def test_requests_that_wait_for_connections():
    """
    A first burst that arrives faster than it was sent does not mislead.
    """
    rate = AdaptiveRate(0.0, max_pause=5)
    for number in range(30):
        rate.on_success(0.07 + number / 10_000, number / 1000)
    rate.on_throttle(0.075, 0.03, 1.0)
    now, tokens = 1.075, 30.0

    while tokens >= 0:
        delay = rate.delay(now)
        now += delay
        tokens = min(30, tokens + 300 * delay) - 1
        rate.on_send(now)
        if tokens >= 0:
            rate.on_success(now, now)
    rate.on_throttle(now, now, 1.0)

    assert rate.found == pytest.approx(300, rel=0.02)


@pytest.mark.parametrize("workers", [200, 1000])
def test_far_away(workers):
    """
    At 200 ms much is in flight before the first refusal is heard.
    """
    run = simulate(Bucket(), workers=workers, latency=0.2)

    assert run.share(300, 20) >= 0.75
    assert run.refusals() <= 0.05


def test_no_limit_is_no_limit():
    """
    A server that refuses nothing gets all that the workers can send.
    """
    run = simulate(lambda _: None, workers=100)

    assert run.share(100 / 0.02, 20) >= 0.9
    assert run.rate.is_unlimited
    assert run.rate.limit(20.0) is None
    assert run.rate.pause(20.0) == 0


def test_a_limit_that_changes():
    """
    It is followed downwards in some seconds, upwards in some more.
    """
    run = simulate(Bucket(changes=[(20, 100), (40, 300)]), seconds=70)

    assert run.share(300, 20, since=5) >= 0.9
    assert run.share(100, 40, since=27) >= 0.85
    assert run.share(300, 70, since=62) >= 0.85
    assert run.refusals() <= 0.05


@pytest.mark.long
@pytest.mark.parametrize(
    ("share", "least"), [(0.05, 0.85), (0.1, 0.8), (0.3, 0.4)]
)
def test_failures_by_chance_do_not_collapse_the_rate(share, least):
    """
    Where a lower rate makes it no better, it is given up again.
    """
    run = simulate(Failing(share), workers=40)

    assert run.share(40 / 0.02, 20) >= least


def test_an_outage_is_over_when_it_is_over():
    """
    Little is sent meanwhile, and soon after all that can be.
    """
    run = simulate(Failing(until=(5, 10)), workers=100)

    # A fifth of the usual at most.
    assert sum(run.refused[n] for n in range(6, 10)) < 4 * 1000
    assert run.share(100 / 0.02, 20, since=13) >= 0.85


@pytest.mark.long
def test_a_sick_server_of_many_is_no_reason_for_a_limit():
    """
    503s with Retry-After from one node of many do not slow the others down.
    """
    run = simulate(Failing(0.02), workers=100)

    assert run.rate.limit(20.0) is None
    assert run.share(100 / 0.02, 20) >= 0.9


def test_too_many_503s_are_refusals():
    """
    503s with Retry-After for all that is too much make a limit, too.
    """
    run = simulate(Failing(limiter=Bucket()), workers=64)

    assert run.share(300, 20, since=5) >= 0.4
    assert run.refusals() <= 0.05


def test_timeouts_are_counted_when_they_are_known():
    """
    Requests that time out after 15 s cut the rate if most others do, too.
    """
    rate = controller()
    for number in range(20):
        rate.on_failure(15 + number / 100, sent_at=number / 100)
        if number % 3 == 0:
            rate.on_success(15 + number / 100, sent_at=15.0)

    assert not rate.is_unlimited


@pytest.mark.long
@pytest.mark.parametrize("retry_after", [1, None])
def test_a_limit_that_varies_slowly_is_followed(retry_after):
    """
    A batch does not lock at what it measured at first.
    """

    def rate(now):
        return 300 + 150 * math.sin(2 * math.pi * now / 120)

    run = simulate(Bucket(rate, retry_after=retry_after), seconds=240)

    assert run.share(300, 240) >= 0.8
    for second in range(20, 240, 20):
        mean = sum(rate(second + n) for n in range(20)) / 20
        assert run.share(mean, second + 20, since=second) >= 0.5
    assert run.refusals(since=0) <= 0.02


def test_the_first_limit_is_found_in_seconds():
    """
    Slow start measures the limit of a token bucket to a few percent.
    """
    run = simulate(Bucket(), seconds=12)

    # A cut leaves a little less.
    assert 270 <= run.rate.limit(10.0) <= 305
    assert run.share(300, 12, since=5) >= 0.9


@pytest.mark.parametrize("limit", [50, 100, 1000])
def test_a_ceiling_is_never_exceeded(limit):
    """
    The user's own rate holds below, at and above the limit of the server.
    """
    run = simulate(Bucket(limit), seconds=20, ceiling=100)

    assert max((run.served + run.refused).values()) <= 100 + 3
    assert run.share(min(limit, 100), 20) >= 0.75


def controller(**options):
    """A controller that begins at 0."""
    return AdaptiveRate(0.0, max_pause=LONGEST_PAUSE, **options)


def send_all(rate, now):
    """Send one request after the other until there is a delay."""
    sent = 0
    while rate.delay(now) == 0 and sent < 100:
        rate.on_send(now)
        sent += 1
    return sent


def test_one_request_finds_out():
    """
    While nothing is served, a single request at a time is sent, later and
    later.
    """
    rate = controller()
    now, delays = 0.0, []
    rate.on_throttle(now, sent_at=now, retry_after=None)
    for _ in range(8):
        delays.append(rate.delay(now))
        now += delays[-1]
        assert send_all(rate, now) == 1
        assert not rate.on_throttle(now, sent_at=now, retry_after=None)

    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5])


def test_the_first_served_lets_the_others_go():
    """
    After it the rate is what it was.
    """
    rate = controller()
    for _ in range(30):
        rate.on_success(0.0, sent_at=-0.1)
    rate.on_throttle(0.0, sent_at=-0.1, retry_after=1)
    assert rate.pause(0.4) == pytest.approx(0.6)
    assert rate.delay(1.0) == 0
    rate.on_send(1.0)
    rate.on_throttle(1.1, sent_at=1.0, retry_after=1)

    assert send_all(rate, 2.1) == 1
    limit = rate.limit(2.1)
    rate.on_success(2.2, sent_at=2.1)
    assert rate.limit(2.2) == limit
    assert send_all(rate, 2.2) > 0


def test_a_lone_request_may_be_lost():
    """
    Another one is sent when it failed, and some seconds after it if nothing
    is heard of it at all.
    """
    rate = controller()
    rate.on_throttle(0.0, sent_at=0.0, retry_after=1)
    rate.on_send(1.0)
    rate.on_throttle(1.1, sent_at=1.0, retry_after=1)
    assert send_all(rate, 2.1) == 1
    assert rate.is_probing
    rate.on_lost(sent_at=2.1)
    assert send_all(rate, 3.2) == 1
    assert rate.delay(8.1) > 0
    assert rate.delay(8.2) == 0


def test_one_round_of_requests_makes_one_cut():
    """
    All that was in flight at the first refusal may be refused.
    """
    one, many = controller(), controller()
    for rate in (one, many):
        for _ in range(30):
            rate.on_success(0.0, sent_at=0.0)
        rate.on_throttle(0.1, sent_at=0.0, retry_after=1)
    for _ in range(200):
        many.on_throttle(0.15, sent_at=0.09, retry_after=None)

    assert many.limit(2.0) == one.limit(2.0)
    assert many.pause(0.15) == pytest.approx(0.95)


def test_late_refusals_are_of_the_past():
    """
    Requests sent before a pause prolong it, and make no other one.
    """
    rate = controller()
    rate.on_success(0.5, sent_at=0.4)
    rate.on_throttle(0.5, sent_at=0.4, retry_after=1)
    assert rate.on_throttle(0.7, sent_at=0.4, retry_after=1)
    assert rate.pause(0.7) == 1
    assert rate.on_throttle(0.8, sent_at=0.4, retry_after=None)
    assert rate.delay(0.8) == pytest.approx(0.9)
    assert rate.delay(1.7) == 0
    limit = rate.limit(1.7)
    rate.on_throttle(1.8, sent_at=0.4, retry_after=60)

    assert rate.pause(1.8) == 0
    assert rate.limit(1.7) == limit


def test_a_pause_has_an_end():
    """
    No server makes all wait for longer than an item has.
    """
    rate = controller()
    rate.on_throttle(0.0, sent_at=0.0, retry_after=1e9)

    assert rate.pause(0.0) == LONGEST_PAUSE


@pytest.mark.parametrize("seconds", [2, 10, 60, 600])
def test_a_refusal_in_a_pause_of_another_process_keeps_the_limit(seconds):
    """
    Requests that were in flight when the pause began leave the limit as it is.
    """
    rate = controller()
    rate.use_limit(0.0, 300)
    for number in range(2400):
        rate.on_send(number / 300)
        rate.on_success(number / 300 + 0.02, number / 300)
    rate.pause_until(8.0, 8.0 + seconds)
    rate.on_throttle(8.01, 7.99, None)

    assert 200 < rate.found < 301
    assert rate.resumed_at == 8.0 + seconds
    assert 200 < rate.limit(8.0 + seconds + 0.1) < 301


def test_only_pauses_that_the_server_asked_for_are_shared():
    """
    The back-off of this process is its own.
    """
    rate = controller()
    rate.on_throttle(1.0, 0.9, None)
    assert (rate.requested_end, rate.resumed_at) == (0.0, 1.1)
    rate.on_throttle(3.0, 2.9, 7)

    assert rate.requested_end == rate.resumed_at == 10.0


def test_refusals_for_days_keep_the_longest_pause():
    """
    However many rounds are refused, the next probe comes after 5 s.
    """
    rate, now = controller(), 0.0
    for _ in range(2000):
        now += rate.delay(now) + 0.01
        rate.on_send(now)
        rate.on_throttle(now + 0.02, now, None)

    assert rate.delay(now + 0.02) == pytest.approx(5.0)


def test_a_limit_does_not_grow_while_nothing_is_sent():
    """
    The clock of the curve stands still in an outage.
    """
    rate = controller()
    for _ in range(30):
        rate.on_success(0.0, sent_at=0.0)
    rate.on_throttle(0.0, sent_at=0.0, retry_after=1)
    rate.on_send(1.0)
    limit = rate.limit(1.0)
    rate.on_send(600.0)

    assert rate.limit(600.0) == pytest.approx(limit, rel=0.2)


def test_a_ceiling_does_not_burst():
    """
    The user's own rate is kept from the first request on, also after the
    batch had nothing to send.
    """
    rate = controller(ceiling=100)
    sent = []
    for now in [n / 1000 for n in [*range(500), *range(5000, 5500)]]:
        sent += [now] * send_all(rate, now)

    # Timers that fire late catch up by some hundredths of a second.
    for first in sent:
        assert sum(first <= now < first + 0.1 for now in sent) <= 10 + 3
    assert 98 <= len(sent) <= 106
    assert rate.limit(5.5) == 100


def test_a_ceiling_may_change():
    """
    A new ceiling holds from the next request on.
    """
    rate = controller(ceiling=1)
    assert send_all(rate, 0.0) == 1
    rate.ceiling = 10
    assert rate.limit(0.0) == 10
    rate.ceiling = None

    assert rate.is_unlimited
    assert rate.delay(0.0) == 0


class TestMeter:
    """
    Events by time, in constant memory.
    """

    def test_counts_what_is_recent(self):
        """
        Slices are counted as a whole.
        """
        meter = Meter(slots=10, width=1)
        for now in (0.5, 1.5, 1.6, 3.5):
            meter.add(now)

        assert [meter.since(when) for when in (0, 1, 2, 3, 4)] == [
            4, 3, 1, 1, 0,
        ]  # fmt: skip
        assert list(meter.backwards()) == [(3, 1), (1, 3), (0, 4)]
        assert (meter.total, meter.last) == (4, 3.5)

    def test_forgets_the_rest(self):
        """
        Only so many slices are remembered, and the total.
        """
        meter = Meter(slots=2, width=1)
        for now in range(10):
            meter.add(now)

        assert meter.since(0) == 3
        assert meter.total == 10

    def test_is_late(self):
        """
        An event that comes out of turn counts as of the last one.
        """
        meter = Meter(slots=10, width=1)
        meter.add(5.0)
        meter.add(3.0)

        assert meter.since(5) == 2
        assert meter.last == 5
