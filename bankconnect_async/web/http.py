"""
Framework-independent HTTP request and response types.
"""

import re

from collections.abc import AsyncIterable, Iterable, Mapping
from http import HTTPStatus
from typing import Final

import attrs

from bankconnect_async.config import HEADER_NAME


#: The largest body of a browser event, in bytes. Browsers limit a post that
#: outlives its page to this.
MAX_EVENT: Final = 64 * 1024
#: The largest body of a webhook, in bytes.
MAX_WEBHOOK: Final = 1024 * 1024

#: The headers of every response.
HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_STATUS_HEADERS: Final[Mapping[HTTPStatus, Mapping[str, str]]] = {
    HTTPStatus.METHOD_NOT_ALLOWED: {"Allow": "GET, POST"},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": "5"},
}
# RFC 9110, sections 5.1 and 5.5: a line end in a value begins another header,
# and servers treat other control characters and outer blanks each in its way.
_FORBIDDEN: Final = re.compile(
    r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]|\A[ \t]|[ \t]\Z"
)
_CLOSED_POLICY: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"
}


def _combine(
    headers: Mapping[str, str] | list[tuple[str, str]],
) -> dict[str, str]:
    # HTTP/2 sends each cookie in a header of its own.
    pairs = headers if isinstance(headers, list) else headers.items()
    combined: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        separator = "; " if key == "cookie" else ", "
        before = [combined[key]] if key in combined else []
        combined[key] = separator.join([*before, value])
    return combined


@attrs.frozen(kw_only=True)
class WebRequest:
    """
    An HTTP request.

    Attributes:
        method: The method, such as `POST`.
        path: The path and query as the browser sent them, still quoted.
        headers: The headers, as a mapping or as pairs; their names may be in
            any case.
        body: The raw body; `read_body` reads one up to a limit.
    """

    method: str = "GET"
    path: str = attrs.field(default="", repr=False)
    headers: Mapping[str, str] = attrs.field(
        factory=dict, converter=_combine, repr=False
    )
    body: bytes = attrs.field(default=b"", repr=False)

    def cookie(self, name: str) -> str | None:
        """
        Return the value of one cookie.
        """
        # `SimpleCookie` stops at the first cookie that is malformed.
        pairs = (
            part.strip().partition("=")
            for part in self.headers.get("cookie", "").split(";")
        )
        return next((value for key, _, value in pairs if key == name), None)


def _check_headers(_: object, __: object, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not re.fullmatch(HEADER_NAME, name):
            raise ValueError(f"headers: {name!r} is not the name of a header")
        # The value may be a secret.
        if _FORBIDDEN.search(value):
            raise ValueError(
                f"headers: {name} contains a control character or half of a "
                f"surrogate pair, or begins or ends with a blank: quote it"
            )


@attrs.frozen(kw_only=True)
class WebResponse:
    """
    An HTTP response.

    Attributes:
        status: The status code.
        headers: All headers except `Content-Length`; a `ValueError` names one
            that cannot be sent.
        body: The body.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(
        validator=_check_headers, repr=False
    )
    body: bytes = attrs.field(default=b"", repr=False)


async def read_body(chunks: AsyncIterable[bytes], limit: int) -> bytes:
    """
    Read a body up to its end, or until it exceeds *limit*.

    The endpoints refuse a body that is too long, so the rest is not needed.

    Args:
        chunks: The chunks, such as Starlette's ``request.stream()``.
        limit: `MAX_EVENT` or `MAX_WEBHOOK`.
    """
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            break
    return bytes(body)


def plain(status: HTTPStatus, text: str = "") -> WebResponse:
    """
    Make a response in plain text.
    """
    content_type = {"Content-Type": "text/plain; charset=utf-8"}
    return WebResponse(
        status=status,
        headers={
            **HEADERS,
            **_CLOSED_POLICY,
            **(content_type if text else {}),
            **status_headers(status),
        },
        body=text.encode(),
    )


def method_not_allowed(allowed: Iterable[str]) -> WebResponse:
    """
    Make the response to a method that is none of *allowed*.
    """
    methods = ", ".join(allowed)
    refused = plain(
        HTTPStatus.METHOD_NOT_ALLOWED, f"this address takes {methods} only"
    )
    return attrs.evolve(refused, headers={**refused.headers, "Allow": methods})


def status_headers(status: HTTPStatus) -> Mapping[str, str]:
    """
    Return the headers that go with *status*, if any.
    """
    return _STATUS_HEADERS.get(status, {})
