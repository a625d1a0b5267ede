"""
Adaptive rate limiting: unlimited until the first 429, then a found limit.

Limiters differ, but all let a burst through at once, and beyond it so many
requests a second. After a refusal a batch pauses as told, and goes on at the
rate that follows from what was served until then. There it stays for a
while, and then climbs, flat near what is known and steep far from it, until
the server objects again.

All times are seconds, all rates requests per second.
"""

import math

from typing import Final

import attrs

from bankconnect_async.stats import Meter


# The first pause where the server names none, and the longest of them.
_PAUSE: Final = 0.25
_PAUSE_MAX: Final = 5.0
# How exactly it is remembered what was served when.
_SLICE: Final = 0.005
# A burst is over after that long.
_BURST: Final = 0.1
# A rate is measured over that long at least.
_BRIEF: Final = 0.1
# The search for a limit begins with a burst in that time, and doubles in this.
_START: Final = 0.15
_DOUBLING: Final = 0.6
# How long a limit is kept to: one that may be higher, usually, and one that
# was confirmed over and over.
_HOLD_LOW: Final = 4.0
_HOLD: Final = 10.0
_HOLD_MAX: Final = 40.0
# A short look may mislead: no cut goes below this share of a known limit.
_DEEPEST: Final = 0.7
# That share of a burst that the pause saved up may go at once.
_CREDIT: Final = 0.9
# So much longer has to be measured what makes up for a rough measurement.
_LONGER: Final = 0.25
# So much of a measured rate is used; the first measurement is a rough one.
_ROUGHLY: Final = 0.96
_EXACTLY: Final = 0.99
# So many times a limit are as good as none.
_BOUNDLESS: Final = 10.0
# A timer that fires late is made up for by that much.
_SLACK: Final = 0.02
# When to look again for the answer to a lone request, and when to give it up.
_LOOK: Final = 0.01
_LOST: Final = 5.0
# Failures are averaged over so many answers. Where their share is so much
# higher than usual, the server is out of its depth; at half of all, it is no
# time to climb.
_MEMORY: Final = 64
_TOO_MANY: Final = 0.25
_HALF: Final = 0.5
# Where nothing was served there is nothing to measure.
_BLIND_CUT: Final = 0.1


@attrs.define(kw_only=True)
class _Limit:
    """
    The limit of the server, or the rate at which the search for it began.
    """

    rate: float
    is_known: bool
    hold: float = _HOLD
    since: float = 0.0

    def at(self, now: float) -> float:
        """Return the rate that may be tried by now."""
        seconds = max(0.0, now - self.since)
        if not self.is_known:
            return self.rate * math.exp2(min(seconds / _DOUBLING, 32))
        beyond = max(0.0, seconds / self.hold - 1)
        return self.rate * (1 + 0.1 * beyond**5)


@attrs.frozen(kw_only=True)
class _Interval:
    """
    So much was served in so many seconds, until there was a refusal.
    """

    count: int
    seconds: float


@attrs.frozen(kw_only=True)
class _Reading:
    """
    A measured rate.

    Attributes:
        rate: Of the limiter, as far as can be told.
        is_low: Whether it may well be more.
    """

    rate: float
    is_low: bool


class _LimitEstimate:
    """
    The estimate of the server's limiter.

    In any time it lets its rate times that time through, and once what was
    saved up before. What was served until a refusal is all of that.

    Attributes:
        served: Counts what the server took on, by when it was sent.
        burst: What was served until the first refusal.
    """

    def __init__(self) -> None:
        self.served = Meter(slots=2000, width=_SLICE)
        self.burst: _Interval | None = None
        # The first whose requests were sent at a rate.
        self._spaced: _Interval | None = None
        self._saved_up: float | None = None
        # When it was known to let nothing through.
        self._full_at: float | None = None

    def forget(self) -> None:
        """Start afresh."""
        self.burst = self._spaced = self._saved_up = self._full_at = None

    def note_refusal(self) -> None:
        """Take note of a refusal, before more answers are counted."""
        if self.burst is not None:
            return
        # Answers that come behind the first refusal belong to what the
        # server let in later.
        first = last = self.served.last
        found = 0
        for when, count in self.served.backwards():
            if when < last - _BURST:
                break
            first, found = when, count
        seconds = max(0.0, last - first - _SLICE)
        self.burst = _Interval(count=found, seconds=seconds)

    def read(self, began: float) -> _Reading | None:
        """
        Measure, when the answers to all that was in flight are there.

        Args:
            began: When the sending began that led to the last refusal.

        Returns:
            The rate; `None` after the first refusal, which tells none.
        """
        end, was_full_at = self.served.last, self._full_at
        self._full_at = end
        if self.burst is None or was_full_at is None or end <= was_full_at:
            return None
        part = _ROUGHLY if self._spaced is None else _EXACTLY
        rate = self._beyond_saved(self.burst, began, end)
        # It was full, so that nothing was saved up by then.
        least = self.served.since(was_full_at) / (end - was_full_at)
        return _Reading(rate=max(rate, least) * part, is_low=rate < least)

    def _beyond_saved(
        self, burst: _Interval, began: float, end: float
    ) -> float:
        saved_up, spent = self._saved_up, 0.0
        if saved_up is None:
            saved_up, spent = float(burst.count), burst.seconds
        rate, spell = 0.0, None
        # Each look back gives a rate that the limiter's is not below.
        for when, count in self.served.backwards():
            if when < began:
                break
            seconds = end - when - spent
            if seconds >= _BRIEF and count - saved_up > rate * seconds:
                rate = (count - saved_up) / seconds
                spell = _Interval(count=count, seconds=end - when)
        if spell is None:
            return rate
        if self._spaced is None:
            self._spaced = spell
        elif self._saved_up is None:
            rate = self._compare(self._spaced, spell) or rate
        return rate

    def _compare(self, first: _Interval, second: _Interval) -> float | None:
        # Two spells at a rate tell both, and better than the burst did.
        longer = second.seconds - first.seconds
        if longer < _LONGER:
            return None
        rate = (second.count - first.count) / longer
        self._saved_up = first.count - rate * first.seconds
        return rate

    def saves_up(self, limit: _Limit, seconds: float) -> float:
        """Return how much the server has surely saved up in a pause."""
        if not limit.is_known or self.burst is None:
            return 0.0
        most = self._saved_up
        if most is None:
            most = self.burst.count - limit.rate * self.burst.seconds
        # Chance may have let through some more.
        most -= math.sqrt(self.burst.count)
        return _CREDIT * max(0.0, min(most, limit.rate * seconds))


@attrs.frozen(kw_only=True)
class _FailureShare:
    """
    How much failed, at which rate.
    """

    share: float
    rate: float

    def is_as_bad_as(self, other: "_FailureShare") -> bool:
        """Tell whether a lower rate made it no better."""
        return self.rate < 0.9 * other.rate and self.share > 0.8 * other.share


class _Health:
    """
    How much of what the server takes on it fails at.

    Some fails at any rate, and some share of that is usual. More asks for a
    lower rate, unless it was as much at a higher one.
    """

    def __init__(self) -> None:
        self._failed = Meter(slots=2000, width=_SLICE)
        self._failing = self._usual = 0.0
        self._trouble: _FailureShare | None = None

    @property
    def is_bad(self) -> bool:
        """Whether more fails than usual."""
        return self._failing > self._usual + _TOO_MANY

    @property
    def is_dire(self) -> bool:
        """Whether more fails than not."""
        return self._failing > _HALF

    def note_served(self) -> None:
        """Take note of a good answer."""
        self._failing -= self._failing / _MEMORY
        if self._usual > self._failing:
            self._usual -= (self._usual - self._failing) / (8 * _MEMORY)

    def note_failed(self, sent_at: float) -> None:
        """Take note of a failure."""
        self._failed.add(sent_at)
        self._failing += (1 - self._failing) / _MEMORY

    def was_bad(self, served: Meter, began: float) -> bool:
        """Tell whether since then more failed than usual."""
        return self._look(served, began).share > self._usual + _TOO_MANY

    def _look(self, served: Meter, began: float) -> _FailureShare:
        good, bad = served.since(began), self._failed.since(began)
        seconds = max(served.last, self._failed.last) - began
        return _FailureShare(
            share=bad / max(good + bad, 1),
            rate=(good + bad) / max(seconds, _BRIEF),
        )

    def find_rate(self, served: Meter, began: float) -> float | None:
        """
        Find a rate to begin the search at that does without measuring.

        Returns:
            A low one where nothing was served, the former one where a lower
            one made no difference; else `None`.
        """
        before, trouble = self._trouble, self._look(served, began)
        self._trouble = trouble
        self._failing = 0.0
        nothing = trouble.share == 1
        if before is not None and trouble.is_as_bad_as(before):
            self._usual = trouble.share
            return trouble.rate if nothing else before.rate
        return max(trouble.rate * _BLIND_CUT, 1.0) if nothing else None


@attrs.frozen(kw_only=True)
class _Cut:
    """
    A cut that was decided on, and is made when the pause after it ends.

    Attributes:
        at: When.
        rate: What was allowed by then, if there was a limit.
        for_failing: Whether the server failed, rather than refused.
        is_certain: Whether there is a reason beyond the first failure.
    """

    at: float
    rate: float | None
    for_failing: bool
    is_certain: bool


class AdaptiveRate:
    """
    The rate of one batch; pure, and told the time.

    Of each answer it is told when the request was sent. So the refusals of
    all that was in flight at a time make one cut.

    Args:
        now: The time, as in all other calls.
        max_pause: What a server may ask for at most.

    Attributes:
        served: What the server took on, by when it was sent.
        is_calm: Whether nothing went wrong so far; then it is free, and there
            is nothing to take note of but what was served.
    """

    def __init__(self, now: float, *, max_pause: float) -> None:
        self._max_pause = max_pause
        self._gauge = _LimitEstimate()
        self.served: Meter = self._gauge.served
        self._health = _Health()
        self.is_calm: bool = True
        self._limit: _Limit | None = None
        self._cut: _Cut | None = None
        # What was sent until then belongs to troubles that were dealt with.
        self._settled_at = -math.inf
        self._is_paused = False
        self._began = self._resumed_at = self._next_at = now
        # What may go at once, because the server saved it up in a pause.
        self._credit = 0.0
        # Refusals with nothing served between them. After one, a single
        # request at a time finds out.
        self._in_vain = 0
        self._was_served = True
        self._asked_at: float | None = None

    @property
    def is_free(self) -> bool:
        """Whether everything may be sent at once."""
        return self._limit is None and not (self._is_paused or self._in_vain)

    def rate(self, now: float) -> float | None:
        """Return the present limit; `None` if none is known of."""
        return None if self._limit is None else self._limit.at(now)

    def pause(self, now: float) -> float:
        """Return for how long nothing is sent."""
        return max(0.0, self._resumed_at - now) if self._is_paused else 0.0

    def wait(self, now: float) -> float:
        """Return for how long the next request has to wait at least."""
        if self._is_paused:
            if now < self._resumed_at:
                return self._resumed_at - now
            self._is_paused = False
            self._go_on(now)
        if self._in_vain and self._asked_at is not None:
            return _LOOK if now < self._asked_at + _LOST else 0.0
        if self._limit is None:
            return 0.0
        return max(0.0, self._next_at - now)

    def leave(self, now: float) -> None:
        """Take note that a request is sent."""
        limit = self._limit
        if self._in_vain:
            self._asked_at = now
        elif limit is None:
            pass
        elif limit.is_known and limit.at(now) > limit.rate * _BOUNDLESS:
            self._limit = None
            self._gauge.forget()
        else:
            self._next_at = max(self._next_at, now - _SLACK)
            if self._credit >= 1:
                self._credit -= 1
            else:
                self._next_at += 1 / limit.at(now)

    def note_served(self, now: float, sent_at: float) -> None:
        """Take note that the server took a request on."""
        self.served.add(sent_at)
        self._health.note_served()
        if sent_at > self._settled_at:
            self._was_served = True
            if self._in_vain:
                self._in_vain = 0
                self._start(now)

    def note_lost(self, sent_at: float) -> None:
        """Take note of an attempt that says nothing about rates."""
        if sent_at > self._settled_at:
            self._asked_at = None

    def note_refused(
        self, now: float, sent_at: float, retry_after: float | None
    ) -> bool:
        """
        Take note that the server refused a request for there being too many.

        Returns:
            Whether others are served. If not, it is no matter of the rate.
        """
        self.is_calm = False
        is_new = sent_at > self._settled_at
        if is_new:
            self._cut_or_count(now, for_failing=False, is_certain=True)
            if retry_after is None:
                retry_after = min(_PAUSE * 2**self._in_vain, _PAUSE_MAX)
        self._obey(now, retry_after, is_new=is_new)
        return not self._in_vain

    def note_turned_away(
        self, now: float, sent_at: float, retry_after: float
    ) -> bool:
        """
        Take note that the server was out of service, and said until when.

        All wait for that. But one server of many may be out of service at
        any rate; only where that happens too often there is a cut.

        Returns:
            Whether others are served.
        """
        self.is_calm = False
        self._health.note_failed(sent_at)
        is_new = sent_at > self._settled_at
        if is_new:
            self._cut_or_count(now, for_failing=True, is_certain=False)
        self._obey(now, retry_after, is_new=is_new)
        return not self._in_vain

    def note_failed(self, now: float, sent_at: float) -> None:
        """
        Take note that the server failed, or did not answer in time.
        """
        self.is_calm = False
        self._health.note_failed(sent_at)
        self.note_lost(sent_at)
        if sent_at > self._settled_at and self._health.is_bad:
            self._decide(now, for_failing=True, is_certain=True)
            self._obey(now, _PAUSE, is_new=True)
        elif self._health.is_dire and self._limit is not None:
            # No time to climb.
            self._limit.since = now

    def _cut_or_count(
        self, now: float, *, for_failing: bool, is_certain: bool
    ) -> None:
        if self._was_served:
            self._decide(now, for_failing=for_failing, is_certain=is_certain)
        else:
            self._in_vain += 1
            self._settle(now)

    def _decide(
        self, now: float, *, for_failing: bool, is_certain: bool
    ) -> None:
        self._gauge.note_refusal()
        self._cut = _Cut(
            at=now,
            rate=self.rate(now),
            for_failing=for_failing,
            is_certain=is_certain,
        )
        self._settle(now)

    def _settle(self, now: float) -> None:
        self._settled_at = now
        self._was_served = False
        self._asked_at = None

    def _obey(
        self, now: float, retry_after: float | None, *, is_new: bool
    ) -> None:
        # What was sent before a pause may be refused after it.
        if retry_after is not None and (is_new or self._is_paused):
            until = now + min(retry_after, self._max_pause)
            self._resumed_at = max(self._resumed_at, until)
            self._is_paused = True

    def _go_on(self, now: float) -> None:
        cut, self._cut = self._cut, None
        # By now the answers to all that was in flight are there.
        if cut is not None:
            if cut.is_certain or self._health.was_bad(
                self._gauge.served, self._began
            ):
                self._limit = limit = self._find_limit(cut)
                self._credit = self._gauge.saves_up(limit, now - cut.at)
            elif self._limit is None:
                self._gauge.forget()
        self._began = now
        self._start(now)

    def _start(self, now: float) -> None:
        self._next_at = now
        if self._limit is not None:
            self._limit.since = now

    def _find_limit(self, cut: _Cut) -> _Limit:
        if cut.for_failing:
            rate = self._health.find_rate(self._gauge.served, self._began)
            if rate is not None:
                return _Limit(rate=rate, is_known=False)
        reading = self._gauge.read(self._began)
        burst = 0 if self._gauge.burst is None else self._gauge.burst.count
        if reading is None:
            return _Limit(rate=max(burst, 1) / _START, is_known=False)
        rate, old = reading.rate, self._limit
        hold = _HOLD_LOW if reading.is_low else _HOLD
        if old is not None and old.is_known:
            rate = max(rate, old.rate * _DEEPEST)
            if rate > 0.9 * old.rate and cut.at - old.since > old.hold:
                hold = min(old.hold * 2, _HOLD_MAX)
        elif rate < burst / 2:
            # Too early to tell: it searches on, from less than it had.
            rate = max(rate, (cut.rate or 0.0) / 4, 1.0)
            return _Limit(rate=rate, is_known=False)
        return _Limit(rate=rate, is_known=True, hold=hold)
