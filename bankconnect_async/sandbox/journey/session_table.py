"""
The sandbox's state: sessions, their journeys, and entities.
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
from bankconnect_async.sandbox.http.endpoints import secrets_match
from bankconnect_async.sandbox.records import (
    Played,
    SandboxEntity,
    SandboxSession,
)
from bankconnect_async.sandbox.session_api.dialects import DialectRules
from bankconnect_async.sandbox.webhooks.dispatcher import WebhookDispatcher

from .journey import ClosedReason, Journey, Step, report


# A timer may fire a little before the clock reaches its time.
_LATENESS: Final = 0.02
_INDIA: Final = datetime.timezone(datetime.timedelta(hours=5, minutes=30))


@attrs.define(eq=False, kw_only=True)
class SessionTable:
    """
    All sessions of a sandbox, with their journeys.

    Attributes:
        clock: The clock.
        webhooks: Sends the webhooks of sessions and entities.
        processing_time: The time that processing takes, in seconds.
        sessions: Every session by its id, deleted ones included.
        entities: The entities of the entity flow.
        created: The number of sessions of each link id.
    """

    clock: Clock
    webhooks: WebhookDispatcher
    processing_time: float
    sessions: dict[str, SandboxSession] = attrs.field(init=False, factory=dict)
    entities: EntityTable = attrs.field(init=False, factory=EntityTable)
    created: collections.Counter[str] = attrs.field(
        init=False, factory=collections.Counter
    )
    # Only of opened journeys: in a load experiment most are never opened.
    _journeys: dict[str, Journey] = attrs.field(init=False, factory=dict)
    _deleted: set[str] = attrs.field(init=False, factory=set)
    _timers: set[asyncio.TimerHandle] = attrs.field(init=False, factory=set)

    def now(self) -> datetime.datetime:
        """
        Return the time in India.
        """
        return datetime.datetime.fromtimestamp(self.clock.time(), _INDIA)

    def create(
        self, rules: DialectRules, parameters: Mapping[str, Any], origin: str
    ) -> SandboxSession:
        """
        Create a session.

        Args:
            rules: The rules of the API that was called.
            parameters: The parameters of the request.
            origin: The origin of the journey's page.
        """
        session_id = (
            str(uuid.uuid4()) if rules.has_id else secrets.token_hex(9)
        )
        token = secrets.token_hex(32) if rules.has_token else None
        suffix = f"&token={token}" if token else ""
        session = SandboxSession(
            session_id=session_id,
            link_id=parameters["link_id"],
            dialect=rules.dialect,
            parameters=parameters,
            redirect_url=f"{origin}/?session_id={session_id}{suffix}",
            token=token,
            created_at=self.now(),
        )
        self.sessions[session_id] = session
        self.created[session.link_id] += 1
        return session

    def get(self, session_id: str) -> Journey | None:
        """
        Return the journey of a session, unless it is unknown or deleted.

        It sends the webhooks that are due: of an expiry, for example.
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

    def open_url(self, query: Mapping[str, str]) -> Journey | ClosedReason:
        """
        Return the journey that a URL opens, or the reason why it opens none.

        Args:
            query: The URL's query, with the session's id and its token, if
                it has one.
        """
        journey = self.get(query.get("session_id", ""))
        if journey is None:
            return ClosedReason.UNKNOWN
        token = journey.session.token
        if token is not None and not secrets_match(query.get("token"), token):
            return ClosedReason.UNKNOWN
        return journey.closed_reason(self.now()) or journey

    def play(self, journey: Journey, step: Step) -> Played:
        """
        Do one step, and send its webhooks.
        """
        now = self.now()
        event = journey.apply(step, now)
        if journey.entity_id is not None:
            self._store_entity(journey, journey.entity_id)
        self.webhooks.notify(journey, event, journey.mode_of(step), now)
        return report(journey, event)

    def _store_entity(self, journey: Journey, entity_id: str) -> None:
        entity = self.entities.get(entity_id) or self.entities.add(
            SandboxEntity(entity_id=entity_id, link_id=journey.session.link_id)
        )
        # The browser reports a success when everything is extracted.
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
        Add a statement to a session, and notify when all are there.
        """
        journey.statements.append(statement)
        if not journey.is_complete and journey.has_all_statements:
            journey.is_complete = True
            self.webhooks.notify_uploaded(journey)

    def start_processing(self, journey: Journey) -> None:
        """
        Start to process a session.
        """
        journey.processing = self._start(
            lambda: self.notify_processed(journey)
        )

    def add_to_entity(
        self, entity: EntityState, statement: UploadedStatement
    ) -> None:
        """
        Add a statement to an entity, and start to process it.
        """
        processing = self._start(lambda: self.notify_statements(entity))
        entity.statements.append((statement, processing))

    def notify_processed(self, journey: Journey) -> None:
        """
        Notify once when a session is processed, unless it is deleted.
        """
        processing = journey.processing
        if (
            processing is not None
            and not processing.is_notified
            and not self.is_deleted(journey.session.session_id)
            and processing.is_over(self.now())
        ):
            processing.is_notified = True
            self.webhooks.notify_enriched(journey)

    def notify_statements(self, entity: EntityState) -> None:
        """
        Notify once of each processed statement of an entity.
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

    def finish(
        self,
        owner_id: str,
        error_code: str | None,
        statement_error_code: str | None,
    ) -> bool:
        """
        End the processing of a session or an entity, if there is any.

        Returns:
            Whether anything was being processed.
        """
        entity = self.entities.get(owner_id)
        journey = self.get(owner_id)
        processes = [p for _, p in entity.statements] if entity else []
        if journey is not None and journey.processing is not None:
            processes.append(journey.processing)
        now = self.now()
        running = [p for p in processes if not p.is_over(now)]
        for processing in running:
            processing.finish(error_code, statement_error_code)
        if entity is not None:
            self.notify_statements(entity)
        if journey is not None:
            self.notify_processed(journey)
        return bool(running)

    def link_id_of(self, owner_id: str) -> str | None:
        """
        Return the link id of a session or an entity.
        """
        records = self.entities.records
        owner = self.sessions.get(owner_id) or records.get(owner_id)
        return None if owner is None else owner.link_id

    def cancel_timers(self) -> None:
        """
        Cancel the timers of everything that is being processed.
        """
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _start(self, on_finished: Callable[[], None]) -> Processing:
        seconds = self.processing_time
        if math.isfinite(seconds):
            self._call_later(seconds + _LATENESS, on_finished)
        return Processing(started_at=self.now(), seconds=seconds)

    def _call_later(
        self, seconds: float, callback: Callable[[], None]
    ) -> None:
        def fire() -> None:
            self._timers.discard(timer)
            callback()

        timer = asyncio.get_running_loop().call_later(seconds, fire)
        self._timers.add(timer)

    def expire(self, journey: Journey) -> None:
        """
        Let a journey expire now, unless it is completed.
        """
        journey.expires_at = self.now()
        if journey.is_expired(journey.expires_at):
            self.webhooks.notify_expired(journey)

    def delete(self, session_id: str) -> None:
        """
        Delete a session; its id stays known.
        """
        self._deleted.add(session_id)
        self._journeys.pop(session_id, None)

    def is_deleted(self, session_id: str) -> bool:
        """
        Tell whether a session was deleted.
        """
        return session_id in self._deleted
