"""
Hand events and webhooks to the service's callback, at least once.
"""

import datetime
import logging

from collections.abc import Awaitable, Callable
from typing import (
    Any,
    Final,
    Literal,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypedDict,
    Unpack,
)

import attrs
import orjson

from bankconnect_async._codec.event_keys import digest, event_key
from bankconnect_async._codec.webhooks import decode_webhook
from bankconnect_async._tracebacks import hide_frames
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.errors import (
    AlreadyProcessingError,
    BankConnectError,
    DecodeError,
)
from bankconnect_async.models.events import Event, SuccessEvent
from bankconnect_async.models.webhooks import (
    ExpiryWebhook,
    ExtractionWebhook,
    UnknownWebhook,
    UploadWebhook,
    Webhook,
    WebhookName,
)
from bankconnect_async.store.entries import (
    OPEN_STATES,
    InboxItem,
    SessionEntry,
    SessionState,
)

from .failures import ANY_ERROR, is_temporary
from .inbox import Inbox
from .news import News, SessionRecords, news_of


P = ParamSpec("P")

OnEvent: TypeAlias = Callable[[Event | Webhook], Awaitable[None]]
OnFailure: TypeAlias = Callable[[Event | Webhook, Exception], Awaitable[None]]
Process: TypeAlias = Literal["on-completion", "never"]

#: What the keys of work in the inbox begin with; webhooks have nothing.
SUCCESS: Final = "success"
PROCESSING: Final = "process"
UNMATCHED: Final = "unmatched"

_CANCELLED: Final = "the task was cancelled, or the service was closed"
# The ids that a log may show: they are no secrets.
_IDS: Final = ("entity_id", "statement_id", "session_id")
# An upload that is complete starts processing from these states.
_UNPROCESSED: Final = {
    *OPEN_STATES,
    SessionState.EXPIRED,
    SessionState.SUBMITTED,
}
# A session is stored within two minutes, or is not ours.
_MATCH_ATTEMPTS: Final = 8

_log: Final = logging.getLogger("bankconnect_async.web")


class Hooks(Protocol):
    """
    The functions of the service that get events and failures.
    """

    on_event: OnEvent
    on_failure: OnFailure | None


class InboxSettings(TypedDict):
    """
    The settings of an `Inbox`.
    """

    now: Callable[[], datetime.datetime]
    limit: int
    lease: datetime.timedelta
    poll_interval: float


class EventDispatcher:
    """
    Records what events and webhooks say, and hands them to the callback.

    Attributes:
        bank: The client.
        hooks: The callback and the failure hook.
        process: When the processing of uploads is started.
        max_attempts: The number of attempts of one piece of work.
        records: The sessions in the store.
        inbox: The inbox, made of the settings that `Inbox` describes.
    """

    def __init__(
        self,
        *,
        bank: AsyncBankConnect,
        hooks: Hooks,
        process: Process,
        max_attempts: int,
        records: SessionRecords,
        **settings: Unpack[InboxSettings],
    ) -> None:
        self.bank = bank
        self.hooks = hooks
        self.process = process
        self.max_attempts = max_attempts
        self.records = records
        self.inbox: Inbox = Inbox(
            store=records.store, work=self.work, **settings
        )

    @hide_frames
    async def accept(self, webhook: Webhook, body: bytes) -> bool:
        """
        Put a webhook into the inbox, durably.

        Args:
            webhook: The webhook.
            body: Its body.

        Returns:
            False if its key is known.

        Raises:
            StoreError: If the store cannot be used.
        """
        entry = await self.records.find_for_webhook(webhook)
        return await self.inbox.put(
            event_key(webhook, self.records.api_id),
            body,
            link_id=_owner(webhook, entry),
        )

    async def deliver(self, event: Event, entry: SessionEntry | None) -> None:
        """
        Record an event that a browser reported, and hand it on.

        A confirmed success is in the inbox meanwhile: if this process is
        killed, or the callback fails, it is handed on again. One whose key is
        known is not.

        Args:
            event: The event.
            entry: Its session, if that is known.

        Raises:
            StoreError: If the store cannot be used.
            Exception: What the callback raises.
        """
        event = attrs.evolve(
            event,
            key=event_key(
                event,
                self.records.api_id,
                session_id=None if entry is None else entry.session_id,
            ),
        )
        if entry is not None:
            await self._record(event, entry)
        if not isinstance(event, SuccessEvent):
            await _call(self.hooks.on_event, event)
            return
        if (
            entry is not None
            and entry.session_id is not None
            and entry.session_id in {event.session_id, event.entity_id}
        ):
            await self._process(entry, _upload_body(entry.session_id))
        await self.inbox.do(
            f"{SUCCESS}:{event.key}",
            _encode_success(event),
            lambda: _call(self.hooks.on_event, event),
            link_id=event.link_id,
        )

    async def work(self, item: InboxItem) -> bool:
        """
        Do an item of the inbox, and tell whether it is done.
        """
        kind, _, key = item.key.rpartition(":")
        attempts = self.max_attempts
        if kind == UNMATCHED:
            attempts = min(attempts, _MATCH_ATTEMPTS)
        is_last = item.attempts + 1 >= attempts
        what: SuccessEvent | Webhook = UnknownWebhook(key=key)
        try:
            what = _decode(item)
            if isinstance(what, SuccessEvent):
                await _call(self.hooks.on_event, what)
                return True
            entry = await self.records.find_for_webhook(what)
            if entry is not None and not isinstance(what, ExtractionWebhook):
                what = attrs.evolve(what, link_id=entry.link_id)
            do = {
                PROCESSING: self._start_processing,
                UNMATCHED: self._match,
            }.get(kind, self._hand_on)
            return await do(what, entry, item) or is_last
        except ANY_ERROR as error:
            is_last = is_last or isinstance(error, DecodeError)
            if kind != PROCESSING or is_last:
                await self.report_failure(what, error, is_last=is_last)
            return is_last

    async def aclose(self, grace: float) -> None:
        """
        Do what was accepted here, and stop.

        Args:
            grace: The seconds to wait, as for `Inbox.aclose`.
        """
        for item in await self.inbox.aclose(grace):
            error = TimeoutError("the callback ignored its cancellation")
            log_failure(_decode(item), error, is_last=False)

    async def report_failure(
        self,
        what: Event | Webhook,
        error: BaseException,
        *,
        is_last: bool = True,
    ) -> None:
        """
        Hand an event that could not be processed to the failure hook.

        Args:
            what: The event or webhook.
            error: The reason.
            is_last: Whether it is not tried again.
        """
        if not isinstance(error, Exception):
            error = TimeoutError(_CANCELLED)
        if not what.key:
            key = event_key(what, self.records.api_id)
            what = attrs.evolve(what, key=key)
        if self.hooks.on_failure is not None:
            try:
                await _call(self.hooks.on_failure, what, error)
            except ANY_ERROR:
                _log.exception("the failure hook failed")
            else:
                return
        log_failure(what, error, is_last=is_last)

    async def _hand_on(
        self, webhook: Webhook, entry: SessionEntry | None, item: InboxItem
    ) -> bool:
        is_matched = await self._match(webhook, entry, item)
        if not is_matched and getattr(webhook, "session_id", None) is not None:
            # Its session may be stored in a moment.
            await self.inbox.put(f"{UNMATCHED}:{item.key}", item.body)
        await _call(self.hooks.on_event, webhook)
        return True

    async def _match(
        self, webhook: Webhook, entry: SessionEntry | None, item: InboxItem
    ) -> bool:
        if entry is None:
            return False
        await self._record(webhook, entry)
        # Whether an expired session that is filled in part can be processed
        # is not documented, so that is tried, too.
        if isinstance(webhook, UploadWebhook) or (
            isinstance(webhook, ExpiryWebhook) and webhook.accounts
        ):
            await self._process(entry, item.body, after=type(webhook).__name__)
        return True

    async def _record(
        self, what: Event | Webhook, entry: SessionEntry
    ) -> None:
        await self.records.apply(entry, news_of(what), at=self.inbox.now())

    @hide_frames
    async def _process(
        self,
        entry: SessionEntry,
        body: bytes,
        *,
        after: str = UploadWebhook.__name__,
    ) -> None:
        if self.process == "never" or entry.state not in _UNPROCESSED:
            return
        facts = [self.records.api_id, entry.session_id, after]
        await self.inbox.put(
            f"{PROCESSING}:{digest(facts)}", body, link_id=entry.link_id
        )

    async def _start_processing(
        self, webhook: Webhook, entry: SessionEntry | None, _: InboxItem
    ) -> bool:
        if entry is None or entry.session_id is None:
            # It was erased meanwhile.
            return True
        try:
            await self.bank.session(entry.session_id).initiate_processing()
        except AlreadyProcessingError:
            pass
        except BankConnectError as error:
            if is_temporary(error):
                raise
            # Another attempt would be refused, too.
            await self.report_failure(webhook, error)
            return True
        await self.records.apply(
            entry, News(state=SessionState.PROCESSING), at=self.inbox.now()
        )
        return True


def log_failure(
    what: Event | Webhook, error: BaseException, *, is_last: bool = True
) -> None:
    """
    Log an event that nobody got, with no more than its ids.
    """
    outcome = "lost" if is_last else "to be tried again"
    if (
        isinstance(what, SuccessEvent)
        and what.confirmed is not True
        and isinstance(error, BankConnectError)
    ):
        # A browser's claim, which may be forged.
        outcome = "not confirmed"
    ids = {
        name: id_
        for name in _IDS
        if (id_ := getattr(what, name, None)) is not None
    }
    _log.error(
        "%s is %s%s",
        type(what).__name__,
        outcome,
        f": {ids}" if ids else "",
        exc_info=error,
    )


async def _call(
    hook: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs
) -> None:
    """Call a hook; its error is one of `ANY_ERROR`, or ends the process."""
    try:
        await hook(*args, **kwargs)
    except (*ANY_ERROR, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as exc:
        # Such as a panic of a library in Rust.
        raise RuntimeError(f"the hook raised {type(exc).__name__}") from exc


def _owner(webhook: Webhook, entry: SessionEntry | None) -> str | None:
    return webhook.link_id if entry is None else entry.link_id


def _upload_body(session_id: str) -> bytes:
    return orjson.dumps(
        {"session_id": session_id, "event_name": WebhookName.UPLOADED}
    )


def _encode_success(event: SuccessEvent) -> bytes:
    facts: dict[str, Any] = {
        name: getattr(event, name)
        for name in ("link_id", "entity_id", "session_id", "raw")
    }
    return orjson.dumps(facts)


def _decode(item: InboxItem) -> SuccessEvent | Webhook:
    kind, _, key = item.key.rpartition(":")
    if kind == SUCCESS:
        return SuccessEvent(key=key, confirmed=True, **orjson.loads(item.body))
    webhook = decode_webhook(item.body)
    # The key of processing is not that of its webhook.
    return webhook if kind == PROCESSING else attrs.evolve(webhook, key=key)
