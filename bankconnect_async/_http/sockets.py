"""
Polls of single sockets, which tell whether the peer has closed them.
"""

import asyncio
import select
import sys

from collections.abc import Callable
from typing import Any, Final

import aiohttp

from aiohttp.abc import AbstractStreamWriter


# Windows polls otherwise.
READABLE: Final = getattr(select, "POLLIN", 0)
# A TLS server may write before it is asked (RFC 8446, 4.6), so bytes to read
# on a new connection do not mean that it has closed. On Linux this does.
HANG_UP: Final = getattr(select, "POLLRDHUP", 0)


def refuse_closed(writer: AbstractStreamWriter) -> None:
    """
    Check that the peer has not closed the connection of *writer*.

    This uses only public parts of aiohttp, for connections that no
    `PollingConnector` made.

    Raises:
        aiohttp.ClientConnectionResetError: If it has.
    """
    transport = writer.transport
    if (
        transport is None
        or transport.is_closing()
        or make_poll(transport, HANG_UP)(0)
    ):
        raise aiohttp.ClientConnectionResetError(
            "the server has closed the connection"
        )


def make_poll(
    transport: asyncio.BaseTransport, events: int
) -> Callable[[int], list[Any]]:
    """
    Return a function that polls the socket of a transport for *events*.

    It takes the milliseconds to wait, and returns what it found.
    """
    sock = transport.get_extra_info("socket")
    if sock is None:
        return lambda _: []
    if sys.platform == "win32":  # which has no poll
        return lambda _: select.select([sock], [], [], 0)[0]
    poll = select.poll()
    poll.register(sock, events)
    return poll.poll
