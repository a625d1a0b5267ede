"""
Session requests: requests to bytes, responses to sessions.
"""

import codecs
import datetime
import functools
import ipaddress
import re

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote_plus, urlencode

import attrs
import orjson

from yarl import URL

from bankconnect_async.errors import InvalidRequestError, InvalidResponseError
from bankconnect_async.models.sessions import (
    UNSET,
    SessionRequest,
    SessionResponse,
)


Encoding: TypeAlias = Literal["json", "form"]

CONTENT_TYPES: Final[Mapping[Encoding, str]] = {
    "json": "application/json",
    "form": "application/x-www-form-urlencoded",
}

# An authority that all parsers split alike, and nothing in the rest that
# browsers drop or rewrite.
_OPENABLE = (
    r"((?i:https?))://"
    r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?"
    r"(?:[/?#][^\x00-\x20\x7f\\]*)?"
)
# Compiled with the first response, not with every import.
_openable = functools.cache(functools.partial(re.compile, _OPENABLE))
_LAST_PORT = 65535
# Some parsers refuse hosts with this text or in brackets.
_ENCODED_LABEL = "--"
_LOOPBACK = r"localhost|127(?:\.[0-9]{1,3}){3}|::1"


def date_text(day: datetime.date) -> str:
    """
    Return a date in the vendor's format, `DD/MM/YYYY`.
    """
    # By its parts: equal times in two zones have two days.
    return _date_text(day.day, day.month, day.year)


# The requests of a campaign share their dates.
@functools.lru_cache(maxsize=64)
def _date_text(day: int, month: int, year: int) -> str:
    # Not strftime: it does not pad years below 1000 everywhere.
    return f"{day:02}/{month:02}/{year:04}"


def is_loopback(host: str | None) -> bool:
    """
    Return whether *host* can only be this machine.
    """
    return host is not None and re.fullmatch(_LOOPBACK, host) is not None


def is_plain_http(url: URL) -> bool:
    """
    Return whether *url* is without TLS, and not of this machine.
    """
    return url.scheme == "http" and not is_loopback(url.host)


def read_id(value: object) -> str | None:
    """
    Return *value* if it can be an id of the vendor, else `None`.
    """
    return value if isinstance(value, str) and value.strip() else None


# What orjson writes itself costs a quarter of what Python code would.
def _simplify(value: Any) -> str | list[Any] | dict[str, Any]:
    if isinstance(value, datetime.date):
        return date_text(value)
    # A group of parameters, such as `Metadata`.
    if attrs.has(value.__class__):
        return _given(value)
    # What follows came into `extra` after it was checked.
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return list(value)
    raise TypeError


def _dump(body: Mapping[str, Any], option: int = 0) -> bytes:
    option |= orjson.OPT_PASSTHROUGH_DATETIME
    return orjson.dumps(body, _simplify, option)


def encode_session(
    request: SessionRequest, api_key: str, *, encoding: Encoding = "json"
) -> bytes:
    """
    Encode the body of ``POST session/``.

    A *redirect_url* that is `None` or unset is left out.

    Args:
        request: The request.
        api_key: The API key, which becomes the parameter `api_key`.
        encoding: `json`, or `form` for organisations that need it (U-01).

    Raises:
        InvalidRequestError: If the form encoding cannot carry a parameter.
    """
    body = _given(request)
    body |= body.pop("extra", None) or {}
    body["api_key"] = api_key
    encoded = _dump(body)
    if encoding == "json":
        return encoded
    return urlencode(_form_fields(orjson.loads(encoded))).encode()


class SessionWriter:
    """
    Writes the bodies of one client's ``POST session/`` requests.

    The part that all requests from bare link ids share is encoded once.

    Args:
        api_key: The API key, which goes into each body.
        encoding: `json` or `form`.
        usual: The request for bare link ids, if there is one; its own
            `link_id` is a placeholder.
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
        Return the body of a request.

        Args:
            link_id: The customer.
            request: The other parameters: the usual request, or the customer's
                own.

        Raises:
            InvalidRequestError: If the form encoding cannot carry a parameter.
        """
        if request is self._usual:
            return self._head + self._quote(link_id) + self._tail
        return encode_session(request, self._api_key, encoding=self._encoding)


def _quote_in_form(text: str) -> bytes:
    return quote_plus(text).encode()


def canonical_session(
    request: SessionRequest, *, redirect_url: str | None
) -> bytes:
    """
    Encode a request without its `link_id`; equal requests give equal bytes.

    Args:
        request: The request.
        redirect_url: The text to encode in place of its redirect URL, if any.
    """
    rest = _given(request)
    del rest["link_id"]
    rest.pop("redirect_url", None)
    if redirect_url is not None:
        rest["redirect_url"] = redirect_url
    return _dump(rest, orjson.OPT_SORT_KEYS)


def _given(request: object) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(request).items()
        if value is not None and value is not UNSET
    }


def _form_fields(body: Mapping[str, Any]) -> dict[str, str]:
    nested = {
        name: ("cannot travel in a form: use encoding='json'",)
        for name, value in body.items()
        if isinstance(value, dict | list)
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
) -> SessionResponse:
    """
    Decode a 2xx response of ``POST session/``.

    Args:
        raw: The body.
        status: The HTTP status.
        allow_http: Whether a `redirect_url` without TLS is accepted from any
            host; loopback is always accepted.

    Raises:
        InvalidResponseError: If there is no usable `redirect_url`.
    """
    # The response is a credential. It must not be a local of a frame that
    # raises, because a traceback with locals would print it.
    response, problem = _read_response(raw, allow_http=allow_http)
    if response is None and raw.startswith(codecs.BOM_UTF8):
        rest = raw[len(codecs.BOM_UTF8) :]
        response, problem = _read_response(rest, allow_http=allow_http)
        del rest
    del raw
    if response is not None:
        return response
    raise InvalidResponseError(
        f"the server answered {status} without a usable session: {problem}",
        problems=[problem],
        status=status,
    )


def _id_in_query(url: str) -> str | None:
    # Taking a whole URL apart costs 20 times this, and few need it.
    before, _, rest = url.partition("?session_id=")
    found = rest.partition("&")[0]
    is_plain = found.replace("-", "").replace("_", "").isalnum()
    if is_plain and "?" not in before and "#" not in before:
        return found
    parsed = read_url(url)
    return None if parsed is None else read_id(parsed.query.get("session_id"))


def _read_response(
    raw: bytes, *, allow_http: bool
) -> tuple[SessionResponse | None, str]:
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
    found = document.get("session_id")
    session_id = (read_id(found) if found else None) or _id_in_query(url)
    return SessionResponse(redirect_url=url, session_id=session_id), ""


def read_url(text: str) -> URL | None:
    """
    Parse a foreign URL, and keep it as it is.

    Args:
        text: The text, from a response, a webhook, an event, a redirect or a
            file.

    Returns:
        The URL, or `None` if it cannot be parsed. Nothing is raised, because
            the text may be a credential and would be in the traceback.
    """
    try:
        url = URL(text, encoded=True)
        # yarl reads some parts only when they are asked for.
        _ = url.host, url.port, url.query
    # yarl lets an IndexError out for some texts.
    except (ValueError, IndexError):
        return None
    return url


def _is_known(text: str) -> bool:
    url = read_url(text)
    if url is None or url.host is None:
        return False
    if ":" not in url.host:
        return "[" not in url.authority
    try:
        ipaddress.IPv6Address(url.host)
    except ValueError:
        return False
    return True


def url_problem(text: str, *, allow_http: bool) -> str | None:
    """
    Return the reason why *text* must not reach a browser as a journey's URL.

    Only absolute https URLs may, and http URLs of this machine.
    """
    parts = _openable().fullmatch(text)
    if parts is None:
        return "is not an absolute https URL"
    scheme, host, port = parts.groups()
    if port is not None and int(port) > _LAST_PORT:
        return "is not an absolute https URL"
    # Parsing each URL would cost 20 times this.
    if (host[0] == "[" or _ENCODED_LABEL in host) and not _is_known(text):
        return "is not an absolute https URL"
    if scheme.lower() == "https" or allow_http:
        return None
    if is_loopback(host.lower().strip("[]")):
        return None
    return "is not an https URL"
