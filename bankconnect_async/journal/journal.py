"""
Results that survive: what became of each input, and what is left to do.
"""

import asyncio
import os
import threading
import warnings

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from bankconnect_async._threads import finish_in_thread, run_in_thread
from bankconnect_async.batch.outcomes import Created, Outcome
from bankconnect_async.errors import (
    ConfigurationError,
    Delivery,
    InvalidRequestError,
    JournalError,
    JournalMismatchError,
)
from bankconnect_async.models.sessions import SessionRequest

from .append_file import AppendFile
from .compact_map import CompactMap
from .records import (
    CreatedRecord,
    FailedRecord,
    Record,
    begins_like_one,
    decode_record,
    encode_record,
    is_blank,
    is_torn,
    read_object,
    request_digest,
)


__all__ = [
    "CreatedRecord",
    "FailedRecord",
    "Journal",
    "Record",
    "read_journal",
]

_Path: TypeAlias = str | os.PathLike[str]

# A number with this bit belongs to a created session, and is half of the
# fingerprint of its request. Without it, it is the line of an input.
_IS_CREATED: Final = 2**31
_START_OVER: Final = "use another path, or fresh=True to start over"
_MEND: Final = (
    "the lines before it are records: mend or remove that line, or use "
    "another path"
)
# A usual record has less than half of that.
_ROOM: Final = 1024
# How many lines a message names.
_NAMED: Final = 1000
_UNCERTAIN: Final = Delivery.AMBIGUOUS, Delivery.CREATED_UNREADABLE


class Journal:
    """
    A file of JSON lines with the outcome of every input of a batch.

    ::

        journal = Journal("sessions.jsonl")
        async with bank.create_sessions(rows, journal=journal) as outcomes:
            async for outcome in outcomes:
                ...

    Each record is written before its worker takes the next input, and is on
    the disk a tenth of a second later, or when the event loop gets round to
    it, and at the end of a batch. So a killed process leaves at most as
    many requests unrecorded as were in flight. Doing the same again goes on:
    inputs that have a session are passed over, failed ones are tried again.

    The file is for one writer at a time, and readable by its owner only. Its
    records name the API and a digest of their request; for another API, or
    for other requests of the same link ids, it is refused. In memory it
    takes some 16 bytes for each input.

    A batch sends nothing if there is no room for the records of all requests
    in flight. Each time the file is synced, it is looked at: where another
    program deleted, moved or changed it, the batch stops, and closing the
    journal raises an error that says where the records are. What was deleted
    is saved beside it, under a name with ``.saved-``.

    It is a context manager for use without a batch; a batch opens and closes
    it by itself.

    Args:
        path: Of the file. A pipe or a device is written to and never gone
            on with; so is ``-``, which is stdout.
        api: Name of the API in records, instead of the client's host and
            version: for a sandbox, whose port is another each time.
        fresh: Put aside what *path* has, under a name with ``.old-``, and
            start over.
        line_of: Where in your input an index stands; by default it is
            counted from 1. It is asked once for each index.

    Attributes:
        path: Of the file, or ``-``.
        given_api: Name of the API in records, if it was given.
        created: Sessions that the file holds.
        failed: Records of failures that were added since it was opened.
        skipped: Inputs that were passed over, because the file holds their
            session.
        unrecorded: How many outcomes could not be written.
        unrecorded_outcomes: Those outcomes, with their sessions; keep them
            elsewhere.
        backup: Where *fresh* has put the file that was there before.
        is_stdout: Whether it is stdout, where nothing else may be printed.
        is_resumable: Whether it can be gone on with, as a pipe cannot.
        is_damaged: Whether another program deleted, moved or changed the
            file while it was open.
        is_locked: Whether a second writer is kept away. Some file systems of
            networks have no locks, nor has Windows: there, see to it
            yourself that there is one writer.
    """

    def __init__(
        self,
        path: _Path,
        *,
        api: str | None = None,
        fresh: bool = False,
        line_of: Callable[[int], int] | None = None,
    ) -> None:
        self.path: Final = os.fspath(path)
        self.given_api: Final = api
        self._api = api
        self._is_fresh = fresh
        self._line_of = line_of or _count_from_1
        self._file: AppendFile | None = None
        # Held while a thread opens, reads, syncs or closes the file.
        self._lock = threading.RLock()
        self._is_in_use = self._is_damaged = False
        # Whether the file was read, and no batch has used that yet.
        self._is_ready = False
        self.created = self.failed = self.skipped = 0
        self.unrecorded_outcomes: list[Outcome] = []
        self._unrecorded_lines: list[int] = []
        # What a pipe may not have taken yet.
        self._queued: deque[tuple[Outcome, int]] = deque()
        self.backup: str | None = None
        self.is_stdout = self.is_resumable = self.is_locked = False
        self._known = CompactMap()
        self._begun: dict[int, tuple[int, str]] = {}
        self._printed: SessionRequest | None = None
        self._print = ""

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
    def unrecorded(self) -> int:
        """How many outcomes could not be written."""
        return len(self.unrecorded_outcomes)

    @property
    def is_damaged(self) -> bool:
        """Whether another program deleted, moved or changed the open file."""
        return self._is_damaged

    def open(self) -> None:
        """
        Open, lock and read the file; blocks, some seconds for a million.

        Raises:
            JournalError: If it cannot be had.
            JournalMismatchError: If it is none, or not for this API.
        """
        self._open(threading.Event())

    def _open(self, cancelled: threading.Event) -> None:
        with self._lock:
            if self._file is not None:
                raise RuntimeError(f"the journal {self.path} is open already")
            self._file = file = AppendFile.open(
                self.path, fresh=self._is_fresh, cancelled=cancelled
            )
            # What this one writes is not put aside by opening it again.
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
        Bring everything to the disk; calling it again does nothing.

        A new file without any record is removed again.

        Raises:
            JournalError: If something may not be on the disk, or is not
                where it was.
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
        # They were counted when they were queued for a pipe.
        for _ in range(count):
            outcome, line = self._queued.pop()
            if isinstance(outcome, Created):
                self.created -= 1
            else:
                self.failed -= 1
            self.unrecorded_outcomes.append(outcome)
            self._unrecorded_lines.append(line)

    @property
    def pending(self) -> int:
        """How many records wait for the reader of a pipe."""
        return 0 if self._file is None else self._file.pending

    async def drain(self) -> None:
        """
        Wait until a pipe has taken all records; a file has done so at once.

        Raises:
            JournalError: If one cannot be written.
        """
        await self._opened.drain()

    @asynccontextmanager
    async def opened_for(
        self, api: str, *, concurrency: int = 1
    ) -> AsyncIterator[None]:
        """
        Be open for one batch, off the event loop where it may take long.

        Args:
            api: What the client's API is called.
            concurrency: Requests in flight at most, whose records must find
                room.

        Raises:
            JournalError: If it cannot be had, or has no room.
            JournalMismatchError: If it is none, or not for this API.
            RuntimeError: If it serves another batch.
        """
        if self._is_in_use:
            raise RuntimeError(
                f"the journal {self.path} serves another batch: give each "
                f"its own"
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
                await self._finish(self.close if is_ours else self._sync)
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
        Take an input on, and tell whether its session is still to be made.

        Args:
            index: Of the input, from 0.
            request: What it asks for, the client's settings included.
            link_id: For whom, if not for the one that *request* names.

        Raises:
            InvalidRequestError: If its link id was claimed before.
            JournalError: If its outcome could not be recorded.
            JournalMismatchError: If another request made a session for it.
        """
        self._opened.check()
        line = self._line(index)
        # Bare link ids share a request.
        if request is not self._printed:
            self._printed, self._print = request, request_digest(request)
        request_print = self._print
        link_id = link_id or request.link_id
        before = self._known.exchange(link_id, line % _IS_CREATED)
        if before is None or before < _IS_CREATED:
            self._begun[index] = line, request_print
            if before is not None:
                self._known.exchange(link_id, before)
                raise InvalidRequestError(
                    fields={
                        "link_id": (
                            f"was given before, on line {before}; remove one",
                        )
                    }
                )
            return True
        if before != _created_number(request_print):
            raise JournalMismatchError(
                f"{self._opened.name}: holds a session for the link id of "
                f"line {line} that was made by another request (its "
                f"parameters or the redirect URL were changed since): "
                f"{_START_OVER}"
            )
        self.skipped += 1
        return False

    def record(self, outcome: Outcome, *, line: int | None = None) -> None:
        """
        Write what became of an input; it survives this process from then on.

        Where an event loop is running, a record for a pipe or a device is
        queued, as its reader may be slow: `drain` waits for it.

        Args:
            outcome: What a batch reports.
            line: Where the input stood, if not where `begin` was told.

        Raises:
            JournalError: If it could not be written; the file is as before.
        """
        at, request = self._begun.pop(outcome.index, (None, None))
        try:
            at = line or at or self._line(outcome.index)
            self._append(outcome, at, request)
        except (Exception, asyncio.CancelledError):
            self.unrecorded_outcomes.append(outcome)
            self._unrecorded_lines.append(at or outcome.index + 1)
            raise
        if isinstance(outcome, Created):
            self.created += 1
        else:
            self.failed += 1
        if not self.is_resumable:
            self._queued.append((outcome, at))
            while len(self._queued) > self.pending:
                self._queued.popleft()

    def _append(self, outcome: Outcome, at: int, request: str | None) -> None:
        file, api = self._opened, self._api
        if api is None:
            raise ConfigurationError(
                fields={"api": ("is needed for a journal without a batch",)}
            )
        if request is None and outcome.request is not None:
            request = request_digest(outcome.request)
        file.append(encode_record(outcome, line=at, api=api, request=request))

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
        Leave it to another journal to record a claimed input.

        Args:
            index: Of the input.

        Returns:
            Where it stands in your input.
        """
        line, _ = self._begun.pop(index)
        return line

    @asynccontextmanager
    async def merge(self, path: _Path) -> AsyncIterator[Counter[str]]:
        """
        Take the records of another journal over, the last of each link id.

        Inside, they are on the disk, and the other one may be removed: it
        stays locked meanwhile.

        Args:
            path: Of the other journal; it is left as it is.

        Yields:
            How many were taken over: created ones under an empty name,
            failed ones under that of their error.

        Raises:
            JournalError: If it cannot be had, or written here.
            JournalMismatchError: If it is none, or not for this API.
        """
        other = _OtherJournal(os.fspath(path), self._api)
        try:
            await run_in_thread(other.read)
            found = self._merge(other)
            await run_in_thread(self._sync)
            yield found
        finally:
            await finish_in_thread(other.close)

    def _merge(self, other: "_OtherJournal") -> Counter[str]:
        last: dict[str | None, tuple[str, bytes]] = {}
        for record, raw in other.records:
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
                    # A second input of that link id is still one too many.
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

    async def _finish(self, work: Callable[[], None]) -> None:
        # An error tells of records that are lost: a cancel must not hide it.
        errors = []

        def finish() -> None:
            try:
                work()
            except JournalError as error:
                errors.append(error)

        try:
            await finish_in_thread(finish)
        finally:
            for error in errors:
                raise error

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
        self.created = self.failed = self.skipped = 0
        self.unrecorded_outcomes = []
        self._unrecorded_lines = []
        self._queued = deque()
        self._known = CompactMap()
        self._begun = {}
        end, missing, count = 0, b"", 0
        for number, raw in enumerate(file.lines(begins_like_one), 1):
            if cancelled.is_set():
                # Nobody waits for it: the file stays as it is.
                return
            is_whole = raw.endswith(b"\n")
            try:
                is_record = self._take(raw, api)
            except ValueError as exc:
                if not is_whole and is_torn(raw):
                    break
                advice = _START_OVER
                if count and not isinstance(exc, _OtherApiError):
                    # Starting over would make all those sessions again.
                    advice = _MEND
                raise JournalMismatchError(
                    f"{file.name}: line {number} {exc}: {advice}"
                ) from None
            end += len(raw)
            count += is_record
            missing = b"" if is_whole else b"\n"
        file.repair(end=end, missing=missing, count=count)
        self._api = api
        self._is_ready = True

    def _take(self, raw: bytes, api: str) -> bool:
        if is_blank(raw):
            return False
        record = _read_object_of(api, raw)
        if "error" not in record:
            number = _created_number(record["request"])
            if self._known.exchange(record["link_id"], number) is None:
                self.created += 1
        return True


class _OtherApiError(ValueError):
    """
    A record of another API.
    """


class _OtherJournal:
    """
    A journal whose records are taken over; its methods block.

    Attributes:
        records: What it holds, with its lines.
    """

    def __init__(self, path: str, api: str | None) -> None:
        self._path = path
        self._api = api
        self._file: AppendFile | None = None
        self.records: list[tuple[dict[str, Any], bytes]] = []

    def read(self) -> None:
        """
        Open, lock and read it.

        Raises:
            JournalError: If it cannot be had.
            JournalMismatchError: If it is none, or not for this API.
        """
        self._file = file = AppendFile.open(self._path)
        for number, raw in enumerate(file.lines(begins_like_one), 1):
            if is_blank(raw):
                continue
            try:
                record = _read_object_of(self._api, raw)
            except ValueError as exc:
                if not raw.endswith(b"\n") and is_torn(raw):
                    break
                raise JournalMismatchError(
                    f"{file.name}: line {number} {exc}: move it elsewhere"
                ) from None
            line = raw.removesuffix(b"\n") + b"\n"
            self.records.append((record, line))

    def close(self) -> None:
        """Close it, if it was opened."""
        if self._file is not None:
            self._file.close_unchanged()


def read_journal(*paths: _Path) -> Iterator[Record]:
    """
    Read the records of one journal, or of several one after the other.

    A link id may have failed records from earlier runs beside its created
    one. A journal that is being written may be read; its torn last line, if
    there is one, is left out.

    Args:
        paths: Of the files.

    Raises:
        JournalError: If one cannot be read, naming the line.
    """
    for path in paths:
        yield from _read_one(os.fspath(path))


def _read_one(path: str) -> Iterator[Record]:
    try:
        with Path(path).open("rb") as file:
            for number, raw in enumerate(file, 1):
                try:
                    if not is_blank(raw):
                        yield decode_record(raw)
                except ValueError as exc:
                    if not raw.endswith(b"\n") and is_torn(raw):
                        return
                    raise JournalError(
                        f"{path}: line {number} {exc}: mend or remove it"
                    ) from None
    except OSError as exc:
        raise JournalError(f"{path}: cannot be read: {exc.strerror}") from exc


def _read_object_of(api: str | None, raw: bytes) -> dict[str, Any]:
    record = read_object(raw)
    if record["api"] != api:
        raise _OtherApiError(f"is of {record['api']}, and this is {api}")
    return record


def _count_from_1(index: int) -> int:
    return index + 1


def _created_number(request_print: str) -> int:
    return int(request_print[:8], 16) | _IS_CREATED


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
    return isinstance(outcome, Created) or outcome.error.delivery in _UNCERTAIN
