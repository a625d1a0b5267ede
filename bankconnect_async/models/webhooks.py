"""
Webhooks of both flows, in every documented form (contract, `webhooks.md`).
"""

import datetime
import enum

from typing import Final, TypeAlias

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
    utc_timestamp,
)
from ._rows import Rows
from .events import MAX_ID, MAX_LINK_ID


_id = identifier(MAX_ID)
_link_id = identifier(MAX_LINK_ID)
_FAILED: Final = "failed"


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
    A first and a last day; `None` where the vendor gave none.

    Attributes:
        from_date: The first day.
        to_date: The last day.
    """

    from_date: datetime.date | None = field(day)
    to_date: datetime.date | None = field(day)


@attrs.frozen(kw_only=True)
class WebhookStatement(Model):
    """
    One statement of an account, in the session flow's webhooks.

    Attributes:
        statement_id: The id of the statement.
        statement_status: The status, such as `completed` or `failed`.
        error_code: The code of the problem; `None` if there is none.
        error_message: The vendor's text about the problem.
        source: The source, such as `pdf`.
        created_at: The time of the upload, with a time zone.
        upload_file_name: The name of the file.
        statement_date_range: The days covered.
    """

    statement_id: str | None = field(_id)
    statement_status: str | None = field(text)
    error_code: str | None = field(text)
    error_message: str | None = field(text)
    source: str | None = field(text)
    created_at: datetime.datetime | None = field(utc_timestamp)
    upload_file_name: str | None = field(text, repr=False)
    statement_date_range: DateRange | None = field(DateRange)


@attrs.frozen(kw_only=True)
class WebhookAccount(Model):
    """
    One account, with the fields that the session flow's webhooks had over
    time.

    Attributes:
        account_id: The id of the account.
        account_number: The account number, in clear or masked depending on the
            version; the repr shows at most the last four digits.
        account_status: `completed`, `failed`, `PARTIAL` or `COMPLETED`.
        account_category: The category, such as `individual`.
        bank_name: The bank identifier.
        name: The name of the holder.
        error_code: The code of the problem; `None` if there is none.
        error_message: The vendor's text about the problem.
        attempt_types: The sources, such as `PDF`.
        created_at, last_updated_at: The times, without time zone, because the
            vendor names none.
        months: The months with data, as `YYYY-MM`.
        missing_data: The gaps.
        statements: The statements that were uploaded.
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
    missing_data: Rows[DateRange] = list_field(DateRange)
    statements: Rows[WebhookStatement] = list_field(WebhookStatement)

    @property
    def is_failed(self) -> bool:
        """Whether the processing of the account failed."""
        return (self.account_status or "").lower() == _FAILED


@attrs.frozen(kw_only=True)
class _Webhook(Model):
    key: str = attrs.field(default="", eq=False)


@attrs.frozen(kw_only=True)
class ExtractionWebhook(_Webhook):
    """
    Extraction of one statement ended (entity flow).

    Attributes:
        entity_id: The id under which the data is kept.
        statement_id: The id of the statement; `None` if none was uploaded.
        link_id: Your id of the customer; `None` if the upload named none.
        progress: `completed` or `failed`.
        reason: The vendor's text about a failure.
        date_time: The time when a recovered webhook was due; without time
            zone.
        key: The key of the outcome, from a `CallbackService`; see `event_key`.
    """

    entity_id: str | None = field(_id)
    statement_id: str | None = field(_id)
    link_id: str | None = field(_link_id)
    progress: str | None = field(text)
    reason: str | None = field(text)
    date_time: datetime.datetime | None = field(timestamp)

    @property
    def is_failed(self) -> bool:
        """Whether the extraction failed."""
        return self.progress == _FAILED


@attrs.frozen(kw_only=True)
class _SessionWebhook(_Webhook):
    session_id: str | None = field(_id)
    event_name: str | None = field(text)
    link_id: str | None = None


@attrs.frozen(kw_only=True)
class UploadWebhook(_SessionWebhook):
    """
    The customer completed the uploads (session flow).

    Attributes:
        session_id: The id of the session.
        event_name: The one of its two names that it had.
        message: The vendor's text, such as `Upload Completed`.
        session_date_range: The days that the session asks for.
        accounts: The accounts that were uploaded.
        link_id: Your id of the customer, if the `CallbackService` knows the
            session; the vendor does not send it.
        key: The key of the outcome, from a `CallbackService`; see `event_key`.
    """

    message: str | None = field(text)
    session_date_range: DateRange | None = field(DateRange)
    accounts: Rows[WebhookAccount] = list_field(WebhookAccount)


@attrs.frozen(kw_only=True)
class ExpiryWebhook(_SessionWebhook):
    """
    The session expired and accepts no more uploads (session flow).

    Attributes:
        session_id: The id of the session.
        event_name: The name of the event on the wire.
        message: The vendor's text, such as `Session expired`.
        session_date_range: The days that the session asked for.
        accounts: The accounts uploaded until then.
        link_id: Your id of the customer, if the `CallbackService` knows the
            session; the vendor does not send it.
        key: The key of the outcome, from a `CallbackService`; see `event_key`.
    """

    message: str | None = field(text)
    session_date_range: DateRange | None = field(DateRange)
    accounts: Rows[WebhookAccount] = list_field(WebhookAccount)


@attrs.frozen(kw_only=True)
class EnrichmentWebhook(_SessionWebhook):
    """
    Processing ended, with or without success (session flow).

    Attributes:
        session_id: The id of the session.
        event_name: The name of the event on the wire.
        insights_available: Whether there are insights to fetch; `None` in
            versions that do not say.
        accounts: The accounts that were processed.
        link_id: Your id of the customer, if the `CallbackService` knows the
            session; the vendor does not send it.
        key: The key of the outcome, from a `CallbackService`; see `event_key`.
    """

    insights_available: bool | None = field(flag)
    accounts: Rows[WebhookAccount] = list_field(WebhookAccount)

    @property
    def is_failed(self) -> bool:
        """
        Whether processing failed, so that there is no data.

        The vendor says that there are no insights, or each account failed.
        """
        return self.insights_available is False or (
            bool(self.accounts)
            and all(account.is_failed for account in self.accounts)
        )


@attrs.frozen(kw_only=True)
class UnknownWebhook(_SessionWebhook):
    """
    A webhook whose `event_name` this version does not know.

    Attributes:
        session_id: The id of the session, if there is one.
        event_name: The name of the event on the wire.
        link_id: Your id of the customer, if the `CallbackService` knows the
            session; the vendor does not send it.
        key: The key of the outcome, from a `CallbackService`; see `event_key`.
    """


@attrs.frozen(kw_only=True)
class MissedWebhooks(Model):
    """
    The webhooks of a customer, newest first (`webhook_payloads/`).

    Attributes:
        payloads: The webhooks.
    """

    payloads: Rows[ExtractionWebhook] = list_field(ExtractionWebhook)


Webhook: TypeAlias = (
    ExtractionWebhook
    | UploadWebhook
    | ExpiryWebhook
    | EnrichmentWebhook
    | UnknownWebhook
)
