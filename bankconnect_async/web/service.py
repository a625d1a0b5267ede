"""
The endpoints of a service, for any framework.
"""

import asyncio
import datetime
import functools
import logging
import os

from collections.abc import Coroutine, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self, TypeVar, get_args

import attrs

from bankconnect_async._printable import one_line
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.errors import (
    ConfigurationError,
    DecodeError,
    InvalidCallbackError,
    ResponseError,
    StoreError,
    TransportError,
)
from bankconnect_async.models.events import Event, SuccessEvent
from bankconnect_async.models.sessions import UNSET, SessionRequest
from bankconnect_async.models.webhooks import Webhook
from bankconnect_async.store.entries import SUBMITTED_STATES, SessionEntry

from .dispatcher import (
    EventDispatcher,
    OnEvent,
    OnFailure,
    Process,
    log_failure,
)
from .failures import ANY_ERROR, failure_status
from .http import WebRequest, WebResponse, plain
from .invitations import Invitation
from .journeys import BegunJourney, JourneyStarter
from .limits import RateLimit
from .news import SessionRecords
from .protocol import CallbackProtocol
from .reports import BrowserReport
from .sweep import SweepReport, sweep


_UNCONFIRMED: Final = "the server did not confirm this success"
_TOO_MANY: Final = "too many successes were reported for this customer"
_NO_HASH: Final = (
    "no success can be confirmed without a server hash: set server_hash or "
    "BANKCONNECT_SERVER_HASH"
)
_CANCELLED: Final = "the task was cancelled"
_IGNORED: Final = "the task ignored its cancellation"

# Not the service's own fault.
_OUTSIDE_ERRORS: Final = (
    TransportError,
    ResponseError,
    DecodeError,
    StoreError,
)

# What a forked process got from its parent. Tasks that are dropped before
# their end would be reported.
_INHERITED: Final[list[object]] = []

_T = TypeVar("_T")

_log: Final = logging.getLogger("bankconnect_async.web")


def _check_process(_: object, __: object, value: object) -> None:
    if value not in get_args(Process):
        problem = f"must be one of {', '.join(get_args(Process))}"
        raise ConfigurationError(fields={"process": (problem,)})


@attrs.define(eq=False)
class CallbackService:
    """
    The endpoints of a service; each takes a `WebRequest` and returns a
    `WebResponse`.

    One callback gets every event and every webhook; their classes tell them
    apart. Every `SuccessEvent` that it gets has `confirmed=True`, so that
    code which forgets to check does not trust a browser. The failure hook
    gets the rest with the reason: successes that the server did not confirm
    (`InvalidCallbackError`), those that could not be checked
    (`BankConnectError`), and whatever made the callback raise.

    What happened is recorded in the client's store, so any process of a
    service that shares it can take a return or a webhook. Webhooks and
    confirmed successes are handed on at least once: if the callback fails, or
    the process is killed, they are handed on again, by any process. Each has
    a `key`; a callback that inserts by it ends with one row per outcome.
    Services with different API keys need a store each, because every service
    of a store takes whatever is in its inbox.

    If a browser disconnects or a framework cancels the request, the event
    is still processed, and `aclose` waits for it.

    Attributes:
        bank: The client. `aclose` does not close it.
        protocol: The settings.
        on_event: The callback. Browsers wait for it, the vendor does not.
        on_failure: The failure hook, for each attempt that failed. Without
            it, or if it fails, an error with the ids is logged.
        process: When to start the processing of a session's uploads:
            `on-completion` as soon as they are complete, or `never`.
        continue_for: The age up to which the pages continue a session that
            the customer began; `None` for a new session with each visit. The
            vendor does not say how long a journey can be continued.
        max_pending: The number of events from browsers, and of webhooks, that
            may be processed at the same time. Further events are answered
            with 503; further webhooks wait in the store.
        max_confirmations: The number of successes of one customer that this
            process confirms within ten minutes. Further ones are answered
            with 429 and go to the failure hook, so that nobody guesses ids.
        max_attempts: The number of times that a webhook or success is handed
            to a callback that fails, in about an hour.
        lease: The time after which the work of a killed process is begun
            again. The callback must take less.
        poll_interval: The seconds between two looks into the store for the
            work of killed processes, and for work that is to be tried again.
        body_timeout: The seconds within which the body of a request must
            arrive at `mount` or `asgi_app`.
    """

    bank: AsyncBankConnect
    protocol: CallbackProtocol
    on_event: OnEvent = attrs.field(kw_only=True)
    on_failure: OnFailure | None = attrs.field(default=None, kw_only=True)
    process: Process = attrs.field(
        default="on-completion", kw_only=True, validator=_check_process
    )
    continue_for: datetime.timedelta | None = attrs.field(
        default=datetime.timedelta(minutes=30), kw_only=True
    )
    max_pending: int = attrs.field(default=1000, kw_only=True)
    max_confirmations: int = attrs.field(default=10, kw_only=True)
    max_attempts: int = attrs.field(default=20, kw_only=True)
    lease: datetime.timedelta = attrs.field(
        default=datetime.timedelta(minutes=5), kw_only=True
    )
    poll_interval: float = attrs.field(default=5.0, kw_only=True)
    body_timeout: float = attrs.field(default=10.0, kw_only=True)
    _tasks: dict[asyncio.Task[Any], Event | Webhook] = attrs.field(
        init=False, factory=dict
    )
    _confirmations: RateLimit = attrs.field(
        init=False,
        default=attrs.Factory(
            lambda self: RateLimit(self.max_confirmations), takes_self=True
        ),
    )
    _dispatcher: EventDispatcher = attrs.field(
        init=False,
        repr=False,
        default=attrs.Factory(
            lambda self: self._make_dispatcher(), takes_self=True
        ),
    )
    _closed: bool = attrs.field(init=False, default=False)
    # The process in which it was started.
    _pid: int | None = attrs.field(init=False, default=None)

    def _make_dispatcher(self) -> EventDispatcher:
        return EventDispatcher(
            bank=self.bank,
            hooks=self,
            process=self.process,
            max_attempts=self.max_attempts,
            records=SessionRecords(
                store=self.bank.store, api_id=self.bank.store_api_id
            ),
            now=self.protocol.now,
            limit=self.max_pending,
            lease=self.lease,
            poll_interval=self.poll_interval,
        )

    async def start(self) -> None:
        """
        Begin to hand on what is in the store, such as after a crash.

        The first webhook does so, too; `mount` does it when the application
        starts.

        Raises:
            StoreError: If the store cannot be used.
        """
        pid, self._pid = self._pid, os.getpid()
        if pid not in {None, self._pid}:
            # The parent's work is not for this process.
            _INHERITED.append((self._tasks, self._dispatcher))
            self._tasks, self._dispatcher = {}, self._make_dispatcher()
        if not self.bank.has_server_hash:
            _log.warning(_NO_HASH)
        await self._dispatcher.inbox.start()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def connect(
        self, request: WebRequest, customer: str | SessionRequest
    ) -> WebResponse:
        """
        Show the journey of a session in a frame.

        The session is a new one, or the one that the customer began not long
        ago (*continue_for*): then there is a button to start again.

        503, 502: The session could not be created; with 503, a retry may
        succeed.

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
        refused = self.protocol.check_visit(request)
        if refused is not None:
            return refused
        found = await self._begin(request, customer, is_frame=True)
        if isinstance(found, WebResponse):
            return found
        return self._show_frame(request, found)

    def _show_frame(
        self, request: WebRequest, journey: BegunJourney
    ) -> WebResponse:
        return self.protocol.render_connect_page(
            journey.session,
            start_again_url=(
                self.protocol.start_again_url(request, journey.created_at)
                if journey.is_continued
                else None
            ),
        )

    async def redirect(
        self, request: WebRequest, customer: str | SessionRequest
    ) -> WebResponse:
        """
        Redirect the browser to the journey of a session.

        If the customer began one not long ago (*continue_for*), there is a
        page first, with a button to continue and another one to start again.

        The arguments, statuses and errors are those of `connect`.
        """
        refused = self.protocol.check_visit(request)
        if refused is not None:
            return refused
        found = await self._begin(request, customer, is_frame=False)
        if isinstance(found, WebResponse):
            return found
        if found.is_continued and request.method != "POST":
            return self.protocol.render_continue_page(
                self.protocol.start_again_url(request, found.created_at)
            )
        return self.protocol.start_redirect(
            found.session, entry_id=found.entry_id
        )

    async def handle_invitation(self, request: WebRequest) -> WebResponse:
        """
        Show an invitation, and begin its journey when the customer taps.

        A GET, which programs send for previews, too, creates nothing. It gets
        a page whose button posts to the same address. Only the post creates a
        session, or continues or replaces the one of this invitation, with the
        id of the invitation as the `scope` of the store. Once statements are
        submitted, everybody gets a page that says so.

        303, 200: The journey, by a redirect or in a frame
        (`CallbackProtocol.invitation_frame`); or a page.
        503, 502: As for `connect`; or the store cannot be used.
        Others: See `CallbackProtocol.parse_invitation`.
        """
        invitation = self.protocol.parse_invitation(request)
        if isinstance(invitation, WebResponse):
            return invitation
        try:
            await self.bank.store.open()
            entries = await self._dispatcher.records.find_invited(invitation)
        except StoreError as error:
            _log.warning("an invitation is not shown: %s", error)
            return self.protocol.render_failure(failure_status(error))
        if any(entry.state in SUBMITTED_STATES for entry in entries):
            return self.protocol.render_used_invitation()
        if request.method == "POST":
            return await self._begin_invited(request, invitation)
        return self._show_invitation(request, entries)

    async def _begin_invited(
        self, request: WebRequest, invitation: Invitation
    ) -> WebResponse:
        is_frame = self.protocol.invitation_frame
        found = await self._begin(
            request,
            invitation.request(),
            is_frame=is_frame,
            scope=invitation.invitation_id,
        )
        if isinstance(found, WebResponse):
            return found
        if is_frame:
            return self._show_frame(request, found)
        return self.protocol.start_redirect(
            found.session, entry_id=found.entry_id, retry_path=invitation.path
        )

    def _show_invitation(
        self, request: WebRequest, entries: Sequence[SessionEntry]
    ) -> WebResponse:
        now = self.protocol.now()
        begun = [
            entry.created_at
            for entry in entries
            if self.continue_for is not None
            and entry.is_live(now=now, created_after=now - self.continue_for)
        ]
        if not begun:
            return self.protocol.render_invitation()
        return self.protocol.render_continue_page(
            self.protocol.start_again_url(request, max(begun))
        )

    async def handle_event(self, request: WebRequest) -> WebResponse:
        """
        Process an event that the page around the frame posts.

        204: The callback has processed it.
        403: The server did not confirm the success.
        429: Too many successes were reported for this customer.
        503, 502: The server could not confirm it; with 503, a retry may
        succeed. Or the store cannot be used, too many events are pending, or
        the service is closing.
        500: The callback failed. It gets a success again later.
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
        `CallbackProtocol.next_url` after a success, or is a page with the
        outcome.
        Others: As for `handle_event`, on a page.
        See `CallbackProtocol.parse_return`.
        """
        report = self.protocol.parse_return(request)
        if isinstance(report, WebResponse):
            return report
        status = await self._process(report)
        return self.protocol.respond_to_return(status, report)

    async def handle_webhook(self, request: WebRequest) -> WebResponse:
        """
        Put a webhook into the store, answer the vendor, and process it.

        200: It is in the store, or its key is known. The vendor documents no
        other success status.
        400: It cannot be decoded; the failure hook gets it.
        503: The store cannot be used, or the service is closing.
        Others: See `CallbackProtocol.parse_webhook`.
        """
        notification = self.protocol.parse_webhook(request)
        if isinstance(notification, WebResponse):
            return notification
        webhook, error = notification.webhook, notification.error
        if self._closed or (error is not None and self._is_full):
            return plain(
                HTTPStatus.SERVICE_UNAVAILABLE, "no webhooks are accepted now"
            )
        if error is not None:
            self._spawn(
                webhook, self._dispatcher.report_failure(webhook, error)
            )
            return plain(HTTPStatus.BAD_REQUEST, str(error))
        # Pollers poll at once, even if it is a duplicate.
        self.bank.notify(webhook)
        try:
            await self._dispatcher.accept(webhook, request.body)
        except StoreError as error:
            _log.warning("a webhook is refused: %s", error)
            return plain(
                HTTPStatus.SERVICE_UNAVAILABLE, "the store cannot be used"
            )
        return plain(HTTPStatus.OK)

    async def sweep(
        self,
        *,
        limit: int | None = None,
        concurrency: int = 64,
        rate: float | None = None,
    ) -> SweepReport:
        """
        Ask the server about sessions of which no webhook came, and hand on
        what it says.

        It looks at the sessions of the store whose next check is due; call it
        every few minutes, in one process or several. What it finds goes
        through the store's inbox with the key of the lost webhook, so that a
        webhook which comes later is known. A session that nobody opened is
        asked about less and less often, and an expired one once. If the
        store knows that statements were submitted, that is handed on only if
        nobody processes them.

        Args:
            limit: The largest number of sessions; `None` for all that are due.
            concurrency: The largest number of calls in flight.
            rate: Requests per second, evenly spaced; `None` for no limit.

        Raises:
            StoreError: If the store cannot be used.
            AuthenticationError: As any error that every other call would
                meet, too.
        """
        return await sweep(
            self.bank,
            limit=limit,
            concurrency=concurrency,
            rate=rate,
            now=self.protocol.now,
            put=self._dispatcher.inbox.put,
        )

    @property
    def pending(self) -> int:
        """The number of events and webhooks that are being processed."""
        return len(self._tasks) + self._dispatcher.inbox.pending

    async def aclose(self, grace: float = 10.0) -> None:
        """
        Refuse new events and webhooks, and wait for the pending ones.

        Args:
            grace: The seconds to wait. Slower ones are cancelled and go to
                the failure hook, which gets the same time again. Webhooks and
                confirmed successes stay in the store, too.
        """
        self._closed = True
        await asyncio.gather(
            self._finish(grace), self._dispatcher.aclose(grace)
        )

    async def _finish(self, grace: float) -> None:
        await self._wait(grace)
        for task in self._tasks:
            task.cancel()
        await self._wait(grace)
        for what in self._tasks.values():
            log_failure(what, TimeoutError(_IGNORED))

    async def _wait(self, seconds: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    @property
    def _is_full(self) -> bool:
        return self._closed or len(self._tasks) >= self.max_pending

    async def _begin(
        self,
        request: WebRequest,
        customer: str | SessionRequest,
        *,
        is_frame: bool,
        scope: str = "",
    ) -> BegunJourney | WebResponse:
        starter = JourneyStarter(
            bank=self.bank,
            continue_for=self.continue_for,
            now=self.protocol.now,
        )
        if isinstance(customer, str):
            customer = SessionRequest(link_id=customer, redirect_url=UNSET)
        return_url = functools.partial(
            self.protocol.return_url, customer.link_id
        )
        try:
            return await starter.begin(
                customer,
                return_url=None if is_frame else return_url,
                scope=scope,
                created_after=self.protocol.parse_start_again(request),
            )
        except _OUTSIDE_ERRORS as error:
            _log.warning(
                "no session for %s: %s", one_line(customer.link_id), error
            )
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
            report = attrs.evolve(report, event=event)
            entry = await self._dispatcher.records.find_for_report(report)
        except ANY_ERROR as error:
            return await self._reject(event, error, failure_status(error))
        if is_success and event.confirmed is not True:
            return await self._reject(
                event, InvalidCallbackError(_UNCONFIRMED), HTTPStatus.FORBIDDEN
            )
        try:
            await self._dispatcher.deliver(event, entry)
        except StoreError as error:
            return await self._reject(event, error, failure_status(error))
        except ANY_ERROR as error:
            return await self._reject(
                event, error, HTTPStatus.INTERNAL_SERVER_ERROR
            )
        return HTTPStatus.NO_CONTENT

    async def _reject(
        self, event: Event, error: BaseException, status: HTTPStatus
    ) -> HTTPStatus:
        await self._dispatcher.report_failure(event, error)
        return status

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
            log_failure(what, error)
