"""
What the sandbox remembers: sessions, their journeys, entities.
"""

import collections
import datetime
import secrets
import uuid

from collections.abc import Mapping
from typing import Any, Final

import attrs

from bankconnect_async._clock import Clock

from ._dialects import Api
from ._journey import Closed, Journey, Step, report
from ._records import Played, SandboxEntity, SandboxSession
from ._session_api import is_same
from ._webhooks import Webhooks


_INDIA: Final = datetime.timezone(datetime.timedelta(hours=5, minutes=30))


@attrs.define(eq=False, kw_only=True)
class Journeys:
    """
    All sessions of a sandbox, and how far each has come.

    Attributes:
        clock: The time.
        webhooks: Told of everything that a webhook may be about.
        sessions: Every session by its id, deleted ones included.
        entities: Every entity by its id.
        created: How many sessions each link id has.
    """

    clock: Clock
    webhooks: Webhooks
    sessions: dict[str, SandboxSession] = attrs.field(init=False, factory=dict)
    entities: dict[str, SandboxEntity] = attrs.field(init=False, factory=dict)
    created: collections.Counter[str] = attrs.field(
        init=False, factory=collections.Counter
    )
    # Of opened journeys only: in a load experiment most never are.
    _journeys: dict[str, Journey] = attrs.field(init=False, factory=dict)
    _deleted: set[str] = attrs.field(init=False, factory=set)

    def now(self) -> datetime.datetime:
        """
        Return the time, in India.
        """
        return datetime.datetime.fromtimestamp(self.clock.time(), _INDIA)

    def open(
        self, api: Api, parameters: Mapping[str, Any], origin: str
    ) -> SandboxSession:
        """
        Create a session.

        Args:
            api: Which API was asked.
            parameters: For what.
            origin: Where the journey's page is.
        """
        session_id = (
            str(uuid.uuid4()) if api.tells_id else secrets.token_hex(9)
        )
        token = secrets.token_hex(32) if api.has_token else None
        query = f"session_id={session_id}" + (
            f"&token={token}" if token else ""
        )
        session = SandboxSession(
            session_id=session_id,
            link_id=parameters["link_id"],
            dialect=api.dialect,
            parameters=parameters,
            redirect_url=f"{origin}/?{query}",
            token=token,
            created_at=self.now(),
        )
        self.sessions[session_id] = session
        self.created[session.link_id] += 1
        return session

    def find(self, session_id: str) -> Journey | None:
        """
        Return the journey of a session, unless there is none or no longer.

        An expiry is noticed here: a session that nobody ever asks for again
        has no webhook about it.
        """
        session = self.sessions.get(session_id)
        if session is None or session_id in self._deleted:
            return None
        journey = self._journeys.get(session_id)
        if journey is None:
            journey = self._journeys[session_id] = Journey.of(session)
        if journey.is_expired(self.now()):
            self.webhooks.tell_expiry(journey)
        return journey

    def visit(self, session_id: str, token: str | None) -> Journey | Closed:
        """
        Return the journey that a URL opens, or why it opens none.

        Args:
            session_id: Of the URL.
            token: Of the URL; must be the session's, if that has one.
        """
        journey = self.find(session_id)
        if journey is None:
            return Closed.UNKNOWN
        expected = journey.session.token
        if expected is not None and not is_same(token, expected):
            return Closed.UNKNOWN
        return journey.closed(self.now()) or journey

    def play(self, journey: Journey, step: Step) -> Played:
        """
        Do one step, and tell the webhooks.
        """
        now = self.now()
        mode = journey.mode_of(step)
        event = journey.take(step, now)
        if journey.entity_id is not None:
            self.entities.setdefault(
                journey.entity_id,
                SandboxEntity(
                    entity_id=journey.entity_id,
                    link_id=journey.session.link_id,
                ),
            )
        self.webhooks.tell(journey, event, mode, now)
        return report(journey, event)

    def expire(self, journey: Journey) -> None:
        """
        Let a journey run out now, unless it is completed.
        """
        journey.expires_at = self.now()
        if journey.is_expired(journey.expires_at):
            self.webhooks.tell_expiry(journey)

    def delete(self, session_id: str) -> None:
        """
        Forget a session, but that it once was.
        """
        self._deleted.add(session_id)
        self._journeys.pop(session_id, None)

    def is_deleted(self, session_id: str) -> bool:
        """
        Tell whether a session once was.
        """
        return session_id in self._deleted
