"""
The sandbox as a server.
"""

import contextlib
import logging
import types

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from ssl import SSLContext
from typing import Any, Final, Self, TypeVar, cast

import attrs

from aiohttp import web
from yarl import URL

from bankconnect_async._codec.browser_messages import Dialect
from bankconnect_async._codec.session_requests import is_loopback
from bankconnect_async.clock import SYSTEM_CLOCK, Clock
from bankconnect_async.errors import InvalidRequestError

from .config import ALL_MODES, check_settings
from .faults.plans import Faults
from .http.control import ControlApi
from .http.endpoints import PREFIX, Authenticator
from .http.errors import ApiError
from .http.handlers import SandboxHandlers
from .http.listener import WILDCARDS, ConnectionListener
from .http.middleware import RequestMiddleware
from .http.origins import OriginPolicy, host_name
from .journey.journey import Action, ClosedReason, Journey, Mode, parse_step
from .journey.session_table import SessionTable
from .records import (
    Played,
    ReceivedRequest,
    SandboxEntity,
    SandboxSession,
    SentWebhook,
)
from .webhooks.dispatcher import WebhookDispatcher
from .webhooks.sender import WebhookSender


R = TypeVar("R", ReceivedRequest, SandboxSession)

_MAX_BODY: Final = 2**20
# No request takes long: one that still runs never arrived as a whole.
_SHUTDOWN_TIMEOUT: Final = 1.0

_WEBHOOK_IDS: Final = ("session_id", "entity_id", "link_id")

_log: Final = logging.getLogger("bankconnect_async.sandbox")


def _setting(
    default: Any, *, kw_only: bool = True, is_hidden: bool = False
) -> Any:
    return attrs.field(
        default=default,
        kw_only=kw_only,
        repr=not is_hidden,
        on_setattr=attrs.setters.frozen,
    )


def _state(**kwargs: Any) -> Any:
    return attrs.field(init=False, repr=False, **kwargs)


@attrs.define(eq=False)
class Sandbox:
    """
    A server on this machine that behaves like the vendor's.

    ::

        async with Sandbox() as sandbox:
            async with AsyncBankConnect(
                sandbox.api_key, base_url=sandbox.base_url, redirect_url=None
            ) as bank:
                await bank.create_session("customer-42")
        assert sandbox.created("customer-42") == 1

    It has every endpoint of both flows. Clients upload statements, or the
    journey's page does. They are processed for `processing_time`, and their
    data is fake: the same for the same link id, everywhere and at any time.
    The seed has the endpoints and the fields of its day; the other dialects
    have the later ones.

    An uploaded PDF must be one (see `statement_pdf`): the sandbox reads the
    bank, the account number and the days from its text, and ignores its
    transactions. It fetches a `file_url` only from itself. For any other
    one, it fakes a file from the words of the file's name: a bank, and
    `encrypted`, `scanned`, `damaged`, `empty`, `missing`, `unsupported` or
    `unknown`. It keeps the last 64 MiB of uploads in memory.

    Other processes drive it with ``POST /sandbox/play``, ``expire``,
    ``finish`` and ``resend_webhook``, whose parameters are those of the
    methods, as JSON; ``GET /sandbox/sessions``, ``requests`` and ``webhooks``
    list what there is. From other machines, or with a *public_url*, they need
    the key in the header `x-api-key`.

    Attributes:
        dialect: The dialect of `v1`: `seed`, `entity` or `session`. `v2` is
            always served.
        host: The address to listen on.
        port: The port; 0 for any free one.
        ssl: The TLS context, to serve https.
        api_key: The accepted key.
        server_hash: The second accepted secret, where one is required.
        public_url: The URL at which browsers find it, if not *host* and
            *port*.
        allow_hosts: The host names that it answers for, besides those of this
            machine, *host* and the public URL's. It refuses a request for
            another name, because a web page can point its own name here.
        allow_origins: The origins whose pages may create sessions, besides
            those of this machine; browsers ask for it (CORS).
        webhook_url: The URL of webhooks until ``update_webhook/`` sets
            another, those about manual uploads included.
        webhook_secret: The header `x-secret-key` of each webhook.
        allow_remote_webhooks: Whether to post webhooks to other machines.
            Without it, `webhooks_sent` reports such webhooks unsent.
        modes: The modes that are enabled for the customer. A session with
            another mode is refused as `MODE_NOT_ENABLED`.
        processing_time: The time that processing takes, in seconds; with
            ``math.inf`` it lasts until `finish` is called.
        clock: The clock, for tests.
        faults: The faults to inject; none by default.

    Raises:
        ConfigurationError: With every invalid argument in `fields`.
    """

    dialect: Dialect = _setting("seed", kw_only=False)
    host: str = _setting("127.0.0.1")
    port: int = _setting(0)
    ssl: SSLContext | None = _setting(None, is_hidden=True)
    api_key: str = _setting("sandbox-api-key", is_hidden=True)
    server_hash: str = _setting("sandbox-server-hash", is_hidden=True)
    public_url: str | None = _setting(None)
    allow_hosts: Collection[str] = _setting(())
    allow_origins: Collection[str] = _setting(())
    webhook_url: str | None = _setting(None, is_hidden=True)
    webhook_secret: str | None = _setting(None, is_hidden=True)
    allow_remote_webhooks: bool = _setting(default=False)
    modes: Collection[str] = _setting(ALL_MODES)
    processing_time: float = _setting(0.3)
    clock: Clock = _setting(SYSTEM_CLOCK, is_hidden=True)
    faults: Faults = _state(factory=Faults, on_setattr=attrs.setters.frozen)
    _listener: ConnectionListener | None = _state(default=None)
    _resources: contextlib.AsyncExitStack = _state(
        factory=contextlib.AsyncExitStack
    )
    _middleware: RequestMiddleware = _state()
    _sender: WebhookSender = _state()
    _journeys: SessionTable = _state()
    _handlers: SandboxHandlers = _state()

    def __attrs_post_init__(self) -> None:
        check_settings(self)
        self._sender = WebhookSender(
            secret=self.webhook_secret, allow_remote=self.allow_remote_webhooks
        )
        self._journeys = SessionTable(
            clock=self.clock,
            webhooks=WebhookDispatcher(
                sender=self._sender, url=self.webhook_url
            ),
            processing_time=self.processing_time,
        )
        public = ""
        if self.public_url:
            # Without a default port, as browsers write it.
            _, _, public = str(URL(self.public_url).origin()).partition("//")
        names = {self.host, public, *self.allow_hosts} - {"", *WILDCARDS}
        self._middleware = RequestMiddleware(
            clock=self.clock,
            faults=self.faults,
            policy=OriginPolicy(
                hosts=frozenset(map(host_name, names)),
                public_host=public.lower(),
                origins=frozenset(
                    origin.lower().rstrip("/") for origin in self.allow_origins
                ),
            ),
            link_id_of=self._journeys.link_id_of,
        )
        self._handlers = SandboxHandlers(
            guard=Authenticator(
                dialect=self.dialect,
                api_key=self.api_key,
                server_hash=self.server_hash,
            ),
            modes=self.modes,
            journeys=self._journeys,
            origin=self._page_origin,
            control=ControlApi(
                api_key=self.api_key,
                has_public_url=self.public_url is not None,
                actions=(
                    self.play,
                    self.expire,
                    self.finish,
                    self.resend_webhook,
                ),
                listings={
                    "sessions": self._list_sessions,
                    "requests": self._list_requests,
                    "webhooks": self._list_webhooks,
                },
            ),
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def start(self) -> None:
        """
        Start to listen.

        A closed sandbox can be started again: it keeps its sessions and
        counters, like a server that restarts.

        Raises:
            OSError: If *host* and *port* are not available.
            RuntimeError: If it is running.
        """
        if self._listener is not None:
            raise RuntimeError("the sandbox is running")
        app = web.Application(
            client_max_size=_MAX_BODY,
            middlewares=[
                self._middleware.policy.share,
                self._middleware.handle,
            ],
        )
        app.add_routes(self._handlers.routes())
        runner = web.AppRunner(
            app,
            access_log=None,
            # A Django server leaves compressed bodies as they are.
            auto_decompress=False,
            # It ends faults that wait for the caller to disconnect.
            handler_cancellation=True,
            shutdown_timeout=_SHUTDOWN_TIMEOUT,
        )
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(setattr, self, "_listener", None)
            stack.push_async_callback(self._sender.aclose)
            stack.callback(self._journeys.cancel_timers)
            stack.push_async_callback(runner.cleanup)
            stack.push_async_callback(self._middleware.cancel_faults)
            await runner.setup()
            self._listener = ConnectionListener(
                host=self.host,
                port=self.port,
                ssl=self.ssl,
                server=cast("web.Server", runner.server),
                next_fault=self._middleware.next_connect_fault,
            )
            stack.push_async_callback(self._listener.close)
            await self._listener.start()
            self._resources = stack.pop_all()
        if not is_loopback(self.host):
            _log.warning(
                "the sandbox listens on %s: any machine that reaches this"
                " address can use it",
                self.host,
            )

    async def aclose(self) -> None:
        """
        Stop listening, drop connections, and cancel webhooks.

        It may be called repeatedly.
        """
        await self._resources.aclose()

    @contextlib.asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """
        Simulate an outage: ``async with sandbox.outage(): ...``.

        Connections are reset, and nothing listens at the port. Afterwards
        the sandbox is back at the same address, with its sessions.

        Raises:
            RuntimeError: If the sandbox is not running.
        """
        listener = self._running_listener()
        await listener.pause()
        await self._middleware.cancel_faults()
        try:
            yield
        finally:
            listener.resume()

    @property
    def base_url(self) -> str:
        """
        The base URL for a client.

        Raises:
            RuntimeError: If the sandbox is not running.
        """
        return self._running_listener().origin + PREFIX

    @property
    def requests(self) -> int:
        """The number of HTTP requests, good and bad."""
        return self._middleware.requests

    @property
    def connections(self) -> int:
        """The number of connections, refused ones included."""
        return self._middleware.connections

    @property
    def sessions(self) -> Mapping[str, SandboxSession]:
        """Every created session by its id, as a live view."""
        return types.MappingProxyType(self._journeys.sessions)

    @property
    def entities(self) -> Mapping[str, SandboxEntity]:
        """Every entity by its id, as a live view."""
        return types.MappingProxyType(self._journeys.entities.records)

    def created(self, link_id: str | None = None) -> int:
        """
        Return the number of created sessions, in all or of one *link_id*.
        """
        if link_id is None:
            return len(self._journeys.sessions)
        return self._journeys.created[link_id]

    def processed(self, operation: str, link_id: str | None = None) -> int:
        """
        Return the number of processed calls, in all or of one *link_id*.

        Args:
            operation: The last part of the endpoint's path, such as `upload`,
                `upload_session` or `initiate_processing`.
            link_id: The link id of the entity or session.
        """
        return self._middleware.processed[operation, link_id]

    def received(self, link_id: str) -> int:
        """Return the number of complete requests about *link_id*."""
        return self._middleware.received[link_id]

    async def play(
        self,
        session_id: str,
        action: Action,
        *,
        error_type: str | None = None,
        mode: Mode | None = None,
        bank: str | None = None,
    ) -> Played:
        """
        Do a customer's step on the journey's page.

        A failure leaves the journey open, so that a success or an exit may
        follow. So does an exit: the customer may come back.

        Args:
            session_id: The id of the session.
            action: `success`, `failure`, `exit`, or one of the steps in
                between, by the vendor's `event_name`.
            error_type: The kind of failure, such as `MU003`, or
                `CONSENT_REJECTED` or `CONSENT_FAILED`, whose events have no
                code. By default the password is wrong; with net banking, the
                login; with Account Aggregator, the consent is rejected.
            mode: `pdf` for manual upload, `online` for net banking or `aa`
                for Account Aggregator; by default that of *error_type* or
                the session, else `pdf`.
            bank: The identifier of the chosen bank.

        Raises:
            InvalidRequestError: If an argument is invalid, or the journey
                is closed.
            RuntimeError: If the sandbox is not running.
        """
        journey = self._journey(session_id)
        parameters = {
            "action": action,
            "error_type": error_type,
            "mode": mode,
            "bank": bank,
        }
        try:
            step = parse_step(parameters)
        except ApiError as error:
            raise InvalidRequestError(
                fields={each.field: (each.text,) for each in error.problems}
            ) from None
        if reason := journey.closed_reason(self._journeys.now()):
            raise _field_error("session_id", reason.value)
        return self._journeys.play(journey, step)

    def expire(self, session_id: str) -> None:
        """
        Let a session expire now.

        By itself it expires after its `session_expiry`, or an hour. Only the
        session flow has a webhook about it.

        Raises:
            InvalidRequestError: If there is no such session.
            RuntimeError: If the sandbox is not running.
        """
        self._journeys.expire(self._journey(session_id))

    def finish(
        self,
        owner_id: str,
        *,
        error_code: str | None = None,
        statement_error_code: str | None = None,
    ) -> None:
        """
        End processing now, well or badly.

        In the session flow a call starts processing, in the entity flow an
        upload. Statements that are already processed stay as they are.

        Args:
            owner_id: The id of a session or an entity.
            error_code: The code of a failed account of the session flow, such
                as `UNPARSABLE`, or one that only statements have. The entity
                flow reports "Extraction failed", whatever the code.
            statement_error_code: The code of failed statements, which make
                their account fail, too: as `UNPARSABLE` without *error_code*.

        Raises:
            InvalidRequestError: If there is nothing to process.
            RuntimeError: If the sandbox is not running.
        """
        self._running_listener()
        if not self._journeys.finish(
            owner_id, error_code, statement_error_code
        ):
            raise _field_error(
                "owner_id",
                "is not being processed: start its processing first, and "
                "finish it before the processing_time of the sandbox is over",
            )

    async def resend_webhook(self, owner_id: str) -> SentWebhook:
        """
        Send the newest webhook about a session or an entity again.

        It goes to the URL that is set now, even if there was none before.

        Args:
            owner_id: The id of a session or an entity.

        Returns:
            The webhook with its result.

        Raises:
            InvalidRequestError: If there was no webhook about it yet, or
                there is no URL to send to.
            RuntimeError: If the sandbox is not running.
        """
        self._running_listener()
        webhooks = self._journeys.webhooks
        if webhooks.url is None:
            raise _field_error("webhook_url", "is not set")
        journey = self._journeys.get(owner_id)
        # Webhooks of the entity flow name the entity.
        entity_id = journey.entity_id if journey else None
        body = webhooks.resend(entity_id or owner_id)
        if body is None:
            raise _field_error("owner_id", "has no webhook yet")
        sent = await self.webhooks_sent()
        return next(each for each in reversed(sent) if each.body is body)

    @property
    def request_log(self) -> tuple[ReceivedRequest, ...]:
        """The newest 1,000 requests of the API, in order."""
        return tuple(self._middleware.request_log)

    def _list_requests(
        self, link_id: str | None = None
    ) -> tuple[ReceivedRequest, ...]:
        return _about(self.request_log, link_id)

    def _list_sessions(
        self, link_id: str | None = None
    ) -> tuple[SandboxSession, ...]:
        return _about(self.sessions.values(), link_id)

    async def _list_webhooks(
        self, owner_id: str | None = None
    ) -> tuple[SentWebhook, ...]:
        return tuple(
            each
            for each in await self.webhooks_sent()
            if owner_id in {None, *map(each.body.get, _WEBHOOK_IDS)}
        )

    async def webhooks_sent(self) -> tuple[SentWebhook, ...]:
        """
        Wait until all webhooks are sent, and return them.
        """
        await self._sender.join()
        return tuple(self._sender.sent)

    def _journey(self, session_id: str) -> Journey:
        self._running_listener()
        journey = self._journeys.get(session_id)
        if journey is None:
            raise _field_error("session_id", ClosedReason.UNKNOWN.value)
        return journey

    def _running_listener(self) -> ConnectionListener:
        if self._listener is None or not self._listener.origin:
            raise RuntimeError("the sandbox is not running: use async with")
        return self._listener

    def _page_origin(self) -> str:
        if self.public_url is None:
            return self._running_listener().origin
        return self.public_url.rstrip("/")


def _about(records: Iterable[R], link_id: str | None) -> tuple[R, ...]:
    return tuple(each for each in records if link_id in {None, each.link_id})


def _field_error(name: str, problem: str) -> InvalidRequestError:
    return InvalidRequestError(fields={name: (problem,)})
