"""
Responses to uploads (contract, `rest-api.md` sections 5 and 6).
"""

import datetime

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import attrs

from . import _fields as reading
from ._fields import plain, raw, wired
from .accounts import Identity
from .webhooks import DateRange


@attrs.frozen(kw_only=True)
class EntityUpload:
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
        raw: The answer as received.
    """

    entity_id: str = wired(reading.label, required=True)
    statement_id: str = wired(reading.label, required=True)
    bank_name: str | None = wired(reading.text)
    identity: Identity | None = wired(reading.one(Identity))
    date_range: DateRange | None = wired(reading.one(DateRange))
    is_fraud: bool | None = wired(reading.flag)
    fraud_type: str | None = wired(reading.text)
    raw: Mapping[str, Any] = raw()


@attrs.frozen(kw_only=True)
class SessionUpload:
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
        raw: The answer as received.
    """

    session_id: str | None = wired(reading.label, repr=reading.hidden)
    statement_id: str | None = wired(reading.label, required=True)
    account_id: str | None = wired(reading.label)
    masked_account_number: str | None = wired(
        reading.label, repr=reading.masked
    )
    bank_name: str | None = wired(reading.text)
    identity: Identity | None = wired(reading.one(Identity))
    page_count: int | None = wired(reading.count)
    date_range: DateRange | None = wired(reading.one(DateRange))
    extracted_date_range: DateRange | None = wired(reading.one(DateRange))
    opening_date: datetime.datetime | None = wired(reading.instant)
    opening_bal: Decimal | None = wired(reading.number)
    closing_bal: Decimal | None = wired(reading.number)
    is_fraud: bool | None = wired(reading.flag)
    fraud_type: str | None = wired(reading.text)
    months: tuple[str, ...] = wired(reading.many(reading.text), default=())
    missing_months: tuple[str, ...] = wired(
        reading.many(reading.text), default=()
    )
    country_code: str | None = wired(reading.text)
    currency_code: str | None = wired(reading.text)
    metadata_analysis: Mapping[str, Any] = plain()
    repeated: bool = False
    raw: Mapping[str, Any] = raw()
