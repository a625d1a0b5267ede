"""
Parts that many responses share: accounts, fraud, transactions, progress.
"""

import datetime

from decimal import Decimal
from typing import Any

import attrs

from ._fields import (
    Model,
    Reader,
    field,
    hidden,
    is_present,
    label,
    list_field,
    lower_text,
    mapping,
    masked,
    number,
    structure,
    text,
    timestamp,
    timestamp_or_day,
)


@attrs.frozen(kw_only=True)
class StatementProgress(Model):
    """
    How far the analysis asked for is with one statement.

    Attributes:
        statement_id: Its id.
        status: `processing`, `completed` or `failed`; `None` is not yet.
        message: The vendor's text, such as why it failed.
        source: `pdf` or `online`.
        transaction_status: The same words about transactions; with
            identities only.
    """

    statement_id: str | None = field(label)
    status: str | None = field(lower_text)
    message: str | None = field(text)
    source: str | None = field(text)
    transaction_status: str | None = field(lower_text)


@attrs.frozen(kw_only=True)
class Account(Model):
    """
    An account that statements were found for.

    Attributes:
        account_id: The vendor's id.
        account_number: In clear; the repr shows its last four digits.
        account_category: Such as `individual`, `corporate`.
        bank: Bank identifier, in lower case.
        ifsc, micr: Codes of the branch.
        credit_limit: Of an overdraft account.
        months: With data, as `YYYY-MM`.
        statements: Ids.
        last_updated: When, in UTC.
    """

    account_id: str | None = field(label)
    account_number: str | None = field(label, repr=masked)
    account_category: str | None = field(text)
    bank: str | None = field(text)
    ifsc: str | None = field(text)
    micr: str | None = field(label)
    credit_limit: Decimal | None = field(number)
    months: tuple[str, ...] = list_field(text)
    statements: tuple[str, ...] = list_field(text)
    last_updated: datetime.datetime | None = field(timestamp)


@attrs.frozen(kw_only=True)
class Identity(Model):
    """
    Whose an account is, as its statements say.

    The repr shows no name, no address and the last digits of the number.

    Attributes:
        name: Of the holder.
        address: Of the holder.
        account_id: The vendor's id of the account.
        account_number: In clear.
        account_category: Such as `individual`, `corporate`.
        bank_name: Bank identifier.
        ifsc, micr: Codes of the branch.
        credit_limit, od_limit: Of an overdraft account.
    """

    name: str | None = field(text, repr=hidden)
    address: str | None = field(text, repr=hidden)
    account_id: str | None = field(label)
    account_number: str | None = field(label, repr=masked)
    account_category: str | None = field(text)
    bank_name: str | None = field(text)
    ifsc: str | None = field(text)
    micr: str | None = field(label)
    credit_limit: Decimal | None = field(number)
    od_limit: Decimal | None = field(number)


@attrs.frozen(kw_only=True)
class FraudFinding(Model):
    """
    One sign of fraud.

    Attributes:
        fraud_type: Such as `author_fraud`; the vendor has the list.
        fraud_category: Such as `metadata`, for the file itself.
        statement_id: Of the statement, if it is about one.
        account_id: Of the account.
        transaction_hash: Of the transaction, if it is about one.
    """

    fraud_type: str | None = field(text)
    fraud_category: str | None = field(text)
    statement_id: str | None = field(label)
    account_id: str | None = field(label)
    transaction_hash: str | None = field(text)


@attrs.frozen(kw_only=True)
class Fraud(Model):
    """
    Signs of fraud in the statements of an entity.

    Attributes:
        fraudulent_statements: Ids.
        findings: One by one.
    """

    fraudulent_statements: tuple[str, ...] = list_field(text)
    findings: tuple[FraudFinding, ...] = list_field(FraudFinding, "fraud_type")


@attrs.frozen(kw_only=True)
class Transaction(Model):
    """
    One line of a statement, as either flow has it.

    The repr leaves out what was written by people: notes hold names and
    numbers of other accounts.

    Attributes:
        date: When; the vendor gives midnight if it knows the day only.
        transaction_type: `debit` or `credit`.
        amount: Exactly as printed.
        balance: After it, exactly as printed.
        transaction_note: As the bank wrote it.
        clean_transaction_note: The essence of it, where the vendor has one.
        description: The vendor's reading, such as `lender_transaction`.
        category: The vendor's reading, in the session flow.
        transaction_channel: Such as `upi`, `chq`; the list is open.
        merchant_category: Such as `groceries`; the list is open.
        unclean_merchant: Who was paid or paid, in the session flow.
        chq_num: Of a cheque.
        account_id: The vendor's id of the account.
        hash: Unique for each transaction.
    """

    date: datetime.datetime | None = field(timestamp_or_day)
    transaction_type: str | None = field(lower_text)
    amount: Decimal | None = field(number)
    balance: Decimal | None = field(number)
    transaction_note: str | None = field(text, repr=False)
    clean_transaction_note: str | None = field(text, repr=False)
    description: str | None = field(text, repr=False)
    category: str | None = field(text, repr=False)
    transaction_channel: str | None = field(text)
    merchant_category: str | None = field(text)
    unclean_merchant: str | None = field(text, repr=False)
    chq_num: str | None = field(label, repr=False)
    account_id: str | None = field(label)
    hash: str | None = field(text)


@attrs.frozen(kw_only=True)
class SalaryTransaction(Transaction):
    """
    A credit that is taken for a salary.

    Attributes:
        month_year: Month it is for, as `M-YYYY`, in the entity flow.
        salary_month: The same, as `Mmm-YYYY`, in the session flow.
        employer_name: In the session flow, where known.
    """

    month_year: str | None = field(text)
    salary_month: str | None = field(text)
    employer_name: str | None = field(text, repr=hidden)


def row(cls: type[Transaction]) -> Reader:
    """
    Read a transaction; the session flow puts a part of it one level down.
    """

    def read(value: object, path: str, problems: list[str]) -> Any:
        document = mapping(value, path, problems)
        if document is None:
            return None
        flat = document
        if is_present(below := document.get("metadata")):
            more = mapping(below, f"{path}.metadata", problems)
            flat = {**(more or {}), **document}
        return structure(cls, flat, path, problems, raw=document)

    return read


def rows(*keys: str, cls: type[Transaction] = Transaction) -> Any:
    """
    Make an attribute for an array of transactions.
    """
    return list_field(row(cls), *keys)


@attrs.frozen(kw_only=True)
class RecurringSet(Model):
    """
    Transactions that come again and again.

    Attributes:
        account_id: The vendor's id of the account.
        start_date, end_date: Of the first and the last.
        transaction_channel: Such as `NET_BANKING_TRANSFER`.
        median: Of the amounts.
        clean_transaction_note: What they have in common.
        transactions: One by one.
    """

    account_id: str | None = field(label)
    start_date: datetime.datetime | None = field(timestamp_or_day)
    end_date: datetime.datetime | None = field(timestamp_or_day)
    transaction_channel: str | None = field(text)
    median: Decimal | None = field(number)
    clean_transaction_note: str | None = field(text, repr=False)
    transactions: tuple[Transaction, ...] = rows()


@attrs.frozen(kw_only=True)
class RecurringSets(Model):
    """
    Recurring credits and debits.
    """

    credit_transactions: tuple[RecurringSet, ...] = list_field(RecurringSet)
    debit_transactions: tuple[RecurringSet, ...] = list_field(RecurringSet)


@attrs.frozen(kw_only=True)
class ExpenseCategory(Model):
    """
    A share of what was spent.

    Attributes:
        category: Such as `Bills`.
        percentage: Of all; the shares add up to 100.
    """

    category: str | None = field(text)
    percentage: Decimal | None = field(number)


@attrs.frozen(kw_only=True)
class Report(Model):
    """
    A workbook to `download`.

    Attributes:
        link: Pre-signed, valid for an hour; who has it has the file.
        account_id: Of the account it is about.
    """

    link: str | None = field(text, repr=hidden)
    account_id: str | None = field(label)


@attrs.frozen(kw_only=True)
class StoredPdf(Model):
    """
    A statement as it was uploaded, to `download`.

    Attributes:
        statement_id: Its id.
        bank_name: Bank identifier.
        pdf_password: Opens it, if one was given; a secret.
        pdf_url: Pre-signed, valid for an hour; `None` after 30 days.
        account_id: Of the account.
        source: Such as `PDF`, in the session flow.
        message: Such as `Success`, `Is Image`, in the session flow.
    """

    statement_id: str | None = field(label)
    bank_name: str | None = field(text)
    pdf_password: str | None = field(text, repr=hidden)
    pdf_url: str | None = field(text, repr=hidden)
    account_id: str | None = field(label)
    source: str | None = field(text)
    message: str | None = field(text)


@attrs.frozen(kw_only=True)
class StoredPdfs(Model):
    """
    All of an entity or a session (`get_pdfs/`).
    """

    statements: tuple[StoredPdf, ...] = list_field(StoredPdf)
