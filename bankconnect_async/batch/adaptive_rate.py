"""
Adaptive rate limiting: unlimited until the first 429, then CUBIC.

From CUBIC (RFC 9438) come slow start, one cut for each round of requests
(section 4.6), a cubic curve that is steep far from the last limit and flat
near it (4.2), and a clock of that curve that stands still while the sender
has nothing to send (4.2, 5.8). CUBIC controls how many bytes are in flight;
here the curve is a send rate, because at a low latency even one request in
flight may be too many. Ours are the measurement of the limit (`_follow`),
the trend, and the plateaus that grow while the limit stays the same.

All times are seconds, all rates requests per second.
"""

import math

from typing import Final

import attrs

from bankconnect_async.stats import Meter

from .circuit_breaker import THRESHOLD


# The share of the limit that a cut leaves, where the limit moves; RFC 9438
# leaves 0.7, but does not measure the limit. Probing adds as much.
_BETA: Final = 0.88
# The ratio of two measurements that may be of the same limit.
_SAME: Final = 0.95
# The share of the limit that is used at least. The rest makes up for errors
# of measurement, each of which costs a pause.
_USED: Final = 0.985
# Seconds from a cut to the limit: where the limit moved, where it was just
# found or stayed the same, and where it did so again.
_PLATEAUS: Final = (4.0, 16.0, 32.0)
# Seconds over which the delivered rate is measured; fewer are too noisy.
_WINDOW: Final = 2.0
# Seconds in which slow start doubles the rate, as long as round trips are
# short. It begins at the first burst in that time.
_DOUBLING: Final = 0.25
# Seconds of the first pause where the server names none, and of the longest;
# a probe without a response for as long is lost.
_PAUSE: Final = 0.1
_PAUSE_MAX: Final = 5.0
# Seconds that are made up for at once, after a late timer or a pause; more
# would overrun a limiter that counts what came in the last second.
_SLACK: Final = 0.02


@attrs.frozen(kw_only=True)
class _Curve:
    """
    The rate that is tried after a cut: slow start, or CUBIC.

    Attributes:
        limit: The limit found; the first rate of slow start.
        used: The share of it that is used.
        doubling: The seconds in which slow start doubles the rate; 0 after
            slow start.
        plateau: The seconds from the cut to the limit.
        beta: The share of the limit to which the cut went.
        trend: The growth of the limit per second, as an exponent.
        horizon: The seconds for which the trend is expected to go on.
    """

    limit: float
    used: float = 1.0
    doubling: float = 0.0
    plateau: float = _PLATEAUS[0]
    beta: float = _SAME
    trend: float = 0.0
    horizon: float = 0.0

    @property
    def rate(self) -> float:
        """The rate to return to."""
        return max(1.0, self.limit * self.used)

    def at(self, seconds: float) -> float:
        """Return the rate so many seconds after the cut."""
        if self.doubling:
            return self.rate * math.exp2(min(seconds / self.doubling, 32))
        beta, scale = self.beta, self.plateau
        beyond = seconds - self.plateau
        if beyond > 0:
            beta, scale = _BETA, _PLATEAUS[0]
        cubic = 1 + (1 - beta) * (beyond / scale) ** 3
        trend = math.exp(self.trend * min(seconds, self.horizon))
        return self.rate * cubic * trend


class AdaptiveRate:
    """
    The send rate of one batch.

    It is pure: time is passed in. With each response comes the time when its
    request was sent, so that all refusals of one round of requests make one
    cut.

    Args:
        now: The time.
        max_pause: The longest pause that a server may ask for.
        ceiling: The user's own rate, if any.

    Attributes:
        ceiling: The rate that is never exceeded; it may be set at any time.
        sharers: The number of processes that share the server's limit. The
            curve of each is that many times slower, so that all together do
            not probe more often than one.
        is_unlimited: Whether every request may be sent at once.
        served: The meter of accepted requests, by the time of their sending.
        resumed_at: The time when the latest pause ends.
        requested_end: The same of the pauses that the server asked for.
    """

    def __init__(
        self, now: float, *, max_pause: float, ceiling: float | None = None
    ) -> None:
        self._curve: _Curve | None = None
        self.sharers: int = 1
        self.ceiling = ceiling
        self.served: Meter = Meter(slots=2000, width=0.005)
        self._failed = Meter(slots=2000, width=0.005)
        self._max_pause = max_pause
        # The requests that the server accepted before the first 429, and the
        # seconds in which they arrived, up to the time below.
        self._burst = 0
        self._burst_seconds = 0.0
        self._burst_end = -math.inf
        self._first_served_at = now
        # The times from which the curve counts, when the next request is due,
        # and when the pause ends.
        self.resumed_at: float = now
        self.requested_end: float = now
        self._epoch = self._next_at = now
        self._cut_at = -math.inf
        self._served_at_cut = 0
        self._is_served = True
        # Rounds of requests that were refused whole, one after the other. A
        # single request at a time then finds out when that ends.
        self._futile = 0
        self._probe_sent_at: float | None = None

    @property
    def ceiling(self) -> float | None:
        """The rate that is never exceeded."""
        return self._ceiling

    @ceiling.setter
    def ceiling(self, rate: float | None) -> None:
        self._ceiling = rate
        self.is_unlimited: bool = rate is None and self._curve is None

    @property
    def is_probing(self) -> bool:
        """Whether all wait for the response to one request."""
        return self._futile > 0 and self._probe_sent_at is not None

    @property
    def found(self) -> float | None:
        """The limit of the server, if it was found."""
        curve = self._curve
        return None if curve is None or curve.doubling else curve.limit

    def limit(self, now: float) -> float | None:
        """Return the rate that is allowed now, if there is a limit."""
        if self._curve is None:
            return self.ceiling
        rate = self._rate_of(self._curve, max(0.0, now - self._epoch))
        return rate if self.ceiling is None else min(rate, self.ceiling)

    def _rate_of(self, curve: _Curve, seconds: float) -> float:
        # Slow start ends before others are known.
        return curve.at(seconds if curve.doubling else seconds / self.sharers)

    def pause(self, now: float) -> float:
        """Return the seconds that are left of a pause."""
        return max(0.0, self.resumed_at - now)

    def delay(self, now: float) -> float:
        """Return the seconds until the next request may be sent."""
        if now < self.resumed_at:
            return self.resumed_at - now
        if self._futile and self._probe_sent_at is not None:
            return max(0.0, self._probe_sent_at + _PAUSE_MAX - now)
        return 0.0 if self.is_unlimited else max(0.0, self._next_at - now)

    def on_send(self, now: float) -> None:
        """Count a request that is sent."""
        if self._futile:
            self._probe_sent_at = now
        rate = self.limit(now)
        if rate is None:
            return
        # The clock of the curve stands still while there is nothing to send.
        idle = max(0.0, now - self._catch_up(rate) - self._next_at)
        self._epoch += idle
        self._next_at += idle + 1 / rate

    def _catch_up(self, rate: float) -> float:
        # A server that lets nothing through at once leaves nothing to make up.
        if rate == self.ceiling:
            return _SLACK
        return min(_SLACK, self._burst // 2 / rate)

    def on_success(self, now: float, sent_at: float) -> None:
        """Count a response of a server that accepts requests."""
        if not self.served.total:
            self._first_served_at = now
        self.served.add(sent_at)
        if sent_at <= self._cut_at:
            self._served_at_cut += 1
            self._burst += sent_at <= self._burst_end
        else:
            self._is_served = True
            self._probe_sent_at = None
            if self._futile:
                self._futile = 0
                self._epoch = self._next_at = now

    def on_failure(self, now: float, sent_at: float) -> None:
        """
        Count a request that an overloaded server failed to serve.

        If most requests fail, the rate is cut as after a 429.
        """
        self.on_lost(sent_at)
        if sent_at > self._cut_at:
            # A timeout is known long after its request was sent.
            self._failed.add(now)
            since = max(self._cut_at, now - _WINDOW)
            least = max(self.served.since(since), THRESHOLD)
            if self._failed.since(since) > least:
                self.on_throttle(now, sent_at, None)

    def on_lost(self, sent_at: float) -> None:
        """Count an attempt that says nothing about the rate."""
        if sent_at > self._cut_at:
            self._probe_sent_at = None

    def on_throttle(
        self, now: float, sent_at: float, retry_after: float | None
    ) -> bool:
        """
        Count a 429: pause, and cut the rate once for each round of requests.

        Args:
            now: The time.
            sent_at: The time when the request was sent.
            retry_after: The seconds that the server asks for, if it does.

        Returns:
            Whether the server accepts other requests.
        """
        is_new = sent_at > self._cut_at
        pause = retry_after
        if is_new:
            self._cut(now, now - sent_at)
            # The exponent has an end, because a float has one.
            doublings = min(self._futile, 10)
            pause = pause or min(_PAUSE * 2**doublings, _PAUSE_MAX)
        # What was sent before a pause may prolong it, and makes no other one.
        if pause and (is_new or now < self.resumed_at):
            end = now + min(pause, self._max_pause)
            self.pause_until(now, end, is_requested=bool(retry_after))
        return not self._futile

    def use_limit(self, now: float, limit: float) -> None:
        """Use a limit that other processes of the batch helped to find."""
        if self._curve is None:
            self._cut(now, 0.0)
        limit = max(1.0, limit)
        if self._curve is None or self._curve.doubling:
            self._curve = _Curve(limit=limit)
            self._epoch = max(now, self.resumed_at)
        else:
            self._curve = attrs.evolve(self._curve, limit=limit)

    def pause_until(
        self, now: float, end: float, *, is_requested: bool = True
    ) -> None:
        """
        Send nothing, because of a 429 here or in another process.

        Args:
            now: The time.
            end: The time when the pause ends.
            is_requested: Whether the server asked for it.
        """
        if is_requested:
            self.requested_end = max(self.requested_end, end)
        if self._curve is None:
            self._cut(now, 0.0)
        begin = max(now, self.resumed_at)
        if self._curve is not None and end > begin:
            self.resumed_at = end
            self._epoch += end - begin
            # Part of what the server saves up in a pause may go at once.
            saved = self._catch_up(self._curve.rate)
            self._next_at = end - min(saved, end - now)

    def _cut(self, now: float, round_trip: float) -> None:
        if not self._is_served:
            self._futile += 1
        elif self._curve is None:
            self._measure_burst(now, round_trip)
            self.is_unlimited = False
            self._curve = _Curve(
                limit=self._burst / _DOUBLING,
                doubling=max(_DOUBLING, round_trip),
            )
        else:
            self._curve = self._follow(now, self._curve)
        self._served_at_cut = self.served.total
        self._cut_at = now
        # A pause of another process may go on.
        self._epoch = self._next_at = max(now, self.resumed_at)
        self._is_served = False
        self._probe_sent_at = None

    def _measure_burst(self, now: float, round_trip: float) -> None:
        self._burst_end = end = now - round_trip
        for start, count in self.served.backwards():
            if start < end - _DOUBLING:
                break
            self._burst = count
            # Requests that wait for new connections arrive in a shorter time
            # than that in which they were sent.
            self._burst_seconds = max(
                0.0, min(end - start, now - self._first_served_at)
            )

    def _follow(self, now: float, old: _Curve) -> _Curve:
        # A token bucket was empty at the last cut, as it is now. So it served
        # its rate times the time, or more had it not been full in between.
        seconds = now - self._cut_at
        served = self.served.total - self._served_at_cut
        # The epoch is ahead while a pause of another process goes on.
        elapsed = max(0.0, now - self._epoch)
        rate = self._rate_of(old, elapsed)
        least = min(rate, max(served / seconds, self._beyond_burst()))
        most = min(rate, self._delivered())
        used = max(_USED, 1 - self._burst / max(1, served))
        if old.doubling:
            # Where little was served the limit may be much higher.
            plateau = _PLATEAUS[least > most / 2]
            return _Curve(limit=least, used=_USED, plateau=plateau)
        if elapsed < _PLATEAUS[0]:
            # The last cut was not deep enough: the limit falls fast.
            return _Curve(limit=math.sqrt(least * most), used=used, beta=_BETA)
        limit = min(most, max(least, _SAME * most))
        change = limit / old.limit
        if _SAME <= change <= 1 / _SAME:
            longer = (each for each in _PLATEAUS if each > old.plateau)
            plateau = next(longer, _PLATEAUS[-1])
            return _Curve(limit=limit, used=used, plateau=plateau)
        moves = _Curve(
            limit=limit,
            used=used,
            trend=math.log(change) / seconds,
            horizon=seconds,
        )
        if change > 1:
            return moves
        return attrs.evolve(moves, used=used * _SAME, beta=_BETA)

    def _delivered(self) -> float:
        end = self.served.last
        start = max(self._epoch, end - _WINDOW)
        if end - start < _PAUSE:
            return math.inf
        return self.served.since(start) / (end - start)

    def _beyond_burst(self) -> float:
        # In any time a token bucket serves its rate times that time and, once,
        # its burst. So each time in which it served more than the burst bounds
        # the rate from below.
        best, end = 0.0, self.served.last - self._burst_seconds
        for start, count in self.served.backwards():
            if start < self._epoch:
                break
            if end - start >= _PAUSE:
                best = max(best, (count - self._burst) / (end - start))
        return best
