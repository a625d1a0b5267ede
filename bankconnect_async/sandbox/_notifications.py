"""
What the sandbox says from server to server about a journey.

Webhooks are values of the schema, written under the schema's own names.
Times are in UTC: with no other zone do the contract's samples fit together.
"""

import datetime
import uuid

from collections.abc import Iterator
from typing import Any, Final

import attrs

from bankconnect_async._reading import wire_keys
from bankconnect_async.callbacks import (
    DateRange,
    ErrorEvent,
    ExpiryWebhook,
    ExtractionWebhook,
    SuccessEvent,
    UploadWebhook,
    WebhookAccount,
    WebhookName,
    WebhookStatement,
)
from bankconnect_async.wire import date_text

from ._banks import find_bank
from ._journey import Journey, Mode, Upload
from ._refusals import JsonObject


_NUMBER: Final = "000000000042"
_MASKED_NUMBER: Final = f"{'X' * 12}0042"
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
        date_time=_naive(now),
    )


def _statement_id(journey: Journey, mode: Mode) -> str:
    if journey.upload is not None:
        return journey.upload.statement_id
    # Who cannot log in to net banking has uploaded nothing.
    return str(uuid.uuid4()) if mode == "pdf" else ""


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


def upload_status(journey: Journey, now: datetime.datetime) -> JsonObject:
    """
    Answer ``GET session_data/<session_id>/session_upload_status/``.
    """
    return {
        "session_id": journey.session.session_id,
        "session_date_range": write(_date_range(journey)),
        "upload_status": _status(journey, now),
        "session_expiry_timestamp": write(_naive(journey.expires_at)),
        "accounts": [
            {**write(account), **_unmasked(account)}
            for account in _accounts(journey)
        ],
        "error": {},
    }


def _status(journey: Journey, now: datetime.datetime) -> str:
    if journey.upload is not None:
        return "COMPLETED"
    return "EXPIRED" if journey.is_expired(now) else "NO UPLOADS"


def _unmasked(account: WebhookAccount) -> JsonObject:
    bank = find_bank(account.bank_name or "")
    return {
        "account_number": _NUMBER,
        "name": "",
        "account_type": "",
        "full_bank_name": bank.name if bank else "",
    }


def _date_range(journey: Journey) -> DateRange:
    start, end = journey.date_range
    return DateRange(from_date=start, to_date=end)


def _accounts(journey: Journey) -> tuple[WebhookAccount, ...]:
    upload = journey.upload
    if upload is None:
        return ()
    at = _naive(upload.at)
    account = WebhookAccount(
        account_id=upload.account_id,
        account_number=_MASKED_NUMBER,
        bank_name=upload.bank,
        created_at=at,
        last_updated_at=at,
        statements=(_statement(journey, upload),),
        account_status="COMPLETED",
        months=tuple(_months(*journey.date_range)),
    )
    return (account,)


def _statement(journey: Journey, upload: Upload) -> WebhookStatement:
    return WebhookStatement(
        statement_id=upload.statement_id,
        statement_status="completed",
        source=upload.mode,
        upload_file_name=f"{upload.statement_id}_{upload.bank}.pdf",
        statement_date_range=_date_range(journey),
        created_at=upload.at.astimezone(datetime.UTC),
    )


def _months(start: datetime.date, end: datetime.date) -> Iterator[str]:
    first, last = (day.year * 12 + day.month - 1 for day in (start, end))
    for month in range(first, last + 1):
        yield f"{month // 12:04}-{month % 12 + 1:02}"


def _naive(moment: datetime.datetime) -> datetime.datetime:
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
        keys[0]: write(field)
        for name, keys in wire_keys(type(value)).items()
        if name not in _NOT_YET
        and ((field := getattr(value, name)) is not None or has_nulls)
    }
