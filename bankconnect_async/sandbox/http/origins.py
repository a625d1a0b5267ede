"""
Checks of the Host and Origin headers, against pages of other sites.
"""

from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import attrs

from aiohttp import web

from bankconnect_async._codec.session_requests import is_loopback

from .endpoints import Handler


#: The methods that change nothing.
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})

# The headers that a Django server usually allows, and that of the key.
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "accept, authorization, content-type, "
    "user-agent, x-api-key, x-csrftoken, x-requested-with",
    "Access-Control-Max-Age": "600",
}


@attrs.frozen(kw_only=True)
class OriginPolicy:
    """
    The hosts that the sandbox answers for, and the pages that may call it.

    Attributes:
        hosts: Allowed host names besides those of this machine.
        public_host: Host and port of the public URL, if there is one.
        origins: Origins whose pages may create sessions, besides those of
            this machine.
    """

    hosts: frozenset[str]
    public_host: str
    origins: frozenset[str]

    def problem(self, request: web.Request) -> str | None:
        """Return the reason to refuse a request, if there is one."""
        host = request.headers.get("Host")
        if not is_allowed_host(host, self.hosts):
            return (
                f"this sandbox does not answer for {host_name(host or '')!a}:"
                " start it with --allow-host, or Sandbox(allow_hosts=...)"
            )
        own = {(host or "").lower(), self.public_host}
        if is_cross_site(
            request.method, request.headers, own
        ) and not self._cors_origin(request):
            return (
                "the request comes from a page of another site; to let it"
                " create sessions, use --allow-origin, or"
                " Sandbox(allow_origins=...)"
            )
        return None

    @web.middleware
    async def share(
        self, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """
        Let pages create sessions (CORS).

        The vendor's React sample calls the endpoint from the browser.
        """
        origin = self._cors_origin(request)
        if origin is None:
            return await handler(request)
        if request.method == "OPTIONS":
            response: web.StreamResponse = web.Response(
                status=HTTPStatus.NO_CONTENT, headers=_PREFLIGHT
            )
        else:
            response = await handler(request)
        # A fault may have written it already.
        if not response.prepared:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Vary"] = "Origin"
        return response

    def _cors_origin(self, request: web.Request) -> str | None:
        origin = request.headers.get("Origin")
        if origin is None or not request.path.endswith("/session/"):
            return None
        netloc = _netloc(origin)
        is_local = netloc is not None and is_loopback(host_name(netloc))
        return origin if is_local or origin in self.origins else None


def host_name(host: str) -> str:
    """
    Return the name in a Host header, without its port, in lower case.
    """
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    if name.count(":") > 1:
        return name
    return name.partition(":")[0].removesuffix(".")


def is_allowed_host(host: str | None, names: Collection[str]) -> bool:
    """
    Tell whether a server of this machine may answer for *host*.

    A page can point its own name here, and a browser then treats the
    responses as that page's own (DNS rebinding).

    Args:
        host: The Host header; only programs send none.
        names: The allowed names besides those of this machine, in lower case.
    """
    if host is None:
        return True
    name = host_name(host)
    return is_loopback(name) or name in names


def is_cross_site(
    method: str, headers: Mapping[str, str], own: Collection[str]
) -> bool:
    """
    Tell whether a page of another origin sends a request that changes things.

    Browsers send `Sec-Fetch-Site` or `Origin`, programs send neither.

    Args:
        method: The HTTP method.
        headers: A case-insensitive mapping of the headers.
        own: The hosts and ports of our own origins, as in a Host header.
    """
    if method in SAFE:
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site.lower() not in {"same-origin", "none"}
    origin = headers.get("origin")
    return origin is not None and _netloc(origin) not in own


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
