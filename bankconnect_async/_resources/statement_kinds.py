"""
The kinds of statement data that can be fetched by name.
"""

import datetime
import inspect

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

import attrs

from bankconnect_async import models
from bankconnect_async.models import Insights, Rows

from .entities import EntityHandle
from .sessions import SessionHandle


T = TypeVar("T")


@attrs.frozen
class Kind:
    """
    One kind of data of an entity or a session.

    Attributes:
        method: The method of the handle that fetches it.
        path: The path of the rows in its response; in a session's insights,
            the path in each account. Empty if the response is the rows.
        row_type: The class of the rows; `None` if it has none.
    """

    method: str
    path: str = ""
    row_type: type | None = None


ENTITY_KINDS: Final[Mapping[str, Kind]] = {
    "accounts": Kind("accounts", "accounts", models.Account),
    "expense-categories": Kind(
        "expense_categories", "categories", models.ExpenseCategory
    ),
    "fraud": Kind("accounts", "fraud.findings", models.FraudFinding),
    "identity": Kind("identity", "identities", models.Identity),
    "lender-transactions": Kind(
        "lender_transactions", "transactions", models.Transaction
    ),
    "monthly-analysis": Kind("monthly_analysis_updated"),
    "pdfs": Kind("pdfs", "", models.StoredPdf),
    "predictors": Kind("predictors"),
    "recurring-transactions": Kind("recurring_transactions"),
    "reports": Kind("xlsx_report", "reports", models.Report),
    "salary": Kind("salary", "transactions", models.SalaryTransaction),
    "score": Kind("score", "scores", models.AccountScore),
    "top-credits-debits": Kind("top_credits_debits"),
    "transactions": Kind("transactions", "transactions", models.Transaction),
}
SESSION_KINDS: Final[Mapping[str, Kind]] = {
    "accounts": Kind("status", "accounts", models.SessionAccount),
    "expense-categories": Kind(
        "insights", "expense_categories", models.ExpenseCategory
    ),
    "fraud": Kind("insights", "fraud", models.FraudFinding),
    "identity": Kind("insights", "account_details", models.AccountDetails),
    "insights": Kind("insights"),
    "lender-transactions": Kind(
        "insights", "lender_transactions", models.Transaction
    ),
    "pdfs": Kind("pdfs", "", models.StoredPdf),
    "progress": Kind("progress", "progress", models.StatementStages),
    "reports": Kind("xlsx_report", "reports", models.Report),
    "salary": Kind(
        "insights", "salary_transactions", models.SalaryTransaction
    ),
    "transactions": Kind("insights", "transactions", models.Transaction),
    "upload-status": Kind("upload_status", "accounts", models.SessionAccount),
}

# What can be left out of a session's insights.
_FILTERS: Final = ("account_id", "from_date", "to_date")


def filters_of(handle: EntityHandle | SessionHandle, kind: Kind) -> set[str]:
    """
    Return the filters that `fetch_kind` takes for *kind*.
    """
    if kind.method == "insights" and kind.row_type is not None:
        return {*_FILTERS}
    return {*inspect.signature(getattr(handle, kind.method)).parameters}


async def fetch_kind(
    handle: EntityHandle | SessionHandle, kind: Kind, **filters: Any
) -> Rows[Any] | Mapping[str, Any]:
    """
    Fetch one kind of data of an entity or a session.

    Args:
        handle: The entity or session.
        kind: The kind, one of its flow.
        filters: Any of `filters_of`: *account_id*, *from_date*, *to_date*.

    Returns:
        The rows; those of a session's insights carry the id of their account.
        For a kind without rows: the document as received.
    """
    call = getattr(handle, kind.method)
    if kind.row_type is None:
        document: Mapping[str, Any] = (await call(**filters)).raw
        return document
    if kind.method == "insights":
        return read_rows(await call(), kind, kind.row_type, **filters)
    return read_rows(await call(**filters), kind, kind.row_type)


def read_rows(
    response: Any, kind: Kind, row_type: type[T], **filters: Any
) -> Rows[T]:
    """
    Return the rows of one kind in a response.

    Args:
        response: The response to the method of *kind*.
        kind: The kind.
        row_type: The class of its rows.
        filters: What to keep of a session's insights: *account_id*,
            *from_date*, *to_date*.
    """
    if isinstance(response, Insights):
        return Rows(row_type, _of_insights(response, kind.path, **filters))
    for name in filter(None, kind.path.split(".")):
        response = getattr(response, name, None)
    return Rows(row_type, response or ())


def _of_insights(
    insights: Insights,
    path: str,
    account_id: str | None = None,
    from_date: datetime.date | None = None,
    to_date: datetime.date | None = None,
) -> Iterator[Any]:
    by_date = from_date is not None or to_date is not None
    first, last = from_date or datetime.date.min, to_date or datetime.date.max
    for account in insights.accounts:
        if account_id not in {None, account.account_id}:
            continue
        value = getattr(account, path)
        owner = {"account_id": account.account_id}
        for row in value if isinstance(value, tuple) else (value,):
            if row is None:
                continue
            date = getattr(row, "date", None)
            if not by_date or (date and first <= date.date() <= last):
                yield attrs.evolve(row, **owner, raw={**owner, **row.raw})
