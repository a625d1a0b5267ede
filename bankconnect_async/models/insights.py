"""
Responses of the session flow (contract, `rest-api.md` sections 3, 9, 10).
"""

import datetime

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import attrs

from ._fields import (
    Model,
    count,
    field,
    flag,
    hidden,
    is_present,
    label,
    list_field,
    lower_text,
    mapping,
    masked,
    number,
    object_field,
    rows_field,
    structure,
    text,
    timestamp,
    timestamp_or_day,
)
from ._rows import Rows
from .accounts import (
    Account,
    ExpenseCategory,
    FraudFinding,
    Identity,
    RecurringSets,
    Report,
    SalaryTransaction,
    Transaction,
    rows,
)
from .webhooks import DateRange, WebhookAccount


#: What `upload_status` says once the uploads are complete.
COMPLETED: Final = "COMPLETED"

# The same state in two spellings (U-20).
_SYNONYMS: Final = {"NO_UPLOAD": "NO_UPLOADS"}


def _status_word(value: object, path: str, problems: list[str]) -> Any:
    word = text(value, path, problems)
    if word is None:
        return None
    word = word.strip().upper().replace(" ", "_")
    return _SYNONYMS.get(word, word)


@attrs.frozen(kw_only=True)
class SessionAccount(WebhookAccount):
    """
    An account of a session: the fields of webhooks, and two more.

    Attributes:
        account_type: The type, such as `SAVINGS`.
        full_bank_name: The name of the bank for people.
    """

    account_type: str | None = field(text)
    full_bank_name: str | None = field(text)


@attrs.frozen(kw_only=True)
class UploadState(Model):
    """
    The state of a session's uploads, without details.

    In `raw` there are account numbers.

    Attributes:
        session_id: The id of the session.
        upload_status: `COMPLETED`, `IN_PROGRESS`, `NO_UPLOADS` or `EXPIRED`,
            in one spelling; other words are kept.
    """

    session_id: str = field(label, required=True, repr=hidden)
    upload_status: str = field(_status_word, required=True)


@attrs.frozen(kw_only=True)
class UploadStatus(UploadState):
    """
    The state of a session's uploads (`session_upload_status/`).

    Attributes:
        session_date_range: The days that the session asks for.
        session_expiry_timestamp: The time after which it accepts no uploads;
            the vendor names no time zone.
        accounts: The accounts uploaded so far.
    """

    session_date_range: DateRange | None = field(DateRange)
    session_expiry_timestamp: datetime.datetime | None = field(timestamp)
    accounts: Rows[SessionAccount] = list_field(SessionAccount)


@attrs.frozen(kw_only=True)
class ProcessingRequest(Model):
    """
    The response of `initiate_processing/`.

    Attributes:
        session_id: The id of the session.
        message: The vendor's text.
    """

    session_id: str | None = field(label, repr=hidden)
    message: str | None = field(text)


@attrs.frozen(kw_only=True)
class StatementStages(Model):
    """
    The progress of one statement of a session.

    Each status is `processing`, `completed` or `failed`, and `None` before
    that.

    Attributes:
        statement_id: The id of the statement.
        identity_status, transaction_status, processing_status, fraud_status:
            The status of each stage.
        message: The vendor's text.
        source: The source, such as `pdf`.
    """

    statement_id: str | None = field(label)
    identity_status: str | None = field(lower_text)
    transaction_status: str | None = field(lower_text)
    processing_status: str | None = field(lower_text)
    fraud_status: str | None = field(lower_text)
    message: str | None = field(text)
    source: str | None = field(text)


@attrs.frozen(kw_only=True)
class SessionProgress(Model):
    """
    The progress of a session's processing (`progress/`).

    Attributes:
        session_id: The id of the session.
        session_progress: `processing` or `completed`.
        progress: The progress of each statement.
    """

    session_id: str = field(label, required=True, repr=hidden)
    session_progress: str | None = field(lower_text)
    progress: Rows[StatementStages] = list_field(StatementStages)


@attrs.frozen(kw_only=True)
class SessionStatus(Model):
    """
    The outcome of processing (`session_status/`).

    In `raw` there are account numbers.

    Attributes:
        session_id: The id of the session.
        insights_available: Whether there are insights to fetch; `None` in
            versions that do not say.
        accounts: The accounts, each with its problem, if there is one.
    """

    session_id: str = field(label, required=True, repr=hidden)
    insights_available: bool | None = field(flag)
    accounts: Rows[SessionAccount] = list_field(SessionAccount)


@attrs.frozen(kw_only=True)
class AccountDetails(Model):
    """
    An account in the insights, and its holder.

    The repr shows the last digits of the account number, and nothing that
    identifies the holder.

    Attributes:
        name, address, dob, email, pan_number, phone_number: The data of the
            holder.
        holder_type: The vendor's word for the kind of holder.
        account_number: The account number in clear.
        account_category: The category, such as `individual`.
        account_status: The status as the bank prints it.
        account_opening_date: The date of opening, where the statements have
            it.
        bank: The bank identifier.
        ifsc, micr: The codes of the branch.
        credit_limit, od_limit: The limits of an overdraft account.
        salary_confidence: The probability of a salary, in percent.
        statements: The ids of its statements.
        months: The months with data, as `YYYY-MM`.
        uploaded_months: The months that were uploaded, as `YYYY-MM`.
        missing_data: The gaps.
        account_date_range, transaction_date_range: The days covered.
        country_code, currency_code: The codes, such as `IN` and `INR`.
        metadata_analysis: The analysis of the file, as received.
        account_id: The id of the account, where the response says it.
    """

    name: str | None = field(text, repr=hidden)
    address: str | None = field(text, repr=hidden)
    dob: str | None = field(text, repr=hidden)
    email: str | None = field(text, repr=hidden)
    pan_number: str | None = field(label, repr=hidden)
    phone_number: str | None = field(label, repr=hidden)
    holder_type: str | None = field(text)
    account_number: str | None = field(label, repr=masked)
    account_category: str | None = field(text)
    account_status: str | None = field(text)
    account_opening_date: datetime.datetime | None = field(timestamp_or_day)
    bank: str | None = field(text)
    ifsc: str | None = field(text)
    micr: str | None = field(label)
    credit_limit: Decimal | None = field(number)
    od_limit: Decimal | None = field(number)
    salary_confidence: Decimal | None = field(number)
    statements: tuple[str, ...] = list_field(text)
    months: tuple[str, ...] = list_field(text)
    uploaded_months: tuple[str, ...] = list_field(text)
    missing_data: Rows[DateRange] = list_field(DateRange)
    account_date_range: DateRange | None = field(DateRange)
    transaction_date_range: DateRange | None = field(DateRange)
    country_code: str | None = field(text)
    currency_code: str | None = field(text)
    metadata_analysis: Mapping[str, Any] = object_field()
    account_id: str | None = field(label)


@attrs.frozen(kw_only=True)
class TopMonth(Model):
    """
    The largest transactions of one month.

    Attributes:
        month: The month as `Mmm-YY`.
        transactions: The transactions, the largest first.
    """

    month: str | None = field(text)
    transactions: Rows[Transaction] = rows("data")


@attrs.frozen(kw_only=True)
class TopTransactions(Model):
    """
    The largest credits or debits of each month.

    Attributes:
        type: `top_5_credit` or `top_5_debit`.
        months: The months.
    """

    type: str | None = field(text)
    months: Rows[TopMonth] = list_field(TopMonth, "data")


@attrs.frozen(kw_only=True)
class StatementStats(Model):
    """
    The details of one statement.

    Attributes:
        statement_id, session_id, account_id: The ids.
        bank: The bank identifier.
        source: The source, such as `PDF`.
        upload_file_name: The name of the file.
        page_count, transaction_count: The numbers of pages and transactions.
        first_transaction_timestamp, last_transaction_timestamp: The times of
            the first and the last transaction.
        from_date, to_date: The days covered.
        is_scanned_pdf: Whether the file has no text.
    """

    statement_id: str | None = field(label)
    session_id: str | None = field(label, repr=hidden)
    account_id: str | None = field(label)
    bank: str | None = field(text)
    source: str | None = field(text)
    upload_file_name: str | None = field(text, repr=False)
    page_count: int | None = field(count)
    transaction_count: int | None = field(count)
    first_transaction_timestamp: datetime.datetime | None = field(
        timestamp_or_day
    )
    last_transaction_timestamp: datetime.datetime | None = field(
        timestamp_or_day
    )
    from_date: datetime.datetime | None = field(timestamp_or_day)
    to_date: datetime.datetime | None = field(timestamp_or_day)
    is_scanned_pdf: bool | None = field(flag)


@attrs.frozen(kw_only=True)
class AccountInsights(Model):
    """
    All data of one account.

    Fields that only later versions of the API send are empty in earlier ones.

    Attributes:
        account_id: The vendor's id of the account.
        account_details: The account and its holder.
        fraud: The signs of fraud.
        fraud_details: The details as received; the vendor does not document
            their shape.
        transactions: All transactions.
        salary_transactions, lender_transactions, self_and_sister_transactions,
            bounced_or_penal_transactions: The transactions of each kind.
        recurring_transactions: The credits and debits that recur.
        top_credits_debits: The largest transactions.
        statement_stats: The details of each statement.
        expense_categories: The shares of the expenses.
        monthly_analysis: The figures as received, by name and month. Most are
            numbers; some are texts, objects or `None`.
        predictors: The variables as received. They include the account number
            and the holder's name.
        eod_balances: The balances at the end of each day, as received.
        score: The score, from 300 to 900.
        xlsx_report_url, xml_report_url: The pre-signed links, to `download`.
    """

    account_id: str | None = field(label)
    account_details: AccountDetails | None = field(AccountDetails)
    fraud: Rows[FraudFinding] = list_field(FraudFinding)
    fraud_details: Mapping[str, Any] = object_field()
    transactions: Rows[Transaction] = rows()
    salary_transactions: Rows[SalaryTransaction] = rows(cls=SalaryTransaction)
    lender_transactions: Rows[Transaction] = rows()
    self_and_sister_transactions: Rows[Transaction] = rows()
    bounced_or_penal_transactions: Rows[Transaction] = rows()
    recurring_transactions: RecurringSets = field(
        RecurringSets, factory=RecurringSets
    )
    top_credits_debits: Rows[TopTransactions] = list_field(TopTransactions)
    statement_stats: Rows[StatementStats] = list_field(StatementStats)
    expense_categories: Rows[ExpenseCategory] = list_field(ExpenseCategory)
    monthly_analysis: Mapping[str, Any] = object_field()
    predictors: Mapping[str, Any] = object_field()
    eod_balances: Mapping[str, Any] = object_field()
    score: Decimal | None = field(number)
    xlsx_report_url: str | None = field(text, repr=hidden)
    xml_report_url: str | None = field(text, repr=hidden)


def _account_insights(value: object, path: str, problems: list[str]) -> Any:
    # Everything but the id stands one level down, under `data`.
    document = mapping(value, path, problems)
    if document is None:
        return None
    data: Mapping[str, Any] = {}
    if is_present(below := document.get("data")):
        data = mapping(below, f"{path}.data", problems) or {}
    flat = {**data, "account_id": document.get("account_id")}
    return structure(
        AccountInsights, flat, f"{path}.data", problems, raw=document
    )


@attrs.frozen(kw_only=True)
class Insights(Model):
    """
    All data of a session (`insights/`).

    In `raw`, numbers with a fraction are `Decimal`.

    Attributes:
        session_id: The id of the session.
        link_id: Your id of the customer.
        session_date_range: The days that the session asked for.
        accounts: The data of each account.
        aggregate_monthly_analysis: The figures over all accounts, as received.
        aggregate_xlsx_report_url, aggregate_xml_report_url: The pre-signed
            links, to `download`.
    """

    session_id: str = field(label, required=True, repr=hidden)
    link_id: str | None = field(label)
    session_date_range: DateRange | None = field(DateRange)
    accounts: Rows[AccountInsights] = rows_field(
        AccountInsights, _account_insights
    )
    aggregate_monthly_analysis: Mapping[str, Any] = object_field()
    aggregate_xlsx_report_url: str | None = field(text, repr=hidden)
    aggregate_xml_report_url: str | None = field(text, repr=hidden)


@attrs.frozen(kw_only=True)
class SessionIdentities(Model):
    """
    The holders of a session's accounts (`identity/`, as of April 2024).

    Attributes:
        session_id: The id of the session.
        accounts: The accounts.
        identities: The holders.
    """

    session_id: str = field(label, required=True, repr=hidden)
    accounts: Rows[Account] = list_field(Account)
    identities: Rows[Identity] = list_field(Identity, "identity")


@attrs.frozen(kw_only=True)
class SessionReports(Model):
    """
    A workbook for each account (`xlsx_report/`, as of April 2024).

    Attributes:
        session_id: The id of the session.
        reports: The workbooks.
    """

    session_id: str = field(label, required=True, repr=hidden)
    reports: Rows[Report] = list_field(Report)


@attrs.frozen(kw_only=True)
class RecurringConsent(Model):
    """
    A consent to ask an account aggregator again.

    Attributes:
        consent_id: The id of the consent.
        bank_name: The bank identifier.
        masked_account_number: The account number as the vendor masks it.
        tenure_month_count: The number of months for which it is valid.
        frequency_unit, frequency_value: The limit on how often it may be used.
    """

    consent_id: str = field(label, required=True)
    bank_name: str | None = field(text)
    masked_account_number: str | None = field(label, repr=masked)
    tenure_month_count: int | None = field(count)
    frequency_unit: str | None = field(text)
    frequency_value: int | None = field(count)


@attrs.frozen(kw_only=True)
class RecurringConsents(Model):
    """
    All consents of a session (`get_recurring_consent_details/`).

    Attributes:
        consent_details: The consents.
    """

    consent_details: Rows[RecurringConsent] = list_field(RecurringConsent)


@attrs.frozen(kw_only=True)
class NewSession(Model):
    """
    The response of `fetch_recurring_aa_data/`.

    Attributes:
        session_id: The id of the new session.
    """

    session_id: str = field(label, required=True, repr=hidden)
