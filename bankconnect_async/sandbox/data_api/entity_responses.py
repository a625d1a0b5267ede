"""
What the entity flow answers about the data of an entity.

Pure. The seed's answers have fewer fields, as on its day.
"""

import datetime

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

from bankconnect_async.sandbox.fake_data import analyses
from bankconnect_async.sandbox.fake_data.analyses import money
from bankconnect_async.sandbox.fake_data.ledgers import (
    FakeAccount,
    FakeTransaction,
)
from bankconnect_async.sandbox.http.errors import JsonObject
from bankconnect_async.sandbox.webhooks.notifications import EXTRACTION_FAILED

from .entity_table import EntityState
from .statements import AccountStatements, Processing, UploadedStatement


@attrs.frozen(kw_only=True)
class EntityQuery:
    """
    What is asked, and when.

    Attributes:
        file: About whom.
        now: The time.
        is_seed: Whether the seed's vendor is asked.
        account_id: The one account that is asked for.
        link: Makes a link to a stored file.
    """

    file: EntityState
    now: datetime.datetime
    is_seed: bool
    account_id: str | None
    link: Callable[[str], str]

    @property
    def accounts(self) -> list[AccountStatements]:
        """The accounts that are there, the one asked for if one is."""
        return [
            group
            for group in self.file.completed(self.now)
            if self.account_id in {None, group.account.account_id}
        ]

    @property
    def is_processed(self) -> bool:
        """Whether nothing is still to come."""
        return all(
            processing.is_over(self.now)
            for _, processing in self.file.statements
        )

    def all_rows(self) -> list[tuple[FakeAccount, FakeTransaction]]:
        """Return what happened on all accounts, in order of time."""
        found = [
            (group.account, row)
            for group in self.accounts
            for row in group.rows
        ]
        return sorted(found, key=lambda pair: pair[1].day)

    def rows(self) -> list[FakeTransaction]:
        """Return the same without the accounts."""
        return [row for _, row in self.all_rows()]


Answerer: TypeAlias = Callable[[EntityQuery], JsonObject]


def _progress(question: EntityQuery) -> JsonObject:
    return {
        "entity_id": question.file.record.entity_id,
        "progress": [
            _progress_entry(question, statement, processing)
            for statement, processing in question.file.statements
        ],
    }


def _progress_entry(
    question: EntityQuery, statement: UploadedStatement, processing: Processing
) -> JsonObject:
    word = processing.status(question.now)
    entry = {
        "status": word,
        "message": EXTRACTION_FAILED if word == "failed" else None,
        "statement_id": statement.statement_id,
    }
    return entry if question.is_seed else {**entry, "source": statement.source}


def _accounts(question: EntityQuery, *without: str) -> list[JsonObject]:
    return [
        {
            name: value
            for name, value in _account(question, group).items()
            if name not in without
        }
        for group in question.accounts
    ]


def _account(question: EntityQuery, group: AccountStatements) -> JsonObject:
    account = group.account
    shown = {
        "months": group.months,
        "statements": [
            statement.statement_id for statement in group.statements
        ],
        "account_id": account.account_id,
        "ifsc": account.ifsc,
        "micr": account.micr,
        "account_number": account.number,
        "account_category": "individual",
        "credit_limit": 0,
        "bank": account.bank,
        "last_updated": f"{utc(group.updated_at):%Y-%m-%dT%H:%M:%S.%f}Z",
    }
    if question.is_seed:
        for name in ("account_category", "credit_limit", "last_updated"):
            del shown[name]
    return shown


def utc(moment: datetime.datetime) -> datetime.datetime:
    """
    Return *moment* in UTC.
    """
    return moment.astimezone(datetime.UTC)


def _fraud(question: EntityQuery) -> JsonObject:
    statements = [
        statement
        for group in question.accounts
        for statement in group.statements
        if statement.fraud_type is not None
    ]
    return {
        "fraudulent_statements": [
            statement.statement_id for statement in statements
        ],
        "fraud_type": [
            _fraud_entry(question, statement) for statement in statements
        ],
    }


def _fraud_entry(
    question: EntityQuery, statement: UploadedStatement
) -> JsonObject:
    entry = {
        "statement_id": statement.statement_id,
        "fraud_type": statement.fraud_type,
    }
    if question.is_seed:
        return entry
    return {
        **entry,
        "account_id": statement.account.account_id,
        "fraud_category": "metadata",
        "transaction_hash": None,
    }


def _whole(question: EntityQuery, *without: str) -> JsonObject:
    return {
        **_progress(question),
        "accounts": _accounts(question, *without),
        "fraud": _fraud(question),
    }


def write_row(account: FakeAccount, row: FakeTransaction) -> JsonObject:
    """
    Write a transaction.
    """
    return {
        "transaction_note": row.narration,
        "hash": row.hash,
        "description": row.description,
        "account_id": account.account_id,
        "transaction_type": row.side,
        "amount": money(row.amount),
        "date": midnight(row.day),
        "merchant_category": row.merchant,
        "balance": money(row.balance),
        "transaction_channel": row.channel,
    }


def midnight(day: datetime.date) -> str:
    """
    Write a day as transactions have it.
    """
    return f"{day:%Y-%m-%d} 00:00:00"


def _of_accounts(question: EntityQuery) -> JsonObject:
    return _whole(question)


def _identity(question: EntityQuery) -> JsonObject:
    answer = _whole(question, "credit_limit")
    if not question.is_seed:
        for entry in answer["progress"]:
            entry["transaction_status"] = entry["status"]
    return {
        **answer,
        "identity": [
            identity(group.account, is_seed=question.is_seed)
            for group in question.accounts
        ],
    }


def identity(account: FakeAccount, *, is_seed: bool) -> JsonObject:
    """
    Write who holds an account.
    """
    shown = {
        "name": account.name,
        "account_number": account.number,
        "address": account.address,
        "account_id": account.account_id,
    }
    if is_seed:
        return shown
    return {**shown, "account_category": "individual", "credit_limit": 0}


def _transactions(
    question: EntityQuery,
    is_wanted: Callable[[FakeTransaction], bool] = lambda _: True,
) -> JsonObject:
    return {
        **_whole(question, "credit_limit"),
        "transactions": [
            write_row(account, row)
            for account, row in question.all_rows()
            if is_wanted(row)
        ],
    }


def _salary(question: EntityQuery) -> JsonObject:
    return {
        **_whole(question, "credit_limit"),
        "transactions": [
            {
                **write_row(account, row),
                "clean_transaction_note": row.payee.title(),
                "month_year": f"{row.day.month}-{row.day.year}",
            }
            for account, row in question.all_rows()
            if row.is_salary
        ],
    }


def _lenders(question: EntityQuery) -> JsonObject:
    return _transactions(question, lambda row: row.is_of_lender)


def _recurring(question: EntityQuery) -> JsonObject:
    return {
        **_whole(question, "credit_limit", "last_updated"),
        "transactions": {
            f"{side}_transactions": [
                _recurring_set(group.account, rows)
                for group in question.accounts
                for rows in analyses.recurring(group.rows, side)
            ]
            for side in ("credit", "debit")
        },
    }


def _recurring_set(
    account: FakeAccount, rows: Sequence[FakeTransaction]
) -> JsonObject:
    def write(row: FakeTransaction) -> JsonObject:
        shown = write_row(account, row)
        del shown["merchant_category"]
        return {**shown, "clean_transaction_note": row.payee}

    return recurring_set(account, rows, write)


def recurring_set(
    account: FakeAccount,
    rows: Sequence[FakeTransaction],
    write: Callable[[FakeTransaction], JsonObject],
) -> JsonObject:
    """
    Write transactions that recur.
    """
    return {
        "account_id": account.account_id,
        "end_date": midnight(rows[-1].day),
        "clean_transaction_note": rows[0].payee,
        "transactions": [write(row) for row in rows],
        "median": money(rows[0].amount),
        "start_date": midnight(rows[0].day),
        "transaction_channel": rows[0].channel.upper(),
    }


def _categories(question: EntityQuery) -> JsonObject:
    return {
        **_progress(question),
        "categories": categories(question.rows()),
    }


def categories(rows: Sequence[FakeTransaction]) -> list[JsonObject]:
    """
    Write what was spent on what, as percentages.
    """
    return [
        {"category": name, "percentage": share}
        for name, share in analyses.expense_shares(rows)
    ]


def _top(question: EntityQuery) -> JsonObject:
    rows = question.rows()
    return {
        **_progress(question),
        "top_5_credit_debit": {
            f"top_5_{side}": {
                analyses.short_month(month): {
                    row.narration: money(row.amount) for row in top
                }
                for month, top in analyses.top_five(rows, side).items()
            }
            for side in ("credit", "debit")
        },
    }


def _monthly(question: EntityQuery) -> JsonObject:
    return {
        **_progress(question),
        "monthly_analysis": analyses.monthly_analysis(question.rows()),
    }


def _monthly_updated(question: EntityQuery) -> JsonObject:
    return {
        **_progress(question),
        "accounts": _accounts(question, "credit_limit", "last_updated"),
        "monthly_analysis": {
            "account_id": [
                {
                    group.account.account_id: {
                        "monthly_analysis": analyses.monthly_analysis(
                            group.rows
                        )
                    }
                }
                for group in question.accounts
            ]
        },
    }


def _rolling(question: EntityQuery) -> JsonObject:
    return {
        **_progress(question),
        "monthly_analysis": {
            "monthly_analysis": analyses.rolling(question.rows())
        },
    }


def _reports(question: EntityQuery) -> JsonObject:
    return {
        **_progress(question),
        "reports": [
            {
                "link": question.link(report_path(question, group)),
                "account_id": group.account.account_id,
            }
            for group in question.accounts
        ]
        if question.is_processed
        else [],
    }


def report_path(question: EntityQuery, group: AccountStatements) -> str:
    """
    Return where the workbook of an account is stored.
    """
    owner = question.file.record.entity_id
    return f"{owner}/{group.account.account_id}.xlsx"


def _raw_reports(question: EntityQuery) -> JsonObject:
    answer = _reports(question)
    # The page was hidden before `progress` had sources.
    for entry in answer["progress"]:
        entry.pop("source", None)
    return answer


def _one_report(question: EntityQuery) -> JsonObject:
    words = {
        processing.status(question.now)
        for _, processing in question.file.statements
    }
    word = next(
        (word for word in ("failed", "processing") if word in words),
        "completed",
    )
    path = f"{question.file.record.entity_id}/all.xlsx"
    return {
        "entity_id": question.file.record.entity_id,
        "progress": word,
        "report": question.link(path) if word == "completed" else "",
    }


def _predictors(question: EntityQuery) -> JsonObject:
    return {
        **_progress(question),
        "predictors": [
            {
                "account_id": group.account.account_id,
                "predictors": analyses.predictors(group.account, group.rows),
            }
            for group in question.accounts
        ]
        if question.is_processed
        else [],
    }


def _score(question: EntityQuery) -> JsonObject:
    return {
        **_progress(question),
        "score": [
            {
                "account_id": group.account.account_id,
                # A text, as the page shows it (contract, U-25).
                "score": str(analyses.score(group.account)),
            }
            for group in question.accounts
        ]
        if question.is_processed
        else [],
    }


_BOTH: Final[Mapping[str, Answerer]] = {
    "accounts": _of_accounts,
    "identity": _identity,
    "transactions": _transactions,
    "salary": _salary,
    "recurring_transactions": _recurring,
    "lender_transactions": _lenders,
    "monthly_analysis": _monthly,
    "raw_excel_report": _raw_reports,
}
#: What there is about an entity on the seed's day.
SEED_ANSWERS: Final[Mapping[str, Answerer]] = {
    **_BOTH,
    "get_excel_report": _one_report,
}
#: What there has been since, withdrawn pages included.
CURRENT_ANSWERS: Final[Mapping[str, Answerer]] = {
    **_BOTH,
    "get_expense_categories": _categories,
    "top_credits_debits": _top,
    "monthly_analysis_updated": _monthly_updated,
    "rolling_monthly_analysis": _rolling,
    "xlsx_report": _reports,
    "predictors": _predictors,
    "score": _score,
}
#: Those that can be asked about one account (contract, rest-api section 7).
BY_ACCOUNT: Final = frozenset(
    {
        "transactions",
        "salary",
        "recurring_transactions",
        "lender_transactions",
        "get_expense_categories",
    }
)


def stored_pdfs(
    statements: Sequence[UploadedStatement],
    owner: str,
    now: datetime.datetime,
    link: Callable[[str], str],
) -> list[dict[str, Any]]:
    """
    List stored PDFs, whose links go blank after 30 days.
    """
    return [
        {
            "statement_id": statement.statement_id,
            "bank_name": statement.account.bank,
            "pdf_password": statement.password,
            "pdf_url": link(f"{owner}/{statement.statement_id}.pdf")
            if now - statement.received_at < _KEPT
            else "",
            "account_id": statement.account.account_id,
        }
        for statement in statements
        if statement.source == "pdf"
    ]


_KEPT: Final = datetime.timedelta(days=30)
