"""
What the session flow answers about the data of a session.

Pure.
"""

import datetime

from collections.abc import Callable, Sequence

import attrs

from bankconnect_async.sandbox.fake_data import analyses
from bankconnect_async.sandbox.fake_data.analyses import money
from bankconnect_async.sandbox.fake_data.ledgers import (
    FakeAccount,
    FakeTransaction,
    Span,
)
from bankconnect_async.sandbox.http.errors import JsonObject
from bankconnect_async.sandbox.journey.journey import Journey
from bankconnect_async.sandbox.webhooks.notifications import (
    full_bank_name,
    naive,
    statement_entry,
    write,
)

from .entity_responses import (
    categories,
    identity,
    midnight,
    recurring_set,
    stored_pdfs,
    utc,
    write_row,
)
from .outcomes import Outcome, are_insights_available, outcomes
from .statements import AccountStatements, UploadedStatement, group_by_account


@attrs.frozen(kw_only=True)
class SessionQuery:
    """
    About which session something is asked, and when.

    Attributes:
        journey: The session's.
        now: The time.
        link: Makes a link to a stored file.
    """

    journey: Journey
    now: datetime.datetime
    link: Callable[[str], str]

    @property
    def session_id(self) -> str:
        """Of the session."""
        return self.journey.session.session_id

    @property
    def good(self) -> list[AccountStatements]:
        """The accounts that came through."""
        return [
            outcome.group
            for outcome in outcomes(self.journey)
            if outcome.error_code is None
        ]


def progress(inquiry: SessionQuery) -> JsonObject:
    """
    Answer ``progress/``.
    """
    journey = inquiry.journey
    assert journey.processing is not None  # noqa: S101 - asked for before
    word = journey.processing.status(inquiry.now)
    return {
        "session_id": inquiry.session_id,
        # How a session fails is for the status to say (contract, U-30).
        "session_progress": "processing"
        if word == "processing"
        else "completed",
        "progress": [
            {
                "identity_status": "completed",
                "transaction_status": word,
                "processing_status": word,
                "fraud_status": word,
                "statement_id": statement.statement_id,
                "message": None,
                "source": statement.source,
            }
            for statement in journey.statements
        ],
    }


def session_status(inquiry: SessionQuery) -> JsonObject:
    """
    Answer ``session_status/``.
    """
    return {
        "session_id": inquiry.session_id,
        "insights_available": are_insights_available(inquiry.journey),
        "accounts": [
            _account_status(outcome) for outcome in outcomes(inquiry.journey)
        ],
    }


def _account_status(outcome: Outcome) -> JsonObject:
    group = outcome.group
    account = group.account
    return {
        "name": account.name,
        "account_category": "individual",
        "account_id": account.account_id,
        "account_number": account.masked,
        "bank_name": account.bank,
        "error_code": outcome.error_code,
        "error_message": outcome.error_message,
        "account_status": outcome.status,
        "created_at": write(naive(group.statements[0].received_at)),
        "last_updated_at": write(naive(group.updated_at)),
        "statements": [
            {
                **write(statement_entry(statement)),
                "created_at": (
                    f"{utc(statement.received_at):%Y-%m-%dT%H:%M:%S.%f}Z"
                ),
            }
            for statement in group.statements
        ],
        "attempt_types": outcome.attempt_types,
        "account_type": "SAVINGS",
        "full_bank_name": full_bank_name(group),
    }


def insights(inquiry: SessionQuery) -> JsonObject:
    """
    Answer ``insights/``, with the accounts that came through.
    """
    session = inquiry.journey.session
    every = [row for group in inquiry.good for row in group.rows]
    every.sort(key=lambda row: row.day)
    session_id = inquiry.session_id
    return {
        "session_id": session_id,
        "link_id": session.link_id,
        "session_date_range": iso_range(inquiry.journey.requested_span),
        "accounts": [
            {
                "account_id": group.account.account_id,
                "data": _insight(inquiry, group),
            }
            for group in inquiry.good
        ],
        "aggregate_monthly_analysis": analyses.monthly_analysis(every),
        "aggregate_xlsx_report_url": inquiry.link(f"{session_id}/all.xlsx"),
        "aggregate_xml_report_url": inquiry.link(f"{session_id}/all.xml"),
    }


def iso_range(span: Span) -> JsonObject:
    """
    Write days as `YYYY-MM-DD`.
    """
    return {
        "from_date": span.start.isoformat(),
        "to_date": span.end.isoformat(),
    }


def _insight(inquiry: SessionQuery, group: AccountStatements) -> JsonObject:
    account, rows = group.account, group.rows
    lenders = [row for row in rows if row.is_of_lender]
    own = [row for row in rows if row.channel == "self_transfer"]
    path = f"{inquiry.session_id}/{account.account_id}.xlsx"
    return {
        "account_details": _details(inquiry, group),
        "fraud": [
            {
                "statement_id": statement.statement_id,
                "fraud_type": statement.fraud_type,
                "transaction_hash": None,
                "fraud_category": "metadata",
            }
            for statement in group.statements
            if statement.fraud_type is not None
        ],
        "fraud_details": {"statement": [], "account": []},
        "transactions": list(map(_row, rows)),
        "salary_transactions": [
            {
                **_row(row),
                "employer_name": row.payee,
                "salary_month": analyses.long_month(row.day),
            }
            for row in rows
            if row.is_salary
        ],
        "recurring_transactions": {
            f"{side}_transactions": [
                recurring_set(account, series, _recurring_row)
                for series in analyses.recurring(rows, side)
            ]
            for side in ("debit", "credit")
        },
        "lender_transactions": list(map(_flat_row, lenders)),
        "top_credits_debits": [
            {"type": f"top_5_{side}", "data": _top(rows, side)}
            for side in ("debit", "credit")
        ],
        "statement_stats": [
            _stats(inquiry, statement, rows) for statement in group.statements
        ],
        "expense_categories": categories(rows),
        "self_and_sister_transactions": list(map(_flat_row, own)),
        "bounced_or_penal_transactions": [],
        "monthly_analysis": _monthly(rows),
        "predictors": analyses.predictors(account, rows, is_session=True),
        "eod_balances": analyses.eod_balances(rows),
        "score": float(analyses.score(account)),
        "xlsx_report_url": inquiry.link(path),
    }


def _details(inquiry: SessionQuery, group: AccountStatements) -> JsonObject:
    account, rows = group.account, group.rows
    spans = group.spans
    covered = Span(
        start=min(span.start for span in spans),
        end=max(span.end for span in spans),
    )
    moved = Span(start=rows[0].day, end=rows[-1].day) if rows else covered
    return {
        "name": account.name,
        "address": account.address,
        "metadata_analysis": {"name_matches": []},
        "account_category": "individual",
        "account_number": account.number,
        "account_opening_date": None,
        "bank": account.bank,
        "credit_limit": 0.0,
        "ifsc": account.ifsc,
        "micr": account.micr,
        "missing_data": list(
            map(iso_range, group.missing(inquiry.journey.requested_span))
        ),
        "od_limit": 0.0,
        "salary_confidence": 100.0,
        "statements": [
            statement.statement_id for statement in group.statements
        ],
        "months": group.months,
        "uploaded_months": group.months,
        "country_code": "IN",
        "currency_code": "INR",
        "dob": "",
        "email": "",
        "pan_number": "",
        "phone_number": "",
        "account_status": "",
        "holder_type": "",
        "account_date_range": iso_range(covered),
        "transaction_date_range": iso_range(moved),
    }


def _row(row: FakeTransaction) -> JsonObject:
    whose = "Transfer from" if row.side == "credit" else "Transfer to"
    return {
        "transaction_type": row.side,
        "transaction_note": row.narration,
        "chq_num": "",
        "amount": money(row.amount),
        "balance": money(row.balance),
        "date": midnight(row.day),
        "hash": row.hash,
        "category": row.category,
        "metadata": {
            "unclean_merchant": row.payee,
            "transaction_channel": row.channel,
            "description": f"{whose} {row.payee}",
        },
    }


def _flat_row(row: FakeTransaction) -> JsonObject:
    shown = _row(row)
    del shown["metadata"]
    return {
        **shown,
        "transaction_channel": row.channel,
        "merchant_category": row.merchant,
        "description": row.description,
    }


def _recurring_row(row: FakeTransaction) -> JsonObject:
    shown = _flat_row(row)
    del shown["chq_num"]
    return shown


def _top(rows: Sequence[FakeTransaction], side: str) -> list[JsonObject]:
    return [
        {
            "month": analyses.short_month(month),
            "data": [
                {**_row(row), "date": analyses.short_day(row.day)}
                for row in top
            ],
        }
        for month, top in analyses.top_five(rows, side).items()
    ]


def _stats(
    inquiry: SessionQuery,
    statement: UploadedStatement,
    rows: Sequence[FakeTransaction],
) -> JsonObject:
    span = statement.span
    own = [row for row in rows if row.day in span]
    first, last = (own[0].day, own[-1].day) if own else (span.start, span.end)
    return {
        "session_id": inquiry.session_id,
        "account_id": statement.account.account_id,
        "statement_id": statement.statement_id,
        "first_transaction_timestamp": midnight(first),
        "last_transaction_timestamp": midnight(last),
        "bank": statement.account.bank,
        "source": statement.source.upper(),
        "upload_file_name": statement.file_name,
        "page_count": statement.page_count,
        "transaction_count": len(own),
        "from_date": midnight(span.start),
        "to_date": midnight(span.end),
        "is_scanned_pdf": False,
    }


def _monthly(rows: Sequence[FakeTransaction]) -> JsonObject:
    analysis = analyses.monthly_analysis(rows)
    months = list(analyses.by_month(rows))
    # What is no number in the documented example.
    return {
        **analysis,
        "employer_name": {
            analyses.long_month(month): None for month in months
        },
        "start_date": {
            analyses.long_month(month): f"01-{analyses.long_month(month)}"
            for month in months
        },
        "loan_emi": {analyses.long_month(month): {} for month in months},
    }


def session_pdfs(inquiry: SessionQuery) -> JsonObject:
    """
    Answer ``get_pdfs/``.
    """
    return {
        "statements": [
            {**entry, "source": "PDF", "message": "Success"}
            for entry in stored_pdfs(
                inquiry.journey.statements,
                inquiry.session_id,
                inquiry.now,
                inquiry.link,
            )
        ]
    }


def uploaded(
    journey: Journey, statement: UploadedStatement, *, is_long: bool
) -> JsonObject:
    """
    Answer ``statement/upload_session/``.

    Args:
        journey: Of the session.
        statement: What was taken.
        is_long: Whether to say who holds the account, and more.
    """
    account = statement.account
    answer: JsonObject = {
        "bank_name": account.bank,
        "statement_id": statement.statement_id,
        "account_id": account.account_id,
        "masked_account_number": account.masked,
        "status": 1,
        "session_id": journey.session.session_id,
    }
    if not is_long:
        return answer
    (group,) = (
        group
        for group in group_by_account(journey.statements)
        if group.account.account_id == account.account_id
    )
    return {
        **answer,
        "page_count": statement.page_count,
        "identity": {
            **identity(account, is_seed=False),
            "ifsc": account.ifsc,
            "micr": account.micr,
            "od_limit": 0,
            "bank_name": account.bank,
        },
        "date_range": iso_range(statement.span),
        "opening_date": None,
        "opening_bal": None,
        "closing_bal": None,
        "is_fraud": statement.fraud_type is not None,
        "fraud_type": statement.fraud_type,
        "metadata_analysis": {"name_matches": []},
        "country_code": "IN",
        "currency_code": "INR",
        "extracted_date_range": iso_range(statement.span),
        "months": group.months,
        "missing_months": group.missing_months(journey.requested_span),
    }


def _part_identity(inquiry: SessionQuery) -> JsonObject:
    return {
        "session_id": inquiry.session_id,
        "accounts": [
            _details(inquiry, group) | {"account_id": group.account.account_id}
            for group in inquiry.good
        ],
        "identity": [
            {
                **identity(group.account, is_seed=False),
                "raw_account_category": "SAVINGS",
                "metadata_analysis": {"name_matches": []},
            }
            for group in inquiry.good
        ],
    }


def _part_reports(inquiry: SessionQuery) -> JsonObject:
    session_id = inquiry.session_id
    return {
        "session_id": session_id,
        "reports": [
            {
                "link": inquiry.link(
                    f"{session_id}/{group.account.account_id}.xlsx"
                ),
                "account_id": group.account.account_id,
            }
            for group in inquiry.good
        ],
    }


def _part_transactions(inquiry: SessionQuery) -> JsonObject:
    return {
        "session_id": inquiry.session_id,
        "transactions": [
            write_row(group.account, row)
            for group in inquiry.good
            for row in group.rows
        ],
    }


def _part_recurring(inquiry: SessionQuery) -> JsonObject:
    return {
        "session_id": inquiry.session_id,
        "transactions": {
            f"{side}_transactions": [
                recurring_set(group.account, series, _recurring_row)
                for group in inquiry.good
                for series in analyses.recurring(group.rows, side)
            ]
            for side in ("credit", "debit")
        },
    }


def _by_account(
    name: str,
    write_one: Callable[[FakeAccount, list[FakeTransaction]], object],
) -> Callable[[SessionQuery], JsonObject]:
    def answer(inquiry: SessionQuery) -> JsonObject:
        return {
            "session_id": inquiry.session_id,
            name: [
                {
                    "account_id": group.account.account_id,
                    name: write_one(group.account, group.rows),
                }
                for group in inquiry.good
            ],
        }

    return answer


#: Single parts of the insights, from an older page. Of most it shows no
#: answer; they are those of the entity flow with the session's id.
PARTS = {
    "identity": _part_identity,
    "transactions": _part_transactions,
    "predictors": _by_account(
        "predictors",
        lambda account, rows: analyses.predictors(
            account, rows, is_session=True
        ),
    ),
    "eod_balances": _by_account(
        "eod_balances", lambda _, rows: analyses.eod_balances(rows)
    ),
    "monthly_analysis_updated": _by_account(
        "monthly_analysis", lambda _, rows: _monthly(rows)
    ),
    "recurring_transactions": _part_recurring,
    "xlsx_report": _part_reports,
}
