"""
WebhookDispatcher of the sandbox: which are due, and where they go.
"""

import collections
import datetime

from collections.abc import Mapping
from typing import Any, Final

import attrs

from bankconnect_async.models.events import ErrorEvent, Event, SuccessEvent
from bankconnect_async.models.webhooks import ExtractionWebhook, WebhookName
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
    enriched,
    expired,
    extraction,
    naive,
    uploaded,
    write,
)
from .sender import WebhookSender


#: `webhook_mode` of the entity flow: net banking only, or manual upload too.
NET_BANKING_ONLY: Final = 0
BOTH_MODES: Final = 1


def _entity_mode(value: object) -> int:
    mode = as_whole(value)
    if mode not in {NET_BANKING_ONLY, BOTH_MODES}:
        raise BadValueError(f'"{mode}" is not a valid choice.')
    return mode


def _session_mode(value: object) -> frozenset[str] | None:
    # A number stands for every event: the flow has explained none (U-24).
    if not isinstance(value, list):
        as_whole(value)
        return None
    if not all(isinstance(name, str) for name in value):
        raise BadValueError("Not a valid string.")
    return frozenset(value)


# Parameters of the two ``update_webhook/`` endpoints.
_ENTITY_RULES: Final[Mapping[str, Rule]] = {
    "webhook_url": as_url(),
    "webhook_mode": _entity_mode,
}
_SESSION_RULES: Final[Mapping[str, Rule]] = {
    "webhook_url": as_url(),
    "webhook_mode": _session_mode,
}


@attrs.define(eq=False, kw_only=True)
class WebhookDispatcher:
    """
    Where webhooks go, which of them, and those of the entity flow so far.

    There is one URL for both flows: an update names no id.

    Attributes:
        sender: Takes what is due.
        url: Where to; `None` until it is set.
        entity_mode: In which modes the entity flow has webhooks.
        session_names: Which events the session flow has webhooks of; `None`
            for all.
    """

    sender: WebhookSender
    url: str | None
    entity_mode: int = BOTH_MODES
    session_names: frozenset[str] | None = None
    _extractions: collections.defaultdict[
        str | None, collections.deque[ExtractionWebhook]
    ] = attrs.field(
        init=False,
        factory=lambda: collections.defaultdict(collections.deque),
    )

    def update_entity(self, parameters: Mapping[str, Any]) -> None:
        """
        Set the URL, and the mode, which is not remembered from last time.

        Raises:
            ApiError: With a problem for every bad parameter.
        """
        values = parse_fields(
            parameters, _ENTITY_RULES, required="webhook_url"
        )
        self.url = values["webhook_url"]
        self.entity_mode = values.get("webhook_mode", NET_BANKING_ONLY)

    def update_session(self, parameters: Mapping[str, Any]) -> None:
        """
        Set the URL and the events.

        Raises:
            ApiError: With a problem for every bad parameter.
        """
        values = parse_fields(
            parameters, _SESSION_RULES, required="webhook_url"
        )
        self.url = values["webhook_url"]
        self.session_names = values.get("webhook_mode")

    def payloads(self, link_id: str) -> list[JsonObject]:
        """
        Return the webhooks of the entity flow that were due, newest first.

        Nobody needs to have taken them: they are for those who did not.
        """
        kept = self._extractions.get(link_id, ())
        return [write(webhook) for webhook in kept]

    def notify(
        self,
        journey: Journey,
        event: Event,
        mode: Mode,
        now: datetime.datetime,
    ) -> None:
        """
        Post what is due after *event*, which came about in *mode*.
        """
        match event:
            case SuccessEvent() | ErrorEvent() if journey.is_entity_flow:
                if mode == "online" or self.entity_mode == BOTH_MODES:
                    self._send_extraction(
                        extraction(journey, event, mode, now)
                    )
            case SuccessEvent():
                self.notify_uploaded(journey)

    def notify_uploaded(self, journey: Journey) -> None:
        """
        Post that the uploads of a session are complete.
        """
        webhook = uploaded(journey)
        self._send_session(webhook.event_name, write(webhook))

    def notify_enriched(self, journey: Journey) -> None:
        """
        Post that a session is processed.
        """
        self._send_session(WebhookName.ENRICHED, enriched(journey))

    def notify_statement(
        self,
        entity: SandboxEntity,
        statement_id: str,
        *,
        is_good: bool,
        now: datetime.datetime,
    ) -> None:
        """
        Post that an upload of the entity flow is processed.
        """
        if self.entity_mode == BOTH_MODES:
            self._send_extraction(
                ExtractionWebhook(
                    entity_id=entity.entity_id,
                    statement_id=statement_id,
                    link_id=entity.link_id,
                    progress="completed" if is_good else "failed",
                    reason="" if is_good else EXTRACTION_FAILED,
                    date_time=naive(now),
                )
            )

    def notify_expired(self, journey: Journey) -> None:
        """
        Post that the session ran out, once, in the flow that says so.
        """
        if not (journey.is_entity_flow or journey.is_expiry_notified):
            journey.is_expiry_notified = True
            webhook = expired(journey)
            self._send_session(webhook.event_name, write(webhook))

    def _send_extraction(self, webhook: ExtractionWebhook) -> None:
        self._extractions[webhook.link_id].appendleft(webhook)
        # Only recovered ones say when they were due.
        # A `null` of the entity flow is said.
        body = write(attrs.evolve(webhook, date_time=None))
        self._post({**body, "link_id": webhook.link_id})

    def _send_session(self, name: str | None, body: JsonObject) -> None:
        if self.session_names is None or name in self.session_names:
            self._post(body)

    def _post(self, body: JsonObject) -> None:
        if self.url is not None:
            self.sender.put(self.url, body)
