"""
Encode outcomes as lines of a journal, and decode them.

A created session is ``{"link_id", "line", "redirect_url", "session_id",
"attempts", "api", "request", "at", "seconds"}``. A failure has ``"error":
{"type", "code", "message", "fields", "status", "delivery", "retry_after"}``
instead of the session. Records of earlier versions have no ``"at"`` and no
``"seconds"``.
"""

import datetime
import functools
import re
import time

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import orjson

from yarl import URL

from bankconnect_async._printable import printable_json
from bankconnect_async.batch.outcomes import Created, Outcome
from bankconnect_async.errors import BankConnectError, Delivery
from bankconnect_async.models.sessions import Session


T = TypeVar("T")

#: What a line is that no version wrote; the text follows "line N".
NO_RECORD: Final = "is no record of a session"
# A merge keeps times in 32 bits.
_END: Final = 2**32
# The start of every record, torn or not.
_START: Final = b'{"link_id":'
# Some editors put a byte order mark in front of a file.
_BOM: Final = b"\xef\xbb\xbf"
_DIGEST: Final = re.compile("[0-9a-f]{16}")


@attrs.frozen(kw_only=True)
class CreatedRecord:
    """
    A journal's record of a session.

    Attributes:
        line: The line of its input, from 1.
        session: The session.
        api: The host and version of the API that created it.
        request: The digest of the request.
        at: When it was recorded, to the second; `None` in records of earlier
            versions.
        seconds: The duration of the last attempt, if it was measured.
    """

    line: int
    session: Session
    api: str
    request: str
    at: datetime.datetime | None = None
    seconds: float | None = None

    @property
    def link_id(self) -> str:
        """Your id of the customer."""
        return self.session.link_id


@attrs.frozen(kw_only=True)
class FailedRecord:
    """
    A journal's record of an input without a session.

    Attributes:
        link_id: Your id of the customer, if there is one.
        line: The line of its input, from 1.
        attempts: The number of attempts.
        type: The name of the error.
        code: The vendor's error code, if there was one.
        message: The message of the error.
        fields: The problems of each parameter, by its name.
        status: The HTTP status, if there was a response.
        delivery: The delivery class; reconcile `AMBIGUOUS` and
            `CREATED_UNREADABLE` failures, which may have a session.
        retry_after: The seconds of the response's Retry-After.
        api: The host and version of the API.
        request: The digest of the request; `None` if it was invalid.
        at: When it was recorded, to the second; `None` in records of earlier
            versions.
    """

    link_id: str | None
    line: int
    attempts: int
    type: str
    code: str | None
    message: str
    fields: dict[str, tuple[str, ...]]
    status: int | None
    delivery: Delivery | None
    retry_after: float | None
    api: str
    request: str | None
    at: datetime.datetime | None = None


Record: TypeAlias = CreatedRecord | FailedRecord


def describe_session(session: Session) -> dict[str, Any]:
    """Describe a session; its URL opens the journey, so keep it safe."""
    return {
        "redirect_url": session.url,
        "session_id": session.session_id,
        "attempts": session.attempts,
    }


def describe_error(error: BankConnectError) -> dict[str, Any]:
    """Describe why there is no session."""
    fields = getattr(error, "fields", {})
    return {
        "attempts": len(error.attempts),
        "error": {
            "type": type(error).__name__,
            "code": getattr(error, "code", None),
            "message": printable(str(error)),
            "fields": {
                printable(name): list(map(printable, texts))
                for name, texts in fields.items()
            },
            "status": getattr(error, "status", None),
            "delivery": error.delivery,
            "retry_after": getattr(error, "retry_after", None),
        },
    }


def printable(text: str) -> str:
    """
    Replace what JSON cannot carry.

    Bytes of a command line that are no UTF-8 come as lone surrogates.
    """
    return text.encode("utf-8", "replace").decode()


def encode_record(
    outcome: Outcome, *, line: int, api: str, request: str | None
) -> bytes:
    """
    Encode an outcome as a line.

    Args:
        outcome: The outcome.
        line: The line of its input, from 1.
        api: The name of the API.
        request: The digest of the request.
    """
    at = format_time(int(time.time()))
    if isinstance(outcome, Created):
        session = outcome.session
        return _dumps(
            {
                "link_id": session.link_id,
                "line": line,
                "redirect_url": session.url,
                "session_id": session.session_id,
                "attempts": session.attempts,
                "api": api,
                "request": request,
                "at": at,
                "seconds": outcome.seconds,
            }
        )
    link_id = outcome.link_id
    return _dumps(
        {
            "link_id": None if link_id is None else printable(link_id),
            "line": line,
            **describe_error(outcome.error),
            "api": api,
            "request": request,
            "at": at,
        }
    )


# Formatting the time of each record would cost a microsecond.
@functools.lru_cache(maxsize=1)
def format_time(seconds: int) -> str:
    """
    Format a time, in seconds since the epoch, as records have it.
    """
    at = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _dumps(record: dict[str, Any]) -> bytes:
    return printable_json(
        orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    )


def read_object(raw: bytes) -> dict[str, Any]:
    """
    Decode the parts of a line that all records have.

    Raises:
        ValueError: If it is no record; its text follows "line N".
    """
    try:
        record = orjson.loads(raw.removeprefix(_BOM))
    except orjson.JSONDecodeError:
        raise ValueError(NO_RECORD) from None
    # Patterns of `match` would take as long as the decoding.
    if not isinstance(record, dict):
        record = {}
    link_id, error = record.get("link_id", ...), record.get("error", ...)
    is_failed = isinstance(error, dict)
    if not (
        (
            isinstance(link_id, str)
            and isinstance(record.get("redirect_url"), str)
        )
        or (is_failed and (link_id is None or isinstance(link_id, str)))
    ):
        raise ValueError(NO_RECORD)
    request = record.get("request", ...)
    if not isinstance(record.get("api"), str) or not (
        (isinstance(request, str) and _DIGEST.fullmatch(request))
        or (is_failed and request is None)
    ):
        raise ValueError(
            "does not tell its API and its request, as records of "
            "earlier versions do not"
        )
    return record


def decode_record(raw: bytes) -> Record:
    """
    Decode a line.

    Raises:
        ValueError: If it is no record; its text follows "line N".
    """
    record = read_object(raw)
    try:
        common = {
            "line": record["line"],
            "api": record["api"],
            "at": recorded_at(record),
        }
        if "error" not in record:
            session = Session(
                link_id=record["link_id"],
                redirect_url=URL(record["redirect_url"], encoded=True),
                session_id=record["session_id"],
                attempts=record["attempts"],
            )
            return CreatedRecord(
                session=session,
                request=record["request"],
                seconds=record.get("seconds"),
                **common,
            )
        error = record["error"]
        delivery = error["delivery"]
        return FailedRecord(
            link_id=record["link_id"],
            attempts=record["attempts"],
            type=error["type"],
            code=error["code"],
            message=error["message"],
            fields={
                name: tuple(all_) for name, all_ in error["fields"].items()
            },
            status=error["status"],
            delivery=None if delivery is None else Delivery(delivery),
            retry_after=error["retry_after"],
            request=record["request"],
            **common,
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        raise ValueError(NO_RECORD) from None


def recorded_at(record: dict[str, Any]) -> datetime.datetime | None:
    """
    Return when a record was written; earlier versions did not tell.

    Raises:
        ValueError: If that is no time.
    """
    at = record.get("at")
    try:
        return None if at is None else _parse_time(at)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(NO_RECORD) from None


# Many records share their second.
@functools.lru_cache(maxsize=64)
def _parse_time(text: str) -> datetime.datetime:
    at = datetime.datetime.fromisoformat(text)
    # Arithmetic fails at times close to the year 1 or 10000.
    if at.tzinfo is None or not 0 <= at.timestamp() < _END:
        raise ValueError
    return at.astimezone(datetime.UTC)


def read_lines(
    lines: Iterable[bytes], decode: Callable[[bytes], T]
) -> Iterator[tuple[bytes, T | None]]:
    """
    Decode lines up to a torn last one; a blank one gives `None`.

    Args:
        lines: The lines with their ends.
        decode: A function that decodes a line, or raises a `ValueError`.

    Raises:
        ValueError: If a line is no record; it names the line.
    """
    for number, raw in enumerate(lines, 1):
        try:
            record = decode(raw) if raw.removeprefix(_BOM).strip() else None
        except ValueError as exc:
            if not raw.endswith(b"\n") and _is_torn(raw):
                return
            raise ValueError(f"line {number} {exc}") from exc
        yield raw, record


def _is_torn(raw: bytes) -> bool:
    # After a power cut there may be zeros instead of the last bytes.
    begun = raw.removeprefix(_BOM).rstrip(b"\0")[: len(_START)]
    return _START.startswith(begun)


def is_record_start(raw: bytes) -> bool:
    """Tell whether bytes can be the start of a record."""
    return raw.removeprefix(_BOM).startswith(_START)
