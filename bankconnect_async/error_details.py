"""
Values in the attributes of errors, imported when an error has some.
"""

import attrs

from .errors import Delivery, Phase


@attrs.frozen(kw_only=True)
class Attempt:
    """
    One attempt of an operation, in the timeline of an error.

    Attributes:
        number: The number of the attempt; 1 for the first.
        phase: How far it came.
        delivery: Whether the server can have processed it.
        reason: The problem, in one short line.
        status: The HTTP status, if the server responded.
        wait: The seconds of the wait after it; `None` for the last one.
        tokens: The tokens left in the client's retry budget afterwards.
        stopped: The reason why no further attempt was made; `None` if one was.
    """

    number: int
    phase: Phase
    delivery: Delivery
    reason: str
    status: int | None = None
    wait: float | None = None
    tokens: float | None = None
    stopped: str | None = None


@attrs.frozen(kw_only=True)
class Failure:
    """
    A statement or account whose processing failed, and the reason.

    Attributes:
        statement_id: The id of the statement; `None` if the failure is about
            an account.
        account_id: The id of the account, where the vendor names one.
        code: The vendor's code, if there is one (contract, `webhooks.md`).
        message: The vendor's text.
    """

    statement_id: str | None = None
    account_id: str | None = None
    code: str | None = None
    message: str | None = None
