"""
Tell requests of our own pages from those that other sites make browsers send.
"""

from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import urlsplit

from bankconnect_async._codec.session_requests import is_loopback


#: Methods that change nothing.
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

    A page can make its own name lead here, and a browser then takes what we
    answer for that page's own (DNS rebinding).

    Args:
        host: The Host header; only programs send none.
        names: Allowed besides names of this machine, in lower case.
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

    Programs send neither of the headers that tell, browsers at least one.

    Args:
        method: Of HTTP.
        headers: By name, in any case that the mapping takes.
        own: Host and port of our own origins, as a Host header has them.
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
