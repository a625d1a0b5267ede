"""
Files of a report: URLs and states of sessions, and rows without one.
"""

import csv
import io
import itertools

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, BinaryIO, Final

from bankconnect_async._printable import one_line
from bankconnect_async.cli.input.rows import BadRow, InputRow, InputRows
from bankconnect_async.cli.input.sources import open_input
from bankconnect_async.cli.messages import CommandError, print_message
from bankconnect_async.report.creation import RecordCounter, read_rows
from bankconnect_async.store import SessionEntry
from bankconnect_async.tables.csv_file import LineFeeds, csv_cell


_STATES: Final = (
    *("link_id", "session_id", "state", "problem"),
    *("created_at", "changed_at"),
)
_LOST: Final = "the response was lost: a session may exist"


@contextmanager
def writing_states(
    file: BinaryIO,
) -> Iterator[Callable[[SessionEntry], object]]:
    """
    Write the sessions of a store as CSV.

    Args:
        file: The file.

    Yields:
        The function that writes the row of an entry.
    """
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(LineFeeds(text))
    writer.writerow(_STATES)

    def write(entry: SessionEntry) -> None:
        lost = _LOST if entry.is_ambiguous else None
        writer.writerow(
            (
                _cell(entry.link_id),
                _cell(entry.session_id),
                entry.state.value,
                # A browser may send any text.
                _cell(entry.last_problem or lost),
                entry.created_at.isoformat(),
                entry.changed_at and entry.changed_at.isoformat(),
            )
        )

    try:
        yield write
    finally:
        text.detach()


def write_urls(
    file: BinaryIO, counter: RecordCounter, journals: Iterable[str]
) -> None:
    """
    Write the sessions of journals as CSV while their records are counted.

    Args:
        file: The file.
        counter: The counter of records.
        journals: The paths of the journals.
    """
    ids = "link_id", "session_id"
    sessions = (
        [
            *(_cell(row.record[name]) for name in ids),
            row.record["redirect_url"],
        ]
        for path in journals
        for row in read_rows(path)
        if counter.add(row)
    )
    _write_csv(file, (*ids, "redirect_url"), sessions)


def write_failed_ids(
    file: BinaryIO, counter: RecordCounter, journals: Iterable[str]
) -> None:
    """
    Write the link ids without a session as CSV.

    Args:
        file: The file.
        counter: The counter, which has counted the journals.
        journals: The paths of the journals.

    Raises:
        CommandError: If the rows differ in other parameters, which journals
            do not hold.
    """
    unreadable = 0

    def failed() -> Iterator[Sequence[str]]:
        nonlocal unreadable
        digest = None
        for path in journals:
            for row in read_rows(path):
                if row.is_repeated or not counter.take_failed(
                    row.link_id, row.line
                ):
                    continue
                if row.link_id is None:
                    unreadable += 1
                    continue
                other = row.record["request"]
                if digest is not None and other not in {None, digest}:
                    raise CommandError(
                        "bankconnect: the rows without a session differ in "
                        "more than their link ids: copy them from the INPUT "
                        "of the batch, with --input INPUT"
                    )
                digest = digest or other
                # As it is, for the batch that reads it.
                yield [row.link_id]

    _write_csv(file, ("link_id",), failed())
    if unreadable:
        print_message(
            f"{unreadable} rows without a readable link id were left out; "
            f"--input INPUT copies them, too"
        )


def copy_failed_rows(
    file: BinaryIO, counter: RecordCounter, source: str
) -> None:
    """
    Copy the rows without a session from the input of the batch.

    Args:
        file: The file.
        counter: The counter, which has counted the journals.
        source: The path of the input.

    Raises:
        CommandError: If the input cannot be read twice.
    """
    with closing(open_input(source)) as opened:
        copy = opened.reopen()
        if copy is None:
            raise CommandError(
                f"{opened.name}: can be read only once: give --input a file"
            )
        rows = InputRows(
            opened.stream, name=opened.name, allow_any_link_id=True
        )
        with copy:
            file.writelines(_failed_lines(rows, counter, copy))


def _failed_lines(
    rows: InputRows, counter: RecordCounter, lines: Iterator[bytes]
) -> Iterator[bytes]:
    # The lines before the first row are a header.
    starts = itertools.chain(
        [(1, True)], ((row.line, _is_failed(row, counter)) for row in rows)
    )
    start, is_copied = next(starts)
    for end, is_next in starts:
        part = itertools.islice(lines, end - start)
        yield from part if is_copied else _skip(part)
        start, is_copied = end, is_next
    if is_copied:
        yield from lines


def _is_failed(row: InputRow | BadRow, counter: RecordCounter) -> bool:
    if isinstance(row, InputRow):
        return counter.take_failed(row.request.link_id, row.line)
    return counter.take_failed(row.link_id, row.line)


def _skip(lines: Iterator[bytes]) -> Iterator[bytes]:
    return (line for line in lines if not line)


def _cell(text: str | None) -> Any:
    return csv_cell(text and one_line(text))


def _write_csv(
    file: BinaryIO, header: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(LineFeeds(text))
    writer.writerow(header)
    writer.writerows(rows)
    # Closing the file is up to the caller.
    text.detach()
