"""
Client sessions of aiohttp, with the settings that requests rely on.
"""

import functools
import socket
import ssl

from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp

from bankconnect_async.config import Pool
from bankconnect_async.errors import ConfigurationError

from .connections import HEAD_LIMITS, make_connector, request_class


#: What a session sets for all its requests; over a borrowed one, each request
#: sets it itself.
SESSION_OPTIONS: Final[Mapping[str, Any]] = {
    "raise_for_status": False,
    "auto_decompress": False,
    "middlewares": (),
    "timeout": aiohttp.ClientTimeout(total=None),
    **HEAD_LIMITS,
}
# Default headers of a borrowed session that would break requests.
_FRAMING: Final = frozenset(
    {
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "transfer-encoding",
        "upgrade",
    }
)
# Larger than the 256 KiB that asyncio reads into.
_LARGE_BLOCK: Final = 2**20


def make_client_session(
    pool: Pool,
    *,
    headers: Mapping[str, str],
    tls: ssl.SSLContext | None,
    open_socket: Callable[[aiohttp.AddrInfoType], socket.socket],
) -> aiohttp.ClientSession:
    """
    Return a session whose pool of connections has no limit of its own.

    aiohttp would count queueing as request time and knows no separate limit
    for it, so requests queue before they come here.

    Args:
        pool: The settings of the pool.
        headers: The headers of every request.
        tls: The TLS context; `None` for the system's certificates.
        open_socket: The function that opens each socket.
    """
    _keep_read_buffers()
    connector = make_connector(
        pool,
        limit=0,
        ssl=True if tls is None else tls,
        socket_factory=open_socket,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        request_class=request_class(connector),
        headers=headers,
        **SESSION_OPTIONS,
    )


@functools.cache
def _keep_read_buffers() -> None:
    # Until a block this large was freed once, glibc maps and unmaps the
    # buffer of every read (mallopt(3), M_MMAP_THRESHOLD): three system calls
    # and two page faults, a sixth of what a session costs. Some blocks at a
    # time: free memory of the heap may serve for the first ones.
    blocks = [bytes(_LARGE_BLOCK) for _ in range(8)]
    del blocks


def refuse_framing(session: aiohttp.ClientSession) -> None:
    """
    Refuse a borrowed session whose default headers would break requests.

    Raises:
        ConfigurationError: If it has such headers.
    """
    names = sorted(
        name for name in session.headers if name.lower() in _FRAMING
    )
    if names:
        raise ConfigurationError(
            fields={
                "client_session": (
                    f"has default headers that belong to single requests: "
                    f"{', '.join(names)}",
                )
            }
        )
