"""
The sandbox as a server: sockets, sessions and counts around the pure rules.
"""

import contextlib
import logging
import types

from collections.abc import AsyncIterator, Collection, Mapping
from ssl import SSLContext
from typing import Any, Final, Self

import attrs

from aiohttp import web
from yarl import URL

from bankconnect_async._codec.browser_messages import Dialect
from bankconnect_async._codec.session_requests import is_loopback
from bankconnect_async.clock import SYSTEM_CLOCK, Clock
from bankconnect_async.errors import InvalidRequestError

from .config import check_settings
from .faults.plans import Faults
from .http.endpoints import PREFIX, Authenticator
from .http.errors import ApiError
from .http.handlers import SandboxHandlers
from .http.listener import ConnectionListener
from .http.middleware import RequestMiddleware
from .http.origins import host_name
from .journey.journey import Action, ClosedReason, Journey, Mode, parse_step
from .journey.session_table import SessionTable
from .records import Played, SandboxEntity, SandboxSession, SentWebhook
from .session_api.validation import ALL_MODES
from .webhooks.dispatcher import WebhookDispatcher
from .webhooks.sender import WebhookSender


_MAX_BODY: Final = 2**20
# Nothing here takes long, so a request that still hangs was never sent whole.
_SHUTDOWN: Final = 1.0

# Addresses to listen on that no request is for.
_EVERYWHERE: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104

_log: Final = logging.getLogger("bankconnect_async.sandbox")


def _setting(**kwargs: Any) -> Any:
    return attrs.field(on_setattr=attrs.setters.frozen, **kwargs)


def _state(**kwargs: Any) -> Any:
    return attrs.field(init=False, repr=False, **kwargs)


@attrs.define(eq=False)
class Sandbox:
    """
    A server on this machine that answers as the vendor's does.

    ::

        async with Sandbox() as sandbox:
            async with AsyncBankConnect(
                sandbox.api_key, base_url=sandbox.base_url, redirect_url=None
            ) as bank:
                await bank.create_session("customer-42")
        assert sandbox.created("customer-42") == 1

    It has every endpoint of both flows. Statements are uploaded by a client
    or on the journey's page, are processed for `processing_time`, and are
    answered about with made-up data, which are the same for the same link id
    wherever and whenever they are asked for. The seed has the endpoints and
    the fields of its day; ask another dialect for what came later.

    An uploaded PDF must be one (see `statement_pdf`): bank, account number
    and days are read from its text, whose transactions nobody looks at. A
    `file_url` is never fetched, unless it leads to the sandbox itself. What
    another one leads to is made up from the words of the file's name: a
    bank, and `encrypted`, `scanned`, `damaged`, `empty`, `missing`,
    `unsupported` or `unknown`. What was uploaded is kept in memory, the last
    64 MiB of it.

    Attributes:
        dialect: Which of the vendor's flows `v1` speaks: `seed`, `entity` or
            `session`. `v2` is always there.
        host: Address to listen on.
        port: 0 for any free one.
        ssl: Serve https with it.
        api_key: The key it lets in.
        server_hash: The second secret it lets in, where one is asked for.
        public_url: Where browsers reach it, if not at *host* and *port*.
        allow_hosts: Names by which it may be asked for, besides those of this
            machine, *host* and the public URL's. A request for another name
            is refused, because a web page can make its own name lead here.
        webhook_url: Where webhooks go until ``update_webhook/`` says
            otherwise, those about manual uploads included.
        webhook_secret: Goes with each as `x-secret-key`.
        allow_remote_webhooks: Post webhooks to other machines, too. Without
            it, one that leads there is reported by `webhooks_sent` only.
        modes: Those that are switched on for the customer; a session that
            asks for another is refused as `MODE_NOT_ENABLED`.
        processing_time: How long processing takes, in seconds; with
            ``math.inf``, until `finish` says so.
        clock: A seam for tests: what time it is.
        faults: What goes wrong, and when; nothing does by itself.

    Raises:
        ConfigurationError: With every bad argument in `fields`.
    """

    dialect: Dialect = _setting(default="seed")
    host: str = _setting(default="127.0.0.1", kw_only=True)
    port: int = _setting(default=0, kw_only=True)
    ssl: SSLContext | None = _setting(default=None, kw_only=True, repr=False)
    api_key: str = _setting(
        default="sandbox-api-key", kw_only=True, repr=False
    )
    server_hash: str = _setting(
        default="sandbox-server-hash", kw_only=True, repr=False
    )
    public_url: str | None = _setting(default=None, kw_only=True)
    allow_hosts: Collection[str] = _setting(default=(), kw_only=True)
    webhook_url: str | None = _setting(default=None, kw_only=True, repr=False)
    webhook_secret: str | None = _setting(
        default=None, kw_only=True, repr=False
    )
    allow_remote_webhooks: bool = _setting(default=False, kw_only=True)
    modes: Collection[str] = _setting(default=ALL_MODES, kw_only=True)
    processing_time: float = _setting(default=0.3, kw_only=True)
    clock: Clock = _setting(default=SYSTEM_CLOCK, kw_only=True, repr=False)
    faults: Faults = _setting(factory=Faults, init=False, repr=False)
    _runner: web.AppRunner | None = _state(default=None)
    _listener: ConnectionListener | None = _state(default=None)
    _middleware: RequestMiddleware = _state()
    _sender: WebhookSender = _state()
    _journeys: SessionTable = _state()
    _handlers: SandboxHandlers = _state()
    # Asking the sockets for every answered URL would cost more than the rest.
    _origin: str = _state(default="")

    def __attrs_post_init__(self) -> None:
        check_settings(self)
        public = ""
        if self.public_url:
            # Without a default port, as browsers write it.
            _, _, public = str(URL(self.public_url).origin()).partition("//")
        names = {self.host, public, *self.allow_hosts}
        self._middleware = RequestMiddleware(
            clock=self.clock,
            faults=self.faults,
            hosts=frozenset(map(host_name, names - _EVERYWHERE)),
            public_host=public.lower(),
        )
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
        self._middleware.link_id_of = self._journeys.link_id_of
        self._handlers = self._make_handlers()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def start(self) -> None:
        """
        Listen.

        A sandbox that was closed can be started again: it keeps its sessions
        and counts, as a server does that was away for a while.

        Raises:
            OSError: If *host* and *port* cannot be had.
            RuntimeError: If it is running.
        """
        if self._runner is not None:
            raise RuntimeError("the sandbox is running")
        app = web.Application(
            client_max_size=_MAX_BODY, middlewares=[self._middleware.attend]
        )
        app.add_routes(self._handlers.routes())
        # A Django server hands compressed bodies on as they are.
        runner = self._runner = web.AppRunner(
            app,
            access_log=None,
            auto_decompress=False,
            shutdown_timeout=_SHUTDOWN,
        )
        try:
            await runner.setup()
            listener = self._listener = self._listen(runner)
            await listener.open()
        except BaseException:
            await self.aclose()
            raise
        self._origin = listener.origin
        if not is_loopback(self.host):
            _log.warning(
                "the sandbox listens on %s: whoever reaches this machine there"
                " can use it",
                self.host,
            )

    async def aclose(self) -> None:
        """
        Stop listening, drop connections, give up webhooks under way.

        May be called repeatedly.
        """
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.close()
            await self._middleware.end()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
            self._origin = ""
        self._journeys.cancel_timers()
        await self._sender.aclose()

    @contextlib.asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """
        Be away for a while: ``async with sandbox.outage(): ...``.

        Connections are reset and nobody listens at the port. Afterwards it
        is back under the same address, with what was processed so far.

        Raises:
            RuntimeError: If the sandbox is not running.
        """
        self._running_origin()
        listener = self._listener
        assert listener is not None  # noqa: S101 - it has an origin
        await listener.shut()
        await self._middleware.end()
        try:
            yield
        finally:
            listener.reopen()

    @property
    def base_url(self) -> str:
        """
        What a client takes as its base URL.

        Raises:
            RuntimeError: If the sandbox is not running.
        """
        return self._running_origin() + PREFIX

    @property
    def requests(self) -> int:
        """How many HTTP requests arrived, good and bad."""
        return self._middleware.requests

    @property
    def connections(self) -> int:
        """How many connections were accepted, refused ones included."""
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
        Count the creates that were processed, in all or of one *link_id*.
        """
        if link_id is None:
            return len(self._journeys.sessions)
        return self._journeys.created[link_id]

    def processed(self, operation: str, link_id: str | None = None) -> int:
        """
        Count the calls that were processed, in all or of one *link_id*.

        Args:
            operation: The last part of the endpoint's path, such as `upload`,
                `upload_session` or `initiate_processing`.
            link_id: Whose entity or session.
        """
        return self._middleware.processed[operation, link_id]

    def received(self, link_id: str) -> int:
        """Count the requests about *link_id* that arrived whole."""
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
        Do what a customer would do on the journey's page.

        A failure leaves the journey open, so that a success or an exit may
        follow. So does an exit: whoever left may come back.

        Args:
            session_id: Whose journey.
            action: `success`, `failure`, `exit`, or one of the steps in
                between, by the vendor's `event_name`.
            error_type: How a failure fails, such as `MU003`. By default the
                password is wrong; with net banking, the login.
            mode: `pdf` for manual upload or `online` for net banking. By
                default what *error_type* or the session says, else `pdf`.
            bank: Identifier of the chosen bank.

        Raises:
            InvalidRequestError: If an argument is bad, or the journey is
                over.
            RuntimeError: If the sandbox is not running.
        """
        journey = self._journey(session_id)
        said = {
            "action": action,
            "error_type": error_type,
            "mode": mode,
            "bank": bank,
        }
        try:
            step = parse_step(said)
        except ApiError as refusal:
            raise InvalidRequestError(
                fields={
                    problem.field: (problem.text,)
                    for problem in refusal.problems
                }
            ) from None
        closed = journey.closed_reason(self._journeys.now())
        if closed is not None:
            raise _over(closed)
        return self._journeys.play(journey, step)

    def expire(self, session_id: str) -> None:
        """
        Let a session run out, as it would by itself some day.

        By itself it does so after its `session_expiry`, or an hour. Its
        webhook, which only the session flow has, goes out when somebody
        next asks for the session.

        Raises:
            InvalidRequestError: If there is no such session.
            RuntimeError: If the sandbox is not running.
        """
        self._journeys.expire(self._journey(session_id))

    def finish(self, owner_id: str, *, error_code: str | None = None) -> None:
        """
        Let processing end now, well or badly.

        In the session flow it must have been asked for. In the entity flow
        it begins with an upload; what has ended already stays as it is.

        Args:
            owner_id: Of a session, or of an entity.
            error_code: Why processing fails, such as `UNPARSABLE` or another
                account code of the session flow. The entity flow says
                "Extraction failed", whatever the code.

        Raises:
            InvalidRequestError: If there is nothing to process.
            RuntimeError: If the sandbox is not running.
        """
        self._running_origin()
        if not self._journeys.finish(owner_id, error_code):
            text = "is not being processed"
            raise InvalidRequestError(fields={"owner_id": (text,)})

    async def webhooks_sent(self) -> tuple[SentWebhook, ...]:
        """
        Wait until no webhook is under way, and return all there were.
        """
        await self._sender.join()
        return tuple(self._sender.sent)

    def _journey(self, session_id: str) -> Journey:
        self._running_origin()
        journey = self._journeys.get(session_id)
        if journey is None:
            raise _over(ClosedReason.UNKNOWN)
        return journey

    def _make_handlers(self) -> SandboxHandlers:
        return SandboxHandlers(
            guard=Authenticator(
                dialect=self.dialect,
                api_key=self.api_key,
                server_hash=self.server_hash,
            ),
            modes=self.modes,
            journeys=self._journeys,
            origin=lambda: self._journey_origin,
        )

    def _listen(self, runner: web.AppRunner) -> ConnectionListener:
        server = runner.server
        assert server is not None  # noqa: S101 - it is set up
        return ConnectionListener(
            host=self.host,
            port=self.port,
            ssl=self.ssl,
            protocol=server,
            fault=self._middleware.knock,
        )

    def _running_origin(self) -> str:
        if not self._origin:
            raise RuntimeError("the sandbox is not running: use async with")
        return self._origin

    @property
    def _journey_origin(self) -> str:
        if self.public_url is None:
            return self._origin
        return self.public_url.rstrip("/")


def _over(closed: ClosedReason) -> InvalidRequestError:
    return InvalidRequestError(fields={"session_id": (closed.value,)})
