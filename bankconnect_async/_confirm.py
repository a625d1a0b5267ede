"""
Whether a success that a browser told is one.
"""

from typing import TypeVar

import attrs

from ._api import Api, check_id
from ._made import Made
from .callbacks import Event, SuccessEvent
from .errors import InvalidRequestError, NotFoundError
from .schema import Session


E = TypeVar("E", bound=Event)


async def confirm(
    api: Api, made: Made, event: E, session: Session | None
) -> E:
    """
    Do what `AsyncBankConnect.confirm` says.
    """
    if not isinstance(event, SuccessEvent) or event.link_id is None:
        return event
    ids = [id_ for id_ in (event.session_id, event.entity_id) if id_]
    for session_id in ids:
        owner = (
            session.link_id
            if session is not None and session.session_id == session_id
            else made.owner(session_id)
        )
        if owner is not None:
            confirmed = owner == event.link_id and (
                await _is_uploaded(api, session_id)
            )
            return attrs.evolve(event, confirmed=confirmed)
    if event.entity_id is None:
        return event
    confirmed = await _owns(api, event.entity_id, event.link_id)
    return attrs.evolve(event, confirmed=confirmed)


async def _is_uploaded(api: Api, session_id: str) -> bool:
    # Imported late: who only creates sessions does without.
    from .sessions import SessionHandle  # noqa: PLC0415

    try:
        return await SessionHandle(api, session_id).is_uploaded()
    except NotFoundError:
        return False


async def _owns(api: Api, entity_id: str, link_id: str) -> bool:
    from .entities import EntityHandle  # noqa: PLC0415

    try:
        check_id("entity_id", entity_id)
    except InvalidRequestError:
        # What a browser made up.
        return False
    try:
        entity = await EntityHandle(api, entity_id).get()
    except NotFoundError:
        return False
    return entity.link_id == link_id
