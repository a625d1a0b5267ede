"""
The result of processing each account of a session.

Pure.
"""

import json

import attrs

from bankconnect_async.sandbox.fake_data.ledgers import months
from bankconnect_async.sandbox.journey.journey import Journey
from bankconnect_async.sandbox.messages import read_message

from .statements import AccountStatements, group_by_account


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
    if not code:
        if journey.accepts(group):
            return AccountOutcome(group)
        code = "INCOMPLETE_MONTHS_UPLOAD"
    text = read_message("account", code)["text"]
    return AccountOutcome(group, code, text.format(**_gaps(journey, group)))


def _gaps(journey: Journey, group: AccountStatements) -> dict[str, str]:
    requested = journey.requested_span
    # An account may be made to fail for gaps that it does not have.
    gaps = group.missing(requested) or [requested]
    affected = [f"{month:%b %Y}" for month in months(gaps)]
    covered = {f"{month:%b %Y}" for month in months(group.spans)}
    dates: dict[str, list[int]] = {month: [] for month in affected}
    for gap in gaps:
        for day in gap.days:
            dates[f"{day:%b %Y}"].append(day.day)
    whole = [month for month in affected if month not in covered]
    return {
        "months": ", ".join(whole or affected),
        "dates": json.dumps(dates),
    }


def are_insights_available(journey: Journey) -> bool:
    """
    Tell whether no account failed: the sandbox's customer rejects accounts.
    """
    return all(
        outcome.error_code is None for outcome in account_outcomes(journey)
    )
