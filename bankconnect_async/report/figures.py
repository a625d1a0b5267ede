"""
The figures of a campaign.
"""

import datetime

from collections.abc import Mapping

import attrs

from bankconnect_async.stats import Latency
from bankconnect_async.store.entries import SessionState


@attrs.frozen(kw_only=True)
class RatePoint:
    """
    The rows that were recorded within a slice of time.

    Attributes:
        at: The start of the slice.
        seconds: The width of the slice.
        created: The number of rows with a session.
        failed: The number of rows without one.
    """

    at: datetime.datetime
    seconds: int
    created: int
    failed: int

    @property
    def rate(self) -> float:
        """The rows per second."""
        return (self.created + self.failed) / self.seconds


@attrs.frozen(kw_only=True)
class LatencyBucket:
    """
    The sessions whose latency lies in one range.

    Attributes:
        above: The lower end of the range, in seconds.
        up_to: The upper end of the range, in seconds, which belongs to it;
            `None` if there is none.
        count: The number of sessions.
    """

    above: float
    up_to: float | None
    count: int


@attrs.frozen(kw_only=True)
class CreationReport:
    """
    The figures of journals about the creation of sessions.

    Each row of the input is in one of `created`, `failed` and `repeated`.

    Attributes:
        apis: The hosts and versions of the APIs.
        records: The number of records.
        created: The number of link ids with a session.
        errors: The number of link ids without one, by the name of their
            latest error.
        uncertain: The number of link ids without one whose request may have
            created one all the same; reconcile them.
        repeated: The number of rows that were refused because an earlier row
            has the same link id.
        stale: The number of records that do not count, because a later
            record of the same link id replaces them.
        latency: The durations of the last attempts that created a session.
        latencies: Those durations by their range.
        rate: The rows by the time at which they were recorded; slices of time
            without any are left out.
        first_at, last_at: The times of the first and the last record.
    """

    apis: tuple[str, ...] = ()
    records: int = 0
    created: int = 0
    errors: Mapping[str, int] = attrs.Factory(dict)
    uncertain: int = 0
    repeated: int = 0
    stale: int = 0
    latency: Latency = attrs.Factory(Latency)
    latencies: tuple[LatencyBucket, ...] = ()
    rate: tuple[RatePoint, ...] = ()
    first_at: datetime.datetime | None = None
    last_at: datetime.datetime | None = None

    @property
    def failed(self) -> int:
        """The number of link ids without a session."""
        return sum(self.errors.values())

    @property
    def rows(self) -> int:
        """The number of rows of the input."""
        return self.created + self.failed + self.repeated


@attrs.frozen(kw_only=True)
class JourneyReport:
    """
    The figures of a store about the journeys of customers.

    Attributes:
        states: The number of sessions by their state.
        exited: The number of sessions of which the customer left the journey
            or met an error, and has submitted nothing since.
        problems: The number of sessions by the text of their latest exit,
            error or failure.
        ambiguous: The number of further sessions that may exist: the response
            was lost, and nothing was heard of them.
        completion: The times from the creation of a session until its
            statements were processed.
    """

    states: Mapping[str, int] = attrs.Factory(dict)
    exited: int = 0
    problems: Mapping[str, int] = attrs.Factory(dict)
    ambiguous: int = 0
    completion: Latency = attrs.Factory(Latency)

    @property
    def sessions(self) -> int:
        """The number of sessions."""
        return sum(self.states.values())

    def reached(self, *states: SessionState) -> int:
        """Return the number of sessions in one of *states*."""
        return sum(self.states.get(state, 0) for state in states)

    @property
    def funnel(self) -> dict[str, int]:
        """
        The number of sessions that came as far as each step, or further.

        An expired session counts as created only: it is unknown whether a
        browser opened it.
        """
        submitted = (
            SessionState.SUBMITTED,
            SessionState.PROCESSING,
            SessionState.COMPLETED,
            SessionState.FAILED,
            SessionState.DELETED,
        )
        return {
            "created": self.sessions,
            "opened": self.reached(SessionState.OPENED, *submitted),
            "submitted": self.reached(*submitted),
            "completed": self.reached(SessionState.COMPLETED),
            "failed": self.reached(SessionState.FAILED),
            "exited": self.exited,
            "expired": self.reached(SessionState.EXPIRED),
            "deleted": self.reached(SessionState.DELETED),
        }
