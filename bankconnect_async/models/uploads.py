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
    A statement that was taken (entity flow).

    Attributes:
        entity_id: Of the entity, which may be new.
        statement_id: Of the statement.
        bank_name: Bank identifier.
        identity: Whose it is; `None` if nothing could be read yet.
        date_range: Days it covers; filled in later where it is open.
        is_fraud: Whether the file itself looks forged.
        fraud_type: In which way.
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
    A statement that was taken (session flow).

    Attributes:
        session_id: Of the session.
        statement_id: Of the statement; `None` only if it was *repeated* and
            the server did not name it.
        account_id: Of the account.
        masked_account_number: As the vendor masks it.
        bank_name: Bank identifier.
        identity: Whose it is.
        page_count: How many.
        date_range, extracted_date_range: Days it covers.
        opening_date, opening_bal, closing_bal: As the statement says.
        is_fraud: Whether the file itself looks forged.
        fraud_type: In which way.
        months, missing_months: As `YYYY-MM`.
        country_code, currency_code: Such as `IN`, `INR`.
        metadata_analysis: As received.
        repeated: Whether an earlier attempt of the same call had arrived,
            whose answer was lost. Then nothing but ids is known.
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
