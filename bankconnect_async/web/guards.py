"""
Checks that a request passes before the service reads it, as tables.
"""

import hmac

from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Final, TypeAlias

from yarl import URL

from .http import MAX_EVENT, MAX_WEBHOOK, WebRequest, WebResponse, plain


#: A predicate, and the status and the text of the response if it is false.
Check: TypeAlias = tuple[Callable[[WebRequest], bool], HTTPStatus, str]

_KEY_HEADER: Final = "x-secret-key"
# The headers by which browsers mark a request that nobody asked for yet.
_PURPOSE_HEADERS: Final = ("sec-purpose", "purpose", "x-purpose", "x-moz")


def apply_checks(
    request: WebRequest, checks: Iterable[Check]
) -> WebResponse | None:
    """
    Return the response of the first check that fails, if any.
    """
    for passes, status, text in checks:
        if not passes(request):
            return plain(status, text)
    return None


def _is_visit(request: WebRequest) -> bool:
    # Frameworks may route a HEAD request as a GET.
    return request.method in {"GET", "POST"}


def _is_navigation(request: WebRequest) -> bool:
    return request.headers.get("sec-fetch-dest", "document") == "document"


def _is_not_prefetch(request: WebRequest) -> bool:
    return not any(
        purpose in request.headers.get(name, "").lower()
        for name in _PURPOSE_HEADERS
        for purpose in ("prefetch", "preview", "prerender")
    )


#: The checks of a page that creates a session.
VISIT_CHECKS: Final[tuple[Check, ...]] = (
    (
        _is_visit,
        HTTPStatus.METHOD_NOT_ALLOWED,
        "this page takes GET and POST only",
    ),
    (
        _is_navigation,
        HTTPStatus.FORBIDDEN,
        "this page must be opened in a tab of its own",
    ),
    (
        _is_not_prefetch,
        HTTPStatus.FORBIDDEN,
        "this page must not be fetched ahead",
    ),
)


def is_cross_site(request: WebRequest) -> bool:
    """
    Tell whether a page of another site has opened this one.
    """
    return request.headers.get("sec-fetch-site", "").lower() == "cross-site"


def origin_check(base: URL) -> Check:
    """
    Make the check that a page of the service at *base* sent the request.
    """
    # As browsers write it: in lower case, and without a default port.
    origin = str(URL(str(base.origin()).lower()).origin())

    def is_same_origin(request: WebRequest) -> bool:
        site = request.headers.get("sec-fetch-site", "same-origin")
        # Every browser names the origin of a post; older ones not the site.
        return (
            request.headers.get("origin") == origin and site == "same-origin"
        )

    return (
        is_same_origin,
        HTTPStatus.FORBIDDEN,
        "the request comes from another site: its header Origin is not that "
        "of the service",
    )


def event_checks(base: URL) -> tuple[Check, ...]:
    """
    Make the checks of an event that a page of the service posts.
    """
    return (*_json_checks(MAX_EVENT), origin_check(base))


def webhook_checks(
    paths: Sequence[str], secret: str | None, *, is_required: bool
) -> tuple[Check, ...]:
    """
    Make the checks of a webhook.

    Args:
        paths: The secret paths at which webhooks arrive.
        secret: The expected value of the header, if one is configured.
        is_required: Whether a webhook without the header is refused.
    """

    def has_path(request: WebRequest) -> bool:
        path = request.path.partition("?")[0]
        # All are compared, so that time does not tell which one was near.
        return sum(_is_same(path, expected) for expected in paths) > 0

    def has_secret(request: WebRequest) -> bool:
        given = request.headers.get(_KEY_HEADER)
        if secret is None or given is None:
            return secret is None or not is_required
        return _is_same(given, secret)

    return (
        (has_path, HTTPStatus.NOT_FOUND, "there is nothing at this address"),
        (has_secret, HTTPStatus.FORBIDDEN, "the secret is wrong or missing"),
        *_json_checks(MAX_WEBHOOK),
    )


def _json_checks(limit: int) -> tuple[Check, ...]:
    return (
        (
            lambda request: len(request.body) <= limit,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body has more than {limit} bytes",
        ),
        # A page of another site can post other types only, unless a
        # preflight request allows it.
        (
            _is_json,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "the body must be application/json",
        ),
        # A compressed body can have any size once it is decompressed.
        (
            is_uncompressed,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "the body must not be compressed",
        ),
    )


def _is_json(request: WebRequest) -> bool:
    content_type = request.headers.get("content-type", "")
    return content_type.partition(";")[0].strip().lower() == "application/json"


def is_uncompressed(request: WebRequest) -> bool:
    """
    Tell whether the body is as long as it seems.
    """
    coding = request.headers.get("content-encoding", "identity")
    return coding.strip().lower() == "identity"


def _is_same(given: str, expected: str) -> bool:
    # `compare_digest` takes text only if it is ASCII.
    return hmac.compare_digest(
        given.encode(errors="surrogatepass"),
        expected.encode(errors="surrogatepass"),
    )
