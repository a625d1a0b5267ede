"""
The endpoints of a service in any framework: decide, confirm, hand on.
"""

import asyncio
import logging

from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from bankconnect_async._codec.webhooks import deduplication_key
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.errors import (
    BankConnectError,
    ClientClosedError,
    DecodeError,
    InvalidCallbackError,
    RateLimitError,
    ResponseError,
    ServerError,
    TransportError,
)
from bankconnect_async.models.events import Event, SuccessEvent
from bankconnect_async.models.sessions import UNSET, Session, SessionRequest
from bankconnect_async.models.webhooks import Webhook

from .deduplication import DedupStore, RecentKeys
from .http import WebRequest, WebResponse, plain
from .limits import RateLimit
from .protocol import CallbackProtocol
from .reports import BrowserReport


OnEvent: TypeAlias = Callable[[Event | Webhook], Awaitable[None]]
OnFailure: TypeAlias = Callable[[Event | Webhook, Exception], Awaitable[None]]

_UNCONFIRMED: Final = "the server did not confirm this success"
_TOO_MANY: Final = "too many successes were claimed for this customer"
_CLOSED: Final = "the service was closed"
_CANCELLED: Final = "it was cancelled"
# What identifies an event or a webhook, and is nobody's secret.
_IDS: Final = ("entity_id", "statement_id", "session_id")

# The vendor was asked, or could not be: no mistake of the service's.
_VENDOR_ERRORS: Final = (TransportError, ResponseError, DecodeError)

# A callback may also raise or pass on a cancellation. What it was given must
# not go with it.
_ANY_ERROR: Final = (Exception, asyncio.CancelledError)

_T = TypeVar("_T")

_log: Final = logging.getLogger("bankconnect_async.web")


@attrs.define(eq=False)
class CallbackService:
    """
    Five endpoints, each from a `WebRequest` to a `WebResponse`.

    Every outcome goes to one callback, whichever way it came: the classes
    tell events and webhooks apart, and `match` does the rest. A
    `SuccessEvent` that gets there has `confirmed=True`, always, because code
    that forgets to look must not believe a browser. What does not get there
    goes to the failure hook, with the reason: a success that the server did
    not confirm (`InvalidCallbackError`) or could not be asked about
    (`BankConnectError`), and what the callback raised on.

    A browser that closes, or a framework that cancels the request, takes
    nothing with it: what was read goes on by itself until it is handed on,
    and `aclose` waits for it.

    The callback may see an event twice, such as when a customer reloads the
    page, and a webhook may tell the same again. So it should be idempotent.

    Attributes:
        bank: Creates sessions and confirms. Closing it is up to the service.
        protocol: The settings.
        on_event: Gets every event and webhook. Browsers wait for it, the
            vendor does not.
        on_failure: Gets what *on_event* did not take, and why. Without it,
            or if it fails, an error with the ids is logged, and the content
            is gone.
        dedup_store: Where duplicate webhooks are recognised.
        max_pending: How many events and webhooks may wait for *on_event* to
            finish. More are answered with 503, so that webhooks stay with
            the vendor.
        max_confirmations: How many successes of one customer the server is
            asked about within ten minutes, by this process. More are
            answered with 429 and go to the failure hook: nobody guesses ids.
    """

    bank: AsyncBankConnect
    protocol: CallbackProtocol
    on_event: OnEvent = attrs.field(kw_only=True)
    on_failure: OnFailure | None = attrs.field(default=None, kw_only=True)
    dedup_store: DedupStore = attrs.field(factory=RecentKeys, kw_only=True)
    max_pending: int = attrs.field(default=1000, kw_only=True)
    max_confirmations: int = attrs.field(default=10, kw_only=True)
    _tasks: dict[asyncio.Task[Any], Event | Webhook] = attrs.field(
        init=False, factory=dict
    )
    _confirmations: RateLimit = attrs.field(
        init=False,
        default=attrs.Factory(
            lambda self: RateLimit(self.max_confirmations), takes_self=True
        ),
    )
    _closed: bool = attrs.field(init=False, default=False)

    async def connect(
        self, request: WebRequest, customer: str | SessionRequest
    ) -> WebResponse:
        """
        Answer with the page that has the journey in a frame.

        503, 502: No session could be had; see `failure_status`.

        Args:
            request: The request, a GET or a POST. What a page of another site
                embeds or fetches is refused, and so is what a browser
                fetches ahead. A visitor whom another site has sent gets a
                page first, whose button posts to the same address.
            customer: Whose journey, from your own authentication: a
                `link_id`, or a whole request, whose `redirect_url` is
                replaced.

        Raises:
            InvalidRequestError: If there can be no such session.
        """
        return self.protocol.check_visit(
            request
        ) or await self._create_session(
            _request(customer, None), self.protocol.render_connect_page
        )

    async def redirect(
        self, request: WebRequest, customer: str | SessionRequest
    ) -> WebResponse:
        """
        Send the browser to the journey, from which it will return to us.

        Takes, answers and raises what `connect` does.
        """
        link_id = customer if isinstance(customer, str) else customer.link_id
        url = self.protocol.return_url(link_id)
        return self.protocol.check_visit(
            request
        ) or await self._create_session(
            _request(customer, url), self.protocol.start_redirect
        )

    async def handle_event(self, request: WebRequest) -> WebResponse:
        """
        Answer what the page around the frame posts, once it is handed on.

        204: The callback has it.
        403: The server did not confirm the success.
        429: Too many successes were claimed for this customer.
        503, 502: The server could not be asked; see `failure_status`. Or
        there is too much in hand already, or we are closing.
        500: The callback failed.
        Others: See `CallbackProtocol.parse_event`.
        """
        report = self.protocol.parse_event(request)
        if isinstance(report, WebResponse):
            return report
        status = await self._process(report)
        return self.protocol.respond_to_event(status)

    async def handle_return(self, request: WebRequest) -> WebResponse:
        """
        Answer a browser that comes back, once its outcome is handed on.

        303, 200: The callback has it; on to `CallbackProtocol.next_url`, or a
        page that says how it ended.
        Others: As for `handle_event`, on a page.
        See `CallbackProtocol.parse_return`.
        """
        report = self.protocol.parse_return(request)
        if isinstance(report, WebResponse):
            return report
        status = await self._process(report)
        return self.protocol.respond_to_return(status, report.event)

    async def handle_webhook(self, request: WebRequest) -> WebResponse:
        """
        Answer the vendor at once, and hand the webhook on later.

        Until then it is in memory only. After a crash,
        `AsyncBankConnect.webhook_payloads` recovers those of the entity flow;
        the session flow has status calls.

        200: It is in hand. The vendor documents no other good answer.
        400: It is not understood; the failure hook gets it.
        503: There are too many already, or we are closing.
        Others: See `CallbackProtocol.parse_webhook`.
        """
        notification = self.protocol.parse_webhook(request)
        if isinstance(notification, WebResponse):
            return notification
        if self._is_full:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "come again later")
        webhook, error = notification.webhook, notification.error
        if error is not None:
            self._spawn(webhook, self._report_failure(webhook, error))
            return plain(HTTPStatus.BAD_REQUEST, str(error))
        # Who waits for it looks at once, also if it was delivered before.
        self.bank.feed(webhook)
        self._spawn(webhook, self._deliver(webhook))
        return plain(HTTPStatus.OK)

    @property
    def pending(self) -> int:
        """How many events and webhooks are in hand."""
        return len(self._tasks)

    async def aclose(self, grace: float = 10.0) -> None:
        """
        Wait for the events and webhooks in hand.

        Args:
            grace: Seconds. What takes longer is cancelled, and given to the
                failure hook, which has as long again.
        """
        self._closed = True
        await self._wait(grace)
        for task in self._tasks:
            task.cancel()
        await self._wait(grace)
        for what in self._tasks.values():
            _log_lost(what, TimeoutError("it did not end when cancelled"))

    async def _wait(self, seconds: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    @property
    def _is_full(self) -> bool:
        return self._closed or self.pending >= self.max_pending

    async def _create_session(
        self, request: SessionRequest, write: Callable[[Session], WebResponse]
    ) -> WebResponse:
        try:
            return write(await self.bank.create_session(request))
        except _VENDOR_ERRORS as error:
            _log.warning("no session: %s", error)
            return self.protocol.render_failure(failure_status(error))

    async def _process(self, report: BrowserReport) -> HTTPStatus:
        if self._is_full:
            return HTTPStatus.SERVICE_UNAVAILABLE
        task = self._spawn(report.event, self._confirm_and_deliver(report))
        # A browser that closes must not take its event with it.
        return await asyncio.shield(task)

    async def _confirm_and_deliver(self, report: BrowserReport) -> HTTPStatus:
        event = report.event
        is_success = isinstance(event, SuccessEvent)
        if is_success and not self._confirmations.allows(event.link_id or ""):
            error = InvalidCallbackError(_TOO_MANY)
            return await self._reject(
                event, error, HTTPStatus.TOO_MANY_REQUESTS
            )
        try:
            event = await self.bank.confirm(event, session=report.session)
        except _ANY_ERROR as error:
            return await self._reject(event, error, failure_status(error))
        if is_success and event.confirmed is not True:
            return await self._reject(
                event, InvalidCallbackError(_UNCONFIRMED), HTTPStatus.FORBIDDEN
            )
        try:
            await self.on_event(event)
        except _ANY_ERROR as error:
            return await self._reject(
                event, error, HTTPStatus.INTERNAL_SERVER_ERROR
            )
        return HTTPStatus.NO_CONTENT

    async def _reject(
        self, event: Event, error: BaseException, status: HTTPStatus
    ) -> HTTPStatus:
        await self._report_failure(event, error)
        return status

    async def _deliver(self, webhook: Webhook) -> None:
        key = None
        try:
            key = deduplication_key(webhook)
            if await self.dedup_store.add(key):
                await self.on_event(webhook)
        except _ANY_ERROR as error:
            if (
                not await self._report_failure(webhook, error)
                and key is not None
            ):
                # The vendor may try again, and then it is not a duplicate.
                await self.dedup_store.discard(key)

    async def _report_failure(
        self, what: Event | Webhook, error: BaseException
    ) -> bool:
        if not isinstance(error, Exception):
            error = TimeoutError(_CLOSED if self._closed else _CANCELLED)
        if self.on_failure is not None:
            try:
                await self.on_failure(what, error)
            except _ANY_ERROR:
                _log.exception("the failure hook failed, too")
            else:
                return True
        _log_lost(what, error)
        return False

    def _spawn(
        self, what: Event | Webhook, work: Coroutine[Any, Any, _T]
    ) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._tasks[task] = what
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        what = self._tasks.pop(task)
        # A loop that is torn down cancels what has not even begun.
        error = (
            TimeoutError(_CANCELLED) if task.cancelled() else task.exception()
        )
        if error is not None:
            _log_lost(what, error)


def _log_lost(what: Event | Webhook, error: BaseException) -> None:
    # Nothing else of its content: webhooks have account numbers.
    ids = {
        name: id_
        for name in _IDS
        if (id_ := getattr(what, name, None)) is not None
    }
    text = f": {ids}" if ids else ""
    _log.error("%s is lost%s", type(what).__name__, text, exc_info=error)


def _request(
    customer: str | SessionRequest, redirect_url: str | None
) -> SessionRequest:
    if isinstance(customer, str):
        customer = SessionRequest(link_id=customer, redirect_url=UNSET)
    return attrs.evolve(customer, redirect_url=redirect_url)


def failure_status(error: BaseException) -> HTTPStatus:
    """
    Say with which status to pass on that the vendor could not be asked.

    503 if it is a matter of time (no connection, no answer, too many
    requests, a fault of the vendor's, a client that is closing); 502 if the
    vendor's answer will be the same tomorrow, such as that our key is wrong;
    500 if the fault is our own.
    """
    passing = (
        TransportError
        | RateLimitError
        | ServerError
        | ClientClosedError
        | asyncio.CancelledError
    )
    if isinstance(error, passing):
        return HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, BankConnectError):
        return HTTPStatus.BAD_GATEWAY
    return HTTPStatus.INTERNAL_SERVER_ERROR
