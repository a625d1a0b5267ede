"""
The endpoints of a service in any framework: decide, confirm, hand on.
"""

import asyncio
import logging

from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import attrs

from bankconnect_async.callbacks import Event, SuccessEvent, Webhook
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.errors import (
    BankConnectError,
    ClientClosedError,
    DecodeError,
    InvalidCallbackError,
    RateLimitedError,
    ResponseError,
    ServerFaultError,
    TransportError,
)
from bankconnect_async.schema import UNSET, Session, SessionRequest
from bankconnect_async.webhooks import deduplication_key

from ._claims import Claim
from ._duplicates import RecentKeys, Seen
from ._messages import Call, Reply, plain
from .handlers import Handlers


OnEvent: TypeAlias = Callable[[Event | Webhook], Awaitable[None]]
OnFailure: TypeAlias = Callable[[Event | Webhook, Exception], Awaitable[None]]

_UNCONFIRMED: Final = "the server did not confirm this success"

# The vendor was asked, or could not be: no mistake of the service's.
_UNHEARD: Final = (TransportError, ResponseError, DecodeError)

_log: Final = logging.getLogger("bankconnect_async.web")


@attrs.define(eq=False)
class Endpoints:
    """
    Five endpoints, each from a `Call` to a `Reply`.

    Every outcome goes to one callback, whichever way it came: the classes
    tell events and webhooks apart, and `match` does the rest. A
    `SuccessEvent` that gets there has `confirmed=True`, always, because code
    that forgets to look must not believe a browser. What does not get there
    goes to the failure hook, with the reason: a success that the server did
    not confirm (`InvalidCallbackError`) or could not be asked about
    (`BankConnectError`), and what the callback raised on.

    The callback may see an event twice, such as when a customer reloads the
    page, and a webhook may tell the same again. So it should be idempotent.

    Attributes:
        bank: Creates sessions and confirms. Closing it is up to the service.
        handlers: The settings.
        on_event: Gets every event and webhook. Browsers wait for it, the
            vendor does not.
        on_failure: Gets what *on_event* did not take, and why. Without it,
            failures are logged, and their content is gone.
        seen: Where duplicate webhooks are recognised.
        max_pending: How many webhooks may wait for *on_event* to finish. More
            are answered with 503, so that they stay with the vendor.
    """

    bank: AsyncBankConnect
    handlers: Handlers
    on_event: OnEvent = attrs.field(kw_only=True)
    on_failure: OnFailure | None = attrs.field(default=None, kw_only=True)
    seen: Seen = attrs.field(factory=RecentKeys, kw_only=True)
    max_pending: int = attrs.field(default=1000, kw_only=True)
    _tasks: set[asyncio.Task[None]] = attrs.field(init=False, factory=set)
    _closed: bool = attrs.field(init=False, default=False)

    async def connect(
        self, call: Call, customer: str | SessionRequest
    ) -> Reply:
        """
        Answer with the page that has the journey in a frame.

        503, 502: No session could be had; see `failure_status`.

        Args:
            call: The request; what a page of another site embeds or fetches
                is refused.
            customer: Whose journey, from your own authentication: a
                `link_id`, or a whole request, whose `redirect_url` is
                replaced.

        Raises:
            InvalidRequestError: If there can be no such session.
        """
        return self.handlers.read_visit(call) or await self._begin(
            _request(customer, None), self.handlers.write_connect
        )

    async def redirect(
        self, call: Call, customer: str | SessionRequest
    ) -> Reply:
        """
        Send the browser to the journey, from which it will return to us.

        Takes, answers and raises what `connect` does.
        """
        link_id = customer if isinstance(customer, str) else customer.link_id
        url = self.handlers.return_url(link_id)
        return self.handlers.read_visit(call) or await self._begin(
            _request(customer, url), self.handlers.write_redirect
        )

    async def take_event(self, call: Call) -> Reply:
        """
        Answer what the page around the frame posts, once it is handed on.

        204: The callback has it.
        403: The server did not confirm the success.
        503, 502: The server could not be asked; see `failure_status`.
        500: The callback failed.
        Others: See `Handlers.read_event`.
        """
        claim = self.handlers.read_event(call)
        if isinstance(claim, Reply):
            return claim
        return self.handlers.write_event_reply(await self._settle(claim))

    async def take_return(self, call: Call) -> Reply:
        """
        Answer a browser that comes back, once its outcome is handed on.

        303, 200: The callback has it; on to `Handlers.continue_to`, or a
        page that says how it ended.
        Others: As for `take_event`, on a page. See `Handlers.read_return`.
        """
        claim = self.handlers.read_return(call)
        if isinstance(claim, Reply):
            return claim
        status = await self._settle(claim)
        return self.handlers.write_return_reply(status, claim.event)

    async def take_webhook(self, call: Call) -> Reply:
        """
        Answer the vendor at once, and hand the webhook on later.

        Until then it is in memory only. After a crash,
        `AsyncBankConnect.webhook_payloads` recovers those of the entity flow;
        the session flow has status calls.

        200: It is in hand. The vendor documents no other good answer.
        400: It is not understood; the failure hook gets it.
        503: There are too many already, or we are closing.
        Others: See `Handlers.read_webhook`.
        """
        notification = self.handlers.read_webhook(call)
        if isinstance(notification, Reply):
            return notification
        if self._closed or self.pending >= self.max_pending:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "come again later")
        webhook, error = notification.webhook, notification.error
        if error is not None:
            self._spawn(self._fail(webhook, error))
            return plain(HTTPStatus.BAD_REQUEST, str(error))
        # Who waits for it looks at once, also if it was delivered before.
        self.bank.feed(webhook)
        self._spawn(self._deliver(webhook))
        return plain(HTTPStatus.OK)

    @property
    def pending(self) -> int:
        """How many webhooks are in hand."""
        return len(self._tasks)

    async def aclose(self, grace: float = 10.0) -> None:
        """
        Wait for webhooks in hand.

        Args:
            grace: Seconds. What takes longer is cancelled, and given to the
                failure hook.
        """
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _begin(
        self, request: SessionRequest, write: Callable[[Session], Reply]
    ) -> Reply:
        try:
            return write(await self.bank.create_session(request))
        except _UNHEARD as error:
            _log.warning("no session: %s", error)
            return self.handlers.write_failure(failure_status(error))

    async def _settle(self, claim: Claim) -> HTTPStatus:
        event = claim.event
        try:
            event = await self.bank.confirm(event, session=claim.session)
        except BankConnectError as error:
            await self._fail(event, error)
            return failure_status(error)
        if isinstance(event, SuccessEvent) and event.confirmed is not True:
            await self._fail(event, InvalidCallbackError(_UNCONFIRMED))
            return HTTPStatus.FORBIDDEN
        try:
            await self.on_event(event)
        except Exception as error:  # noqa: BLE001 - it is the service's
            await self._fail(event, error)
            return HTTPStatus.INTERNAL_SERVER_ERROR
        return HTTPStatus.NO_CONTENT

    async def _deliver(self, webhook: Webhook) -> None:
        key = deduplication_key(webhook)
        try:
            if not await self.seen.add(key):
                return
            await self.on_event(webhook)
        except asyncio.CancelledError:
            await self._fail(webhook, TimeoutError("the service was closed"))
            raise
        except Exception as error:  # noqa: BLE001 - it is the service's
            if not await self._fail(webhook, error):
                # The vendor may try again, and then it is not a duplicate.
                await self.seen.discard(key)

    async def _fail(self, what: Event | Webhook, error: Exception) -> bool:
        if self.on_failure is not None:
            try:
                await self.on_failure(what, error)
            except Exception:  # noqa: BLE001 - as above
                _log.exception("the failure hook failed, too")
            else:
                return True
        # Not its content: webhooks have account numbers.
        _log.error("%s is lost", type(what).__name__, exc_info=error)
        return False

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        async def run() -> None:
            await work

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _request(
    customer: str | SessionRequest, redirect_url: str | None
) -> SessionRequest:
    if isinstance(customer, str):
        customer = SessionRequest(link_id=customer, redirect_url=UNSET)
    return attrs.evolve(customer, redirect_url=redirect_url)


def failure_status(error: BankConnectError) -> HTTPStatus:
    """
    Say with which status to pass on that the vendor could not be asked.

    503 if it is a matter of time (no connection, no answer, too many
    requests, a fault of the vendor's, a client that is closing); 502 if the
    vendor's answer will be the same tomorrow, such as that our key is wrong.
    """
    passing = (
        TransportError
        | RateLimitedError
        | ServerFaultError
        | ClientClosedError
    )
    return (
        HTTPStatus.SERVICE_UNAVAILABLE
        if isinstance(error, passing)
        else HTTPStatus.BAD_GATEWAY
    )
