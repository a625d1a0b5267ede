"""
The wire fields of accounts, statements and transactions.

Both flows show the same values under the same names and differ in which of
them they show. Each value is written here once; a response picks its fields.
"""

import datetime

from collections.abc import Callable, Iterable, Sequence
from typing import Any

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
#: The fields of an account's holder, with and without its category.
SEED_IDENTITY = "name account_number address account_id"
IDENTITY = f"{SEED_IDENTITY} account_category credit_limit"

_LINK_LIFETIME = datetime.timedelta(days=30)


def account(of: FakeAccount, names: str, **others: Any) -> JsonObject:
    """
    Return the fields of these *names* of an account.

    Args:
        of: The account.
        names: The names, with spaces between them.
        others: More fields to choose from.
    """
    bank = find_bank(of.bank)
    return _pick(
        names,
        account_category="individual",
        account_id=of.account_id,
        account_number=of.number,
        address=of.address,
        bank=of.bank,
        bank_name=of.bank,
        country_code="IN",
        credit_limit=0,
        currency_code="INR",
        full_bank_name=bank.name if bank else "",
        ifsc=of.ifsc,
        masked_account_number=of.masked,
        metadata_analysis={"name_matches": []},
        micr=of.micr,
        name=of.name,
        od_limit=0,
        raw_account_category="SAVINGS",
        **others,
    )


def group(of: AccountStatements, names: str) -> JsonObject:
    """
    Return the fields of these *names* of an account with its statements.
    """
    return account(
        of.account,
        names,
        last_updated=utc_microseconds(of.updated_at),
        months=of.months,
        statements=[each.statement_id for each in of.statements],
        uploaded_months=of.months,
    )


def statement(of: UploadedStatement, names: str) -> JsonObject:
    """
    Return the fields of these *names* of a statement.
    """
    return _pick(
        names,
        account_id=of.account.account_id,
        bank=of.account.bank,
        bank_name=of.account.bank,
        fraud_category="metadata",
        fraud_type=of.fraud_type,
        is_fraud=of.fraud_type is not None,
        page_count=of.page_count,
        pdf_password=of.password,
        source=of.source,
        statement_id=of.statement_id,
        transaction_hash=None,
        upload_file_name=of.file_name,
    )


def transaction(of: FakeTransaction, names: str) -> JsonObject:
    """
    Return the fields of these *names* of a transaction.
    """
    direction = "from" if of.side == "credit" else "to"
    return _pick(
        names,
        account_id=of.account_id,
        amount=rupees(of.amount),
        balance=rupees(of.balance),
        category=of.category,
        chq_num="",
        clean_transaction_note=of.payee,
        date=midnight(of.day),
        description=of.description,
        employer_name=of.payee,
        hash=of.hash,
        merchant_category=of.merchant,
        metadata={
            "unclean_merchant": of.payee,
            "transaction_channel": of.channel,
            "description": f"Transfer {direction} {of.payee}",
        },
        month_year=f"{of.day.month}-{of.day.year}",
        salary_month=analyses.long_month(of.day),
        transaction_channel=of.channel,
        transaction_note=of.narration,
        transaction_type=of.side,
    )


def transactions(
    rows: Iterable[FakeTransaction], names: str
) -> list[JsonObject]:
    """
    Return the fields of these *names* of each transaction.
    """
    return [transaction(row, names) for row in rows]


def _pick(names: str, **fields: Any) -> JsonObject:
    return {name: fields[name] for name in names.split()}


def fraud(groups: Iterable[AccountStatements], names: str) -> list[JsonObject]:
    """
    Return the fields of these *names* of each statement that shows fraud.
    """
    return [
        statement(each, names)
        for group in groups
        for each in group.statements
        if each.fraud_type is not None
    ]


def by_account(
    groups: Iterable[AccountStatements],
    name: str,
    content: Callable[[AccountStatements], object],
) -> list[JsonObject]:
    """
    Return what *content* makes of each account, under *name*.
    """
    return [
        {"account_id": group.account.account_id, name: content(group)}
        for group in groups
    ]


def recurring(groups: Sequence[AccountStatements], names: str) -> JsonObject:
    """
    Return the recurring transactions with the fields of these *names*.
    """
    return {
        f"{side}_transactions": [
            _recurring_series(series, names)
            for group in groups
            for series in analyses.recurring(group.rows, side)
        ]
        for side in ("credit", "debit")
    }


def _recurring_series(
    series: Sequence[FakeTransaction], names: str
) -> JsonObject:
    first = series[0]
    return {
        "account_id": first.account_id,
        "end_date": midnight(series[-1].day),
        "clean_transaction_note": first.payee,
        "transactions": transactions(series, names),
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
        url_of: Returns the link to a stored file of the owner.
        now: The time.
    """
    return [
        {
            **statement(
                each, "statement_id bank_name pdf_password account_id"
            ),
            "pdf_url": url_of(f"{each.statement_id}.pdf")
            if now - each.received_at < _LINK_LIFETIME
            else "",
        }
        for each in statements
        if each.source == "pdf"
    ]


def reports(
    groups: Iterable[AccountStatements], url_of: Callable[[str], str]
) -> list[JsonObject]:
    """
    Return the links to the workbook of each account.
    """
    return by_account(
        groups,
        "link",
        lambda group: url_of(f"{group.account.account_id}.xlsx"),
    )


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
