"""
Check with the server a success that a browser reported.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

import attrs

from bankconnect_async.errors import InvalidRequestError, NotFoundError
from bankconnect_async.models._fields import wire_keys
from bankconnect_async.models.events import (
    MESSAGE_TYPE,
    Envelope,
    Event,
    LibraryCallback,
    LibraryStatus,
    ReturnQuery,
    Status,
    SuccessEvent,
)
from bankconnect_async.models.sessions import Session

from .base import ApiClient, check_id
from .entities import EntityHandle
from .sessions import SessionHandle
from .stored_sessions import StoredSessions


E = TypeVar("E", bound=Event)

# The most levels of objects in a documented message.
_LEVELS: Final = 2
_IDS: Final = ("session_id", "entity_id")
# The words in messages of a success.
_WORDS: Final = frozenset({MESSAGE_TYPE, *Status, *LibraryStatus, "true"})
_KEYS: Final = frozenset(
    key
    for cls in (Envelope, LibraryCallback, ReturnQuery, SuccessEvent)
    for keys in wire_keys(cls).values()
    for key in keys
)


async def confirm(
    api: ApiClient, stored: StoredSessions, event: E, session: Session | None
) -> E:
    """
    Implement `AsyncBankConnect.confirm`.
    """
    if not isinstance(event, SuccessEvent) or event.link_id is None:
        return event
    # One id may have both names.
    named = list(
        dict.fromkeys(id_ for name in _IDS if (id_ := getattr(event, name)))
    )
    found = {
        id_: entry
        for id_ in named
        if (entry := await stored.find(session_id=id_)) is not None
    }
    link_ids = {id_: entry.link_id for id_, entry in found.items()}
    if session is not None and session.session_id in named:
        link_ids[session.session_id] = session.link_id
    if any(owner != event.link_id for owner in link_ids.values()):
        return attrs.evolve(event, confirmed=False)
    entity_id = None if event.entity_id in link_ids else event.entity_id
    owner = await _entity_owner(api, entity_id) if entity_id else None
    if owner not in (None, event.link_id):
        return attrs.evolve(event, confirmed=False)
    # The server does not name the owner of a session that is not ours.
    checked = [
        id_
        for id_ in named
        if (id_ in link_ids and await _is_uploaded(api, id_))
        or (id_ == entity_id and owner is not None)
    ]
    if not checked:
        is_missing = any(id_ in link_ids or id_ == entity_id for id_ in named)
        return attrs.evolve(event, confirmed=False if is_missing else None)
    known = None
    if entity_id is not None and owner is not None:
        known = await stored.find(entity_id=entity_id)
    for id_, entry in found.items():
        # In the entity flow, the server has no uploads of a session. The
        # entity may be of an earlier journey, which is no success of this one.
        is_owner = known is None or known.entry_id == entry.entry_id
        if id_ in checked or (owner is not None and is_owner):
            await stored.submit(entry, entity_id if owner else None)
    unchecked: dict[str, Any] = {
        name: None for name in _IDS if getattr(event, name) not in checked
    }
    return attrs.evolve(
        event,
        confirmed=True,
        raw=_only(event.raw, {*_WORDS, *checked, event.link_id}),
        **unchecked,
    )


def _only(
    raw: Mapping[str, Any], true: Collection[str], levels: int = _LEVELS
) -> dict[str, Any]:
    """
    Return the parts of a message that are known to be true.
    """
    return {
        key: _only(value, true, levels - 1)
        if isinstance(value, Mapping)
        else value
        for key, value in raw.items()
        if key in _KEYS
        and (
            levels > 1 if isinstance(value, Mapping) else _is_any(value, true)
        )
    }


def _is_any(value: object, true: Collection[str]) -> bool:
    return isinstance(value, str) and value in true


async def _is_uploaded(api: ApiClient, session_id: str) -> bool:
    try:
        return await SessionHandle(api, session_id).is_uploaded()
    except NotFoundError:
        return False


async def _entity_owner(api: ApiClient, entity_id: str) -> str | None:
    try:
        check_id("entity_id", entity_id)
    except InvalidRequestError:
        # The browser invented it.
        return None
    try:
        entity = await EntityHandle(api, entity_id).get()
    except NotFoundError:
        return None
    # A proxy may shorten a path such as `theirs/../ours`.
    return entity.link_id if entity.entity_id == entity_id else None
