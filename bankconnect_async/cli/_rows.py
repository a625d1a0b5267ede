"""
Input files: CSV with a header, or JSON objects line by line.

A file that is neither is one error. A bad row is an item of its own, so that
the rows around it still go through.
"""

import csv
import difflib

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, BinaryIO, Final, TypeAlias

import attrs
import orjson

from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.schema import PARAMETERS, SessionRequest

from ._lines import Line, Lines
from ._parameters import EXTRA, SECRETS, build_request, is_parameter


_UTF16_BOMS: Final = b"\xff\xfe", b"\xfe\xff"
_DELIMITERS: Final = ",", ";", "\t"
# Deeper than documented parameters go, shallower than encoders give up.
_DEEPEST: Final = 32
# From here on integers come out of the JSON reader as rounded floats.
_HUGE: Final = 2**63


class InputFileError(Exception):
    """
    The input as a whole cannot be used; the message begins with its name.
    """


@attrs.frozen(kw_only=True)
class Row:
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
class Rows:
    """
    The rows of one file, to be read once.

    Attributes:
        columns: What a CSV file has; `None` for JSON lines, where each row
            has its own.
    """

    columns: frozenset[str] | None
    _name: str = attrs.field(alias="name")
    _records: Iterator["_Record"] = attrs.field(alias="records", repr=False)

    def __iter__(self) -> Iterator[Row | BadRow]:
        """
        Read one row at a time.

        Raises:
            InputFileError: If the file cannot be read to its end.
        """
        try:
            for record in self._records:
                yield _judge(record)
        except OSError as exc:
            raise InputFileError(
                f"{self._name}: cannot be read to its end: {exc.strerror}. "
                f"Copy it to this machine, and try again"
            ) from exc


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


def read_rows(stream: BinaryIO, *, name: str) -> Rows:
    """
    Begin to read a file, and judge its head.

    Args:
        stream: CSV or JSON lines, told apart by content.
        name: What to call the file in errors.

    Raises:
        InputFileError: If it is neither, has no rows, or has columns that it
            must not have.
    """
    try:
        columns, records = _read_head(Lines(stream))
        records = _refuse_no_records(records)
    except _UnusableError as exc:
        raise InputFileError(f"{name}: {exc}") from None
    except OSError as exc:
        raise InputFileError(
            f"{name}: cannot be read: {exc.strerror}. Give a CSV file, a "
            f"JSON lines file, or - for stdin"
        ) from exc
    return Rows(columns=columns, name=name, records=records)


def _read_head(lines: Lines) -> _Head:
    first = next((line for line in lines if line.raw.strip()), None)
    if first is None:
        raise _UnusableError(
            "is empty: write a CSV header and rows, or JSON lines"
        )
    _refuse_other_formats(first.raw.strip())
    if first.text.lstrip().startswith("{"):
        lines.put_back([first])
        return None, _json_records(lines)
    if first.problem is not None:
        raise _UnusableError(
            f"cannot be used, its first line {first.problem}: save it as CSV "
            f"in UTF-8"
        )
    delimiter, columns = _parse_header(first.text)
    return frozenset(columns), _csv_records(lines, delimiter, columns)


def _refuse_no_records(records: Iterator[_Record]) -> Iterator[_Record]:
    first = next(records, None)
    if first is None:
        raise _UnusableError(
            "has a header and no rows: add a row for each customer"
        )
    return chain([first], records)


def _refuse_other_formats(head: bytes) -> None:
    if head.startswith(_UTF16_BOMS):
        raise _UnusableError("is UTF-16: save it as CSV in UTF-8")
    if len(head) > 1 and not (any(head[::2]) and any(head[1::2])):
        raise _UnusableError("is UTF-16: save it as CSV in UTF-8")
    if b"\0" in head:
        raise _UnusableError(
            "is binary, neither CSV nor JSON lines: save it as CSV in UTF-8"
        )
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


def _judge(record: _Record) -> Row | BadRow:
    try:
        if record.problem is not None:
            raise _row_error("row", record.problem)
        request = build_request(record.values)
    except InvalidRequestError as error:
        link_id = record.values.get("link_id")
        return BadRow(
            line=record.line,
            link_id=link_id if isinstance(link_id, str) else None,
            error=error,
        )
    return Row(line=record.line, request=request)


def _row_error(name: str, problem: str) -> InvalidRequestError:
    return InvalidRequestError(fields={name: (problem,)})


def _parse_header(line: str) -> tuple[str, list[str]]:
    for delimiter in _DELIMITERS:
        try:
            cells = next(csv.reader([line], delimiter=delimiter, strict=True))
        except csv.Error:
            continue
        columns = [cell.strip() for cell in cells]
        if "link_id" in columns:
            _refuse_columns(columns)
            return delimiter, columns
    # The line is not shown: without a header it is a customer's data.
    raise _UnusableError(
        "is neither CSV with a link_id column in its first line nor JSON "
        "lines: name the column of your customer ids link_id"
    )


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
            f"remove it"
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


def _csv_records(
    lines: Lines, delimiter: str, columns: Sequence[str]
) -> Iterator[_Record]:
    taken: list[Line] = []

    def texts() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line.text

    def read() -> Iterator[list[str]]:
        return csv.reader(texts(), delimiter=delimiter, strict=True)

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
        problem = _first_problem(taken)
        if problem is not None or any(cells):
            yield _csv_record(taken[0].number, cells, columns, problem)


def _first_problem(lines: Iterable[Line]) -> str | None:
    return next((line.problem for line in lines if line.problem), None)


def _csv_record(
    line: int,
    cells: Sequence[str],
    columns: Sequence[str],
    problem: str | None,
) -> _Record:
    if len(cells) > len(columns):
        problem = problem or (
            f"has {len(cells)} cells, the header has {len(columns)}"
        )
    values = {
        name: cell for name, cell in zip(columns, cells, strict=False) if cell
    }
    return _Record(line=line, values=values, problem=problem)


def _json_records(lines: Lines) -> Iterator[_Record]:
    for line in lines:
        if line.problem is not None:
            yield _Record(line=line.number, problem=line.problem)
        elif line.text.strip():
            yield _json_record(line)


def _json_record(line: Line) -> _Record:
    try:
        values = orjson.loads(line.text)
    except orjson.JSONDecodeError as exc:
        return _Record(line=line.number, problem=f"is not JSON: {exc.msg}")
    if not isinstance(values, dict):
        return _Record(line=line.number, problem="is not a JSON object")
    problem = _excess(values)
    extra = values.pop("extra", None)
    if isinstance(extra, dict):
        values |= {f"{EXTRA}{name}": value for name, value in extra.items()}
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
