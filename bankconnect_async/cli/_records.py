"""
What is written about a session, and about the lack of one.
"""

from typing import Any, Final

from bankconnect_async.errors import (
    AuthenticationError,
    BankConnectError,
    Delivery,
)
from bankconnect_async.schema import Session


_UNCERTAIN: Final = Delivery.AMBIGUOUS, Delivery.CREATED_UNREADABLE


def created_record(session: Session) -> dict[str, Any]:
    """Describe a session; its URL opens the journey, so keep it safe."""
    return {
        "link_id": session.link_id,
        "redirect_url": str(session.redirect_url),
        "session_id": session.session_id,
        "attempts": session.attempts,
    }


def failed_record(
    link_id: str | None, error: BankConnectError, *, line: int | None = None
) -> dict[str, Any]:
    """
    Describe why there is no session.

    Args:
        link_id: Whose, as far as it is known.
        error: The reason.
        line: Line number of the input, if there is one.
    """
    fields = getattr(error, "fields", {})
    return {
        "link_id": None if link_id is None else _printable(link_id),
        "error": {
            "line": line,
            "type": type(error).__name__,
            "code": getattr(error, "code", None),
            "message": _printable(str(error)),
            "fields": {
                _printable(name): list(map(_printable, texts))
                for name, texts in fields.items()
            },
            "status": getattr(error, "status", None),
            "delivery": error.delivery,
            "retry_after": getattr(error, "retry_after", None),
        },
    }


def explain(error: BankConnectError) -> str:
    """Say what happened, and what follows from it."""
    if isinstance(error, AuthenticationError):
        return f"{error}; check BANKCONNECT_API_KEY"
    if error.delivery in _UNCERTAIN:
        return f"{error}; a session may exist all the same"
    return str(error)


def _printable(text: str) -> str:
    # Bytes of a command line that are no UTF-8 come as lone surrogates,
    # which JSON cannot carry.
    return text.encode("utf-8", "replace").decode()
