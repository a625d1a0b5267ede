"""
Responses of the endpoints beside `session/`, compared with their samples.
"""

import datetime
import decimal
import functools
import json
import pickle
import re
import tracemalloc

from decimal import Decimal
from pathlib import Path

import attrs
import pytest

from hypothesis import given
from hypothesis import strategies as st

from bankconnect_async import InvalidRequestError, InvalidResponseError
from bankconnect_async import models as answers_module
from bankconnect_async._codec.responses import (
    decode,
    decode_document,
    decode_rows,
)
from bankconnect_async._codec.webhooks import encode_webhook_update
from bankconnect_async._resources.organisation import (
    encode_entity,
    encode_recurring_fetch,
)
from bankconnect_async.models import (
    Accounts,
    BankCatalogue,
    BankHealth,
    Entity,
    EntityPage,
    EntityResponse,
    EntityUpload,
    ExcelReport,
    ExpenseCategories,
    Identities,
    Insights,
    MissedWebhooks,
    MonthlyAnalyses,
    MonthlyAnalysis,
    NewSession,
    Predictors,
    ProcessingRequest,
    RecurringConsents,
    RecurringTransactions,
    Reports,
    SalaryTransactions,
    Scores,
    SessionIdentities,
    SessionProgress,
    SessionReports,
    SessionStatus,
    SessionUpload,
    StoredPdfs,
    TopCreditsDebits,
    Transactions,
    UploadStatus,
)


SESSION = "d8aaa1f6-d2b6-41ba-9e97-f5f843c901ee"
ENTITY = "f5057fee-4c3e-4459-82dd-21250b729601"
ACCOUNT = "b7b3ff7b-623d-48df-8cd5-8cc6f137bdc5"
STATEMENT = "43c243ee-0945-46ce-9f76-663f8330df68"
HOOK = "https://merchant.example/hooks/bankconnect"


def at(*parts):
    """Parse a time without a time zone, as the vendor writes it."""
    return datetime.datetime(*parts)  # noqa: DTZ001 - as it is


# What a sample says, by the path of an attribute.
ANSWERS = {
    "aa.fetch_recurring_aa_data.response.json": (
        NewSession,
        {"session_id": "44d09f3d-38c2-4ebb-95ba-b91cd20b52cf"},
    ),
    "aa.get_recurring_consent_details.response.json": (
        RecurringConsents,
        {
            "consent_details.0.bank_name": "hdfc",
            "consent_details.0.masked_account_number": "XXXXXXXXXXX0042",
            "consent_details.0.tenure_month_count": 24,
            "consent_details.0.frequency_unit": "day",
            "consent_details.0.frequency_value": 3,
        },
    ),
    "accounts.response.json": (
        Accounts,
        {
            "entity_id": ENTITY,
            "progress.0.status": "completed",
            "progress.0.source": "pdf",
            "accounts.0.account_number": "000000000042",
            "accounts.0.months": ("2026-01", "2026-02"),
            "accounts.0.statements": (STATEMENT,),
            "accounts.0.ifsc": None,
            "accounts.0.credit_limit": Decimal(0),
            "accounts.0.last_updated": datetime.datetime(
                2026, 3, 4, 7, 37, 27, 976531, tzinfo=datetime.UTC
            ),
            "fraud.fraudulent_statements": (STATEMENT,),
            "fraud.findings.0.fraud_type": "author_fraud",
            "fraud.findings.0.fraud_category": "metadata",
            "fraud.findings.0.transaction_hash": None,
        },
    ),
    "accounts.response.failed.json": (
        Accounts,
        {
            "progress.0.status": "failed",
            "progress.0.message": "Extraction failed",
            "accounts": (),
            "fraud.findings": (),
        },
    ),
    "accounts.response.processing.json": (
        Accounts,
        {"progress.1.status": "processing", "progress.1.source": "online"},
    ),
    "accounts.response.seed.json": (
        Accounts,
        {
            "progress.0.source": None,
            "accounts.0.account_category": None,
            "accounts.0.last_updated": None,
            "fraud.findings.0.fraud_category": None,
        },
    ),
    "banks_catalogue.response.json": (
        BankCatalogue,
        {
            "banks.0.name": "HDFC",
            "banks.0.full_name": "HDFC Bank",
            "banks.1.npci_code": None,
            "banks.1.is_net_banking_available": False,
        },
    ),
    "entity.create.response.json": (
        Entity,
        {"entity_id": ENTITY, "meta_data": '{"tier":1}'},
    ),
    "entity.get.response.json": (
        Entity,
        {"link_id": "cust-7f31-0042", "meta_data": None},
    ),
    "entity.list.response.json": (
        EntityPage,
        {
            "count": 12,
            "previous": None,
            "results.0.entity_id": ENTITY,
            "results.1.link_id": None,
        },
    ),
    "expense_categories.response.json": (
        ExpenseCategories,
        {
            "categories.0.category": "Transfers",
            "categories.1.percentage": Decimal(40),
        },
    ),
    "get_excel_report.response.seed.json": (
        ExcelReport,
        {
            "progress": "completed",
            "report": "https://files.example/report.xlsx",
        },
    ),
    "get_pdfs.response.entity.json": (
        StoredPdfs,
        {
            "statements.0.pdf_url": "https://files.example/statement.pdf",
            "statements.0.pdf_password": None,
            "statements.0.source": None,
        },
    ),
    "get_pdfs.response.session.json": (
        StoredPdfs,
        {"statements.0.source": "PDF", "statements.0.message": "Success"},
    ),
    "identity.response.json": (
        Identities,
        {
            "progress.0.transaction_status": "completed",
            "identities.0.name": "SAMPLE HOLDER ONE",
            "identities.0.address": "1 SAMPLE STREET",
            "accounts.0.bank": "axis",
        },
    ),
    "lender_transactions.response.json": (
        Transactions,
        {"transactions.0.description": "lender_transaction"},
    ),
    "monthly_analysis.response.seed.json": (
        MonthlyAnalysis,
        {"monthly_analysis.amt_bill_payment_debit.Feb-2020": 1107},
    ),
    "monthly_analysis_updated.response.json": (
        MonthlyAnalyses,
        {
            f"monthly_analysis.{ACCOUNT}.opening_balance.Jan-2026": Decimal(
                "5771.5"
            ),
            "accounts.0.account_id": ACCOUNT,
        },
    ),
    "predictors.response.json": (
        Predictors,
        {
            "predictors.0.account_id": ACCOUNT,
            "predictors.0.predictors.credits": Decimal("1000.0"),
            "predictors.0.predictors.month_5": None,
        },
    ),
    "raw_excel_report.response.json": (
        Reports,
        {"reports.0.link": "https://files.example/raw.xlsx"},
    ),
    "recurring_transactions.response.json": (
        RecurringTransactions,
        {
            "transactions.credit_transactions.0.median": Decimal("27500.0"),
            "transactions.credit_transactions.0.start_date": (
                at(2025, 12, 31)
            ),
            "transactions.credit_transactions.0.transactions.1.balance": (
                Decimal("32600.5")
            ),
            "transactions.debit_transactions.0.transaction_channel": (
                "NET_BANKING_TRANSFER"
            ),
        },
    ),
    "rolling_monthly_analysis.response.json": (
        MonthlyAnalysis,
        {
            "monthly_analysis.monthly_analysis.month_1.credit.sum": Decimal(
                "100.0"
            )
        },
    ),
    "salary.response.json": (
        SalaryTransactions,
        {
            "transactions.0.month_year": "1-2026",
            "transactions.0.clean_transaction_note": "Sample Employer",
            "transactions.0.amount": Decimal("27500.0"),
        },
    ),
    "score.response.json": (
        Scores,
        {"scores.0.account_id": ACCOUNT, "scores.0.score": Decimal(650)},
    ),
    "session_data.initiate_processing.response.json": (
        ProcessingRequest,
        {"session_id": SESSION, "message": "success"},
    ),
    "session_data.insights.response.json": (
        Insights,
        {
            "link_id": "cust-7f31-0042",
            "session_date_range.from_date": datetime.date(2025, 10, 1),
            "accounts.0.account_id": ACCOUNT,
            "accounts.0.account_details.name": "SAMPLE HOLDER ONE",
            "accounts.0.account_details.dob": None,
            "accounts.0.account_details.credit_limit": Decimal("0.0"),
            "accounts.0.account_details.missing_data.0.to_date": (
                datetime.date(2026, 3, 31)
            ),
            "accounts.0.fraud.1.fraud_category": "accounting",
            "accounts.0.transactions.0.category": "Salary",
            "accounts.0.transactions.0.transaction_channel": "salary",
            "accounts.0.transactions.0.unclean_merchant": "SAMPLE EMPLOYER",
            "accounts.0.salary_transactions.0.salary_month": "Jan-2026",
            "accounts.0.recurring_transactions.credit_transactions": (),
            "accounts.0.lender_transactions.0.merchant_category": "loans",
            "accounts.0.top_credits_debits.0.type": "top_5_debit",
            "accounts.0.top_credits_debits.0.months.0.month": "Jan-26",
            "accounts.0.top_credits_debits.0.months.0.transactions.0.date": (
                at(2026, 1, 14)
            ),
            "accounts.0.statement_stats.0.page_count": 3,
            "accounts.0.statement_stats.0.is_scanned_pdf": False,
            "accounts.0.statement_stats.0.to_date": at(2026, 2, 28),
            "accounts.0.expense_categories.1.percentage": Decimal(34),
            "accounts.0.self_and_sister_transactions.0.category": (
                "Self Transfer"
            ),
            "accounts.0.bounced_or_penal_transactions": (),
            "accounts.0.monthly_analysis.opening_balance.Jan-2026": Decimal(
                "5.0"
            ),
            "accounts.0.predictors.author_fraud": False,
            "accounts.0.eod_balances.Feb-26.0": Decimal("49.85"),
            "accounts.0.score": Decimal("496.0"),
            "accounts.0.xlsx_report_url": (
                "https://files.example/account_report.xlsx"
            ),
            "aggregate_monthly_analysis.opening_balance.Jan-2026": Decimal(
                "5.0"
            ),
            "aggregate_xml_report_url": (
                "https://files.example/entity_report.xml"
            ),
        },
    ),
    "session_data.progress.response.completed.json": (
        SessionProgress,
        {
            "session_progress": "completed",
            "progress.1.fraud_status": "completed",
        },
    ),
    "session_data.progress.response.processing.json": (
        SessionProgress,
        {
            "session_progress": "processing",
            "progress.1.identity_status": "completed",
            "progress.1.transaction_status": "processing",
        },
    ),
    "session_data.session_status.response.2024-04.json": (
        SessionStatus,
        {
            "insights_available": None,
            "accounts.0.account_number": None,
            "accounts.0.created_at": None,
            "accounts.0.statements.0.statement_id": STATEMENT,
            "accounts.0.statements.0.error_code": None,
        },
    ),
    "session_data.session_status.response.completed.json": (
        SessionStatus,
        {
            "insights_available": True,
            "accounts.0.account_status": "completed",
            "accounts.0.account_type": "SAVINGS",
            "accounts.0.full_bank_name": "Axis Bank",
            "accounts.0.attempt_types": ("PDF",),
            "accounts.0.statements.0.statement_date_range.to_date": (
                datetime.date(2026, 3, 31)
            ),
        },
    ),
    "session_data.session_status.response.failed.json": (
        SessionStatus,
        {
            "insights_available": False,
            "accounts.0.error_code": "UNPARSABLE",
        },
    ),
    "session_data.session_upload_status.response.json": (
        UploadStatus,
        {
            "upload_status": "COMPLETED",
            "session_date_range.from_date": datetime.date(2025, 10, 1),
            "session_expiry_timestamp": at(2026, 4, 1, 7, 48, 34),
            "accounts.0.account_number": "000000000042",
            "accounts.0.missing_data.0.from_date": datetime.date(2026, 3, 24),
        },
    ),
    "session_data.session_upload_status.response.no_uploads.json": (
        UploadStatus,
        {"upload_status": "NO_UPLOADS", "accounts": ()},
    ),
    "session_data.upload_status.response.2024-04.json": (
        UploadStatus,
        {
            "upload_status": "NO_UPLOADS",
            "session_date_range.from_date": None,
        },
    ),
    "top_credits_debits.response.json": (
        TopCreditsDebits,
        {
            "top.credit.Jan-26.0.amount": Decimal("27500.0"),
            "top.credit.Jan-26.1.transaction_note": "UPI/SAMPLE A",
            "top.debit.Jan-26.0.transaction_note": "NACH/SAMPLE LENDER/0001",
        },
    ),
    "transactions.response.json": (
        Transactions,
        {
            "transactions.0.amount": Decimal("5100.0"),
            "transactions.0.balance": Decimal("922.5"),
            "transactions.0.date": at(2026, 1, 8),
            "transactions.0.merchant_category": None,
            "transactions.0.account_id": ACCOUNT,
        },
    ),
    "upload.entity.response.json": (
        EntityUpload,
        {
            "entity_id": ENTITY,
            "statement_id": STATEMENT,
            "identity.name": "SAMPLE HOLDER ONE",
            "date_range.to_date": datetime.date(2026, 3, 31),
            "is_fraud": False,
        },
    ),
    "upload.entity.response.fraud.json": (
        EntityUpload,
        {"is_fraud": True, "fraud_type": "author_fraud"},
    ),
    "upload.entity.response.identity_null.json": (
        EntityUpload,
        {"identity": None, "date_range.from_date": None},
    ),
    "upload.entity.response.no_identity_query.json": (
        EntityUpload,
        {"bank_name": "axis", "identity": None, "is_fraud": None},
    ),
    "upload.entity.response.seed.json": (
        EntityUpload,
        {"date_range.from_date": datetime.date(2019, 11, 18)},
    ),
    "upload.session.response.json": (
        SessionUpload,
        {
            "session_id": SESSION,
            "page_count": 17,
            "identity.ifsc": "ABCD0000001",
            "identity.od_limit": Decimal(0),
            "opening_bal": None,
            "masked_account_number": "XXXXXXXXXXXX42",
            "missing_months": ("2025-11", "2026-04"),
            "extracted_date_range.to_date": datetime.date(2026, 3, 5),
            "repeated": False,
        },
    ),
    "upload.session.response.minimal.json": (
        SessionUpload,
        {"bank_name": "karur", "account_id": ACCOUNT, "identity": None},
    ),
    "webhook.payloads.response.entity.json": (
        MissedWebhooks,
        {
            "payloads.0.progress": "completed",
            "payloads.0.date_time": at(2026, 3, 31, 10, 15, 30),
            "payloads.1.progress": "failed",
            "payloads.1.statement_id": None,
        },
    ),
    "xlsx_report.response.json": (
        Reports,
        {
            "reports.0.link": "https://files.example/report.xlsx",
            "reports.0.account_id": ACCOUNT,
        },
    ),
}
# Exercised elsewhere: rows below, the update's own answer over HTTP.
OTHERS = {
    "net_banking_health.response.json",
    "webhook.update.response.session.json",
}
# Shapes without a sample (contract, `rest-api.md` section 9).
UNSAMPLED = {SessionIdentities, SessionReports}
KINDS = {cls for cls, _ in ANSWERS.values()} | UNSAMPLED | {EntityResponse}


def look(value, path):
    """Follow a path of attributes, keys and indexes."""
    for step in path.split("."):
        if isinstance(value, tuple | list):
            value = value[int(step)]
        elif isinstance(value, dict):
            value = value[step]
        else:
            value = getattr(value, step)
    return value


@pytest.mark.parametrize("name", ANSWERS)
def test_reads_every_sample(name, sample):
    """
    Each documented response decodes to the documented values.
    """
    cls, facts = ANSWERS[name]

    answer = decode(cls, sample(name))

    assert {path: look(answer, path) for path in facts} == facts
    assert answer.raw == json.loads(sample(name), parse_float=Decimal)


def test_no_answer_is_forgotten(fixture_names):
    """
    The table has every sample of a response beside the Session API's.
    """
    found = {
        name
        for name in fixture_names
        if ".response" in name and not name.startswith("session.")
    }

    assert found == ANSWERS.keys() | OTHERS


def test_reads_the_health_of_net_banking(sample):
    """
    The response is an array, and the only one with times in UTC.
    """
    axis, hdfc = decode_rows(
        BankHealth, sample("net_banking_health.response.json")
    )

    assert (axis.bank, axis.health_up, axis.issue_details) == (
        "AXIS",
        True,
        None,
    )
    assert axis.updated_at == datetime.datetime(
        2026, 3, 31, 13, 28, 59, tzinfo=datetime.UTC
    )
    assert (hdfc.health_up, hdfc.issue_details) == (
        False,
        "Captcha failures seen",
    )


def test_reads_shapes_without_a_sample():
    """
    Shapes that the contract describes only in words decode accordingly.
    """
    identity = decode(
        SessionIdentities,
        b'{"session_id": "s", "accounts": [{"account_id": "a"}], "identity":'
        b' [{"name": "N", "raw_account_category": "X"}]}',
    )
    report = decode(
        SessionReports, b'{"session_id": "s", "reports": [{"link": "l"}]}'
    )

    assert identity.accounts[0].account_id == "a"
    assert identity.identities[0].raw["raw_account_category"] == "X"
    assert report.reports[0].link == "l"


class TestMoney:
    """
    Amounts
    """

    @pytest.mark.parametrize(
        ("printed", "amount"),
        [
            ("1234.10", "1234.10"),
            ("0.1", "0.1"),
            ("5", "5"),
            ("-12.00", "-12.00"),
            ("99999999999999999.99", "99999999999999999.99"),
            ("1e2", "1E+2"),
            ('"100.0"', "100.0"),
            ('" 7 "', "7"),
        ],
    )
    def test_are_exact(self, printed, amount):
        """
        Every digit is kept, even those that a float would lose.
        """
        raw = (
            f'{{"entity_id": "e", "transactions": [{{"amount": {printed}}}]}}'
        )

        (row,) = decode(Transactions, raw.encode()).transactions

        assert str(row.amount) == amount

    @pytest.mark.parametrize("printed", ['"n/a"', '"1,5"', '""', "null"])
    def test_that_cannot_be_read_are_none(self, printed):
        """
        An amount that is no number gives `None`, and its text is in `raw`.
        """
        raw = (
            f'{{"entity_id": "e", "transactions": [{{"amount": {printed}}}]}}'
        )

        (row,) = decode(Transactions, raw.encode()).transactions

        assert row.amount is None
        assert row.raw["amount"] == json.loads(printed)

    @pytest.mark.parametrize("count", ["3", "3.0", '"3"', "3e0"])
    def test_counts_are_whole(self, count):
        """
        A page count is an int, however it is written.
        """
        raw = f'{{"statement_id": "s", "page_count": {count}}}'

        found = decode(SessionUpload, raw.encode()).page_count

        assert (type(found), found) == (int, 3)

    @pytest.mark.parametrize("count", ["3.5", "1e300000000", '"many"'])
    def test_counts_that_are_none(self, count):
        """
        A fraction, or a number too long to write, gives `None`.
        """
        raw = f'{{"statement_id": "s", "page_count": {count}}}'

        assert decode(SessionUpload, raw.encode()).page_count is None

    def test_do_not_depend_on_the_users_context(self):
        """
        Neither precision nor traps of the current decimal context matter.
        """
        raw = b'{"entity_id": "e", "transactions": [{"amount": 1234567.891}]}'
        with decimal.localcontext(decimal.Context(prec=2)):
            (row,) = decode(Transactions, raw).transactions

        assert row.amount == Decimal("1234567.891")


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("2026-01-08 10:30:05", at(2026, 1, 8, 10, 30, 5)),
        ("2026-01-08", at(2026, 1, 8)),
        ("08/01/2026", at(2026, 1, 8)),
        ("8-Jan-26", at(2026, 1, 8)),
        ("08-JAN-2026", at(2026, 1, 8)),
        ("31-Dec-25", at(2025, 12, 31)),
        ("31-Feb-25", None),
        ("01-Foo-25", None),
        ("01-anf-25", None),
        ("2026-13-01 00:00:00", None),
        ("soon", None),
    ],
)
def test_reads_every_way_to_write_a_day(text, when):
    """
    Four notations of a date are read; any other text gives `None`.
    """
    raw = json.dumps({"entity_id": "e", "transactions": [{"date": text}]})

    assert decode(Transactions, raw.encode()).transactions[0].date == when


def test_keeps_notes_that_come_twice():
    """
    Equal notes of one month repeat a key, and all of them are kept.
    """
    raw = (
        b'{"entity_id": "e", "top_5_credit_debit": {"top_5_credit": {"Jan-26":'
        b' {"UPI/A": 3.0, "UPI/A": 2.0, "UPI/B": null}, "Feb-26": null}}}'
    )

    top = decode(TopCreditsDebits, raw, keep_pairs=True).top

    assert [
        (each.transaction_note, each.amount) for each in top.credit["Jan-26"]
    ] == [("UPI/A", 3), ("UPI/A", 2), ("UPI/B", None)]
    assert "Feb-26" not in top.credit
    assert not top.debit


@pytest.mark.parametrize(
    ("entries", "analysis"),
    [
        ("null", {}),
        ('{"account_id": null}', {}),
        ('{"account_id": [null, {"a": null}]}', {"a": {}}),
        ('{"account_id": [{"a": {"monthly_analysis": null}}]}', {"a": {}}),
    ],
)
def test_monthly_figures_may_be_missing(entries, analysis):
    """
    Every level of the monthly figures is optional.
    """
    raw = f'{{"entity_id": "e", "monthly_analysis": {entries}}}'

    found = decode(MonthlyAnalyses, raw.encode())

    assert found.monthly_analysis == analysis


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("IN PROGRESS", "IN_PROGRESS"),
        ("in_progress", "IN_PROGRESS"),
        ("EXPIRED", "EXPIRED"),
        ("Paused for later", "PAUSED_FOR_LATER"),
    ],
)
def test_keeps_unknown_states(word, status):
    """
    A status of a later server is kept in the same spelling.
    """
    raw = json.dumps({"session_id": "s", "upload_status": word}).encode()

    assert decode(UploadStatus, raw).upload_status == status


@pytest.mark.parametrize(
    ("cls", "raw", "problem"),
    [
        (Entity, b"", "is not JSON @ $"),
        (Entity, b"\xff", "is not JSON @ $"),
        (Entity, b"[" * 100_000, "is not JSON @ $"),
        (Entity, b'{"x": NaN}', "is not JSON @ $"),
        (Entity, b'{"x": 1e9999999999999999999}', "is not JSON @ $"),
        (Entity, b'{"x": 1%s}' % (b"0" * 5000), "is not JSON @ $"),
        (Entity, b"[]", "must be an object, not list @ $"),
        (Entity, b"{}", "required field missing @ $.entity_id"),
        (
            Entity,
            b'{"entity_id": []}',
            "must be a text, not list @ $.entity_id",
        ),
        (
            Accounts,
            b'{"entity_id": "e", "accounts": {}}',
            "must be an array, not dict @ $.accounts",
        ),
        (
            Accounts,
            b'{"entity_id": "e", "accounts": [{"credit_limit": true}]}',
            "must be a number, not bool @ $.accounts[0].credit_limit",
        ),
        (
            Transactions,
            b'{"entity_id": "e", "transactions": [1]}',
            "must be an object, not int @ $.transactions[0]",
        ),
        (
            Transactions,
            b'{"entity_id": "e", "transactions": [{"metadata": 1}]}',
            "must be an object, not int @ $.transactions[0].metadata",
        ),
        (
            Insights,
            b'{"session_id": "s", "accounts": [1, {"data": 1}]}',
            "must be an object, not int @ $.accounts[0]",
        ),
        (
            TopCreditsDebits,
            b'{"entity_id": "e", "top_5_credit_debit": {"top_5_debit":'
            b' {"Jan-26": [1]}}}',
            "must be an object, not list "
            "@ $.top_5_credit_debit.top_5_debit.Jan-26",
        ),
        (
            SessionUpload,
            b'{"statement_id": "\\ud800"}',
            "is not Unicode @ $.statement_id",
        ),
    ],
)
def test_names_what_is_wrong(cls, raw, problem):
    """
    The error for another shape names the path, and not the value.
    """
    with pytest.raises(InvalidResponseError) as caught:
        decode(cls, raw, status=203)

    assert problem in caught.value.problems
    assert caught.value.status == 203


@pytest.mark.parametrize("read", [decode_document, None])
def test_other_shapes_are_told_too(read):
    """
    A response that should be an array, or any object, is checked for it.
    """
    read = read or functools.partial(decode_rows, BankHealth)
    with pytest.raises(InvalidResponseError):
        read(b'"text"')


def test_undocumented_answers_are_handed_on():
    """
    A response of an undocumented shape is returned with exact numbers.
    """
    assert decode_document(b'{"a": [1.10]}') == {"a": [Decimal("1.10")]}


def leaves(document):
    """Return the paths of all scalars in *document*."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield (key,)
            yield from ((key, *rest) for rest in leaves(value))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield (index,)
            yield from ((index, *rest) for rest in leaves(value))


# Without these there is no answer; the vendor never leaves them out.
REQUIRED = {
    "entity_id",
    "session_id",
    "statement_id",
    "upload_status",
    "results",
    "banks",
    "name",
    "consent_id",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_null_never_fails(name, sample):
    """
    `null` in place of anything but an id is read as missing.
    """
    cls, _ = ANSWERS[name]
    for path in leaves(json.loads(sample(name))):
        if path[-1] in REQUIRED:
            continue
        document = json.loads(sample(name))
        functools.reduce(lambda node, key: node[key], path[:-1], document)[
            path[-1]
        ] = None

        assert decode(cls, json.dumps(document).encode()) is not None


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_new_is_kept(name, sample):
    """
    A field of a later version is in `raw`, and changes nothing else.
    """
    cls, _ = ANSWERS[name]
    document = json.loads(sample(name))
    document["added_later"] = {"x": [1]}

    answer = decode(cls, json.dumps(document).encode())

    assert answer == decode(cls, sample(name))
    assert answer.raw["added_later"] == {"x": [1]}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_can_be_kept(name, sample):
    """
    A response can be pickled, and can be a member of a set.
    """
    cls, _ = ANSWERS[name]
    answer = decode(cls, sample(name), keep_pairs=True)

    copy = pickle.loads(pickle.dumps(answer))

    assert {copy} == {answer}
    assert copy.raw == answer.raw


# What must show nowhere, and is in most samples.
SECRETS = (
    SESSION,
    "000000000042",
    "00000000000042",
    "SAMPLE HOLDER",
    "SAMPLE STREET",
    "files.example",
    "SAMPLE EMPLOYER",
    "SAMPLE LENDER",
)


@pytest.mark.parametrize("name", ANSWERS)
def test_reprs_tell_no_secrets(name, sample):
    """
    No repr shows an account number, a name, an address, a note or a link.
    """
    cls, _ = ANSWERS[name]

    shown = repr(decode(cls, sample(name)))

    assert [secret for secret in SECRETS if secret in shown] == []


def test_reprs_mask_account_numbers(sample):
    """
    The last four digits tell accounts apart.
    """
    shown = repr(decode(Accounts, sample("accounts.response.json")))

    assert "account_number='XXXXXX0042'" in shown


@pytest.mark.parametrize(
    "fields",
    [
        {"pdf_password": "canary"},
        {"pdf_url": "https://files.example/canary"},
    ],
)
def test_reprs_hide_what_opens_a_file(fields):
    """
    A repr shows that there is a password or a link, and hides its value.
    """
    raw = json.dumps({"statements": [fields]}).encode()

    shown = repr(decode(StoredPdfs, raw))

    assert "canary" not in shown
    assert f"{next(iter(fields))}='***'" in shown


def test_details_of_holders_are_hidden():
    """
    No repr of the insights identifies the account holder.
    """
    names = ("name", "address", "dob", "email", "pan_number", "phone_number")
    details = dict.fromkeys(names, "canary")
    raw = json.dumps(
        {
            "session_id": "s",
            "accounts": [{"data": {"account_details": details}}],
        }
    ).encode()

    answer = decode(Insights, raw)

    assert answer.accounts[0].account_details.email == "canary"
    assert "canary" not in repr(answer)


def test_errors_tell_no_secrets():
    """
    A decode error describes the problem without the response's values.
    """
    raw = b'{"entity_id": "e", "accounts": [{"account_number": ["canary"]}]}'

    with pytest.raises(InvalidResponseError) as caught:
        decode(Accounts, raw)

    assert "canary" not in f"{caught.value!r} {caught.value}"


@pytest.mark.parametrize("cls", sorted(KINDS, key=str), ids=str)
def test_answers_are_frozen(cls):
    """
    The attributes of a response cannot be set.
    """
    field = attrs.fields(cls)[0].name
    answer = object.__new__(cls)

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(answer, field, None)


MODULES = "accounts", "entities", "insights", "uploads", "webhooks"


def test_every_kind_is_exported():
    """
    Each class of the package's modules can be imported from it.
    """
    names = set(answers_module.__all__)
    folder = Path(answers_module.__file__).parent

    assert all(hasattr(answers_module, name) for name in names)
    assert {
        name
        for module in MODULES
        for name in re.findall(
            r"(?m)^class ([A-Z]\w+)", (folder / f"{module}.py").read_text()
        )
    } <= names


def test_large_answers_take_no_copy(sample):
    """
    Thousands of rows need no second copy of the document in memory.
    """
    (row,) = json.loads(sample("transactions.response.json"))["transactions"]
    raw = json.dumps({"entity_id": "e", "transactions": [row] * 2000}).encode()
    tracemalloc.start()
    answer = decode(Transactions, raw)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(answer.transactions) == 2000
    assert answer.transactions[7].raw is answer.raw["transactions"][7]
    assert size < 10 * len(raw)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["completed", "2026-01-01", "1-Jan-26", "e"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "entity_id",
                    "session_id",
                    "progress",
                    "accounts",
                    "data",
                    "transactions",
                    "amount",
                    "metadata",
                    "fraud",
                    "top_5_credit_debit",
                    "monthly_analysis",
                    "account_id",
                    "results",
                    "banks",
                    "statement_id",
                    "upload_status",
                ]
            )
            | st.text(max_size=4),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(document=json_values, cls=st.sampled_from(sorted(KINDS, key=str)))
def test_any_json_gives_a_value_or_an_error_of_ours(document, cls):
    """
    A decoder raises nothing but our errors for any JSON.
    """
    raw = json.dumps(document).encode()
    try:
        assert isinstance(decode(cls, raw, keep_pairs=True), cls)
    except InvalidResponseError as error:
        assert error.problems


@given(
    raw=st.binary(max_size=200), cls=st.sampled_from(sorted(KINDS, key=str))
)
def test_any_bytes_give_a_value_or_an_error_of_ours(raw, cls):
    """
    A decoder raises nothing but our errors for any bytes.
    """
    for read in (
        functools.partial(decode, cls),
        functools.partial(decode_rows, BankHealth),
        decode_document,
    ):
        try:
            assert read(raw) is not None
        except InvalidResponseError as error:
            assert error.problems


class TestRequests:
    """
    Request bodies
    """

    @pytest.mark.parametrize(
        ("name", "mode"),
        [
            ("webhook.update.request.entity.both_modes.json", 1),
            ("webhook.update.request.session.json", 1),
            ("webhook.update.request.session.legacy_all_modes.json", 3),
            (
                "webhook.update.request.session.legacy_list.json",
                ["ENRICHMENT_NOTIFICATION"],
            ),
        ],
    )
    def test_writes_the_update_samples(self, name, mode, sample_json):
        """
        Every documented update that names a mode is written as printed.
        """
        written = json.loads(encode_webhook_update(HOOK, mode))

        assert written == sample_json(name)

    def test_the_mode_is_never_left_out(self, sample_json):
        """
        The vendor's short form means mode 0, and the mode is written.
        """
        short = sample_json(
            "webhook.update.request.entity.netbanking_only.json"
        )

        assert json.loads(encode_webhook_update(HOOK, 0)) == {
            **short,
            "webhook_mode": 0,
        }

    @pytest.mark.parametrize(
        ("url", "mode", "names"),
        [
            ("hooks", 1, ["url"]),
            ("https:///hooks", 1, ["url"]),
            (HOOK, True, ["mode"]),
            (HOOK, "1", ["mode"]),
            (HOOK, [1], ["mode"]),
            ("", None, ["url", "mode"]),
        ],
    )
    def test_refuses_updates_that_cannot_be_sent(self, url, mode, names):
        """
        The error names all problems of an update.
        """
        with pytest.raises(InvalidRequestError) as caught:
            encode_webhook_update(url, mode)

        assert list(caught.value.fields) == names

    def test_writes_an_entity(self, sample_json):
        """
        Metadata is sent as a JSON text.
        """
        written = encode_entity(
            "cust-7f31-0042", is_single_account=False, meta_data={"tier": 1}
        )

        assert written == sample_json("entity.create.request.fields.json")
        assert encode_entity(
            None, is_single_account=True, meta_data="text"
        ) == {"is_single_account": "true", "meta_data": "text"}

    @pytest.mark.parametrize(
        ("link_id", "meta_data", "name"),
        [
            (" ", None, "link_id"),
            (7, None, "link_id"),
            ("c", {1}, "meta_data"),
        ],
    )
    def test_refuses_entities_that_cannot_be_sent(
        self, link_id, meta_data, name
    ):
        """
        The error names the problem of an entity.
        """
        with pytest.raises(InvalidRequestError) as caught:
            encode_entity(
                link_id, is_single_account=False, meta_data=meta_data
            )

        assert list(caught.value.fields) == [name]

    def test_writes_a_recurring_fetch(self, sample_json):
        """
        Days are written in the vendor's order, despite the parameters' names.
        """
        written = encode_recurring_fetch(
            "54dc7651-89f8-46dc-9f93-26be5a7eff0d",
            from_date=datetime.date(2025, 10, 10),
            to_date=datetime.date(2025, 11, 10),
        )

        assert json.loads(written) == sample_json(
            "aa.fetch_recurring_aa_data.request.json"
        )

    @pytest.mark.parametrize(
        ("consent_id", "first", "last", "names"),
        [
            (" ", "2026", None, ["consent_id", "from_date", "to_date"]),
            (
                "c",
                at(2026, 1, 1),
                datetime.date(2026, 1, 1),
                ["from_date"],
            ),
            (
                "c",
                datetime.date(2026, 1, 2),
                datetime.date(2026, 1, 1),
                ["from_date"],
            ),
        ],
    )
    def test_refuses_fetches_that_cannot_be_sent(
        self, consent_id, first, last, names
    ):
        """
        The error names all problems of a fetch.
        """
        with pytest.raises(InvalidRequestError) as caught:
            encode_recurring_fetch(consent_id, from_date=first, to_date=last)

        assert list(caught.value.fields) == names
