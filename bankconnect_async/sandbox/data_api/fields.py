"""
The wire fields of accounts, statements and transactions.

Both flows show the same values under the same names and differ in which of
them they show. Each value is written here once; a response picks its fields.
"""

import datetime

from collections.abc import Callable, Iterable, Sequence

from bankconnect_async.sandbox.banks import find_bank
from bankconnect_async.sandbox.fake_data import analyses
from bankconnect_async.sandbox.fake_data.analyses import rupees
from bankconnect_async.sandbox.fake_data.ledgers import (
    FakeAccount,
    FakeTransaction,
    Span,
)
from bankconnect_async.sandbox.http.errors import JsonObject

from .statements import AccountStatements, UploadedStatement


#: The fields of a transaction in the entity flow.
TRANSACTION = (
    "transaction_note hash description account_id transaction_type amount "
    "date merchant_category balance transaction_channel"
)
#: The fields of an account's holder since there are categories.
IDENTITY = (
    "name account_number address account_id account_category credit_limit"
)

_LINK_LIFETIME = datetime.timedelta(days=30)


def pick(fields: JsonObject, names: str, *, without: str = "") -> JsonObject:
    """
    Return the fields of these *names*, in their order.

    Args:
        fields: The fields by name.
        names: The names, with spaces between them.
        without: The names among them to leave out.
    """
    omitted = without.split()
    return {
        name: fields[name] for name in names.split() if name not in omitted
    }


def account_fields(account: FakeAccount) -> JsonObject:
    """
    Return the fields of an account.
    """
    bank = find_bank(account.bank)
    return {
        "account_category": "individual",
        "account_id": account.account_id,
        "account_number": account.number,
        "address": account.address,
        "bank": account.bank,
        "bank_name": account.bank,
        "country_code": "IN",
        "credit_limit": 0,
        "currency_code": "INR",
        "full_bank_name": bank.name if bank else "",
        "ifsc": account.ifsc,
        "masked_account_number": account.masked,
        "metadata_analysis": {"name_matches": []},
        "micr": account.micr,
        "name": account.name,
        "od_limit": 0,
        "raw_account_category": "SAVINGS",
    }


def group_fields(group: AccountStatements) -> JsonObject:
    """
    Return the fields of an account and of its statements together.
    """
    return {
        **account_fields(group.account),
        "last_updated": utc_microseconds(group.updated_at),
        "months": group.months,
        "statements": [each.statement_id for each in group.statements],
        "uploaded_months": group.months,
    }


def statement_fields(statement: UploadedStatement) -> JsonObject:
    """
    Return the fields of a statement.
    """
    return {
        "account_id": statement.account.account_id,
        "bank": statement.account.bank,
        "bank_name": statement.account.bank,
        "fraud_category": "metadata",
        "fraud_type": statement.fraud_type,
        "is_fraud": statement.fraud_type is not None,
        "page_count": statement.page_count,
        "pdf_password": statement.password,
        "source": statement.source,
        "statement_id": statement.statement_id,
        "transaction_hash": None,
        "upload_file_name": statement.file_name,
    }


def transaction_fields(row: FakeTransaction) -> JsonObject:
    """
    Return the fields of a transaction.
    """
    direction = "from" if row.side == "credit" else "to"
    return {
        "account_id": row.account_id,
        "amount": rupees(row.amount),
        "balance": rupees(row.balance),
        "category": row.category,
        "chq_num": "",
        "clean_transaction_note": row.payee,
        "date": midnight(row.day),
        "description": row.description,
        "employer_name": row.payee,
        "hash": row.hash,
        "merchant_category": row.merchant,
        "metadata": {
            "unclean_merchant": row.payee,
            "transaction_channel": row.channel,
            "description": f"Transfer {direction} {row.payee}",
        },
        "month_year": f"{row.day.month}-{row.day.year}",
        "salary_month": analyses.long_month(row.day),
        "transaction_channel": row.channel,
        "transaction_note": row.narration,
        "transaction_type": row.side,
    }


def pick_all(rows: Iterable[FakeTransaction], names: str) -> list[JsonObject]:
    """
    Return the fields of these *names* of each transaction.
    """
    return [pick(transaction_fields(row), names) for row in rows]


def recurring(
    groups: Iterable[AccountStatements], names: str, *sides: str
) -> JsonObject:
    """
    Return the recurring transactions of each side.

    Args:
        groups: The accounts.
        names: The fields of a transaction.
        sides: `credit` and `debit`, in the order of the response.
    """
    return {
        f"{side}_transactions": [
            _recurring_series(series, names)
            for group in groups
            for series in analyses.recurring(group.rows, side)
        ]
        for side in sides
    }


def _recurring_series(
    series: Sequence[FakeTransaction], names: str
) -> JsonObject:
    first = series[0]
    return {
        "account_id": first.account_id,
        "end_date": midnight(series[-1].day),
        "clean_transaction_note": first.payee,
        "transactions": pick_all(series, names),
        "median": rupees(first.amount),
        "start_date": midnight(first.day),
        "transaction_channel": first.channel.upper(),
    }


def expense_categories(rows: Sequence[FakeTransaction]) -> list[JsonObject]:
    """
    Return the share of each category of expenses, in percent.
    """
    return [
        {"category": name, "percentage": share}
        for name, share in analyses.expense_shares(rows)
    ]


def stored_pdfs(
    statements: Iterable[UploadedStatement],
    url_of: Callable[[str], str],
    now: datetime.datetime,
) -> list[JsonObject]:
    """
    Return the stored PDFs. Their links are blank after 30 days.

    Args:
        statements: The statements of one owner.
        url_of: Makes a pre-signed URL of a stored file's name.
        now: The time.
    """
    names = "statement_id bank_name pdf_password pdf_url account_id"
    return [
        pick(
            statement_fields(statement)
            | {
                "pdf_url": url_of(f"{statement.statement_id}.pdf")
                if now - statement.received_at < _LINK_LIFETIME
                else ""
            },
            names,
        )
        for statement in statements
        if statement.source == "pdf"
    ]


def reports(
    groups: Iterable[AccountStatements], url_of: Callable[[str], str]
) -> list[JsonObject]:
    """
    Return the links to the workbook of each account.
    """
    return [
        {
            "link": url_of(f"{group.account.account_id}.xlsx"),
            "account_id": group.account.account_id,
        }
        for group in groups
    ]


def iso_range(span: Span) -> JsonObject:
    """
    Return the days as `YYYY-MM-DD`.
    """
    return {
        "from_date": span.start.isoformat(),
        "to_date": span.end.isoformat(),
    }


def midnight(day: datetime.date) -> str:
    """
    Return a day in the form of the transactions.
    """
    return f"{day:%Y-%m-%d} 00:00:00"


def utc_seconds(time: datetime.datetime) -> str:
    """
    Return a time in UTC without its zone.
    """
    return f"{time.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S}"


def utc_microseconds(time: datetime.datetime) -> str:
    """
    Return a time in UTC with microseconds and a `Z`.
    """
    return f"{time.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
