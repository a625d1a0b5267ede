"""
Rules between parameters that are valid by themselves.
"""

import datetime

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from bankconnect_async.sandbox.banks import bank_of, find_bank
from bankconnect_async.sandbox.http.errors import Problem

from .field_rules import NOT_BEFORE


Values: TypeAlias = Mapping[str, Any]
Problems: TypeAlias = Iterator[Problem]
Check: TypeAlias = Callable[[Values, datetime.date], Problems]

TODAY: Final = datetime.timedelta()
YESTERDAY: Final = datetime.timedelta(days=-1)
_RECURRING: Final = {"only_recurring", "once_with_recurring"}
_RECURRENCE_PARAMETERS: Final = (
    (
        {"aa_recurring_frequency_unit", "aa_recurring_frequency_value"},
        "Frequency unit/value required",
    ),
    ({"bank_name", "mode"}, "bank_name and mode required"),
)


def both_dates(values: Values, _: datetime.date) -> Problems:
    """
    Refuse one date without the other.
    """
    missing = {"from_date", "to_date"} - values.keys()
    if len(missing) == 1:
        yield Problem(
            missing.pop(),
            "`from_date` and `to_date` are required.",
            "MISSING_DATE_FIELD",
        )


def dates_in_order(default_end: datetime.timedelta) -> Check:
    """
    Refuse a start that is not before the end.

    Args:
        default_end: The default end, counted from today.
    """

    def check(values: Values, today: datetime.date) -> Problems:
        start = values.get("from_date", six_months_before(today))
        if start >= values.get("to_date", today + default_end):
            yield Problem("from_date", NOT_BEFORE, "INVALID_DATE_RANGE")

    return check


def max_dates_in_order(values: Values, _: datetime.date) -> Problems:
    """
    Refuse a `max_from_date` that is not before the `max_to_date`.
    """
    start, end = values.get("max_from_date"), values.get("max_to_date")
    if start and end and start >= end:
        yield Problem(
            "max_from_date",
            "`max_from_date` cannot be greater or equal to `max_to_date`.",
            "INVALID_DATE_RANGE",
        )


def six_months_before(today: datetime.date) -> datetime.date:
    """
    Return the first day of data where a request names none.
    """
    # "Last 6 month start date": the first day of that month.
    year, month = divmod(today.year * 12 + today.month - 7, 12)
    return datetime.date(year, month + 1, 1)


def ends_by(latest: datetime.timedelta, name: str) -> Check:
    """
    Refuse an end that is later.

    Args:
        latest: The last valid day, counted from today.
        name: The name of that day in the error.
    """

    def check(values: Values, today: datetime.date) -> Problems:
        if values.get("to_date", today + latest) > today + latest:
            yield Problem(
                "to_date",
                f"`to_date` cannot be later than {name}.",
                "INVALID_DATE_RANGE",
            )

    return check


def bank_with_mode(values: Values, _: datetime.date) -> Problems:
    """
    Refuse a mode that needs a bank, without one.
    """
    if values.get("mode") in {"pdf", "aa"} and bank_of(values) is None:
        yield Problem(
            "bank_name",
            "`bank_name` is required with `mode`.",
            "MISSING_BANK_NAME",
        )


def mode_of_bank(values: Values, _: datetime.date) -> Problems:
    """
    Refuse a mode that the bank does not offer.
    """
    mode = values.get("mode")
    bank = find_bank(bank_of(values) or "")
    if mode and bank and mode not in bank.modes:
        yield Problem(
            "mode",
            "Specified mode not available for this bank.",
            "MODE_NOT_AVAILABLE",
        )


def complete_recurrence(values: Values, _: datetime.date) -> Problems:
    """
    Refuse a recurring journey without its frequency or bank.
    """
    if values.get("aa_journey_mode") in _RECURRING:
        for needed, text in _RECURRENCE_PARAMETERS:
            if not values.keys() >= needed:
                yield Problem("aa_journey_mode", text, "MISSING_AA_PARAMETER")
