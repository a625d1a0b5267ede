"""
The command ``collect``.
"""

import asyncio
import functools
import shlex

from contextlib import AbstractAsyncContextManager, ExitStack, closing
from pathlib import Path
from typing import Any, Final

import click

from bankconnect_async.cli.batch.progress import BatchProgress
from bankconnect_async.cli.commands import (
    ResumableCommand,
    command_line,
    summary_code,
)
from bankconnect_async.cli.input.sources import open_input
from bankconnect_async.cli.messages import explain, print_message
from bankconnect_async.cli.options import (
    ApiOptions,
    concurrency_option,
    connection_options,
    find_store,
    json_option,
    rate_option,
    store_option,
)
from bankconnect_async.cli.output import write_json
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.collecting.journal import CollectionJournal
from bankconnect_async.collecting.kinds import KINDS, check_kinds
from bankconnect_async.tables import FORMATS, Format, check_format

from .files import JOURNAL, CollectedFiles
from .inputs import FileOfIds, Inputs, StoreInputs
from .run import CollectRun
from .summary import CollectSummary


_NOT_READY: Final = (
    "what is missing was not submitted, or not processed yet: a service or "
    "bankconnect sweep starts processing"
)
_KINDS: Final = ", ".join(sorted({*KINDS["entity"], *KINDS["session"]}))


@click.command(cls=ResumableCommand)
@click.argument("source", metavar="[INPUT]", required=False)
@store_option(
    "Collect the sessions of a store instead: a file of SQLite, or "
    "postgresql://...; BANKCONNECT_STORE without an INPUT."
)
@click.option(
    "--to",
    "directory",
    required=True,
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="The directory for the files, to create or to resume.",
)
@click.option(
    "--what",
    metavar="KIND,...",
    default="transactions",
    help=f"The data to collect: {_KINDS}.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="json",
    help="The format of tables; parquet and xlsx need the extra [tables]. "
    "What is no table is JSON.",
)
@concurrency_option(16, "The maximum of requests in flight.")
@rate_option("The maximum of new requests per second.")
@json_option("Print the summary as JSON.")
@connection_options
@click.pass_context
def collect(  # noqa: PLR0913
    ctx: click.Context,
    *,
    api: ApiOptions,
    source: str | None,
    address: str | None,
    directory: Path,
    what: str,
    format_: Format,
    concurrency: int,
    rate: float | None,
    as_json: bool,
) -> None:
    """
    Fetch the data of many sessions into files.

    INPUT is the OUT of a batch, or a CSV file with a header, or a file of
    JSON lines, or - for stdin; each may be compressed with gzip. Its column
    is session_id or entity_id; a link_id is copied to the journal. Without
    INPUT, it collects the sessions of a store. Rows of a batch without a
    session are left out, and so are sessions of a store that have no data.

    Each kind of data of each id is a file, KIND/ID.FORMAT in DIR, which
    appears when it is complete, for its owner only. The PDFs are in pdfs/ID,
    and their passwords in pdfs/ID.json. Run the same command again to resume:
    DIR/collected.jsonl tells what is there, and data that was not ready is
    fetched then. Ctrl-C waits for the requests in flight; a second Ctrl-C
    cancels them.

    The vendor deletes PDFs after 30 days.
    """
    kinds = check_kinds([each.strip() for each in what.split(",")])
    check_format(format_)
    if source is not None and address is not None:
        raise click.UsageError("give either INPUT or --store")
    # It creates no sessions; those of a store are among the inputs.
    connection = api.connect(store=None)
    files = CollectedFiles(directory, format_)
    with ExitStack() as stack:
        inputs: Inputs
        if source is None:
            inputs = StoreInputs(find_store(address))
        else:
            inputs = FileOfIds(
                stack.enter_context(closing(open_input(source)))
            )
        count = inputs.count()
        summary = CollectSummary(total=count and count * len(kinds))
        progress = stack.enter_context(closing(BatchProgress(summary)))
        run = CollectRun(
            rate=rate,
            summary=summary,
            progress=progress,
            explain=functools.partial(explain, command=ctx.command),
        )
        files.prepare(kinds)
        work = _collect(
            connection,
            run,
            inputs,
            what=kinds,
            to=directory,
            save=files.save,
            concurrency=concurrency,
            rate=rate,
            journal=CollectionJournal(
                directory / JOURNAL,
                api=api.api_id(connection),
                format=format_,
            ),
        )
        asyncio.run(work)
    _print_summary(summary, ctx, as_json=as_json)
    ctx.exit(summary_code(summary))


async def _collect(
    connection: AbstractAsyncContextManager[AsyncBankConnect],
    run: CollectRun,
    inputs: Inputs,
    **options: Any,
) -> None:
    async with connection as bank, inputs.opened_for(bank) as rows:
        await run.process(bank.collect(rows, **options))


def _print_summary(
    summary: CollectSummary, ctx: click.Context, *, as_json: bool
) -> None:
    if as_json:
        write_json(summary.as_dict())
    elif not summary.is_refused:
        print_message(summary.as_text())
    if summary.stopped is not None:
        print_message(summary.stopped)
    elif summary.not_ready or (
        # A store has sessions without data, which are left out.
        ctx.params["source"] is None
        and not summary.processed
        and not summary.is_incomplete
    ):
        print_message(_NOT_READY)
    is_over = summary.stopped is None and not summary.is_incomplete
    if (is_over and not summary.failed) or summary.mismatched:
        return
    print_message(f"to resume: {shlex.join(command_line(ctx))}")
