"""
Fetched documents as JSON and as tables.
"""

import csv
import datetime
import inspect
import io
import itertools
import json
import re

from collections.abc import (
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from decimal import Decimal
from functools import reduce
from typing import Any, Final

import attrs
import click
import orjson

from bankconnect_async._printable import one_line, printable_json
from bankconnect_async._resources.entities import EntityHandle
from bankconnect_async._resources.sessions import SessionHandle
from bankconnect_async.models import Insights, Transaction


# What makes spreadsheets take a text for a formula (OWASP, CSV injection): at
# the beginning, blanks aside, or behind what separates cells elsewhere. All
# widths and heights of a sign count, as they do in Japanese spreadsheets.
_SIGNS: Final = (
    "=+\\-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}"
    "\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
    "\N{SMALL EQUALS SIGN}\N{SMALL PLUS SIGN}\N{SMALL HYPHEN-MINUS}"
    "\N{SMALL COMMERCIAL AT}\N{MINUS SIGN}\N{SUPERSCRIPT PLUS SIGN}"
    "\N{SUPERSCRIPT MINUS}\N{SUPERSCRIPT EQUALS SIGN}"
    "\N{SUBSCRIPT PLUS SIGN}\N{SUBSCRIPT MINUS}\N{SUBSCRIPT EQUALS SIGN}"
)
# Letters of Indian scripts are joined, or kept apart, with these.
_JOINERS: Final = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
_LINE_ENDS: Final = "\t\r\n"
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_FORMULA: Final = re.compile(
    rf"[\s{_REPLACEMENT}{_JOINERS}]*[{_SIGNS}]|[{_LINE_ENDS}]"
)
_LATER_FORMULA: Final = re.compile(rf"([;\t]\s*)(?=[{_SIGNS}])")
# Of an amount that is written without an exponent.
_MOST_DIGITS: Final = 40
_SCALARS: Final = str | int | Decimal | datetime.date | None


@attrs.frozen(kw_only=True)
class Table:
    """
    A fetched document, and its rows.

    Attributes:
        document: As the vendor sent it.
        rows: The values in it, if they make a table.
    """

    document: Any = attrs.field(repr=False)
    rows: Sequence[Any] | None = attrs.field(default=None, repr=False)


def of_entity(
    method: str, rows: str | None
) -> Callable[[EntityHandle, Mapping[str, Any]], Awaitable[Table]]:
    """
    Make what fetches one kind of an entity's data.

    Args:
        method: Of the handle; it does the filtering.
        rows: Where the rows are in its answer; blank if it is the rows.
    """

    async def fetch(handle: EntityHandle, filters: Mapping[str, Any]) -> Table:
        call = getattr(handle, method)
        if unknown := filters.keys() - inspect.signature(call).parameters:
            raise click.UsageError(
                f"{method} cannot be filtered by {', '.join(sorted(unknown))}"
            )
        answer = await call(**filters)
        if rows is None:
            return Table(document=answer.raw)
        found = _follow(answer, rows)
        return Table(document=[each.raw for each in found], rows=found)

    return fetch


def of_session(
    method: str, rows: str | None
) -> Callable[[SessionHandle, Mapping[str, Any]], Awaitable[Table]]:
    """
    Make what fetches one kind of a session's data.

    Args:
        method: Of the handle.
        rows: Where the rows are in its answer, or in each account of the
            insights; blank if it is the rows.
    """

    async def fetch(
        handle: SessionHandle, filters: Mapping[str, Any]
    ) -> Table:
        if filters and (method != "insights" or rows is None):
            raise click.UsageError(f"{method} cannot be filtered")
        answer = await getattr(handle, method)()
        if rows is None:
            return Table(document=answer.raw)
        if not isinstance(answer, Insights):
            found = _follow(answer, rows)
            return Table(document=[each.raw for each in found], rows=found)
        keep = _filter(filters)
        found = [
            (account.account_id, row)
            for account in answer.accounts
            for row in _rows(account, rows)
            if keep(account.account_id, row)
        ]
        return Table(
            document=[{"account_id": id_, **row.raw} for id_, row in found],
            rows=[_with_account(id_, row) for id_, row in found],
        )

    return fetch


def _follow(answer: Any, path: str) -> Sequence[Any]:
    names = [name for name in path.split(".") if name]
    return reduce(getattr, names, answer) if answer is not None else ()


def _rows(account: Any, name: str) -> Sequence[Any]:
    found = getattr(account, name)
    return found if isinstance(found, tuple) else [found] if found else []


def _filter(
    filters: Mapping[str, Any],
) -> Callable[[str | None, Any], bool]:
    first = filters.get("from_date", datetime.date.min)
    last = filters.get("to_date", datetime.date.max)

    def keep(account_id: str | None, row: Any) -> bool:
        if filters.get("account_id", account_id) != account_id:
            return False
        if not {"from_date", "to_date"} & filters.keys():
            return True
        date = getattr(row, "date", None)
        return date is not None and first <= date.date() <= last

    return keep


def _with_account(account_id: str | None, row: Any) -> Any:
    if isinstance(row, Transaction):
        return attrs.evolve(row, account_id=account_id)
    return row


def write_json(table: Table) -> bytes:
    """
    Write it as JSON, every number as it was sent.

    What is not printable is escaped, which says the same.
    """
    try:
        raw = orjson.dumps(
            table.document,
            default=_exact,
            option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
        )
    # Nested deeply, a number above 64 bits, or half of a surrogate pair.
    except TypeError:
        raw = b"".join(_pieces(table.document))
    return printable_json(raw)


def _exact(value: Any) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value))
    raise TypeError


def _pieces(document: Any) -> Iterator[bytes]:
    # Not recursive, because the sender decides how deep it goes.
    open_: list[tuple[Iterator[Any], bytes]] = []
    entries, end = iter([(b"", document)]), b"\n"
    while True:
        for name, value in entries:
            yield name
            if isinstance(value, Mapping | list | tuple) and value:
                open_.append((entries, end))
                entries, begin, end = _entries(value, len(open_))
                yield begin
                break
            yield _scalar(value)
        else:
            yield end
            if not open_:
                return
            entries, end = open_.pop()


def _entries(
    value: Mapping[Any, Any] | Sequence[Any], depth: int
) -> tuple[Iterator[tuple[bytes, Any]], bytes, bytes]:
    inside, outside = b"\n" + b"  " * depth, b"\n" + b"  " * (depth - 1)
    seps = itertools.chain([inside], itertools.repeat(b"," + inside))
    if isinstance(value, Mapping):
        named = (
            (b"%b%b: " % (sep, _scalar(name)), entry)
            for sep, (name, entry) in zip(seps, value.items(), strict=False)
        )
        return named, b"{", outside + b"}"
    return zip(seps, value, strict=False), b"[", outside + b"]"


def _scalar(value: Any) -> bytes:
    if isinstance(value, Decimal):
        return str(value).encode()
    return json.dumps(value).encode()


def write_csv(table: Table) -> bytes:
    """
    Write it as a table: a header, and a line for each row.
    """
    rows = table.rows or ()
    names = [
        field.name
        for field in (attrs.fields(type(rows[0])) if rows else ())
        if field.name != "raw"
        and all(isinstance(getattr(row, field.name), _SCALARS) for row in rows)
    ]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows(
        [_cell(getattr(row, name)) for name in names] for row in rows
    )
    return text.getvalue().encode(errors="replace")


def _washed(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable() or char in _JOINERS + _LINE_ENDS
        else one_line(char)
        for char in text
    )


def _cell(value: Any) -> Any:
    match value:
        case None:
            return ""
        case str():
            text = _LATER_FORMULA.sub(r"\1'", _washed(value))
            return f"'{text}" if _FORMULA.match(text) else text
        case datetime.datetime():
            return value.isoformat(sep=" ")
        case Decimal() if abs(value.adjusted()) <= _MOST_DIGITS:
            return f"{value:f}"
        case _:
            return value
