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
from .session_creation import SessionOwners
from .sessions import SessionHandle


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
    api: ApiClient, owners: SessionOwners, event: E, session: Session | None
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
    link_ids = {id_: _owner(owners, id_, session) for id_ in named}
    if any(owner not in (None, event.link_id) for owner in link_ids.values()):
        return attrs.evolve(event, confirmed=False)
    checked, missing = [], False
    for id_ in named:
        if link_ids[id_] is not None:
            is_good = await _is_uploaded(api, id_)
        elif id_ == event.entity_id:
            owner = await _entity_owner(api, id_)
            if owner not in (None, event.link_id):
                return attrs.evolve(event, confirmed=False)
            is_good = owner is not None
        else:
            # The server does not name the owner of a session.
            continue
        if is_good:
            checked.append(id_)
        else:
            missing = True
    if not checked:
        return attrs.evolve(event, confirmed=False if missing else None)
    unchecked: dict[str, Any] = {
        name: None for name in _IDS if getattr(event, name) not in checked
    }
    return attrs.evolve(
        event,
        confirmed=True,
        raw=_only(event.raw, {*_WORDS, *checked, event.link_id}),
        **unchecked,
    )


def _owner(
    owners: SessionOwners, id_: str, session: Session | None
) -> str | None:
    if session is not None and session.session_id == id_:
        return session.link_id
    return owners.owner(id_)


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
