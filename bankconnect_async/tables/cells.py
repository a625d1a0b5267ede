"""
Values of rows as the cells of a spreadsheet.
"""

import datetime

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final, TypeAlias

import attrs

from bankconnect_async._json import dump_json
from bankconnect_async._printable import one_line
from bankconnect_async.models import Rows
from bankconnect_async.models._rows import column_names


#: What one cell can hold.
Cell: TypeAlias = str | bool | int | Decimal | datetime.date | None

#: Indian scripts join and separate letters with these.
JOINERS: Final = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
LINE_ENDS: Final = "\t\r\n"

_CELLS: Final = str | int | Decimal | datetime.date | None


def cells_of(rows: Rows[Any]) -> Iterator[list[Cell]]:
    """
    Iterate over the cells of each row; lists and objects become JSON texts.
    """
    names = column_names(rows.row_type)
    for row in rows:
        yield [_cell(getattr(row, name)) for name in names]


def printable(text: str) -> str:
    """
    Replace characters that are not printable, but for line ends and joiners.
    """
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable() or char in JOINERS + LINE_ENDS
        else one_line(char)
        for char in text
    )


def _cell(value: Any) -> Cell:
    if isinstance(value, _CELLS):
        return value
    return dump_json(_plain(value)).decode()


def _plain(value: Any) -> Any:
    if attrs.has(type(value)):
        return {
            name: _plain(getattr(value, name))
            for name in column_names(type(value))
        }
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value
