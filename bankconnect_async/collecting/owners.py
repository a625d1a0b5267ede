"""
The sessions and entities of an input.
"""

import datetime

from typing import Any, Final, TypeAlias

import attrs

from bankconnect_async._resources.base import ApiClient
from bankconnect_async._resources.entities import EntityHandle
from bankconnect_async._resources.sessions import SessionHandle
from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.journal.records import CreatedRecord, FailedRecord
from bankconnect_async.models import Entity
from bankconnect_async.models.sessions import Session, mask_id
from bankconnect_async.store.entries import SessionEntry

from .kinds import Flow


#: What tells a session or an entity.
CollectItem: TypeAlias = (
    str
    | Session
    | SessionEntry
    | CreatedRecord
    | FailedRecord
    | SessionHandle
    | EntityHandle
    | Entity
)

#: How long the vendor keeps PDFs (contract, `rest-api.md` section 2).
PDF_LIFETIME: Final = datetime.timedelta(days=30)


@attrs.frozen(kw_only=True)
class Owner:
    """
    A session or an entity, whose data is to be fetched.

    Attributes:
        flow: The flow.
        id: The id of the session or entity.
        link_id: Your id of the customer, if known.
        created_at: When the session was created, if known.
    """

    flow: Flow
    id: str = attrs.field(repr=mask_id)
    link_id: str | None = None
    created_at: datetime.datetime | None = None

    @property
    def pdfs_deleted_at(self) -> datetime.datetime | None:
        """When the vendor deletes the PDFs at the earliest, if known."""
        try:
            return self.created_at and self.created_at + PDF_LIFETIME
        except OverflowError:
            # A file may hold any time.
            return None

    def handle(self, api: ApiClient) -> EntityHandle | SessionHandle:
        """
        Return the handle.

        Raises:
            InvalidRequestError: If the id cannot be one.
        """
        cls = EntityHandle if self.flow == "entity" else SessionHandle
        return cls(api, self.id)


def find_owners(item: Any, flow: Flow) -> tuple[Owner, ...]:
    """
    Return the sessions and entities of an input.

    A record of a failed input has none.

    Args:
        item: The input.
        flow: The flow of ids that are bare texts.

    Raises:
        InvalidRequestError: If the input has no id.
    """
    match item:
        case str():
            return (Owner(flow=flow, id=item),)
        case FailedRecord():
            return ()
        case SessionHandle():
            return (Owner(flow="session", id=item.session_id),)
        case EntityHandle():
            return (Owner(flow="entity", id=item.entity_id),)
        case Entity():
            return (
                Owner(flow="entity", id=item.entity_id, link_id=item.link_id),
            )
    return _find_stored(item)


def _find_stored(item: Any) -> tuple[Owner, ...]:
    created_at: datetime.datetime | None = None
    entity_ids: tuple[str, ...] = ()
    match item:
        case Owner():
            return (item,)
        case InvalidRequestError():
            # What a reader of a file could not use.
            raise item
        case Session():
            session_id = item.session_id
        case CreatedRecord():
            session_id, created_at = item.session.session_id, item.at
        case SessionEntry():
            session_id, created_at = item.session_id, item.created_at
            entity_ids = item.entity_ids
        case _:
            raise InvalidRequestError(
                f"give a session or an id, which is a text, not "
                f"{type(item).__name__}"
            )
    facts = {"link_id": item.link_id, "created_at": created_at}
    if entity_ids:
        # In the entity flow a session has an id, too, that finds no data.
        return tuple(
            Owner(flow="entity", id=each, **facts) for each in entity_ids
        )
    if session_id is None:
        raise InvalidRequestError(
            fields={"session_id": ("is unknown: give an entity_id",)}
        )
    return (Owner(flow="session", id=session_id, **facts),)
