"""
Shared fixtures of the reliability tests: routes to a sandbox, a proxy, seeds.
"""

import asyncio
import os
import secrets
import socket
import ssl
import struct
import time

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import aiohttp
import attrs
import pytest
import trustme

from yarl import URL

from bankconnect_async import AsyncBankConnect, BankConnectError, Session
from bankconnect_async.clock import Clock
from bankconnect_async.sandbox import Sandbox


SEED = "RELIABILITY_SEED"


@pytest.fixture(name="seed")
def _seed() -> int:
    """
    Return the seed of all randomness in a test; it is printed for
    reproduction.
    """
    seed = int(os.environ.get(SEED) or secrets.randbits(32))
    print(f"{SEED}={seed}")
    return seed


class Hurry:
    """
    A clock that is right, on which nobody has to wait.

    Other than on a `FakeClock`, many calls can wait at once without taking
    the time out of each other's deadlines.
    """

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    async def sleep(self, _: float, /) -> None:
        await asyncio.sleep(0)


HURRY = Hurry()


class Proxy:
    """
    A proxy that tunnels, and hands on requests of plain HTTP byte by byte.

    A connection that breaks on one side breaks on the other, the same way.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> URL:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        return URL.build(scheme="http", host=host, port=port)

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        # Who goes away early, or is not there, is what tests are about.
        with suppress(
            OSError, asyncio.IncompleteReadError, asyncio.CancelledError
        ):
            await self._forward(reader, writer)
        writer.close()
        self._tasks.discard(task)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.decode().split(" ", 2)
        url = URL(f"//{target}" if method == "CONNECT" else target)
        try:
            upstream = await asyncio.open_connection(url.host, url.port)
        except OSError:
            writer.write(
                b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
            )
            await writer.drain()
            return
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            upstream[1].write(head)
        await asyncio.gather(
            pump(reader, upstream[1]), pump(upstream[0], writer)
        )


async def pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Pass bytes on until the end, and the end as well."""
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        writer.transport.abort()
    finally:
        writer.close()


@attrs.frozen
class Route:
    """
    A route from the client to the sandbox.
    """

    tls: bool = False
    proxy: bool = False
    borrowed: dict[str, Any] | None = None


#: By the name that is part of a test's id.
ROUTES = {
    "tcp": Route(),
    "tls": Route(tls=True),
    "proxy": Route(proxy=True),
    "proxy-tls": Route(tls=True, proxy=True),
    "borrowed": Route(borrowed={}),
    "borrowed-strict": Route(
        borrowed={
            "raise_for_status": True,
            "headers": {
                "Content-Type": "text/plain",
                "X-Api-Key": "theirs",
                "X-Theirs": "1",
            },
            "timeout": aiohttp.ClientTimeout(total=1e-3),
        }
    ),
}


@pytest.fixture(name="contexts", scope="session")
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the TLS contexts of a server and of a client that trusts it."""
    authority = trustme.CA()
    of_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(of_server)
    of_client = ssl.create_default_context()
    authority.configure_trust(of_client)
    return of_server, of_client


@pytest.fixture(name="meet", scope="session")
def _meet(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Callable:
    """
    Bring a sandbox and a client together.

    ``async with meet("tls", **settings of the client) as (sandbox, bank)``
    """
    of_server, of_client = contexts

    @asynccontextmanager
    async def meet(
        route: str = "tcp", *, clock: Clock = HURRY, **settings: Any
    ) -> AsyncIterator[tuple[Sandbox, AsyncBankConnect]]:
        way = ROUTES[route]
        async with AsyncExitStack() as stack:
            sandbox = await stack.enter_async_context(
                Sandbox(clock=clock, ssl=of_server if way.tls else None)
            )
            if way.proxy:
                settings["proxy"] = await stack.enter_async_context(Proxy())
            if way.borrowed is not None:
                settings["client_session"] = await stack.enter_async_context(
                    aiohttp.ClientSession(**way.borrowed)
                )
            elif way.tls:
                settings["tls"] = of_client
            bank = await stack.enter_async_context(
                AsyncBankConnect(
                    sandbox.api_key,
                    base_url=sandbox.base_url,
                    redirect_url=None,
                    clock=clock,
                    **settings,
                )
            )
            yield sandbox, bank

    return meet


@pytest.fixture(name="call_all", scope="session")
def _call_all() -> Callable:
    """Create a session for each link id, so many at once."""

    async def call_all(
        bank: AsyncBankConnect, link_ids: Iterable[str], *, at_once: int = 50
    ) -> dict[str, Session | BankConnectError]:
        left, outcomes = iter(link_ids), {}

        async def work() -> None:
            for link_id in left:
                try:
                    outcomes[link_id] = await bank.create_session(link_id)
                except BankConnectError as error:
                    outcomes[link_id] = error

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())
        return outcomes

    return call_all
