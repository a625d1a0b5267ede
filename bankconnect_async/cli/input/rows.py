"""
Rows of input files: CSV with a header, or JSON objects line by line.

A file that is neither raises one error. A bad row is an item of its own, so
that the rows around it are not lost.
"""

import csv
import json
import re
import string

from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager, suppress
from itertools import chain
from types import MappingProxyType
from typing import Any, BinaryIO, Final, TypeAlias

import attrs
import orjson

from bankconnect_async.cli.messages import CommandError
from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.models.sessions import PARAMETERS, SessionRequest
from bankconnect_async.models.suggestions import similar_parameter

from .damage import is_invisible, name_of, quote, trim
from .file_types import find_file_type
from .lines import UTF8_BOM, InputLine, InputLines
from .parameters import (
    DATES,
    EXTRA,
    SECRETS,
    build_request,
    find_month_first,
    is_extra,
    is_parameter,
)


#: The message for a file that cannot be opened.
UNREADABLE: Final = (
    "cannot be read: {}. Give a CSV file, a JSON lines file, or - for stdin"
)
#: The message for a file whose end cannot be read.
CUT_OFF: Final = (
    "cannot be read to its end: {}. Copy it to this machine, and try again"
)
_DELIMITERS: Final = ",", ";", "\t"
# The line with which Excel files declare their delimiter.
_SEP = re.compile(r'"?sep=([^\w\s"\']|\t)"?[,;\t]*', re.IGNORECASE)
# A key of a JSON object, or a part of a text that looks like one.
_KEY = re.compile(r'"\s*:')
# The columns, beside extra ones, whose cells may have several lines.
_MULTILINE: Final = "consents", "metadata"
_DATE_COLUMNS: Final = frozenset({*DATES, "consents"})
# The start of a date written month first; PHP escapes slashes in JSON.
_MONTH_FIRST = re.compile(rb"[0-9]\\?[-/.](?:1[3-9]|[2-9][0-9])\\?[-/.][0-9]")
_LONGEST_DATE: Final = 16
_BLOCK: Final = 2**18
_BOM: Final = UTF8_BOM.decode()
# Documented parameters have fewer levels, and encoders allow more.
_MAX_DEPTH: Final = 32
# orjson reads larger integers as rounded floats.
_TOO_LARGE: Final = 2**63


class InputFileError(CommandError):
    """
    The input as a whole cannot be used; the message begins with its name.
    """


class UntrustedRowsError(InputFileError):
    """
    A row shows that the rows before it may have been read wrongly, too.
    """


@attrs.frozen(kw_only=True)
class InputRow:
    """
    A row that makes a request.

    Attributes:
        line: The number of its first line, from 1.
        request: The request.
        values: The values as the file has them, by the names of columns.
    """

    line: int
    request: SessionRequest
    values: Mapping[str, Any]


@attrs.frozen(kw_only=True)
class BadRow:
    """
    A row that makes no request.

    Attributes:
        line: The number of its first line, from 1.
        link_id: The link id, if it is readable.
        error: The problems of the row.
        request: The request, if only another row makes this one a bad one.
    """

    line: int
    link_id: str | None
    error: InvalidRequestError
    request: SessionRequest | None = None


@attrs.frozen(kw_only=True)
class Header:
    """
    The header of a CSV file.

    Attributes:
        delimiter: The delimiter of cells.
        columns: The names, without empty ones at the end.
        width: The number of columns, with empty ones at the end.
    """

    delimiter: str
    columns: Sequence[str]
    width: int


@attrs.frozen(kw_only=True)
class Columns:
    """
    The columns that an input may have.

    Attributes:
        known: The names of columns; those of `extra.NAME` are known, too.
        extra: The use of a column `extra.NAME`, for messages.
    """

    known: frozenset[str]
    extra: str


#: The columns of what is sent to the vendor.
SENT: Final = Columns(
    known=frozenset(PARAMETERS), extra="send it to the vendor as NAME"
)


class InputRows:
    """
    The rows of one file; they can be iterated over once.

    Args:
        stream: CSV or JSON lines; the content decides.
        name: The name of the file in errors.
        allow_any_link_id: Whether link ids that look damaged are accepted.
        defaults: The parameters of rows that have none of their own.
        columns: The columns that a CSV file may have.

    Attributes:
        header: The header of a CSV file; `None` for JSON lines, where each
            row has its own columns.

    Raises:
        InputFileError: If it is neither, has no rows, or has invalid
            columns.
    """

    def __init__(
        self,
        stream: BinaryIO,
        *,
        name: str,
        allow_any_link_id: bool = False,
        defaults: Mapping[str, str] = MappingProxyType({}),
        columns: Columns = SENT,
    ) -> None:
        self.header: Header | None
        self._allowed = columns
        self._name = name
        self._defaults = defaults
        self._allow_any_link_id = allow_any_link_id
        with named_errors(name, UNREADABLE):
            self.header, records = _read_head(InputLines(stream), columns)
            first = next(records, None)
            if first is None:
                raise FileError(
                    "has a header and no rows: add a row for each customer"
                )
        self._records = chain([first], records)

    @property
    def columns(self) -> frozenset[str] | None:
        """The columns of a CSV file; `None` for JSON lines."""
        return None if self.header is None else frozenset(self.header.columns)

    def refuse_month_first(
        self, reopen: Callable[[], BinaryIO | None]
    ) -> None:
        """
        Check the dates of the whole file before its first row is used.

        Rows that cannot be read are reported when they are iterated over.

        Args:
            reopen: Opens the file again, at its beginning; returns `None` if
                the file can be read only once.

        Raises:
            UntrustedRowsError: If a date was written month first.
        """
        if not (self.columns is None or self.columns & _DATE_COLUMNS):
            return
        with suppress(OSError, FileError):
            if not _may_have_month_first(reopen()):
                return
            if (stream := reopen()) is not None:
                with stream:
                    _, records = _read_head(InputLines(stream), self._allowed)
                    for record in records:
                        self._check_dates(record, "Nothing was sent")

    def __iter__(self) -> Iterator[InputRow | BadRow]:
        """
        Read one row at a time.

        Raises:
            UntrustedRowsError: If a date was written month first.
            InputFileError: If the file cannot be read to its end.
        """
        with named_errors(self._name, CUT_OFF):
            for record in self._records:
                row = _build_row(
                    record,
                    self._defaults,
                    allow_any_link_id=self._allow_any_link_id,
                )
                if isinstance(row, BadRow):
                    self._check_dates(
                        record,
                        "Nothing more is sent; the rows before it may have "
                        "swapped days and months",
                    )
                yield row

    def _check_dates(self, record: "_Record", consequence: str) -> None:
        # A row with a wrong number of cells may have values of other columns.
        found = None if record.problem else find_month_first(record.values)
        if found is not None:
            column, text = found
            raise UntrustedRowsError(
                f"{self._name}: line {record.line}: {column} is "
                f"{quote(text)}, whose second number is no month. Dates that "
                f"are written month first look like others, so the "
                f"whole column is refused: write it as DD/MM/YYYY or "
                f"YYYY-MM-DD. {consequence}"
            )


@attrs.frozen(kw_only=True)
class _Record:
    """
    The values of a row before they are parsed.
    """

    line: int
    values: Mapping[str, Any] = attrs.Factory(dict)
    problem: str | None = None


class FileError(Exception):
    """
    A file cannot be used; the message continues after its name.
    """


_Head: TypeAlias = tuple[Header | None, Iterator[_Record]]


@contextmanager
def named_errors(name: str, unreadable: str) -> Iterator[None]:
    """
    Raise errors of a file as an `InputFileError` that names it.

    Args:
        name: The name of the file.
        unreadable: The message for an `OSError`, with a place for its text.
    """
    try:
        yield
    except FileError as exc:
        raise InputFileError(f"{name}: {exc}") from None
    except OSError as exc:
        raise InputFileError(
            f"{name}: {unreadable.format(exc.strerror)}"
        ) from exc


def _may_have_month_first(stream: BinaryIO | None) -> bool:
    # Much faster than reading the rows, and nearly always sufficient.
    if stream is None:
        return False
    end = b""
    with stream:
        while block := stream.read(_BLOCK):
            block = end + block
            if _MONTH_FIRST.search(block):
                return True
            end = block[-_LONGEST_DATE:]
    return False


def read_first(lines: InputLines) -> tuple[InputLine, Sequence[str]]:
    """
    Read the header of CSV, or the first of JSON lines.

    Returns:
        The line, and the delimiters that CSV may have; none for JSON lines.

    Raises:
        FileError: If the file is empty, or neither.
    """
    first = _next_filled(lines)
    if first is None:
        raise FileError("is empty: write a CSV header and rows, or JSON lines")
    _refuse_other_formats(first)
    if first.text.lstrip().startswith("{"):
        return first, ()
    delimiters: Sequence[str] = _DELIMITERS
    if match := _SEP.fullmatch(first.text.strip("\r\n")):
        delimiters = (match[1],)
        first = _next_filled(lines) or first
    if first.problem is not None:
        raise FileError(f"cannot be used, its first line {first.problem}")
    return first, delimiters


def refuse_repeated(columns: Sequence[str]) -> None:
    """
    Refuse columns of which one is there twice.

    Raises:
        FileError: If there is one.
    """
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise FileError(f"has the column {', '.join(twice)} twice: remove one")


def _read_head(lines: InputLines, allowed: Columns) -> _Head:
    first, delimiters = read_first(lines)
    if not delimiters:
        lines.put_back([first])
        return None, _json_records(lines)
    header = _parse_header(first.text, delimiters, allowed)
    return header, _csv_records(lines, header)


def _next_filled(lines: InputLines) -> InputLine | None:
    return next((line for line in lines if line.raw.strip()), None)


def _refuse_other_formats(first: InputLine) -> None:
    head = first.raw.strip()
    if (found := find_file_type(head)) is not None:
        raise FileError(found)
    if head.startswith(b"["):
        raise FileError(
            "is a JSON array: write one JSON object on each line instead"
        )
    if head == b"{":
        raise FileError(
            "has a JSON object that goes over several lines: write each on "
            "one line"
        )
    if b"\r" in head:
        raise FileError(
            "has lines that end in CR alone: save it with LF or CRLF"
        )
    start = first.text.lstrip(string.whitespace)[:1]
    if first.problem is None and is_invisible(start):
        raise FileError(
            f"begins with the invisible character {name_of(start)} on line "
            f"{first.number}: remove it, or save the file again in UTF-8"
        )


def _build_row(
    record: _Record, defaults: Mapping[str, str], *, allow_any_link_id: bool
) -> InputRow | BadRow:
    if record.problem is None:
        try:
            request = build_request(
                {**defaults, **record.values},
                allow_any_link_id=allow_any_link_id,
            )
            return InputRow(
                line=record.line, request=request, values=record.values
            )
        except InvalidRequestError as exc:
            error = exc
    else:
        error = InvalidRequestError(fields={"row": (record.problem,)})
    link_id = record.values.get("link_id")
    return BadRow(
        line=record.line,
        link_id=link_id if isinstance(link_id, str) else None,
        error=error,
    )


def _parse_header(
    line: str, delimiters: Iterable[str], allowed: Columns
) -> Header:
    similar: str | None = None
    for delimiter in delimiters:
        try:
            cells = next(csv.reader([line], delimiter=delimiter, strict=True))
        except csv.Error:
            continue
        columns = _trim_end([cell.strip() for cell in cells])
        if "link_id" in columns:
            _check_columns(columns, allowed)
            return Header(
                delimiter=delimiter, columns=columns, width=len(cells)
            )
        similar = similar or next(filter(_is_like_link_id, columns), None)
    if similar is not None:
        raise FileError(
            f"has a column {similar!r} and no link_id: call it link_id"
        )
    # The message does not show the line, which may be a customer's data.
    raise FileError(
        "is neither CSV with a link_id column in its first line nor JSON "
        "lines: name the column of your customer ids link_id"
    )


def _trim_end(names: list[str]) -> list[str]:
    while names and not names[-1]:
        names.pop()
    return names


def _is_like_link_id(name: str) -> bool:
    return "".join(filter(str.isalnum, name.lower())) == "linkid"


def _check_columns(columns: Sequence[str], allowed: Columns) -> None:
    if secrets := SECRETS.intersection(columns):
        raise FileError(
            f"has a column {', '.join(sorted(secrets))}: remove it. Secrets "
            f"come from the environment (BANKCONNECT_API_KEY), never from a "
            f"file"
        )
    if "" in columns:
        raise FileError(
            f"has no name for column {columns.index('') + 1}: name it or "
            f"remove it (pandas leaves its row numbers out with index=False)"
        )
    known = allowed.known
    if unknown := [
        name for name in columns if name not in known and not is_extra(name)
    ]:
        names = ", ".join(_suggest(name, known) for name in unknown)
        raise FileError(
            f"has unknown columns: {names}. Remove them, or call one "
            f"{EXTRA}NAME to {allowed.extra}. Known: "
            f"{', '.join(sorted(known))}"
        )
    refuse_repeated(columns)


def _suggest(name: str, known: Collection[str]) -> str:
    similar = similar_parameter(name)
    if similar is None or similar not in known:
        return repr(name)
    return f"{name!r} (did you mean {similar}?)"


def _csv_records(lines: InputLines, header: Header) -> Iterator[_Record]:
    read: list[InputLine] = []

    def make_reader() -> Iterator[list[str]]:
        def texts() -> Iterator[str]:
            for line in lines:
                read.append(line)
                yield line.text

        return csv.reader(texts(), delimiter=header.delimiter, strict=True)

    reader = make_reader()
    while True:
        read.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            # An unbalanced quote swallows the rows below it. They are read
            # again, so that it costs one row only.
            lines.put_back(read[1:])
            reader = make_reader()
            yield _Record(
                line=read[0].number,
                problem=read[0].problem
                or f"cannot be read as CSV ({exc}): check its quotes",
            )
            continue
        yield from _records_of_cells(cells, read, header)


def _records_of_cells(
    cells: Sequence[str], lines: Sequence[InputLine], header: Header
) -> Iterator[_Record]:
    problem = next((line.problem for line in lines if line.problem), None)
    if problem is None and not any(cells):
        return
    first = lines[0]
    values = {
        name: cell
        for name, cell in zip(header.columns, cells, strict=False)
        if cell
    }
    problem = (
        _find_header(first, cells, header)
        or problem
        or _find_wrong_count(cells, header)
        or (_find_line_break(values) if len(lines) > 1 else None)
    )
    yield _Record(line=first.number, values=values, problem=problem)
    if problem is None:
        return
    # Two stray quotes may have joined these lines to one row.
    for line in lines[1:]:
        if line.text.strip():
            yield _Record(
                line=line.number,
                problem=f"lies between quotes that begin on line "
                f"{first.number}: check these",
            )


def _find_header(
    line: InputLine, cells: Sequence[str], header: Header
) -> str | None:
    if "link_id" not in line.text:
        return None
    names = _trim_end([trim(cell) for cell in cells])
    if names == header.columns:
        return "repeats the header: remove it"
    if "link_id" in names and all(map(is_parameter, names)):
        raise FileError(
            f"has another header on line {line.number}: make a file of its "
            f"own of the rows below it. Nothing more is sent"
        )
    return None


def _find_wrong_count(cells: Sequence[str], header: Header) -> str | None:
    count, named = len(cells), len(header.columns)
    if count == named:
        return None
    cells_are = f"has {count} cell{'s' * (count != 1)}, the header has"
    if count > header.width:
        return (
            f"{cells_are} {header.width}: put a value with "
            f"{header.delimiter!r} in it in quotes"
        )
    if count < named:
        return (
            f"{cells_are} {named}: write empty ones, too (Excel leaves "
            f"them out at the end: let the last column be one without empty "
            f"cells, such as link_id)"
        )
    for number, cell in enumerate(cells[named:], named + 1):
        if cell:
            return f"has a value in column {number}, which has no name"
    return None


def _find_line_break(values: Mapping[str, str]) -> str | None:
    for name, cell in values.items():
        may_have_one = name in _MULTILINE or name.startswith(EXTRA)
        if "\n" in cell and not may_have_one:
            return f"has a line break in its {name}: check its quotes"
    return None


def _json_records(lines: InputLines) -> Iterator[_Record]:
    for line in lines:
        if line.problem is not None:
            yield _Record(line=line.number, problem=line.problem)
        elif line.text.strip():
            yield _json_record(line)


def _json_record(line: InputLine) -> _Record:
    # A file with a BOM may have been appended to another one.
    text = line.text.removeprefix(_BOM)
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        return _Record(line=line.number, problem=f"is not JSON: {exc.msg}")
    if not isinstance(values, dict):
        return _Record(line=line.number, problem="is not a JSON object")
    problem = _find_loss(text, values)
    extra = values.pop("extra", None)
    if isinstance(extra, dict):
        named = {f"{EXTRA}{name}": value for name, value in extra.items()}
        if twice := named.keys() & values.keys():
            problem = problem or _given_twice(min(twice))
        values |= named
    elif extra is not None:
        problem = "has an extra that is not a JSON object"
    # Null leaves a parameter out, unless it is a value of its own.
    given = {
        name: value
        for name, value in values.items()
        if value is not None
        or name == "redirect_url"
        or name.startswith(EXTRA)
    }
    return _Record(line=line.number, values=given, problem=problem)


def _find_loss(text: str, document: object) -> str | None:
    """
    Find a value of a JSON text that would not be sent as it is written.
    """
    keys = 0
    rest = [(document, 1)]
    while rest:
        value, depth = rest.pop()
        if depth > _MAX_DEPTH:
            return f"is nested deeper than {_MAX_DEPTH} levels"
        if isinstance(value, float) and abs(value) >= _TOO_LARGE:
            return "holds a number beyond 64 bits: write it as a text"
        if isinstance(value, dict):
            keys += len(value)
            rest.extend((entry, depth + 1) for entry in value.values())
        elif isinstance(value, list):
            rest.extend((entry, depth + 1) for entry in value)
    # JSON readers drop a repeated key silently.
    return None if keys == len(_KEY.findall(text)) else _find_repeated(text)


def _find_repeated(text: str) -> str | None:
    repeated: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        repeated.extend(name for name in names if names.count(name) > 1)

    json.loads(text, object_pairs_hook=collect)
    return _given_twice(repeated[0]) if repeated else None


def _given_twice(name: str) -> str:
    return f"has {quote(name)} twice: remove one"
