"""
Input files: CSV with a header, or JSON objects line by line.

A file that is neither is one error. A bad row is an item of its own, so that
the rows around it still go through.
"""

import csv
import difflib
import json
import re
import string

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, BinaryIO, Final, TypeAlias

import attrs
import orjson

from bankconnect_async.cli.messages import CommandError
from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.models.sessions import PARAMETERS, SessionRequest

from .damage import is_invisible, name_of, quote, trim
from .file_types import find_file_type
from .lines import UTF8_BOM, InputLine, InputLines
from .parameters import (
    DATES,
    EXTRA,
    SECRETS,
    build_request,
    find_month_first,
    is_parameter,
)


_DELIMITERS: Final = ",", ";", "\t"
# What Excel takes as the delimiter, where a file begins so.
_SEP = re.compile(r'"?sep=([^\w\s"\']|\t)"?[,;\t]*', re.IGNORECASE)
# A key of a JSON object, or something in a text that looks like one.
_KEY = re.compile(r'"\s*:')
# Columns, beside extra ones, whose cells may go over several lines.
_MULTILINE: Final = "consents", "metadata"
# The beginning of such a date; PHP escapes slashes in JSON.
_MONTH_FIRST = re.compile(rb"[0-9]\\?[-/.](?:1[3-9]|[2-9][0-9])\\?[-/.][0-9]")
_LONGEST_DATE: Final = 16
_BLOCK: Final = 2**18
_BOM: Final = UTF8_BOM.decode()
# Deeper than documented parameters go, shallower than encoders give up.
_DEEPEST: Final = 32
# From here on integers come out of the JSON reader as rounded floats.
_HUGE: Final = 2**63


class InputFileError(CommandError):
    """
    The input as a whole cannot be used; the message begins with its name.
    """


class UntrustedRowsError(InputFileError):
    """
    A row shows that the rows before it, too, were not read as they were meant.
    """


@attrs.frozen(kw_only=True)
class InputRow:
    """
    A row that makes a request.

    Attributes:
        line: Line number on which it begins, from 1.
        request: What it asks for.
    """

    line: int
    request: SessionRequest


@attrs.frozen(kw_only=True)
class BadRow:
    """
    A row that makes no request.

    Attributes:
        line: Line number on which it begins, from 1.
        link_id: As far as it could be read.
        error: What is wrong with it.
    """

    line: int
    link_id: str | None
    error: InvalidRequestError


@attrs.frozen(kw_only=True)
class InputRows:
    """
    The rows of one file, to be read once.

    Attributes:
        columns: What a CSV file has; `None` for JSON lines, where each row
            has its own.
    """

    columns: frozenset[str] | None
    _name: str = attrs.field(alias="name")
    _records: Iterator["_Record"] = attrs.field(alias="records", repr=False)
    _allow_any_link_id: bool = attrs.field(alias="allow_any_link_id")

    @property
    def may_have_dates(self) -> bool:
        """Whether a row may hold a date."""
        return self.columns is None or not self.columns.isdisjoint(
            (*DATES, "consents")
        )

    def refuse_month_first(self) -> None:
        """
        Read all rows, only to find out whether their dates can be trusted.

        A row that cannot be read is left to whoever takes the rows.

        Raises:
            UntrustedRowsError: If a date was written month first.
        """
        with suppress(_UnusableError):
            for record in self._records:
                self._refuse_month_first(record, "Nothing was sent")

    def __iter__(self) -> Iterator[InputRow | BadRow]:
        """
        Read one row at a time.

        Raises:
            UntrustedRowsError: If a date was written month first.
            InputFileError: If the file cannot be read to its end.
        """
        try:
            for record in self._records:
                row = _judge(record, allow_any_link_id=self._allow_any_link_id)
                if isinstance(row, BadRow):
                    self._refuse_month_first(
                        record,
                        "Nothing more is sent; days and months of the rows "
                        "before it may have been taken for each other",
                    )
                yield row
        except _UnusableError as exc:
            raise InputFileError(f"{self._name}: {exc}") from None
        except OSError as exc:
            raise InputFileError(
                f"{self._name}: cannot be read to its end: {exc.strerror}. "
                f"Copy it to this machine, and try again"
            ) from exc

    def _refuse_month_first(self, record: "_Record", result: str) -> None:
        # Cells of a row with too many or too few are not in their columns.
        found = None if record.problem else find_month_first(record.values)
        if found is not None:
            column, text = found
            raise UntrustedRowsError(
                f"{self._name}: line {record.line}: {column} is "
                f"{quote(text)}, whose second number is no month. Dates that "
                f"are written month first cannot be told from others, so the "
                f"whole column is refused: write it as DD/MM/YYYY or "
                f"YYYY-MM-DD. {result}"
            )


@attrs.frozen(kw_only=True)
class _Record:
    """
    The values of a row, before anybody looked at them.
    """

    line: int
    values: Mapping[str, Any] = attrs.Factory(dict)
    problem: str | None = None


class _UnusableError(Exception):
    """
    The file is no input; the message goes on after its name.
    """


_Head: TypeAlias = tuple[frozenset[str] | None, Iterator[_Record]]


def read_rows(
    stream: BinaryIO, *, name: str, allow_any_link_id: bool = False
) -> InputRows:
    """
    Begin to read a file, and judge its head.

    Args:
        stream: CSV or JSON lines, told apart by content.
        name: What to call the file in errors.
        allow_any_link_id: Take link ids that look damaged, too.

    Raises:
        InputFileError: If it is neither, has no rows, or has columns that it
            must not have.
    """
    try:
        columns, records = _read_head(InputLines(stream))
        records = _refuse_no_records(records)
    except _UnusableError as exc:
        raise InputFileError(f"{name}: {exc}") from None
    except OSError as exc:
        raise InputFileError(
            f"{name}: cannot be read: {exc.strerror}. Give a CSV file, a "
            f"JSON lines file, or - for stdin"
        ) from exc
    return InputRows(
        columns=columns,
        name=name,
        records=records,
        allow_any_link_id=allow_any_link_id,
    )


def refuse_month_first(
    reopen: Callable[[], BinaryIO | None], *, name: str
) -> None:
    """
    Refuse a whole file before its first row is used.

    Args:
        reopen: Reads the file from its beginning, each time it is
            called; `None` if it can be read only once.
        name: What to call the file in errors.

    Raises:
        UntrustedRowsError: If a date was written month first.
    """
    # What cannot be read is told when the rows are read.
    with suppress(OSError):
        stream = reopen()
        if stream is None:
            return
        with stream:
            is_suspect = _may_hold_month_first(stream)
        if is_suspect and (stream := reopen()) is not None:
            with stream:
                read_rows(stream, name=name).refuse_month_first()


def _may_hold_month_first(stream: BinaryIO) -> bool:
    # Much faster than to read the rows, and nearly always enough.
    end = b""
    while block := stream.read(_BLOCK):
        block = end + block
        if _MONTH_FIRST.search(block):
            return True
        end = block[-_LONGEST_DATE:]
    return False


def _read_head(lines: InputLines) -> _Head:
    first = _next_filled(lines)
    if first is None:
        raise _UnusableError(
            "is empty: write a CSV header and rows, or JSON lines"
        )
    _refuse_other_formats(first.raw.strip())
    _refuse_invisible_start(first)
    if first.text.lstrip().startswith("{"):
        lines.put_back([first])
        return None, _json_records(lines)
    delimiters: Iterable[str] = _DELIMITERS
    if match := _SEP.fullmatch(first.text.strip("\r\n")):
        delimiters = (match[1],)
        first = _next_filled(lines) or first
    if first.problem is not None:
        raise _UnusableError(f"cannot be used, its first line {first.problem}")
    header = _parse_header(first.text, delimiters)
    return frozenset(header.columns), _csv_records(lines, header)


def _next_filled(lines: InputLines) -> InputLine | None:
    return next((line for line in lines if line.raw.strip()), None)


def _refuse_no_records(records: Iterator[_Record]) -> Iterator[_Record]:
    first = next(records, None)
    if first is None:
        raise _UnusableError(
            "has a header and no rows: add a row for each customer"
        )
    return chain([first], records)


def _refuse_other_formats(head: bytes) -> None:
    if (found := find_file_type(head)) is not None:
        raise _UnusableError(found)
    if head.startswith(b"["):
        raise _UnusableError(
            "is a JSON array: write one JSON object on each line instead"
        )
    if head == b"{":
        raise _UnusableError(
            "has a JSON object that goes over several lines: write each on "
            "one line"
        )
    if b"\r" in head:
        raise _UnusableError(
            "has lines that end in CR alone: save it with LF or CRLF"
        )


def _refuse_invisible_start(first: InputLine) -> None:
    text = first.text.lstrip(string.whitespace)
    if first.problem is None and is_invisible(text[0]):
        raise _UnusableError(
            f"begins with the invisible character {name_of(text[0])} on line "
            f"{first.number}: remove it, or save the file again in UTF-8"
        )


def _judge(record: _Record, *, allow_any_link_id: bool) -> InputRow | BadRow:
    try:
        if record.problem is not None:
            raise _row_error("row", record.problem)
        request = build_request(
            record.values, allow_any_link_id=allow_any_link_id
        )
    except InvalidRequestError as error:
        link_id = record.values.get("link_id")
        return BadRow(
            line=record.line,
            link_id=link_id if isinstance(link_id, str) else None,
            error=error,
        )
    return InputRow(line=record.line, request=request)


def _row_error(name: str, problem: str) -> InvalidRequestError:
    return InvalidRequestError(fields={name: (problem,)})


@attrs.frozen(kw_only=True)
class _Header:
    """
    The header of a CSV file.

    Attributes:
        delimiter: What parts cells.
        columns: The names, without empty ones at the end.
        width: How many columns there are, those at the end included.
    """

    delimiter: str
    columns: Sequence[str]
    width: int


def _parse_header(line: str, delimiters: Iterable[str]) -> _Header:
    similar: str | None = None
    for delimiter in delimiters:
        try:
            cells = next(csv.reader([line], delimiter=delimiter, strict=True))
        except csv.Error:
            continue
        columns = [cell.strip() for cell in cells]
        if "link_id" in columns:
            while not columns[-1]:
                columns.pop()
            _refuse_columns(columns)
            return _Header(
                delimiter=delimiter, columns=columns, width=len(cells)
            )
        similar = similar or next(filter(_is_like_link_id, columns), None)
    if similar is not None:
        raise _UnusableError(
            f"has a column {similar!r} and no link_id: call it link_id"
        )
    # The line is not shown: without a header it is a customer's data.
    raise _UnusableError(
        "is neither CSV with a link_id column in its first line nor JSON "
        "lines: name the column of your customer ids link_id"
    )


def _is_like_link_id(name: str) -> bool:
    return "".join(filter(str.isalnum, name.lower())) == "linkid"


def _refuse_columns(columns: Sequence[str]) -> None:
    if secrets := SECRETS.intersection(columns):
        raise _UnusableError(
            f"has a column {', '.join(sorted(secrets))}: remove it. Secrets "
            f"come from the environment (BANKCONNECT_API_KEY), never from a "
            f"file"
        )
    if "" in columns:
        raise _UnusableError(
            f"has no name for column {columns.index('') + 1}: name it or "
            f"remove it (pandas leaves its row numbers out with index=False)"
        )
    if unknown := [name for name in columns if not is_parameter(name)]:
        raise _UnusableError(
            f"has unknown columns: {', '.join(map(_suggest, unknown))}. "
            f"Remove them, or call one {EXTRA}NAME to send it to the vendor "
            f"as NAME. Known: {', '.join(sorted(PARAMETERS))}"
        )
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise _UnusableError(
            f"has the column {', '.join(twice)} twice: remove one"
        )


def _suggest(name: str) -> str:
    words = "_".join(name.lower().split())
    similar = difflib.get_close_matches(words, PARAMETERS, n=1)
    return repr(name) + (f" (did you mean {similar[0]}?)" if similar else "")


def _csv_records(lines: InputLines, header: _Header) -> Iterator[_Record]:
    taken: list[InputLine] = []

    def texts() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line.text

    def read() -> Iterator[list[str]]:
        return csv.reader(texts(), delimiter=header.delimiter, strict=True)

    reader = read()
    while True:
        taken.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            # An unbalanced quote swallows the rows below it. They are read
            # again, so that it costs one row only.
            lines.put_back(taken[1:])
            reader = read()
            yield _Record(
                line=taken[0].number,
                problem=taken[0].problem
                or f"cannot be read as CSV ({exc}): check its quotes",
            )
            continue
        first = taken[0]
        problem = first.problem if len(taken) == 1 else _first_problem(taken)
        if problem is None and not any(cells):
            continue
        if "link_id" in first.text:
            problem = _judge_repeated_header(first, cells, header) or problem
        record = _csv_record(first.number, cells, header, problem)
        if len(taken) == 1:
            yield record
        else:
            yield from _judge_span(record, taken)


def _judge_span(
    record: _Record, lines: Sequence[InputLine]
) -> Iterator[_Record]:
    """Judge a row over several lines, which may be rows between two quotes."""
    name = next(
        (
            name
            for name, cell in record.values.items()
            if "\n" in cell
            and not name.startswith(EXTRA)
            and name not in _MULTILINE
        ),
        None,
    )
    if record.problem is None and name is None:
        yield record
        return
    yield attrs.evolve(
        record,
        problem=record.problem
        or f"has a line break in its {name}: check its quotes",
    )
    for line in lines[1:]:
        if line.text.strip():
            yield _Record(
                line=line.number,
                problem=f"lies between quotes that begin on line "
                f"{record.line}: check these",
            )


def _judge_repeated_header(
    line: InputLine, cells: Sequence[str], header: _Header
) -> str | None:
    names = [trim(cell) for cell in cells]
    while names and not names[-1]:
        names.pop()
    if names == header.columns:
        return "is the header once more: remove it"
    if "link_id" in names and all(map(is_parameter, names)):
        raise _UnusableError(
            f"has another header on line {line.number}: make a file of its "
            f"own of the rows below it. Nothing more is sent"
        )
    return None


def _first_problem(lines: Iterable[InputLine]) -> str | None:
    return next((line.problem for line in lines if line.problem), None)


def _csv_record(
    line: int, cells: Sequence[str], header: _Header, problem: str | None
) -> _Record:
    columns = header.columns
    if problem is None and len(cells) != len(columns):
        problem = _judge_count(cells, header)
    values = {
        name: cell for name, cell in zip(columns, cells, strict=False) if cell
    }
    return _Record(line=line, values=values, problem=problem)


def _judge_count(cells: Sequence[str], header: _Header) -> str | None:
    count, named = len(cells), len(header.columns)
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


def _json_records(lines: InputLines) -> Iterator[_Record]:
    for line in lines:
        if line.problem is not None:
            yield _Record(line=line.number, problem=line.problem)
        elif line.text.strip():
            yield _json_record(line)


def _json_record(line: InputLine) -> _Record:
    text = line.text
    if text[0] == _BOM:
        # A file with a BOM that was put behind another one.
        text = text[1:]
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        return _Record(line=line.number, problem=f"is not JSON: {exc.msg}")
    if not isinstance(values, dict):
        return _Record(line=line.number, problem="is not a JSON object")
    problem = _excess(values) or _find_repeated_key(text, values)
    extra = values.pop("extra", None)
    if isinstance(extra, dict):
        named = {f"{EXTRA}{name}": value for name, value in extra.items()}
        if twice := named.keys() & values.keys():
            problem = problem or _given_twice(min(twice))
        values |= named
    elif extra is not None:
        problem = "has an extra that is not a JSON object"
    # Null is "not given", but where it has a meaning of its own.
    given = {
        name: value
        for name, value in values.items()
        if value is not None
        or name == "redirect_url"
        or name.startswith(EXTRA)
    }
    return _Record(line=line.number, values=given, problem=problem)


def _find_repeated_key(text: str, values: object) -> str | None:
    """
    Find a key that an object has twice: JSON readers drop one silently.
    """
    # Reading again is slow, and seldom needed.
    if len(_KEY.findall(text)) == _count_keys(values):
        return None
    repeated: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        repeated.extend(name for name in names if names.count(name) > 1)

    json.loads(text, object_pairs_hook=note)
    return _given_twice(repeated[0]) if repeated else None


def _count_keys(value: object) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_count_keys, value.values()))
    if isinstance(value, list):
        return sum(map(_count_keys, value))
    return 0


def _given_twice(name: str) -> str:
    return f"has {quote(name)} twice: remove one"


def _excess(values: object) -> str | None:
    """Tell what in *values* would not arrive as it was written."""
    rest = [(values, 1)]
    while rest:
        value, depth = rest.pop()
        if depth > _DEEPEST:
            return f"is nested deeper than {_DEEPEST} levels"
        if isinstance(value, float) and abs(value) >= _HUGE:
            return "holds a number beyond 64 bits: write it as a text"
        if isinstance(value, dict):
            rest.extend((entry, depth + 1) for entry in value.values())
        elif isinstance(value, list):
            rest.extend((entry, depth + 1) for entry in value)
    return None
