"""
The client: one short method for each thing the vendor's API does.
"""

import datetime
import os
import ssl
import sys
import warnings

from collections.abc import (
    AsyncIterable,
    Iterable,
    Mapping,
    Sequence,
)
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    NoReturn,
    Self,
    TypeVar,
)

import aiohttp
import attrs

from yarl import URL

from . import __version__
from ._api import Api
from ._body import Body
from ._calls import Call, Caller
from ._clock import SYSTEM_CLOCK, Clock
from ._confirm import Made, confirm
from ._exchange import Answer
from .batch import SessionBatch
from .callbacks import Event, ExtractionWebhook, Webhook
from .errors import ConfigurationError, InvalidRequestError
from .redirect import ReturnURL
from .retry import RetryPolicy
from .schema import UNSET, Session, SessionAnswer, SessionRequest, Unset
from .settings import (
    DEFAULT_BASE_URL,
    SECRET_SETTINGS,
    TLS,
    Pool,
    Secret,
    Service,
    Timeouts,
    check_instance,
    hide,
    parse_proxy,
    read_environment,
    secret,
)
from .stats import (
    AttemptHook,
    Stats,
)
from .transport import Transport
from .wire import (
    CONTENT_TYPES,
    Encoding,
    decode_session,
    encode_session,
    make_session,
)


# Imported where they are used: a service that only creates sessions does
# without them.
if TYPE_CHECKING:
    from ._upload import StatementFile
    from .answers import Bank, BankHealth, Entity, EntityUpload
    from .entities import Entities, EntityHandle
    from .sessions import SessionHandle


T = TypeVar("T")
E = TypeVar("E", bound=Event)

_VARIABLES: Final[Mapping[str, str]] = {
    "api_key": "BANKCONNECT_API_KEY",
    "server_hash": "BANKCONNECT_SERVER_HASH",
    "base_url": "BANKCONNECT_BASE_URL",
    "version": "BANKCONNECT_API_VERSION",
    "redirect_url": "BANKCONNECT_REDIRECT_URL",
    "signing_key": "BANKCONNECT_SIGNING_KEY",
}


class AsyncBankConnect:
    """
    A client of FinBox Bank Connect, over one pool of connections.

    Use it with ``async with``, or call `aclose` at the end. It belongs to
    the event loop in which it made its first request.

    Args:
        api_key: The key that the vendor gave you; goes into the body of a
            session request and into the `x-api-key` header (U-02).
        server_hash: The vendor's second secret, for calls other than
            creating sessions and uploading.
        base_url: Everything up to and including ``/bank-connect``.
            `CURRENT_BASE_URL` names the vendor's host of today.
        version: Of the Session API, `v1` or `v2`.
        redirect_url: Where browsers return to, for requests that do not say
            so themselves; a `ReturnURL` makes one for each `link_id`.
            `None`: nowhere, the journey runs in an `<iframe>`. Unset: each
            request has to say.
        encoding: Of session requests, `json` or `form` (U-01).
        retry: When failed calls are tried again.
        timeouts: Limits of one attempt, in seconds.
        pool: How many connections, kept how long.
        tls: Certificates beside the system's, or a context of your own.
        proxy: Address of an HTTP proxy, credentials included.
        allow_http: Take an address without TLS that is not on this machine.
        client_session: Use this session, and never close it. Its own
            timeouts, redirects, middlewares and `raise_for_status` are
            overridden for our requests.
        on_attempt: Called when an attempt of any call begins; what it
            returns is called when that attempt ends. For metrics and traces.
        clock: A seam for tests.

    Raises:
        ConfigurationError: Naming the first bad setting.
    """

    def __init__(  # noqa: PLR0913
        self,
        api_key: str,
        *,
        server_hash: str | None = None,
        base_url: str | URL = DEFAULT_BASE_URL,
        version: str = "v1",
        redirect_url: str | URL | ReturnURL | None | Unset = UNSET,
        encoding: Encoding = "json",
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        pool: Pool = Pool(),  # noqa: B008 - frozen
        tls: TLS | ssl.SSLContext | None = None,
        proxy: str | URL | None = None,
        allow_http: bool = False,
        client_session: aiohttp.ClientSession | None = None,
        on_attempt: AttemptHook | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        check_instance("retry", retry, RetryPolicy)
        check_instance("timeouts", timeouts, Timeouts)
        check_instance("pool", pool, Pool)
        # First of all, so that no traceback with locals shows them.
        api_key, server_hash = hide(api_key), hide(server_hash)
        proxy_credentials = None
        if proxy is not None:
            proxy = Secret(proxy)
            proxy, proxy_credentials = parse_proxy(proxy)
        self._api_key = secret("api_key", api_key)
        self._server_hash = (
            None if server_hash is None else secret("server_hash", server_hash)
        )
        self._made = Made()
        self._service = Service.parse(
            base_url, version=version, allow_http=allow_http
        )
        self._session_url = self._service.session_url()
        self._redirect_url = _check_redirect_url(redirect_url)
        # Of everybody for whom a bare link_id is given.
        self._usual = (
            SessionRequest(link_id="-", redirect_url=self._redirect_url)
            if isinstance(self._redirect_url, str | None)
            else None
        )
        if encoding not in CONTENT_TYPES:
            raise ConfigurationError(
                fields={"encoding": ("must be json or form",)}
            )
        self._encoding: Encoding = encoding
        self._calls = Caller(
            Transport(
                headers={
                    "x-api-key": self._api_key,
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                    "User-Agent": f"bankconnect-async/{__version__}",
                },
                timeouts=timeouts,
                pool=pool,
                tls=tls,
                proxy=proxy,
                proxy_credentials=proxy_credentials,
                borrowed=client_session,
            ),
            retry=retry,
            clock=clock,
            on_attempt=on_attempt,
            secrets=[
                text for text in (self._api_key, self._server_hash) if text
            ],
        )
        self._api = Api(
            calls=self._calls,
            clock=clock,
            base_url=self._service.base_url,
            hash_header=(
                {"server-hash": self._server_hash}
                if self._server_hash
                else None
            ),
            allow_http=self._service.allow_http,
        )
        self._create = Call(
            operation="POST session",
            method="POST",
            url=self._session_url,
            decode=self._decode_session,
            repeatable=False,
        )
        self._made_at = _calling_line()

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] = os.environ, **settings: Any
    ) -> Self:
        """
        Make a client from `BANKCONNECT_*` environment variables.

        They are `BANKCONNECT_API_KEY`, `_SERVER_HASH`, `_BASE_URL`,
        `_API_VERSION`, `_REDIRECT_URL` and `_SIGNING_KEY`; a blank one counts
        as not set. With a signing key of 32 bytes or more, the redirect URL
        becomes a `ReturnURL`.

        Args:
            environ: Where to read them.
            **settings: Further arguments of the class; they win.

        Raises:
            ConfigurationError: Without an API key, or for a bad setting.
        """
        for name in SECRET_SETTINGS & settings.keys():
            settings[name] = hide(settings[name])
        found: dict[str, Any] = read_environment(environ, _VARIABLES)
        del environ
        found |= settings
        if "api_key" not in found:
            raise ConfigurationError(
                fields={"api_key": (f"set {_VARIABLES['api_key']}",)}
            )
        signing_key = found.pop("signing_key", None)
        if signing_key is not None and "redirect_url" in found:
            found["redirect_url"] = ReturnURL(
                found["redirect_url"], secret=signing_key
            )
        return cls(found.pop("api_key"), **found)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self, *, drain: float = 0) -> None:
        """
        Close the connections; calling it again does nothing.

        A borrowed `aiohttp.ClientSession` stays open. What is still in
        flight ends with an error that says what may have become of it.

        Args:
            drain: Seconds to wait for calls in flight before that. New calls
                are refused meanwhile.
        """
        await self._calls.aclose(drain=drain)

    def __del__(self) -> None:
        calls = getattr(self, "_calls", None)
        if calls is not None and calls.transport.is_open:
            warnings.warn(
                f"{self!r}, made at {self._made_at}, was not closed: use "
                f"`async with`, or await its aclose()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
            calls.transport.abandon()

    def __repr__(self) -> str:
        # A traceback may ask in the middle of __init__.
        return f"<AsyncBankConnect {getattr(self, '_session_url', '')}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a client holds secrets and connections and cannot be pickled; "
            "make one where it is used, for instance with from_env()"
        )

    async def create_session(
        self,
        request: SessionRequest | str,
        /,
        *,
        retry: RetryPolicy | None = None,
    ) -> Session:
        """
        Create a session, and get the URL at which the customer begins.

        Args:
            request: What to ask for; a bare `link_id` will do where the
                client has a *redirect_url*.
            retry: Instead of the client's own, for this call.

        Raises:
            InvalidRequestError: Before anything is sent.
            TransportError: If no usable answer came; see `delivery`.
            ResponseError: If the server refused.
            UnreadableAnswerError: If it agreed in words that cannot be used.
        """
        request = self.resolve(request)
        answer, attempts = await self._calls.run(
            self._create, self._body(request), policy=retry
        )
        session = make_session(
            answer, link_id=request.link_id, attempts=attempts
        )
        self._made.note(session)
        return session

    def _decode_session(self, answer: Answer) -> SessionAnswer:
        return decode_session(
            answer.body,
            status=answer.status,
            allow_http=self._service.allow_http,
        )

    async def confirm(
        self, event: E, /, *, session: Session | None = None
    ) -> E:
        """
        Ask the server whether a success that a browser told is one.

        What travels through the customer's browser can be made up, another
        customer's id included (contract, `callbacks.md`). An `entity_id` is
        confirmed if the entity's `link_id` is the event's; a `session_id` if
        that session was created for the event's `link_id`, and its uploads
        are complete.

        The `link_id` of the event has to come from a source that the browser
        cannot write, such as `ReturnURL.decode`.

        Args:
            event: Any event; all but a `SuccessEvent` are returned as they
                are.
            session: What `create_session` returned for this customer. The
                client remembers the last few thousand sessions that it
                created itself; others it cannot know.

        Returns:
            The event with `confirmed` set: `True`, `False`, or `None` where
            nothing can be said, because there is no `link_id`, or the
            session is none that is known.

        Raises:
            BankConnectError: If the server could not be asked.
        """
        return await confirm(self._api, self._made, event, session)

    def session(self, session_id: str, /) -> "SessionHandle":
        """
        Return a handle of a session: its uploads, processing and results.

        Nothing is sent. `session_id` is in what `create_session` returned,
        and in the events and webhooks of the session flow.

        Raises:
            InvalidRequestError: If it is blank, or no text.
        """
        from .sessions import SessionHandle  # noqa: PLC0415

        return SessionHandle(self._api, session_id)

    def entity(self, entity_id: str, /) -> "EntityHandle":
        """
        Return a handle of an entity: its statements and their analyses.

        Nothing is sent. `entity_id` is in what uploads return, and in the
        events and webhooks of the entity flow.

        Raises:
            InvalidRequestError: If it is blank, or no text.
        """
        from .entities import EntityHandle  # noqa: PLC0415

        return EntityHandle(self._api, entity_id)

    def entities(
        self, *, link_id: str | None = None, max_pages: int = 10_000
    ) -> "Entities":
        """
        List entities, for ``async for``; pages are fetched as needed.

        Args:
            link_id: Those of this customer only.
            max_pages: Of ten entities, at most; a longer list ends in an
                `UnreadableAnswerError`.
        """
        from .entities import Entities  # noqa: PLC0415

        return Entities(self._api, link_id=link_id, max_pages=max_pages)

    async def create_entity(
        self,
        link_id: str | None = None,
        *,
        is_single_account: bool = False,
        meta_data: str | Mapping[str, Any] | None = None,
        retry: RetryPolicy | None = None,
    ) -> "Entity":
        """
        Create an entity, to upload statements of a customer yourself.

        An attempt that may have arrived is repeated as the policy's
        `delivery` says, and may then leave an empty twin behind.

        Args:
            link_id: Your id of the customer.
            is_single_account: Refuse statements of a second account.
            meta_data: To be kept with it; a mapping becomes JSON.
            retry: Instead of the client's own.

        Raises:
            InvalidRequestError: If something cannot be sent.
            TransportError: If no usable answer came.
            ResponseError: If the server refused.
        """
        from . import _organisation  # noqa: PLC0415

        return await _organisation.create_entity(
            self._api,
            link_id,
            is_single_account=is_single_account,
            meta_data=meta_data,
            retry=retry,
        )

    async def upload(  # noqa: PLR0913
        self,
        file: "StatementFile | None" = None,
        /,
        *,
        link_id: str,
        url: str | URL | None = None,
        base64: str | bytes | None = None,
        bank_name: str | None = None,
        pdf_password: str | None = None,
        filename: str | None = None,
        identity: bool = True,
        deadline: float = 300.0,
        retry: RetryPolicy | None = None,
    ) -> "EntityUpload":
        """
        Upload a statement of a customer, in the entity flow.

        The vendor creates the entity if there is none. The file is sent
        piece by piece, and never as a whole in memory. An attempt that may
        have arrived is repeated as the policy's `delivery` says; what cannot
        be rewound, such as a pipe, is sent once.

        Args:
            file: A path, a binary file or bytes; or else *url* or *base64*.
            link_id: Your id of the customer.
            url: Where the vendor can fetch it.
            base64: The file as base64 text.
            bank_name: Bank identifier; without it, the vendor detects the
                bank.
            pdf_password: Opens the file.
            filename: What to call it; the file's own name by default.
            identity: Whether the answer shall tell whose it is.
            deadline: Seconds for all attempts. The client's read limit
                counts from the last byte that could be sent.
            retry: Instead of the client's own.

        Raises:
            InvalidRequestError: If there is not exactly one source, or it
                cannot be read.
            StatementError: If the vendor refused the statement; see its
                kinds. Its `entity_id` may be there all the same.
            PaymentRequiredError: If the trial is over.
            TransportError: If no usable answer came.
        """
        from . import _upload  # noqa: PLC0415
        from .entities import upload  # noqa: PLC0415

        statement = _upload.prepare(
            file,
            url=url,
            base64=base64,
            filename=filename,
            bank_name=bank_name,
            pdf_password=pdf_password,
        )
        # A traceback with locals would show them.
        del file, url, base64, filename, pdf_password
        return await upload(
            self._api,
            {"link_id": link_id},
            statement,
            identity=identity,
            policy=_upload.policy(self._api, retry, deadline),
        )

    async def banks(self) -> "tuple[Bank, ...]":
        """
        List the vendor's banks, and the ways to their statements.

        Raises:
            TransportError: If no usable answer came.
            ResponseError: If the server refused.
        """
        from . import _organisation  # noqa: PLC0415

        return await _organisation.banks(self._api)

    async def net_banking_health(self) -> "tuple[BankHealth, ...]":
        """
        Tell at which banks net banking works at present.

        Raises:
            TransportError: If no usable answer came.
            ResponseError: If the server refused.
        """
        from . import _organisation  # noqa: PLC0415

        return await _organisation.net_banking_health(self._api)

    async def fetch_recurring_aa_data(
        self,
        consent_id: str,
        *,
        from_date: datetime.date,
        to_date: datetime.date,
        retry: RetryPolicy | None = None,
    ) -> "SessionHandle":
        """
        Have a bank asked again, under a consent that recurs.

        An attempt that may have arrived is repeated as the policy's
        `delivery` says.

        Args:
            consent_id: From `recurring_consents` of an earlier session.
            from_date: First day wanted.
            to_date: Last day wanted.
            retry: Instead of the client's own.

        Returns:
            The new session, to be waited for.

        Raises:
            InvalidRequestError: If it cannot be sent.
            RejectedError: If the consent is used up, revoked or unknown; see
                its `code`.
            TransportError: If no usable answer came.
        """
        from . import _organisation  # noqa: PLC0415

        return await _organisation.fetch_recurring_aa_data(
            self._api,
            consent_id,
            from_date=from_date,
            to_date=to_date,
            retry=retry,
        )

    async def download(
        self,
        link: str | URL,
        *,
        to: str | os.PathLike[str],
        max_bytes: int = 256 * 1024 * 1024,
        deadline: float = 300.0,
    ) -> int:
        """
        Fetch a file behind a pre-signed link, such as a PDF or a workbook.

        Nothing of ours goes with the request, no key and no redirect is
        followed. The file appears at *to* when it is complete, for its owner
        only. What breaks off is resumed where the server allows.

        Args:
            link: As an answer has it; valid for an hour.
            to: Path of the file; an old one there is replaced.
            max_bytes: Of the file, at most.
            deadline: Seconds for all attempts.

        Returns:
            Length of the file, in bytes.

        Raises:
            InvalidRequestError: If *link* is not an absolute https URL.
            NotFoundError: If the link has expired, or the file is gone.
            DownloadError: If the file is longer than *max_bytes*, or not
                whole.
            TransportError: If it broke off once too often.
            OSError: If it cannot be written.
        """
        from ._download import download  # noqa: PLC0415

        # Who has it has the file; a traceback with locals would show it.
        link = hide(str(link))
        return await download(
            self._api, link, to, max_bytes=max_bytes, deadline=deadline
        )

    def feed(self, webhook: Webhook, /) -> None:
        """
        Tell those who wait that a webhook came.

        It is not trusted: whoever waits for its session or entity looks at
        once instead of within two seconds. Call it on the client's event
        loop; `bankconnect_async.web` does so itself.
        """
        for name in ("session_id", "entity_id"):
            id_ = getattr(webhook, name, None)
            if id_ is not None:
                self._api.hints.give(id_)

    async def update_webhook(
        self,
        url: str,
        *,
        flow: Literal["entity", "session"],
        mode: int | Sequence[str] = 1,
    ) -> None:
        """
        Tell the vendor where to post webhooks to.

        Args:
            url: Of your endpoint.
            flow: Which of the vendor's two flows your organisation has.
            mode: Entity flow: 1 for net banking and manual uploads, 0 for
                net banking only. Session flow: a number, or the names of
                events (U-24). It is sent with every update, because the
                entity flow falls back to 0 without it.

        Raises:
            InvalidRequestError: If *url* or *mode* cannot be sent.
            TransportError: If no usable answer came.
            ResponseError: If the server refused.
        """
        from . import _organisation  # noqa: PLC0415

        await _organisation.update_webhook(
            self._api, url, flow=flow, mode=mode
        )

    async def webhook_payloads(
        self, link_id: str
    ) -> tuple[ExtractionWebhook, ...]:
        """
        Recover the webhooks of a customer in the entity flow, newest first.

        Args:
            link_id: Your id of the customer.

        Raises:
            TransportError: If no usable answer came.
            ResponseError: If the server refused.
        """
        from . import _organisation  # noqa: PLC0415

        return await _organisation.webhook_payloads(self._api, link_id)

    def create_sessions(
        self,
        source: (
            Iterable[SessionRequest | str]
            | AsyncIterable[SessionRequest | str]
        ),
        /,
        *,
        concurrency: int = 64,
        rate: float | None = None,
        ordered: bool = False,
        deadline: float = 120.0,
    ) -> SessionBatch:
        """
        Create sessions for many customers: one outcome for each input.

        ::

            async with bank.create_sessions(link_ids) as outcomes:
                async for outcome in outcomes:
                    match outcome:
                        case Created(session=session): ...
                        case Failed(error=error): ...

        It takes from *source* only what it works on, so memory stays
        constant however long that is. A refusal of the key or of payment
        stops it: what is left comes out as `Failed` with
        `BatchStoppedError`, unsent.

        Args:
            source: Requests or bare link ids, sync or async.
            concurrency: Requests in flight at most; raises the client's
                pool to itself where that is smaller.
            rate: New requests per second; `None` for no limit. A tenth of
                a second's worth may go at once.
            ordered: Report in the order of *source* rather than as
                completed.
            deadline: Seconds for one item, its retries included.

        Raises:
            ConfigurationError: If a number makes no sense.
        """
        return SessionBatch(
            self,
            source,
            concurrency=concurrency,
            rate=rate,
            ordered=ordered,
            retry=attrs.evolve(self._calls.retry, deadline=deadline),
            clock=self._calls.clock,
        )

    def stats(self) -> Stats:
        """
        Return what the client did so far, and does now.
        """
        return self._calls.stats()

    def resolve(self, request: SessionRequest | str) -> SessionRequest:
        """
        Fill in what the client knows and *request* leaves open.

        Raises:
            InvalidRequestError: If there is no *redirect_url* at all, or
                what is given is no request.
        """
        if isinstance(request, str):
            if self._usual is not None:
                return self._usual.with_link_id(request)
            return SessionRequest(
                link_id=request, redirect_url=self._given_redirect_url(request)
            )
        if not isinstance(request, SessionRequest):
            raise InvalidRequestError(
                f"give a SessionRequest or a link_id, which is a text, not "
                f"{type(request).__name__}"
            )
        if request.redirect_url is UNSET:
            return attrs.evolve(
                request,
                redirect_url=self._given_redirect_url(request.link_id),
            )
        return request

    def admit(self, concurrency: int) -> None:
        """Make room for that many requests more, until `dismiss`."""
        self._calls.transport.admit(concurrency)

    def dismiss(self, concurrency: int) -> None:
        """Take back what `admit` was told."""
        self._calls.transport.dismiss(concurrency)

    async def open(self) -> None:
        """Bind to the running event loop; the first request does it too."""
        await self._calls.transport.open()

    def _given_redirect_url(self, link_id: str) -> str | None:
        if isinstance(self._redirect_url, ReturnURL):
            return str(self._redirect_url.build(link_id))
        if isinstance(self._redirect_url, Unset):
            raise InvalidRequestError(
                fields={
                    "redirect_url": (
                        "is given neither in the request nor to the client; "
                        "None means the inline-frame workflow",
                    )
                }
            )
        return self._redirect_url

    def _body(self, request: SessionRequest) -> Body:
        return Body(
            encode_session(request, self._api_key, encoding=self._encoding),
            content_type=CONTENT_TYPES[self._encoding],
        )


def _calling_line() -> str:
    # Where the user's code made the client, whichever way it took.
    frame = sys._getframe(1)  # noqa: SLF001 - what warnings do themselves
    while frame.f_back and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _check_redirect_url(
    value: str | URL | ReturnURL | None | Unset,
) -> str | ReturnURL | None | Unset:
    if isinstance(value, ReturnURL):
        return value
    try:
        # The request's own rules apply; one of a made-up customer tells.
        checked = SessionRequest(link_id="-", redirect_url=value)
    except InvalidRequestError as error:
        raise ConfigurationError(fields=error.fields) from None
    return checked.redirect_url
