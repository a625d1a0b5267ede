"""
Parts that many responses share: accounts, fraud, transactions, progress.
"""

import datetime

from decimal import Decimal
from typing import Any

import attrs

from ._fields import (
    Model,
    ObjectReader,
    field,
    hidden,
    label,
    list_field,
    lower_text,
    masked,
    number,
    rows_field,
    text,
    timestamp_or_day,
    utc_timestamp,
)
from ._rows import Rows


@attrs.frozen(kw_only=True)
class StatementProgress(Model):
    """
    The progress of one statement in the analysis that was requested.

    Attributes:
        statement_id: The id of the statement.
        status: `processing`, `completed` or `failed`; `None` before that.
        message: The vendor's text, such as the reason of a failure.
        source: `pdf` or `online`.
        transaction_status: The status of its transactions; only in the
            progress of identities.
    """

    statement_id: str | None = field(label)
    status: str | None = field(lower_text)
    message: str | None = field(text)
    source: str | None = field(text)
    transaction_status: str | None = field(lower_text)


@attrs.frozen(kw_only=True)
class Account(Model):
    """
    An account of which there are statements.

    Attributes:
        account_id: The vendor's id of the account.
        account_number: The account number in clear; the repr shows its last
            four digits.
        account_category: The category, such as `individual` or `corporate`.
        bank: The bank identifier, in lower case.
        ifsc, micr: The codes of the branch.
        credit_limit: The limit of an overdraft account.
        months: The months with data, as `YYYY-MM`.
        statements: The ids of its statements.
        last_updated: The time of the last change, in UTC.
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
    last_updated: datetime.datetime | None = field(utc_timestamp)


@attrs.frozen(kw_only=True)
class Identity(Model):
    """
    The holder of an account, as its statements name them.

    The repr shows neither name nor address, and of the account number only the
    last digits.

    Attributes:
        name: The name of the holder.
        address: The address of the holder.
        account_id: The vendor's id of the account.
        account_number: The account number in clear.
        account_category: The category, such as `individual` or `corporate`.
        bank_name: The bank identifier.
        ifsc, micr: The codes of the branch.
        credit_limit, od_limit: The limits of an overdraft account.
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
        fraud_type: The kind, such as `author_fraud`; the vendor has the list.
        fraud_category: The category, such as `metadata` for the file itself.
        statement_id: The id of the statement that it is about, if any.
        account_id: The id of the account.
        transaction_hash: The hash of the transaction that it is about, if any.
    """

    fraud_type: str | None = field(text)
    fraud_category: str | None = field(text)
    statement_id: str | None = field(label)
    account_id: str | None = field(label)
    transaction_hash: str | None = field(text)


@attrs.frozen(kw_only=True)
class Fraud(Model):
    """
    The signs of fraud in the statements of an entity.

    Attributes:
        fraudulent_statements: The ids of the statements.
        findings: The signs.
    """

    fraudulent_statements: tuple[str, ...] = list_field(text)
    findings: Rows[FraudFinding] = list_field(FraudFinding, "fraud_type")


@attrs.frozen(kw_only=True)
class Transaction(Model):
    """
    One line of a statement, in either flow.

    The repr leaves out texts that people wrote: notes hold names and numbers
    of other accounts.

    Attributes:
        date: The time; midnight where the vendor knows only the day.
        transaction_type: `debit` or `credit`.
        amount: The amount, exactly as printed.
        balance: The balance after the transaction, exactly as printed.
        transaction_note: The note as the bank wrote it.
        clean_transaction_note: The essence of the note, where the vendor has
            one.
        description: The vendor's description, such as `lender_transaction`.
        category: The vendor's category, in the session flow.
        transaction_channel: The channel, such as `upi` or `chq`; the list is
            open.
        merchant_category: The category of the merchant, such as `groceries`;
            the list is open.
        unclean_merchant: The other party, in the session flow.
        chq_num: The number of the cheque.
        account_id: The vendor's id of the account.
        hash: The hash, unique for each transaction.
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
    A credit that the vendor takes for a salary.

    Attributes:
        month_year: The month of the salary as `M-YYYY`, in the entity flow.
        salary_month: The month as `Mmm-YYYY`, in the session flow.
        employer_name: The employer, in the session flow, where known.
    """

    month_year: str | None = field(text)
    salary_month: str | None = field(text)
    employer_name: str | None = field(text, repr=hidden)


def rows(*keys: str, cls: type[Transaction] = Transaction) -> Any:
    """
    Declare an attribute for an array of transactions.

    The session flow nests a part of each in `metadata`.
    """
    return rows_field(cls, ObjectReader(cls, nested="metadata"), *keys)


@attrs.frozen(kw_only=True)
class RecurringSet(Model):
    """
    Transactions that recur.

    Attributes:
        account_id: The vendor's id of the account.
        start_date, end_date: The dates of the first and the last.
        transaction_channel: The channel, such as `NET_BANKING_TRANSFER`.
        median: The median of the amounts.
        clean_transaction_note: The note that they share.
        transactions: The transactions.
    """

    account_id: str | None = field(label)
    start_date: datetime.datetime | None = field(timestamp_or_day)
    end_date: datetime.datetime | None = field(timestamp_or_day)
    transaction_channel: str | None = field(text)
    median: Decimal | None = field(number)
    clean_transaction_note: str | None = field(text, repr=False)
    transactions: Rows[Transaction] = rows()


@attrs.frozen(kw_only=True)
class RecurringSets(Model):
    """
    Recurring credits and debits.

    Attributes:
        credit_transactions: The credits.
        debit_transactions: The debits.
    """

    credit_transactions: Rows[RecurringSet] = list_field(RecurringSet)
    debit_transactions: Rows[RecurringSet] = list_field(RecurringSet)


@attrs.frozen(kw_only=True)
class ExpenseCategory(Model):
    """
    A share of the expenses.

    Attributes:
        category: The name, such as `Bills`.
        percentage: The share in percent; all shares add up to 100.
        account_id: The id of the account, where the response says it.
    """

    category: str | None = field(text)
    percentage: Decimal | None = field(number)
    account_id: str | None = field(label)


@attrs.frozen(kw_only=True)
class Report(Model):
    """
    A workbook to `download`.

    Attributes:
        link: The pre-signed link, valid for an hour. Anyone who has it can
            fetch the file.
        account_id: The id of the account that it is about.
    """

    link: str | None = field(text, repr=hidden)
    account_id: str | None = field(label)


@attrs.frozen(kw_only=True)
class StoredPdf(Model):
    """
    A statement as it was uploaded, to `download`.

    Attributes:
        statement_id: The id of the statement.
        bank_name: The bank identifier.
        pdf_password: The password of the file, a secret; `None` if there is
            none.
        pdf_url: The pre-signed link, valid for an hour; `None` after 30 days.
        account_id: The id of the account.
        source: The source, such as `PDF`, in the session flow.
        message: The outcome, such as `Success` or `Is Image`, in the session
            flow.
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
    The stored statements of an entity or a session (`get_pdfs/`).

    Attributes:
        statements: The statements.
    """

    statements: Rows[StoredPdf] = list_field(StoredPdf)
