"""
News of sessions in events and webhooks, and the entries to which it belongs.
"""

import datetime

from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from bankconnect_async._codec.event_keys import enrichment_result
from bankconnect_async._printable import one_line
from bankconnect_async.models.events import (
    ErrorEvent,
    Event,
    ExitEvent,
    SuccessEvent,
)
from bankconnect_async.models.webhooks import (
    EnrichmentWebhook,
    ExpiryWebhook,
    ExtractionWebhook,
    UploadWebhook,
    Webhook,
)
from bankconnect_async.store.entries import SessionEntry, SessionState
from bankconnect_async.store.protocol import SessionStore

from .invitations import Invitation
from .reports import BrowserReport


_LEFT: Final = "the customer left"
# The most characters of a problem; a browser may send any text.
_MAX_TEXT: Final = 500


@attrs.frozen(kw_only=True)
class News:
    """
    A change of a session.

    Attributes:
        state: The state; `None` if that is the same.
        entity_id: An entity that belongs to it.
        problem: What went wrong.
    """

    state: SessionState | None = None
    entity_id: str | None = None
    problem: str | None = None


def news_of(what: Event | Webhook) -> News:
    """
    Return what an event or webhook says about its session.

    An exit, or an error within the journey, changes no state: the customer
    may try again.
    """
    news = News()
    match what:
        case SuccessEvent():
            news = News(state=SessionState.SUBMITTED, entity_id=what.entity_id)
        case ExitEvent():
            news = News(problem=_join([what.reason]) or _LEFT)
        case ErrorEvent():
            news = News(problem=_join([what.error_type, what.reason]))
        case UploadWebhook():
            news = News(state=SessionState.SUBMITTED)
        case ExpiryWebhook():
            news = News(state=SessionState.EXPIRED)
        case EnrichmentWebhook():
            news = News(
                state=SessionState(enrichment_result(what)),
                problem=_first_problem(what),
            )
        case ExtractionWebhook(progress="completed"):
            news = News(state=SessionState.COMPLETED, entity_id=what.entity_id)
        case ExtractionWebhook(is_failed=True):
            # Without a statement, the login failed, and the journey goes on.
            news = News(
                state=SessionState.FAILED if what.statement_id else None,
                entity_id=what.entity_id,
                problem=_join([what.reason]),
            )
    return news


def _first_problem(webhook: EnrichmentWebhook) -> str | None:
    return next(
        (
            _join([account.error_code, account.error_message])
            for account in webhook.accounts
            if account.is_failed
        ),
        None,
    )


def _join(texts: Iterable[str | None]) -> str | None:
    return one_line(": ".join(filter(None, texts)), _MAX_TEXT) or None


@attrs.frozen(kw_only=True)
class SessionRecords:
    """
    The sessions of one account in the store.

    Attributes:
        store: The store.
        api_id: The API and the account.
    """

    store: SessionStore
    api_id: str

    async def find_for_webhook(self, webhook: Webhook) -> SessionEntry | None:
        """
        Return the entry of a webhook, if it is known.
        """
        if not isinstance(webhook, ExtractionWebhook):
            return await self._find_first(session_id=webhook.session_id)
        if webhook.entity_id is None:
            return None
        return await self._find_first(
            entity_id=webhook.entity_id
        ) or await self._find_single(webhook.link_id)

    async def find_for_report(
        self, report: BrowserReport
    ) -> SessionEntry | None:
        """
        Return the entry of an event that a browser reported, if it is known.

        The ids of a confirmed success come first: the customer may have ended
        another journey than the one of the page.
        """
        event = report.event
        if isinstance(event, SuccessEvent) and event.confirmed:
            for ids in (
                {"session_id": event.session_id},
                # The session flow has sent its id under this name, too.
                {"session_id": event.entity_id},
                # A customer may report the entity of an earlier journey.
                {"entity_id": event.entity_id},
            ):
                found = await self._find_first(**ids)
                if found is not None and found.link_id == event.link_id:
                    return found
        if report.reference is not None:
            for entry in await self._find_customer(event.link_id):
                if entry.entry_id.endswith(report.reference):
                    return entry
        if report.session is not None:
            found = await self._find_first(
                session_id=report.session.session_id
            )
            if found is not None and found.link_id == event.link_id:
                return found
        return await self._find_single(event.link_id)

    async def find_invited(
        self, invitation: Invitation
    ) -> Sequence[SessionEntry]:
        """
        Return the entries of an invitation, newest first.
        """
        return [
            entry
            for entry in await self._find_customer(invitation.link_id)
            if entry.key.scope == invitation.invitation_id
        ]

    async def apply(
        self,
        entry: SessionEntry,
        news: News,
        *,
        at: datetime.datetime,
    ) -> None:
        """
        Write *news* of a session to the store.

        Raises:
            StoreError: If the store cannot be used.
        """
        entity_id = news.entity_id
        # The session flow has sent its id under this name, too.
        if entity_id in {entry.session_id, *entry.entity_ids}:
            entity_id = None
        if news.state or entity_id or news.problem:
            await self.store.advance(
                entry.entry_id,
                # The lowest state changes none.
                news.state or SessionState.CREATED,
                at=at,
                entity_id=entity_id,
                detail=news.problem,
            )

    async def _find_first(self, **ids: str | None) -> SessionEntry | None:
        if None in ids.values():
            return None
        found = await self.store.find(api_id=self.api_id, **ids)
        return found[0] if found else None

    async def _find_customer(
        self, link_id: str | None
    ) -> Sequence[SessionEntry]:
        if link_id is None:
            return ()
        return await self.store.find(api_id=self.api_id, link_id=link_id)

    async def _find_single(self, link_id: str | None) -> SessionEntry | None:
        # Of several, nobody can tell which one is meant.
        candidates = [
            entry
            for entry in await self._find_customer(link_id)
            if not entry.entity_ids
        ]
        return candidates[0] if len(candidates) == 1 else None
