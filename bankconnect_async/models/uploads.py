"""
Responses to uploads (contract, `rest-api.md` sections 5 and 6).
"""

import datetime

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import attrs

from ._fields import (
    Model,
    count,
    field,
    flag,
    hidden,
    label,
    list_field,
    masked,
    number,
    object_field,
    text,
    timestamp_or_day,
)
from .accounts import Identity
from .webhooks import DateRange


@attrs.frozen(kw_only=True)
class EntityUpload(Model):
    """
    A statement that the vendor accepted (entity flow).

    Attributes:
        entity_id: The id of the entity, which may be new.
        statement_id: The id of the statement.
        bank_name: The bank identifier.
        identity: The holder; `None` if nothing could be read yet.
        date_range: The days covered; the vendor fills in open ends later.
        is_fraud: Whether the file itself looks forged.
        fraud_type: The kind of forgery.
    """

    entity_id: str = field(label, required=True)
    statement_id: str = field(label, required=True)
    bank_name: str | None = field(text)
    identity: Identity | None = field(Identity)
    date_range: DateRange | None = field(DateRange)
    is_fraud: bool | None = field(flag)
    fraud_type: str | None = field(text)


@attrs.frozen(kw_only=True)
class SessionUpload(Model):
    """
    A statement that the vendor accepted (session flow).

    Attributes:
        session_id: The id of the session.
        statement_id: The id of the statement; `None` only if it was *repeated*
            and the server did not name it.
        account_id: The id of the account.
        masked_account_number: The account number as the vendor masks it.
        bank_name: The bank identifier.
        identity: The holder.
        page_count: The number of pages.
        date_range, extracted_date_range: The days covered.
        opening_date, opening_bal, closing_bal: The figures of the statement.
        is_fraud: Whether the file itself looks forged.
        fraud_type: The kind of forgery.
        months, missing_months: The months as `YYYY-MM`.
        country_code, currency_code: The codes, such as `IN` and `INR`.
        metadata_analysis: The analysis of the file, as received.
        repeated: Whether an earlier attempt of the same operation had arrived,
            whose response was lost. Then only the ids are known.
    """

    session_id: str | None = field(label, repr=hidden)
    statement_id: str | None = field(label, required=True)
    account_id: str | None = field(label)
    masked_account_number: str | None = field(label, repr=masked)
    bank_name: str | None = field(text)
    identity: Identity | None = field(Identity)
    page_count: int | None = field(count)
    date_range: DateRange | None = field(DateRange)
    extracted_date_range: DateRange | None = field(DateRange)
    opening_date: datetime.datetime | None = field(timestamp_or_day)
    opening_bal: Decimal | None = field(number)
    closing_bal: Decimal | None = field(number)
    is_fraud: bool | None = field(flag)
    fraud_type: str | None = field(text)
    months: tuple[str, ...] = list_field(text)
    missing_months: tuple[str, ...] = list_field(text)
    country_code: str | None = field(text)
    currency_code: str | None = field(text)
    metadata_analysis: Mapping[str, Any] = object_field()
    repeated: bool = False
