"""
What must hold between parameters that are good by themselves.
"""

import datetime

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from bankconnect_async.sandbox.banks import bank_of, find_bank
from bankconnect_async.sandbox.http.errors import Problem

from .field_rules import NOT_BEFORE


Check: TypeAlias = Callable[
    [Mapping[str, Any], datetime.date], Iterable[Problem]
]

TODAY: Final = datetime.timedelta()
YESTERDAY: Final = datetime.timedelta(days=-1)
_RECURRING = {"only_recurring", "once_with_recurring"}


def both_dates(
    values: Mapping[str, Any], _: datetime.date
) -> Iterator[Problem]:
    """
    Refuse one date without the other.
    """
    given = values.keys() & {"from_date", "to_date"}
    if len(given) == 1:
        missing = "to_date" if "from_date" in given else "from_date"
        yield Problem(
            missing,
            "`from_date` and `to_date` are required.",
            "MISSING_DATE_FIELD",
        )


def dates_in_order(default_end: datetime.timedelta) -> Check:
    """
    Refuse a start that is not before the end.

    Args:
        default_end: The end where none is given, from today.
    """

    def check(
        values: Mapping[str, Any], today: datetime.date
    ) -> Iterator[Problem]:
        start = values.get("from_date", six_months_before(today))
        if start >= values.get("to_date", today + default_end):
            yield Problem("from_date", NOT_BEFORE, "INVALID_DATE_RANGE")

    return check


def six_months_before(today: datetime.date) -> datetime.date:
    """
    Return the first day of data where a request names none.
    """
    # "Last 6 month start date": the first day of that month.
    year, month = divmod(today.year * 12 + today.month - 7, 12)
    return datetime.date(year, month + 1, 1)


def ends_by(latest: datetime.timedelta, name: str) -> Check:
    """
    Refuse a later end.

    Args:
        latest: The last day that is taken, from today.
        name: What to call it.
    """

    def check(
        values: Mapping[str, Any], today: datetime.date
    ) -> Iterator[Problem]:
        end = values.get("to_date")
        if end is not None and end > today + latest:
            yield Problem(
                "to_date",
                f"`to_date` cannot be later than {name}.",
                "INVALID_DATE_RANGE",
            )

    return check


def bank_with_mode(
    values: Mapping[str, Any], _: datetime.date
) -> Iterator[Problem]:
    """
    Refuse a mode that needs a bank, without one.
    """
    if values.get("mode") in {"pdf", "aa"} and bank_of(values) is None:
        yield Problem(
            "bank_name",
            "`bank_name` is required with `mode`.",
            "MISSING_BANK_NAME",
        )


def mode_of_bank(
    values: Mapping[str, Any], _: datetime.date
) -> Iterator[Problem]:
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


def complete_recurrence(
    values: Mapping[str, Any], _: datetime.date
) -> Iterator[Problem]:
    """
    Refuse a recurring journey that does not say how often.
    """
    if values.get("aa_journey_mode") not in _RECURRING:
        return
    for needed, text in _RECURRENCE_NEEDS:
        if not values.keys() >= needed:
            yield Problem("aa_journey_mode", text, "MISSING_AA_PARAMETER")


_RECURRENCE_NEEDS: Final = (
    (
        {"aa_recurring_frequency_unit", "aa_recurring_frequency_value"},
        "Frequency unit/value required",
    ),
    ({"bank_name", "mode"}, "bank_name and mode required"),
)
