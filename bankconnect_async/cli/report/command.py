"""
The command ``report``.
"""

import asyncio
import sys

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from typing import BinaryIO

import click

from bankconnect_async.cli.messages import CommandError
from bankconnect_async.cli.options import (
    find_store,
    json_option,
    store_option,
)
from bankconnect_async.cli.output import (
    check_new_files,
    new_file,
    write_json,
    write_output,
)
from bankconnect_async.report import (
    CampaignReport,
    JourneyReport,
)
from bankconnect_async.report.creation import RecordCounter
from bankconnect_async.report.journeys import EntryCounter
from bankconnect_async.store import SessionEntry, SessionStore

from .files import (
    copy_failed_rows,
    write_failed_ids,
    write_urls,
    writing_states,
)
from .text import render_text


def _refuse_stdout(
    _: click.Context, __: click.Parameter, path: str | None
) -> str | None:
    if path == "-":
        raise CommandError(
            "stdout is for the figures: name a file instead of -"
        )
    return path


@click.command()
@click.argument("journals", metavar="[JOURNAL]...", nargs=-1)
@store_option(
    "The store of the service, whose journeys are counted: a file of "
    "SQLite, or postgresql://...; BANKCONNECT_STORE without a JOURNAL or "
    "with --states."
)
@json_option("Print the figures as JSON.")
@click.option(
    "--html",
    "html_path",
    callback=_refuse_stdout,
    metavar="FILE",
    help="A new page with the figures and plots, which needs no network.",
)
@click.option(
    "--states",
    "states_path",
    callback=_refuse_stdout,
    metavar="FILE",
    help="A new CSV file of the sessions of STORE: link_id, session_id, "
    "state, problem, created_at and changed_at.",
)
@click.option(
    "--urls",
    "urls_path",
    callback=_refuse_stdout,
    metavar="FILE",
    help="A new CSV file of the sessions: link_id, session_id and "
    "redirect_url.",
)
@click.option(
    "--failed",
    "failed_path",
    callback=_refuse_stdout,
    metavar="FILE",
    help="A new file of the rows without a session, as an INPUT of batch. "
    "Rows that repeat a link id are not in it.",
)
@click.option(
    "--input",
    "source",
    metavar="INPUT",
    help="The INPUT of the batch, whose rows --failed copies; without it, "
    "--failed writes link ids only.",
)
def report(  # noqa: PLR0913
    *,
    journals: Sequence[str],
    address: str | None,
    as_json: bool,
    html_path: str | None,
    states_path: str | None,
    urls_path: str | None,
    failed_path: str | None,
    source: str | None,
) -> None:
    """
    Report what became of the rows and the journeys of a campaign.

    JOURNAL is the OUT of a batch, which may be running; give those of all
    shards for one report. A link id counts once: as created if it has a
    session, else as failed with its latest error. Rows that were refused
    because an earlier row has the same link id are counted apart.

    STORE has what became of each session: how many customers opened the
    journey, submitted statements, or left. The environment variable
    BANKCONNECT_STORE_KEYS has its keys, if it is encrypted.

    In the files of --states and --urls, a text that a spreadsheet could run
    as a formula begins with an apostrophe.

    Only their owner can read the files. Anyone who has a URL can open the
    journey: treat it like a password.
    """
    if source is not None and failed_path is None:
        raise click.UsageError("--input requires --failed")
    if not journals and (urls_path or failed_path):
        raise click.UsageError("--urls and --failed require a JOURNAL")
    # Before the first is written, as none is overwritten by the next try.
    check_new_files((states_path, urls_path, html_path, failed_path))
    journeys = None
    # All files or none, so that the next try meets none of this one.
    with ExitStack() as files:
        if address is not None or states_path is not None or not journals:
            journeys = _read_store(find_store(address), states_path, files)
        counter = RecordCounter()
        if urls_path is None:
            counter.read(journals)
        else:
            with _writing(urls_path, files) as file:
                write_urls(file, counter, journals)
        figures = CampaignReport(
            creation=counter.report() if journals else None, journeys=journeys
        )
        if html_path is not None:
            with _writing(html_path, files) as file:
                file.write(figures.to_html().encode())
        if failed_path is not None:
            with _writing(failed_path, files) as file:
                if source is None:
                    write_failed_ids(file, counter, journals)
                else:
                    copy_failed_rows(file, counter, source)
    if as_json:
        write_json(figures.to_dict())
    else:
        is_terminal = sys.stdout is not None and sys.stdout.isatty()
        write_output(render_text(figures, is_terminal=is_terminal).encode())


@contextmanager
def _writing(path: str, files: ExitStack) -> Iterator[BinaryIO]:
    file = files.enter_context(new_file(path))
    yield file
    # What cannot be written is found out before any file is complete.
    file.flush()


def _read_store(
    store: SessionStore, states_path: str | None, files: ExitStack
) -> JourneyReport:
    if states_path is None:
        return asyncio.run(_count_journeys(store, None))
    with (
        _writing(states_path, files) as file,
        writing_states(file) as write,
    ):
        return asyncio.run(_count_journeys(store, write))


async def _count_journeys(
    store: SessionStore, write: Callable[[SessionEntry], object] | None
) -> JourneyReport:
    counter = EntryCounter()
    async with aclosing(store):
        await store.open()
        async for entry in store.entries():
            counter.add(entry)
            if write is not None:
                write(entry)
    return counter.report()
