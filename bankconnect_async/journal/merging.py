"""
Merges the journals of shards into one.
"""

import bisect
import contextlib
import os

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs

from bankconnect_async._compact_map import CompactMap
from bankconnect_async._resources.files import PartFile
from bankconnect_async.errors import JournalError, JournalMismatchError

from .append_file import AppendFile
from .records import (
    NO_RECORD,
    is_record_start,
    read_lines,
    read_object,
    recorded_at,
)


_Path: TypeAlias = str | os.PathLike[str]
_Record: TypeAlias = dict[str, Any]

_BLOCK: Final = 2**20
_BOM: Final = b"\xef\xbb\xbf"
# The most conflicts that are kept; the others are counted.
_MAX_CONFLICTS: Final = 1000


@attrs.frozen
class Conflict:
    """
    One of several sessions of a link id.

    Attributes:
        line: The line of its input.
        dropped: The path of the journal whose record is not in the result.
        kept: The path of the journal whose record is.
    """

    line: int
    dropped: str
    kept: str


@attrs.define
class MergeResult:
    """
    The counts of a merge.

    Attributes:
        created: The number of sessions in the result.
        failed: The number of other records in it.
        conflicting: The number of sessions that are not in it, because their
            link id has a later one.
        conflicts: These sessions, up to a thousand.
    """

    created: int = 0
    failed: int = 0
    conflicting: int = 0
    conflicts: list[Conflict] = attrs.Factory(list)


def merge_journals(output: _Path, *paths: _Path) -> MergeResult:
    """
    Merge journals into a new one, from which a batch can resume.

    It has the last record of each input, and one session of each link id: the
    latest one. The file is whole or not there, and readable by its owner
    only. It takes some 50 bytes of memory for each record.

    Args:
        output: The path of the new journal.
        *paths: The journals, such as those of the shards of a batch. They do
            not change.

    Raises:
        JournalError: If a journal cannot be read, or *output* exists or
            cannot be written.
        JournalLockedError: If a batch still writes to one of them.
        JournalMismatchError: If one is no journal, or they are of several
            APIs.
    """
    name = os.fspath(output)
    with contextlib.ExitStack() as stack:
        files: list[AppendFile] = []
        known: dict[str, str] = {}
        for path in [os.fspath(each) for each in paths]:
            if not Path(path).is_file():
                raise JournalError(f"{path}: is no file")
            # The lock of the first would look like that of a batch.
            file = os.path.realpath(path)
            if file in known:
                raise JournalError(
                    f"{path}: is the same file as {known[file]}"
                )
            known[file] = path
            files.append(AppendFile.open(path))
            stack.callback(files[-1].close_unchanged)
        merge = _Merge(files)
        merge.choose()
        part = PartFile(Path(name), is_new=True)
        stack.callback(part.discard)
        try:
            part.create()
            for block in merge.blocks():
                part.append(block)
            part.commit()
        except FileExistsError:
            raise JournalError(
                f"{name}: exists already: name a new file"
            ) from None
        except OSError as exc:
            raise JournalError(
                f"{name}: cannot be written: {exc.strerror}"
            ) from exc
    return merge.result


class _Merge:
    """
    Chooses records of several journals, and reads these.

    A record has a number, its place among all records.

    Args:
        files: The journals.
    """

    def __init__(self, files: list[AppendFile]) -> None:
        self.result = MergeResult()
        self._files = files
        # The number of the first record of each file.
        self._starts: list[int] = []
        self._api: str | None = None
        # The number of the session of each link id, and its time.
        self._sessions, self._times = CompactMap(), CompactMap()
        # Twice the number of the last record of each input, plus one if it is
        # a session.
        self._last = CompactMap()

    def choose(self) -> None:
        """Choose the records of the result."""
        for number, (_, record) in enumerate(self._records(self._starts)):
            is_session = "error" not in record
            if is_session and not self._is_latest(number, record):
                continue
            before = self._last.exchange(
                _input(record), 2 * number + is_session
            )
            if before is not None and before % 2 and not is_session:
                # A later failure does not undo a session.
                self._last.exchange(_input(record), before)

    def _is_latest(self, number: int, record: _Record) -> bool:
        link_id, at = record["link_id"], _seconds(record)
        time = self._times.get(link_id)
        is_latest = time is None or at >= time
        if time is not None:
            other = self._sessions.get(link_id) or 0
            kept, dropped = (number, other) if is_latest else (other, number)
            self._add_conflict(record, kept=kept, dropped=dropped)
        if is_latest:
            self._times.exchange(link_id, at)
            self._sessions.exchange(link_id, number)
        return is_latest

    def _add_conflict(
        self, record: _Record, *, kept: int, dropped: int
    ) -> None:
        self.result.conflicting += 1
        if len(self.result.conflicts) < _MAX_CONFLICTS:
            self.result.conflicts.append(
                Conflict(
                    line=record["line"],
                    dropped=self._name_of(dropped),
                    kept=self._name_of(kept),
                )
            )

    def _name_of(self, number: int) -> str:
        at = bisect.bisect_right(self._starts, number) - 1
        return self._files[at].name

    def blocks(self) -> Iterator[bytes]:
        """Yield the chosen records, in blocks of about a megabyte."""
        block: list[bytes] = []
        size = 0
        for number, (raw, record) in enumerate(self._records([])):
            if not self._is_chosen(number, record):
                continue
            if "error" in record:
                self.result.failed += 1
            else:
                self.result.created += 1
            block.append(raw.removeprefix(_BOM).removesuffix(b"\n") + b"\n")
            size += len(raw)
            if size > _BLOCK:
                yield b"".join(block)
                block.clear()
                size = 0
        yield b"".join(block)

    def _is_chosen(self, number: int, record: _Record) -> bool:
        if "error" in record:
            return self._last.get(_input(record)) == 2 * number
        return self._sessions.get(record["link_id"]) == number

    def _records(self, starts: list[int]) -> Iterator[tuple[bytes, _Record]]:
        number = 0
        for file in self._files:
            starts.append(number)
            lines = read_lines(file.lines(is_record_start), self._read)
            try:
                for raw, record in lines:
                    if record is not None:
                        number += 1
                        yield raw, record
            except ValueError as exc:
                raise JournalMismatchError(f"{file.name}: {exc}") from None

    def _read(self, raw: bytes) -> _Record:
        record = read_object(raw)
        if type(record.get("line")) is not int:
            raise ValueError(NO_RECORD)
        # Those of each record of a link id are compared.
        recorded_at(record)
        self._api = self._api or record["api"]
        if record["api"] != self._api:
            raise ValueError(
                f"is of {record['api']}, and the others are of {self._api}"
            )
        return record


def _input(record: _Record) -> str:
    return f"{record['line']} {record['link_id']}"


def _seconds(record: _Record) -> int:
    at = recorded_at(record)
    # Records of earlier versions have no time.
    return 0 if at is None else int(at.timestamp())
