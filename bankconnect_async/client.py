"""
The client: one short method for each thing the vendor's API does.
"""

import functools
import inspect
import os
import ssl
import warnings

from collections.abc import (
    AsyncIterable,
    Callable,
    Iterable,
    Mapping,
)
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    NoReturn,
    Self,
    TypeVar,
    Unpack,
    overload,
)

import aiohttp
import attrs

from yarl import URL

from . import __version__, _resources, batch, models
from ._codec.session_requests import Encoding
from ._http.executor import ObservedExecutor, RequestExecutor
from ._http.operation import CallOptions
from ._http.transport import Transport
from ._resources.base import ApiClient, ApiView
from ._resources.session_creation import SessionCreator
from ._resources.statement_data import StatementData
from ._tracebacks import hide_frames
from .clock import SYSTEM_CLOCK, Clock
from .config import (
    SECRET_SETTINGS,
    Pool,
    Secret,
    Service,
    Timeouts,
    check_headers,
    check_instance,
    default_base_url,
    hide,
    parse_proxy,
    proxy_secrets,
    read_environment,
    secret,
)
from .errors import (
    BankConnectError,
    ConfigurationError,
    InvalidRequestError,
)
from .models.sessions import (
    UNSET,
    Session,
    SessionRequest,
    Unset,
)
from .retry import RetryPolicy


# Imported where they are used: a service that only creates sessions does
# without them.
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._codec.return_urls import ReturnURL
    from .arguments import ClientSettings, SessionParameters
    from .batch import ResultSink
    from .collecting.collection import Collection
    from .collecting.collector import Save
    from .collecting.journal import CollectionJournal
    from .collecting.kinds import Flow
    from .collecting.owners import CollectItem
    from .models.events import Event
    from .stats import AttemptHook, ResponseHead, Stats, Telemetry
    from .store import Reserved, SessionKey, SessionStore
    from .tls import TLS


E = TypeVar("E", bound="Event")

_VARIABLES: Final[Mapping[str, str]] = {
    "api_key": "BANKCONNECT_API_KEY",
    "server_hash": "BANKCONNECT_SERVER_HASH",
    "base_url": "BANKCONNECT_BASE_URL",
    "version": "BANKCONNECT_API_VERSION",
    "redirect_url": "BANKCONNECT_REDIRECT_URL",
    "signing_key": "BANKCONNECT_SIGNING_KEY",
    "proxy": "BANKCONNECT_PROXY",
    "ca_file": "BANKCONNECT_CA_FILE",
    "store": "BANKCONNECT_STORE",
    "store_keys": "BANKCONNECT_STORE_KEYS",
}

_RETRY: Final = RetryPolicy()
_TIMEOUTS: Final = Timeouts()
_POOL: Final = Pool()


class AsyncBankConnect(StatementData):
    """
    A client of FinBox Bank Connect, over one pool of connections.

    Use it with ``async with``, or call `aclose` at the end. It belongs to
    the event loop in which it made its first request.

    Args:
        api_key: The key that the vendor gave you; it goes into the body of a
            session request and into the `x-api-key` header (U-02).
        server_hash: The vendor's second secret, for calls other than
            creating sessions and uploading.
        base_url: The URL up to and including ``/bank-connect``; by default
            `DEFAULT_BASE_URL` for `v1` and `CURRENT_BASE_URL` for `v2`.
        version: The version of the Session API, `v1` or `v2`.
        redirect_url: The URL that browsers return to, for requests that name
            none; a `ReturnURL` makes one for each `link_id`. With `None`, the
            journey runs in an `<iframe>`. If it is unset, each request needs
            one.
        encoding: The encoding of session requests, `json` or `form` (U-01).
        retry: The retry policy.
        timeouts: The time limits of one attempt, in seconds.
        pool: The settings of the pool of connections.
        tls: The certificates beside the system's, or an SSL context.
        proxy: The address of an HTTP proxy, credentials included.
            Connections through it are checked, kept and retired as others.
        allow_http: Whether an address without TLS is accepted that is not on
            this machine.
        client_session: A session to use and never to close. Its own timeouts,
            redirects, middlewares and `raise_for_status` are overridden for
            our requests. Its connector decides how long connections are kept;
            each is checked before a request is written to it.
        store: The store of sessions, which may be shared by processes; by
            default the memory of this process, for the newest 10,000. It is
            opened when it is needed, and stays open when the client closes.
        telemetry: The observer of calls and attempts, such as an
            `OpenTelemetry`.
        on_attempt: The hook that is called when an attempt begins; the
            function that it returns is called when that attempt ends. An
            exception is logged and ignored.
        clock: The clock, which tests replace.

    Raises:
        ConfigurationError: If a setting is bad; the error names the first.
    """

    def __init__(  # noqa: PLR0913
        self,
        api_key: str,
        *,
        server_hash: str | None = None,
        base_url: str | URL | None = None,
        version: str = "v1",
        redirect_url: "str | URL | ReturnURL | None | Unset" = UNSET,
        encoding: Encoding = "json",
        retry: RetryPolicy = _RETRY,
        timeouts: Timeouts = _TIMEOUTS,
        pool: Pool = _POOL,
        tls: "TLS | ssl.SSLContext | None" = None,
        proxy: str | URL | None = None,
        allow_http: bool = False,
        client_session: aiohttp.ClientSession | None = None,
        store: "SessionStore | None" = None,
        telemetry: "Telemetry | None" = None,
        on_attempt: "AttemptHook | None" = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        # First of all, so that no traceback with locals shows them.
        api_key, server_hash = hide(api_key), hide(server_hash)
        proxy = None if proxy is None else Secret(proxy)
        check_instance("retry", retry, RetryPolicy)
        check_instance("timeouts", timeouts, Timeouts)
        check_instance("pool", pool, Pool)
        _check_tls(tls)
        _check_telemetry(telemetry)
        proxy_credentials = None
        if proxy is not None:
            proxy, proxy_credentials = parse_proxy(proxy)
        self._api_key = secret("api_key", api_key)
        self._server_hash = (
            None if server_hash is None else secret("server_hash", server_hash)
        )
        if base_url is None:
            base_url = default_base_url(version)
        self._service = Service.parse(
            base_url, version=version, allow_http=allow_http
        )
        self._session_url = self._service.session_url()
        transport = Transport(
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
        )
        make_executor = (
            RequestExecutor
            if telemetry is None and on_attempt is None
            else functools.partial(
                ObservedExecutor, telemetry=telemetry, on_attempt=on_attempt
            )
        )
        self._executor = make_executor(
            transport,
            retry=retry,
            clock=clock,
            secrets=[
                *(text for text in (self._api_key, self._server_hash) if text),
                *proxy_secrets(proxy_credentials),
            ],
        )
        if telemetry is not None:
            url = self._session_url
            telemetry.observe(self._executor, url.host or "", url.port or 0)
        self._api = ApiClient(
            executor=self._executor,
            base_url=self._service.base_url,
            hash_header=(
                {"server-hash": self._server_hash}
                if self._server_hash
                else None
            ),
            allow_http=self._service.allow_http,
        )
        self._creator = SessionCreator(
            self._executor,
            service=self._service,
            api_key=self._api_key,
            encoding=encoding,
            redirect_url=redirect_url,
        )
        self._stored: Final = _resources.StoredSessions(
            store,
            api_id=_resources.store_api_id(self._service.name, self._api_key),
            clock=clock,
            usual=self._creator.usual,
        )
        # The client whose view this is. It owns the pool and the store.
        self._owner: Self | None = None
        self._made_at = _calling_line()

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        **settings: "Unpack[ClientSettings]",
    ) -> Self:
        """
        Make a client from `BANKCONNECT_*` environment variables.

        They are `BANKCONNECT_API_KEY`, `_SERVER_HASH`, `_BASE_URL`,
        `_API_VERSION`, `_REDIRECT_URL`, `_SIGNING_KEY`, `_PROXY`, `_CA_FILE`,
        `_STORE` and `_STORE_KEYS`; a blank one counts as not set. With a
        signing key of 32 bytes or more, the redirect URL becomes a
        `ReturnURL`. The CA file is a PEM file that is trusted in addition.
        The store is an address for `store.open_store`; the client closes it.
        Several signing keys, or several keys of the store, are separated by
        commas, the newest first.

        Without a proxy, that of `HTTPS_PROXY` is used for an https API that
        `NO_PROXY` does not name, as by other programs; `proxy=None` ignores
        it. `HTTP_PROXY` is never read.

        Args:
            environ: The environment, by default that of the process.
            **settings: Further arguments of the class; they take precedence.

        Raises:
            ConfigurationError: If the API key is missing or a setting is bad.
        """
        given: dict[str, Any] = {**settings}
        del settings
        for name in SECRET_SETTINGS & given.keys():
            given[name] = hide(given[name])
        # As a default, it would stand in the signature with all its secrets.
        if environ is None:
            environ = os.environ
        found: dict[str, Any] = read_environment(environ, _VARIABLES)
        found |= given
        # Services that name all settings in their code do without it.
        from .environment import find_proxy, resolve_texts  # noqa: PLC0415

        system_proxy = find_proxy(
            environ,
            found.get("base_url") or default_base_url(found.get("version")),
        )
        del environ
        if "api_key" not in found:
            raise ConfigurationError(
                fields={
                    "api_key": (
                        f"is missing: set {_VARIABLES['api_key']} to the key "
                        f"that FinBox gave you",
                    )
                }
            )
        owns_store = resolve_texts(found, system_proxy)
        bank = cls(found.pop("api_key"), **found)
        bank._stored.is_owned = owns_store
        return bank

    async def __aenter__(self) -> Self:
        await self._stored.open()
        try:
            await self._executor.transport.open()
        except BaseException:
            await self._stored.aclose()
            # The caller may enter again.
            self._stored.is_open = False
            raise
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
            drain: The seconds to wait for calls in flight before that. New
                calls are refused meanwhile. A cancel ends the wait only.

        Raises:
            ClientClosedError: If the client's event loop runs in another
                thread. The client stays open.
        """
        if self._owner is not None:
            return
        try:
            await self._executor.aclose(drain=drain)
        finally:
            if not self._executor.transport.is_open:
                await self._stored.aclose()

    @hide_frames
    def with_options(
        self,
        *,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
        on_response: "Callable[[ResponseHead], object] | None" = None,
    ) -> Self:
        """
        Return a view of the client whose calls have other options.

        ::

            heads = []
            view = bank.with_options(
                headers={"X-Request-Id": request_id},
                on_response=heads.append,
            )
            session = await view.create_session("customer-42")
            heads[-1].status

        A view costs little, so one may be made for each call. It uses the
        pool, the retry budget and the store of the client, and lasts as long
        as that is open: closing a view does nothing. A view of a view has the
        options of both.

        Args:
            headers: Further headers for each request to the API, such as an
                `X-Request-Id`; those that the client sends itself are
                refused. Where a server echoes a value, errors do not show it.
            retry: The retry policy, instead of the client's own.
            on_response: The function that is called with the status and the
                headers of each response, also with those of successes. An
                exception is logged and ignored.

        Raises:
            ConfigurationError: If a header cannot be sent, or an option has
                another type.
        """
        given = check_headers(headers or {})
        del headers
        if retry is not None:
            check_instance("retry", retry, RetryPolicy)
        if on_response is not None and not callable(on_response):
            raise ConfigurationError(
                fields={"on_response": ("must be a function",)}
            )
        before = self._api.options or CallOptions()
        names = {name.lower() for name in given}
        kept = {
            name: value
            for name, value in before.headers.items()
            if name.lower() not in names
        }
        options = CallOptions(
            headers=kept | given,
            on_response=on_response or before.on_response,
        )
        view = object.__new__(type(self))
        vars(view).update(
            vars(self),
            _owner=self,
            _api=ApiView(self._api, options, retry=retry),
            _creator=self._creator.with_options(options, retry=retry),
        )
        return view

    def __del__(self) -> None:
        executor = getattr(self, "_executor", None)
        if (
            executor is not None
            and executor.transport.is_open
            and getattr(self, "_owner", None) is None
        ):
            warnings.warn(
                f"{self!r}, made at {self._made_at}, was not closed: use "
                f"`async with`, or await its aclose()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
            executor.transport.abandon()

    def __repr__(self) -> str:
        # A traceback may ask in the middle of __init__.
        return f"<AsyncBankConnect {getattr(self, '_session_url', '')}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a client holds secrets and connections and cannot be pickled; "
            "make one where it is used, for instance with from_env()"
        )

    @property
    def api_id(self) -> str:
        """The Session API's host, path and version, as journals name it."""
        return self._service.name

    @property
    def store(self) -> "SessionStore":
        """The store of sessions."""
        return self._stored.store

    @property
    def store_api_id(self) -> str:
        """The API and the account, as the store names them."""
        return self._stored.api_id

    @property
    def has_server_hash(self) -> bool:
        """Whether the client has a server hash."""
        return self._server_hash is not None

    @property
    def redirect_url(self) -> "str | ReturnURL | None | Unset":
        """The redirect URL of requests that name none."""
        return self._creator.redirect_url

    def session_key(
        self, request: SessionRequest | str, /, *, scope: str = ""
    ) -> "SessionKey":
        """
        Return the key of a session, to `reserve` it in the store.

        Args:
            request: A `link_id`, or a complete request.
            scope: The campaign or loan.

        Raises:
            InvalidRequestError: If the request is invalid.
        """
        link_id, request = self._creator.prepare(request)
        return self._stored.key(link_id, request, scope)

    @overload
    async def create_session(
        self,
        request: SessionRequest,
        /,
        *,
        scope: str = "",
        reserved: "Reserved | None" = None,
        retry: RetryPolicy | None = None,
    ) -> Session: ...

    @overload
    async def create_session(
        self,
        link_id: str,
        /,
        *,
        scope: str = "",
        reserved: "Reserved | None" = None,
        retry: RetryPolicy | None = None,
        **parameters: "Unpack[SessionParameters]",
    ) -> Session: ...

    async def create_session(
        self,
        request: SessionRequest | str,
        /,
        *,
        scope: str = "",
        reserved: "Reserved | None" = None,
        retry: RetryPolicy | None = None,
        **parameters: "Unpack[SessionParameters]",
    ) -> Session:
        """
        Create a session, and get the URL at which the customer begins.

        When the session is returned, it is in the store. If the response is
        lost, so that nobody knows whether there is a session, the store gets
        an entry that is marked as ambiguous.

        Args:
            request: A `link_id`, or a complete request.
            scope: The campaign or loan, for the store, where a customer has
                several.
            reserved: The reservation that `SessionStore.reserve` returned for
                the `session_key` of this request; its scope applies. After an
                error, release it; that does nothing if an entry replaced it.
            retry: The retry policy; by default the client's.
            **parameters: The parameters of a `SessionRequest`, beside a
                `link_id`.

        Raises:
            InvalidRequestError: If the request is invalid; nothing is sent.
            TransportError: If no usable response came; see `delivery`.
            ResponseError: If the server refused the request.
            InvalidResponseError: If a 2xx response has no usable session.
            StoreError: If the store cannot be used. If the session was
                created before that, it is the error's `session`.
        """
        creator, stored = self._creator, self._stored
        if parameters:
            request = _build_request(request, parameters)
        link_id, request = creator.prepare(request)
        if reserved is not None:
            stored.check(reserved, link_id, request)
        if not stored.is_open:
            await stored.open()
        try:
            answer, attempts = await creator.send(link_id, request, retry)
        except BankConnectError as error:
            await stored.add_ambiguous(
                error, link_id, request, scope, reserved
            )
            raise
        session = creator.build(link_id, answer, attempts)
        if stored.add_nowait is None or reserved is not None:
            await stored.add(link_id, request, session, scope, reserved)
        else:
            stored.add_nowait(
                (
                    link_id,
                    None if request is stored.usual else request,
                    answer.session_id,
                    answer.redirect_url,
                    scope,
                    stored.now(),
                )
            )
        return session

    async def confirm(
        self, event: E, /, *, session: Session | None = None
    ) -> E:
        """
        Ask the server whether a success that a browser reported is one.

        A browser can report anything, another customer's id included
        (contract, `callbacks.md`). So each id of the event is checked by
        itself. An `entity_id` is good if the entity's
        `link_id` is the event's; a `session_id` if that session was created
        for the event's `link_id`, and its uploads are complete. Either id
        may stand under the other's name. The store knows the sessions, so
        every process that shares it can confirm them; an entity that belongs
        to one is noted there.

        The `link_id` of the event has to come from a source that the browser
        cannot write, such as `ReturnURL.decode`.

        Args:
            event: An event; all but a `SuccessEvent` are returned as they
                are.
            session: The session that `create_session` returned for this
                customer, if the store may not have it.

        Returns:
            The event with `confirmed` set. With `True`, every id in it was
            found to be good: an id that could not be checked is `None`, and
            `raw` keeps what was checked and nothing else. With `False`, an id
            is another customer's, or none of them is good. With `None`,
            nothing can be said, because there is no `link_id`, or the session
            is not in the store.

        Raises:
            BankConnectError: If the server or the store could not be asked.
        """
        return await _resources.confirm(
            self._api, self._stored, event, session
        )

    def create_sessions(  # noqa: PLR0913
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
        scope: str = "",
        journal: (
            "ResultSink[SessionRequest, batch.Outcome] | SessionStore | None"
        ) = None,
    ) -> "batch.SessionBatch":
        """
        Create sessions for many customers: one outcome for each input.

        ::

            async with bank.create_sessions(link_ids) as outcomes:
                async for outcome in outcomes:
                    match outcome:
                        case Created(session=session): ...
                        case Failed(error=error): ...

        It takes from *source* only what it works on, so memory stays
        constant however long that is. A refused key or a missing payment
        stops it, and so does the same permanent failure of every probe
        (404, a redirect, an HTML page, a certificate): the items that are
        left are `Failed` with `BatchStoppedError`, and were not sent.

        It sends without a limit until the first 429, which pauses the whole
        batch; after it, or too many 503s and timeouts, it continues at the
        rate that the server accepted, and probes for more later. A 503 with
        Retry-After delays its own item only. While others get through, such
        a refusal costs an item neither an attempt nor time. While nearly
        everything fails, single probes are sent until one succeeds.

        A session is in the store when its outcome comes. If the store cannot
        be written, the outcome is `Failed` with a `StoreError` that has the
        session; nothing more is sent, and iterating raises that error in the
        end.

        Args:
            source: The requests or bare link ids, sync or async.
            concurrency: The largest number of requests in flight; a smaller
                pool of the client grows to it.
            rate: Requests per second, evenly spaced; `None` for no limit.
            ordered: Whether outcomes come in the order of *source* rather
                than as they are completed.
            deadline: The seconds for one item, its retries included; also
                the longest pause, whatever the server asks for.
            scope: The campaign or loan, for the store, where a customer has
                several.
            journal: The `Journal`, or another sink, that records every
                outcome before more is sent. Inputs whose session it holds are
                skipped and have no outcome. If it cannot be written, nothing
                more is sent, and iterating raises `JournalError` in the end.
                It may be the client's *store*: inputs with a session of the
                same *scope* are skipped, those that failed are not.

        Raises:
            ConfigurationError: If a number is not above 0, or *journal* is
                another store than the client's.
        """
        return batch.SessionBatch(
            self._stored.creator(self._creator, scope),
            source,
            batch.BatchOptions(
                api=self.api_id,
                concurrency=concurrency,
                rate=rate,
                ordered=ordered,
                retry=attrs.evolve(self._api.retry, deadline=deadline),
                clock=self._executor.clock,
            ),
            scope=scope,
            stored=self._stored,
            journal=journal,
            capacity=self._executor.transport,
        )

    def paced(
        self, *, concurrency: int = 64, rate: float | None = None
    ) -> "batch.PacedClient":
        """
        Return a view whose calls are paced as those of a batch.

        ::

            async with bank.paced(rate=50) as paced:
                status = await paced.session(session_id).upload_status()

        It has the methods for statement data. Its calls wait for each other
        as the items of `create_sessions` do, after a 429 and in an outage,
        too. A refused key or a missing payment ends it: further calls raise
        `BatchStoppedError`.

        Args:
            concurrency: The largest number of calls in flight.
            rate: Requests per second, evenly spaced; `None` for no limit.

        Raises:
            ConfigurationError: If a number is not above 0.
        """
        return batch.PacedClient(
            self._api,
            capacity=self._executor.transport,
            concurrency=concurrency,
            rate=rate,
        )

    def collect(  # noqa: PLR0913
        self,
        source: "Iterable[CollectItem] | AsyncIterable[CollectItem]",
        /,
        *,
        what: "Sequence[str]" = ("transactions",),
        flow: "Flow" = "session",
        to: "str | os.PathLike[str] | None" = None,
        save: "Save | None" = None,
        concurrency: int = 16,
        rate: float | None = None,
        deadline: float = 300.0,
        journal: "CollectionJournal | None" = None,
    ) -> "Collection":
        """
        Fetch the data of many sessions: one outcome for each kind of each.

        ::

            async with bank.collect(
                read_journal("campaign.jsonl"), what=("transactions", "pdfs"),
                to="campaign",
            ) as outcomes:
                async for outcome in outcomes:
                    match outcome:
                        case Collected(kind="transactions", data=rows): ...
                        case Collected(kind="pdfs", files=files): ...
                        case NotCollected(error=NotReadyError()): ...
                        case NotCollected(error=error): ...

        It takes from *source* only what it works on, and paces itself as
        `create_sessions` does. Kinds that come in one response, such as
        those of a session's insights, take one request.

        Data that is not complete yet has the error `NotReadyError`: in the
        session flow until processing has ended, in the entity flow while a
        statement is in progress, and for PDFs until the customer has
        completed the uploads. A later run with the same journal fetches it.

        Args:
            source: The sessions and entities, sync or async: ids, values of
                `Session` or `SessionEntry`, records of a journal, or handles.
                Records of failed inputs are passed over.
            what: The kinds of data, named as in ``bankconnect collect
                --what``.
            flow: The flow of ids that are bare texts.
            to: The directory for the files of the kinds `pdfs` and `reports`.
                Each goes to its disk as it comes, and appears there when it
                is complete, for its owner only. By default only their links
                are fetched, which are valid for an hour.
            save: A coroutine function that stores a `Collected`. It runs in
                the worker, before the outcome is handed out; an error ends
                the collection.
            concurrency: The largest number of requests in flight.
            rate: Requests per second, evenly spaced; `None` for no limit.
            deadline: The seconds for one request and for one file, retries
                included.
            journal: The journal that records every outcome when the loop asks
                for the next one. Kinds of data that it holds as collected are
                skipped and have no outcome. Incomplete files in *to*, which a
                killed process left behind, are removed: give each directory
                a journal of its own.

        Raises:
            ConfigurationError: If a number is not above 0, or a kind is not
                known.
            OSError: From the iteration, if a file cannot be written.
        """
        from .collecting.collection import Collection  # noqa: PLC0415

        return Collection(
            self._api,
            source,
            batch.BatchOptions(
                api=self.api_id,
                concurrency=concurrency,
                rate=rate,
                retry=attrs.evolve(self._api.retry, deadline=deadline),
                clock=self._executor.clock,
            ),
            capacity=self._executor.transport,
            what=what,
            flow=flow,
            to=to,
            save=save,
            journal=journal,
        )

    def stats(self) -> "Stats":
        """
        Return what the client did so far, and does now.
        """
        return self._executor.stats()


def _build_request(
    link_id: SessionRequest | str, parameters: "SessionParameters"
) -> SessionRequest:
    if isinstance(link_id, SessionRequest):
        raise InvalidRequestError(
            "give parameters in the SessionRequest or beside a link_id, not "
            "in both"
        )
    values: SessionParameters = {"redirect_url": UNSET, **parameters}
    try:
        return SessionRequest(link_id=link_id, **values)
    except TypeError:
        if unknown := models.suggestions.describe_unknown(parameters):
            raise TypeError(unknown) from None
        raise


def _check_tls(tls: object) -> None:
    # Not by its class: most clients have none, and do without the module.
    if not (
        isinstance(tls, ssl.SSLContext | None) or hasattr(tls, "build_context")
    ):
        raise ConfigurationError(
            fields={"tls": ("must be a TLS or an ssl.SSLContext",)}
        )


def _check_telemetry(telemetry: object) -> None:
    if telemetry is not None and not hasattr(telemetry, "on_call"):
        raise ConfigurationError(
            fields={"telemetry": ("must be an OpenTelemetry",)}
        )


def _calling_line() -> str:
    # Where the user's code made the client, whichever way it took.
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    if frame is None:
        return "an unknown place"
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
