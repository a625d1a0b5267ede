"""
A durable journal of outcomes, from which a batch resumes.
"""

import asyncio
import functools
import os
import threading
import warnings

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, TypeVar

from bankconnect_async._codec.request_digests import request_digest
from bankconnect_async._compact_map import CompactMap
from bankconnect_async._threads import finish_in_thread, run_in_thread
from bankconnect_async.batch.outcomes import (
    Created,
    Outcome,
    duplicate_error,
)
from bankconnect_async.errors import (
    UNCERTAIN,
    ConfigurationError,
    JournalError,
    JournalMismatchError,
)
from bankconnect_async.models.sessions import SessionRequest

from .append_file import AppendFile
from .records import (
    CreatedRecord,
    FailedRecord,
    Record,
    decode_record,
    encode_record,
    is_record_start,
    read_lines,
    read_object,
)
from .recovery import finish_writing, recover


__all__ = [
    "CreatedRecord",
    "FailedRecord",
    "Journal",
    "Record",
    "read_journal",
]

T = TypeVar("T")

_Path: TypeAlias = str | os.PathLike[str]

# A number with this bit is half of the digest of a request that created a
# session. A number without it is the line of an input.
_IS_CREATED: Final = 2**31
_START_OVER: Final = "use another path, or fresh=True to start over"
_KEEP: Final = "keep_created=True to take such inputs as done"
_REPAIR: Final = (
    "the lines before it are records: correct or remove that line, or use "
    "another path"
)
# A usual record takes less than half of these bytes.
_ROOM: Final = 1024
# The most lines that a message names.
_NAMED: Final = 1000


class Journal:
    """
    A file of JSON lines with the outcome of every input of a batch.

    ::

        journal = Journal("sessions.jsonl")
        async with bank.create_sessions(rows, journal=journal) as outcomes:
            async for outcome in outcomes:
                ...

    Each record is written before its worker takes the next input, and is
    flushed to the disk a tenth of a second later and at the end of a batch.
    So a killed process leaves at most as many requests unrecorded as were in
    flight. Running the same batch again resumes it: inputs that have a session
    are skipped, failed ones are tried again.

    The file is for one writer at a time, and readable by its owner only. Its
    records name the API and a digest of their request; for another API, or
    for other requests of the same link ids, it is refused. In memory it
    takes some 16 bytes for each input.

    A batch sends nothing if there is no room for the records of all requests
    in flight. Each fsync also checks the file: if another program deleted,
    moved or changed it, the batch stops, and closing the journal raises an
    error that says where the records are. A deleted file is saved beside its
    old place, under a name with ``.saved-``.

    A batch opens and closes its journal. Without a batch, use the journal as
    a context manager.

    Args:
        path: The path of the file. No batch can resume from a pipe or a
            device, nor from ``-``, which is stdout.
        api: The name of the API in records, instead of the client's host and
            version; for a sandbox, whose port differs each time.
        fresh: Whether to start over, with a backup of an earlier file under a
            name with ``.old-``.
        keep_created: Whether an input counts as done if the file holds a
            session for its link id that another request created, such as one
            with other dates; by default the file is refused.
        line_of: A function from the index of an input to its line; by default
            lines count from 1. It is called once for each index.

    Attributes:
        path: The path of the file, or ``-``.
        given_api: The name of the API in records, if it was given.
        created: The number of sessions in the file.
        failed: The number of failures recorded since it was opened.
        skipped: The number of inputs skipped, because the file holds their
            session.
        kept: The number of these whose request was changed since.
        unrecorded: The number of outcomes that could not be written.
        unrecorded_outcomes: Those outcomes, with their sessions; keep them
            elsewhere.
        backup: The path that *fresh* moved the earlier file to.
        is_stdout: Whether it is stdout, where nothing else may be printed.
        is_resumable: Whether a batch can resume from it, unlike from a pipe.
        is_damaged: Whether another program deleted, moved or changed the
            file while it was open.
        is_locked: Whether a second writer is kept away. Some network file
            systems have no locks: run one writer at a time.
        is_private: Whether only its owner can read the file. CIFS and vfat
            cannot restrict that, and the file holds session URLs.
    """

    def __init__(
        self,
        path: _Path,
        *,
        api: str | None = None,
        fresh: bool = False,
        keep_created: bool = False,
        line_of: Callable[[int], int] | None = None,
    ) -> None:
        self.path: Final = os.fspath(path)
        self.given_api: Final = api
        self._api = api
        self._is_fresh = fresh
        self._keeps_created = keep_created
        self._line_of = line_of or _count_from_1
        self._file: AppendFile | None = None
        # Held while a thread opens, reads, flushes or closes the file.
        self._lock = threading.RLock()
        self._is_in_use = self._is_damaged = False
        # Whether the file was read, and no batch has used that yet.
        self._is_ready = False
        self.backup: str | None = None
        self.is_stdout: bool = False
        self.is_resumable: bool = False
        self.is_locked: bool = False
        self._digested: SessionRequest | None = None
        self._digest = ""
        self._reset()

    def _reset(self) -> None:
        self.created: int = 0
        self.failed: int = 0
        self.skipped: int = 0
        self.kept: int = 0
        self.unrecorded_outcomes: list[Outcome] = []
        self._unrecorded_lines: list[int] = []
        # The outcomes that a pipe may not have taken yet.
        self._queued: deque[tuple[Outcome, int]] = deque()
        self._known = CompactMap()
        self._begun: dict[int, tuple[int, str]] = {}

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            warnings.warn(
                f"the journal {self.path} was not closed: use `with`, or its "
                f"close()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    @property
    def is_private(self) -> bool:
        """Whether only its owner can read the file, as far as is known."""
        return self._file is None or self._file.is_private

    @property
    def unrecorded(self) -> int:
        """The number of outcomes that could not be written."""
        return len(self.unrecorded_outcomes)

    @property
    def is_damaged(self) -> bool:
        """Whether another program deleted, moved or changed the open file."""
        return self._is_damaged

    def open(self) -> None:
        """
        Open, lock and read the file; blocks, some seconds for a million.

        Raises:
            JournalError: If the file cannot be opened.
            JournalMismatchError: If it is no journal, or of another API.
        """
        self._open(threading.Event())

    def _open(self, cancelled: threading.Event) -> None:
        with self._lock:
            if self._file is not None:
                raise RuntimeError(f"the journal {self.path} is open already")
            self._file = file = AppendFile.open(
                self.path, fresh=self._is_fresh, cancelled=cancelled
            )
            # Opening it again must not back up what this journal writes.
            self._is_fresh = self._is_damaged = False
            self.backup = file.backup
            self.is_stdout = file.is_stdout
            self.is_resumable = not file.is_stream
            self.is_locked = file.is_locked
            try:
                if self.given_api is not None:
                    self._read(self.given_api, cancelled)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """
        Flush the file to its disk and close it; may be called again.

        A new file without any record is removed again.

        Raises:
            JournalError: If records may not be on the disk, or are not where
                they were.
        """
        with self._lock:
            file, self._file = self._file, None
            self._is_ready = False
            if file is None:
                return
            try:
                file.close()
            except JournalError as error:
                if file.unwritten:
                    self._take_back(file.unwritten)
                    raise JournalError(
                        f"{error}: {self.describe_unrecorded()}"
                    ) from error.__cause__
                self._is_damaged = file.is_damaged
                if file.unsynced:
                    raise JournalError(
                        f"{error}: {_lines_of(file.unsynced)} may not be on "
                        f"the disk"
                    ) from error
                raise

    def _take_back(self, count: int) -> None:
        # They were counted as they were queued for a pipe.
        for _ in range(count):
            outcome, line = self._queued.pop()
            if isinstance(outcome, Created):
                self.created -= 1
            else:
                self.failed -= 1
            self.add_unrecorded(outcome, line)

    @property
    def pending(self) -> int:
        """The number of records that wait for the reader of a pipe."""
        return 0 if self._file is None else self._file.pending

    async def drain(self) -> None:
        """
        Wait until a pipe has taken all records; a file has them at once.

        Raises:
            JournalError: If a record cannot be written.
        """
        await self._opened.drain()

    @asynccontextmanager
    async def opened_for(
        self, api: str, *, concurrency: int = 1
    ) -> AsyncIterator[None]:
        """
        Open the journal for one batch, without blocking the event loop.

        Args:
            api: The client's name of the API.
            concurrency: The most requests in flight, whose records need room.

        Raises:
            JournalError: If the file cannot be opened, or has no room.
            JournalMismatchError: If it is no journal, or of another API.
            RuntimeError: If another batch uses it.
        """
        if self._is_in_use:
            raise RuntimeError(
                f"another batch uses the journal {self.path}: give each its "
                f"own"
            )
        self._is_in_use = True
        is_ours = self._file is None
        cancelled = threading.Event()
        try:
            await run_in_thread(
                self._prepare,
                self.given_api or api,
                concurrency * _ROOM,
                cancelled,
                on_cancel=cancelled.set,
            )
            yield
        finally:
            try:
                await finish_writing(self.close if is_ours else self._sync)
            finally:
                self._is_in_use = False

    def begin(
        self,
        index: int,
        request: SessionRequest,
        *,
        link_id: str | None = None,
    ) -> bool:
        """
        Begin an input, and tell whether its session is still to be created.

        Args:
            index: The index of the input, from 0.
            request: The request, the client's settings included.
            link_id: The customer, if not the one of *request*.

        Raises:
            InvalidRequestError: If an earlier input has the same link id.
            JournalError: If its outcome could not be recorded.
            JournalMismatchError: If another request created its session.
        """
        self.check()
        line = self._line(index)
        # Bare link ids share a request.
        if request is not self._digested:
            self._digested, self._digest = request, request_digest(request)
        digest = self._digest
        link_id = link_id or request.link_id
        before = self._known.exchange(link_id, line % _IS_CREATED)
        if before is None or before < _IS_CREATED:
            self._begun[index] = line, digest
            if before is not None:
                self._known.exchange(link_id, before)
                raise duplicate_error(before)
            return True
        if before == _created_number(digest):
            self.skipped += 1
        elif self._keeps_created:
            self.skipped += 1
            self.kept += 1
        else:
            raise JournalMismatchError(
                f"{self._opened.name}: holds a session for the link id of "
                f"line {line} that was created by another request (its "
                f"parameters or the redirect URL were changed since): "
                f"{_START_OVER}, or {_KEEP}"
            )
        return False

    def record(self, outcome: Outcome, *, line: int | None = None) -> None:
        """
        Write the outcome of an input; from then on it survives this process.

        Where an event loop is running, a record for a pipe or a device is
        queued, as its reader may be slow: `drain` waits for it.

        Args:
            outcome: The outcome.
            line: The line of the input, if not the one that `begin` had.

        Raises:
            JournalError: If it cannot be written; the file stays as it was.
        """
        at, request = self._begun.pop(outcome.index, (None, None))
        try:
            at = line or at or self._line(outcome.index)
            self._opened.append(self._encode(outcome, at, request))
        except (Exception, asyncio.CancelledError):
            self.add_unrecorded(outcome, at or outcome.index + 1)
            raise
        self._count(outcome)
        if not self.is_resumable:
            self._queued.append((outcome, at))
            while len(self._queued) > self.pending:
                self._queued.popleft()

    def record_all(self, outcomes: Sequence[Outcome]) -> None:
        """
        Write outcomes, in one step if possible.

        Otherwise each is written by itself, as it is where there is a
        `record` of the user's own.

        Args:
            outcomes: The outcomes.

        Raises:
            JournalError: If one of them cannot be written; it is unrecorded.
        """
        lines = self._encode_all(outcomes)
        if lines is not None:
            # Some may fit on a disk where all do not.
            with suppress(JournalError):
                self._opened.append(lines)
                for outcome in outcomes:
                    self._begun.pop(outcome.index, None)
                    self._count(outcome)
                return
        # A stack calls all of them, whatever one of them raises.
        with ExitStack() as stack:
            for outcome in reversed(outcomes):
                stack.callback(self.record, outcome)

    def _encode_all(self, outcomes: Sequence[Outcome]) -> bytes | None:
        is_ours = getattr(self.record, "__func__", None) is Journal.record
        if not (is_ours and self.is_resumable and outcomes[1:]):
            return None
        # Writing each by itself finds the one that is to blame.
        with suppress(Exception, asyncio.CancelledError):
            return b"".join(
                self._encode(outcome, *self._begun[outcome.index])
                for outcome in outcomes
            )
        return None

    def record_lines(self, lines: bytes, *, created: int, failed: int) -> None:
        """
        Write records that another process of the batch encoded, in one step.

        Args:
            lines: The records.
            created: The number of sessions in them.
            failed: The number of failures in them.

        Raises:
            JournalError: If they cannot be written; the file stays as it was.
        """
        self._opened.append(lines)
        self.created += created
        self.failed += failed

    def add_unrecorded(self, outcome: Outcome, line: int) -> None:
        """Keep an outcome that could not be written."""
        self.unrecorded_outcomes.append(outcome)
        self._unrecorded_lines.append(line)

    def check(self) -> None:
        """
        Check that records can be kept; does not block.

        Raises:
            JournalError: If something is wrong with the file.
        """
        self._opened.check()

    def _encode(self, outcome: Outcome, at: int, request: str | None) -> bytes:
        api = self._api
        if api is None:
            raise ConfigurationError(
                fields={"api": ("is needed for a journal without a batch",)}
            )
        if request is None and outcome.request is not None:
            request = request_digest(outcome.request)
        return encode_record(outcome, line=at, api=api, request=request)

    def _count(self, outcome: Outcome) -> None:
        if isinstance(outcome, Created):
            self.created += 1
        else:
            self.failed += 1

    def describe_unrecorded(self) -> str:
        """
        Name the outcomes that could not be written; empty if there are none.
        """
        if not self.unrecorded:
            return ""
        sent = sum(_may_exist(each) for each in self.unrecorded_outcomes)
        named = _named(sorted(self._unrecorded_lines))
        return (
            f"{named} could not be recorded, and {sent} of them "
            f"may have sessions"
        )

    def _line(self, index: int) -> int:
        try:
            line = self._line_of(index)
        except (Exception, asyncio.CancelledError) as exc:
            raise JournalError(
                f"{self.path}: line_of raised {type(exc).__name__} for the "
                f"input with index {index}"
            ) from exc
        if not isinstance(line, int):
            raise JournalError(
                f"{self.path}: line_of must return a whole number, and "
                f"returned a {type(line).__name__} for index {index}"
            )
        return line

    def release(self, index: int) -> int:
        """
        Let another journal record an input that was begun here.

        Args:
            index: The index of the input.

        Returns:
            The line of the input.
        """
        line, _ = self._begun.pop(index)
        return line

    @asynccontextmanager
    async def merge(self, path: _Path) -> AsyncIterator[Counter[str]]:
        """
        Merge the records of another journal, the last one of each link id.

        In the block they are on the disk, and the other journal, which is
        still locked, may be removed.

        Args:
            path: The path of the other journal, which does not change.

        Yields:
            The number of records: created ones under an empty name, failed
            ones under the name of their error.

        Raises:
            JournalError: If it cannot be opened, or written here.
            JournalMismatchError: If it is no journal, or of another API.
        """
        opened: list[AppendFile] = []
        try:
            records = await run_in_thread(
                _read_other, os.fspath(path), self._api, opened
            )
            found = self._merge(records)
            await run_in_thread(self._sync)
            yield found
        finally:
            for file in opened:
                await finish_in_thread(file.close_unchanged)

    def _merge(
        self, records: list[tuple[bytes, dict[str, Any]]]
    ) -> Counter[str]:
        last: dict[str | None, tuple[str, bytes]] = {}
        for raw, record in records:
            link_id = record["link_id"]
            name = record["error"]["type"] if "error" in record else ""
            if last.get(link_id, ("-", b""))[0]:
                last[link_id] = name, raw
            if not name:
                before = self._known.exchange(
                    link_id, _created_number(record["request"])
                )
                if before is not None and before >= _IS_CREATED:
                    del last[link_id]
                elif before is not None:
                    # A second input with this link id is still refused.
                    self._known.exchange(link_id, before)
        if last:
            self._opened.append(b"".join(raw for _, raw in last.values()))
        found = Counter(name for name, _ in last.values())
        self.created += found[""]
        self.failed += found.total() - found[""]
        return found

    @property
    def _opened(self) -> AppendFile:
        if self._file is None and self._is_in_use:
            raise JournalError(
                f"{self.path}: was closed while a batch wrote to it"
            )
        if self._file is None:
            raise RuntimeError(
                f"the journal {self.path} is not open: use `with`, or give "
                f"it to create_sessions(..., journal=...)"
            )
        return self._file

    def _sync(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.sync()

    def _prepare(
        self, api: str, room: int, cancelled: threading.Event
    ) -> None:
        with self._lock:
            if self._file is None:
                self._open(cancelled)
            if not self._is_ready:
                self._read(api, cancelled)
            self._is_ready = False
            if not cancelled.is_set():
                self._opened.reserve(room)

    def _read(self, api: str, cancelled: threading.Event) -> None:
        file = self._opened
        self._reset()
        decode = functools.partial(_read_of, api)
        is_empty = True
        try:
            for record in recover(file, decode, cancelled):
                self._remember(record)
                is_empty = False
        except ValueError as exc:
            is_other = isinstance(exc.__cause__, _OtherApiError)
            # Starting over would create all sessions before it again.
            advice = _START_OVER if is_empty or is_other else _REPAIR
            raise JournalMismatchError(
                f"{file.name}: {exc}: {advice}"
            ) from None
        if not cancelled.is_set():
            self._api = api
            self._is_ready = True

    def _remember(self, record: dict[str, Any]) -> None:
        if "error" not in record:
            number = _created_number(record["request"])
            if self._known.exchange(record["link_id"], number) is None:
                self.created += 1


class _OtherApiError(ValueError):
    """
    A record of another API.
    """


def _read_other(
    path: str, api: str | None, opened: list[AppendFile]
) -> list[tuple[bytes, dict[str, Any]]]:
    file = AppendFile.open(path)
    # It stays locked until the caller closes it.
    opened.append(file)
    lines = file.lines(is_record_start)
    try:
        return [
            (raw.removesuffix(b"\n") + b"\n", record)
            for raw, record in read_lines(
                lines, functools.partial(_read_of, api)
            )
            if record is not None
        ]
    except ValueError as exc:
        raise JournalMismatchError(
            f"{file.name}: {exc}: move it elsewhere"
        ) from None


def read_journal(*paths: _Path) -> Iterator[Record]:
    """
    Read the records of one or more journals.

    A link id may have failed records from earlier runs beside its created
    one. A journal that is being written may be read; a torn last line is left
    out.

    Args:
        *paths: The paths of the journals.

    Raises:
        JournalError: If a journal cannot be read; it names the line.
    """
    for path in paths:
        yield from read_journal_with(decode_record, os.fspath(path))


def read_journal_with(decode: Callable[[bytes], T], path: str) -> Iterator[T]:
    """
    Read a journal with a decoder of one's own.

    Args:
        decode: A function that decodes a line, or raises a `ValueError`.
        path: The path of the journal.

    Raises:
        JournalError: If the journal cannot be read; it names the line.
    """
    try:
        with Path(path).open("rb") as file:
            for _, record in read_lines(file, decode):
                if record is not None:
                    yield record
    except ValueError as exc:
        raise JournalError(f"{path}: {exc}: correct or remove it") from None
    except OSError as exc:
        raise JournalError(f"{path}: cannot be read: {exc.strerror}") from exc


def _read_of(api: str | None, raw: bytes) -> dict[str, Any]:
    record = read_object(raw)
    if record["api"] != api:
        raise _OtherApiError(f"is of {record['api']}, and this is {api}")
    return record


def _count_from_1(index: int) -> int:
    return index + 1


def _created_number(digest: str) -> int:
    return int(digest[:8], 16) | _IS_CREATED


def _lines_of(records: list[bytes]) -> str:
    return _named([read_object(raw)["line"] for raw in records])


def _named(lines: list[int]) -> str:
    first = ", ".join(map(str, lines[:_NAMED]))
    more = len(lines) - _NAMED
    return (
        f"{len(lines)} outcomes (line {first}"
        + (f" and {more} more" if more > 0 else "")
        + ")"
    )


def _may_exist(outcome: Outcome) -> bool:
    return isinstance(outcome, Created) or outcome.error.delivery in UNCERTAIN
