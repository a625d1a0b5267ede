"""
Parsing of dates in cells, JSON lines and options.
"""

import datetime
import functools
import re

from contextlib import suppress
from typing import Final

import click

from .damage import quote, trim


#: The two recommended forms; the parser accepts a few more.
FORMS: Final = "DD/MM/YYYY or YYYY-MM-DD"

# Two digits for day and month: programs that write one digit are often set to
# American English and write the month first.
_PATTERNS: Final = (
    re.compile(
        r"(?P<day>[0-9]{2})([-/.])(?P<month>[0-9]{2})\2(?P<year>[0-9]{4})"
    ),
    re.compile(
        r"(?P<year>[0-9]{4})([-/.])(?P<month>[0-9]{2})\2(?P<day>[0-9]{2})"
    ),
)
_MIDNIGHT = re.compile(r"[ T]00:00:00\Z")
# The second number of a date in any form.
_SECOND = re.compile(
    r"(?:[0-9]{1,4})[-/.]([0-9]{1,2})[-/.](?:[0-9]{1,4})(?:[ T].*)?", re.DOTALL
)
_MONTHS: Final = 12


# Most rows of a file repeat the same dates.
@functools.lru_cache(maxsize=256)
def parse_date(text: str) -> datetime.date:
    """
    Parse a date that is written year first or day first.

    ``-``, ``/`` or ``.`` separates day, month and a year of four digits; the
    time of day 00:00:00 may follow, as data frames write it. The month is
    never first.

    Raises:
        ValueError: If *text* has another form, or is not in the calendar.
    """
    written = _MIDNIGHT.sub("", trim(text))
    for pattern in _PATTERNS:
        if match := pattern.fullmatch(written):
            parts = {key: int(part) for key, part in match.groupdict().items()}
            with suppress(ValueError):
                return datetime.date(**parts)
    raise ValueError(f"{quote(text)} is not a date: use {FORMS}")


def parse_day(
    _: click.Context, __: click.Parameter, text: str | None
) -> datetime.date | None:
    """
    Parse the day of an option.
    """
    try:
        return None if text is None else parse_date(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None


def has_no_month(text: str) -> bool:
    """
    Tell whether the second number of a date is too large for a month.

    Then the date was written month first, and so were all others of its
    column, even those that can be read otherwise.
    """
    match = _SECOND.fullmatch(trim(text))
    return match is not None and int(match[1]) > _MONTHS
