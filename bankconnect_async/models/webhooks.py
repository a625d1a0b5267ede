"""
Webhooks of both flows, in every documented form (contract, `webhooks.md`).
"""

import datetime
import enum

from typing import TypeAlias

import attrs

from ._fields import (
    Model,
    day,
    field,
    flag,
    identifier,
    label,
    list_field,
    masked,
    text,
    timestamp,
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
class DateRange(Model):
    """
    First and last day of something; `None` where the vendor gave none.
    """

    from_date: datetime.date | None = field(day)
    to_date: datetime.date | None = field(day)


@attrs.frozen(kw_only=True)
class WebhookStatement(Model):
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
    """

    statement_id: str | None = field(_id)
    statement_status: str | None = field(text)
    error_code: str | None = field(text)
    error_message: str | None = field(text)
    source: str | None = field(text)
    created_at: datetime.datetime | None = field(timestamp)
    upload_file_name: str | None = field(text, repr=False)
    statement_date_range: DateRange | None = field(DateRange)


@attrs.frozen(kw_only=True)
class WebhookAccount(Model):
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
    """

    account_id: str | None = field(_id)
    account_number: str | None = field(label, repr=masked)
    account_status: str | None = field(text)
    account_category: str | None = field(text)
    bank_name: str | None = field(text)
    name: str | None = field(text, repr=False)
    error_code: str | None = field(text)
    error_message: str | None = field(text)
    attempt_types: tuple[str, ...] = list_field(text)
    created_at: datetime.datetime | None = field(timestamp)
    last_updated_at: datetime.datetime | None = field(timestamp)
    months: tuple[str, ...] = list_field(text)
    missing_data: tuple[DateRange, ...] = list_field(DateRange)
    statements: tuple[WebhookStatement, ...] = list_field(WebhookStatement)


@attrs.frozen(kw_only=True)
class ExtractionWebhook(Model):
    """
    Extraction of one statement ended (entity flow).

    Attributes:
        entity_id: Id under which the data is kept.
        statement_id: Id of the statement; `None` if none was uploaded.
        link_id: Your id of the customer; `None` if the upload named none.
        progress: `completed` or `failed`.
        reason: The vendor's text about a failure.
        date_time: When the webhook was due, in recovered ones; no time zone.
    """

    entity_id: str | None = field(_id)
    statement_id: str | None = field(_id)
    link_id: str | None = field(_link_id)
    progress: str | None = field(text)
    reason: str | None = field(text)
    date_time: datetime.datetime | None = field(timestamp)


@attrs.frozen(kw_only=True)
class _SessionWebhook(Model):
    session_id: str | None = field(_id)
    event_name: str | None = field(text)


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
    """

    message: str | None = field(text)
    session_date_range: DateRange | None = field(DateRange)
    accounts: tuple[WebhookAccount, ...] = list_field(WebhookAccount)


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
    """

    message: str | None = field(text)
    session_date_range: DateRange | None = field(DateRange)
    accounts: tuple[WebhookAccount, ...] = list_field(WebhookAccount)


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
    """

    insights_available: bool | None = field(flag)
    accounts: tuple[WebhookAccount, ...] = list_field(WebhookAccount)


@attrs.frozen(kw_only=True)
class UnknownWebhook(_SessionWebhook):
    """
    A webhook whose `event_name` this version does not know.

    Attributes:
        session_id: Id of the session, if it named one.
        event_name: Its name on the wire.
    """


@attrs.frozen(kw_only=True)
class MissedWebhooks(Model):
    """
    The webhooks of a customer, newest first (`webhook_payloads/`).

    Attributes:
        payloads: The webhooks.
    """

    payloads: tuple[ExtractionWebhook, ...] = list_field(ExtractionWebhook)


Webhook: TypeAlias = (
    ExtractionWebhook
    | UploadWebhook
    | ExpiryWebhook
    | EnrichmentWebhook
    | UnknownWebhook
)
