"""
Records of outcomes: what is written about a session, or the lack of one.

A created one is ``{"link_id", "line", "redirect_url", "session_id",
"attempts", "api", "request"}``. A failed one has ``"error": {"type", "code",
"message", "fields", "status", "delivery", "retry_after"}`` instead of the
session.
"""

import hashlib
import re

from typing import Any, Final, TypeAlias, cast

import attrs
import orjson

from yarl import URL

from bankconnect_async._codec.redirects import without_state
from bankconnect_async._codec.session_requests import canonical_session
from bankconnect_async._printable import printable_json
from bankconnect_async.batch.outcomes import Created, Outcome
from bankconnect_async.errors import BankConnectError, Delivery
from bankconnect_async.models.sessions import Session, SessionRequest


# What every record begins with, and so does one that was torn.
_START: Final = b'{"link_id":'
# Some editors put one in front of a file.
_BOM: Final = b"\xef\xbb\xbf"
_FINGERPRINT: Final = re.compile("[0-9a-f]{16}")


@attrs.frozen(kw_only=True)
class CreatedRecord:
    """
    A journal's record of a session.

    Attributes:
        line: Where its request stood in the input, from 1.
        session: What was created.
        api: Host and version that created it.
        request: Digest of what was asked for.
    """

    line: int
    session: Session
    api: str
    request: str

    @property
    def link_id(self) -> str:
        """Your id of the customer."""
        return self.session.link_id


@attrs.frozen(kw_only=True)
class FailedRecord:
    """
    A journal's record of an input without a session.

    Attributes:
        link_id: Your id of the customer, as far as there is one.
        line: Where it stood in the input, from 1.
        attempts: How often it was sent, or tried to be.
        type: Name of the error.
        code: The vendor's code for it, if there was one.
        message: What happened.
        fields: Parameter name to what is wrong with it.
        status: HTTP status, if there was an answer.
        delivery: Whether there may be a session all the same: `AMBIGUOUS`
            and `CREATED_UNREADABLE` ones are to be reconciled.
        retry_after: Seconds that the server asked to stay away.
        api: Host and version that it was for.
        request: Digest of what was asked for; `None` if nothing could be.
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


Record: TypeAlias = CreatedRecord | FailedRecord


def describe_session(session: Session) -> dict[str, Any]:
    """Describe a session; its URL opens the journey, so keep it safe."""
    return {
        "redirect_url": session.redirect_text,
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
    Write the line of an outcome.

    Args:
        outcome: What became of an input.
        line: Where it stood, from 1.
        api: Name of the API that was asked.
        request: Fingerprint of what was asked for.
    """
    if isinstance(outcome, Created):
        session = outcome.session
        return _dumps(
            {
                "link_id": session.link_id,
                "line": line,
                "redirect_url": session.redirect_text,
                "session_id": session.session_id,
                "attempts": session.attempts,
                "api": api,
                "request": request,
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
        }
    )


def _dumps(record: dict[str, Any]) -> bytes:
    return printable_json(
        orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    )


def read_object(raw: bytes) -> dict[str, Any]:
    """
    Read a line as far as all records are alike.

    Raises:
        ValueError: If it is none; the text goes on after "line N".
    """
    try:
        record = orjson.loads(raw.removeprefix(_BOM))
    except orjson.JSONDecodeError:
        raise ValueError("is no record of a session") from None
    match record:
        case {"link_id": str(), "redirect_url": str()} | {
            "link_id": str() | None,
            "error": dict(),
        }:
            pass
        case _:
            raise ValueError("is no record of a session")
    match record:
        case {"api": str(), "request": str(request)} if _FINGERPRINT.fullmatch(
            request
        ):
            pass
        case {"api": str(), "request": None, "error": dict()}:
            pass
        case _:
            raise ValueError(
                "does not tell its API and its request, as records of "
                "earlier versions do not"
            )
    return cast("dict[str, Any]", record)


def decode_record(raw: bytes) -> Record:
    """
    Read a line.

    Raises:
        ValueError: If it is no record; the text goes on after "line N".
    """
    record = read_object(raw)
    try:
        common = {"line": record["line"], "api": record["api"]}
        if "error" not in record:
            session = Session(
                link_id=record["link_id"],
                redirect_url=URL(record["redirect_url"], encoded=True),
                session_id=record["session_id"],
                attempts=record["attempts"],
            )
            return CreatedRecord(
                session=session, request=record["request"], **common
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
        raise ValueError("is no record of a session") from None


def is_torn(raw: bytes) -> bool:
    """
    Tell whether a last line without an end can be the rest of a record.

    After a power cut there may be zeros where bytes were to come.
    """
    begun = raw.removeprefix(_BOM).rstrip(b"\0")[: len(_START)]
    return _START.startswith(begun)


def begins_like_one(raw: bytes) -> bool:
    """Tell whether a line that goes on can be a record, however long."""
    return raw.removeprefix(_BOM).startswith(_START)


def is_blank(raw: bytes) -> bool:
    """Tell whether a line holds nothing."""
    return not raw.removeprefix(_BOM).strip()


def request_digest(request: SessionRequest) -> str:
    """
    Digest what is asked for, so that requests which differ in nothing but
    their link id have equal texts.

    A URL that a `ReturnURL` signed counts without its signature, which
    differs each time.
    """
    url = request.redirect_url
    if isinstance(url, str):
        plain = without_state(url, request.link_id)
        if plain != url:
            request = attrs.evolve(request, redirect_url=plain)
    raw = canonical_session(request)
    return hashlib.blake2b(raw, digest_size=8).hexdigest()
