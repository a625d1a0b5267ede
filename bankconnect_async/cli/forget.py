"""
``bankconnect forget``: erase what a store knows of customers.
"""

import asyncio
import datetime
import re

from collections.abc import Collection, Iterator, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, Final

import attrs
import click
import orjson

from bankconnect_async._printable import one_line
from bankconnect_async.collecting.names import safe_name
from bankconnect_async.journal.records import recorded_at
from bankconnect_async.store import SessionEntry, SessionStore

from .collect.files import JOURNAL
from .input.dates import FORMS, parse_day
from .input.file_types import find_unsearchable_type
from .input.lines import UTF8_BOM
from .input.rows import InputFileError
from .input.sources import open_input
from .messages import CommandError
from .options import find_store, json_option, store_option
from .output import write_json, write_output


# Lines, ids and files that are named one by one.
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
@click.option(
    "--statements",
    "directories",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="The DIR of collect, in which to look for the files of what is "
    "erased; repeat the option for more. Give it the first time: later, the "
    "store has no ids to look for.",
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
    directories: Sequence[Path],
    as_json: bool,
) -> None:
    """
    Erase sessions from the store, and the webhooks that wait for them.

    Give LINK_ID for the sessions of one customer, --before for those of all
    customers, or both for older ones of one customer. It prints the ids of
    the sessions, by which the vendor can be asked to delete their data.

    No other file is changed: --journal lists the lines of a file that still
    hold the link id, or records from before that day, and --statements the
    files of the sessions; then the command exits with 1. Files of --journal
    may be compressed with gzip. Backups and files that are not named are not
    searched.

    The keys of an encrypted store come from BANKCONNECT_STORE_KEYS.
    """
    if link_id is None and before is None:
        raise click.UsageError("give LINK_ID, or --before, or both")
    if link_id == "":
        raise click.UsageError("LINK_ID is empty")
    wanted = _Wanted(link_id, before)
    found = _Found()
    asyncio.run(found.read_store(find_store(address), wanted))
    try:
        found.search(paths, directories, wanted)
    except CommandError as error:
        raise CommandError(f"{error.message}. Nothing was erased") from None
    erased = asyncio.run(_forget(find_store(address), link_id, before))
    if as_json:
        write_json(
            {
                "erased": erased,
                "session_ids": found.session_ids,
                "entity_ids": found.entity_ids,
                "files": found.lines,
                "statements": found.statements,
            }
        )
    else:
        write_output(_describe(erased, found, wanted).encode())
    if found.is_held:
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

    def has(self, entry: SessionEntry) -> bool:
        """Tell whether an entry is one of them."""
        return self.link_id in {None, entry.link_id} and (
            self.before is None or entry.created_at < self.before
        )

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


@attrs.define
class _Found:
    """
    The traces of the sessions to erase, in the store and in files.

    Attributes:
        session_ids: The ids of the sessions.
        entity_ids: The ids of their entities.
        lines: The lines that hold them, by the path of the file.
        statements: The files and directories of their data.
    """

    session_ids: list[str] = attrs.Factory(list)
    entity_ids: list[str] = attrs.Factory(list)
    lines: dict[str, list[int]] = attrs.Factory(dict)
    statements: list[str] = attrs.Factory(list)

    @property
    def is_held(self) -> bool:
        """Whether a file still holds one of them."""
        return any(self.lines.values()) or bool(self.statements)

    async def read_store(self, store: SessionStore, wanted: _Wanted) -> None:
        """Remember the ids of the entries."""
        async with aclosing(store):
            await store.open()
            async for entry in store.entries():
                if wanted.has(entry):
                    if entry.session_id is not None:
                        self.session_ids.append(entry.session_id)
                    self.entity_ids += entry.entity_ids

    def search(
        self,
        paths: Sequence[str],
        directories: Sequence[Path],
        wanted: _Wanted,
    ) -> None:
        """
        Search files and directories of `collect`.

        Raises:
            CommandError: If one cannot be read.
        """
        for path in paths:
            if Path(path).is_dir():
                raise CommandError(
                    f"{path}: is a directory: give that of collect to "
                    f"--statements"
                )
            self.lines[path] = [line for line, _ in _find_lines(path, wanted)]
        for directory in directories:
            ids = {*self.session_ids, *self.entity_ids}
            journal = directory / JOURNAL
            if journal.exists():
                held = list(_find_lines(str(journal), wanted))
                self.lines[str(journal)] = [line for line, _ in held]
                # Of customers that were erased before, too.
                ids.update(filter(None, map(_id_of, held)))
            self.statements += _find_files(directory, ids)


def _id_of(line: tuple[int, bytes]) -> str | None:
    record = _parse(line[1])
    id_ = record.get("id") if isinstance(record, dict) else None
    return id_ if isinstance(id_, str) else None


def _find_files(directory: Path, ids: Collection[str]) -> Iterator[str]:
    names = set(map(safe_name, ids))
    for path in sorted(directory.glob("*/*")):
        # A safe name has no dot.
        if path.name.partition(".")[0] in names:
            yield str(path)


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


def _find_lines(path: str, wanted: _Wanted) -> Iterator[tuple[int, bytes]]:
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
                yield number, raw


def _describe(erased: int, found: _Found, wanted: _Wanted) -> str:
    lines = [f"{erased:,} {'session' if erased == 1 else 'sessions'} erased"]
    if ids := [*found.session_ids, *found.entity_ids]:
        lines[0] += f": {_name(ids)}"
    what = "records from before that day"
    if wanted.link_id is not None:
        what = wanted.link_id
    for path, numbers in found.lines.items():
        if numbers:
            lines.append(f"{path}: still holds {what}: line {_name(numbers)}")
        else:
            lines.append(f"{path}: holds no {what}")
    if found.statements:
        lines.append(f"statements are still in: {_name(found.statements)}")
    if not found.lines and not found.statements:
        lines.append(
            "journals, inputs, statements and other files may still hold it: "
            "look with --journal FILE and --statements DIR"
        )
    return "".join(f"{one_line(line)}\n" for line in lines)


def _name(things: Sequence[object]) -> str:
    named = ", ".join(map(str, things[:_NAMED]))
    more = len(things) - _NAMED
    return f"{named} and {more:,} more" if more > 0 else named
