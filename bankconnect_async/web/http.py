"""
HTTP as every framework can tell it and be told.
"""

from collections.abc import AsyncIterable, Mapping
from http import HTTPStatus
from typing import Final

import attrs


#: Bytes of a browser event's body. Browsers allow a post that outlives its
#: page no more.
MAX_EVENT: Final = 64 * 1024
#: Bytes of a webhook's body.
MAX_WEBHOOK: Final = 1024 * 1024

#: What every answer of ours has: it is for one customer, at one time.
HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# Seconds until it makes sense to come again.
_RETRY_AFTER: Final = {"Retry-After": "5"}
_CLOSED_POLICY: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"
}


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@attrs.frozen(kw_only=True)
class WebRequest:
    """
    An HTTP request.

    Attributes:
        method: Such as `POST`.
        path: Path and query as the browser sent them, still quoted.
        headers: By name, in any case.
        body: Raw; `read_body` reads one without reading too much.
    """

    method: str = "GET"
    path: str = attrs.field(default="", repr=False)
    headers: Mapping[str, str] = attrs.field(
        factory=dict, converter=_lower, repr=False
    )
    body: bytes = attrs.field(default=b"", repr=False)

    def cookie(self, name: str) -> str | None:
        """
        Return the value of one cookie.
        """
        # Not SimpleCookie: it gives up at the first cookie that it finds
        # odd, and that may be anyone's.
        pairs = (
            part.strip().partition("=")
            for part in self.headers.get("cookie", "").split(";")
        )
        return next((value for key, _, value in pairs if key == name), None)


@attrs.frozen(kw_only=True)
class WebResponse:
    """
    An HTTP answer.

    Attributes:
        status: HTTP status.
        headers: By name; all that it needs but `Content-Length`.
        body: Bytes.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(default=b"", repr=False)


async def read_body(chunks: AsyncIterable[bytes], limit: int) -> bytes:
    """
    Read a body until it ends, or is longer than *limit*.

    The protocol refuse one that is longer, so the rest need not be read.

    Args:
        chunks: Such as Starlette's ``request.stream()``.
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
    Answer a program.
    """
    content_type = {"Content-Type": "text/plain; charset=utf-8"}
    return WebResponse(
        status=status,
        headers={
            **HEADERS,
            **_CLOSED_POLICY,
            **(content_type if text else {}),
            **retry_header(status),
        },
        body=text.encode(),
    )


def retry_header(status: HTTPStatus) -> Mapping[str, str]:
    """
    Say when to come again, if it is a matter of time.
    """
    return _RETRY_AFTER if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
