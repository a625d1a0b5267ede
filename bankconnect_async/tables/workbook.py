"""
Rows as an Excel workbook.
"""

import datetime
import io

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from bankconnect_async.errors import ConfigurationError, DecodeError
from bankconnect_async.models import Rows
from bankconnect_async.models._rows import column_names

from .cells import Cell, cells_of, printable


if TYPE_CHECKING:
    import xlsxwriter
else:
    try:
        import xlsxwriter
    except ImportError:  # the extra [tables]
        xlsxwriter = None


# The limits of the format.
_MAX_ROWS: Final = 1_048_576
_MAX_TEXT: Final = 32_767
_FIRST_YEAR: Final = 1900
_LAST_YEAR: Final = 9999
_MAX_NUMBER: Final = Decimal("1e300")

_WIDTH: Final = 20
_OPTIONS: Final = {
    "constant_memory": True,
    "default_date_format": "yyyy-mm-dd",
}
_TIME_FORMAT: Final = "yyyy-mm-dd hh:mm:ss"


def encode_workbook(rows: Rows[Any]) -> bytes:
    """
    Return rows as an Excel workbook with one sheet.

    Numbers are numbers, to 15 digits as Excel keeps them, and days are dates;
    times are in the time zone of the column, or in UTC. A text is never a
    formula.

    Raises:
        ConfigurationError: If XlsxWriter, the extra `[tables]`, is missing.
        DecodeError: If there are too many rows, or a text is too long.
    """
    if xlsxwriter is None:
        raise ConfigurationError(
            'workbooks need the extra "tables": pip install '
            '"bankconnect-async[tables]"'
        )
    if len(rows) >= _MAX_ROWS:
        raise DecodeError(
            problems=[f"has {len(rows)} rows, a sheet takes {_MAX_ROWS - 1}"]
        )
    names = column_names(rows.row_type)
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, _OPTIONS) as book:
        sheet = book.add_worksheet(rows.row_type.__name__)
        time_format = book.add_format({"num_format": _TIME_FORMAT})
        sheet.set_column(0, len(names) - 1, _WIDTH)
        sheet.freeze_panes(1, 0)
        sheet.write_row(0, 0, names, book.add_format({"bold": True}))
        for line, cells in enumerate(cells_of(rows), start=1):
            for column, cell in enumerate(cells):
                _write(sheet, (line, column), cell, time_format)
    return content.getvalue()


def _write(
    sheet: Any, place: tuple[int, int], cell: Cell, time_format: Any
) -> None:
    match cell:
        case None:
            pass
        case bool():
            sheet.write_boolean(*place, cell)
        case int() | Decimal() if -_MAX_NUMBER < cell < _MAX_NUMBER:
            sheet.write_number(*place, float(cell))
        # In UTC, a time may be in the year after.
        case datetime.datetime() if _FIRST_YEAR <= cell.year < _LAST_YEAR:
            if cell.tzinfo:
                cell = cell.astimezone(datetime.UTC).replace(tzinfo=None)
            sheet.write_datetime(*place, cell, time_format)
        case datetime.datetime():
            sheet.write_string(*place, str(cell))
        case datetime.date() if cell.year >= _FIRST_YEAR:
            sheet.write_datetime(*place, cell)
        case _:
            sheet.write_string(*place, _text(cell, place))


def _text(cell: Cell, place: tuple[int, int]) -> str:
    text = printable(str(cell))
    if len(text) <= _MAX_TEXT:
        return text
    line, column = place
    raise DecodeError(
        problems=[
            f"has {len(text)} characters, a cell takes {_MAX_TEXT}"
            f" @ row {line}, column {column + 1}"
        ]
    )
