"""
The command ``batch``.
"""

import asyncio
import functools
import shlex

from collections.abc import Callable
from contextlib import closing
from typing import Final

import click
import orjson

from bankconnect_async.cli.commands import (
    Exit,
    ResumableCommand,
    command_line,
    summary_code,
)
from bankconnect_async.cli.input.parameters import check_defaults
from bankconnect_async.cli.input.row_reader import RowReader
from bankconnect_async.cli.input.rows import InputRows
from bankconnect_async.cli.input.sources import (
    Input,
    open_input,
    refuse_same_file,
)
from bankconnect_async.cli.messages import explain, print_message
from bankconnect_async.cli.options import (
    ApiOptions,
    any_link_id_option,
    concurrency_option,
    json_option,
    param_option,
    rate_option,
    session_options,
    split_params,
)
from bankconnect_async.cli.output import write_json
from bankconnect_async.journal.journal import Journal

from .check import InputCheck, make_preparer
from .progress import BatchProgress
from .run import BatchRun
from .shard import InputShard, parse_shard
from .summary import BatchSummary


_FRESH: Final = "--fresh"


@click.command(cls=ResumableCommand)
@click.argument("source", metavar="INPUT")
@click.option(
    "--output",
    metavar="OUT",
    help="A file of JSON lines, one for each row, to create or to resume; "
    "- for stdout. Required, except with --check.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Only check INPUT: print the problems of each row, and send nothing. "
    "It needs no key, and leaves OUT alone.",
)
@param_option(
    "A session parameter of all rows that have no value of their own, "
    "such as bank_name=axis; repeat the option for more."
)
@click.option(
    "--keep-created",
    is_flag=True,
    help="Skip changed rows, too, if OUT has a session for their link id.",
)
@click.option(
    "--fresh",
    is_flag=True,
    help="Start over; an existing OUT is backed up, such as to OUT.old-1.",
)
@concurrency_option(
    64,
    "The maximum of requests in flight; with --dask, for each worker process.",
)
@rate_option("The maximum of new requests per second.")
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    metavar="N",
    default=1,
    help="Send from N processes, to use N cores; --concurrency and --rate are "
    "for all of them together.",
)
@click.option(
    "--dask",
    "cluster",
    metavar="ADDRESS",
    help="Run on the workers of this Dask scheduler, such as "
    "tcp://scheduler:8786; local starts a process for each core.",
)
@click.option(
    "--journal-dir",
    metavar="DIR",
    help="With --dask, a directory that all workers share and only this OUT "
    "uses; OUT.shards by default.",
)
@click.option(
    "--shard",
    metavar="I/N",
    callback=parse_shard,
    help="Only every Nth row, beginning with row I from 0, into "
    "OUT.shard-I-of-N: run N processes, then bankconnect merge. auto/N takes "
    "I from a Kubernetes indexed job, auto both from an AWS Batch array job. "
    "--rate is for each process.",
)
@any_link_id_option
@json_option("Print the summary as JSON; to stdout, unless OUT is stdout.")
@session_options
@click.pass_context
def batch(  # noqa: PLR0913
    ctx: click.Context,
    *,
    api: ApiOptions,
    source: str,
    output: str | None,
    check: bool,
    params: tuple[str, ...],
    keep_created: bool,
    fresh: bool,
    concurrency: int,
    rate: float | None,
    processes: int,
    cluster: str | None,
    journal_dir: str | None,
    shard: InputShard | None,
    allow_any_link_id: bool,
    as_json: bool,
) -> None:
    """
    Create a session for each row of INPUT.

    INPUT is a CSV file with a header, or a file of JSON lines, or - for
    stdin; each may be compressed with gzip. Its columns are link_id and any
    other session parameter; extra.NAME is an undocumented one. Dates are
    DD/MM/YYYY or YYYY-MM-DD, never month first. An empty cell leaves its
    parameter out. A row fails if a spreadsheet, a data frame or a typing
    error seems to have damaged its link id.

    OUT gets one line for each row as soon as the row is done. Ctrl-C waits
    for the rows in flight; a second Ctrl-C cancels them. Run the same command
    again to resume: it skips the rows that have a session in OUT, and tries
    failed ones again. It refuses an OUT of another API or of changed rows,
    unless --keep-created takes these as done.

    With --dask, secrets come from the environment of the workers.
    """
    defaults = split_params(params)
    check_defaults(defaults)
    read_rows = functools.partial(
        InputRows, allow_any_link_id=allow_any_link_id, defaults=defaults
    )
    if check:
        ctx.exit(_check(api, source, read_rows, as_json=as_json))
    if output is None:
        raise click.UsageError("Missing option '--output'.")
    _check_workers(
        api,
        cluster=cluster,
        journal_dir=journal_dir,
        processes=processes,
        shard=shard,
    )
    if shard is not None and output != "-":
        output = shard.path(output)
    # The input comes last, because a pipe can be read only once.
    connection = api.connect() if cluster is None else None
    refuse_same_file(source, output)
    lines: dict[int, int] = {}
    journal = Journal(
        output,
        # The workers of a cluster report theirs.
        api=None if connection is None else api.api_id(connection),
        fresh=fresh,
        keep_created=keep_created,
        line_of=lines.pop,
    )
    with journal, closing(open_input(source)) as opened:
        if not journal.is_resumable and (cluster is not None or processes > 1):
            option = "--dask" if processes == 1 else "--processes"
            raise click.UsageError(f"with {option}, --output must be a file")
        _print_journal_notes(journal)
        rows = read_rows(opened.stream, name=opened.name)
        rows.refuse_month_first(opened.reopen)
        total = _count_rows(opened, rows)
        if shard is not None and total is not None:
            total = shard.size(total)
        summary = BatchSummary(total=total)
        progress = BatchProgress(summary)
        run = BatchRun(
            rows=RowReader(rows, opened),
            columns=None
            if rows.columns is None
            else rows.columns | defaults.keys(),
            lines=lines,
            journal=journal,
            rate=rate,
            summary=summary,
            progress=progress,
            explain=functools.partial(explain, command=ctx.command),
            shard=shard,
        )
        with closing(progress):
            if connection is not None and processes == 1:
                work = run.run_locally(connection, concurrency=concurrency)
            else:
                # It imports what only other processes need.
                from . import workers  # noqa: PLC0415

                work = (
                    workers.run_on_processes(
                        run,
                        api,
                        processes=processes,
                        concurrency=concurrency,
                    )
                    if cluster is None
                    else workers.run_on_cluster(
                        run,
                        cluster=cluster,
                        journal_dir=journal_dir,
                        concurrency=concurrency,
                        settings=api.settings(),
                    )
                )
            asyncio.run(work)
        run.close()
        _print_summary(run, as_json=as_json)
        _print_resume_hint(run, command_line(ctx, without=[_FRESH]))
    ctx.exit(summary_code(summary))


def _check_workers(
    api: ApiOptions,
    *,
    cluster: str | None,
    journal_dir: str | None,
    processes: int,
    shard: InputShard | None,
) -> None:
    if cluster is None:
        if journal_dir is not None:
            raise click.UsageError("--journal-dir requires --dask")
        return
    if shard is not None:
        raise click.UsageError("--dask and --shard exclude each other")
    if processes > 1:
        raise click.UsageError("--dask and --processes exclude each other")
    if api.sandbox:
        raise click.UsageError(
            "--dask and --sandbox exclude each other: start bankconnect "
            "sandbox, and set its variables for the workers"
        )
    if api.proxy is not None:
        raise click.UsageError(
            "--dask and --proxy exclude each other: set BANKCONNECT_PROXY for "
            "the workers"
        )


def _check(
    api: ApiOptions,
    source: str,
    read_rows: Callable[..., InputRows],
    *,
    as_json: bool,
) -> Exit:
    result = InputCheck(make_preparer(api))
    with closing(open_input(source)) as opened:
        rows = read_rows(opened.stream, name=opened.name)
        rows.refuse_month_first(opened.reopen)
        result.run(rows)
    if as_json:
        write_json(result.as_dict())
    else:
        print_message(result.as_text())
    return Exit.FAILED if result.invalid else Exit.OK


def _count_rows(source: Input, rows: InputRows) -> int | None:
    lines = source.count_lines()
    has_header = rows.columns is not None
    return None if lines is None else lines - has_header


def _print_journal_notes(journal: Journal) -> None:
    if journal.backup is not None:
        print_message(
            f"{journal.path}: started over; the old file is backed up as "
            f"{journal.backup}"
        )
    if journal.is_resumable and not journal.is_locked:
        print_message(
            f"{journal.path}: cannot be locked; make sure that no other "
            f"command writes to it"
        )
    if not journal.is_private:
        print_message(
            f"{journal.path}: other users can read it, because its file "
            f"system has no permissions of files; it will hold session URLs"
        )


def _print_summary(run: BatchRun, *, as_json: bool) -> None:
    summary = run.summary
    if not as_json:
        if not summary.is_refused:
            print_message(summary.as_text())
    elif run.journal.is_stdout:
        click.echo(orjson.dumps(summary.as_dict()), err=True)
    else:
        write_json(summary.as_dict())
    if run.journal.kept:
        print_message(
            f"skipped {run.journal.kept} rows that were changed since their "
            f"sessions were created"
        )
    if summary.stopped is not None:
        print_message(summary.stopped)


def _print_resume_hint(run: BatchRun, words: list[str]) -> None:
    summary, journal = run.summary, run.journal
    if journal.is_damaged:
        # What stopped it says where the records are.
        if journal.unrecorded:
            click.echo(journal.describe_unrecorded(), err=True)
        return
    if summary.is_incomplete and not summary.is_refused:
        text = f"{run.output}: holds the {run.recorded} rows that were done"
        if journal.unrecorded:
            text += (
                f"; {journal.unrecorded} more were sent and could not be "
                f"written: they may have sessions"
            )
        print_message(text)
    is_over = summary.stopped is None and not summary.is_incomplete
    if is_over or summary.mismatched or not journal.is_resumable:
        return
    print_message(f"to resume: {shlex.join(words)}")
