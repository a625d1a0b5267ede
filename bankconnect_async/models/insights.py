"""
Responses of the session flow (contract, `rest-api.md` sections 3, 9, 10).
"""

import datetime

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import attrs

from . import _fields as reading
from ._fields import plain, raw, wired
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
    word = reading.text(value, path, problems)
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

    account_type: str | None = wired(reading.text)
    full_bank_name: str | None = wired(reading.text)


@attrs.frozen(kw_only=True)
class UploadState:
    """
    In which state the uploads of a session are, and no more.

    Attributes:
        session_id: Of the session.
        upload_status: `COMPLETED`, `IN_PROGRESS`, `NO_UPLOADS` or `EXPIRED`
            in one spelling; words not known yet are kept.
        raw: The answer as received; it holds account numbers.
    """

    session_id: str = wired(reading.label, required=True, repr=reading.hidden)
    upload_status: str = wired(_status_word, required=True)
    raw: Mapping[str, Any] = raw()


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

    session_date_range: DateRange | None = wired(reading.one(DateRange))
    session_expiry_timestamp: datetime.datetime | None = wired(reading.moment)
    accounts: tuple[SessionAccount, ...] = wired(
        reading.many(reading.one(SessionAccount)), default=()
    )


@attrs.frozen(kw_only=True)
class ProcessingRequest:
    """
    The response of `initiate_processing/`.
    """

    session_id: str | None = wired(reading.label, repr=reading.hidden)
    message: str | None = wired(reading.text)
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class StatementStages:
    """
    How far one statement of a session is.

    Each status is `processing`, `completed` or `failed`; `None` is not yet.

    Attributes:
        statement_id: Its id.
        identity_status, transaction_status, processing_status, fraud_status:
            Of each stage.
        message: The vendor's text.
        source: Such as `pdf`.
        raw: As received.
    """

    statement_id: str | None = wired(reading.label)
    identity_status: str | None = wired(reading.word)
    transaction_status: str | None = wired(reading.word)
    processing_status: str | None = wired(reading.word)
    fraud_status: str | None = wired(reading.word)
    message: str | None = wired(reading.text)
    source: str | None = wired(reading.text)
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class SessionProgress:
    """
    How far the processing of a session is (`progress/`).

    Attributes:
        session_id: Of the session.
        session_progress: `processing` or `completed`.
        progress: Of each statement.
        raw: The answer as received.
    """

    session_id: str = wired(reading.label, required=True, repr=reading.hidden)
    session_progress: str | None = wired(reading.word)
    progress: tuple[StatementStages, ...] = wired(
        reading.many(reading.one(StatementStages)), default=()
    )
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class SessionStatus:
    """
    The outcome of processing (`session_status/`).

    Attributes:
        session_id: Of the session.
        insights_available: Whether there is something to fetch; `None` in
            versions that do not say.
        accounts: With what is wrong with each, if anything.
        raw: The answer as received; it holds account numbers.
    """

    session_id: str = wired(reading.label, required=True, repr=reading.hidden)
    insights_available: bool | None = wired(reading.flag)
    accounts: tuple[SessionAccount, ...] = wired(
        reading.many(reading.one(SessionAccount)), default=()
    )
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class AccountDetails:
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
        raw: As received.
    """

    name: str | None = wired(reading.text, repr=reading.hidden)
    address: str | None = wired(reading.text, repr=reading.hidden)
    dob: str | None = wired(reading.text, repr=reading.hidden)
    email: str | None = wired(reading.text, repr=reading.hidden)
    pan_number: str | None = wired(reading.label, repr=reading.hidden)
    phone_number: str | None = wired(reading.label, repr=reading.hidden)
    holder_type: str | None = wired(reading.text)
    account_number: str | None = wired(reading.label, repr=reading.masked)
    account_category: str | None = wired(reading.text)
    account_status: str | None = wired(reading.text)
    account_opening_date: datetime.datetime | None = wired(reading.instant)
    bank: str | None = wired(reading.text)
    ifsc: str | None = wired(reading.text)
    micr: str | None = wired(reading.label)
    credit_limit: Decimal | None = wired(reading.number)
    od_limit: Decimal | None = wired(reading.number)
    salary_confidence: Decimal | None = wired(reading.number)
    statements: tuple[str, ...] = wired(reading.many(reading.text), default=())
    months: tuple[str, ...] = wired(reading.many(reading.text), default=())
    uploaded_months: tuple[str, ...] = wired(
        reading.many(reading.text), default=()
    )
    missing_data: tuple[DateRange, ...] = wired(
        reading.many(reading.one(DateRange)), default=()
    )
    account_date_range: DateRange | None = wired(reading.one(DateRange))
    transaction_date_range: DateRange | None = wired(reading.one(DateRange))
    country_code: str | None = wired(reading.text)
    currency_code: str | None = wired(reading.text)
    metadata_analysis: Mapping[str, Any] = plain()
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class TopMonth:
    """
    The largest transactions of one month.

    Attributes:
        month: As `Mmm-YY`.
        transactions: The largest first.
        raw: As received.
    """

    month: str | None = wired(reading.text)
    transactions: tuple[Transaction, ...] = rows("data")
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class TopTransactions:
    """
    The largest credits or debits of each month.

    Attributes:
        type: `top_5_credit` or `top_5_debit`.
        months: One by one.
        raw: As received.
    """

    type: str | None = wired(reading.text)
    months: tuple[TopMonth, ...] = wired(
        reading.many(reading.one(TopMonth)), "data", default=()
    )
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class StatementStats:
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
        raw: As received.
    """

    statement_id: str | None = wired(reading.label)
    session_id: str | None = wired(reading.label, repr=reading.hidden)
    account_id: str | None = wired(reading.label)
    bank: str | None = wired(reading.text)
    source: str | None = wired(reading.text)
    upload_file_name: str | None = wired(reading.text, repr=False)
    page_count: int | None = wired(reading.count)
    transaction_count: int | None = wired(reading.count)
    first_transaction_timestamp: datetime.datetime | None = wired(
        reading.instant
    )
    last_transaction_timestamp: datetime.datetime | None = wired(
        reading.instant
    )
    from_date: datetime.datetime | None = wired(reading.instant)
    to_date: datetime.datetime | None = wired(reading.instant)
    is_scanned_pdf: bool | None = wired(reading.flag)
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class AccountInsights:
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
        raw: As received.
    """

    account_id: str | None = wired(reading.label)
    account_details: AccountDetails | None = wired(reading.one(AccountDetails))
    fraud: tuple[FraudFinding, ...] = wired(
        reading.many(reading.one(FraudFinding)), default=()
    )
    fraud_details: Mapping[str, Any] = plain()
    transactions: tuple[Transaction, ...] = rows()
    salary_transactions: tuple[SalaryTransaction, ...] = rows(
        cls=SalaryTransaction
    )
    lender_transactions: tuple[Transaction, ...] = rows()
    self_and_sister_transactions: tuple[Transaction, ...] = rows()
    bounced_or_penal_transactions: tuple[Transaction, ...] = rows()
    recurring_transactions: RecurringSets = wired(
        reading.one(RecurringSets), factory=RecurringSets
    )
    top_credits_debits: tuple[TopTransactions, ...] = wired(
        reading.many(reading.one(TopTransactions)), default=()
    )
    statement_stats: tuple[StatementStats, ...] = wired(
        reading.many(reading.one(StatementStats)), default=()
    )
    expense_categories: tuple[ExpenseCategory, ...] = wired(
        reading.many(reading.one(ExpenseCategory)), default=()
    )
    monthly_analysis: Mapping[str, Any] = plain()
    predictors: Mapping[str, Any] = plain()
    eod_balances: Mapping[str, Any] = plain()
    score: Decimal | None = wired(reading.number)
    xlsx_report_url: str | None = wired(reading.text, repr=reading.hidden)
    xml_report_url: str | None = wired(reading.text, repr=reading.hidden)
    raw: Mapping[str, Any] = raw()


def _account_insights(value: object, path: str, problems: list[str]) -> Any:
    # Everything but the id stands one level down, under `data`.
    document = reading.mapping(value, path, problems)
    if document is None:
        return None
    data: Mapping[str, Any] = {}
    if reading.is_present(below := document.get("data")):
        data = reading.mapping(below, f"{path}.data", problems) or {}
    flat = {**data, "account_id": document.get("account_id")}
    return reading.structure(
        AccountInsights, flat, f"{path}.data", problems, raw=document
    )


@attrs.frozen(kw_only=True)
class Insights:
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
        raw: The answer as received; numbers with a fraction are `Decimal`.
    """

    session_id: str = wired(reading.label, required=True, repr=reading.hidden)
    link_id: str | None = wired(reading.label)
    session_date_range: DateRange | None = wired(reading.one(DateRange))
    accounts: tuple[AccountInsights, ...] = wired(
        reading.many(_account_insights), default=()
    )
    aggregate_monthly_analysis: Mapping[str, Any] = plain()
    aggregate_xlsx_report_url: str | None = wired(
        reading.text, repr=reading.hidden
    )
    aggregate_xml_report_url: str | None = wired(
        reading.text, repr=reading.hidden
    )
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class SessionIdentities:
    """
    Whose the accounts of a session are (`identity/`, of April 2024).
    """

    session_id: str = wired(reading.label, required=True, repr=reading.hidden)
    accounts: tuple[Account, ...] = wired(
        reading.many(reading.one(Account)), default=()
    )
    identities: tuple[Identity, ...] = wired(
        reading.many(reading.one(Identity)), "identity", default=()
    )
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class SessionReports:
    """
    A workbook for each account (`xlsx_report/`, of April 2024).
    """

    session_id: str = wired(reading.label, required=True, repr=reading.hidden)
    reports: tuple[Report, ...] = wired(
        reading.many(reading.one(Report)), default=()
    )
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class RecurringConsent:
    """
    A consent under which an account aggregator may be asked again.

    Attributes:
        consent_id: Its id.
        bank_name: Bank identifier.
        masked_account_number: As the vendor masks it.
        tenure_month_count: How long it holds.
        frequency_unit, frequency_value: How often it may be used.
        raw: As received.
    """

    consent_id: str = wired(reading.label, required=True)
    bank_name: str | None = wired(reading.text)
    masked_account_number: str | None = wired(
        reading.label, repr=reading.masked
    )
    tenure_month_count: int | None = wired(reading.count)
    frequency_unit: str | None = wired(reading.text)
    frequency_value: int | None = wired(reading.count)
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class RecurringConsents:
    """
    All of a session (`get_recurring_consent_details/`).
    """

    consent_details: tuple[RecurringConsent, ...] = wired(
        reading.many(reading.one(RecurringConsent)), default=()
    )
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class NewSession:
    """
    The response of `fetch_recurring_aa_data/`.
    """

    session_id: str = wired(reading.label, required=True, repr=reading.hidden)
    raw: Mapping[str, Any] = raw()
