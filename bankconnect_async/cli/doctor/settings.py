"""
The settings that the checks try out.
"""

import os
import ssl

from typing import Final

import attrs

from yarl import URL

from bankconnect_async import __version__
from bankconnect_async.config import (
    Secret,
    Service,
    parse_proxy,
    proxy_secrets,
    read_environment,
)
from bankconnect_async.environment import find_proxy


_PROXY: Final = "BANKCONNECT_PROXY"


@attrs.frozen(kw_only=True)
class Route:
    """
    The way to a server: a proxy, if any, and the trusted certificates.

    Attributes:
        tls: The TLS context.
        proxy: The address of the proxy, without credentials.
        credentials: The value of its Proxy-Authorization header.
        source: The variable or option that names the proxy.
    """

    tls: ssl.SSLContext
    proxy: URL | None = None
    credentials: Secret | None = None
    source: str | None = None

    def proxy_headers(self) -> dict[str, str]:
        """Return the headers for the proxy."""
        if self.credentials is None:
            return {}
        return {"Proxy-Authorization": self.credentials}


@attrs.frozen(kw_only=True)
class Secrets:
    """
    The secrets of the API.

    Attributes:
        api_key, server_hash: The secrets, if they are set.
    """

    api_key: Secret | None = None
    server_hash: Secret | None = None

    def headers(
        self, *, with_key: bool = True, with_hash: bool = False
    ) -> dict[str, str]:
        """Return the headers of a request."""
        headers = {
            "Accept": "application/json",
            "User-Agent": f"bankconnect-async/{__version__} doctor",
        }
        if with_key and self.api_key is not None:
            headers["x-api-key"] = self.api_key
        if with_hash and self.server_hash is not None:
            headers["server-hash"] = self.server_hash
        return headers

    def all(self, route: Route) -> tuple[str, ...]:
        """Return all texts that no line may show."""
        own = filter(None, (self.api_key, self.server_hash))
        return (*own, *proxy_secrets(route.credentials))


def make_route(
    service: Service, tls: ssl.SSLContext, proxy: str | None
) -> Route:
    """
    Find the proxy, as a client does.

    Args:
        service: The API.
        tls: The TLS context.
        proxy: The value of ``--proxy``.

    Raises:
        ConfigurationError: If the proxy's address is wrong.
    """
    own = read_environment(os.environ, {"proxy": _PROXY})
    if proxy is not None:
        source, address = "--proxy", Secret(proxy)
    elif own:
        source, address = _PROXY, Secret(own["proxy"])
    elif found := find_proxy(os.environ, service.base_url):
        source, address = found
    else:
        return Route(tls=tls)
    parsed, credentials = parse_proxy(address)
    return Route(tls=tls, proxy=parsed, credentials=credentials, source=source)
