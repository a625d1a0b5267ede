"""
How fast a batch sends: at will until the server objects, then as it bears.

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

from .stats import Meter


# The first pause where the server names none, and the longest of them.
_PAUSE: Final = 0.25
_PAUSE_MAX: Final = 5.0
# A burst is over after that long; answers that late still belong to it.
_BURST: Final = 0.1
_LATE: Final = 0.025
# A rate is measured over that long at least.
_BRIEF: Final = 0.1
# The search for a limit begins with a burst in that time, and doubles in it.
_DOUBLING: Final = 0.25
# How long a limit is kept to: one that may be higher, usually, and one that
# was confirmed over and over.
_HOLD_LOW: Final = 4.0
_HOLD: Final = 10.0
_HOLD_MAX: Final = 40.0
# A short look may mislead: no cut goes below this share of a known limit.
_DEEPEST: Final = 0.7
# That share of a burst that the pause saved up may go at once.
_CREDIT: Final = 0.7
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
    What the server bears, or where the search for it began.
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
class _Cut:
    """
    A cut that was decided on, and is measured when the pause after it ends.

    Attributes:
        at: When.
        rate: What was allowed by then, if there was a limit.
        for_failing: Whether the server failed, rather than refused.
    """

    at: float
    rate: float | None
    for_failing: bool


@attrs.frozen(kw_only=True)
class _Trouble:
    """
    How much failed, at which rate.
    """

    share: float
    rate: float

    def is_as_bad_as(self, other: "_Trouble") -> bool:
        """Tell whether a lower rate made it no better."""
        return self.rate < 0.9 * other.rate and self.share > 0.8 * other.share


@attrs.frozen(kw_only=True)
class _Burst:
    """
    What went through at once, before the first refusal.
    """

    count: int
    seconds: float


class Pace:
    """
    The rate of one batch; pure, and told the time.

    An attempt belongs to the *epoch* in which it was sent. A cut begins a new
    one, so that the refusals of all that was in flight make one cut.

    Args:
        now: The time, as in all other calls.
        longest_pause: What a server may ask for at most.

    Attributes:
        epoch: Of what is sent now.
        served: Counts what the server took on.
    """

    def __init__(self, now: float, *, longest_pause: float) -> None:
        self.epoch = 0
        self.served = Meter(slots=2000, width=0.005)
        self._failed = Meter(slots=2000, width=0.005)
        self._longest_pause = longest_pause
        self._limit: _Limit | None = None
        self._cut: _Cut | None = None
        self._burst: _Burst | None = None
        self._is_paused = False
        self._began = self._resumed_at = self._next_at = now
        # When the server was known to let nothing through.
        self._full_at: float | None = None
        # What may go at once, because it was saved up in a pause.
        self._credit = 0.0
        # Refusals with nothing served between them. After one, a single
        # request at a time finds out.
        self._in_vain = 0
        self._was_served = True
        self._asked_at: float | None = None
        self._failing = self._usual = 0.0
        self._trouble: _Trouble | None = None

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
            self._limit = self._burst = self._full_at = None
        else:
            self._next_at = max(self._next_at, now - _SLACK)
            if self._credit >= 1:
                self._credit -= 1
            else:
                self._next_at += 1 / limit.at(now)

    def note_served(self, now: float, epoch: int) -> None:
        """Take note that the server took a request on."""
        self.served.add(now)
        self._failing -= self._failing / _MEMORY
        if self._usual > self._failing:
            self._usual -= (self._usual - self._failing) / (8 * _MEMORY)
        if epoch == self.epoch:
            self._was_served = True
            if self._in_vain:
                self._in_vain = 0
                self._start(now)

    def note_lost(self, epoch: int) -> None:
        """Take note of an attempt that says nothing about rates."""
        if epoch == self.epoch:
            self._asked_at = None

    def note_refused(
        self, now: float, epoch: int, retry_after: float | None
    ) -> bool:
        """
        Take note that the server refused a request for there being too many.

        Returns:
            Whether others are served. If not, it is no matter of the rate.
        """
        is_new = epoch == self.epoch
        if is_new:
            self._cut_or_count(now)
            if retry_after is None:
                retry_after = min(_PAUSE * 2**self._in_vain, _PAUSE_MAX)
        self._obey(now, retry_after, is_new=is_new)
        return not self._in_vain

    def note_turned_away(
        self, now: float, epoch: int, retry_after: float
    ) -> bool:
        """
        Take note that the server was out of service, and said until when.

        All wait for that. But one server of many may be out of service at
        any rate; only where that happens too often there is a cut.

        Returns:
            Whether others are served.
        """
        self._count_failure(now)
        is_new = epoch == self.epoch
        if is_new and self._was_served and not self._is_failing():
            self._begin_epoch()
        elif is_new:
            self._cut_or_count(now)
        self._obey(now, retry_after, is_new=is_new)
        return not self._in_vain

    def note_failed(self, now: float, epoch: int) -> None:
        """
        Take note that the server failed, or did not answer in time.

        Some of that happens at any rate. Too much of it makes a cut, unless
        it was as much at a higher rate.
        """
        self._count_failure(now)
        self.note_lost(epoch)
        if epoch == self.epoch and self._is_failing():
            self._decide(now, for_failing=True)
            self._obey(now, _PAUSE, is_new=True)
        elif self._failing > _HALF and self._limit is not None:
            self._limit.since = now

    def _count_failure(self, now: float) -> None:
        self._failed.add(now)
        self._failing += (1 - self._failing) / _MEMORY

    def _is_failing(self) -> bool:
        return self._failing > self._usual + _TOO_MANY

    def _cut_or_count(self, now: float) -> None:
        if self._was_served:
            self._decide(now, for_failing=False)
        else:
            self._in_vain += 1
            self._begin_epoch()

    def _decide(self, now: float, *, for_failing: bool) -> None:
        self._cut = _Cut(at=now, rate=self.rate(now), for_failing=for_failing)
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self.epoch += 1
        self._was_served = False
        self._asked_at = None

    def _obey(
        self, now: float, retry_after: float | None, *, is_new: bool
    ) -> None:
        # What was sent before a pause may be refused after it.
        if retry_after is not None and (is_new or self._is_paused):
            until = now + min(retry_after, self._longest_pause)
            self._resumed_at = max(self._resumed_at, until)
            self._is_paused = True

    def _go_on(self, now: float) -> None:
        cut, self._cut = self._cut, None
        if cut is not None:
            known = self._judge() if cut.for_failing else None
            self._limit = known or self._measure(cut)
            self._credit = self._saved(self._limit, now - cut.at)
        self._began = now
        self._start(now)

    def _start(self, now: float) -> None:
        self._next_at = now
        if self._limit is not None:
            self._limit.since = now

    def _judge(self) -> _Limit | None:
        # Whether a cut makes sense, or has to be made in the dark.
        served = self.served.since(self._began)
        failed = self._failed.since(self._began)
        last = max(self.served.last, self._failed.last)
        answered = (served + failed) / max(last - self._began, _BRIEF)
        before, self._trouble = (
            self._trouble,
            _Trouble(share=failed / (served + failed), rate=answered),
        )
        self._failing = 0.0
        if before is not None and self._trouble.is_as_bad_as(before):
            self._usual = self._trouble.share
            rate = before.rate if served else answered
            return _Limit(rate=rate, is_known=False)
        if not served:
            rate = max(answered * _BLIND_CUT, 1.0)
            return _Limit(rate=rate, is_known=False)
        return None

    def _measure(self, cut: _Cut) -> _Limit:
        # By now the answers to all that was in flight are there.
        end = max(self.served.last, cut.at)
        was_full_at, self._full_at = self._full_at, end
        if self._burst is None or was_full_at is None:
            self._burst = self._first_burst(cut.at)
            rate = max(self._burst.count, 1) / _DOUBLING
            return _Limit(rate=rate, is_known=False)
        rate = self._beyond_burst(self._burst, end)
        least = self.served.since(was_full_at) / (end - was_full_at)
        hold = _HOLD if rate >= least else _HOLD_LOW
        rate = max(rate, least)
        old = self._limit
        if old is not None and old.is_known:
            rate = max(rate, old.rate * _DEEPEST)
            if rate > 0.9 * old.rate and cut.at - old.since > old.hold:
                hold = min(old.hold * 2, _HOLD_MAX)
        elif rate < self._burst.count / 2:
            # Too early to tell: it searches on, from less than it had.
            rate = max(rate, (cut.rate or 0.0) / 4, 1.0)
            return _Limit(rate=rate, is_known=False)
        return _Limit(rate=rate, is_known=True, hold=hold)

    def _first_burst(self, at: float) -> _Burst:
        first = last = at
        count = late = 0
        for when, so_far in self.served.backwards():
            if when < at - _BURST:
                break
            count = so_far
            if when > at + _LATE:
                late = so_far
            else:
                first, last = when, max(last, when)
        return _Burst(count=count - late, seconds=last - first)

    def _beyond_burst(self, burst: _Burst, end: float) -> float:
        # Served in any time: the burst and the rate times that time, at most.
        # So each look back gives a rate that the limit is not below.
        rate = 0.0
        for when, count in self.served.backwards():
            if when < self._began:
                break
            seconds = end - when - burst.seconds
            if seconds >= _BRIEF:
                rate = max(rate, (count - burst.count) / seconds)
        return rate

    def _saved(self, limit: _Limit, seconds: float) -> float:
        if not limit.is_known or self._burst is None:
            return 0.0
        count = self._burst.count
        # Chance may have let through some more than the burst.
        surely = count - math.sqrt(count) - limit.rate * self._burst.seconds
        return _CREDIT * max(0.0, min(surely, limit.rate * seconds))
