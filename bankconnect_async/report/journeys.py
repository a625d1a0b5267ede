"""
Counts the sessions of a store.
"""

from collections import Counter
from typing import Final

from bankconnect_async._http.histogram import Histogram
from bankconnect_async._printable import one_line
from bankconnect_async.stats import Latency
from bankconnect_async.store.entries import (
    OPEN_STATES,
    SessionEntry,
    SessionState,
)
from bankconnect_async.store.protocol import SessionStore

from .figures import JourneyReport
from .report import CampaignReport


# What went wrong is a text of the vendor's.
_LONGEST: Final = 80
_MAX_PROBLEMS: Final = 100
_OTHER: Final = "other"
# Nothing was heard of a session in these.
_UNSEEN: Final = frozenset({SessionState.CREATED, SessionState.EXPIRED})
_UNSUBMITTED: Final = OPEN_STATES | {SessionState.EXPIRED}


class EntryCounter:
    """
    Counts the entries of a store in one pass.
    """

    def __init__(self) -> None:
        self._states: Counter[str] = Counter()
        self._problems: Counter[str] = Counter()
        self._exited = self._ambiguous = 0
        self._completion = Histogram()

    def add(self, entry: SessionEntry) -> None:
        """Count an entry."""
        if entry.is_ambiguous and entry.state in _UNSEEN:
            self._ambiguous += 1
            return
        self._states[entry.state.value] += 1
        if entry.last_problem is not None:
            self._exited += entry.state in _UNSUBMITTED
            problem = one_line(entry.last_problem, _LONGEST)
            is_full = len(self._problems) >= _MAX_PROBLEMS
            if is_full and problem not in self._problems:
                problem = _OTHER
            self._problems[problem] += 1
        if entry.state is SessionState.COMPLETED and entry.changed_at:
            duration = entry.changed_at - entry.created_at
            # The clocks of two processes may be apart.
            self._completion.add(max(duration.total_seconds(), 0.0))

    def report(self) -> JourneyReport:
        """Return the figures so far."""
        return JourneyReport(
            states={
                state.value: self._states[state.value]
                for state in SessionState
                if self._states[state.value]
            },
            exited=self._exited,
            problems=dict(self._problems.most_common()),
            ambiguous=self._ambiguous,
            completion=Latency(**self._completion.summary()),
        )


async def report_store(
    store: SessionStore, *, api_id: str | None = None
) -> CampaignReport:
    """
    Report how far the sessions of a store have come, in constant memory.

    Args:
        store: The store.
        api_id: The API whose sessions count; `None` for all.

    Raises:
        StoreError: If the store cannot be read.
    """
    counter = EntryCounter()
    async for entry in store.entries(api_id=api_id):
        counter.add(entry)
    return CampaignReport(journeys=counter.report())
