"""
Webhooks of both flows, in every documented form (contract, `webhooks.md`).
"""

import datetime
import enum

from collections.abc import Mapping
from typing import Any, TypeAlias

import attrs

from ._fields import (
    day,
    flag,
    identifier,
    label,
    many,
    masked,
    moment,
    one,
    raw,
    text,
    wired,
)
from .events import MAX_ID, MAX_LINK_ID


_id = identifier(MAX_ID)
_link_id = identifier(MAX_LINK_ID)


class WebhookName(enum.StrEnum):
    """
    The `event_name` of the session flow's webhooks, in all versions.
    """

    UPLOADED = "SESSION_REQUIREMENT_COMPLETION_NOTIFICATION"
    UPLOADED_2024 = "SESSION_COMPLETION_NOTIFICATION"
    EXPIRED = "SESSION_EXPIRY_NOTIFICATION"
    ENRICHED = "ENRICHMENT_NOTIFICATION"


@attrs.frozen(kw_only=True)
class DateRange:
    """
    First and last day of something; `None` where the vendor gave none.
    """

    from_date: datetime.date | None = wired(day)
    to_date: datetime.date | None = wired(day)
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class WebhookStatement:
    """
    One statement of an account, as the session flow's webhooks have it.

    Attributes:
        statement_id: Its id.
        statement_status: Such as `completed`, `failed`.
        error_code: What is wrong with it; `None` if nothing.
        error_message: The vendor's text about that.
        source: Such as `pdf`.
        created_at: When it was uploaded, with the time zone.
        upload_file_name: Name of the file.
        statement_date_range: Days it covers.
        raw: What was delivered.
    """

    statement_id: str | None = wired(_id)
    statement_status: str | None = wired(text)
    error_code: str | None = wired(text)
    error_message: str | None = wired(text)
    source: str | None = wired(text)
    created_at: datetime.datetime | None = wired(moment)
    upload_file_name: str | None = wired(text, repr=False)
    statement_date_range: DateRange | None = wired(one(DateRange))
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class WebhookAccount:
    """
    One account, as the session flow's webhooks have it at different dates.

    Attributes:
        account_id: Its id.
        account_number: In clear or masked, depending on the date; the repr
            shows the last four digits at most.
        account_status: `completed`, `failed`, `PARTIAL`, `COMPLETED`.
        account_category: Such as `individual`.
        bank_name: Bank identifier.
        name: Of the account's holder.
        error_code: What is wrong with it; `None` if nothing.
        error_message: The vendor's text about that.
        attempt_types: Such as `PDF`.
        created_at, last_updated_at: Without time zone: the vendor names
            none.
        months: Months with data, as `YYYY-MM`.
        missing_data: Gaps.
        statements: What was uploaded.
        raw: What was delivered.
    """

    account_id: str | None = wired(_id)
    account_number: str | None = wired(label, repr=masked)
    account_status: str | None = wired(text)
    account_category: str | None = wired(text)
    bank_name: str | None = wired(text)
    name: str | None = wired(text, repr=False)
    error_code: str | None = wired(text)
    error_message: str | None = wired(text)
    attempt_types: tuple[str, ...] = wired(many(text), default=())
    created_at: datetime.datetime | None = wired(moment)
    last_updated_at: datetime.datetime | None = wired(moment)
    months: tuple[str, ...] = wired(many(text), default=())
    missing_data: tuple[DateRange, ...] = wired(
        many(one(DateRange)), default=()
    )
    statements: tuple[WebhookStatement, ...] = wired(
        many(one(WebhookStatement)), default=()
    )
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class ExtractionWebhook:
    """
    Extraction of one statement ended (entity flow).

    Attributes:
        entity_id: Id under which the data is kept.
        statement_id: Id of the statement; `None` if none was uploaded.
        link_id: Your id of the customer; `None` if the upload named none.
        progress: `completed` or `failed`.
        reason: The vendor's text about a failure.
        date_time: When the webhook was due, in recovered ones; no time zone.
        raw: What was delivered.
    """

    entity_id: str | None = wired(_id)
    statement_id: str | None = wired(_id)
    link_id: str | None = wired(_link_id)
    progress: str | None = wired(text)
    reason: str | None = wired(text)
    date_time: datetime.datetime | None = wired(moment)
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class _SessionWebhook:
    session_id: str | None = wired(_id)
    event_name: str | None = wired(text)
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class UploadWebhook(_SessionWebhook):
    """
    The customer completed the uploads asked for (session flow).

    Attributes:
        session_id: Id of the session.
        event_name: Which of the two names it had.
        message: Such as `Upload Completed`.
        session_date_range: Days the session asks for.
        accounts: What was uploaded.
        raw: What was delivered.
    """

    message: str | None = wired(text)
    session_date_range: DateRange | None = wired(one(DateRange))
    accounts: tuple[WebhookAccount, ...] = wired(
        many(one(WebhookAccount)), default=()
    )


@attrs.frozen(kw_only=True)
class ExpiryWebhook(_SessionWebhook):
    """
    The session ran out and takes no more uploads (session flow).

    Attributes:
        session_id: Id of the session.
        event_name: Its name on the wire.
        message: Such as `Session expired`.
        session_date_range: Days the session asked for.
        accounts: What was uploaded until then.
        raw: What was delivered.
    """

    message: str | None = wired(text)
    session_date_range: DateRange | None = wired(one(DateRange))
    accounts: tuple[WebhookAccount, ...] = wired(
        many(one(WebhookAccount)), default=()
    )


@attrs.frozen(kw_only=True)
class EnrichmentWebhook(_SessionWebhook):
    """
    Processing ended, well or badly (session flow).

    Attributes:
        session_id: Id of the session.
        event_name: Its name on the wire.
        insights_available: Whether there is something to fetch; `None` in
            versions that do not say.
        accounts: What was processed.
        raw: What was delivered.
    """

    insights_available: bool | None = wired(flag)
    accounts: tuple[WebhookAccount, ...] = wired(
        many(one(WebhookAccount)), default=()
    )


@attrs.frozen(kw_only=True)
class UnknownWebhook(_SessionWebhook):
    """
    A webhook whose `event_name` this version does not know.

    Attributes:
        session_id: Id of the session, if it named one.
        event_name: Its name on the wire.
        raw: What was delivered.
    """


Webhook: TypeAlias = (
    ExtractionWebhook
    | UploadWebhook
    | ExpiryWebhook
    | EnrichmentWebhook
    | UnknownWebhook
)
