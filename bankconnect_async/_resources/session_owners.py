"""
Which customer a session was created for.
"""

from collections import OrderedDict
from typing import Final

from bankconnect_async.models.sessions import Session


# A session lives for hours; customers come back within them.
_REMEMBERED: Final = 10_000


class SessionOwners:
    """
    Whose the latest sessions are.
    """

    def __init__(self) -> None:
        self._owners: OrderedDict[str, str] = OrderedDict()

    def note(self, session: Session) -> None:
        """Remember *session*, and forget the oldest."""
        if session.session_id is None:
            return
        self._owners[session.session_id] = session.link_id
        if len(self._owners) > _REMEMBERED:
            self._owners.popitem(last=False)

    def owner(self, session_id: str) -> str | None:
        """Return the `link_id` that a session was created for."""
        return self._owners.get(session_id)
