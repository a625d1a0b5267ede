"""
The webhooks that are due, and their destination.
"""

import collections
import datetime

from collections.abc import Mapping
from typing import Any, Final

import attrs

from bankconnect_async.models.events import ErrorEvent, Event, SuccessEvent
from bankconnect_async.models.webhooks import WebhookName
from bankconnect_async.sandbox.data_api.fields import utc_seconds
from bankconnect_async.sandbox.data_api.statements import new_id
from bankconnect_async.sandbox.http.errors import BadValueError, JsonObject
from bankconnect_async.sandbox.journey.journey import Journey, Mode
from bankconnect_async.sandbox.records import SandboxEntity
from bankconnect_async.sandbox.session_api.field_rules import (
    Rule,
    as_url,
    as_whole,
    parse_fields,
)

from .notifications import (
    EXTRACTION_FAILED,
    enrichment_webhook,
    upload_webhook,
)
from .sender import WebhookSender


#: `webhook_mode` of the entity flow: net banking only, or uploads, too.
NET_BANKING_ONLY: Final = 0
BOTH_MODES: Final = 1


def _as_entity_mode(value: object) -> int:
    mode = as_whole(value)
    if mode not in {NET_BANKING_ONLY, BOTH_MODES}:
        raise BadValueError(f'"{mode}" is not a valid choice.')
    return mode


def _as_session_mode(value: object) -> frozenset[str] | None:
    # A number stands for every event: the flow explains none (U-24).
    if not isinstance(value, list):
        as_whole(value)
        return None
    if not all(isinstance(name, str) for name in value):
        raise BadValueError("Not a valid string.")
    return frozenset(value)


def _parse_update(
    parameters: Mapping[str, Any], mode_rule: Rule
) -> tuple[str, Any]:
    rules = {"webhook_url": as_url(), "webhook_mode": mode_rule}
    values = parse_fields(parameters, rules, required="webhook_url")
    return values["webhook_url"], values.get("webhook_mode")


@attrs.define(eq=False, kw_only=True)
class WebhookDispatcher:
    """
    Sends the webhooks that are due, and remembers those of the entity flow.

    Both flows share one URL, because an update names no id.

    Attributes:
        sender: The queue of webhooks to send.
        url: The URL to send to; `None` until it is set.
        entity_mode: The modes in which the entity flow has webhooks.
        session_names: The events of the session flow that have webhooks;
            `None` for all.
    """

    sender: WebhookSender
    url: str | None
    entity_mode: int = BOTH_MODES
    session_names: frozenset[str] | None = None
    _extractions: collections.defaultdict[str | None, list[JsonObject]] = (
        attrs.field(init=False, factory=lambda: collections.defaultdict(list))
    )

    _newest: dict[str | None, Mapping[str, Any]] = attrs.field(
        init=False, factory=dict
    )

    def update_entity(self, parameters: Mapping[str, Any]) -> None:
        """
        Set the URL and the mode, which an update without mode resets.

        Raises:
            ApiError: With a problem for every bad parameter.
        """
        self.url, mode = _parse_update(parameters, _as_entity_mode)
        self.entity_mode = mode or NET_BANKING_ONLY

    def update_session(self, parameters: Mapping[str, Any]) -> None:
        """
        Set the URL and the events.

        Raises:
            ApiError: With a problem for every bad parameter.
        """
        self.url, self.session_names = _parse_update(
            parameters, _as_session_mode
        )

    def resend(self, owner_id: str) -> Mapping[str, Any] | None:
        """
        Send the newest webhook about a session or an entity again.

        Returns:
            The body; `None` if there was no such webhook.
        """
        body = self._newest.get(owner_id)
        if body is not None and self.url is not None:
            # A copy, so that its result can be told from the first one's.
            body = {**body}
            self.sender.put(self.url, body)
        return body

    def payloads(self, link_id: str) -> list[JsonObject]:
        """
        Return the webhooks of the entity flow that were due, newest first.

        They help those who missed a webhook, so delivery does not matter.
        """
        return self._extractions.get(link_id, [])[::-1]

    def notify(
        self,
        journey: Journey,
        event: Event,
        mode: Mode,
        now: datetime.datetime,
    ) -> None:
        """
        Send what is due after *event* of a journey in this *mode*.
        """
        match event:
            case SuccessEvent() | ErrorEvent() if journey.is_entity_flow:
                if mode != "online" and self.entity_mode == NET_BANKING_ONLY:
                    return
                if journey.statements:
                    statement_id = journey.statements[-1].statement_id
                else:
                    # A failed login or consent uploads nothing.
                    statement_id = new_id() if mode == "pdf" else ""
                error = event if isinstance(event, ErrorEvent) else None
                self._send_extraction(
                    now,
                    entity_id=journey.entity_id,
                    statement_id=statement_id,
                    link_id=journey.session.link_id,
                    progress="failed" if error else "completed",
                    reason=(error and error.reason) or "",
                )
            case SuccessEvent():
                self.notify_uploaded(journey)

    def notify_uploaded(self, journey: Journey) -> None:
        """
        Send that the uploads of a session are complete.
        """
        self._send_session(upload_webhook(journey, WebhookName.UPLOADED))

    def notify_enriched(self, journey: Journey) -> None:
        """
        Send that a session is processed.
        """
        self._send_session(enrichment_webhook(journey))

    def notify_statement(
        self,
        entity: SandboxEntity,
        statement_id: str,
        *,
        is_good: bool,
        now: datetime.datetime,
    ) -> None:
        """
        Send that an upload of the entity flow is processed.
        """
        if self.entity_mode == BOTH_MODES:
            self._send_extraction(
                now,
                entity_id=entity.entity_id,
                statement_id=statement_id,
                link_id=entity.link_id,
                progress="completed" if is_good else "failed",
                reason="" if is_good else EXTRACTION_FAILED,
            )

    def notify_expired(self, journey: Journey) -> None:
        """
        Send once that a session of the session flow expired.
        """
        if not (journey.is_entity_flow or journey.is_expiry_notified):
            journey.is_expiry_notified = True
            self._send_session(upload_webhook(journey, WebhookName.EXPIRED))

    def _send_extraction(
        self, now: datetime.datetime, **body: str | None
    ) -> None:
        # Only recovered webhooks show the time at which they were due.
        recovered = {**body, "date_time": utc_seconds(now)}
        self._extractions[body["link_id"]].append(recovered)
        self._send(body)

    def _send_session(self, body: JsonObject) -> None:
        names = self.session_names
        if names is None or body["event_name"] in names:
            self._send(body)

    def _send(self, body: Mapping[str, Any]) -> None:
        self._newest[body.get("session_id") or body["entity_id"]] = body
        if self.url is not None:
            self.sender.put(self.url, body)
