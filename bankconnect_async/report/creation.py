"""
Reads journals: which record of a link id counts, and when it was written.
"""

import datetime
import math
import os

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from bankconnect_async._compact_map import CompactMap
from bankconnect_async._http.histogram import Histogram
from bankconnect_async.errors import UNCERTAIN, InvalidRequestError
from bankconnect_async.journal.journal import read_journal_with
from bankconnect_async.journal.records import (
    NO_RECORD,
    read_object,
    recorded_at,
)
from bankconnect_async.stats import Latency

from .figures import CreationReport, LatencyBucket, RatePoint
from .report import CampaignReport


_Path: TypeAlias = str | os.PathLike[str]

# The number of a link id with a session. That of an invalid row has its line
# in the lower bits; that of another failure is the number of its error.
_CREATED: Final = 0
_INVALID: Final = 2**31
_TAKEN: Final = 2**31 - 1
# A file of somebody else's may have any number of names.
_MAX_NAMES: Final = 1000
_OTHER: Final = ("other", False)
# The widths of slices of time in seconds, each a multiple of the one before.
_WIDTHS: Final = (1, 5, 15, 60, 300, 900, 3600, 10_800, 43_200, 86_400)
_MAX_SLICES: Final = 240
# Ends of ranges of latencies in seconds: six in each power of ten.
_BOUNDS: Final = tuple(
    digits * 10**exponent / 10_000
    for exponent in range(7)
    for digits in (10, 15, 20, 30, 50, 70)
)


class Row(NamedTuple):
    """
    A record as far as a report needs it.

    Attributes:
        link_id: Your id of the customer, if it is readable.
        line: The line of its input.
        error: The name of the error; empty for a session.
        is_uncertain: Whether there may be a session in spite of the error.
        is_repeated: Whether an earlier row has the same link id.
        is_invalid: Whether it made no request.
        at: When it was recorded, if that is known.
        record: The whole record.
    """

    link_id: str | None
    line: int
    error: str
    is_uncertain: bool
    is_repeated: bool
    is_invalid: bool
    at: datetime.datetime | None
    record: dict[str, Any]


def read_rows(path: _Path) -> Iterator[Row]:
    """
    Read the records of a journal, which may be written meanwhile.

    Raises:
        JournalError: If it cannot be read; it names the line.
    """
    return read_journal_with(_decode, os.fspath(path))


def _decode(raw: bytes) -> Row:
    record = read_object(raw)
    try:
        error = record.get("error")
        if error is None:
            name, is_uncertain, is_repeated = "", False, False
            is_invalid = False
        else:
            name = error["type"]
            is_invalid = record["request"] is None
            is_uncertain = error["delivery"] in UNCERTAIN
            # Only a valid request has a digest, so that its link id is wrong
            # beside that of another row only.
            is_repeated = (
                name == InvalidRequestError.__name__
                and not is_invalid
                and "link_id" in error["fields"]
            )
        line, seconds = record["line"], record.get("seconds")
        at = recorded_at(record)
    except (LookupError, TypeError, ValueError):
        raise ValueError(NO_RECORD) from None
    if not (
        isinstance(name, str)
        and isinstance(line, int)
        and 0 <= line < _INVALID
        and (
            seconds is None
            or (isinstance(seconds, float | int) and 0 <= seconds < math.inf)
        )
    ):
        raise ValueError(NO_RECORD)
    return Row(
        record["link_id"],
        line,
        name,
        is_uncertain,
        is_repeated,
        is_invalid,
        at,
        record,
    )


class RecordCounter:
    """
    Counts the records of journals in one pass.

    A session counts before any failure of its link id, and a later failure
    before an earlier one. It takes some 16 bytes for each link id.
    """

    def __init__(self) -> None:
        self._known = CompactMap()
        # The numbers of the errors of invalid rows, by their line.
        self._invalid: dict[int, int] = {}
        self._errors: dict[tuple[str, bool], int] = {}
        self._counts: Counter[int] = Counter()
        self._records = self._repeated = self._stale = 0
        self._apis: dict[str, None] = {}
        self._latency = Histogram()
        self._latencies = [0] * (len(_BOUNDS) + 1)
        self._timeline = _Timeline()

    def read(self, paths: Iterable[_Path]) -> None:
        """
        Count all records of journals.

        Raises:
            JournalError: If a journal cannot be read; it names the line.
        """
        for path in paths:
            for row in read_rows(path):
                self.add(row)

    def add(self, row: Row) -> bool:
        """
        Count a record.

        Returns:
            Whether it has the first session of its link id.
        """
        self._records += 1
        if len(self._apis) < _MAX_NAMES:
            self._apis[row.record["api"]] = None
        if row.at is not None:
            self._timeline.add(row.at, is_failed=bool(row.error))
        seconds = row.record.get("seconds")
        if seconds is not None:
            self._latency.add(seconds)
            self._latencies[bisect_left(_BOUNDS, seconds)] += 1
        if row.is_repeated:
            # No link id has a NUL.
            is_known = self._known.exchange(f"\0{row.line}", _TAKEN)
            self._repeated += is_known is None
            self._stale += is_known is not None
            return False
        return self._count(row)

    def _count(self, row: Row) -> bool:
        number = self._number(row) if row.error else _CREATED
        if row.link_id is not None:
            # The link id of an invalid row may be corrected, and its line
            # may change: either tells which row it is.
            kept = _INVALID | row.line if row.is_invalid else number
            before = self._known.exchange(row.link_id, kept)
            if before == _CREATED:
                self._known.exchange(row.link_id, before)
                self._stale += 1
                return False
            self._discard(before)
        self._discard(self._invalid.pop(row.line, None))
        if row.is_invalid:
            self._invalid[row.line] = number
        self._counts[number] += 1
        return number == _CREATED

    def _discard(self, number: int | None) -> None:
        if number is not None and number >= _INVALID:
            number = self._invalid.pop(number - _INVALID, None)
        if number is not None:
            self._counts[number] -= 1
            self._stale += 1

    def _number(self, row: Row) -> int:
        error = row.error, row.is_uncertain
        if error not in self._errors and len(self._errors) >= _MAX_NAMES:
            error = _OTHER
        return self._errors.setdefault(error, len(self._errors) + 1)

    def report(self) -> CreationReport:
        """Return the figures so far."""
        errors: Counter[str] = Counter()
        uncertain = 0
        for (name, is_uncertain), number in self._errors.items():
            count = self._counts[number]
            errors[name] += count
            uncertain += count * is_uncertain
        return CreationReport(
            apis=tuple(self._apis),
            records=self._records,
            created=self._counts[_CREATED],
            errors={name: n for name, n in errors.most_common() if n},
            uncertain=uncertain,
            repeated=self._repeated,
            stale=self._stale,
            latency=Latency(**self._latency.summary()),
            latencies=tuple(
                LatencyBucket(above=above, up_to=up_to, count=count)
                for above, up_to, count in zip(
                    (0.0, *_BOUNDS),
                    (*_BOUNDS, None),
                    self._latencies,
                    strict=True,
                )
                if count
            ),
            rate=tuple(self._timeline.points()),
            first_at=self._timeline.first,
            last_at=self._timeline.last,
        )

    def take_failed(self, link_id: str | None, line: int) -> bool:
        """
        Tell whether a row has failed, and no later record replaces that.

        It does so once for each row.

        Args:
            link_id: The link id of the row, if it is readable.
            line: The line of the row.
        """
        if link_id is not None:
            before = self._known.exchange(link_id, _TAKEN)
            if before == _CREATED:
                self._known.exchange(link_id, before)
            if before in {_CREATED, _TAKEN}:
                return False
            if before is not None and before < _INVALID:
                return True
            if before is not None:
                line = before - _INVALID
        return self._invalid.pop(line, None) is not None


class _Timeline:
    """
    Counts rows in slices of time, which grow wider as there are more.
    """

    def __init__(self) -> None:
        self.first: datetime.datetime | None = None
        self.last: datetime.datetime | None = None
        self._widths = iter(_WIDTHS)
        self._width = next(self._widths)
        # The counts of created and of failed rows.
        self._slices: dict[int, list[int]] = {}
        # The time and the counts of the row before.
        self._at: datetime.datetime | None = None
        self._counts = [0, 0]

    def add(self, at: datetime.datetime, *, is_failed: bool) -> None:
        """Count a row."""
        # Most rows have the time of the row before.
        if at is not self._at:
            self._move(at)
            self._at = at
        self._counts[is_failed] += 1

    def _move(self, at: datetime.datetime) -> None:
        if self.first is None or at < self.first:
            self.first = at
        if self.last is None or at > self.last:
            self.last = at
        place = int(at.timestamp()) // self._width
        if place not in self._slices:
            self._slices[place] = [0, 0]
            while len(self._slices) > _MAX_SLICES:
                self._widen()
            place = int(at.timestamp()) // self._width
        self._counts = self._slices[place]

    def _widen(self) -> None:
        width = next(self._widths, self._width * 2)
        slices: dict[int, list[int]] = {}
        for place, counts in self._slices.items():
            wider = slices.setdefault(place * self._width // width, [0, 0])
            wider[0] += counts[0]
            wider[1] += counts[1]
        self._slices, self._width = slices, width

    def points(self) -> Iterator[RatePoint]:
        """Yield the slices in order."""
        for place, (created, failed) in sorted(self._slices.items()):
            yield RatePoint(
                at=datetime.datetime.fromtimestamp(
                    place * self._width, datetime.UTC
                ),
                seconds=self._width,
                created=created,
                failed=failed,
            )


def report_journals(*paths: _Path) -> CampaignReport:
    """
    Report what the journals of a batch hold.

    They are read once, in constant memory but for 16 bytes for each link id.
    It blocks, some seconds for a million records.

    Args:
        *paths: The paths of the journals, such as those of shards.

    Raises:
        JournalError: If a journal cannot be read; it names the line.
    """
    counter = RecordCounter()
    counter.read(paths)
    return CampaignReport(creation=counter.report())
