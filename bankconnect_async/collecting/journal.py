"""
A journal of a collection: which kinds of data are stored already.
"""

import functools
import os
import threading
import time

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson

from bankconnect_async._compact_map import CompactMap
from bankconnect_async._printable import printable_json
from bankconnect_async._threads import run_in_thread
from bankconnect_async.errors import (
    ConfigurationError,
    JournalMismatchError,
)
from bankconnect_async.journal.append_file import AppendFile
from bankconnect_async.journal.records import (
    describe_error,
    format_time,
    printable,
)
from bankconnect_async.journal.recovery import finish_writing, recover

from .outcomes import Collected, CollectOutcome
from .owners import Owner


_ADVICE: Final = "use another journal"
# Only what is collected is known, so any number does.
_COLLECTED: Final = 1


class CollectionJournal:
    """
    A file of JSON lines with the outcome of every kind of data.

    ::

        journal = CollectionJournal("collected.jsonl")
        async with bank.collect(ids, journal=journal) as outcomes:
            async for outcome in outcomes:
                ...

    An outcome is recorded when the loop asks for the next one: then the
    caller has stored it. So what a killed process has not stored is collected
    again, and what it has stored, at most once more. Running the same
    collection again skips what is recorded as collected.

    The file is for one writer at a time, and readable by its owner only. It
    is refused for another API. In memory it takes some 16 bytes for each
    record.

    Args:
        path: The path of the file.
        api: The name of the API in records, instead of the client's; for a
            sandbox, whose port differs each time.
        format: The format in which outcomes are stored: what is recorded
            with another one is collected again.

    Attributes:
        path: The path of the file.
        collected: The number of outcomes recorded as collected since it was
            opened.
        failed: The number of failures recorded since then.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        api: str | None = None,
        format: str = "",  # noqa: A002 - the word of the command line
    ) -> None:
        self.path: Final = os.fspath(path)
        self.collected: int = 0
        self.failed: int = 0
        self._given_api: Final = api
        self._api = api
        self._format = format
        self._file: AppendFile | None = None
        self._known = CompactMap()

    @asynccontextmanager
    async def opened_for(self, api: str) -> AsyncIterator[None]:
        """
        Stay open for one collection, without blocking the event loop.

        Args:
            api: The client's name of the API.

        Raises:
            JournalError: If the file cannot be opened or written.
            JournalMismatchError: If it is no such journal, or of another API.
        """
        if self._file is not None:
            raise RuntimeError(f"the journal {self.path} is in use")
        cancelled = threading.Event()
        opened: list[AppendFile] = []
        try:
            self._api = self._given_api or api
            await run_in_thread(
                self._open, opened, cancelled, on_cancel=cancelled.set
            )
            self._file = opened[0]
            yield
        finally:
            self._file = None
            for file in opened:
                await finish_writing(file.close)

    def _open(
        self, opened: list[AppendFile], cancelled: threading.Event
    ) -> None:
        file = AppendFile.open(self.path, cancelled=cancelled)
        opened.append(file)
        if file.is_stream:
            raise ConfigurationError(
                fields={"journal": ("must be a file, to resume from it",)}
            )
        self.collected = self.failed = 0
        self._known = CompactMap()
        decode = functools.partial(_read_of, self._api)
        try:
            for record in recover(file, decode, cancelled):
                self._remember(record)
        except ValueError as exc:
            raise JournalMismatchError(
                f"{file.name}: {exc}: {_ADVICE}"
            ) from None

    def _remember(self, record: dict[str, Any]) -> None:
        if "error" not in record:
            key = _key(
                record["flow"], record["id"], record["kind"], record["format"]
            )
            self._known.exchange(key, _COLLECTED)

    def is_collected(self, owner: Owner, kind: str) -> bool:
        """Tell whether a kind of data is recorded as collected."""
        key = _key(owner.flow, printable(owner.id), kind, self._format)
        return self._known.get(key) is not None

    def record(self, outcome: CollectOutcome) -> None:
        """
        Write the outcome of a kind of data.

        Raises:
            JournalError: If it cannot be written, or another program deleted,
                moved or changed the file.
        """
        if self._file is None:
            raise RuntimeError(
                f"the journal {self.path} is not open: give it to "
                f"collect(..., journal=...)"
            )
        self._file.check()
        record: dict[str, Any] = {
            # Records of all journals begin with it.
            "link_id": _text(outcome.link_id),
            "flow": outcome.flow,
            "id": _text(outcome.id),
            "kind": outcome.kind,
        }
        if isinstance(outcome, Collected):
            record["files"] = [
                {
                    "path": None if each.path is None else str(each.path),
                    "size": each.size,
                }
                for each in outcome.files
            ]
            record["warning"] = outcome.warning
        else:
            record |= describe_error(outcome.error)
        record |= {
            "format": self._format,
            "api": self._api,
            "at": format_time(int(time.time())),
        }
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        self._file.append(printable_json(line))
        if isinstance(outcome, Collected):
            self.collected += 1
            self._remember(record)
        else:
            self.failed += 1


def _key(flow: str, id_: str, kind: str, format_: str) -> str:
    return orjson.dumps([flow, id_, kind, format_]).decode()


def _text(text: str | None) -> str | None:
    return None if text is None else printable(text)


def _read_of(api: str | None, raw: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        found = None
    match found:
        case {
            "id": str(),
            "flow": str(),
            "kind": str(),
            "format": str(),
            "api": str(),
            **rest,
        } | {"error": dict(), "api": str(), **rest} if "link_id" in rest:
            record: dict[str, Any] = found
        case _:
            raise ValueError("is no record of a collection")
    if record["api"] != api:
        raise ValueError(f"is of {record['api']}, and this is {api}")
    return record
