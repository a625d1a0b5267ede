"""
The sockets under the HTTP server, where connections are let in and broken.
"""

import asyncio
import contextlib
import ipaddress
import os
import socket
import struct

from collections.abc import Callable, Coroutine
from ssl import SSLContext
from typing import Any, Final, Protocol, cast

import attrs

from yarl import URL


_BACKLOG: Final = 1024
# Longer than it takes to close a few of the files that there are too many of.
_BREATHER: Final = 0.05
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


def reset_on_close(sock: socket.socket) -> None:
    """
    Let the end of a connection be a reset instead of a goodbye.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


class ConnectFault(Protocol):
    """
    What can go wrong before a connection is let in.
    """

    async def on_connect(self, sock: socket.socket, /) -> bool:
        """Tell whether it is, after doing the harm."""
        ...


class Connection(asyncio.Protocol):
    """
    One connection: passes everything on, and can be broken.

    Attributes:
        lost: Set when it is over.
        pieces: How many pieces of data came.
    """

    def __init__(
        self, inner: asyncio.Protocol, among: set["Connection"]
    ) -> None:
        self._inner = inner
        self._among = among
        self._transport: asyncio.Transport | None = None
        self.lost = asyncio.Event()
        self.pieces = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, from below TLS upward."""
        self._transport = cast("asyncio.Transport", transport)
        self._among.add(self)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell those who wait for the end."""
        self._transport = None
        self._among.discard(self)
        self.lost.set()
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count, and pass on."""
        self.pieces += 1
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        self._inner.resume_writing()

    def write(self, content: bytes) -> None:
        """Send bytes past HTTP."""
        if self._transport is not None:
            self._transport.write(content)

    def close(self) -> None:
        """End it in good order, once everything is sent."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """End it with a reset."""
        if self._transport is not None:
            reset_on_close(self._transport.get_extra_info("socket"))
            self._transport.abort()

    def close_if_idle(self, seconds: float) -> None:
        """End it in *seconds*, unless something comes before."""
        pieces = self.pieces

        def close() -> None:
            if self.pieces == pieces:
                self.close()

        asyncio.get_running_loop().call_later(seconds, close)


class _Entrance(socket.socket):
    """
    A listening socket that notes whom it let in.

    A task that is cancelled when its connection was accepted a moment ago
    would lose it.
    """

    def __init__(
        self, family: int, address: tuple[Any, ...], inside: set[socket.socket]
    ) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._inside = inside
        try:
            self._bind(address)
        except BaseException:
            self.close()
            raise

    def _bind(self, address: tuple[Any, ...]) -> None:
        self.setblocking(False)
        # Elsewhere it would let two servers share a port.
        if os.name == "posix":
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.family == socket.AF_INET6:
            self.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.bind(address)

    def accept(self) -> tuple[socket.socket, Any]:
        sock, address = super().accept()
        self._inside.add(sock)
        return sock, address


@attrs.define(eq=False, kw_only=True)
class ConnectionListener:
    """
    Lets connections in.

    Attributes:
        host, port: Where; port 0 is any free one.
        ssl: Speak TLS with it.
        protocol: Makes what serves one connection.
        fault: Asked once for each connection, first of all.
    """

    host: str
    port: int
    ssl: SSLContext | None
    protocol: Callable[[], asyncio.Protocol]
    fault: Callable[[], ConnectFault | None]
    _sockets: list[_Entrance] = attrs.field(init=False, factory=list)
    # Accepted, and not yet served.
    _waiting: set[socket.socket] = attrs.field(init=False, factory=set)
    _tasks: set[asyncio.Task[None]] = attrs.field(init=False, factory=set)
    _connections: set[Connection] = attrs.field(init=False, factory=set)

    @property
    def origin(self) -> str:
        """Scheme, host and port at which it is found."""
        host, port, *_ = self._sockets[0].getsockname()
        # Listening everywhere is no address to send anybody to.
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"  # noqa: PLR2004
        scheme = "http" if self.ssl is None else "https"
        return str(URL.build(scheme=scheme, host=host, port=port))

    async def open(self) -> None:
        """
        Listen.

        Raises:
            OSError: If the address cannot be had.
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
            sock = self._bind(family, (host, port, *scope))
            port = sock.getsockname()[1]
        self._listen()

    async def close(self) -> None:
        """
        Let nobody in any more; who is in stays.
        """
        loop = asyncio.get_running_loop()
        for entrance in self._sockets:
            # Else it may accept once more, for a task that is cancelled. Loops
            # without readers do not.
            with contextlib.suppress(NotImplementedError):
                loop.remove_reader(entrance)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        # The loop forgets a socket only when who waited for it is gone.
        if tasks:
            await asyncio.wait(tasks)
        for sock in (*self._sockets, *self._waiting):
            sock.close()
        self._sockets.clear()
        self._waiting.clear()

    async def shut(self) -> None:
        """
        Refuse and reset all connections, and keep the address.
        """
        bound = [(sock.family, sock.getsockname()) for sock in self._sockets]
        await self.close()
        # Bound, but not listening: nobody is there and nobody moves in.
        for family, address in bound:
            self._bind(family, address)
        for connection in list(self._connections):
            connection.reset()

    def reopen(self) -> None:
        """
        Listen again after `shut`.
        """
        # It was closed meanwhile if there are none.
        if self._sockets:
            self._listen()

    def _bind(self, family: int, address: tuple[Any, ...]) -> _Entrance:
        sock = _Entrance(family, address, self._waiting)
        self._sockets.append(sock)
        return sock

    def _listen(self) -> None:
        for sock in self._sockets:
            sock.listen(_BACKLOG)
            self._start(self._accept(sock))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, entrance: _Entrance) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(entrance)
            except OSError:
                await asyncio.sleep(_BREATHER)
            else:
                self._start(self._admit(sock))

    async def _admit(self, sock: socket.socket) -> None:
        fault = self.fault()
        is_in = fault is None or await fault.on_connect(sock)
        self._waiting.discard(sock)
        if not is_in:
            sock.close()
            return
        # A handshake that fails is the caller's news, not ours.
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(
                self._connect, sock, ssl=self.ssl
            )

    def _connect(self) -> Connection:
        return Connection(self.protocol(), self._connections)
