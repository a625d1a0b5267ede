"""
Decodes responses without a 2xx status into errors.
"""

import codecs
import itertools
import re

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import attrs
import orjson

from yarl import URL

from bankconnect_async._printable import one_line
from bankconnect_async._redaction import redactor
from bankconnect_async.errors import (
    AlreadyProcessingError,
    AuthenticationError,
    BadRequestError,
    BankMismatchError,
    BankNotDetectedError,
    Delivery,
    DuplicateStatementError,
    NotFoundError,
    NotReadyError,
    OutOfDateRangeError,
    PasswordIncorrectError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    ResponseError,
    ServerError,
    SessionExpiredError,
    StatementError,
    UnparsableStatementError,
    UnsupportedStatementError,
)

from .session_requests import read_id


# The most characters of each kind of text.
_MAX_EXCERPT: Final = 120
_MAX_MESSAGE: Final = 500
_MAX_NAME: Final = 60
_MAX_ID: Final = 200
# The most fields, and the most texts about each.
_MAX_FIELDS: Final = 20
_IDS: Final = ("session_id", "statement_id", "entity_id")
# The codes of a 403 about the key (contract, "Auth failure status").
_KEY_CODES = frozenset({"ACCESS_DENIED", "INVALID_API_KEY"})
# The codes of the session flow (contract, `rest-api.md` sections 6 and 9).
_BY_CODE: Final[Mapping[str | None, type[ResponseError]]] = {
    "SESSION_NOT_FOUND": NotFoundError,
    "SESSION_DELETED": NotFoundError,
    "SESSION_EXPIRED": SessionExpiredError,
    "PROCESSING_NOT_REQUESTED": NotReadyError,
    "PROCESSING_NOT_COMPLETED": NotReadyError,
    "DUPLICATE_PROCESSING_REQUEST": AlreadyProcessingError,
    "UNPARSABLE_STATEMENTS": UnparsableStatementError,
    "PASSWORD_INCORRECT": PasswordIncorrectError,
    "PDF_IS_IMAGE": UnparsableStatementError,
    "STATEMENT_UNSUPPORTED_FORMAT": UnsupportedStatementError,
    "STATEMENT_DUPLICATE": DuplicateStatementError,
    "OUT_OF_DATE_RANGE": OutOfDateRangeError,
    "BANK_NAME_UNDETECTED": BankNotDetectedError,
    "BANK_NAME_MISMATCH": BankMismatchError,
    "MISSING_FILE_OBJECT": StatementError,
    "INVALID_FILE_OBJECT": StatementError,
    "EMPTY_FILE": StatementError,
    "INVALID_FILE_URL": StatementError,
    "INVALID_BASE_64": StatementError,
}
# The numbers of the entity flow (section 5).
_BY_NUMBER: Final[Mapping[int, type[StatementError]]] = {
    3: PasswordIncorrectError,
    4: BankMismatchError,
    5: BankNotDetectedError,
    6: UnparsableStatementError,
    7: UnsupportedStatementError,
}
# Until 2020-06-01 there was no number: only the words tell the error.
_BY_WORDS: Final = (
    (re.compile("Password incorrect"), PasswordIncorrectError),
    (re.compile(r"Not \S+ statement"), BankMismatchError),
    (re.compile("Unable to detect bank.*"), BankNotDetectedError),
    (re.compile("PDF is not parsable"), UnparsableStatementError),
)
# The path of the API on the vendor's servers.
_MOUNT: Final = "bank-connect"
_BY_STATUS: Final[Mapping[int, type[ResponseError]]] = {
    HTTPStatus.UNAUTHORIZED: AuthenticationError,
    HTTPStatus.PAYMENT_REQUIRED: PaymentRequiredError,
    HTTPStatus.FORBIDDEN: PermissionDeniedError,
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.REQUEST_TIMEOUT: ServerError,
    HTTPStatus.GONE: NotFoundError,
    HTTPStatus.TOO_MANY_REQUESTS: RateLimitError,
}
_FIELD_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
# A URL as it is, escaped for JSON, or percent-encoded. Its tail is optional,
# so that a text is searched once, not from every `://`.
_URL_TAIL: Final = re.compile(
    r"((?::|%3a)(?:\\*/|%2f){2}(?:(?!%3f|%23)[^\s?#\"'<>])*)"
    r"((?:[?#]|%3f|%23)[^\s\"'<>]*)?",
    re.IGNORECASE,
)


@attrs.frozen(kw_only=True)
class ErrorBody:
    """
    The content of an error response, in any of its documented shapes.

    Attributes:
        shape: The contract's number of the shape, `S1` to `S6`; `S7` for a
            bare ``"error": "text"``, `S8` for anything else.
        message: The vendor's text, or a short excerpt of a body that has no
            known shape.
        code: The vendor's code, in the shapes that have one.
        fields: The texts about each parameter, by its name.
        status: The `status` number of entity-flow uploads.
        session_id, statement_id, entity_id: The ids beside the error.
    """

    shape: str = "S8"
    message: str = ""
    code: str | None = None
    fields: Mapping[str, tuple[str, ...]] = attrs.Factory(dict)
    status: int | None = None
    session_id: str | None = None
    statement_id: str | None = None
    entity_id: str | None = None


def decode_error_body(raw: bytes) -> ErrorBody:
    """
    Decode an error body: any that the vendor documented, and all others.

    It follows the contract's parse order (`session-api.md`, shapes S1 to S8).
    Texts and names become one printable line each, and are cut.
    """
    document = _error_document(raw)
    if not isinstance(document, dict):
        return ErrorBody(message=_excerpt(raw))
    status = document.get("status")
    body = ErrorBody(
        status=status if type(status) is int else None,
        session_id=_id(document.get("session_id")),
        statement_id=_id(document.get("statement_id")),
        entity_id=_id(document.get("entity_id")),
    )
    facts = _facts(document) or _field_facts(document)
    return attrs.evolve(body, **(facts or {"message": _excerpt(raw)}))


def _facts(document: dict[Any, Any]) -> dict[str, Any]:
    match document:
        case {"error": {**error}} if error:
            shape = "S2" if document.keys() & set(_IDS) else "S1"
            return {"shape": shape, **_coded(error)}
        case {"error": str(text)}:
            return {"shape": "S7", "message": _clean(text)}
        case {"detail": str(text)}:
            return {"shape": "S3", "message": _clean(text)}
        case {"message": str(text)}:
            shape = "S5" if "entity_id" in document else "S4"
            return {"shape": shape, "message": _clean(text)}
    return {}


def _field_facts(document: dict[Any, Any]) -> dict[str, Any]:
    found = (
        (_clean(name, _MAX_NAME), texts)
        for name, value in document.items()
        if not (name in _IDS and isinstance(value, str))
        and (texts := _texts(value))
    )
    fields = dict(itertools.islice(found, _MAX_FIELDS))
    if not fields:
        return {}
    name, texts = next(iter(fields.items()))
    return {"shape": "S6", "message": f"{name}: {texts[0]}", "fields": fields}


def _error_document(raw: bytes) -> Any:
    raw = raw.removeprefix(codecs.BOM_UTF8)
    # The Session API's page prints `"error": {...}` without the outer
    # braces (U-09).
    for text in (raw, b"{%b}" % raw):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            continue
    return None


def _id(value: object) -> str | None:
    # An id that was washed or cut would be another one.
    found = read_id(value)
    return found if found and found == one_line(found, _MAX_ID) else None


def _coded(error: Mapping[Any, Any]) -> dict[str, Any]:
    code, message = read_id(error.get("code")), error.get("message")
    code = code and _clean(code, _MAX_EXCERPT)
    if not isinstance(message, str):
        message = code or ""
    fields = {}
    # INVALID_REQUEST reads "<field>, <text>".
    name, comma, text = message.partition(", ")
    if code == "INVALID_REQUEST" and comma and _FIELD_NAME.fullmatch(name):
        fields[name] = (_clean(text),)
    return {"message": _clean(message), "code": code, "fields": fields}


def _texts(value: object) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(
        isinstance(text, str) for text in texts
    ):
        return ()
    return tuple(filter(None, map(_clean, texts[:_MAX_FIELDS])))


def _excerpt(raw: bytes) -> str:
    return _clean(
        raw[: 8 * _MAX_EXCERPT].decode(errors="replace"), _MAX_EXCERPT
    )


def _clean(text: str, length: int = _MAX_MESSAGE) -> str:
    # No URL that could open a journey.
    text = one_line(" ".join(text[: 8 * length].split()))
    return one_line(_URL_TAIL.sub(_without_tail, text), length)


def _without_tail(match: "re.Match[str]") -> str:
    return match[1] + ("?…" if match[2] else "")


def error_from_response(  # noqa: PLR0913
    status: int,
    raw: bytes,
    *,
    headers: Mapping[str, str] | None = None,
    retry_after: float | None = None,
    secrets: Sequence[str] = (),
    url: URL | None = None,
) -> ResponseError:
    """
    Return the error of a response without a 2xx status.

    The HTTP status decides, then the code; the text only where the vendor sent
    nothing else.

    Args:
        status: The HTTP status.
        raw: The body.
        headers: The headers.
        retry_after: The seconds that the headers ask to wait.
        secrets: Our own secrets, which are redacted from everything that the
            server echoes.
        url: The URL of the request. If it is not below ``/bank-connect``, the
            message of a 404 that is not the API's says so.
    """
    heard = body = decode_error_body(raw)
    own = redactor(tuple(secrets))
    struck = own.redact_bytes(raw)
    if struck != raw:
        # Before anything is cut, so that no half of a secret stays. What the
        # error is does not depend on it: a password may be a word of a code.
        body = decode_error_body(struck)
        if heard.code in _BY_CODE or heard.code in _KEY_CODES:
            body = attrs.evolve(body, code=heard.code)
    cls, delivery = _judge(status, heard, retry_after)
    said = body.message or body.code or "no explanation"
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        said = "a redirect, which is never followed"
    code = f" {body.code}" if body.code and body.code != said else ""
    if status == HTTPStatus.NOT_FOUND and _is_astray(url, body):
        said += f"; look at the base URL: the vendor's all end in /{_MOUNT}"
    return cls(
        f"the server answered {status}{code}: {said}",
        status=status,
        code=body.code,
        fields=body.fields,
        retry_after=retry_after,
        entity_status=body.status,
        session_id=body.session_id,
        statement_id=body.statement_id,
        entity_id=body.entity_id,
        headers={
            own.redact(name.lower()): own.redact(text)
            for name, text in (headers or {}).items()
        },
        body=struck,
        delivery=delivery,
    )


def _is_astray(url: URL | None, body: ErrorBody) -> bool:
    # An error in a shape of the API's came from the API.
    return url is not None and _MOUNT not in url.parts and body.shape == "S8"


def _judge(
    status: int, body: ErrorBody, retry_after: float | None
) -> tuple[type[ResponseError], Delivery]:
    is_fault = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    cls = ServerError if is_fault else _BY_STATUS.get(status)
    if cls is PermissionDeniedError and (
        body.code in _KEY_CODES or body.shape == "S3"
    ):
        cls = AuthenticationError
    # With Retry-After, the server turned the request away.
    is_refused = (
        status == HTTPStatus.SERVICE_UNAVAILABLE and retry_after is not None
    )
    if cls is ServerError and not is_refused:
        return cls, Delivery.AMBIGUOUS
    return cls or _rejection(body), Delivery.REJECTED


def _rejection(body: ErrorBody) -> type[ResponseError]:
    found = _BY_CODE.get(body.code)
    if found is not None or body.shape != "S5":
        return found or BadRequestError
    if body.status is not None:
        return _BY_NUMBER.get(body.status, StatementError)
    return next(
        (
            cls
            for words, cls in _BY_WORDS
            if words.fullmatch(body.message or "")
        ),
        StatementError,
    )
