"""
The result of processing each account of a session.

Pure.
"""

from typing import Final

import attrs

from bankconnect_async.sandbox.journey.journey import Journey

from .statements import AccountStatements, group_by_account


# The contract shows the text of the first code and describes the others.
_MESSAGES: Final = {
    "UNPARSABLE": "Failed to process because of an unparsable statement",
    "MISSING_TRANSACTIONS": "One or more transactions are missing in the "
    "specified date range",
    "NULL_ACCOUNT_NUMBER": "The account number could not be found",
    "BALANCE_MISMATCH": "The running balance does not add up",
}


@attrs.frozen
class AccountOutcome:
    """
    The result of processing one account.

    Attributes:
        group: The account and its statements.
        error_code: The code of the failure, if it failed.
        error_message: The text of the failure, if it failed.
    """

    group: AccountStatements
    error_code: str | None = None
    error_message: str | None = None

    @property
    def status(self) -> str:
        """The account's status."""
        return "failed" if self.error_code else "completed"

    @property
    def attempt_types(self) -> list[str]:
        """The ways in which statements came in."""
        return sorted({each.source.upper() for each in self.group.statements})


def account_outcomes(journey: Journey) -> list[AccountOutcome]:
    """
    Return the result of each account of a session.
    """
    return [
        _judge(journey, group)
        for group in group_by_account(journey.statements)
    ]


def _judge(journey: Journey, group: AccountStatements) -> AccountOutcome:
    code = journey.processing and journey.processing.error_code
    if code:
        text = _MESSAGES.get(code, "Failed to process the account")
        return AccountOutcome(group, code, text)
    if journey.accepts(group):
        return AccountOutcome(group)
    missing = ", ".join(group.missing_months(journey.requested_span))
    return AccountOutcome(
        group,
        "INCOMPLETE_MONTHS_UPLOAD",
        f"Statements are missing for {missing}",
    )


def are_insights_available(journey: Journey) -> bool:
    """
    Tell whether no account failed: the sandbox's customer rejects accounts.
    """
    return all(
        outcome.error_code is None for outcome in account_outcomes(journey)
    )
