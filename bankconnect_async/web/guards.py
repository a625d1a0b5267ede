"""
What a request must be to be looked at, as tables.
"""

import hmac

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final, TypeAlias

from yarl import URL

from .http import MAX_EVENT, MAX_WEBHOOK, WebRequest, WebResponse, plain


#: What must be so; what the request is refused with if not, and why.
Check: TypeAlias = tuple[Callable[[WebRequest], bool], HTTPStatus, str]

_SECRET_HEADER: Final = "x-secret-key"  # noqa: S105 - the header's name
# Where browsers say, or said, that nobody has asked for the page yet.
_PURPOSES: Final = ("sec-purpose", "purpose", "x-purpose", "x-moz")


def refusal(
    request: WebRequest, checks: tuple[Check, ...]
) -> WebResponse | None:
    """
    Apply *checks* in order, and refuse by the first that fails.
    """
    for is_good, status, text in checks:
        if not is_good(request):
            return plain(status, text)
    return None


def _is_opened(request: WebRequest) -> bool:
    return request.headers.get("sec-fetch-dest", "document") == "document"


def _is_meant(request: WebRequest) -> bool:
    return not any(
        word in request.headers.get(name, "").lower()
        for name in _PURPOSES
        for word in ("prefetch", "preview", "prerender")
    )


#: A page that creates a session: only a person who goes there may.
VISIT_CHECKS: Final[tuple[Check, ...]] = (
    (_is_opened, HTTPStatus.FORBIDDEN, "this page is to be opened by itself"),
    (_is_meant, HTTPStatus.FORBIDDEN, "this page is not to be fetched ahead"),
)


def is_cross_site(request: WebRequest) -> bool:
    """
    Tell whether a page of another site has opened this one.
    """
    return request.headers.get("sec-fetch-site", "").lower() == "cross-site"


def origin_check(base: URL) -> Check:
    """
    Make the check that a page of ours at *base* has posted.
    """
    # As browsers write it: in lower case, and without a default port.
    origin = str(URL(str(base.origin()).lower()).origin())

    def is_from_us(request: WebRequest) -> bool:
        site = request.headers.get("sec-fetch-site", "same-origin")
        # Every browser names the origin of a post; older ones not the site.
        return (
            request.headers.get("origin") == origin and site == "same-origin"
        )

    return (
        is_from_us,
        HTTPStatus.FORBIDDEN,
        "the request comes from another site",
    )


def event_checks(base: URL) -> tuple[Check, ...]:
    """
    Make the checks of what a page of ours at *base* posts.
    """
    return (*_json_checks(MAX_EVENT), origin_check(base))


def webhook_checks(
    paths: Sequence[str], secret: str | None, *, is_required: bool
) -> tuple[Check, ...]:
    """
    Make the checks of what the vendor posts.

    Args:
        paths: Where it may; they are secrets.
        secret: What the header must be, if there has to be one.
        is_required: Whether the header must be there.
    """

    def is_here(request: WebRequest) -> bool:
        path = request.path.partition("?")[0]
        # All are compared, so that time does not tell which one was near.
        return sum(_is_same(path, expected) for expected in paths) > 0

    def knows_secret(request: WebRequest) -> bool:
        given = request.headers.get(_SECRET_HEADER)
        if secret is None or given is None:
            return secret is None or not is_required
        return _is_same(given, secret)

    return (
        (is_here, HTTPStatus.NOT_FOUND, "there is nothing here"),
        (knows_secret, HTTPStatus.FORBIDDEN, "the secret is not good"),
        *_json_checks(MAX_WEBHOOK),
    )


def _json_checks(limit: int) -> tuple[Check, ...]:
    return (
        (
            lambda request: len(request.body) <= limit,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body has more than {limit} bytes",
        ),
        # Without asking first, a page of another site can post other types
        # only.
        (
            _is_json,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "the body must be application/json",
        ),
        # Unpacked it may be of any size.
        (
            _is_unpacked,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "the body must not be compressed",
        ),
    )


def _is_json(request: WebRequest) -> bool:
    content_type = request.headers.get("content-type", "")
    return content_type.partition(";")[0].strip().lower() == "application/json"


def _is_unpacked(request: WebRequest) -> bool:
    coding = request.headers.get("content-encoding", "identity")
    return coding.strip().lower() == "identity"


def _is_same(given: str, expected: str) -> bool:
    # Only bytes can be compared whatever is in them.
    return hmac.compare_digest(
        given.encode(errors="surrogatepass"),
        expected.encode(errors="surrogatepass"),
    )
