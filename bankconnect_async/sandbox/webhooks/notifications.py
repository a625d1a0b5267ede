"""
What the sandbox says from server to server about a journey.

Webhooks are values of the schema, written under the schema's own names.
Times are in UTC: with no other zone do the contract's samples fit together.
"""

import datetime

from typing import Any, Final

import attrs

from bankconnect_async._codec.session_requests import date_text
from bankconnect_async.models._fields import wire_keys
from bankconnect_async.models.events import ErrorEvent, SuccessEvent
from bankconnect_async.models.webhooks import (
    DateRange,
    ExpiryWebhook,
    ExtractionWebhook,
    UploadWebhook,
    WebhookAccount,
    WebhookName,
    WebhookStatement,
)
from bankconnect_async.sandbox.banks import find_bank
from bankconnect_async.sandbox.data_api.outcomes import (
    are_insights_available,
    outcomes,
)
from bankconnect_async.sandbox.data_api.statements import (
    AccountStatements,
    UploadedStatement,
    group_by_account,
    new_id,
)
from bankconnect_async.sandbox.fake_data.ledgers import Span
from bankconnect_async.sandbox.http.errors import JsonObject
from bankconnect_async.sandbox.journey.journey import Journey, Mode


#: What is said of a statement that failed in processing (entity flow).
EXTRACTION_FAILED: Final = "Extraction failed"

# The one field whose days are `YYYY-MM-DD`.
_GAPS: Final = "missing_data"
# What accounts of the schema have after enrichment only.
_NOT_YET: Final = frozenset({"attempt_types"})


def extraction(
    journey: Journey,
    event: SuccessEvent | ErrorEvent,
    mode: Mode,
    now: datetime.datetime,
) -> ExtractionWebhook:
    """
    Say that an extraction ended (entity flow).

    Args:
        journey: Whose.
        event: How it ended.
        mode: How the statements came in.
        now: When.
    """
    progress, reason = _result(event)
    return ExtractionWebhook(
        entity_id=journey.entity_id,
        statement_id=_statement_id(journey, mode),
        link_id=journey.session.link_id,
        progress=progress,
        reason=reason,
        date_time=naive(now),
    )


def _statement_id(journey: Journey, mode: Mode) -> str:
    if journey.statements:
        return journey.statements[-1].statement_id
    # Who cannot log in to net banking has uploaded nothing.
    return new_id() if mode == "pdf" else ""


def _result(event: SuccessEvent | ErrorEvent) -> tuple[str, str]:
    if isinstance(event, ErrorEvent):
        return "failed", event.reason or ""
    return "completed", ""


def uploaded(journey: Journey) -> UploadWebhook:
    """
    Say that the uploads are complete (session flow).
    """
    return UploadWebhook(
        session_id=journey.session.session_id,
        event_name=WebhookName.UPLOADED,
        message="Upload Completed",
        accounts=_accounts(journey),
        session_date_range=_date_range(journey),
    )


def expired(journey: Journey) -> ExpiryWebhook:
    """
    Say that the session ran out (session flow).
    """
    return ExpiryWebhook(
        session_id=journey.session.session_id,
        event_name=WebhookName.EXPIRED,
        message="Session expired",
        accounts=_accounts(journey),
        session_date_range=_date_range(journey),
    )


def enriched(journey: Journey) -> JsonObject:
    """
    Say that processing ended (session flow).

    Accounts have fewer fields here than in the other webhooks.
    """
    return {
        "session_id": journey.session.session_id,
        "event_name": WebhookName.ENRICHED.value,
        "insights_available": are_insights_available(journey),
        "accounts": [
            {
                "name": outcome.group.account.name,
                "account_category": "individual",
                "account_id": outcome.group.account.account_id,
                "bank_name": outcome.group.account.bank,
                "error_code": outcome.error_code or "",
                "error_message": outcome.error_message or "",
                "account_status": outcome.status,
                "attempt_types": outcome.attempt_types,
            }
            for outcome in outcomes(journey)
        ],
    }


def upload_status(journey: Journey, now: datetime.datetime) -> JsonObject:
    """
    Answer ``GET session_data/<session_id>/session_upload_status/``.
    """
    return {
        "session_id": journey.session.session_id,
        "session_date_range": write(_date_range(journey)),
        "upload_status": _status(journey, now),
        "session_expiry_timestamp": write(naive(journey.expires_at)),
        "accounts": [
            {**write(_account(journey, group)), **_unmasked(group)}
            for group in group_by_account(journey.statements)
        ],
        "error": {},
    }


def _status(journey: Journey, now: datetime.datetime) -> str:
    if journey.is_over:
        return "COMPLETED"
    if journey.is_expired(now):
        return "EXPIRED"
    return "IN PROGRESS" if journey.statements else "NO UPLOADS"


def _unmasked(group: AccountStatements) -> JsonObject:
    return {
        "account_number": group.account.number,
        "name": "",
        "account_type": "",
        "full_bank_name": full_bank_name(group),
    }


def full_bank_name(group: AccountStatements) -> str:
    """
    Return the name of an account's bank, for people.
    """
    bank = find_bank(group.account.bank)
    return bank.name if bank else ""


def _date_range(journey: Journey) -> DateRange:
    start, end = journey.date_range
    return DateRange(from_date=start, to_date=end)


def _accounts(journey: Journey) -> tuple[WebhookAccount, ...]:
    return tuple(
        _account(journey, group)
        for group in group_by_account(journey.statements)
    )


def _account(journey: Journey, group: AccountStatements) -> WebhookAccount:
    return WebhookAccount(
        account_id=group.account.account_id,
        account_number=group.account.masked,
        bank_name=group.account.bank,
        created_at=naive(group.statements[0].received_at),
        last_updated_at=naive(group.updated_at),
        statements=tuple(map(statement_entry, group.statements)),
        account_status="COMPLETED" if journey.accepts(group) else "PARTIAL",
        months=tuple(group.months),
        missing_data=tuple(
            map(date_range, group.missing(journey.requested_span))
        ),
    )


def statement_entry(statement: UploadedStatement) -> WebhookStatement:
    """
    Return a statement as the session flow lists it.
    """
    return WebhookStatement(
        statement_id=statement.statement_id,
        statement_status="completed",
        source=statement.source,
        upload_file_name=statement.file_name,
        statement_date_range=date_range(statement.span),
        created_at=statement.received_at.astimezone(datetime.UTC),
    )


def date_range(span: Span) -> DateRange:
    """
    Return *span* as a value of the schema.
    """
    return DateRange(from_date=span.start, to_date=span.end)


def naive(moment: datetime.datetime) -> datetime.datetime:
    """
    Return a time as most answers have it: in UTC, without saying so.
    """
    return moment.astimezone(datetime.UTC).replace(tzinfo=None)


def write(value: Any) -> Any:
    """
    Write a value of the schema as JSON's types, under its wire names.
    """
    match value:
        case tuple():
            return [write(entry) for entry in value]
        case datetime.datetime():
            precision = "seconds" if value.tzinfo is None else "microseconds"
            return value.isoformat(" ", precision)
        case datetime.date():
            return date_text(value)
        case _ if attrs.has(type(value)):
            return _write_fields(value)
        case _:
            return value


def _write_fields(value: Any) -> JsonObject:
    # Where a statement could name an error it says `null`; elsewhere, what
    # there is nothing to say about is left out.
    has_nulls = isinstance(value, WebhookStatement)
    return {
        keys[0]: _gaps(value) if name == _GAPS else write(field)
        for name, keys in wire_keys(type(value)).items()
        if name not in _NOT_YET
        and ((field := getattr(value, name)) is not None or has_nulls)
    }


def _gaps(account: WebhookAccount) -> list[JsonObject]:
    return [
        {"from_date": str(gap.from_date), "to_date": str(gap.to_date)}
        for gap in account.missing_data
    ]
