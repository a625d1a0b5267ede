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
    structure,
    text,
    timestamp,
    timestamp_or_day,
)
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
    One account of a session; as in webhooks, and a little more.

    Attributes:
        account_type: Such as `SAVINGS`.
        full_bank_name: For people.
    """

    account_type: str | None = field(text)
    full_bank_name: str | None = field(text)


@attrs.frozen(kw_only=True)
class UploadState(Model):
    """
    In which state the uploads of a session are, and no more.

    Attributes:
        session_id: Of the session.
        upload_status: `COMPLETED`, `IN_PROGRESS`, `NO_UPLOADS` or `EXPIRED`
            in one spelling; words not known yet are kept.
    """

    session_id: str = field(label, required=True, repr=hidden)
    upload_status: str = field(_status_word, required=True)


@attrs.frozen(kw_only=True)
class UploadStatus(UploadState):
    """
    How far the uploads of a session are (`session_upload_status/`).

    Attributes:
        session_date_range: Days the session asks for.
        session_expiry_timestamp: When it takes no more uploads; the vendor
            names no time zone.
        accounts: What was uploaded so far.
    """

    session_date_range: DateRange | None = field(DateRange)
    session_expiry_timestamp: datetime.datetime | None = field(timestamp)
    accounts: tuple[SessionAccount, ...] = list_field(SessionAccount)


@attrs.frozen(kw_only=True)
class ProcessingRequest(Model):
    """
    The response of `initiate_processing/`.
    """

    session_id: str | None = field(label, repr=hidden)
    message: str | None = field(text)


@attrs.frozen(kw_only=True)
class StatementStages(Model):
    """
    How far one statement of a session is.

    Each status is `processing`, `completed` or `failed`; `None` is not yet.

    Attributes:
        statement_id: Its id.
        identity_status, transaction_status, processing_status, fraud_status:
            Of each stage.
        message: The vendor's text.
        source: Such as `pdf`.
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
    How far the processing of a session is (`progress/`).

    Attributes:
        session_id: Of the session.
        session_progress: `processing` or `completed`.
        progress: Of each statement.
    """

    session_id: str = field(label, required=True, repr=hidden)
    session_progress: str | None = field(lower_text)
    progress: tuple[StatementStages, ...] = list_field(StatementStages)


@attrs.frozen(kw_only=True)
class SessionStatus(Model):
    """
    The outcome of processing (`session_status/`).

    Attributes:
        session_id: Of the session.
        insights_available: Whether there is something to fetch; `None` in
            versions that do not say.
        accounts: With what is wrong with each, if anything.
    """

    session_id: str = field(label, required=True, repr=hidden)
    insights_available: bool | None = field(flag)
    accounts: tuple[SessionAccount, ...] = list_field(SessionAccount)


@attrs.frozen(kw_only=True)
class AccountDetails(Model):
    """
    An account in the insights, and whose it is.

    The repr shows the last digits of the account number, and nothing that
    tells who the holder is.

    Attributes:
        name, address, dob, email, pan_number, phone_number: Of the holder.
        holder_type: As the vendor reads it.
        account_number: In clear.
        account_category: Such as `individual`.
        account_status: As the bank prints it.
        account_opening_date: Where the statements tell.
        bank: Bank identifier.
        ifsc, micr: Codes of the branch.
        credit_limit, od_limit: Of an overdraft account.
        salary_confidence: How sure it is that a salary comes in; percent.
        statements: Ids.
        months: With data, as `YYYY-MM`.
        uploaded_months: The same, of what was uploaded.
        missing_data: Gaps.
        account_date_range, transaction_date_range: Days covered.
        country_code, currency_code: Such as `IN`, `INR`.
        metadata_analysis: As received.
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
    missing_data: tuple[DateRange, ...] = list_field(DateRange)
    account_date_range: DateRange | None = field(DateRange)
    transaction_date_range: DateRange | None = field(DateRange)
    country_code: str | None = field(text)
    currency_code: str | None = field(text)
    metadata_analysis: Mapping[str, Any] = object_field()


@attrs.frozen(kw_only=True)
class TopMonth(Model):
    """
    The largest transactions of one month.

    Attributes:
        month: As `Mmm-YY`.
        transactions: The largest first.
    """

    month: str | None = field(text)
    transactions: tuple[Transaction, ...] = rows("data")


@attrs.frozen(kw_only=True)
class TopTransactions(Model):
    """
    The largest credits or debits of each month.

    Attributes:
        type: `top_5_credit` or `top_5_debit`.
        months: One by one.
    """

    type: str | None = field(text)
    months: tuple[TopMonth, ...] = list_field(TopMonth, "data")


@attrs.frozen(kw_only=True)
class StatementStats(Model):
    """
    The details of one statement.

    Attributes:
        statement_id, session_id, account_id: Ids.
        bank: Bank identifier.
        source: Such as `PDF`.
        upload_file_name: Name of the file.
        page_count, transaction_count: How many.
        first_transaction_timestamp, last_transaction_timestamp: When.
        from_date, to_date: What it covers.
        is_scanned_pdf: Whether it has no text.
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
    Everything about one account.

    Fields that only later versions of the API send are empty in earlier
    ones.

    Attributes:
        account_id: The vendor's id.
        account_details: The account and its holder.
        fraud: Signs of it.
        fraud_details: As received; the shape is not documented.
        transactions: All.
        salary_transactions, lender_transactions,
        self_and_sister_transactions, bounced_or_penal_transactions: Some.
        recurring_transactions: What comes again and again.
        top_credits_debits: The largest.
        statement_stats: One by one.
        expense_categories: Where the money goes.
        monthly_analysis: As received: name of the figure, then month. Most
            are numbers, and some are texts, objects or `None`.
        predictors: As received; account number and name are among them.
        eod_balances: As received: balances at the end of each day.
        score: From 300 to 900.
        xlsx_report_url, xml_report_url: Pre-signed links, to `download`.
    """

    account_id: str | None = field(label)
    account_details: AccountDetails | None = field(AccountDetails)
    fraud: tuple[FraudFinding, ...] = list_field(FraudFinding)
    fraud_details: Mapping[str, Any] = object_field()
    transactions: tuple[Transaction, ...] = rows()
    salary_transactions: tuple[SalaryTransaction, ...] = rows(
        cls=SalaryTransaction
    )
    lender_transactions: tuple[Transaction, ...] = rows()
    self_and_sister_transactions: tuple[Transaction, ...] = rows()
    bounced_or_penal_transactions: tuple[Transaction, ...] = rows()
    recurring_transactions: RecurringSets = field(
        RecurringSets, factory=RecurringSets
    )
    top_credits_debits: tuple[TopTransactions, ...] = list_field(
        TopTransactions
    )
    statement_stats: tuple[StatementStats, ...] = list_field(StatementStats)
    expense_categories: tuple[ExpenseCategory, ...] = list_field(
        ExpenseCategory
    )
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
    Everything about a session (`insights/`).

    Attributes:
        session_id: Of the session.
        link_id: Yours.
        session_date_range: Days the session asked for.
        accounts: One by one.
        aggregate_monthly_analysis: Over all accounts, as received.
        aggregate_xlsx_report_url, aggregate_xml_report_url: Pre-signed
            links, to `download`.
    """

    session_id: str = field(label, required=True, repr=hidden)
    link_id: str | None = field(label)
    session_date_range: DateRange | None = field(DateRange)
    accounts: tuple[AccountInsights, ...] = list_field(_account_insights)
    aggregate_monthly_analysis: Mapping[str, Any] = object_field()
    aggregate_xlsx_report_url: str | None = field(text, repr=hidden)
    aggregate_xml_report_url: str | None = field(text, repr=hidden)


@attrs.frozen(kw_only=True)
class SessionIdentities(Model):
    """
    Whose the accounts of a session are (`identity/`, of April 2024).
    """

    session_id: str = field(label, required=True, repr=hidden)
    accounts: tuple[Account, ...] = list_field(Account)
    identities: tuple[Identity, ...] = list_field(Identity, "identity")


@attrs.frozen(kw_only=True)
class SessionReports(Model):
    """
    A workbook for each account (`xlsx_report/`, of April 2024).
    """

    session_id: str = field(label, required=True, repr=hidden)
    reports: tuple[Report, ...] = list_field(Report)


@attrs.frozen(kw_only=True)
class RecurringConsent(Model):
    """
    A consent under which an account aggregator may be asked again.

    Attributes:
        consent_id: Its id.
        bank_name: Bank identifier.
        masked_account_number: As the vendor masks it.
        tenure_month_count: How long it holds.
        frequency_unit, frequency_value: How often it may be used.
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
    All of a session (`get_recurring_consent_details/`).
    """

    consent_details: tuple[RecurringConsent, ...] = list_field(
        RecurringConsent
    )


@attrs.frozen(kw_only=True)
class NewSession(Model):
    """
    The response of `fetch_recurring_aa_data/`.
    """

    session_id: str = field(label, required=True, repr=hidden)
