"""
The commands ``upload``, ``wait`` and ``fetch``.
"""

import asyncio
import datetime
import functools
import os

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import click

from bankconnect_async._printable import one_line
from bankconnect_async._resources.entities import EntityHandle
from bankconnect_async._resources.sessions import SessionHandle
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.errors import BankConnectError, NotFoundError

from .input.dates import parse_date
from .output import emit, print_message
from .tables import Table, of_entity, of_session, write_csv, write_json


T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_PDF_VARIABLE: Final = "BANKCONNECT_PDF_PASSWORD"

ENTITY_KINDS: Final[dict[str, Callable[..., Awaitable[Table]]]] = {
    "accounts": of_entity("accounts", "accounts"),
    "expense-categories": of_entity("expense_categories", "categories"),
    "fraud": of_entity("accounts", "fraud.findings"),
    "identity": of_entity("identity", "identities"),
    "lender-transactions": of_entity("lender_transactions", "transactions"),
    "monthly-analysis": of_entity("monthly_analysis_updated", None),
    "pdfs": of_entity("pdfs", ""),
    "predictors": of_entity("predictors", None),
    "recurring-transactions": of_entity("recurring_transactions", None),
    "reports": of_entity("xlsx_report", "reports"),
    "salary": of_entity("salary", "transactions"),
    "score": of_entity("score", "scores"),
    "top-credits-debits": of_entity("top_credits_debits", None),
    "transactions": of_entity("transactions", "transactions"),
}
SESSION_KINDS: Final[dict[str, Callable[..., Awaitable[Table]]]] = {
    "accounts": of_session("status", "accounts"),
    "expense-categories": of_session("insights", "expense_categories"),
    "fraud": of_session("insights", "fraud"),
    "identity": of_session("insights", "account_details"),
    "insights": of_session("insights", None),
    "lender-transactions": of_session("insights", "lender_transactions"),
    "pdfs": of_session("pdfs", ""),
    "progress": of_session("progress", "progress"),
    "salary": of_session("insights", "salary_transactions"),
    "transactions": of_session("insights", "transactions"),
    "upload-status": of_session("upload_status", "accounts"),
}
KINDS: Final = sorted({*ENTITY_KINDS, *SESSION_KINDS})


def _api_options(command: F) -> F:
    """Add the options of the client, as the argument ``connect``."""

    @click.option(
        "--base-url",
        metavar="URL",
        help="The URL of the API, instead of BANKCONNECT_BASE_URL.",
    )
    @click.option(
        "--allow-http",
        is_flag=True,
        help="Allow an API without TLS, such as a sandbox in a container.",
    )
    @functools.wraps(command)
    def gather(
        *, base_url: str | None, allow_http: bool, **options: Any
    ) -> Any:
        settings: dict[str, Any] = {"allow_http": allow_http}
        if base_url is not None:
            settings["base_url"] = base_url
        connect = functools.partial(AsyncBankConnect.from_env, **settings)
        return command(connect=connect, **options)

    return gather  # type: ignore[return-value]


_flow_option = click.option(
    "--flow",
    type=click.Choice(["entity", "session"]),
    default="entity",
    show_default=True,
    help="The kind of ID: an entity or a session.",
)


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


def _day(
    _: click.Context, __: click.Parameter, text: str | None
) -> datetime.date | None:
    if text is None:
        return None
    try:
        return parse_date(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None


@click.command()
@click.argument("id_", metavar="ID")
@click.option(
    "--what",
    type=click.Choice(KINDS),
    default="transactions",
    show_default=True,
    help="The data to fetch; each flow has its own kinds.",
)
@_flow_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(["json", "csv"]),
    default="json",
    show_default=True,
    help="The vendor's JSON, or a table as CSV.",
)
@click.option("--account-id", metavar="ID", help="The only account to fetch.")
@click.option(
    "--from-date",
    metavar="DAY",
    callback=_day,
    help="The first day of transactions, DD/MM/YYYY or YYYY-MM-DD.",
)
@click.option(
    "--to-date",
    metavar="DAY",
    callback=_day,
    help="The last day of transactions.",
)
@click.option(
    "--output",
    metavar="OUT",
    default="-",
    show_default=True,
    help="A new file, or - for stdout.",
)
@_api_options
def fetch(  # noqa: PLR0913
    *,
    connect: Callable[[], AsyncBankConnect],
    id_: str,
    what: str,
    flow: str,
    format_: str,
    output: str,
    **filters: Any,
) -> None:
    """
    Fetch the data of the statements of ID.

    ID is the id of an entity or, with --flow session, of a session. Amounts
    are printed exactly as the vendor sent them. In a table, a text that a
    spreadsheet could run as a formula begins with an apostrophe.
    """
    kinds = SESSION_KINDS if flow == "session" else ENTITY_KINDS
    if what not in kinds:
        raise click.UsageError(
            f"the {flow} flow has no {what}; it has {', '.join(kinds)}"
        )
    given = {name: value for name, value in filters.items() if value}

    async def run() -> Table:
        async with connect() as bank:
            return await kinds[what](_handle(bank, flow, id_), given)

    table = _run(run(), name=f"{flow} {id_}")
    if format_ == "csv" and table.rows is None:
        raise click.UsageError(f"{what} is no table: use --format json")
    write = write_csv if format_ == "csv" else write_json
    emit(write(table), output)


@click.command()
@click.argument("id_", metavar="ID")
@_flow_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    default=120.0,
    show_default=True,
    help="The longest time to wait.",
)
@_api_options
def wait(
    *,
    connect: Callable[[], AsyncBankConnect],
    id_: str,
    flow: str,
    timeout: float,
) -> None:
    """
    Wait until the statements of ID are processed.

    Progress goes to stderr. The exit code is 1 if a statement or account
    failed, or if the time is up; the message names the statement and the
    reason. An entity is processed automatically, a session only after its
    processing was initiated through the API.
    """

    async def run() -> None:
        async with connect() as bank:
            handle = _handle(bank, flow, id_)
            async for step in handle.watch(timeout=timeout):
                print_message(_describe(step))
            await handle.wait(timeout=timeout)

    _run(run(), name=f"{flow} {id_}")
    emit(b"completed\n", "-")


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
@_api_options
def upload(
    *,
    connect: Callable[[], AsyncBankConnect],
    file: str,
    bank_name: str | None,
    **ids: str | None,
) -> None:
    """
    Upload the statement FILE and print the response as JSON.

    Set BANKCONNECT_PDF_PASSWORD to the password of a protected PDF.
    """
    given = {name: id_ for name, id_ in ids.items() if id_ is not None}
    if len(given) != 1:
        raise click.UsageError(
            "give exactly one of --link-id, --entity-id and --session-id"
        )

    async def run() -> Table:
        async with connect() as bank:
            send: Callable[..., Awaitable[Any]]
            match given:
                case {"entity_id": id_}:
                    send = bank.entity(id_).upload
                case {"session_id": id_}:
                    send = bank.session(id_).upload
                case _:
                    send = functools.partial(
                        bank.upload, link_id=given["link_id"]
                    )
            password = os.environ.get(_PDF_VARIABLE) or None
            answer: Any = await send(
                file,
                bank_name=bank_name,
                pdf_password=password,
            )
            return Table(document=answer.raw or {"repeated": True})

    emit(write_json(_run(run())), "-")
