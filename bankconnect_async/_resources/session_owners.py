"""
Memory of which customer a session was created for.
"""

from collections import OrderedDict
from typing import Final

from bankconnect_async.models.sessions import Session


# Sessions live for hours, and customers return within them.
_REMEMBERED: Final = 10_000


class SessionOwners:
    """
    Remembers the `link_id` of recently created sessions (the newest 10,000).
    """

    def __init__(self) -> None:
        self._owners: OrderedDict[str, str] = OrderedDict()

    def remember(self, session: Session) -> None:
        """Remember the owner of *session*, and forget the oldest one."""
        if session.session_id is None:
            return
        self._owners[session.session_id] = session.link_id
        if len(self._owners) > _REMEMBERED:
            self._owners.popitem(last=False)

    def owner(self, session_id: str) -> str | None:
        """Return the `link_id` that a session was created for."""
        return self._owners.get(session_id)
