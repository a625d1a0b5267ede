"""
Fetched data as JSON and as tables.
"""

import csv
import datetime
import inspect
import io
import itertools
import json
import re

from collections.abc import Iterator, Mapping, Sequence
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
# Indian scripts join and separate letters with these.
_JOINERS: Final = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
_LINE_ENDS: Final = "\t\r\n"
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_FORMULA: Final = re.compile(
    rf"[\s{_REPLACEMENT}{_JOINERS}]*[{_SIGNS}]|[{_LINE_ENDS}]"
)
_LATER_FORMULA: Final = re.compile(rf"([;\t]\s*)(?=[{_SIGNS}])")
# The most digits of an amount that is written without an exponent.
_MOST_DIGITS: Final = 40
_SCALARS: Final = str | int | Decimal | datetime.date | None


@attrs.frozen(kw_only=True)
class Table:
    """
    A fetched document and its rows.

    Attributes:
        document: The document as the vendor sent it.
        rows: The rows of the table; `None` if there is none.
    """

    document: Any = attrs.field(repr=False)
    rows: Sequence[Any] | None = attrs.field(default=None, repr=False)


# The kinds of data: the method that fetches it, and the path of the rows in
# its response (for a session's insights, in each of its accounts). An empty
# path means that the response is the rows, `None` that it has no rows.
ENTITY_KINDS: Final[Mapping[str, tuple[str, str | None]]] = {
    "accounts": ("accounts", "accounts"),
    "expense-categories": ("expense_categories", "categories"),
    "fraud": ("accounts", "fraud.findings"),
    "identity": ("identity", "identities"),
    "lender-transactions": ("lender_transactions", "transactions"),
    "monthly-analysis": ("monthly_analysis_updated", None),
    "pdfs": ("pdfs", ""),
    "predictors": ("predictors", None),
    "recurring-transactions": ("recurring_transactions", None),
    "reports": ("xlsx_report", "reports"),
    "salary": ("salary", "transactions"),
    "score": ("score", "scores"),
    "top-credits-debits": ("top_credits_debits", None),
    "transactions": ("transactions", "transactions"),
}
SESSION_KINDS: Final[Mapping[str, tuple[str, str | None]]] = {
    "accounts": ("status", "accounts"),
    "expense-categories": ("insights", "expense_categories"),
    "fraud": ("insights", "fraud"),
    "identity": ("insights", "account_details"),
    "insights": ("insights", None),
    "lender-transactions": ("insights", "lender_transactions"),
    "pdfs": ("pdfs", ""),
    "progress": ("progress", "progress"),
    "salary": ("insights", "salary_transactions"),
    "transactions": ("insights", "transactions"),
    "upload-status": ("upload_status", "accounts"),
}


async def fetch_table(
    handle: EntityHandle | SessionHandle,
    method: str,
    path: str | None,
    filters: Mapping[str, Any],
) -> Table:
    """
    Fetch one kind of data of an entity or a session.

    Args:
        handle: The entity or session.
        method: The method of the handle.
        path: The path of the rows in its response.
        filters: The values of --account-id, --from-date and --to-date.

    Raises:
        click.UsageError: If the data cannot be filtered that way.
    """
    call = getattr(handle, method)
    by_hand = method == "insights" and path is not None
    known = filters if by_hand else inspect.signature(call).parameters
    if unknown := filters.keys() - known:
        raise click.UsageError(
            f"{method} cannot be filtered by {', '.join(sorted(unknown))}"
        )
    response = await call(**({} if by_hand else filters))
    if path is None:
        return Table(document=response.raw)
    if isinstance(response, Insights):
        return _table_of_insights(response, path, filters)
    names = [name for name in path.split(".") if name]
    rows = () if response is None else reduce(getattr, names, response)
    return Table(document=[row.raw for row in rows], rows=rows)


def _table_of_insights(
    insights: Insights, name: str, filters: Mapping[str, Any]
) -> Table:
    found = [
        (account.account_id, row)
        for account in insights.accounts
        if filters.get("account_id", account.account_id) == account.account_id
        for row in _rows(getattr(account, name))
        if _is_between(row, filters)
    ]
    return Table(
        document=[{"account_id": id_, **row.raw} for id_, row in found],
        rows=[
            attrs.evolve(row, account_id=id_)
            if isinstance(row, Transaction)
            else row
            for id_, row in found
        ],
    )


def _rows(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) else [value] if value else []


def _is_between(row: Any, filters: Mapping[str, Any]) -> bool:
    first, last = filters.get("from_date"), filters.get("to_date")
    if not (first or last):
        return True
    date = getattr(row, "date", None)
    return date is not None and (
        (first or datetime.date.min)
        <= date.date()
        <= (last or datetime.date.max)
    )


def write_json(table: Table) -> bytes:
    """
    Return a table as JSON, with every number as the vendor sent it.

    Characters that are not printable are escaped.
    """
    try:
        raw = orjson.dumps(
            table.document,
            default=_exact,
            option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
        )
    except TypeError:
        # Deep nesting, a number above 64 bits, or half of a surrogate pair.
        raw = b"".join(_pieces(table.document))
    return printable_json(raw)


def _exact(value: Any) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value))
    raise TypeError


def _pieces(document: Any) -> Iterator[bytes]:
    # Recursion would fail on a deeply nested document.
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
    Return a table as CSV with a header.
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


def _printable(text: str) -> str:
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
            text = _LATER_FORMULA.sub(r"\1'", _printable(value))
            return f"'{text}" if _FORMULA.match(text) else text
        case datetime.datetime():
            return value.isoformat(sep=" ")
        case Decimal() if abs(value.adjusted()) <= _MOST_DIGITS:
            return f"{value:f}"
        case _:
            return value
