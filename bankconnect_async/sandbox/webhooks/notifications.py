"""
The bodies of the webhooks.

Times are in UTC: with no other zone do the contract's samples fit together.
"""

import datetime

from typing import Final

from bankconnect_async._codec.session_requests import date_text
from bankconnect_async.models.webhooks import WebhookName
from bankconnect_async.sandbox.data_api import fields
from bankconnect_async.sandbox.data_api.outcomes import (
    account_outcomes,
    are_insights_available,
)
from bankconnect_async.sandbox.data_api.statements import (
    AccountStatements,
    UploadedStatement,
    group_by_account,
)
from bankconnect_async.sandbox.http.errors import JsonObject
from bankconnect_async.sandbox.journey.journey import Journey
from bankconnect_async.sandbox.messages import read_message


#: The reason of a statement whose processing failed (entity flow).
EXTRACTION_FAILED: Final = "Extraction failed"

_MESSAGES: Final = {
    WebhookName.UPLOADED: "Upload Completed",
    WebhookName.EXPIRED: "Session expired",
}


def upload_webhook(journey: Journey, name: WebhookName) -> JsonObject:
    """
    Return the webhook about complete uploads or about the expiry.
    """
    return {
        "session_id": journey.session.session_id,
        "event_name": name.value,
        "message": _MESSAGES[name],
        "session_date_range": date_range(*journey.date_range),
        "accounts": [
            upload_account(journey, group)
            for group in group_by_account(journey.statements)
        ],
    }


def enrichment_webhook(journey: Journey) -> JsonObject:
    """
    Return the webhook about the end of processing.

    Its accounts have fewer fields than those of the other webhooks.
    """
    return {
        "session_id": journey.session.session_id,
        "event_name": WebhookName.ENRICHED.value,
        "insights_available": are_insights_available(journey),
        "accounts": [
            {
                **fields.account(
                    outcome.group.account,
                    "name account_category account_id bank_name",
                ),
                "error_code": outcome.error_code or "",
                "error_message": outcome.error_message or "",
                "account_status": outcome.status,
                "attempt_types": outcome.attempt_types,
            }
            for outcome in account_outcomes(journey)
        ],
    }


def upload_account(journey: Journey, group: AccountStatements) -> JsonObject:
    """
    Return an account of the session flow before processing.
    """
    missing = group.missing(journey.requested_span)
    return {
        "account_id": group.account.account_id,
        "account_number": group.account.masked,
        "account_status": "COMPLETED" if journey.accepts(group) else "PARTIAL",
        "bank_name": group.account.bank,
        "created_at": fields.utc_seconds(group.statements[0].received_at),
        "last_updated_at": fields.utc_seconds(group.updated_at),
        "months": group.months,
        "missing_data": list(map(fields.iso_range, missing)),
        "statements": [
            upload_statement(journey, each) for each in group.statements
        ],
    }


def upload_statement(
    journey: Journey, statement: UploadedStatement
) -> JsonObject:
    """
    Return a statement of the session flow.
    """
    code = journey.processing and journey.processing.statement_error_code
    time = statement.received_at.astimezone(datetime.UTC)
    span = statement.span
    return {
        "statement_id": statement.statement_id,
        "statement_status": "failed" if code else "completed",
        "error_code": code or None,
        "error_message": read_message("statement", code)["text"]
        if code
        else None,
        "source": statement.source,
        "created_at": time.isoformat(" ", "microseconds"),
        "upload_file_name": statement.file_name,
        "statement_date_range": date_range(span.start, span.end),
    }


def date_range(start: datetime.date, end: datetime.date) -> JsonObject:
    """
    Return the days as `DD/MM/YYYY`.
    """
    return {"from_date": date_text(start), "to_date": date_text(end)}
