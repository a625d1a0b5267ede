"""
Stored files that nobody uploaded, made when they are first read.
"""

from xml.sax.saxutils import quoteattr

from bankconnect_async.sandbox.data_api.statements import (
    AccountStatements,
    UploadedStatement,
    group_by_account,
)
from bankconnect_async.sandbox.journey.session_table import SessionTable

from .analyses import rupees
from .pdfs import write_pdf
from .workbooks import write_workbook


_HEAD = ("Account", "Date", "Details", "Type", "Amount", "Balance")


def fake_file(journeys: SessionTable, path: str) -> bytes | None:
    """
    Return the file of *path*, if there is data for it.

    ``OWNER/STATEMENT.pdf`` is a statement, ``OWNER/ACCOUNT.xlsx`` the
    workbook of an account; ``all.xlsx`` and ``all.xml`` have all accounts.
    """
    owner, _, name = path.partition("/")
    stem, _, extension = name.rpartition(".")
    statements = _statements(journeys, owner)
    if extension == "pdf":
        statements = [s for s in statements if s.statement_id == stem]
    groups = [
        group
        for group in group_by_account(statements)
        if extension == "pdf" or stem in {"all", group.account.account_id}
    ]
    writer = _WRITERS.get(extension)
    return writer(groups) if groups and writer else None


def _statements(journeys: SessionTable, owner: str) -> list[UploadedStatement]:
    entity = journeys.entities.get(owner)
    if entity is not None:
        return [statement for statement, _ in entity.statements]
    journey = journeys.get(owner)
    return [] if journey is None else journey.statements


def _pdf(groups: list[AccountStatements]) -> bytes:
    ((group,), (span,)) = groups, groups[0].spans
    return write_pdf(group.account, span, group.rows)


def _xlsx(groups: list[AccountStatements]) -> bytes:
    cells = [
        (
            group.account.masked,
            row.day.isoformat(),
            row.narration,
            row.side,
            rupees(row.amount),
            rupees(row.balance),
        )
        for group in groups
        for row in group.rows
    ]
    return write_workbook([_HEAD, *cells])


def _xml(groups: list[AccountStatements]) -> bytes:
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<report>"]
    for group in groups:
        lines.append(f"<account id={quoteattr(group.account.account_id)}>")
        lines += [
            f'<transaction date="{row.day}" type="{row.side}" '
            f'amount="{rupees(row.amount)}" note={quoteattr(row.narration)}/>'
            for row in group.rows
        ]
        lines.append("</account>")
    return "\n".join([*lines, "</report>", ""]).encode()


_WRITERS = {"pdf": _pdf, "xlsx": _xlsx, "xml": _xml}
