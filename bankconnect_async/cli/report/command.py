"""
The command ``report``.
"""

import sys

from collections.abc import Sequence

import click
import orjson

from bankconnect_async._printable import printable_json
from bankconnect_async.cli.output import new_file, write_output
from bankconnect_async.report import CampaignReport
from bankconnect_async.report.creation import RecordCounter

from .files import copy_failed_rows, write_failed_ids, write_urls
from .text import render_text


@click.command()
@click.argument("journals", metavar="JOURNAL...", nargs=-1, required=True)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the figures as JSON."
)
@click.option(
    "--html",
    "html_path",
    metavar="FILE",
    help="A new page with the figures and plots, which needs no network.",
)
@click.option(
    "--urls",
    "urls_path",
    metavar="FILE",
    help="A new CSV file of the sessions: link_id, session_id and "
    "redirect_url.",
)
@click.option(
    "--failed",
    "failed_path",
    metavar="FILE",
    help="A new file of the rows without a session, as an INPUT of batch.",
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
    as_json: bool,
    html_path: str | None,
    urls_path: str | None,
    failed_path: str | None,
    source: str | None,
) -> None:
    """
    Report what became of the rows of a batch.

    JOURNAL is the OUT of a batch, which may be running; give those of all
    shards for one report. A link id counts once: as created if it has a
    session, else as failed with its latest error. Rows that were refused
    because an earlier row has the same link id count apart.

    Only their owner can read the files of --urls and --failed. Anyone who has
    a URL can open the journey: treat it like a password.
    """
    if source is not None and failed_path is None:
        raise click.UsageError("--input requires --failed")
    counter = RecordCounter()
    if urls_path is None:
        counter.read(journals)
    else:
        with new_file(urls_path) as file:
            write_urls(file, counter, journals)
    figures = CampaignReport(creation=counter.report())
    if html_path is not None:
        with new_file(html_path) as file:
            file.write(figures.to_html().encode())
    if failed_path is not None:
        with new_file(failed_path) as file:
            if source is None:
                write_failed_ids(file, counter, journals)
            else:
                copy_failed_rows(file, counter, source)
    if as_json:
        raw = orjson.dumps(figures.to_dict(), option=orjson.OPT_APPEND_NEWLINE)
        write_output(printable_json(raw))
    else:
        is_terminal = sys.stdout is not None and sys.stdout.isatty()
        write_output(render_text(figures, is_terminal=is_terminal).encode())
