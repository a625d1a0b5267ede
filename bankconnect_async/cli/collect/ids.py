"""
The sessions and entities in an input file.
"""

import csv
import datetime

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, BinaryIO, Final, TypeAlias

import orjson

from bankconnect_async.cli.input.lines import InputLine, InputLines
from bankconnect_async.cli.input.rows import (
    CUT_OFF,
    UNREADABLE,
    FileError,
    named_errors,
    read_first,
    refuse_repeated,
)
from bankconnect_async.collecting.owners import Owner
from bankconnect_async.errors import InvalidRequestError


#: A session or an entity, or the reason why a row names none.
IdRow: TypeAlias = Owner | InvalidRequestError

_COLUMNS: Final = ("entity_id", "session_id")
# The keys of the time when a session was created: ours, and that of records.
_TIMES: Final = ("created_at", "at")
_USED: Final = frozenset({*_COLUMNS, "link_id", *_TIMES})


class IdRows:
    """
    The sessions and entities of one file; they can be iterated over once.

    Failed records of a batch are left out.

    Args:
        stream: CSV or JSON lines; the content decides.
        name: The name of the file in errors.

    Attributes:
        has_header: Whether its first line is a header.

    Raises:
        InputFileError: If it is neither, or has no column of ids.
    """

    def __init__(self, stream: BinaryIO, *, name: str) -> None:
        self._name = name
        self._rows: Iterator[IdRow | None]
        with named_errors(name, UNREADABLE):
            lines = InputLines(stream)
            first, delimiters = read_first(lines)
            self.has_header: bool = bool(delimiters)
            if delimiters:
                self._rows = _read_csv(first, delimiters, lines)
            else:
                self._rows = map(_read_json, chain([first], lines))

    def __iter__(self) -> Iterator[IdRow]:
        """
        Read one row at a time.

        Raises:
            InputFileError: If the file cannot be read to its end.
        """
        with named_errors(self._name, CUT_OFF):
            for row in self._rows:
                if row is not None:
                    yield row


def _read_csv(
    header: InputLine, delimiters: Sequence[str], lines: InputLines
) -> Iterator[IdRow | None]:
    for delimiter in delimiters:
        names = [each.strip() for each in _cells(header.text, delimiter) or ()]
        if set(_COLUMNS) & set(names):
            refuse_repeated([name for name in names if name in _USED])
            return (_read_cells(line, delimiter, names) for line in lines)
    raise FileError(
        "is neither CSV with a session_id or entity_id column in its first "
        "line nor JSON lines, such as the OUT of batch"
    )


def _cells(text: str, delimiter: str) -> list[str] | None:
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return None


def _read_cells(
    line: InputLine, delimiter: str, names: list[str]
) -> IdRow | None:
    if not line.raw.strip():
        return None
    cells = _cells(line.text, delimiter)
    if line.problem is not None or cells is None:
        return _bad(line, line.problem or "cannot be read as CSV")
    if len(cells) != len(names):
        return _bad(
            line, f"has {len(cells)} cells, the header has {len(names)}"
        )
    return _make_owner(
        line,
        {
            name: cell.strip()
            for name, cell in zip(names, cells, strict=True)
            if cell.strip()
        },
    )


def _read_json(line: InputLine) -> IdRow | None:
    if not line.raw.strip():
        return None
    try:
        values = orjson.loads(line.text)
    except orjson.JSONDecodeError as exc:
        return _bad(line, line.problem or f"is not JSON: {exc.msg}")
    if not isinstance(values, dict):
        return _bad(line, "is not a JSON object")
    # A record of an input of batch for which there is no session.
    return None if "error" in values else _make_owner(line, values)


def _make_owner(line: InputLine, values: Mapping[str, Any]) -> IdRow:
    found = next((name for name in _COLUMNS if values.get(name)), None)
    if found is None:
        return _bad(line, "has neither a session_id nor an entity_id")
    id_, link_id = values[found], values.get("link_id")
    if not isinstance(id_, str):
        return _bad(line, f"has a {found} that is no text")
    return Owner(
        flow="entity" if found == "entity_id" else "session",
        id=id_,
        link_id=link_id if isinstance(link_id, str) else None,
        created_at=_read_time(values),
    )


def _read_time(values: Mapping[str, Any]) -> datetime.datetime | None:
    text = next((values[name] for name in _TIMES if values.get(name)), None)
    try:
        at = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=datetime.UTC)


def _bad(line: InputLine, problem: str) -> InvalidRequestError:
    return InvalidRequestError(f"line {line.number} {problem}")
