"""
The entries of a store of sessions, and the rules by which they change.
"""

import datetime
import enum
import os

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Self

import attrs

from yarl import URL

from bankconnect_async.errors import ConfigurationError, InvalidRequestError
from bankconnect_async.models.sessions import (
    Session,
    SessionRequest,
    Value,
    mask_id,
)


#: The shortest and the longest time between two looks at a session.
MIN_INTERVAL: Final = datetime.timedelta(minutes=15)
MAX_INTERVAL: Final = datetime.timedelta(days=1)
#: The time for which the key of work that is done stays known. The entity
#: flow repeats genuine failures in equal words, so the time must be short.
DEDUP_WINDOW: Final = datetime.timedelta(hours=1)
#: The longest time until work that was released is taken again.
MAX_BACKOFF: Final = datetime.timedelta(minutes=5)


class SessionState(enum.StrEnum):
    """
    The progress of a session.

    Attributes:
        CREATED: The server created it, or may have.
        OPENED: A browser opened the journey.
        EXPIRED: Its time is over, and nothing was submitted.
        SUBMITTED: The customer completed the journey.
        PROCESSING: The processing of the statements was started.
        COMPLETED: The data can be fetched.
        FAILED: The processing failed.
        DELETED: The vendor deleted the data.
    """

    CREATED = "created"
    OPENED = "opened"
    EXPIRED = "expired"
    SUBMITTED = "submitted"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    DELETED = "deleted"


# An entry never falls back. An expiry stands below a submission, so that a
# late success replaces it, and an expiry told late does not replace a
# success.
_RANKS: Final[Mapping[SessionState, int]] = {
    SessionState.CREATED: 0,
    SessionState.OPENED: 1,
    SessionState.EXPIRED: 2,
    SessionState.SUBMITTED: 3,
    SessionState.PROCESSING: 4,
    SessionState.COMPLETED: 5,
    SessionState.FAILED: 5,
    SessionState.DELETED: 6,
}
#: The states in which the customer has submitted nothing yet.
OPEN_STATES: Final = frozenset({SessionState.CREATED, SessionState.OPENED})
#: The states in which the customer has submitted what can be used. After a
#: failure the customer may try again.
SUBMITTED_STATES: Final = frozenset(
    {
        SessionState.SUBMITTED,
        SessionState.PROCESSING,
        SessionState.COMPLETED,
        SessionState.DELETED,
    }
)
#: The states after which nothing is asked about a session.
FINAL_STATES: Final = frozenset(
    {
        SessionState.EXPIRED,
        SessionState.COMPLETED,
        SessionState.FAILED,
        SessionState.DELETED,
    }
)


@attrs.frozen(kw_only=True)
class SessionKey(Value):
    """
    The customer and the purpose of a session.

    Attributes:
        api_id: The host and version of the API, and a fingerprint of the API
            key; see `AsyncBankConnect.store_api_id`.
        link_id: Your id of the customer.
        scope: The campaign or loan, where a customer has several.
        request_digest: The digest of the request without its *redirect_url*,
            which has a new signature each time.
    """

    api_id: str
    link_id: str
    scope: str = ""
    request_digest: str = ""


@attrs.frozen(kw_only=True)
class SessionEntry(Value):
    """
    One session in a store: its ids, its URL and its state.

    Attributes:
        entry_id: Our own id of the entry.
        key: The customer and the purpose.
        session_id: The vendor's id; `None` in the entity flow of v1, or if it
            is unknown whether the server created the session.
        redirect_url: The URL of the journey; `None` in a store that keeps
            no URLs.
        is_frame: Whether the journey runs in an inline frame.
        is_ambiguous: Whether the response was lost, so that nobody knows if
            the server created it.
        entity_ids: The entities that were found for it.
        created_at: The time of its creation, by our clock.
        expires_at: The time of its expiry: *created_at* plus the
            `session_expiry` that was sent; `None` if none was.
        state: The state.
        last_problem: The text of the latest exit, error or failure.
        changed_at: The time of the last change of the state.
        next_check_at: The time to ask the server about it; `None` for never.
    """

    entry_id: str
    key: SessionKey
    session_id: str | None = attrs.field(default=None, repr=mask_id)
    redirect_url: str | None = attrs.field(default=None, repr=False)
    is_frame: bool = False
    is_ambiguous: bool = False
    entity_ids: tuple[str, ...] = ()
    created_at: datetime.datetime
    expires_at: datetime.datetime | None = None
    state: SessionState = SessionState.CREATED
    last_problem: str | None = None
    changed_at: datetime.datetime | None = None
    next_check_at: datetime.datetime | None = None

    @property
    def link_id(self) -> str:
        """Your id of the customer."""
        return self.key.link_id

    def session(self) -> Session:
        """
        Return the session, with an empty URL if the store keeps none.
        """
        return Session(
            link_id=self.link_id,
            redirect_url=URL(self.redirect_url or "", encoded=True),
            session_id=self.session_id,
        )

    def is_live(
        self,
        *,
        now: datetime.datetime,
        created_after: datetime.datetime | None = None,
    ) -> bool:
        """
        Tell whether a customer can continue the journey.

        Args:
            now: The time.
            created_after: The time before which a session is too old.
        """
        return (
            self.state in OPEN_STATES
            and self.redirect_url is not None
            and (self.expires_at is None or now < self.expires_at)
            and (created_after is None or self.created_at > created_after)
        )

    def has_ids(
        self,
        *,
        api_id: str,
        session_id: str | None = None,
        entity_id: str | None = None,
        link_id: str | None = None,
    ) -> bool:
        """
        Tell whether it has all ids that are given.
        """
        return (
            self.key.api_id == api_id
            and session_id in {None, self.session_id}
            and (entity_id is None or entity_id in self.entity_ids)
            and link_id in {None, self.link_id}
        )

    def advance(
        self,
        state: SessionState,
        *,
        at: datetime.datetime,
        entity_id: str | None = None,
        detail: str | None = None,
    ) -> Self:
        """
        Return the entry after news of *state*.

        It keeps a higher state. Of two states of one rank, the later news
        holds. The next check is put off, or is over in a final state.

        Args:
            state: The state that an event or the server reports.
            at: The time of the event or the answer.
            entity_id: An entity that belongs to it.
            detail: The text of a problem.
        """
        entity_ids = self.entity_ids
        if entity_id is not None and entity_id not in entity_ids:
            entity_ids = (*entity_ids, entity_id)
        rank, current = _RANKS[state], _RANKS[self.state]
        is_new = state is not self.state and (
            rank > current
            or (
                rank == current
                and (self.changed_at is None or at >= self.changed_at)
            )
        )
        entry = attrs.evolve(
            self,
            state=state if is_new else self.state,
            changed_at=at if is_new else self.changed_at,
            entity_ids=entity_ids,
            last_problem=self.last_problem if detail is None else detail,
        )
        return attrs.evolve(entry, next_check_at=next_check(entry, at))


def find_live(
    entries: Iterable[SessionEntry],
    key: SessionKey,
    *,
    now: datetime.datetime,
    created_after: datetime.datetime | None = None,
) -> SessionEntry | None:
    """
    Return the first entry of *key* whose journey can be continued.

    Args:
        entries: The entries, in the order of preference.
        key: The customer and the purpose.
        now: The time.
        created_after: The time before which a session is too old.
    """
    for entry in entries:
        if entry.key == key and entry.is_live(
            now=now, created_after=created_after
        ):
            return entry
    return None


def next_check(
    entry: SessionEntry, now: datetime.datetime
) -> datetime.datetime | None:
    """
    Return when to ask the server about *entry* again.

    The time between two checks is the age of the session, from
    `MIN_INTERVAL` to `MAX_INTERVAL`: exponential backoff. A session that
    expires is checked right after that, too.
    """
    if entry.state in FINAL_STATES:
        return None
    interval = min(max(now - entry.created_at, MIN_INTERVAL), MAX_INTERVAL)
    planned = now + interval
    if entry.expires_at is not None and entry.expires_at > now:
        return min(planned, entry.expires_at)
    return planned


def build_entry(
    *,
    key: SessionKey,
    request: SessionRequest,
    session: Session | None,
    entry_id: str,
    created: float,
) -> SessionEntry:
    """
    Build the entry of a session that was just created.

    Args:
        key: The customer and the purpose.
        request: The request that created it.
        session: The session; `None` if it is unknown whether there is one.
        entry_id: The id of the entry.
        created: The time of creation, in seconds since the epoch.
    """
    created_at = datetime.datetime.fromtimestamp(created, datetime.UTC)
    expires_at, next_check_at = None, created_at + MIN_INTERVAL
    if request.session_expiry is not None:
        lifetime = datetime.timedelta(minutes=request.session_expiry)
        expires_at = created_at + lifetime
        next_check_at = min(next_check_at, expires_at)
    return SessionEntry(
        entry_id=entry_id,
        key=key,
        session_id=None if session is None else session.session_id,
        redirect_url=None if session is None else session.url,
        is_frame=request.redirect_url is None,
        is_ambiguous=session is None,
        created_at=created_at,
        expires_at=expires_at,
        next_check_at=next_check_at,
    )


class CreatedFacts(NamedTuple):
    """
    The facts of a session that was just created.

    It costs a tenth of a `SessionEntry`.

    Attributes:
        entry_id: The id of the entry.
        api_id, link_id, scope, request_digest: The customer and the purpose;
            see `SessionKey`.
        session_id: The vendor's id, if there is one.
        redirect_url: The URL of the journey.
        is_frame: Whether it is of the inline-frame workflow.
        created: The time of creation, in seconds since the epoch.
        minutes: The `session_expiry` that was sent, if there was one.
    """

    entry_id: str
    api_id: str
    link_id: str
    scope: str
    request_digest: str
    session_id: str | None
    redirect_url: str
    is_frame: bool
    created: float
    minutes: int | None

    def __repr__(self) -> str:
        # The id and the URL of the session are secrets.
        return f"CreatedFacts(entry_id={self.entry_id!r})"


@attrs.frozen(kw_only=True)
class Reserved:
    """
    The only right to create the session of a key, until its lease ends.

    Add an entry with its *entry_id*, or give the right back with
    `SessionStore.release`.

    Attributes:
        entry_id: The id for the entry.
        key: The customer and the purpose.
        until: The end of the lease.
    """

    entry_id: str
    key: SessionKey
    until: datetime.datetime


@attrs.frozen(kw_only=True)
class InboxItem:
    """
    Work that is done at least once: a webhook, or a call to make.

    Attributes:
        key: The key; work with a known key is not put in again.
        body: The content, which may hold account numbers.
        at: The time from which it could be taken.
        attempts: The number of times that it was taken before.
    """

    key: str = attrs.field(repr=mask_id)
    body: bytes = attrs.field(repr=False)
    at: datetime.datetime
    attempts: int = 0


def new_reservation(
    key: SessionKey, *, now: datetime.datetime, lease: datetime.timedelta
) -> Reserved:
    """
    Return a reservation with a new id.

    Args:
        key: The customer and the purpose.
        now: The time.
        lease: The duration of the right.
    """
    return Reserved(
        entry_id=new_entry_id(now.timestamp()), key=key, until=now + lease
    )


def new_entry_id(time: float) -> str:
    """
    Return a new id for an entry, which sorts by time.

    A database appends such ids to the end of their index.

    Args:
        time: The time, in seconds since 1970.
    """
    try:
        part = _random_parts.pop()
    except IndexError:
        part = _draw_parts()
    return f"{int(time * 1000):012x}{part}"


# The system's random bytes, many at once: a call costs as much as an id.
_random_parts: Final[deque[str]] = deque()
_PART_LENGTH: Final = 20


def _draw_parts() -> str:
    digits = os.urandom(64 * _PART_LENGTH // 2).hex()
    parts = [
        digits[first : first + _PART_LENGTH]
        for first in range(0, len(digits), _PART_LENGTH)
    ]
    _random_parts.extend(parts[1:])
    return parts[0]


if hasattr(os, "register_at_fork"):
    # A child would use the same ones as its parent.
    os.register_at_fork(after_in_child=_random_parts.clear)


def backoff(attempts: int) -> datetime.timedelta:
    """
    Return the time between taking work that fails and taking it again.

    Args:
        attempts: The number of times that it was taken.
    """
    seconds = 2.0 ** min(max(attempts - 1, 0), 16)
    return min(datetime.timedelta(seconds=seconds), MAX_BACKOFF)


def check_erasure(
    link_id: str | None, before: datetime.datetime | None
) -> None:
    """
    Check the arguments of `SessionStore.forget`.

    Raises:
        InvalidRequestError: If neither is given, or *before* has no time
            zone.
    """
    if link_id is None and before is None:
        raise InvalidRequestError(
            fields={"link_id": ("give it, or before, or both",)}
        )
    if before is not None and before.tzinfo is None:
        raise InvalidRequestError(
            fields={"before": ("must have a time zone",)}
        )


def check_ids(
    session_id: str | None, entity_id: str | None, link_id: str | None
) -> tuple[str, str]:
    """
    Return the name and the text of one id that `SessionStore.find` got.

    Raises:
        InvalidRequestError: If it got none.
    """
    for name, text in (
        ("session_id", session_id),
        ("entity_id", entity_id),
        ("link_id", link_id),
    ):
        if text is not None:
            return name, text
    raise InvalidRequestError(
        fields={"link_id": ("give it, or session_id, or entity_id",)}
    )


def check_window(dedup_window: datetime.timedelta) -> None:
    """
    Check the *dedup_window* of a store.

    Raises:
        ConfigurationError: If it is no time, or below 0.
    """
    if not isinstance(
        dedup_window, datetime.timedelta
    ) or dedup_window < datetime.timedelta(0):
        raise ConfigurationError(
            fields={"dedup_window": ("must be a timedelta of 0 or more",)}
        )
