"""
``bankconnect invite``: a link for each row of a file.
"""

import csv
import datetime
import io

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any, Final

import click
import orjson

from bankconnect_async._printable import one_line
from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.models.sessions import PARAMETERS, UNSET, SessionRequest
from bankconnect_async.tables.csv_file import LineFeeds
from bankconnect_async.web.invitations import InvitationParameters

from .callbacks import make_protocol
from .input.link_ids import LinkIds
from .input.rows import BadRow, Columns, InputRow, InputRows
from .input.sources import open_input, refuse_same_file
from .input.unknown_banks import UnknownBanks
from .messages import CommandError, print_message
from .options import any_link_id_option
from .output import new_file


_COLUMN: Final = "invitation_url"
_IN_LINKS: Final = Columns(
    known=frozenset({"link_id", *InvitationParameters.__annotations__}),
    extra="have it in the output only, because anyone who gets a link can "
    "read what is in it",
)
# Many bad rows have one cause.
_MOST_PROBLEMS: Final = 20
_BLOCK: Final = 2**20


@click.command()
@click.argument("source", metavar="INPUT")
@click.option(
    "--output",
    required=True,
    metavar="OUT",
    help="A new file for the rows with their links.",
)
@click.option(
    "--invitation-id",
    required=True,
    metavar="ID",
    help="Your id of the campaign: each customer can submit statements once "
    "for it.",
)
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    metavar="N",
    default=14,
    help="The lifetime of the links in days.",
)
@click.option(
    "--callback-url",
    metavar="URL",
    help="The URL of your CallbackService, as browsers see it, instead of "
    "BANKCONNECT_CALLBACK_URL.",
)
@click.option(
    "--inline-frame",
    is_flag=True,
    help="The service shows journeys in an <iframe>, so link ids may be "
    "longer.",
)
@click.option(
    "--allow-http",
    is_flag=True,
    help="Allow a callback URL without TLS, such as that of a service in a "
    "container.",
)
@any_link_id_option
def invite(  # noqa: PLR0913
    *,
    source: str,
    output: str,
    invitation_id: str,
    days: int,
    callback_url: str | None,
    inline_frame: bool,
    allow_http: bool,
    allow_any_link_id: bool,
) -> None:
    """
    Make a link for each row of INPUT, for mail or SMS.

    No session is created before a customer taps, so links cost nothing. The
    service that answers at the callback URL must have the same signing key,
    which comes from BANKCONNECT_SIGNING_KEY.

    INPUT is a file as for the command batch. Its columns are link_id,
    from_date, to_date, bank_name and mode, which anyone who gets a link can
    read; extra.NAME, such as extra.email, is for your mail merge and is not
    in the link.

    OUT has the rows of INPUT with a column invitation_url, in the same
    format. It is written as a whole, or not at all if a row is wrong. Only
    its owner can read it.
    """
    protocol = make_protocol(
        callback_url, invitation_frame=inline_frame, allow_http=allow_http
    )
    refuse_same_file(source, output)

    def make_link(request: SessionRequest) -> str:
        return protocol.invitation_url(
            request.link_id,
            invitation_id=invitation_id,
            max_age=datetime.timedelta(days=days),
            parameters=_parameters(request),
        )

    with (
        new_file(output, other="--output") as file,
        closing(open_input(source)) as opened,
    ):
        rows = InputRows(
            opened.stream,
            name=opened.name,
            allow_any_link_id=allow_any_link_id,
            columns=_IN_LINKS,
        )
        rows.refuse_month_first(opened.reopen)
        merged = _Merged(rows, make_link)
        file.writelines(merged.blocks())
        merged.print_problems()
        if merged.bad:
            raise CommandError(
                f"{opened.name}: {merged.bad} rows are wrong: nothing was "
                f"written",
                exit_code=1,
            )
    print_message(f"{output}: {merged.good} invitations")


def _parameters(request: SessionRequest) -> InvitationParameters:
    given: Any = {
        name: value
        for name in PARAMETERS - {"link_id"}
        if (value := getattr(request, name)) is not None and value is not UNSET
    }
    return given  # type: ignore[no-any-return] # the protocol refuses others


class _Merged:
    """
    The rows of an input with their links, in the format of the input.

    Args:
        rows: The rows.
        make_link: The function that makes the link of a request.

    Attributes:
        good: The number of links.
        bad: The number of rows that have none.
    """

    def __init__(
        self, rows: InputRows, make_link: Callable[[SessionRequest], str]
    ) -> None:
        self._rows = rows
        self._make_link = make_link
        self._link_ids = LinkIds()
        self._banks = UnknownBanks()
        self._problems: list[str] = []
        self.good = 0
        self.bad = 0

    def blocks(self) -> Iterator[bytes]:
        """Yield the output in blocks of about a megabyte."""
        buffer = io.StringIO(newline="")
        write = self._writer(buffer)
        for row in self._rows:
            if (values := self._merge(row)) is None:
                continue
            write(values)
            if buffer.tell() > _BLOCK:
                yield buffer.getvalue().encode()
                buffer.seek(0)
                buffer.truncate()
        yield buffer.getvalue().encode()

    def print_problems(self) -> None:
        """Print the first problems and warnings, one line each."""
        for problem in self._problems:
            print_message(problem)
        if self.bad > len(self._problems):
            print_message(f"and {self.bad - len(self._problems)} more")
        self._banks.print_warnings()

    def _merge(self, row: InputRow | BadRow) -> Mapping[str, Any] | None:
        error: InvalidRequestError
        if isinstance(row, InputRow):
            try:
                link = self._make_link(row.request)
                self._link_ids.add(row)
                self._banks.add(row)
            except InvalidRequestError as exc:
                error = exc
            else:
                self.good += 1
                return {**row.values, _COLUMN: link}
        else:
            error = row.error
        self.bad += 1
        if len(self._problems) < _MOST_PROBLEMS:
            self._problems.append(one_line(f"line {row.line}: {error}"))
        return None

    def _writer(
        self, buffer: io.StringIO
    ) -> Callable[[Mapping[str, Any]], object]:
        header = self._rows.header
        if header is None:
            return lambda values: buffer.write(
                f"{orjson.dumps(values).decode()}\n"
            )
        writer = csv.DictWriter(
            LineFeeds(buffer),
            [*header.columns, _COLUMN],
            delimiter=header.delimiter,
        )
        writer.writeheader()
        return writer.writerow
