"""
The sessions of one client in its store.
"""

import datetime
import hashlib

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import attrs

from bankconnect_async._codec.request_digests import journey_digest
from bankconnect_async.clock import Clock
from bankconnect_async.errors import (
    UNCERTAIN,
    BankConnectError,
    ConfigurationError,
    Delivery,
    InvalidRequestError,
    StoreError,
)
from bankconnect_async.models.sessions import (
    Session,
    SessionRequest,
)
from bankconnect_async.retry import RetryPolicy
from bankconnect_async.store.entries import (
    CreatedFacts,
    Reserved,
    SessionEntry,
    SessionKey,
    SessionState,
    build_entry,
    new_entry_id,
)
from bankconnect_async.store.memory import MemorySessionStore
from bankconnect_async.store.protocol import SessionStore


if TYPE_CHECKING:
    from bankconnect_async._http.throttling import Throttle

    from .session_creation import SessionCreator


#: The customer, the request (`None` for the usual one), the session's id and
#: URL (`None` if there may be a session), the scope, the time of creation.
NewSession: TypeAlias = tuple[
    str, SessionRequest | None, str | None, str | None, str, float
]

_SALT: Final = "bankconnect_async.api_id "


def store_api_id(name: str, api_key: str) -> str:
    """
    Return the name of an API and of an account, as stores keep it.

    Args:
        name: The host, path and version.
        api_key: The key. Eight digits of its digest tell accounts apart, and
            are too few to find the key.
    """
    digest = hashlib.sha256((_SALT + api_key).encode()).hexdigest()
    return f"{name}#{digest[:8]}"


class StoredSessions:
    """
    The sessions that one client keeps in its store.

    Args:
        store: The store; `None` for one in memory.
        api_id: The name of the API and of the account.
        clock: The clock.
        usual: The request that all bare link ids share, if there is one.

    Attributes:
        store: The store.
        api_id: The name of the API and of the account.
        usual: The request that all bare link ids share, if there is one.
        add_nowait: The function that adds a session to the memory without
            waiting; `None` for another store.
        is_owned: Whether `aclose` closes the store.
        is_open: Whether the store was opened.
        now: The function that returns the time in seconds since the epoch.
    """

    def __init__(
        self,
        store: SessionStore | None,
        *,
        api_id: str,
        clock: Clock,
        usual: SessionRequest | None,
    ) -> None:
        if store is not None and not hasattr(store, "add"):
            # A traceback with locals would show the password of an address.
            del store
            raise ConfigurationError(
                fields={
                    "store": (
                        "must be a store: make one with open_store(address)",
                    )
                }
            )
        self.store: Final = MemorySessionStore() if store is None else store
        self.api_id: Final = api_id
        self.usual: Final = usual
        self.add_nowait: Callable[[NewSession], None] | None = None
        # Not a subclass: its own `add` would not be called.
        if type(self.store) is MemorySessionStore and not self.store.builder:
            self.store.builder = self._build_new
            self.add_nowait = self.store.add_nowait
        # A store may take the facts without an entry, which is cheaper. That
        # of a subclass would not call its own `add`.
        self._add_facts: Callable[[CreatedFacts], Awaitable[None]] | None = (
            getattr(store, "add_facts", None)
            if "add_facts" in vars(type(store))
            else None
        )
        self.is_owned: bool = store is None
        self.now: Final = clock.time
        self.is_open: bool = self.add_nowait is not None
        self._digested: SessionRequest | None = None
        self._digest = ""

    def key(
        self, link_id: str, request: SessionRequest, scope: str
    ) -> SessionKey:
        """
        Return the key of a session.

        Args:
            link_id: The customer.
            request: The other parameters.
            scope: The campaign or loan.
        """
        return SessionKey(
            api_id=self.api_id,
            link_id=link_id,
            scope=scope,
            request_digest=self._request_digest(request),
        )

    def _request_digest(self, request: SessionRequest) -> str:
        # Bare link ids share a request.
        if request is not self._digested:
            self._digested, self._digest = request, journey_digest(request)
        return self._digest

    def check(
        self, reserved: Reserved, link_id: str, request: SessionRequest
    ) -> None:
        """
        Check that a reservation is for a request.

        Raises:
            InvalidRequestError: If it is not.
        """
        if reserved.key != self.key(link_id, request, reserved.key.scope):
            raise InvalidRequestError(
                fields={"reserved": ("is for another session",)}
            )

    def creator(
        self, creator: "SessionCreator", scope: str
    ) -> "SessionCreator | StoringCreator":
        """
        Return the creator of the sessions of a batch.

        Args:
            creator: The creator of sessions.
            scope: The campaign or loan.
        """
        if self.add_nowait is not None:
            return creator
        return StoringCreator(creator, self, scope)

    async def open(self) -> None:
        """
        Open the store, unless it is open.

        Raises:
            StoreError: If it cannot be used.
        """
        if not self.is_open:
            await self.store.open()
            self.is_open = True

    async def aclose(self) -> None:
        """Close the store, if it is the client's own."""
        if self.is_owned:
            await self.store.aclose()

    def build(
        self,
        link_id: str,
        request: SessionRequest,
        session: Session | None,
        scope: str,
        created: float,
    ) -> SessionEntry:
        """
        Build the entry of a session.

        Args:
            link_id: The customer.
            request: The other parameters.
            session: The session; `None` if it is unknown whether there is
                one.
            scope: The campaign or loan.
            created: The time of creation, in seconds since the epoch.
        """
        return build_entry(
            entry_id=new_entry_id(created),
            key=self.key(link_id, request, scope),
            request=request,
            session=session,
            created=created,
        )

    def _build_new(self, new: NewSession) -> SessionEntry:
        link_id, request, session_id, url, scope, created = new
        request = cast("SessionRequest", request or self.usual)
        session = None
        if url is not None:
            session = Session(
                link_id=link_id, redirect_url=url, session_id=session_id
            )
        return self.build(link_id, request, session, scope, created)

    async def add(
        self,
        link_id: str,
        request: SessionRequest,
        session: Session | None,
        scope: str,
        reserved: Reserved | None = None,
    ) -> None:
        """
        Add the entry of a session, durably.

        Args:
            link_id: The customer.
            request: The other parameters.
            session: The session; `None` if it is unknown whether there is
                one.
            scope: The campaign or loan.
            reserved: The reservation, if there is one; its scope applies.

        Raises:
            StoreError: If the store cannot be written; it has the session.
        """
        try:
            if self._add_facts and session is not None and reserved is None:
                await self._add_facts(
                    self._facts(link_id, request, session, scope)
                )
                return
            entry = self.build(link_id, request, session, scope, self.now())
            if reserved is not None:
                entry = attrs.evolve(
                    entry, entry_id=reserved.entry_id, key=reserved.key
                )
            await self.store.add((entry,))
        except Exception as exc:
            raise _not_stored(exc, session) from exc

    def _facts(
        self,
        link_id: str,
        request: SessionRequest,
        session: Session,
        scope: str,
    ) -> CreatedFacts:
        created = self.now()
        return CreatedFacts(
            new_entry_id(created),
            self.api_id,
            link_id,
            scope,
            self._request_digest(request),
            session.session_id,
            session.url,
            request.redirect_url is None,
            created,
            request.session_expiry,
        )

    async def add_ambiguous(
        self,
        error: BankConnectError,
        link_id: str,
        request: SessionRequest,
        scope: str,
        reserved: Reserved | None = None,
    ) -> None:
        """
        Add an entry after *error*, if the server may have a session.

        If the store cannot be written, a note of the error says so.
        """
        if error.delivery in UNCERTAIN:
            try:
                await self.add(link_id, request, None, scope, reserved)
            except StoreError as problem:
                error.add_note(problem.message)

    async def find(self, **ids: str) -> SessionEntry | None:
        """
        Return the entry of a session, if the store has one.

        Args:
            **ids: The *session_id*, or an *entity_id* that belongs to it.

        Raises:
            StoreError: If the store cannot be read.
        """
        await self.open()
        found = await self.store.find(api_id=self.api_id, **ids)
        return found[0] if found else None

    async def submit(self, entry: SessionEntry, entity_id: str | None) -> None:
        """
        Note that the customer completed a journey, unless that is known.

        Args:
            entry: The entry of the session.
            entity_id: An entity that belongs to it, if one is known.

        Raises:
            StoreError: If the store cannot be written.
        """
        at = datetime.datetime.fromtimestamp(self.now(), datetime.UTC)
        state = SessionState.SUBMITTED
        after = entry.advance(state, at=at, entity_id=entity_id)
        if (after.state, after.entity_ids) != (entry.state, entry.entity_ids):
            await self.store.advance(
                entry.entry_id, state, at=at, entity_id=entity_id
            )


class StoringCreator:
    """
    Creates the sessions of a batch, and adds them to a store.

    Args:
        creator: The creator of sessions.
        stored: The store.
        scope: The campaign or loan.

    Attributes:
        prepare: The creator's method.
    """

    def __init__(
        self, creator: "SessionCreator", stored: StoredSessions, scope: str
    ) -> None:
        self._creator = creator
        self._stored = stored
        self._scope = scope
        self.prepare: Final = creator.prepare

    async def send(
        self,
        link_id: str,
        request: SessionRequest,
        retry: RetryPolicy | None,
        throttle: "Throttle",
    ) -> tuple[tuple[SessionRequest, Session], int]:
        """
        Send a request, and add an entry after an ambiguous error.
        """
        try:
            answer, attempts = await self._creator.send(
                link_id, request, retry, throttle
            )
        except BankConnectError as error:
            await self._stored.add_ambiguous(
                error, link_id, request, self._scope
            )
            raise
        session = self._creator.build(link_id, answer, attempts)
        return (request, session), attempts

    async def complete(
        self, result: tuple[tuple[SessionRequest, Session], int]
    ) -> Session:
        """
        Add a session to the store, durably, and return it.

        Raises:
            StoreError: If the store cannot be written; it has the session.
        """
        (request, session), _ = result
        await self._stored.add(session.link_id, request, session, self._scope)
        return session


def _not_stored(exc: Exception, session: Session | None) -> StoreError:
    # A store may raise one error for several sessions.
    reason = (
        exc.message
        if isinstance(exc, StoreError)
        else f"the store raised {type(exc).__name__}"
    )
    what = "an ambiguous create" if session is None else "a created session"
    error = StoreError(f"{what} is not stored: {reason}")
    error.session = session
    error.delivery = Delivery.CREATED_UNREADABLE
    return error
