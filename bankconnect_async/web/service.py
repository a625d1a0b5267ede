"""
The endpoints of a service, for any framework.
"""

import asyncio
import logging

from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from bankconnect_async._codec.event_keys import event_key
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
_TOO_MANY: Final = "too many successes were reported for this customer"
_CLOSED: Final = "the service was closed"
_CANCELLED: Final = "the task was cancelled"
# The ids that a log may show: they are no secrets.
_IDS: Final = ("entity_id", "statement_id", "session_id")

# The vendor is at fault here, not the service.
_VENDOR_ERRORS: Final = (TransportError, ResponseError, DecodeError)

# A cancelled callback must not lose its event, either.
_ANY_ERROR: Final = (Exception, asyncio.CancelledError)

_T = TypeVar("_T")

_log: Final = logging.getLogger("bankconnect_async.web")


@attrs.define(eq=False)
class CallbackService:
    """
    Five endpoints, each from a `WebRequest` to a `WebResponse`.

    One callback gets every event and every webhook; their classes tell them
    apart. Every `SuccessEvent` that it gets has `confirmed=True`, so that
    code which forgets to check does not trust a browser. The failure hook
    gets the rest with the reason: successes that the server did not confirm
    (`InvalidCallbackError`), those that could not be checked
    (`BankConnectError`), and whatever made the callback raise.

    If a browser disconnects or a framework cancels the request, the event
    is still processed, and `aclose` waits for it.

    The callback should be idempotent: it may get an event twice, such as
    when a customer reloads the page, and a webhook may repeat an event.

    Attributes:
        bank: The client. `aclose` does not close it.
        protocol: The settings.
        on_event: The callback. Browsers wait for it, the vendor does not.
        on_failure: The failure hook. Without it, or if it fails, an error
            with the ids is logged, and the content is lost.
        dedup_store: The store that recognises duplicate webhooks.
        max_pending: The number of events and webhooks that may be processed
            at the same time. Further ones are answered with 503, so that
            the vendor keeps the webhooks.
        max_confirmations: The number of successes of one customer that this
            process confirms within ten minutes. Further ones are answered
            with 429 and go to the failure hook, so that nobody guesses ids.
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
        Create a session and show its journey in a frame.

        503, 502: The session could not be created; see `failure_status`.

        Args:
            request: The request, a GET or a POST. Requests that another site
                embeds or fetches, and prefetches, are refused. A visitor
                from another site gets a page first, whose button posts to
                the same address.
            customer: The customer, from your own authentication: a
                `link_id`, or a whole request, whose `redirect_url` is
                replaced.

        Raises:
            InvalidRequestError: If the customer's request is not valid.
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
        Create a session and redirect the browser to its journey.

        The arguments, statuses and errors are those of `connect`.
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
        Process an event that the page around the frame posts.

        204: The callback has processed it.
        403: The server did not confirm the success.
        429: Too many successes were reported for this customer.
        503, 502: The server could not confirm it; see `failure_status`. Or
        too many events are pending, or the service is closing.
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
        Process the outcome of a browser that returns.

        303, 200: The callback has processed it; the response redirects to
        `CallbackProtocol.next_url`, or is a page with the outcome.
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
        Answer the vendor at once, and process the webhook afterwards.

        Until then it is in memory only. After a crash,
        `AsyncBankConnect.webhook_payloads` recovers those of the entity flow;
        the session flow has status calls.

        200: It is pending. The vendor documents no other success status.
        400: It cannot be decoded; the failure hook gets it.
        503: Too many are pending, or the service is closing.
        Others: See `CallbackProtocol.parse_webhook`.
        """
        notification = self.protocol.parse_webhook(request)
        if isinstance(notification, WebResponse):
            return notification
        if self._is_full:
            return plain(
                HTTPStatus.SERVICE_UNAVAILABLE, "too many webhooks are pending"
            )
        webhook, error = notification.webhook, notification.error
        if error is not None:
            self._spawn(webhook, self._report_failure(webhook, error))
            return plain(HTTPStatus.BAD_REQUEST, str(error))
        # Pollers poll at once, even if it is a duplicate.
        self.bank.notify(webhook)
        self._spawn(webhook, self._deliver(webhook))
        return plain(HTTPStatus.OK)

    @property
    def pending(self) -> int:
        """The number of events and webhooks that are being processed."""
        return len(self._tasks)

    async def aclose(self, grace: float = 10.0) -> None:
        """
        Refuse new events and webhooks, and wait for the pending ones.

        Args:
            grace: The seconds to wait. Slower ones are cancelled and go to
                the failure hook, which gets the same time again.
        """
        self._closed = True
        await self._wait(grace)
        for task in self._tasks:
            task.cancel()
        await self._wait(grace)
        for what in self._tasks.values():
            _log_lost(what, TimeoutError("the task ignored its cancellation"))

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
        # A browser that disconnects must not cancel its event.
        return await asyncio.shield(task)

    async def _confirm_and_deliver(self, report: BrowserReport) -> HTTPStatus:
        event = report.event
        is_success = isinstance(event, SuccessEvent)
        if is_success and not self._confirmations.try_acquire(
            event.link_id or ""
        ):
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
            key = event_key(webhook)
            if await self.dedup_store.add(key):
                await self.on_event(webhook)
        except _ANY_ERROR as error:
            if (
                not await self._report_failure(webhook, error)
                and key is not None
            ):
                # A second delivery is then no duplicate.
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
                _log.exception("the failure hook failed")
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
        # A loop that shuts down cancels tasks before their first step.
        error = (
            TimeoutError(_CANCELLED) if task.cancelled() else task.exception()
        )
        if error is not None:
            _log_lost(what, error)


def _log_lost(what: Event | Webhook, error: BaseException) -> None:
    # Only the ids: webhooks contain account numbers.
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
    Map an error of the client to the status of a response.

    503 if a retry may succeed (no connection, no response, too many
    requests, a server error, a closing client); 502 if the vendor refuses
    for good, such as for a wrong key; 500 for any other error.
    """
    temporary = (
        TransportError
        | RateLimitError
        | ServerError
        | ClientClosedError
        | asyncio.CancelledError
    )
    if isinstance(error, temporary):
        return HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, BankConnectError):
        return HTTPStatus.BAD_GATEWAY
    return HTTPStatus.INTERNAL_SERVER_ERROR
