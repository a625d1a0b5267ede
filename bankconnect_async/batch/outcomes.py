"""
The inputs and the outcomes of a batch.
"""

from collections.abc import AsyncIterable, Iterable
from typing import TypeAlias

import attrs

from bankconnect_async.errors import (
    BankConnectError,
    BatchStoppedError,
    InvalidRequestError,
)
from bankconnect_async.models.sessions import Session, SessionRequest


Item: TypeAlias = SessionRequest | str
Source: TypeAlias = Iterable[Item] | AsyncIterable[Item]


@attrs.frozen(kw_only=True)
class Created:
    """
    An input for which a session was created.

    Attributes:
        index: The position of the input in the source, from 0.
        item: The input as it was given.
        session: The session.
        request: The request that created it.
        seconds: The duration of the last attempt, if it was measured.
    """

    index: int
    item: Item
    session: Session
    # Bare link ids share one request; `request` fills in the link id.
    _request: SessionRequest = attrs.field(
        alias="request", repr=False, eq=False
    )
    seconds: float | None = attrs.field(default=None, eq=False)

    @property
    def request(self) -> SessionRequest:
        """The request that created the session."""
        if self._request.link_id == self.session.link_id:
            return self._request
        return self._request.with_link_id(self.session.link_id)

    @property
    def link_id(self) -> str:
        """Your id of the customer."""
        return self.session.link_id


@attrs.frozen(kw_only=True)
class Failed:
    """
    An input for which there is no session.

    Attributes:
        index: The position of the input in the source, from 0.
        item: The input as it was given.
        request: The request; `None` if *item* makes no valid one.
        error: The reason; its `delivery` says whether the server may have
            created a session all the same.
    """

    index: int
    item: Item
    request: SessionRequest | None
    error: BankConnectError

    @property
    def link_id(self) -> str | None:
        """Your id of the customer, if *item* has one."""
        if self.request is not None:
            return self.request.link_id
        if isinstance(self.item, SessionRequest):
            return self.item.link_id
        return self.item if isinstance(self.item, str) else None


Outcome: TypeAlias = Created | Failed


def failed_outcome(
    index: int,
    item: Item,
    request: SessionRequest | None,
    error: BankConnectError,
) -> Failed:
    """
    Return the outcome of an item that failed.

    Args:
        index: The position of the item in the source.
        item: The item.
        request: Its request, which may be the one that all bare link ids
            share; `None` if there is no valid one.
        error: The reason.
    """
    if request is not None and isinstance(item, str):
        request = request.with_link_id(item)
    return Failed(index=index, item=item, request=request, error=error)


def batch_stopped_error(cause: BankConnectError) -> BatchStoppedError:
    """Return the error of an item that comes after the batch was aborted."""
    return BatchStoppedError(
        f"not sent: the batch was stopped, because {cause.message}"
    )


def duplicate_error(line: int) -> InvalidRequestError:
    """
    Return the error of a link id that an earlier line has, too.
    """
    return InvalidRequestError(
        fields={"link_id": (f"was given before, on line {line}; remove one",)}
    )
