"""
The responses of the session flow about the data of a session.

Pure.
"""

import datetime

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

from bankconnect_async.sandbox.fake_data import analyses, figures
from bankconnect_async.sandbox.fake_data.ledgers import FakeTransaction, Span
from bankconnect_async.sandbox.http.errors import JsonObject
from bankconnect_async.sandbox.journey.journey import Journey
from bankconnect_async.sandbox.webhooks.notifications import (
    date_range,
    upload_account,
    upload_statement,
)

from . import fields
from .outcomes import (
    AccountOutcome,
    account_outcomes,
    are_insights_available,
)
from .statements import (
    AccountStatements,
    UploadedStatement,
    group_by_account,
)


_ROW: Final = (
    "transaction_type transaction_note chq_num amount balance date hash "
    "category"
)
_NESTED_ROW: Final = f"{_ROW} metadata"
_FLAT_ROW: Final = f"{_ROW} transaction_channel merchant_category description"
_RECURRING_ROW: Final = _FLAT_ROW.replace("chq_num ", "")


@attrs.frozen(kw_only=True)
class SessionQuery:
    """
    A request for the data of a session.

    Attributes:
        journey: The session's journey.
        now: The time of the request.
        url_of: Returns the link to a stored file of the session.
    """

    journey: Journey
    now: datetime.datetime
    url_of: Callable[[str], str]

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self.journey.session.session_id

    @property
    def status(self) -> str:
        """The status of the processing; blank before it is requested."""
        processing = self.journey.processing
        return "" if processing is None else processing.status(self.now)

    @property
    def accounts(self) -> list[AccountStatements]:
        """The successfully processed accounts."""
        return [
            outcome.group
            for outcome in account_outcomes(self.journey)
            if outcome.error_code is None
        ]


Responder: TypeAlias = Callable[[SessionQuery], JsonObject]


def upload_status(query: SessionQuery) -> JsonObject:
    """
    Return the response of ``session_upload_status/``.
    """
    journey = query.journey
    return {
        "session_id": query.session_id,
        "session_date_range": date_range(*journey.date_range),
        "upload_status": _upload_status(query),
        "session_expiry_timestamp": fields.utc_seconds(journey.expires_at),
        "accounts": [
            {
                **upload_account(journey, group),
                "account_number": group.account.number,
                "name": "",
                "account_type": "",
                **fields.account(group.account, "full_bank_name"),
            }
            for group in group_by_account(journey.statements)
        ],
        "error": {},
    }


def _upload_status(query: SessionQuery) -> str:
    if query.journey.is_over:
        return "COMPLETED"
    if query.journey.is_expired(query.now):
        return "EXPIRED"
    return "IN_PROGRESS" if query.journey.statements else "NO_UPLOAD"


def progress(query: SessionQuery) -> JsonObject:
    """
    Return the response of ``progress/``.
    """
    status = query.status
    # Only the session's status says that it failed (contract, U-30).
    is_over = status != "processing"
    return {
        "session_id": query.session_id,
        "session_progress": "completed" if is_over else status,
        "progress": [
            {
                "identity_status": "completed",
                "transaction_status": status,
                "processing_status": status,
                "fraud_status": status,
                "statement_id": statement.statement_id,
                "message": None,
                "source": statement.source,
            }
            for statement in query.journey.statements
        ],
    }


def _session_status(query: SessionQuery) -> JsonObject:
    return {
        "session_id": query.session_id,
        "insights_available": are_insights_available(query.journey),
        "accounts": [
            _account_status(query, outcome)
            for outcome in account_outcomes(query.journey)
        ],
    }


def _account_status(
    query: SessionQuery, outcome: AccountOutcome
) -> JsonObject:
    group = outcome.group
    return {
        **fields.account(
            group.account,
            "name account_category account_id bank_name full_bank_name",
        ),
        "account_number": group.account.masked,
        "error_code": outcome.error_code,
        "error_message": outcome.error_message,
        "account_status": outcome.status,
        "created_at": fields.utc_seconds(group.statements[0].received_at),
        "last_updated_at": fields.utc_seconds(group.updated_at),
        "statements": [
            {
                **upload_statement(query.journey, each),
                "created_at": fields.utc_microseconds(each.received_at),
            }
            for each in group.statements
        ],
        "attempt_types": outcome.attempt_types,
        "account_type": "SAVINGS",
    }


def _insights(query: SessionQuery) -> JsonObject:
    accounts = query.accounts
    rows = analyses.merged([group.rows for group in accounts])
    return {
        "session_id": query.session_id,
        "link_id": query.journey.session.link_id,
        "session_date_range": fields.iso_range(query.journey.requested_span),
        "accounts": fields.by_account(
            accounts, "data", lambda group: _account_insights(query, group)
        ),
        "aggregate_monthly_analysis": figures.monthly_analysis(
            rows, "insights.aggregate_monthly_analysis"
        ),
        "aggregate_xlsx_report_url": query.url_of("all.xlsx"),
        "aggregate_xml_report_url": query.url_of("all.xml"),
    }


def _account_insights(
    query: SessionQuery, group: AccountStatements
) -> JsonObject:
    account, rows = group.account, group.rows
    salaries = [row for row in rows if row.is_salary]
    loans = [row for row in rows if row.is_of_lender]
    own = [row for row in rows if row.channel == "self_transfer"]
    (report,) = fields.reports([group], query.url_of)
    return {
        "account_details": _details(query, group),
        "fraud": fields.fraud(
            [group],
            "statement_id fraud_type transaction_hash fraud_category",
        ),
        "fraud_details": {"statement": [], "account": []},
        "transactions": fields.transactions(rows, _NESTED_ROW),
        "salary_transactions": fields.transactions(
            salaries, f"{_NESTED_ROW} employer_name salary_month"
        ),
        "recurring_transactions": fields.recurring([group], _RECURRING_ROW),
        "lender_transactions": fields.transactions(loans, _FLAT_ROW),
        "top_credits_debits": [
            {"type": f"top_5_{side}", "data": _top(rows, side)}
            for side in ("debit", "credit")
        ],
        "statement_stats": [
            _stats(query, statement, rows) for statement in group.statements
        ],
        "expense_categories": fields.expense_categories(rows),
        "self_and_sister_transactions": fields.transactions(own, _FLAT_ROW),
        "bounced_or_penal_transactions": [],
        "monthly_analysis": _monthly_analysis(group),
        "predictors": _predictors(group),
        "eod_balances": analyses.eod_balances(rows),
        "score": float(analyses.score(account)),
        "xlsx_report_url": report["link"],
    }


def _details(query: SessionQuery, group: AccountStatements) -> JsonObject:
    rows, spans = group.rows, group.spans
    covered = Span(
        start=min(span.start for span in spans),
        end=max(span.end for span in spans),
    )
    moved = Span(start=rows[0].day, end=rows[-1].day) if rows else covered
    missing = group.missing(query.journey.requested_span)
    return {
        **fields.group(
            group,
            "name address metadata_analysis account_category account_number "
            "bank ifsc micr statements months uploaded_months country_code "
            "currency_code",
        ),
        "account_opening_date": None,
        "credit_limit": 0.0,
        "missing_data": list(map(fields.iso_range, missing)),
        "od_limit": 0.0,
        "salary_confidence": 100.0,
        "dob": "",
        "email": "",
        "pan_number": "",
        "phone_number": "",
        "account_status": "",
        "holder_type": "",
        "account_date_range": fields.iso_range(covered),
        "transaction_date_range": fields.iso_range(moved),
    }


def _top(rows: Sequence[FakeTransaction], side: str) -> list[JsonObject]:
    return [
        {
            "month": analyses.short_month(month),
            "data": [
                {
                    **fields.transaction(row, _NESTED_ROW),
                    "date": analyses.short_day(row.day),
                }
                for row in top
            ],
        }
        for month, top in analyses.top_five(rows, side).items()
    ]


def _stats(
    query: SessionQuery,
    statement: UploadedStatement,
    rows: Sequence[FakeTransaction],
) -> JsonObject:
    span = statement.span
    days = [row.day for row in rows if row.day in span]
    first, last = (days[0], days[-1]) if days else (span.start, span.end)
    return {
        **fields.statement(
            statement,
            "account_id statement_id bank upload_file_name page_count",
        ),
        "session_id": query.session_id,
        "first_transaction_timestamp": fields.midnight(first),
        "last_transaction_timestamp": fields.midnight(last),
        "source": statement.source.upper(),
        "transaction_count": len(days),
        "from_date": fields.midnight(span.start),
        "to_date": fields.midnight(span.end),
        "is_scanned_pdf": False,
    }


def _monthly_analysis(group: AccountStatements) -> JsonObject:
    return figures.monthly_analysis(group.rows, "insights.monthly_analysis")


def _predictors(group: AccountStatements) -> JsonObject:
    return figures.predictors(
        group.account,
        group.rows,
        "insights.predictors",
        author_fraud=bool(fields.fraud([group], "fraud_type")),
    )


def session_pdfs(query: SessionQuery) -> JsonObject:
    """
    Return the response of ``get_pdfs/``.
    """
    statements = query.journey.statements
    return {
        "statements": [
            {**entry, "source": "PDF", "message": "Success"}
            for entry in fields.stored_pdfs(
                statements, query.url_of, query.now
            )
        ]
    }


def upload_response(
    journey: Journey, statement: UploadedStatement, *, is_long: bool
) -> JsonObject:
    """
    Return the response of ``statement/upload_session/``.

    Args:
        journey: The session's journey.
        statement: The uploaded statement.
        is_long: Whether the response describes the account, too.
    """
    account = statement.account
    response = {
        **fields.account(
            account, "bank_name account_id masked_account_number"
        ),
        "statement_id": statement.statement_id,
        "status": 1,
        "session_id": journey.session.session_id,
    }
    if not is_long:
        return response
    (group,) = (
        group
        for group in group_by_account(journey.statements)
        if group.account == account
    )
    return {
        **response,
        "page_count": statement.page_count,
        "identity": fields.account(
            account, f"{fields.IDENTITY} ifsc micr od_limit bank_name"
        ),
        "date_range": fields.iso_range(statement.span),
        "opening_date": None,
        "opening_bal": None,
        "closing_bal": None,
        **fields.statement(statement, "is_fraud fraud_type"),
        **fields.account(
            account, "metadata_analysis country_code currency_code"
        ),
        "extracted_date_range": fields.iso_range(statement.span),
        "months": group.months,
        "missing_months": group.missing_months(journey.requested_span),
    }


def _identity(query: SessionQuery) -> JsonObject:
    names = f"{fields.IDENTITY} raw_account_category metadata_analysis"
    return {
        "accounts": [
            {
                **_details(query, group),
                "account_id": group.account.account_id,
            }
            for group in query.accounts
        ],
        "identity": [
            fields.account(group.account, names) for group in query.accounts
        ],
    }


def _transactions(query: SessionQuery) -> JsonObject:
    rows = [row for group in query.accounts for row in group.rows]
    return {"transactions": fields.transactions(rows, fields.TRANSACTION)}


def _by_account(
    name: str, content: Callable[[AccountStatements], Any]
) -> Responder:
    return lambda query: {
        name: fields.by_account(query.accounts, name, content)
    }


# Single parts of the insights, from an older page. It shows few of the
# responses; they are those of the entity flow with the session's id.
_PARTS: Final[Mapping[str, Responder]] = {
    "identity": _identity,
    "transactions": _transactions,
    "predictors": _by_account("predictors", _predictors),
    "eod_balances": _by_account(
        "eod_balances", lambda group: analyses.eod_balances(group.rows)
    ),
    "monthly_analysis_updated": _by_account(
        "monthly_analysis", _monthly_analysis
    ),
    "recurring_transactions": lambda query: {
        "transactions": fields.recurring(query.accounts, _RECURRING_ROW)
    },
    "xlsx_report": lambda query: {
        "reports": fields.reports(query.accounts, query.url_of)
    },
}


def _part(content: Responder) -> Responder:
    return lambda query: {"session_id": query.session_id, **content(query)}


#: The responses once processing is over, by the path's last part.
PROCESSED_RESPONSES: Final[Mapping[str, Responder]] = {
    "session_status": _session_status,
    "insights": _insights,
    **{name: _part(content) for name, content in _PARTS.items()},
}
