"""
Results that survive: what became of each input, and what is left to do.
"""

import asyncio
import os
import warnings

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from ._digests import DigestTable
from ._record_file import RecordFile
from ._records import (
    CreatedRecord,
    FailedRecord,
    Record,
    decode_record,
    encode_record,
    fingerprint,
    is_torn,
    read_object,
)
from .batch import Created, Outcome
from .errors import (
    ConfigurationError,
    InvalidRequestError,
    JournalError,
    JournalMismatchError,
)
from .schema import SessionRequest


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
        unrecorded: Outcomes that could not be written.
        kept_as: Where *fresh* has put the file that was there before.
        is_stdout: Whether it is stdout, where nothing else may be printed.
        is_resumable: Whether it can be gone on with, as a pipe cannot.
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
        self._file: RecordFile | None = None
        # Whether the file was read, and no batch has used that yet.
        self._is_ready = False
        self.created = self.failed = self.skipped = self.unrecorded = 0
        self.kept_as: str | None = None
        self.is_stdout = self.is_resumable = self.is_locked = False
        self._known = DigestTable()
        self._claims: dict[int, tuple[int, str]] = {}
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

    def open(self) -> None:
        """
        Open, lock and read the file; blocks, some seconds for a million.

        Raises:
            JournalError: If it cannot be had.
            JournalMismatchError: If it is none, or not for this API.
        """
        if self._file is not None:
            raise RuntimeError(f"the journal {self.path} is open already")
        self._file = file = RecordFile.open(self.path, fresh=self._is_fresh)
        # What this one writes is not put aside by opening it again.
        self._is_fresh = False
        self.kept_as = file.kept_as
        self.is_stdout = file.is_stdout
        self.is_resumable = not file.is_stream
        self.is_locked = file.is_locked
        try:
            if self.given_api is not None:
                self._read(self.given_api)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """
        Bring everything to the disk; calling it again does nothing.

        A new file without any record is removed again.

        Raises:
            JournalError: If something may not be on the disk.
        """
        file, self._file = self._file, None
        self._is_ready = False
        if file is not None:
            file.close()

    @asynccontextmanager
    async def serving(self, api: str) -> AsyncIterator[None]:
        """
        Be open for one batch, off the event loop where it may take long.

        Args:
            api: What the client's API is called.

        Raises:
            JournalError: If it cannot be had.
            JournalMismatchError: If it is none, or not for this API.
        """
        is_ours = self._file is None
        try:
            await asyncio.to_thread(self._prepare, self.given_api or api)
            yield
        finally:
            last = self.close if is_ours else self._opened.sync
            await asyncio.to_thread(last)

    def claim(
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
            JournalMismatchError: If another request made a session for it.
        """
        line = self._line(index)
        # Bare link ids share a request.
        if request is not self._printed:
            self._printed, self._print = request, fingerprint(request)
        request_print = self._print
        link_id = link_id or request.link_id
        before = self._known.swap(link_id, line % _IS_CREATED)
        if before is None or before < _IS_CREATED:
            self._claims[index] = line, request_print
            if before is not None:
                self._known.swap(link_id, before)
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

        Args:
            outcome: What a batch reports.
            line: Where the input stood, if not where `claim` was told.

        Raises:
            JournalError: If it could not be written; the file is as before.
        """
        file, api = self._opened, self._api
        if api is None:
            raise ConfigurationError(
                fields={"api": ("is needed for a journal without a batch",)}
            )
        at, request = self._claims.pop(outcome.index, (line, None))
        if request is None and outcome.request is not None:
            request = fingerprint(outcome.request)
        at = line or at or self._line(outcome.index)
        raw = encode_record(outcome, line=at, api=api, request=request)
        try:
            file.append(raw)
        except JournalError:
            self.unrecorded += 1
            raise
        if isinstance(outcome, Created):
            self.created += 1
        else:
            self.failed += 1

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

    def hand_over(self, index: int) -> int:
        """
        Leave it to another journal to record a claimed input.

        Args:
            index: Of the input.

        Returns:
            Where it stands in your input.
        """
        line, _ = self._claims.pop(index)
        return line

    @asynccontextmanager
    async def absorbing(self, path: _Path) -> AsyncIterator[Counter[str]]:
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
        with closing(RecordFile.open(os.fspath(path))) as other:
            found = self._absorb(other)
            await asyncio.to_thread(self._opened.sync)
            yield found

    def _absorb(self, other: RecordFile) -> Counter[str]:
        last: dict[str, tuple[str, bytes]] = {}
        for number, raw in enumerate(other.lines(), 1):
            try:
                record = _read_object_of(self._api, raw)
            except ValueError as exc:
                if not raw.endswith(b"\n") and is_torn(raw):
                    break
                raise JournalMismatchError(
                    f"{other.name}: line {number} {exc}: move it elsewhere"
                ) from None
            link_id = record["link_id"]
            name = record["error"]["type"] if "error" in record else ""
            if last.get(link_id, ("-", b""))[0]:
                last[link_id] = name, raw.removesuffix(b"\n") + b"\n"
            if not name:
                before = self._known.swap(
                    link_id, _created_number(record["request"])
                )
                if before is not None and before >= _IS_CREATED:
                    del last[link_id]
                elif before is not None:
                    # A second input of that link id is still one too many.
                    self._known.swap(link_id, before)
        if last:
            self._opened.append(b"".join(raw for _, raw in last.values()))
        found = Counter(name for name, _ in last.values())
        self.created += found[""]
        self.failed += found.total() - found[""]
        return found

    @property
    def _opened(self) -> RecordFile:
        if self._file is None:
            raise RuntimeError(
                f"the journal {self.path} is not open: use `with`, or give "
                f"it to create_sessions(..., journal=...)"
            )
        return self._file

    def _prepare(self, api: str) -> None:
        if self._file is None:
            self.open()
        if not self._is_ready:
            self._read(api)
        self._is_ready = False

    def _read(self, api: str) -> None:
        file = self._opened
        self.created = self.failed = self.skipped = self.unrecorded = 0
        self._known = DigestTable()
        self._claims = {}
        end, missing, number = 0, b"", 0
        for number, raw in enumerate(file.lines(), 1):
            is_whole = raw.endswith(b"\n")
            try:
                self._take(raw, api)
            except ValueError as exc:
                if not is_whole and is_torn(raw):
                    break
                raise JournalMismatchError(
                    f"{file.name}: line {number} {exc}: {_START_OVER}"
                ) from None
            end += len(raw)
            missing = b"" if is_whole else b"\n"
        file.heal(end=end, missing=missing)
        self._api = api
        self._is_ready = True

    def _take(self, raw: bytes, api: str) -> None:
        if not raw.strip():
            return
        record = _read_object_of(api, raw)
        if "error" not in record:
            number = _created_number(record["request"])
            if self._known.swap(record["link_id"], number) is None:
                self.created += 1


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
        with open(path, "rb") as file:  # noqa: PTH123
            for number, raw in enumerate(file, 1):
                try:
                    if raw.strip():
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
        raise ValueError(f"is of {record['api']}, and this is {api}")
    return record


def _count_from_1(index: int) -> int:
    return index + 1


def _created_number(request_print: str) -> int:
    return int(request_print[:8], 16) | _IS_CREATED
