"""
Checks of the Host and Origin headers, against pages of other sites.
"""

from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import urlsplit

from bankconnect_async._codec.session_requests import is_loopback


#: The methods that change nothing.
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


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
