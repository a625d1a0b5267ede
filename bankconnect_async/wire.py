"""
Bytes to schema and back.
"""

import datetime
import functools
import re

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, cast
from urllib.parse import quote_plus, urlencode

import attrs
import orjson

from yarl import URL

from .errors import (
    AlreadyRequestedError,
    AuthenticationError,
    BankMismatchError,
    BankUndetectedError,
    Delivery,
    DuplicateStatementError,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
    NotReadyError,
    OutOfDateRangeError,
    PasswordIncorrectError,
    PaymentRequiredError,
    RateLimitedError,
    RejectedError,
    ResponseError,
    ServerFaultError,
    SessionExpiredError,
    StatementError,
    UnparsableStatementError,
    UnreadableAnswerError,
    UnsupportedStatementError,
)
from .schema import (
    UNSET,
    Consent,
    ErrorBody,
    Metadata,
    Session,
    SessionAnswer,
    SessionRequest,
    fill,
)


if TYPE_CHECKING:
    import cattrs


T = TypeVar("T")
Encoding: TypeAlias = Literal["json", "form"]

CONTENT_TYPES: Final[Mapping[Encoding, str]] = {
    "json": "application/json",
    "form": "application/x-www-form-urlencoded",
}

# What JSON carries as it is.
_PRIMITIVES: Final = frozenset({str, int, float, bool})
_EXCERPT = 120
_MESSAGE = 500
_STRUCK_OUT = "***"
_IDS: Final = ("session_id", "statement_id", "entity_id")
# Codes with which a 403 speaks of the key (contract, "Auth failure status").
_KEY_CODES = frozenset({"ACCESS_DENIED", "INVALID_API_KEY"})
# Codes of the session flow (contract, `rest-api.md` sections 6 and 9).
_BY_CODE: Final[Mapping[str | None, type[ResponseError]]] = {
    "SESSION_NOT_FOUND": NotFoundError,
    "SESSION_DELETED": NotFoundError,
    "SESSION_EXPIRED": SessionExpiredError,
    "PROCESSING_NOT_REQUESTED": NotReadyError,
    "PROCESSING_NOT_COMPLETED": NotReadyError,
    "DUPLICATE_PROCESSING_REQUEST": AlreadyRequestedError,
    "UNPARSABLE_STATEMENTS": UnparsableStatementError,
    "PASSWORD_INCORRECT": PasswordIncorrectError,
    "PDF_IS_IMAGE": UnparsableStatementError,
    "STATEMENT_UNSUPPORTED_FORMAT": UnsupportedStatementError,
    "STATEMENT_DUPLICATE": DuplicateStatementError,
    "OUT_OF_DATE_RANGE": OutOfDateRangeError,
    "BANK_NAME_UNDETECTED": BankUndetectedError,
    "BANK_NAME_MISMATCH": BankMismatchError,
    "MISSING_FILE_OBJECT": StatementError,
    "INVALID_FILE_OBJECT": StatementError,
    "EMPTY_FILE": StatementError,
    "INVALID_FILE_URL": StatementError,
    "INVALID_BASE_64": StatementError,
}
# Numbers of the entity flow (section 5).
_BY_NUMBER: Final[Mapping[int, type[StatementError]]] = {
    3: PasswordIncorrectError,
    4: BankMismatchError,
    5: BankUndetectedError,
    6: UnparsableStatementError,
    7: UnsupportedStatementError,
}
# Before 2020-06-01 there was no number, and nothing but the words to go by.
_BY_WORDS: Final = (
    (re.compile("Password incorrect"), PasswordIncorrectError),
    (re.compile(r"Not \S+ statement"), BankMismatchError),
    (re.compile("Unable to detect bank.*"), BankUndetectedError),
    (re.compile("PDF is not parsable"), UnparsableStatementError),
)
_FIELD_NAME = re.compile(r"[a-z][a-z0-9_]*")
# An authority that every reader takes apart alike, and nothing in the rest
# that browsers drop or rewrite.
_OPENABLE = re.compile(
    r"((?i:https?))://"
    r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?"
    r"(?:[/?#][^\x00-\x20\x7f\\]*)?"
)
_LAST_PORT = 65535
_ID_COMES_FIRST = re.compile(r"[^?#]*\?session_id=([^&#%+]+)(?:[&#]|\Z)")
_URL_TAIL = re.compile(r"(?<=://)([^\s?#\"'<>]*)[?#][^\s\"'<>]*")
_LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|::1")


def date_text(day: datetime.date) -> str:
    """Write a date as the vendor reads it, `DD/MM/YYYY`."""
    # Not strftime: it does not pad years below 1000 everywhere.
    return f"{day.day:02}/{day.month:02}/{day.year:04}"


def is_loopback(host: str | None) -> bool:
    """Tell whether *host* can only be this machine."""
    return host is not None and _LOOPBACK.fullmatch(host) is not None


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


@functools.cache
def _converter() -> "cattrs.Converter":
    # Few requests have a part that needs it.
    import cattrs  # noqa: PLC0415

    from cattrs.gen import make_dict_unstructure_fn  # noqa: PLC0415

    converter = cattrs.Converter()
    converter.register_unstructure_hook(datetime.date, date_text)
    for cls in (Consent, Metadata):
        converter.register_unstructure_hook(
            cls,
            make_dict_unstructure_fn(
                cls, converter, _cattrs_omit_if_default=True
            ),
        )
    return converter


def _plain(value: object) -> Any:
    if value.__class__ in _PRIMITIVES:
        return value
    if isinstance(value, datetime.date):
        return date_text(value)
    return _converter().unstructure(value)


def encode_session(
    request: SessionRequest, api_key: str, *, encoding: Encoding = "json"
) -> bytes:
    """
    Write the body of ``POST session/``.

    A *redirect_url* that is `None` or unset is left out.

    Args:
        request: What to ask for.
        api_key: Goes into the body under `api_key`.
        encoding: `json`, or `form` for organisations that need it (U-01).

    Raises:
        InvalidRequestError: If the form encoding cannot carry a parameter.
    """
    body = _given(request)
    body |= body.pop("extra", None) or {}
    body["api_key"] = api_key
    if encoding == "json":
        return orjson.dumps(body)
    return urlencode(_form_fields(body)).encode()


class SessionWriter:
    """
    Writes the bodies of one client's ``POST session/`` requests.

    What all requests have that come from bare link ids is written once.

    Args:
        api_key: Goes into each body.
        encoding: `json` or `form`.
        usual: The request of everybody for whom a bare `link_id` is given,
            if there is one; its own `link_id` does not matter.
    """

    def __init__(
        self,
        api_key: str,
        *,
        encoding: Encoding,
        usual: SessionRequest | None,
    ) -> None:
        self._api_key = api_key
        self._encoding: Encoding = encoding
        self._usual = usual
        self._quote: Callable[[str], bytes] = orjson.dumps
        self._head, self._tail = b'{"link_id":', b""
        if encoding == "form":
            self._quote, self._head = _quote_in_form, b"link_id="
        if usual is not None:
            whole = encode_session(usual, api_key, encoding=encoding)
            self._tail = whole[len(self._head + self._quote(usual.link_id)) :]

    def write(self, link_id: str, request: SessionRequest) -> bytes:
        """
        Write the body of a request.

        Args:
            link_id: Whose session to ask for.
            request: What else to ask for: the usual one, or that of the
                customer.

        Raises:
            InvalidRequestError: If the form encoding cannot carry it.
        """
        if request is self._usual:
            return self._head + self._quote(link_id) + self._tail
        return encode_session(request, self._api_key, encoding=self._encoding)


def _quote_in_form(text: str) -> bytes:
    return quote_plus(text).encode()


def canonical_session(request: SessionRequest) -> bytes:
    """
    Write what *request* asks for, for whomever: equal ones in equal bytes.
    """
    rest = _given(request)
    del rest["link_id"]
    return orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)


def _given(request: SessionRequest) -> dict[str, Any]:
    # A generated hook would compare every field with its default, which
    # costs four times this.
    return {
        name: value if value.__class__ is str else _plain(value)
        for name, value in vars(request).items()
        if value is not None and value is not UNSET
    }


def _form_fields(body: Mapping[str, Any]) -> dict[str, str]:
    nested = {
        name: ("cannot travel in a form: use encoding='json'",)
        for name, value in body.items()
        if isinstance(value, dict | list | tuple)
    }
    if nested:
        raise InvalidRequestError(fields=nested)
    return {
        name: ("true" if value else "false")
        if isinstance(value, bool)
        else str(value)
        for name, value in body.items()
        if value is not None
    }


def decode_session(
    raw: bytes, *, status: int = 200, allow_http: bool = False
) -> SessionAnswer:
    """
    Read a good answer of ``POST session/``.

    Args:
        raw: The body of an answer with a 2xx status.
        status: That status.
        allow_http: Take a `redirect_url` without TLS from any host; it is
            always taken from loopback.

    Raises:
        UnreadableAnswerError: If there is no usable `redirect_url`.
    """
    # The answer is a credential. It must not be a local of a frame that
    # raises, or a traceback with locals would show it.
    answer, problem = _read_answer(raw, allow_http=allow_http)
    del raw
    if answer is not None:
        return answer
    raise UnreadableAnswerError(
        f"the server answered {status} without a usable session: {problem}",
        problems=[problem],
        status=status,
    )


def make_session(
    answer: SessionAnswer, *, link_id: str, attempts: int = 1
) -> Session:
    """
    Make a session of what the server said and what we know.

    Its id is that of the answer, else the one in the URL's query.

    Args:
        answer: A good one, as `decode_session` returns it.
        link_id: Whose session was asked for.
        attempts: How often.
    """
    return fill(
        Session,
        {
            "link_id": link_id,
            "_redirect_url": answer.redirect_url,
            "session_id": answer.session_id
            or _id_in_query(answer.redirect_url),
            "attempts": attempts,
        },
    )


def _id_in_query(url: str) -> str | None:
    # Taking a whole URL apart costs ten times this, and few need it.
    found = _ID_COMES_FIRST.match(url)
    if found is not None:
        return _id(found[1])
    return _id(URL(url, encoded=True).query.get("session_id"))


def _read_answer(
    raw: bytes, *, allow_http: bool
) -> tuple[SessionAnswer | None, str]:
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None, "the body is not JSON @ $"
    if document.__class__ is not dict:
        return None, "the body is not a JSON object @ $"
    if "redirect_url" not in document:
        return None, "required field missing @ $.redirect_url"
    url = document["redirect_url"]
    if url.__class__ is not str:
        return None, "must be str @ $.redirect_url"
    if problem := url_problem(url, allow_http=allow_http):
        return None, f"{problem} @ $.redirect_url"
    # A server that spoils an id it need not send has still created the
    # session: the id in the URL serves as well.
    session_id = document.get("session_id") and _id(document["session_id"])
    return SessionAnswer(redirect_url=url, session_id=session_id), ""


def url_problem(text: str, *, allow_http: bool) -> str | None:
    """
    Say why *text* must not reach a browser as a journey's URL.

    Only absolute https URLs may, and http ones of this machine.
    """
    parts = _OPENABLE.fullmatch(text)
    if parts is None:
        return "is not an absolute https URL"
    scheme, host, port = parts.groups()
    if port is not None and int(port) > _LAST_PORT:
        return "is not an absolute https URL"
    if scheme.lower() == "https" or allow_http:
        return None
    if is_loopback(host.lower().strip("[]")):
        return None
    return "is not an https URL"


def decode_error_body(raw: bytes) -> ErrorBody:  # noqa: PLR0911
    """
    Read any error body the vendor ever documented, and survive the rest.

    Follows the contract's parse order (`session-api.md`, shapes S1 to S8).
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
    match document:
        case {"error": {**error}} if error:
            shape = "S2" if document.keys() & set(_IDS) else "S1"
            return attrs.evolve(body, shape=shape, **_coded(error))
        case {"error": str(text)}:
            return attrs.evolve(body, shape="S7", message=_clean(text))
        case {"detail": str(text)}:
            return attrs.evolve(body, shape="S3", message=_clean(text))
        case {"message": str(text)}:
            shape = "S5" if "entity_id" in document else "S4"
            return attrs.evolve(body, shape=shape, message=_clean(text))
    fields = {
        name: texts
        for name, value in document.items()
        if not (name in _IDS and isinstance(value, str))
        and (texts := _texts(value))
    }
    if not fields:
        return attrs.evolve(body, message=_excerpt(raw))
    name, texts = next(iter(fields.items()))
    return attrs.evolve(
        body, shape="S6", message=f"{name}: {texts[0]}", fields=fields
    )


def _error_document(raw: bytes) -> Any:
    # The Session API's page prints `"error": {...}` without the outer
    # braces (U-09).
    for text in (raw, b"{%b}" % raw):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            continue
    return None


def _coded(error: Mapping[Any, Any]) -> dict[str, Any]:
    code, message = _id(error.get("code")), error.get("message")
    code = code and _clean(code, _EXCERPT)
    if not isinstance(message, str):
        message = code or ""
    fields = {}
    # INVALID_REQUEST reads "<field>, <text>".
    name, comma, text = message.partition(", ")
    if code == "INVALID_REQUEST" and comma and _FIELD_NAME.fullmatch(name):
        fields[name] = (_clean(text),)
    return {"message": _clean(message), "code": code, "fields": fields}


def _texts(value: object) -> tuple[str, ...]:
    match value:
        case str() if value:
            return (_clean(value),)
        case list() if value and all(isinstance(text, str) for text in value):
            return tuple(_clean(text) for text in value)
        case _:
            return ()


def _excerpt(raw: bytes) -> str:
    return _clean(raw[: 8 * _EXCERPT].decode(errors="replace"), _EXCERPT)


def _clean(text: str, length: int = _MESSAGE) -> str:
    # One printable line, and no URL that could open a journey.
    text = " ".join(text[: 8 * length].split())
    text = "".join(char if char.isprintable() else "�" for char in text)
    text = _URL_TAIL.sub(r"\1?…", text)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def refusal(
    status: int,
    raw: bytes,
    *,
    headers: Mapping[str, str] | None = None,
    retry_after: float | None = None,
    secrets: Sequence[str] = (),
) -> ResponseError:
    """
    Choose the error for an answer without a 2xx status.

    By HTTP status first, then by code; by words only where the vendor had
    nothing else.

    Args:
        status: Of the answer.
        raw: Its body.
        headers: Its headers.
        retry_after: Seconds, as read from them.
        secrets: Our own, struck out of everything that the server echoes.
    """
    body = _strike_out(decode_error_body(raw), secrets)
    cls, delivery = _judge(status, body, retry_after)
    said = body.message or body.code or "no explanation"
    if 300 <= status < 400:  # noqa: PLR2004
        said = "a redirect, which is never followed"
    code = f" {body.code}" if body.code and body.code != said else ""
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
        headers=_strike_out(
            {name.lower(): text for name, text in (headers or {}).items()},
            secrets,
        ),
        body=_strike_out(raw, secrets),
        delivery=delivery,
    )


def _strike_out(value: T, secrets: Sequence[str]) -> T:
    """Replace each of *secrets*, wherever texts stand in *value*."""
    return cast("T", _struck(value, secrets)) if secrets else value


def _struck(value: Any, secrets: Sequence[str]) -> Any:
    match value:
        case str():
            for secret in secrets:
                value = value.replace(secret, _STRUCK_OUT)
            return value
        case bytes():
            for secret in secrets:
                # As it is, and as JSON writes it.
                for form in (secret.encode(), orjson.dumps(secret)[1:-1]):
                    value = value.replace(form, _STRUCK_OUT.encode())
            return value
        case tuple():
            return tuple(_struck(each, secrets) for each in value)
        case Mapping():
            return {
                name: _struck(each, secrets) for name, each in value.items()
            }
        case ErrorBody():
            return ErrorBody(**_struck(attrs.asdict(value), secrets))
        case _:
            return value


def _judge(  # noqa: PLR0911
    status: int, body: ErrorBody, retry_after: float | None
) -> tuple[type[ResponseError], Delivery]:
    match status:
        case 401:
            return AuthenticationError, Delivery.REJECTED
        case 402:
            return PaymentRequiredError, Delivery.REJECTED
        case 403 if body.code in _KEY_CODES or body.shape == "S3":
            return AuthenticationError, Delivery.REJECTED
        case 403:
            return NotAllowedError, Delivery.REJECTED
        case 404 | 410:
            return NotFoundError, Delivery.REJECTED
        case 429:
            return RateLimitedError, Delivery.REJECTED
        case 503 if retry_after is not None:
            return ServerFaultError, Delivery.REJECTED
        case 408:
            return ServerFaultError, Delivery.AMBIGUOUS
        case _ if status >= 500:  # noqa: PLR2004
            return ServerFaultError, Delivery.AMBIGUOUS
        case _:
            return _rejection(body), Delivery.REJECTED


def _rejection(body: ErrorBody) -> type[ResponseError]:
    found = _BY_CODE.get(body.code)
    if found is not None or body.shape != "S5":
        return found or RejectedError
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
