"""
The GET requests of the checks.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from yarl import URL

from bankconnect_async._http.error_mapping import map_error

from .settings import Route


_TIMEOUT: Final = aiohttp.ClientTimeout(total=20)
_NO_HEADERS: Final[Mapping[str, str]] = {}


@asynccontextmanager
async def send_get(
    http: aiohttp.ClientSession,
    url: URL,
    route: Route,
    headers: Mapping[str, str] = _NO_HEADERS,
) -> AsyncIterator[aiohttp.ClientResponse]:
    """
    Send a GET request, and follow no redirect.

    Args:
        http: The HTTP client.
        url: The URL.
        route: The way to its server.
        headers: The headers for the server.

    Raises:
        TransportError: If there is no response, or it breaks off.
    """
    for_proxy = route.proxy_headers()
    # aiohttp sends them with CONNECT only.
    is_plain = url.scheme == "http"
    try:
        async with http.get(
            url,
            headers={**headers, **for_proxy} if is_plain else headers,
            proxy=route.proxy,
            proxy_headers=for_proxy,
            ssl=route.tls,
            timeout=_TIMEOUT,
            allow_redirects=False,
        ) as response:
            yield response
    except (aiohttp.ClientError, TimeoutError, OSError) as exc:
        raise map_error(exc, None, route.proxy) from None
