"""
How processing ended, account by account (session flow).

Pure.
"""

from typing import Final

import attrs

from bankconnect_async.sandbox.journey.journey import Journey

from .statements import AccountStatements, group_by_account


# Texts of the codes that the contract shows one of, or describes.
_MESSAGES: Final = {
    "UNPARSABLE": "Failed to process because of an unparsable statement",
    "MISSING_TRANSACTIONS": "One or more transactions are missing in the "
    "specified date range",
    "NULL_ACCOUNT_NUMBER": "The account number could not be found",
    "BALANCE_MISMATCH": "The running balance does not add up",
}
_MONTHS_MISSING: Final = "INCOMPLETE_MONTHS_UPLOAD"


@attrs.frozen(kw_only=True)
class Outcome:
    """
    How processing of one account ended.

    Attributes:
        group: The account and its statements.
        error_code: What is wrong, if something is.
        error_message: The same in words.
    """

    group: AccountStatements
    error_code: str | None = None
    error_message: str | None = None

    @classmethod
    def of(cls, journey: Journey, group: AccountStatements) -> "Outcome":
        """
        Judge an account by what was told to happen, then by the rules.
        """
        told = journey.processing and journey.processing.error_code
        if told:
            message = _MESSAGES.get(told, "Failed to process the account")
            return cls(group=group, error_code=told, error_message=message)
        if journey.accepts(group):
            return cls(group=group)
        missing = ", ".join(group.missing_months(journey.requested_span))
        return cls(
            group=group,
            error_code=_MONTHS_MISSING,
            error_message=f"Statements are missing for {missing}",
        )

    @property
    def status(self) -> str:
        """The word for it."""
        return "failed" if self.error_code else "completed"

    @property
    def attempt_types(self) -> list[str]:
        """How statements came in."""
        return sorted(
            {statement.source.upper() for statement in self.group.statements}
        )


def outcomes(journey: Journey) -> list[Outcome]:
    """
    Return how each account of a journey ended.
    """
    return [
        Outcome.of(journey, group)
        for group in group_by_account(journey.statements)
    ]


def are_insights_available(journey: Journey) -> bool:
    """
    Tell whether no account failed: the sandbox's customer rejects accounts.
    """
    return all(outcome.error_code is None for outcome in outcomes(journey))
