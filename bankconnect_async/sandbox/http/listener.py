"""
The sockets below the HTTP server, where connections are accepted or refused.
"""

import asyncio
import contextlib
import os
import socket

from collections.abc import Callable, Coroutine
from ssl import SSLContext
from typing import Any, Final

import attrs

from aiohttp import web
from yarl import URL

from bankconnect_async.sandbox.faults.behaviours import reset
from bankconnect_async.sandbox.faults.catalogue import Fault


#: Addresses that mean every interface, and where a browser finds them.
WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104

_BACKLOG: Final = 1024
# Long enough to close some files when too many are open.
_ACCEPT_PAUSE: Final = 0.05


class _ListeningSocket(socket.socket):
    """
    A listening socket that remembers the connections it accepts.

    asyncio loses a connection that is accepted while its task is cancelled.
    """

    accepted: set[socket.socket]

    def accept(self) -> tuple[socket.socket, Any]:
        sock, address = super().accept()
        self.accepted.add(sock)
        return sock, address


@attrs.define(eq=False, kw_only=True)
class ConnectionListener:
    """
    Accepts connections and hands them to an HTTP server.

    Attributes:
        host, port: The address to listen on; port 0 is any free one.
        ssl: The TLS context of an https server.
        server: The HTTP server.
        next_fault: Returns the fault of the next connection, if any.
        origin: Scheme, host and port of the server's URL.
    """

    host: str
    port: int
    ssl: SSLContext | None
    server: web.Server
    next_fault: Callable[[], Fault | None]
    origin: str = attrs.field(init=False, default="")
    _sockets: list[_ListeningSocket] = attrs.field(init=False, factory=list)
    # Accepted sockets that the server does not have yet.
    _accepted: set[socket.socket] = attrs.field(init=False, factory=set)
    _tasks: set[asyncio.Task[None]] = attrs.field(init=False, factory=set)

    async def start(self) -> None:
        """
        Listen.

        Raises:
            OSError: If the address is not available.
        """
        infos = await asyncio.get_running_loop().getaddrinfo(
            self.host,
            self.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
        port = self.port
        for family, _, _, _, address in dict.fromkeys(infos):
            host, _, *scope = address
            self._bind(family, (host, port, *scope))
            port = self._sockets[-1].getsockname()[1]
        bound: str = self._sockets[0].getsockname()[0]
        self.origin = str(
            URL.build(
                scheme="http" if self.ssl is None else "https",
                host=WILDCARDS.get(bound, bound),
                port=port,
            )
        )
        self.resume()

    async def close(self) -> None:
        """
        Stop listening; connections of the server stay open.
        """
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            # Otherwise the loop may accept once more for a cancelled task.
            # Loops without readers do not.
            with contextlib.suppress(NotImplementedError):
                loop.remove_reader(sock)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        # The loop releases a socket when its task has ended.
        if tasks:
            await asyncio.wait(tasks)
        for each in (*self._sockets, *self._accepted):
            each.close()
        self._sockets.clear()
        self._accepted.clear()

    async def pause(self) -> None:
        """
        Refuse new connections, reset open ones, and keep the address.
        """
        bound = [(sock.family, sock.getsockname()) for sock in self._sockets]
        await self.close()
        # A socket that is bound and does not listen refuses connections, and
        # keeps others from taking the address.
        for family, address in bound:
            self._bind(family, address)
        for protocol in self.server.connections:
            if protocol.transport is not None:
                reset(protocol.transport)

    def resume(self) -> None:
        """
        Listen again after `pause`, unless it was closed meanwhile.
        """
        for sock in self._sockets:
            sock.listen(_BACKLOG)
            self._create_task(self._accept(sock))

    def _bind(self, family: int, address: tuple[Any, ...]) -> None:
        sock = _ListeningSocket(family, socket.SOCK_STREAM)
        self._sockets.append(sock)
        sock.accepted = self._accepted
        sock.setblocking(False)
        # On Windows it would let two servers share a port.
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)

    def _create_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: _ListeningSocket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listening)
            except OSError:
                await asyncio.sleep(_ACCEPT_PAUSE)
            else:
                self._create_task(self._serve(sock))

    async def _serve(self, sock: socket.socket) -> None:
        fault = self.next_fault()
        is_good = fault is None or await fault.behaviour.on_connect(sock)
        self._accepted.discard(sock)
        if not is_good:
            sock.close()
            return
        # A TLS handshake that fails is the caller's problem.
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(
                self.server, sock, ssl=self.ssl
            )
