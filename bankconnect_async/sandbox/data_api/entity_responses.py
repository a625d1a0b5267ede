"""
The responses of the entity flow about the data of an entity.

Pure. The seed's responses have the fewer fields of its day.
"""

import datetime

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import attrs

from bankconnect_async.sandbox.fake_data import analyses, figures
from bankconnect_async.sandbox.fake_data.analyses import rupees
from bankconnect_async.sandbox.fake_data.ledgers import (
    FakeAccount,
    FakeTransaction,
)
from bankconnect_async.sandbox.http.errors import JsonObject
from bankconnect_async.sandbox.webhooks.notifications import EXTRACTION_FAILED

from . import fields
from .entity_table import EntityState
from .statements import AccountStatements


@attrs.frozen(kw_only=True)
class EntityQuery:
    """
    A request for the data of an entity.

    Attributes:
        entity: The entity.
        now: The time of the request.
        is_seed: Whether the response has the form of the seed's day.
        account_id: The one account that is asked for, if any.
        url_of: Returns the link to a stored file of the entity.
    """

    entity: EntityState
    now: datetime.datetime
    is_seed: bool
    account_id: str | None
    url_of: Callable[[str], str]

    @property
    def entity_id(self) -> str:
        """The entity's id."""
        return self.entity.record.entity_id

    @property
    def statuses(self) -> set[str]:
        """Every status that the processing of some statement has."""
        return {
            processing.status(self.now)
            for _, processing in self.entity.statements
        }

    @property
    def accounts(self) -> list[AccountStatements]:
        """The processed accounts, or the one that is asked for."""
        return [
            group
            for group in self.entity.accounts(self.now)
            if self.account_id in {None, group.account.account_id}
        ]

    @property
    def finished_accounts(self) -> list[AccountStatements]:
        """The accounts once all statements are processed, else none."""
        return [] if "processing" in self.statuses else self.accounts

    @property
    def rows(self) -> list[FakeTransaction]:
        """The transactions of all accounts, in order of time."""
        rows = [row for group in self.accounts for row in group.rows]
        return sorted(rows, key=lambda row: row.day)


Responder: TypeAlias = Callable[[EntityQuery], JsonObject]

# The fields of an account; later responses have more of them.
_SEED_ACCOUNT: Final = (
    "months statements account_id ifsc micr account_number bank"
)
_ACCOUNT: Final = f"{_SEED_ACCOUNT} account_category"
_DATED_ACCOUNT: Final = f"{_ACCOUNT} last_updated"
_FULL_ACCOUNT: Final = f"{_DATED_ACCOUNT} credit_limit"


def identity(account: FakeAccount, *, is_seed: bool) -> JsonObject:
    """
    Return the holder of an account.
    """
    names = fields.SEED_IDENTITY if is_seed else fields.IDENTITY
    return fields.account(account, names)


def _progress(query: EntityQuery, *, has_source: bool = True) -> JsonObject:
    entries = []
    for statement, processing in query.entity.statements:
        status = processing.status(query.now)
        entry = {
            "status": status,
            "message": EXTRACTION_FAILED if status == "failed" else None,
            "statement_id": statement.statement_id,
        }
        if has_source and not query.is_seed:
            entry["source"] = statement.source
        entries.append(entry)
    return {"entity_id": query.entity_id, "progress": entries}


def _accounts(query: EntityQuery, names: str) -> list[JsonObject]:
    names = _SEED_ACCOUNT if query.is_seed else names
    return [fields.group(group, names) for group in query.accounts]


def _head(query: EntityQuery, names: str = _DATED_ACCOUNT) -> JsonObject:
    fraud = "statement_id fraud_type"
    if not query.is_seed:
        fraud += " account_id fraud_category transaction_hash"
    found = fields.fraud(query.accounts, fraud)
    return {
        **_progress(query),
        "accounts": _accounts(query, names),
        "fraud": {
            "fraudulent_statements": [each["statement_id"] for each in found],
            "fraud_type": found,
        },
    }


def _identity(query: EntityQuery) -> JsonObject:
    response = _head(query)
    if not query.is_seed:
        for entry in response["progress"]:
            entry["transaction_status"] = entry["status"]
    response["identity"] = [
        identity(group.account, is_seed=query.is_seed)
        for group in query.accounts
    ]
    return response


def _transactions(
    is_included: Callable[[FakeTransaction], bool], names: str = ""
) -> Responder:
    return lambda query: {
        **_head(query),
        "transactions": fields.transactions(
            filter(is_included, query.rows), f"{fields.TRANSACTION} {names}"
        ),
    }


def _salary(query: EntityQuery) -> JsonObject:
    names = "clean_transaction_note month_year"
    response = _transactions(lambda row: row.is_salary, names)(query)
    for row in response["transactions"]:
        row["clean_transaction_note"] = row["clean_transaction_note"].title()
    return response


def _recurring(query: EntityQuery) -> JsonObject:
    names = fields.TRANSACTION.replace("merchant_category", "")
    return {
        **_head(query, _ACCOUNT),
        "transactions": fields.recurring(
            query.accounts, f"{names} clean_transaction_note"
        ),
    }


def _top(query: EntityQuery) -> JsonObject:
    return {
        f"top_5_{side}": {
            analyses.short_month(month): {
                row.narration: rupees(row.amount) for row in top
            }
            for month, top in analyses.top_five(query.rows, side).items()
        }
        for side in ("credit", "debit")
    }


def _monthly(rows: Sequence[FakeTransaction]) -> JsonObject:
    return figures.monthly_analysis(rows, "entity.monthly_analysis")


def _monthly_by_account(query: EntityQuery) -> JsonObject:
    return {
        **_progress(query),
        "accounts": _accounts(query, _ACCOUNT),
        "monthly_analysis": {
            "account_id": [
                {
                    group.account.account_id: {
                        "monthly_analysis": _monthly(group.rows)
                    }
                }
                for group in query.accounts
            ]
        },
    }


def _reports_without_source(query: EntityQuery) -> JsonObject:
    # The page was hidden before `progress` had sources.
    return {
        **_progress(query, has_source=False),
        "reports": fields.reports(query.finished_accounts, query.url_of),
    }


def _report(query: EntityQuery) -> JsonObject:
    progress = next(
        (each for each in ("failed", "processing") if each in query.statuses),
        "completed",
    )
    return {
        "entity_id": query.entity_id,
        "progress": progress,
        "report": query.url_of("all.xlsx") if progress == "completed" else "",
    }


def _pdfs(query: EntityQuery) -> JsonObject:
    statements = [statement for statement, _ in query.entity.statements]
    return {
        "statements": fields.stored_pdfs(statements, query.url_of, query.now)
    }


def _after_progress(
    name: str, content: Callable[[EntityQuery], object]
) -> Responder:
    return lambda query: {**_progress(query), name: content(query)}


def _by_account(
    name: str, content: Callable[[AccountStatements], object]
) -> Responder:
    return _after_progress(
        name,
        lambda query: fields.by_account(
            query.finished_accounts, name, content
        ),
    )


_COMMON: Final[Mapping[str, Responder]] = {
    "accounts": lambda query: _head(query, _FULL_ACCOUNT),
    "identity": _identity,
    "transactions": _transactions(lambda _: True),
    "salary": _salary,
    "recurring_transactions": _recurring,
    "lender_transactions": _transactions(lambda row: row.is_of_lender),
    "monthly_analysis": _after_progress(
        "monthly_analysis",
        lambda query: _monthly(
            analyses.merged([group.rows for group in query.accounts])
        ),
    ),
    "raw_excel_report": _reports_without_source,
}
#: The responses about an entity on the seed's day, by the path's last part.
SEED_RESPONSES: Final[Mapping[str, Responder]] = {
    **_COMMON,
    "get_excel_report": _report,
}
#: The responses since then, those of withdrawn pages included.
CURRENT_RESPONSES: Final[Mapping[str, Responder]] = {
    **_COMMON,
    "get_expense_categories": _after_progress(
        "categories", lambda query: fields.expense_categories(query.rows)
    ),
    "top_credits_debits": _after_progress("top_5_credit_debit", _top),
    "monthly_analysis_updated": _monthly_by_account,
    "rolling_monthly_analysis": _after_progress(
        "monthly_analysis",
        lambda query: {"monthly_analysis": analyses.rolling(query.rows)},
    ),
    "xlsx_report": _after_progress(
        "reports",
        lambda query: fields.reports(query.finished_accounts, query.url_of),
    ),
    "predictors": _by_account(
        "predictors",
        lambda group: figures.predictors(
            group.account, group.rows, "entity.predictors"
        ),
    ),
    # The page shows the score as a text (contract, U-25).
    "score": _by_account(
        "score", lambda group: str(analyses.score(group.account))
    ),
    "get_pdfs": _pdfs,
}
#: The responses that can be about one account (contract, rest-api section 7).
BY_ACCOUNT: Final = frozenset(
    {
        "transactions",
        "salary",
        "recurring_transactions",
        "lender_transactions",
        "get_expense_categories",
    }
)
