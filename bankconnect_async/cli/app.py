"""
The commands and their exit codes.
"""

import asyncio
import functools
import shlex

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Final

import click
import orjson

from bankconnect_async import __version__
from bankconnect_async._printable import printable_json, printable_url
from bankconnect_async.errors import (
    AuthenticationError,
    BankConnectError,
    ConfigurationError,
    InvalidRequestError,
    JournalError,
)
from bankconnect_async.journal.journal import Journal
from bankconnect_async.journal.records import (
    describe_error,
    describe_session,
    printable,
)
from bankconnect_async.models.sessions import UNSET, Session
from bankconnect_async.sandbox import Dialect, Sandbox

from .batch.check import InputCheck, make_preparer
from .batch.progress import BatchProgress
from .batch.run import BatchRun
from .batch.shard import InputShard, parse_shard
from .batch.summary import BatchSummary
from .collect.command import collect
from .commands import Exit, ResumableCommand, command_line, summary_code
from .demo.server import demo
from .forget import forget
from .input.parameters import build_request, check_defaults
from .input.row_reader import RowReader
from .input.rows import InputRows
from .input.sources import Input, open_input, refuse_same_file
from .invite import invite
from .merge import merge
from .messages import CommandError, explain, print_message
from .options import (
    ApiOptions,
    allow_host_option,
    any_link_id_option,
    dialect_option,
    port_option,
    require_redirect_url,
    session_options,
)
from .output import write_output
from .report.command import report
from .signals import serve_until_interrupted
from .statements import fetch, upload, wait
from .sweep import sweep
from .trigger import trigger


_FRESH: Final = "--fresh"


class _App(click.Group):
    """
    Turns an error of a command into one line and an exit code.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BankConnectError as error:
            name = ctx.invoked_subcommand or ""
            text = explain(error, self.commands.get(name, self))
            if not isinstance(error, JournalError):
                # The message of a journal begins with the file's name.
                text = f"bankconnect: {text}"
            raise CommandError(text, _exit_code(error)) from error
        except OSError as exc:
            raise CommandError(f"bankconnect: {exc}", Exit.FAILED) from exc
        except KeyboardInterrupt:
            raise CommandError(
                "bankconnect: interrupted", Exit.INTERRUPTED
            ) from None


def _exit_code(error: BankConnectError) -> Exit:
    match error:
        case ConfigurationError() | InvalidRequestError() | JournalError():
            return Exit.USAGE
        case AuthenticationError():
            return Exit.NOT_AUTHENTICATED
        case _:
            return Exit.FAILED


@click.group(
    cls=_App,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "show_default": True,
    },
    epilog="Exit codes: 0 success; 1 failure, even of a single row; 2 wrong "
    "usage or configuration; 3 refused API key; 130 interrupted.",
)
@click.version_option(__version__, prog_name="bankconnect")
def app() -> None:
    """
    Create FinBox Bank Connect sessions and fetch statement data.

    Secrets come from the environment: BANKCONNECT_API_KEY and, for statement
    data, BANKCONNECT_SERVER_HASH. BANKCONNECT_STORE names the store of the
    commands sweep, collect, report and forget, to which batch and session
    write, too. The commands session and batch need no key with --sandbox.
    """


@app.command()
@click.argument("link_id")
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="A session parameter, such as bank_name=axis or "
    "from_date=01/01/2026; repeat the option for more.",
)
@any_link_id_option
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a JSON object, even if the request fails.",
)
@session_options
def session(
    *,
    api: ApiOptions,
    link_id: str,
    params: tuple[str, ...],
    allow_any_link_id: bool,
    as_json: bool,
) -> None:
    """
    Create one session for LINK_ID and print its URL.

    Anyone who has the URL can open the journey: treat it like a password.
    """
    values = dict(map(_split_param, params)) | {"link_id": link_id}
    try:
        created = asyncio.run(
            _create(api, values, allow_any_link_id=allow_any_link_id)
        )
    except ConfigurationError:
        raise
    except BankConnectError as error:
        if as_json:
            _print_record(link_id, describe_error(error))
        raise
    if as_json:
        _print_record(link_id, describe_session(created))
    else:
        write_output(f"{printable_url(created.url)}\n".encode())


def _print_record(link_id: str, facts: Mapping[str, Any]) -> None:
    facts = {"link_id": printable(link_id), **facts}
    write_output(printable_json(orjson.dumps(facts)) + b"\n")


def _split_param(param: str) -> tuple[str, str]:
    name, equals, value = param.partition("=")
    if not equals:
        # The message does not show the text, which may be a secret.
        raise click.UsageError("--param takes NAME=VALUE")
    return name, value


async def _create(
    api: ApiOptions, values: dict[str, str], *, allow_any_link_id: bool
) -> Session:
    request = build_request(values, allow_any_link_id=allow_any_link_id)
    async with api.connect() as bank:
        if request.redirect_url is UNSET:
            require_redirect_url(bank.redirect_url)
        return await bank.create_session(request)


@app.command(cls=ResumableCommand)
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
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="A session parameter of all rows that have no value of their own, "
    "such as bank_name=axis; repeat the option for more.",
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
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    metavar="N",
    default=64,
    help="The maximum of requests in flight; with --dask, for each worker "
    "process.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="The maximum of new requests per second.",
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
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the summary as JSON; to stdout, unless OUT is stdout.",
)
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
    defaults = dict(map(_split_param, params))
    check_defaults(defaults)
    read_rows = functools.partial(
        InputRows, allow_any_link_id=allow_any_link_id, defaults=defaults
    )
    if check:
        ctx.exit(_check(api, source, read_rows, as_json=as_json))
    if output is None:
        raise click.UsageError("Missing option '--output'.")
    if cluster is not None and api.sandbox:
        raise click.UsageError(
            "--dask and --sandbox exclude each other: start bankconnect "
            "sandbox, and set its variables for the workers"
        )
    if cluster is not None and shard is not None:
        raise click.UsageError("--dask and --shard exclude each other")
    if shard is not None and output != "-":
        output = shard.path(output)
    if cluster is None and journal_dir is not None:
        raise click.UsageError("--journal-dir requires --dask")
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
        if cluster is not None and not journal.is_resumable:
            raise click.UsageError("with --dask, --output must be a file")
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
            if connection is not None:
                work = run.run_locally(connection, concurrency=concurrency)
            else:
                # It imports the coordinator, which only --dask needs.
                from .batch.dask import run_on_cluster  # noqa: PLC0415

                work = run_on_cluster(
                    run,
                    cluster=cluster,
                    journal_dir=journal_dir,
                    concurrency=concurrency,
                    settings=api.settings(),
                )
            asyncio.run(work)
        run.close()
        _print_summary(run, as_json=as_json)
        _print_resume_hint(run, command_line(ctx, without=[_FRESH]))
    ctx.exit(summary_code(summary))


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
        write_output(orjson.dumps(result.as_dict()) + b"\n")
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


def _print_summary(run: BatchRun, *, as_json: bool) -> None:
    summary = run.summary
    if not as_json:
        if not summary.is_refused:
            print_message(summary.as_text())
    elif run.journal.is_stdout:
        click.echo(orjson.dumps(summary.as_dict()), err=True)
    else:
        write_output(orjson.dumps(summary.as_dict()) + b"\n")
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


_COMMANDS: Final = (
    collect,
    demo,
    fetch,
    forget,
    invite,
    merge,
    report,
    sweep,
    trigger,
    upload,
    wait,
)

for _command in _COMMANDS:
    app.add_command(_command)


@app.command()
@click.option(
    "--host",
    default="127.0.0.1",
    metavar="HOST",
    help="The address to listen on.",
)
@port_option(8600)
@allow_host_option
@click.option(
    "--allow-origin",
    "allow_origins",
    multiple=True,
    metavar="ORIGIN",
    help="An origin whose pages may create sessions, such as "
    "https://app.example; pages of this machine always may. Repeat the "
    "option for more.",
)
@dialect_option("The dialect of v1; v2 is always served.")
@click.option(
    "--api-key",
    metavar="KEY",
    default="sandbox-api-key",
    help="The API key that it accepts.",
)
@click.option(
    "--server-hash",
    metavar="HASH",
    default="sandbox-server-hash",
    help="The server hash that it accepts.",
)
@click.option(
    "--webhook-url",
    metavar="URL",
    help="The URL of webhooks, until update_webhook/ sets another.",
)
@click.option(
    "--allow-remote-webhooks",
    is_flag=True,
    help="Send webhooks to other machines and containers, too.",
)
@click.option(
    "--processing-time",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=0.3,
    help="The processing time of statements.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="SPEC",
    help="A fault, such as 503 or reset:after@0.1; see above. Repeat "
    "the option for more.",
)
@click.option(
    "--fault-seed",
    type=int,
    metavar="N",
    help="The seed of random faults, to repeat an earlier run.",
)
def sandbox(
    *,
    dialect: Dialect,
    faults: tuple[str, ...],
    fault_seed: int | None,
    **settings: Any,
) -> None:
    """
    Serve a simulation of the vendor's API until interrupted.

    It prints the environment variables that point clients to it.

    A SPEC is FAULT for every request, FAULT@PROBABILITY, or FAULT,FAULT,...
    for the next requests in turn. A prefix PREFIX*= limits the SPEC to link
    ids that start with PREFIX; each of them gets the list by itself.

    A FAULT is ok, refuse, slow-accept[:SECONDS], reset, eof,
    stall[:SECONDS], truncate, garbage, html, empty, redirect,
    hang-up[:SECONDS], or a status such as 503. It may be followed by :after
    (the fault comes after processing), :head or :body (the part of the
    response that is cut or stalls), :retry-after=SECONDS and :date.
    """
    server = Sandbox(dialect, **settings)
    seed = server.faults.load(faults, seed=fault_seed)
    if seed is not None:
        click.echo(f"random faults: --fault-seed {seed}", err=True)
    try:
        asyncio.run(serve_until_interrupted(server, _print_environment))
    except OSError as exc:
        raise ConfigurationError(
            f"cannot listen on {server.host}, port {server.port} "
            f"({exc.strerror}): choose another --host or --port"
        ) from exc


async def _print_environment(server: Sandbox) -> None:
    write_output(
        (
            f"# A sandbox of the Bank Connect API; not the vendor's.\n"
            f"export BANKCONNECT_BASE_URL={server.base_url}\n"
            f"export BANKCONNECT_API_KEY={shlex.quote(server.api_key)}\n"
            f"export BANKCONNECT_SERVER_HASH="
            f"{shlex.quote(server.server_hash)}\n"
        ).encode()
    )
