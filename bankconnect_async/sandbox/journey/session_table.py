"""
What the sandbox remembers: sessions, their journeys, entities.
"""

import asyncio
import collections
import datetime
import math
import secrets
import uuid

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from bankconnect_async.clock import Clock
from bankconnect_async.sandbox.data_api.entity_table import (
    EntityState,
    EntityTable,
)
from bankconnect_async.sandbox.data_api.statements import (
    Processing,
    UploadedStatement,
)
from bankconnect_async.sandbox.records import (
    Played,
    SandboxEntity,
    SandboxSession,
)
from bankconnect_async.sandbox.session_api.dialects import DialectRules
from bankconnect_async.sandbox.session_api.validation import secrets_match
from bankconnect_async.sandbox.webhooks.dispatcher import WebhookDispatcher

from .journey import ClosedReason, Journey, Step, report


# Timers and clocks do not agree to the microsecond.
_LATENESS: Final = 0.02
_INDIA: Final = datetime.timezone(datetime.timedelta(hours=5, minutes=30))


@attrs.define(eq=False, kw_only=True)
class SessionTable:
    """
    All sessions of a sandbox, and how far each has come.

    Attributes:
        clock: The time.
        webhooks: Told of everything that a webhook may be about.
        processing_time: How long processing takes, in seconds.
        sessions: Every session by its id, deleted ones included.
        entities: What the entity flow has.
        created: How many sessions each link id has.
    """

    clock: Clock
    webhooks: WebhookDispatcher
    processing_time: float
    sessions: dict[str, SandboxSession] = attrs.field(init=False, factory=dict)
    entities: EntityTable = attrs.field(init=False, factory=EntityTable)
    created: collections.Counter[str] = attrs.field(
        init=False, factory=collections.Counter
    )
    # Of opened journeys only: in a load experiment most never are.
    _journeys: dict[str, Journey] = attrs.field(init=False, factory=dict)
    _deleted: set[str] = attrs.field(init=False, factory=set)
    _timers: set[asyncio.TimerHandle] = attrs.field(init=False, factory=set)

    def now(self) -> datetime.datetime:
        """
        Return the time, in India.
        """
        return datetime.datetime.fromtimestamp(self.clock.time(), _INDIA)

    def create(
        self, api: DialectRules, parameters: Mapping[str, Any], origin: str
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

    def get(self, session_id: str) -> Journey | None:
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
            journey = self._journeys[session_id] = Journey.start(session)
        if journey.is_expired(self.now()):
            self.webhooks.notify_expired(journey)
        self.notify_processed(journey)
        return journey

    def open_url(
        self, session_id: str, token: str | None
    ) -> Journey | ClosedReason:
        """
        Return the journey that a URL opens, or why it opens none.

        Args:
            session_id: Of the URL.
            token: Of the URL; must be the session's, if that has one.
        """
        journey = self.get(session_id)
        if journey is None:
            return ClosedReason.UNKNOWN
        expected = journey.session.token
        if expected is not None and not secrets_match(token, expected):
            return ClosedReason.UNKNOWN
        return journey.closed_reason(self.now()) or journey

    def play(self, journey: Journey, step: Step) -> Played:
        """
        Do one step, and tell the webhooks.
        """
        now = self.now()
        mode = journey.mode_of(step)
        event = journey.apply(step, now)
        if journey.entity_id is not None:
            self._note_entity(journey, journey.entity_id)
        self.webhooks.notify(journey, event, mode, now)
        return report(journey, event)

    def _note_entity(self, journey: Journey, entity_id: str) -> None:
        entity = self.entities.get(entity_id) or self.entities.add(
            SandboxEntity(entity_id=entity_id, link_id=journey.session.link_id)
        )
        # The customer's browser hears of a success when all is extracted.
        entity.statements = [
            (
                statement,
                Processing(
                    started_at=statement.received_at,
                    seconds=0,
                    is_notified=True,
                ),
            )
            for statement in journey.statements
        ]

    def add_to_session(
        self, journey: Journey, statement: UploadedStatement
    ) -> None:
        """
        Take a statement into a session, and tell when that is enough.
        """
        journey.statements.append(statement)
        if not journey.is_complete and journey.has_all_statements:
            journey.is_complete = True
            self.webhooks.notify_uploaded(journey)

    def start_processing(self, journey: Journey) -> None:
        """
        Begin to process a session.
        """
        journey.processing = self._begin(
            lambda: self.notify_processed(journey)
        )

    def add_to_entity(
        self, entity: EntityState, statement: UploadedStatement
    ) -> None:
        """
        Take a statement into an entity, and begin to process it.
        """
        begun = self._begin(lambda: self.notify_statements(entity))
        entity.statements.append((statement, begun))

    def notify_processed(self, journey: Journey) -> None:
        """
        Tell that a session is processed, once it is.
        """
        processing = journey.processing
        if processing is None or processing.is_notified:
            return
        if self.is_deleted(journey.session.session_id):
            return
        if processing.is_over(self.now()):
            processing.is_notified = True
            self.webhooks.notify_enriched(journey)

    def notify_statements(self, entity: EntityState) -> None:
        """
        Tell of each statement of an entity that is processed, once it is.
        """
        now = self.now()
        for statement, processing in entity.statements:
            if processing.is_over(now) and not processing.is_notified:
                processing.is_notified = True
                self.webhooks.notify_statement(
                    entity.record,
                    statement.statement_id,
                    is_good=processing.error_code is None,
                    now=now,
                )

    def finish(self, owner_id: str, error_code: str | None) -> bool:
        """
        Let what is being processed end, and tell whether anything was.
        """
        entity = self.entities.get(owner_id)
        if entity is not None:
            under_way = [
                processing
                for _, processing in entity.statements
                if not processing.is_over(self.now())
            ]
            for processing in under_way:
                processing.finish(error_code)
            self.notify_statements(entity)
            return bool(under_way)
        journey = self.get(owner_id)
        if journey is None or journey.processing is None:
            return False
        if journey.processing.is_over(self.now()):
            return False
        journey.processing.finish(error_code)
        self.notify_processed(journey)
        return True

    def link_id_of(self, owner_id: str) -> str | None:
        """
        Return the link id of a session or an entity.
        """
        owner = self.sessions.get(owner_id) or self.entities.records.get(
            owner_id
        )
        return None if owner is None else owner.link_id

    def cancel_timers(self) -> None:
        """
        Let nothing happen by itself any more.
        """
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _begin(self, then: Callable[[], None]) -> Processing:
        seconds = self.processing_time
        if math.isfinite(seconds):
            self._wake(seconds + _LATENESS, then)
        return Processing(started_at=self.now(), seconds=seconds)

    def _wake(self, seconds: float, then: Callable[[], None]) -> None:
        def ring() -> None:
            self._timers.discard(timer)
            then()

        timer = asyncio.get_running_loop().call_later(seconds, ring)
        self._timers.add(timer)

    def expire(self, journey: Journey) -> None:
        """
        Let a journey run out now, unless it is completed.
        """
        journey.expires_at = self.now()
        if journey.is_expired(journey.expires_at):
            self.webhooks.notify_expired(journey)

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
