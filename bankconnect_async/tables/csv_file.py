"""
Rows as CSV.
"""

import csv
import datetime
import io
import re

from decimal import Decimal
from typing import Any, Final, TextIO

from bankconnect_async.models import Rows
from bankconnect_async.models._rows import column_names

from .cells import JOINERS, LINE_ENDS, Cell, cells_of, printable


# The signs that begin a formula (OWASP, CSV injection): at the start of a
# text, after blanks, or after a separator of cells. Japanese spreadsheets
# accept all widths and heights of a sign.
_SIGNS: Final = (
    "=+\\-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}"
    "\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
    "\N{SMALL EQUALS SIGN}\N{SMALL PLUS SIGN}\N{SMALL HYPHEN-MINUS}"
    "\N{SMALL COMMERCIAL AT}\N{MINUS SIGN}\N{SUPERSCRIPT PLUS SIGN}"
    "\N{SUPERSCRIPT MINUS}\N{SUPERSCRIPT EQUALS SIGN}"
    "\N{SUBSCRIPT PLUS SIGN}\N{SUBSCRIPT MINUS}\N{SUBSCRIPT EQUALS SIGN}"
)
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_FORMULA: Final = re.compile(
    rf"[\s{_REPLACEMENT}{JOINERS}]*[{_SIGNS}]|[{LINE_ENDS}]"
)
_LATER_FORMULA: Final = re.compile(rf"([;{LINE_ENDS}]\s*)(?=[{_SIGNS}])")
# The most digits of an amount that is written without an exponent.
_MOST_DIGITS: Final = 40


class LineFeeds:
    """
    The stream of a `csv.writer` whose rows end in a line feed.

    A writer whose *lineterminator* is a line feed does not quote a carriage
    return before Python 3.13, although it ends a row to most readers.

    Args:
        stream: The stream that gets the rows, without newline translation.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, row: str) -> int:
        """Write a row with its terminator, as a writer does."""
        return self._stream.write(row.removesuffix("\r\n") + "\n")


def encode_csv(rows: Rows[Any]) -> bytes:
    """
    Return rows as CSV in UTF-8, with a header.

    Numbers are as the vendor sent them. A text that a spreadsheet could run as
    a formula begins with an apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(column_names(rows.row_type))
    writer.writerows(
        [csv_cell(cell) for cell in cells] for cells in cells_of(rows)
    )
    return text.getvalue().encode(errors="replace")


def csv_cell(cell: Cell) -> Any:
    """
    Return a cell for a writer of CSV, which no spreadsheet runs as a formula.
    """
    match cell:
        case None:
            return ""
        case str():
            text = _LATER_FORMULA.sub(r"\1'", printable(cell))
            return f"'{text}" if _FORMULA.match(text) else text
        case datetime.datetime():
            return cell.isoformat(sep=" ")
        case Decimal() if abs(cell.adjusted()) <= _MOST_DIGITS:
            return f"{cell:f}"
        case _:
            return cell
