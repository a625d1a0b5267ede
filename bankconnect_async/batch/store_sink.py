"""
Resume a batch by what the client's store has.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from bankconnect_async._compact_map import CompactMap
from bankconnect_async.errors import ConfigurationError
from bankconnect_async.models.sessions import SessionRequest

from .outcomes import Outcome, duplicate_error


if TYPE_CHECKING:
    from bankconnect_async._resources.stored_sessions import StoredSessions
    from bankconnect_async.store import SessionKey, SessionStore

    from .protocols import ResultSink

# Lines of the input begin at 1.
_IS_STORED: Final = 0


class StoreSink:
    """
    Skips the inputs whose session is in the client's store.

    The client adds sessions to its store before it hands them out, so there
    is nothing to record. An ambiguous entry counts as failed, as it does in a
    `Journal`.

    Args:
        stored: The sessions of the client.
        scope: The campaign or loan.

    Attributes:
        is_resumable: True.
        unrecorded: 0.
    """

    is_resumable: bool = True
    unrecorded: int = 0

    def __init__(self, stored: "StoredSessions", scope: str) -> None:
        self._stored = stored
        self._scope = scope
        self._lines = CompactMap()

    @asynccontextmanager
    async def opened_for(
        self, _api: str, /, **_options: object
    ) -> AsyncIterator[None]:
        """
        Read which sessions of the client's account there are.

        Raises:
            StoreError: If the store cannot be read.
        """
        stored = self._stored
        self._lines = CompactMap()
        async for entry in stored.store.entries(api_id=stored.api_id):
            if entry.key.scope == self._scope and not entry.is_ambiguous:
                self._lines.exchange(_text(entry.key), _IS_STORED)
        yield

    def begin(
        self, index: int, request: SessionRequest, /, *, link_id: str | None
    ) -> bool:
        """
        Tell whether the session of an input is still to be created.

        Args:
            index: The index of the input, from 0.
            request: The request, the client's settings included.
            link_id: The customer, if not the one of *request*.

        Raises:
            InvalidRequestError: If an earlier input is for the same session.
        """
        key = self._stored.key(
            link_id or request.link_id, request, self._scope
        )
        text = _text(key)
        before = self._lines.get(text)
        if before is None:
            self._lines.exchange(text, index + 1)
            return True
        if before == _IS_STORED:
            return False
        raise duplicate_error(before)

    def record_all(self, _outcomes: Sequence[Outcome], /) -> None:
        """Do nothing: the client's store has them."""

    async def drain(self) -> None:
        """Do nothing: nothing waits."""

    def describe_unrecorded(self) -> str:
        """Return an empty text: nothing waits."""
        return ""


def make_sink(
    journal: "ResultSink[Any, Any] | SessionStore",
    stored: "StoredSessions",
    scope: str,
) -> "ResultSink[Any, Any]":
    """
    Make the sink of a batch.

    Args:
        journal: The sink, or the store of *stored*.
        stored: The sessions of the client.
        scope: The campaign or loan.

    Raises:
        ConfigurationError: If *journal* is another store, or no sink.
    """
    if journal is stored.store:
        return StoreSink(stored, scope)
    if hasattr(journal, "opened_for"):
        return cast("ResultSink[Any, Any]", journal)
    problem = (
        "is another store than the client's: give it to the client, too"
        if hasattr(journal, "reserve")
        else "must be a Journal, the client's store or another ResultSink"
    )
    raise ConfigurationError(fields={"journal": (problem,)})


def _text(key: "SessionKey") -> str:
    return f"{key.request_digest} {key.link_id}"
