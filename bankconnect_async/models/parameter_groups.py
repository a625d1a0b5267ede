"""
Groups of parameters in a session request: consents and metadata.
"""

import datetime

from collections.abc import Iterable

import attrs

from .sessions import (
    Value,
    check_fields,
    date_problem,
    is_unicode,
    optional,
)


def _names(value: object) -> str | None:
    if not isinstance(value, tuple) or not all(
        isinstance(name, str) and is_unicode(name) for name in value
    ):
        return "must be a sequence of texts"
    return None


def _tuple(value: Iterable[str] | None) -> tuple[str, ...] | None:
    # A text is an iterable of texts too, but never a list of names.
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value  # type: ignore[return-value] # the rule refuses it
    return tuple(value)


@attrs.frozen(kw_only=True, slots=False)
class Consent(Value):
    """
    The dates of one Account Aggregator consent (contract, v2 session API).

    Attributes:
        from_date: The first day of data; `None` leaves it to the vendor.
        to_date: The last day of data, after *from_date*.
        consent_expiry: The day on which the consent ends.

    Raises:
        InvalidRequestError: With every bad date in `fields`.
    """

    from_date: datetime.date | None = optional(date_problem)
    to_date: datetime.date | None = optional(date_problem)
    consent_expiry: datetime.date | None = optional(date_problem)

    def __attrs_post_init__(self) -> None:
        check_fields(self)


@attrs.frozen(kw_only=True, slots=False)
class Metadata(Value):
    """
    Names that help the vendor to recognise people in the statements.

    Attributes:
        names: The names of the customer.
        employer_names: The names of employers, to find salaries.
        companies_for_self_transfer: The customer's own companies.

    Raises:
        InvalidRequestError: With every bad list in `fields`.
    """

    names: tuple[str, ...] | None = optional(
        _names, converter=_tuple, repr=False
    )
    employer_names: tuple[str, ...] | None = optional(
        _names, converter=_tuple, repr=False
    )
    companies_for_self_transfer: tuple[str, ...] | None = optional(
        _names, converter=_tuple, repr=False
    )

    def __attrs_post_init__(self) -> None:
        check_fields(self)
