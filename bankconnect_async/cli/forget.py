"""
``bankconnect forget``: erase what a store knows of customers.
"""

import asyncio
import datetime
import re

from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, Final

import attrs
import click
import orjson

from bankconnect_async._printable import one_line
from bankconnect_async.journal.records import recorded_at
from bankconnect_async.store import SessionStore

from .input.dates import FORMS, parse_day
from .input.file_types import find_unsearchable_type
from .input.lines import UTF8_BOM
from .input.rows import InputFileError
from .input.sources import open_input
from .options import find_store, json_option, store_option
from .output import write_json, write_output


# Lines that are named one by one.
_NAMED: Final = 20


def _midnight(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> datetime.datetime | None:
    day = parse_day(ctx, param, text)
    if day is None:
        return None
    midnight = datetime.datetime.combine(day, datetime.time()).astimezone()
    if midnight > datetime.datetime.now(datetime.UTC):
        raise click.BadParameter(
            "lies in the future, so that everything would be erased"
        )
    return midnight


@click.command()
@click.argument("link_id", required=False)
@click.option(
    "--before",
    callback=_midnight,
    metavar="DATE",
    help=f"Erase only what was created before this day ({FORMS}).",
)
@store_option(
    "The store, instead of BANKCONNECT_STORE: a file of SQLite, or "
    "postgresql://..."
)
@click.option(
    "--journal",
    "paths",
    multiple=True,
    metavar="FILE",
    help="A journal or another file of text, in which to look for what is "
    "erased; repeat the option for more.",
)
@json_option("Print the result as JSON.")
@click.pass_context
def forget(  # noqa: PLR0913
    ctx: click.Context,
    *,
    link_id: str | None,
    before: datetime.datetime | None,
    address: str | None,
    paths: Sequence[str],
    as_json: bool,
) -> None:
    """
    Erase sessions from the store, and the webhooks that wait for them.

    Give LINK_ID for the sessions of one customer, --before for those of all
    customers, or both for older ones of one customer. No other file is
    changed: --journal lists the lines of a file that still hold the link id,
    or records from before that day, and then the command exits with 1. Files
    may be compressed with gzip. Backups and files that are not named are not
    searched.

    The keys of an encrypted store come from BANKCONNECT_STORE_KEYS.
    """
    if link_id is None and before is None:
        raise click.UsageError("give LINK_ID, or --before, or both")
    if link_id == "":
        raise click.UsageError("LINK_ID is empty")
    wanted = _Wanted(link_id, before)
    store = find_store(address)
    # A file that cannot be read is an error before anything is erased.
    held = {path: list(_find_lines(path, wanted)) for path in paths}
    erased = asyncio.run(_forget(store, link_id, before))
    if as_json:
        write_json({"erased": erased, "files": held})
    else:
        write_output(_describe(erased, held, wanted).encode())
    if any(held.values()):
        ctx.exit(1)


async def _forget(
    store: SessionStore,
    link_id: str | None,
    before: datetime.datetime | None,
) -> int:
    async with aclosing(store):
        await store.open()
        return await store.forget(link_id=link_id, before=before)


@attrs.frozen
class _Wanted:
    """
    The sessions to erase.

    Attributes:
        link_id: The customer; `None` for all.
        before: The time before which they were created; `None` for any.
    """

    link_id: str | None
    before: datetime.datetime | None

    def is_in(self, raw: bytes) -> bool:
        """Tell whether a line of a file holds one of them."""
        record = _parse(raw)
        if self.link_id is not None and not self._has_link_id(raw, record):
            return False
        if self.before is None:
            return True
        if not isinstance(record, dict):
            # A line without a time may be as old as that.
            return self.link_id is not None
        try:
            at = recorded_at(record)
        except (TypeError, ValueError):
            at = None
        return at is None or at < self.before

    def _has_link_id(self, raw: bytes, record: Any) -> bool:
        texts = _decode(raw) if record is None else _texts(record)
        # Not as a part of another id.
        whole = re.compile(
            rf"(?<![\w-]){re.escape(self.link_id or '')}(?![\w-])"
        )
        return any(map(whole.search, texts))


def _parse(raw: bytes) -> Any:
    """Parse a line of JSON; `None` for any other text."""
    try:
        return orjson.loads(raw.removeprefix(UTF8_BOM))
    except orjson.JSONDecodeError:
        return None


def _decode(raw: bytes) -> Iterator[str]:
    """Yield the text of a line, in each encoding that it may have."""
    text = raw.decode(errors="replace")
    yield text
    if "\ufffd" in text:
        # Excel saves CSV in the encoding of Windows unless told otherwise.
        yield raw.decode("cp1252", errors="replace")


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for each in (*value, *value.values()):
                yield from _texts(each)
        case list():
            for each in value:
                yield from _texts(each)
        case _:
            yield str(value)


def _find_lines(path: str, wanted: _Wanted) -> Iterator[int]:
    is_first = True
    with closing(open_input(path)) as opened:
        for number, raw in enumerate(opened.stream, 1):
            head = raw.strip()
            if not head:
                continue
            if is_first and (found := find_unsearchable_type(head)):
                raise InputFileError(f"{opened.name}: {found}")
            is_first = False
            if wanted.is_in(raw):
                yield number


def _describe(
    erased: int, held: Mapping[str, list[int]], wanted: _Wanted
) -> str:
    lines = [f"{erased:,} {'session' if erased == 1 else 'sessions'} erased"]
    what = "records from before that day"
    if wanted.link_id is not None:
        what = wanted.link_id
    for path, numbers in held.items():
        if not numbers:
            lines.append(f"{path}: holds no {what}")
            continue
        named = ", ".join(map(str, numbers[:_NAMED]))
        more = len(numbers) - _NAMED
        lines.append(
            f"{path}: still holds {what}: line {named}"
            + (f" and {more:,} more" if more > 0 else "")
        )
    if not held:
        lines.append(
            "journals, inputs and other files may still hold it: look with "
            "--journal FILE"
        )
    return "".join(f"{one_line(line)}\n" for line in lines)
