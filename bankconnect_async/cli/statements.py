"""
The commands ``upload``, ``wait`` and ``fetch``.
"""

import asyncio
import functools
import os
import sys

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

import click

from bankconnect_async._printable import one_line
from bankconnect_async._resources.entities import EntityHandle
from bankconnect_async._resources.sessions import SessionHandle
from bankconnect_async._resources.statement_kinds import (
    ENTITY_KINDS,
    SESSION_KINDS,
    fetch_kind,
    filters_of,
)
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.errors import BankConnectError, NotFoundError
from bankconnect_async.models import Rows
from bankconnect_async.tables import (
    FORMATS,
    Format,
    check_format,
    encode_json,
    encode_table,
)

from .input.dates import parse_day
from .messages import print_message
from .options import ApiOptions, connection_options
from .output import write_output


T = TypeVar("T")

_BINARY: Final = ("parquet", "xlsx")
_PDF_VARIABLE: Final = "BANKCONNECT_PDF_PASSWORD"

_id_argument = click.argument("id_", metavar="ID")
_flow_option = click.option(
    "--flow",
    type=click.Choice(["entity", "session"]),
    default="entity",
    help="The kind of ID: an entity or a session.",
)


def _connect(api: ApiOptions) -> AbstractAsyncContextManager[AsyncBankConnect]:
    # These commands create no sessions, so that they need no store.
    return api.connect(store=None)


def _handle(
    bank: AsyncBankConnect, flow: str, id_: str
) -> EntityHandle | SessionHandle:
    return bank.session(id_) if flow == "session" else bank.entity(id_)


def _run(work: Coroutine[Any, Any, T], *, name: str = "") -> T:
    try:
        return asyncio.run(work)
    except BankConnectError as error:
        if isinstance(error, NotFoundError) and name:
            error.args = (one_line(f"{name}: {error.message}"),)
        # The advice on ambiguous failures is about sessions only.
        error.delivery = None
        raise


@click.command()
@_id_argument
@click.option(
    "--what",
    type=click.Choice(sorted({*ENTITY_KINDS, *SESSION_KINDS})),
    default="transactions",
    help="The data to fetch; each flow has its own kinds.",
)
@_flow_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="json",
    help="The vendor's JSON, or a table as CSV, Parquet or Excel workbook.",
)
@click.option("--account-id", metavar="ID", help="The only account to fetch.")
@click.option(
    "--from-date",
    metavar="DAY",
    callback=parse_day,
    help="The first day of transactions, DD/MM/YYYY or YYYY-MM-DD.",
)
@click.option(
    "--to-date",
    metavar="DAY",
    callback=parse_day,
    help="The last day of transactions.",
)
@click.option(
    "--output",
    metavar="OUT",
    default="-",
    help="A new file, or - for stdout.",
)
@connection_options
def fetch(  # noqa: PLR0913
    *,
    api: ApiOptions,
    id_: str,
    what: str,
    flow: str,
    format_: Format,
    output: str,
    **filters: Any,
) -> None:
    """
    Fetch the data of the statements of ID.

    ID is the id of an entity or, with --flow session, of a session. JSON and
    CSV have amounts exactly as the vendor sent them. In CSV, a text that a
    spreadsheet could run as a formula begins with an apostrophe. A table has
    the same columns for every ID. Parquet and Excel workbooks need the extra
    [tables].
    """
    kinds = SESSION_KINDS if flow == "session" else ENTITY_KINDS
    if what not in kinds:
        raise click.UsageError(
            f"the {flow} flow has no {what}; it has {', '.join(kinds)}"
        )
    kind = kinds[what]
    if kind.row_type is None and format_ != "json":
        raise click.UsageError(f"{what} is no table: use --format json")
    if format_ in _BINARY and output == "-" and sys.stdout.isatty():
        raise click.UsageError(
            f"a terminal cannot show {format_}: name a file with --output"
        )
    check_format(format_)
    given = {name: value for name, value in filters.items() if value}

    async def run() -> Rows[Any] | Mapping[str, Any]:
        async with _connect(api) as bank:
            handle = _handle(bank, flow, id_)
            if unknown := given.keys() - filters_of(handle, kind):
                raise click.UsageError(
                    f"{what} cannot be filtered by "
                    f"{', '.join(sorted(unknown))}"
                )
            return await fetch_kind(handle, kind, **given)

    found = _run(run(), name=f"{flow} {id_}")
    write_output(
        encode_table(found, format_)
        if isinstance(found, Rows)
        else encode_json(found),
        output,
    )


@click.command()
@_id_argument
@_flow_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    default=120.0,
    help="The maximum time to wait.",
)
@connection_options
def wait(*, api: ApiOptions, id_: str, flow: str, timeout: float) -> None:
    """
    Wait until the statements of ID are processed.

    Progress goes to stderr. The exit code is 1 if a statement or account
    failed, or if the time is up; the message names the statement and the
    reason. An entity is processed automatically, a session only after its
    processing was initiated through the API.
    """

    async def run() -> None:
        async with _connect(api) as bank:
            handle = _handle(bank, flow, id_)
            async for step in handle.watch(timeout=timeout):
                print_message(_describe(step))
            await handle.wait(timeout=timeout)

    _run(run(), name=f"{flow} {id_}")
    write_output(b"completed\n")


def _describe(step: Any) -> str:
    statements = step if isinstance(step, tuple) else step.progress
    words = [
        getattr(each, "processing_status", None)
        or getattr(each, "status", None)
        or "processing"
        for each in statements
    ]
    counts = [f"{words.count(word)} {word}" for word in sorted(set(words))]
    return f"statements: {', '.join(counts) or 'none'}"


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--link-id", metavar="ID", help="The customer's link id.")
@click.option("--entity-id", metavar="ID", help="The id of an entity.")
@click.option("--session-id", metavar="ID", help="The id of a session.")
@click.option(
    "--bank-name", metavar="NAME", help="The bank's identifier, such as axis."
)
@connection_options
def upload(
    *, api: ApiOptions, file: str, bank_name: str | None, **ids: str | None
) -> None:
    """
    Upload the statement FILE and print the response as JSON.

    Give exactly one of --link-id, --entity-id and --session-id. Set
    BANKCONNECT_PDF_PASSWORD to the password of a protected PDF.
    """
    given = {name: id_ for name, id_ in ids.items() if id_ is not None}
    if len(given) != 1:
        raise click.UsageError(
            "give exactly one of --link-id, --entity-id and --session-id"
        )
    ((name, id_),) = given.items()

    async def run() -> Mapping[str, Any]:
        async with _connect(api) as bank:
            send: Callable[..., Awaitable[Any]]
            if name == "link_id":
                send = functools.partial(bank.upload, link_id=id_)
            else:
                send = _handle(bank, name.removesuffix("_id"), id_).upload
            response = await send(
                file,
                bank_name=bank_name,
                pdf_password=os.environ.get(_PDF_VARIABLE) or None,
            )
            return response.raw or {"repeated": True}

    write_output(encode_json(_run(run())))
