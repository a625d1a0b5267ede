"""
Entries: their ranks, and when they are checked.
"""

import datetime
import heapq
import itertools
import multiprocessing
import warnings

import pytest

from bankconnect_async import SessionState
from bankconnect_async.store.entries import (
    FINAL_STATES,
    MAX_BACKOFF,
    MAX_INTERVAL,
    MIN_INTERVAL,
    OPEN_STATES,
    backoff,
    new_entry_id,
    next_check,
)


MINUTE = datetime.timedelta(minutes=1)
HOUR = datetime.timedelta(hours=1)
C, O, E, S, P, D, F, X = (  # noqa: E741
    SessionState.CREATED,
    SessionState.OPENED,
    SessionState.EXPIRED,
    SessionState.SUBMITTED,
    SessionState.PROCESSING,
    SessionState.COMPLETED,
    SessionState.FAILED,
    SessionState.DELETED,
)
#: The state after each news, by the state before it.
RANKS = {
    #  C  O  E  S  P  D  F  X
    C: (C, O, E, S, P, D, F, X),
    O: (O, O, E, S, P, D, F, X),
    # A late success replaces an expiry.
    E: (E, E, E, S, P, D, F, X),
    # An expiry that is told late changes nothing.
    S: (S, S, S, S, P, D, F, X),
    P: (P, P, P, P, P, D, F, X),
    # Of two states of one rank, the later news hold.
    D: (D, D, D, D, D, D, F, X),
    F: (F, F, F, F, F, D, F, X),
    X: (X, X, X, X, X, X, X, X),
}


class TestAdvance:
    """Changes of an entry after news"""

    @pytest.mark.parametrize("state", RANKS)
    def test_ranks(self, make_entry, now, state):
        """
        An entry never falls back.
        """
        entry = make_entry(state=state, changed_at=now)
        after = tuple(entry.advance(news, at=now).state for news in RANKS)

        assert after == RANKS[state]

    def test_same_end_in_any_order(self, make_entry, now):
        """
        News of a journey lead to the same state in whatever order they come.
        """
        news = list(enumerate((O, E, S, P, F, D)))
        ends = set()
        for order in itertools.permutations(news):
            entry = make_entry()
            for minute, state in order:
                entry = entry.advance(state, at=now + minute * MINUTE)
            ends.add((entry.state, entry.changed_at))

        assert ends == {(D, now + 5 * MINUTE)}

    def test_older_news_of_one_rank(self, make_entry, now):
        """
        A failure that is older than a completion does not replace it.
        """
        entry = make_entry().advance(D, at=now + MINUTE)

        assert entry.advance(F, at=now).state is D
        assert entry.advance(F, at=now).changed_at == now + MINUTE
        assert entry.advance(F, at=now + HOUR).state is F

    def test_wrong_password(self, make_entry, now):
        """
        An exit or a journey error sets the last problem only; a success
        follows it.
        """
        entry = make_entry(state=O, changed_at=now)
        failed = entry.advance(O, at=now + MINUTE, detail="wrong password")
        done = failed.advance(S, at=now + 2 * MINUTE)

        assert (failed.state, failed.changed_at) == (O, now)
        assert failed.last_problem == "wrong password"
        assert failed.is_live(now=now)
        assert done.state is S
        assert done.last_problem == "wrong password"

    def test_entities_are_kept_once(self, make_entry, now):
        """
        Entities are remembered in the order of their news, even of old ones.
        """
        entry = make_entry()
        for entity_id in ("e-1", "e-2", "e-1"):
            entry = entry.advance(D, at=now, entity_id=entity_id)
        entry = entry.advance(O, at=now, entity_id="e-3")

        assert entry.entity_ids == ("e-1", "e-2", "e-3")

    def test_clocks_a_minute_apart(self, make_entry, now):
        """
        News of a process whose clock is behind count as much.
        """
        entry = make_entry().advance(O, at=now)
        entry = entry.advance(S, at=now - MINUTE)
        entry = entry.advance(D, at=now - 2 * MINUTE)

        assert entry.state is D
        assert entry.next_check_at is None


class TestNextCheck:
    """The time of the next check"""

    @pytest.mark.parametrize("state", SessionState)
    def test_final_states_end_it(self, make_entry, now, state):
        """
        Nothing is asked about an entry in a final state.
        """
        checked = next_check(make_entry(state=state), now)

        assert (checked is None) is (state in FINAL_STATES)

    @pytest.mark.parametrize(
        ("age", "interval"),
        [
            (-MINUTE, MIN_INTERVAL),
            (MINUTE, MIN_INTERVAL),
            (HOUR, HOUR),
            (5 * HOUR, 5 * HOUR),
            (90 * MAX_INTERVAL, MAX_INTERVAL),
        ],
    )
    def test_backoff(self, make_entry, now, age, interval):
        """
        The time between two checks is the session's age, within limits.
        """
        entry = make_entry(created_at=now - age)

        assert next_check(entry, now) == now + interval

    def test_expiry(self, make_entry, now):
        """
        A session is checked when it expires, and not before the interval
        that follows.
        """
        entry = make_entry(created_at=now, expires_at=now + 5 * MINUTE)

        assert next_check(entry, now) == now + 5 * MINUTE
        assert next_check(entry, now + 5 * MINUTE) == now + 20 * MINUTE

    def test_open_states(self, make_entry, now):
        """
        An entry can be continued only while nothing was submitted.
        """
        live = {
            state
            for state in SessionState
            if make_entry(state=state).is_live(now=now)
        }

        assert live == OPEN_STATES

    def test_calls_for_unopened_entries(self, make_entry, now):
        """
        Unopened links cost about one call a day each, however often a sweep
        runs: a million of them are no million calls per run.
        """
        entries = [
            make_entry(
                created_at=now + number * MINUTE,
                next_check_at=now + number * MINUTE + MIN_INTERVAL,
            )
            for number in range(60)
        ]
        queue = [(each.next_check_at, n) for n, each in enumerate(entries)]
        heapq.heapify(queue)
        calls = [0] * 30
        while queue[0][0] < now + datetime.timedelta(days=30):
            at, number = heapq.heappop(queue)
            calls[(at - now).days] += 1
            entry = entries[number].advance(C, at=at)
            entries[number] = entry
            heapq.heappush(queue, (entry.next_check_at, number))

        assert calls[0] <= 8 * len(entries)
        assert max(calls[1:]) <= 2 * len(entries)
        assert sum(calls[2:]) <= 1.1 * 28 * len(entries)


class TestIds:
    """Ids of entries, and the backoff of work"""

    def test_ids_sort_by_time(self):
        """
        Ids are unique, and sort by the time at which they were made.
        """
        ids = [new_entry_id(time) for time in (0.001, 1e9, 1.9e9) * 100]

        assert len(set(ids)) == 300
        assert {len(each) for each in ids} == {32}
        assert max(ids[::3]) < min(ids[1::3]) < max(ids[1::3]) < min(ids[2::3])

    def test_ids_of_forks(self):
        """
        A forked child makes other ids than its parent.
        """
        context = multiprocessing.get_context("fork")
        ids = context.SimpleQueue()
        new_entry_id(0.0)
        with warnings.catch_warnings():
            # Python warns of forks beside threads.
            warnings.simplefilter("ignore", DeprecationWarning)
            children = [
                context.Process(target=lambda: ids.put(new_entry_id(0.0)))
                for _ in range(2)
            ]
            for child in children:
                child.start()
        for child in children:
            child.join(30)

        assert len({ids.get(), ids.get(), new_entry_id(0.0)}) == 3

    def test_backoff(self):
        """
        The backoff doubles, and has a limit for any number of attempts.
        """
        seconds = [backoff(n).total_seconds() for n in (0, 1, 2, 3, 9)]

        assert seconds == [1, 1, 2, 4, 256]
        assert backoff(10) == backoff(10**9) == MAX_BACKOFF
