"""
The responses of the entity flow about the data of an entity.

Pure. The seed's responses have the fewer fields of its day.
"""

import datetime

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import attrs

from bankconnect_async.sandbox.fake_data import analyses
from bankconnect_async.sandbox.fake_data.analyses import rupees
from bankconnect_async.sandbox.fake_data.ledgers import (
    FakeAccount,
    FakeTransaction,
)
from bankconnect_async.sandbox.http.errors import JsonObject
from bankconnect_async.sandbox.webhooks.notifications import EXTRACTION_FAILED

from .entity_table import EntityState
from .fields import (
    IDENTITY,
    TRANSACTION,
    account_fields,
    expense_categories,
    group_fields,
    pick,
    pick_all,
    recurring,
    reports,
    statement_fields,
    stored_pdfs,
)
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
        presigned_url: Makes a link to a stored file of its path.
    """

    entity: EntityState
    now: datetime.datetime
    is_seed: bool
    account_id: str | None
    presigned_url: Callable[[str], str]

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

    def url_of(self, name: str) -> str:
        """Return a link to a stored file of the entity."""
        return self.presigned_url(f"{self.entity_id}/{name}")


Responder: TypeAlias = Callable[[EntityQuery], JsonObject]

_ACCOUNT: Final = (
    "months statements account_id ifsc micr account_number account_category "
    "credit_limit bank last_updated"
)


def identity(account: FakeAccount, *, is_seed: bool) -> JsonObject:
    """
    Return the holder of an account.
    """
    return pick(
        account_fields(account),
        IDENTITY,
        without="account_category credit_limit" if is_seed else "",
    )


def _progress(query: EntityQuery, *, without: str = "") -> JsonObject:
    entries = [
        {
            "status": (status := processing.status(query.now)),
            "message": EXTRACTION_FAILED if status == "failed" else None,
            "statement_id": statement.statement_id,
            "source": statement.source,
        }
        for statement, processing in query.entity.statements
    ]
    names = "status message statement_id source"
    without = "source" if query.is_seed else without
    return {
        "entity_id": query.entity_id,
        "progress": [pick(each, names, without=without) for each in entries],
    }


def _accounts(query: EntityQuery, without: str) -> list[JsonObject]:
    if query.is_seed:
        without = "account_category credit_limit last_updated"
    return [
        pick(group_fields(group), _ACCOUNT, without=without)
        for group in query.accounts
    ]


def _fraud(query: EntityQuery) -> JsonObject:
    statements = [
        statement_fields(statement)
        for group in query.accounts
        for statement in group.statements
        if statement.fraud_type is not None
    ]
    names = "statement_id fraud_type"
    if not query.is_seed:
        names += " account_id fraud_category transaction_hash"
    return {
        "fraudulent_statements": [each["statement_id"] for each in statements],
        "fraud_type": [pick(each, names) for each in statements],
    }


def _head(query: EntityQuery, *, without: str = "credit_limit") -> JsonObject:
    return {
        **_progress(query),
        "accounts": _accounts(query, without),
        "fraud": _fraud(query),
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
    query: EntityQuery,
    is_included: Callable[[FakeTransaction], bool] = lambda _: True,
    names: str = TRANSACTION,
) -> JsonObject:
    rows = filter(is_included, query.rows)
    return {**_head(query), "transactions": pick_all(rows, names)}


def _salary(query: EntityQuery) -> JsonObject:
    names = f"{TRANSACTION} clean_transaction_note month_year"
    response = _transactions(query, lambda row: row.is_salary, names)
    for row in response["transactions"]:
        row["clean_transaction_note"] = row["clean_transaction_note"].title()
    return response


def _recurring(query: EntityQuery) -> JsonObject:
    names = f"{TRANSACTION} clean_transaction_note".replace(
        "merchant_category ", ""
    )
    return {
        **_head(query, without="credit_limit last_updated"),
        "transactions": recurring(query.accounts, names, "credit", "debit"),
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


def _monthly_by_account(query: EntityQuery) -> JsonObject:
    return {
        **_progress(query),
        "accounts": _accounts(query, "credit_limit last_updated"),
        "monthly_analysis": {
            "account_id": [
                {
                    group.account.account_id: {
                        "monthly_analysis": analyses.monthly_analysis(
                            group.rows
                        )
                    }
                }
                for group in query.accounts
            ]
        },
    }


def _reports_without_source(query: EntityQuery) -> JsonObject:
    # The page was hidden before `progress` had sources.
    return {
        **_progress(query, without="source"),
        "reports": reports(query.finished_accounts, query.url_of),
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
    return {"statements": stored_pdfs(statements, query.url_of, query.now)}


def _after_progress(
    name: str, content: Callable[[EntityQuery], object]
) -> Responder:
    return lambda query: {**_progress(query), name: content(query)}


def _by_account(
    name: str, content: Callable[[AccountStatements], object]
) -> Responder:
    return _after_progress(
        name,
        lambda query: [
            {"account_id": group.account.account_id, name: content(group)}
            for group in query.finished_accounts
        ],
    )


_COMMON: Final[Mapping[str, Responder]] = {
    "accounts": lambda query: _head(query, without=""),
    "identity": _identity,
    "transactions": _transactions,
    "salary": _salary,
    "recurring_transactions": _recurring,
    "lender_transactions": lambda query: _transactions(
        query, lambda row: row.is_of_lender
    ),
    "monthly_analysis": _after_progress(
        "monthly_analysis",
        lambda query: analyses.monthly_analysis(query.rows),
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
        "categories", lambda query: expense_categories(query.rows)
    ),
    "top_credits_debits": _after_progress("top_5_credit_debit", _top),
    "monthly_analysis_updated": _monthly_by_account,
    "rolling_monthly_analysis": _after_progress(
        "monthly_analysis",
        lambda query: {"monthly_analysis": analyses.rolling(query.rows)},
    ),
    "xlsx_report": _after_progress(
        "reports",
        lambda query: reports(query.finished_accounts, query.url_of),
    ),
    "predictors": _by_account(
        "predictors",
        lambda group: analyses.predictors(group.account, group.rows),
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
