"""
Parts that many responses share: accounts, fraud, transactions, progress.
"""

import datetime

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import attrs

from . import _fields as reading
from ._fields import raw, wired


@attrs.frozen(kw_only=True)
class StatementProgress:
    """
    How far the analysis asked for is with one statement.

    Attributes:
        statement_id: Its id.
        status: `processing`, `completed` or `failed`; `None` is not yet.
        message: The vendor's text, such as why it failed.
        source: `pdf` or `online`.
        transaction_status: The same words about transactions; with
            identities only.
        raw: As received.
    """

    statement_id: str | None = wired(reading.label)
    status: str | None = wired(reading.word)
    message: str | None = wired(reading.text)
    source: str | None = wired(reading.text)
    transaction_status: str | None = wired(reading.word)
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class Account:
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
        raw: As received.
    """

    account_id: str | None = wired(reading.label)
    account_number: str | None = wired(reading.label, repr=reading.masked)
    account_category: str | None = wired(reading.text)
    bank: str | None = wired(reading.text)
    ifsc: str | None = wired(reading.text)
    micr: str | None = wired(reading.label)
    credit_limit: Decimal | None = wired(reading.number)
    months: tuple[str, ...] = wired(reading.many(reading.text), default=())
    statements: tuple[str, ...] = wired(reading.many(reading.text), default=())
    last_updated: datetime.datetime | None = wired(reading.moment)
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class Identity:
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
        raw: As received.
    """

    name: str | None = wired(reading.text, repr=reading.hidden)
    address: str | None = wired(reading.text, repr=reading.hidden)
    account_id: str | None = wired(reading.label)
    account_number: str | None = wired(reading.label, repr=reading.masked)
    account_category: str | None = wired(reading.text)
    bank_name: str | None = wired(reading.text)
    ifsc: str | None = wired(reading.text)
    micr: str | None = wired(reading.label)
    credit_limit: Decimal | None = wired(reading.number)
    od_limit: Decimal | None = wired(reading.number)
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class FraudFinding:
    """
    One sign of fraud.

    Attributes:
        fraud_type: Such as `author_fraud`; the vendor has the list.
        fraud_category: Such as `metadata`, for the file itself.
        statement_id: Of the statement, if it is about one.
        account_id: Of the account.
        transaction_hash: Of the transaction, if it is about one.
        raw: As received.
    """

    fraud_type: str | None = wired(reading.text)
    fraud_category: str | None = wired(reading.text)
    statement_id: str | None = wired(reading.label)
    account_id: str | None = wired(reading.label)
    transaction_hash: str | None = wired(reading.text)
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class Fraud:
    """
    Signs of fraud in the statements of an entity.

    Attributes:
        fraudulent_statements: Ids.
        findings: One by one.
        raw: As received.
    """

    fraudulent_statements: tuple[str, ...] = wired(
        reading.many(reading.text), default=()
    )
    findings: tuple[FraudFinding, ...] = wired(
        reading.many(reading.one(FraudFinding)), "fraud_type", default=()
    )
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class Transaction:
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
        raw: As received.
    """

    date: datetime.datetime | None = wired(reading.instant)
    transaction_type: str | None = wired(reading.word)
    amount: Decimal | None = wired(reading.number)
    balance: Decimal | None = wired(reading.number)
    transaction_note: str | None = wired(reading.text, repr=False)
    clean_transaction_note: str | None = wired(reading.text, repr=False)
    description: str | None = wired(reading.text, repr=False)
    category: str | None = wired(reading.text, repr=False)
    transaction_channel: str | None = wired(reading.text)
    merchant_category: str | None = wired(reading.text)
    unclean_merchant: str | None = wired(reading.text, repr=False)
    chq_num: str | None = wired(reading.label, repr=False)
    account_id: str | None = wired(reading.label)
    hash: str | None = wired(reading.text)
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class SalaryTransaction(Transaction):
    """
    A credit that is taken for a salary.

    Attributes:
        month_year: Month it is for, as `M-YYYY`, in the entity flow.
        salary_month: The same, as `Mmm-YYYY`, in the session flow.
        employer_name: In the session flow, where known.
    """

    month_year: str | None = wired(reading.text)
    salary_month: str | None = wired(reading.text)
    employer_name: str | None = wired(reading.text, repr=reading.hidden)


def row(cls: type[Transaction]) -> reading.Reader:
    """
    Read a transaction; the session flow puts a part of it one level down.
    """

    def read(value: object, path: str, problems: list[str]) -> Any:
        document = reading.mapping(value, path, problems)
        if document is None:
            return None
        flat = document
        if reading.is_present(below := document.get("metadata")):
            more = reading.mapping(below, f"{path}.metadata", problems)
            flat = {**(more or {}), **document}
        return reading.structure(cls, flat, path, problems, raw=document)

    return read


def rows(*keys: str, cls: type[Transaction] = Transaction) -> Any:
    """
    Make an attribute for an array of transactions.
    """
    return wired(reading.many(row(cls)), *keys, default=())


@attrs.frozen(kw_only=True)
class RecurringSet:
    """
    Transactions that come again and again.

    Attributes:
        account_id: The vendor's id of the account.
        start_date, end_date: Of the first and the last.
        transaction_channel: Such as `NET_BANKING_TRANSFER`.
        median: Of the amounts.
        clean_transaction_note: What they have in common.
        transactions: One by one.
        raw: As received.
    """

    account_id: str | None = wired(reading.label)
    start_date: datetime.datetime | None = wired(reading.instant)
    end_date: datetime.datetime | None = wired(reading.instant)
    transaction_channel: str | None = wired(reading.text)
    median: Decimal | None = wired(reading.number)
    clean_transaction_note: str | None = wired(reading.text, repr=False)
    transactions: tuple[Transaction, ...] = rows()
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class RecurringSets:
    """
    Recurring credits and debits.
    """

    credit_transactions: tuple[RecurringSet, ...] = wired(
        reading.many(reading.one(RecurringSet)), default=()
    )
    debit_transactions: tuple[RecurringSet, ...] = wired(
        reading.many(reading.one(RecurringSet)), default=()
    )
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class ExpenseCategory:
    """
    A share of what was spent.

    Attributes:
        category: Such as `Bills`.
        percentage: Of all; the shares add up to 100.
        raw: As received.
    """

    category: str | None = wired(reading.text)
    percentage: Decimal | None = wired(reading.number)
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class Report:
    """
    A workbook to `download`.

    Attributes:
        link: Pre-signed, valid for an hour; who has it has the file.
        account_id: Of the account it is about.
        raw: As received.
    """

    link: str | None = wired(reading.text, repr=reading.hidden)
    account_id: str | None = wired(reading.label)
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class StoredPdf:
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
        raw: As received.
    """

    statement_id: str | None = wired(reading.label)
    bank_name: str | None = wired(reading.text)
    pdf_password: str | None = wired(reading.text, repr=reading.hidden)
    pdf_url: str | None = wired(reading.text, repr=reading.hidden)
    account_id: str | None = wired(reading.label)
    source: str | None = wired(reading.text)
    message: str | None = wired(reading.text)
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class StoredPdfs:
    """
    All of an entity or a session (`get_pdfs/`).
    """

    statements: tuple[StoredPdf, ...] = wired(
        reading.many(reading.one(StoredPdf)), default=()
    )
    raw: Mapping[str, Any] = raw()
