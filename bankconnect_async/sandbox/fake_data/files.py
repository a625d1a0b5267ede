"""
Stored files that nobody uploaded, made up when somebody fetches them.
"""

from collections.abc import Sequence
from typing import TypeAlias
from xml.sax.saxutils import quoteattr

from bankconnect_async.sandbox.data_api.statements import (
    AccountStatements,
    UploadedStatement,
    group_by_account,
)
from bankconnect_async.sandbox.journey.session_table import SessionTable

from .analyses import money
from .ledgers import FakeTransaction
from .pdfs import write_pdf
from .workbooks import Cell, write_workbook


_Table: TypeAlias = list[Sequence[Cell]]
_HEAD = ("Account", "Date", "Details", "Type", "Amount", "Balance")


def make_file(journeys: SessionTable, path: str) -> bytes | None:
    """
    Make up the file of *path*, if there is something to put into it.

    ``OWNER/STATEMENT.pdf`` is a statement, ``OWNER/ACCOUNT.xlsx`` the
    workbook of an account, ``all.xlsx`` and ``all.xml`` that of all.
    """
    owner, _, name = path.partition("/")
    stem, _, kind = name.rpartition(".")
    statements = _statements(journeys, owner)
    if kind == "pdf":
        return _pdf(statements, stem)
    held = [
        group
        for group in group_by_account(statements)
        if stem in {"all", group.account.account_id}
    ]
    table = [_HEAD, *(cells for group in held for cells in _cells(group))]
    if kind == "xlsx" and held:
        return write_workbook(table)
    return _xml(held) if kind == "xml" and held else None


def _statements(journeys: SessionTable, owner: str) -> list[UploadedStatement]:
    file = journeys.entities.get(owner)
    if file is not None:
        return [statement for statement, _ in file.statements]
    journey = journeys.get(owner)
    return [] if journey is None else journey.statements


def _pdf(
    statements: list[UploadedStatement], statement_id: str
) -> bytes | None:
    for statement in statements:
        if statement.statement_id == statement_id:
            (group,) = group_by_account([statement])
            return write_pdf(statement.account, statement.span, group.rows)
    return None


def _cells(group: AccountStatements) -> _Table:
    return [
        (
            group.account.masked,
            row.day.isoformat(),
            row.narration,
            row.side,
            money(row.amount),
            money(row.balance),
        )
        for row in group.rows
    ]


def _xml(held: list[AccountStatements]) -> bytes:
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<report>"]
    for group in held:
        lines.append(f"<account id={quoteattr(group.account.account_id)}>")
        lines += map(_element, group.rows)
        lines.append("</account>")
    return "\n".join([*lines, "</report>", ""]).encode()


def _element(row: FakeTransaction) -> str:
    fields = {
        "date": row.day.isoformat(),
        "type": row.side,
        "amount": str(money(row.amount)),
        "note": row.narration,
    }
    shown = (f"{name}={quoteattr(text)}" for name, text in fields.items())
    return f"<transaction {' '.join(shown)}/>"
