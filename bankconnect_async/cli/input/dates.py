"""
Dates as people and their programs write them.

The one reader of dates for cells, JSON lines and options.
"""

import datetime
import functools
import re

from typing import Final

from .damage import quote, trim


#: The two forms to recommend; the reader takes a few more.
FORMS: Final = "DD/MM/YYYY or YYYY-MM-DD"

# Two digits for day and month: with one digit, programs set to American
# English write the month first.
_DAY_FIRST = re.compile(r"([0-9]{2})([-/.])([0-9]{2})\2([0-9]{4})")
_YEAR_FIRST = re.compile(r"([0-9]{4})([-/.])([0-9]{2})\2([0-9]{2})")
_MIDNIGHT = re.compile(r"[ T]00:00:00\Z")
# The second number of a date, however its others are written.
_SECOND = re.compile(
    r"(?:[0-9]{1,4})[-/.]([0-9]{1,2})[-/.](?:[0-9]{1,4})(?:[ T].*)?", re.DOTALL
)
_MONTHS: Final = 12


# Most rows of a file have the same dates.
@functools.lru_cache(maxsize=256)
def parse_date(text: str) -> datetime.date:
    """
    Read a date that is written year first or day first.

    Day, month and a year of four digits are parted by ``-``, ``/`` or ``.``;
    a time of day may follow if it is 00:00:00, as data frames write it. The
    month is never first.

    Raises:
        ValueError: If *text* is none of these, or not a day of the calendar.
    """
    written = _MIDNIGHT.sub("", trim(text))
    try:
        if match := _DAY_FIRST.fullmatch(written):
            day, _, month, year = match.groups()
        elif match := _YEAR_FIRST.fullmatch(written):
            year, _, month, day = match.groups()
        else:
            raise ValueError(written)  # noqa: TRY301 - as a bad day does
        return datetime.date(int(year), int(month), int(day))
    except ValueError:
        raise ValueError(f"{quote(text)} is not a date: use {FORMS}") from None


def has_no_month(text: str) -> bool:
    """
    Tell whether the second number of a date is too large for a month.

    Then the date was written month first, and so were all others of its
    column, even those that can be read otherwise.
    """
    match = _SECOND.fullmatch(trim(text))
    return match is not None and int(match[1]) > _MONTHS
