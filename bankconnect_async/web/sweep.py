"""
The sweep: ask the server about sessions of which no webhook came.
"""

import asyncio
import datetime
import logging
import math
import uuid

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol

import attrs

from bankconnect_async._codec.event_keys import event_key
from bankconnect_async._codec.webhooks import decode_webhook
from bankconnect_async._json import dump_json
from bankconnect_async._resources.sessions import SessionHandle
from bankconnect_async._tracebacks import hide_frames
from bankconnect_async.batch import PacedClient
from bankconnect_async.batch.session_batch import ABORTING
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.errors import (
    BankConnectError,
    BatchStoppedError,
    NotFoundError,
    NotReadyError,
    StoreError,
)
from bankconnect_async.models import COMPLETED, Entity, UploadStatus
from bankconnect_async.models.webhooks import ExtractionWebhook, WebhookName
from bankconnect_async.store import SessionEntry, SessionState
from bankconnect_async.store.entries import FINAL_STATES, OPEN_STATES

from .failures import is_temporary


_LEASE: Final = datetime.timedelta(minutes=10)
# The longest `session_expiry`; afterwards nobody can open a session.
_LIFETIME: Final = datetime.timedelta(days=30)
# The vendor names no time zone for the time of a webhook.
_ZONES: Final = datetime.timedelta(days=1)
_RECENT: Final = datetime.timedelta(days=2)
_EXPIRED: Final = "EXPIRED"
_NOT_REQUESTED: Final = "PROCESSING_NOT_REQUESTED"
_SETTLED: Final = frozenset({"completed", "failed"})

_MESSAGES: Final[Mapping[str, str]] = {
    WebhookName.UPLOADED: "Upload Completed",
    WebhookName.EXPIRED: "Session expired",
}

_log: Final = logging.getLogger("bankconnect_async.web")


class Put(Protocol):
    """
    Puts work into the inbox, and tells whether its key is new.
    """

    def __call__(
        self, key: str, body: bytes, *, link_id: str | None
    ) -> Awaitable[bool]:
        """Put it in, durably."""
        ...


@attrs.frozen(kw_only=True)
class SweepReport:
    """
    The result of a sweep.

    Attributes:
        checked: The number of sessions that were due.
        found: The number of events of which no webhook had come.
        closed: The number of sessions that ended without an event: they
            expired, and the vendor has no webhook for it, or it deleted them.
        failures: The number of sessions that could not be checked, by the
            names of the errors. The next sweep tries them again.
    """

    checked: int
    found: int
    closed: int
    failures: Mapping[str, int]


async def sweep(  # noqa: PLR0913
    bank: AsyncBankConnect,
    *,
    limit: int | None = None,
    concurrency: int = 64,
    rate: float | None = None,
    now: Callable[[], datetime.datetime] | None = None,
    put: Put | None = None,
) -> SweepReport:
    """
    Ask the server about the sessions that are due, and enqueue what it says.

    What it finds goes into the inbox of the client's store with the key of
    the webhook that was lost, so a service hands it on once, and knows the
    webhook if it comes later. A session that was never opened costs one
    call.

    Args:
        bank: The client, with its store.
        limit: The largest number of sessions; `None` for all that are due.
        concurrency: The largest number of calls in flight.
        rate: Requests per second, evenly spaced; `None` for no limit.
        now: The clock; the system's by default.
        put: The function that puts work into the inbox; `Inbox.put` begins
            it, too.

    Raises:
        AuthenticationError: As any error that every other call would meet,
            too.
        StoreError: If the store cannot be read or written.
    """
    await bank.store.open()
    async with bank.paced(concurrency=concurrency, rate=rate) as paced:
        sweeper = _Sweeper(
            bank,
            paced,
            left=math.inf if limit is None else limit,
            now=now or _now,
            chunk=2 * concurrency,
            put=put,
        )
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(sweeper.work())
    return sweeper.report()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@attrs.define(eq=False)
class _Sweeper:
    """
    The state that the workers of a sweep share.
    """

    bank: AsyncBankConnect
    api: PacedClient
    left: float = attrs.field(kw_only=True)
    now: Callable[[], datetime.datetime] = attrs.field(kw_only=True)
    chunk: int = attrs.field(kw_only=True)
    put: Put | None = attrs.field(kw_only=True)
    _started: datetime.datetime = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.now(), True)
    )
    _entries: deque[SessionEntry] = attrs.field(init=False, factory=deque)
    _lock: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)
    _error: BankConnectError | None = attrs.field(init=False, default=None)
    _checked: int = attrs.field(init=False, default=0)
    _found: int = attrs.field(init=False, default=0)
    _closed: int = attrs.field(init=False, default=0)
    _failures: Counter[str] = attrs.field(init=False, factory=Counter)

    def report(self) -> SweepReport:
        """
        Return what was done.

        Raises:
            BankConnectError: What stopped the sweep.
        """
        if self._error is not None:
            raise self._error
        return SweepReport(
            checked=self._checked,
            found=self._found,
            closed=self._closed,
            failures=dict(self._failures),
        )

    async def work(self) -> None:
        """Check entries until none is due."""
        try:
            while (entry := await self._next()) is not None:
                self._checked += 1
                await self._check(entry)
        except StoreError as error:
            self._error = self._error or error

    async def _next(self) -> SessionEntry | None:
        async with self._lock:
            if self._error is not None:
                return None
            if not self._entries and self.left > 0:
                self._entries += await self.bank.store.due(
                    api_id=self.bank.store_api_id,
                    # What is put off stays for the next sweep.
                    now=self._started,
                    limit=int(min(self.chunk, self.left)),
                    lease=_LEASE,
                )
                self.left = (
                    self.left - len(self._entries) if self._entries else 0
                )
            return self._entries.popleft() if self._entries else None

    async def _check(self, entry: SessionEntry) -> None:
        try:
            if entry.is_ambiguous:
                # No endpoint finds it.
                await self._settle(entry)
            elif entry.session_id is None or not _is_uuid(entry.session_id):
                await self._check_entities(entry)
            else:
                await self._check_session(entry)
        except StoreError:
            raise
        except BankConnectError as error:
            await self._fail(entry, error)

    async def _fail(
        self, entry: SessionEntry, error: BankConnectError
    ) -> None:
        self._failures[type(error).__name__] += 1
        _log.info("session %s was not checked: %s", entry.entry_id, error)
        if isinstance(error, (*ABORTING, BatchStoppedError)):
            self._error = self._error or error
        elif not is_temporary(error):
            # Another attempt has time.
            await self._advance(entry, entry.state, detail=str(error))

    async def _check_session(self, entry: SessionEntry) -> None:
        try:
            if entry.state in OPEN_STATES:
                is_uploaded = await self._check_uploads(entry)
            else:
                is_uploaded = True
            if is_uploaded:
                await self._check_processing(entry)
        except NotFoundError as error:
            if error.code is None:
                # Not the vendor's own API.
                raise
            if (
                error.status == HTTPStatus.GONE
                or entry.state not in OPEN_STATES
            ):
                await self._close(entry, SessionState.DELETED, str(error))
            else:
                await self._check_entities(entry)

    def _handle(self, entry: SessionEntry) -> SessionHandle:
        # Frames have no id of a session, which opens the journey.
        return self.api.session(str(entry.session_id))

    async def _check_uploads(self, entry: SessionEntry) -> bool:
        status = await self._handle(entry).upload_status()
        if status.upload_status == COMPLETED:
            await self._tell_uploads(entry, status, WebhookName.UPLOADED)
            return True
        if status.upload_status == _EXPIRED or self._is_over(entry):
            await self._tell_uploads(entry, status, WebhookName.EXPIRED)
        elif status.accounts:
            await self._advance(entry, SessionState.OPENED)
        else:
            await self._advance(entry, entry.state)
        return False

    async def _check_processing(self, entry: SessionEntry) -> None:
        handle = self._handle(entry)
        try:
            status = await handle.status()
        except NotReadyError as error:
            if error.code != _NOT_REQUESTED:
                await self._advance(entry, SessionState.PROCESSING)
                return
            if entry.state not in OPEN_STATES:
                # The event makes a service start it.
                await self._tell_uploads(
                    entry, await handle.upload_status(), WebhookName.UPLOADED
                )
            return
        await self._tell(
            entry,
            {
                "session_id": entry.session_id,
                "event_name": WebhookName.ENRICHED,
                "insights_available": status.insights_available,
                "accounts": status.raw.get("accounts"),
            },
        )

    async def _tell_uploads(
        self, entry: SessionEntry, status: UploadStatus, name: WebhookName
    ) -> None:
        await self._tell(
            entry,
            {
                "session_id": entry.session_id,
                "event_name": name,
                "message": _MESSAGES[name],
                "session_date_range": status.raw.get("session_date_range"),
                "accounts": status.raw.get("accounts"),
            },
        )

    async def _check_entities(self, entry: SessionEntry) -> None:
        payloads = await self.api.webhook_payloads(entry.link_id)
        siblings = await self.bank.store.find(
            api_id=entry.key.api_id, link_id=entry.link_id
        )
        found = [
            webhook
            for webhook in payloads
            if self._is_recent(webhook)
            and _find_owner(webhook, siblings) == entry.entry_id
        ]
        if not found and (
            entry.state is not SessionState.CREATED or self._is_over(entry)
        ):
            # The vendor keeps no webhooks of manual uploads in mode 0.
            known = {webhook.entity_id for webhook in payloads}.union(
                *(
                    sibling.entity_ids
                    for sibling in siblings
                    if sibling.entry_id != entry.entry_id
                )
            )
            found = [
                webhook
                async for entity in self.api.entities(link_id=entry.link_id)
                if entity.entity_id not in known
                for webhook in await self._statements(entity, entry)
                if _find_owner(webhook, siblings) == entry.entry_id
            ]
        # The vendor lists the newest first.
        for webhook in reversed(found):
            await self._tell(entry, webhook.raw, entity_id=webhook.entity_id)
        if not found:
            await self._settle(entry)

    def _is_recent(self, webhook: ExtractionWebhook) -> bool:
        # A failure without an entity belongs to no state, so only its time
        # tells that an earlier sweep has found it.
        return webhook.entity_id is not None or (
            webhook.date_time is not None
            and _as_utc(webhook.date_time) > self.now() - _RECENT
        )

    async def _statements(
        self, entity: Entity, entry: SessionEntry
    ) -> Iterable[ExtractionWebhook]:
        """
        Return the webhooks that an entity's statements would have had.
        """
        accounts = await self.api.entity(entity.entity_id).accounts()
        changes = [
            account.last_updated
            for account in accounts.accounts
            if account.last_updated is not None
        ]
        if not changes:
            # It may be of a journey before the store's first.
            return ()
        return [
            ExtractionWebhook(
                raw={
                    "entity_id": entity.entity_id,
                    "statement_id": statement.statement_id,
                    "link_id": entry.link_id,
                    "progress": statement.status,
                    "reason": statement.message or "",
                },
                entity_id=entity.entity_id,
                date_time=max(changes),
            )
            for statement in accounts.progress
            if statement.status in _SETTLED
        ]

    @hide_frames
    async def _tell(
        self,
        entry: SessionEntry,
        body: Mapping[str, Any],
        *,
        entity_id: str | None = None,
    ) -> None:
        if entity_id is not None:
            # The inbox finds the session by it.
            await self._advance(entry, entry.state, entity_id=entity_id)
        raw = dump_json(body)
        key = event_key(decode_webhook(raw), self.bank.store_api_id)
        if self.put is not None:
            is_new = await self.put(key, raw, link_id=entry.link_id)
        else:
            is_new = await self.bank.store.enqueue(
                key, raw, at=self.now(), link_id=entry.link_id
            )
        self._found += is_new
        if entity_id is None:
            # The inbox sets the state.
            await self._advance(entry, entry.state)

    async def _settle(self, entry: SessionEntry) -> None:
        """Put the next check off, or close a session that is over."""
        if self._is_over(entry):
            await self._close(entry, SessionState.EXPIRED, None)
        else:
            await self._advance(entry, entry.state)

    async def _close(
        self, entry: SessionEntry, state: SessionState, detail: str | None
    ) -> None:
        await self._advance(entry, state, detail=detail)
        self._closed += 1

    async def _advance(
        self,
        entry: SessionEntry,
        state: SessionState,
        *,
        entity_id: str | None = None,
        detail: str | None = None,
    ) -> None:
        await self.bank.store.advance(
            entry.entry_id,
            state,
            at=self.now(),
            entity_id=entity_id,
            detail=detail,
        )

    def _is_over(self, entry: SessionEntry) -> bool:
        ends = entry.expires_at or entry.created_at + _LIFETIME
        return entry.state in OPEN_STATES and self.now() >= ends


def _is_uuid(session_id: str) -> bool:
    # The ids of the entity flow have another form, and its endpoints know
    # customers only.
    try:
        uuid.UUID(session_id)
    except ValueError:
        return False
    return True


def _find_owner(
    webhook: ExtractionWebhook, siblings: Sequence[SessionEntry]
) -> str | None:
    """
    Return the id of the entry to which a webhook belongs.

    An entity that nobody knows is of the session that was the customer's
    newest at that time and is not over yet.

    Args:
        webhook: The webhook.
        siblings: The entries of the customer, newest first.
    """
    for sibling in siblings:
        if webhook.entity_id in sibling.entity_ids:
            return sibling.entry_id
    told_at = webhook.date_time and _as_utc(webhook.date_time)
    return next(
        (
            sibling.entry_id
            for sibling in siblings
            if not sibling.is_ambiguous
            and sibling.state not in FINAL_STATES
            and (told_at is None or sibling.created_at - _ZONES <= told_at)
        ),
        None,
    )


def _as_utc(time: datetime.datetime) -> datetime.datetime:
    return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)
