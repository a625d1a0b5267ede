"""
Everyone who creates sessions here, each in the words of its own users.
"""

import asyncio
import concurrent.futures
import itertools
import json
import ssl
import tempfile
import time

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp
import attrs
import orjson

from yarl import URL


if TYPE_CHECKING:
    from bankconnect_async import (
        AsyncBankConnect,
        SessionRequest,
        SessionStore,
    )
    from bankconnect_async.journal import Journal

# What only one contender needs is imported when that one is opened: each
# process is to hold no more than its own contender makes it hold.


#: Requests in flight, and so connections.
CONNECTIONS: Final = 100
KEY: Final = "0123456789abcdef0123456789abcdef"
RETURN: Final = "https://lender.example/return"

#: Creates one session.
Create = Callable[[str], Awaitable[object]]
#: Creates a session for each id, and returns how long each took, as far as
#: that can be seen; in seconds.
Job = Callable[[Iterable[str]], Coroutine[None, None, list[float]]]
Open = Callable[["Setting"], AbstractAsyncContextManager[Job]]


@attrs.frozen(kw_only=True)
class Target:
    """
    The server that creates sessions.

    Attributes:
        base_url: Up to and including ``/bank-connect``.
        ca_file: The authority to trust, where it is reached by TLS.
    """

    base_url: str
    ca_file: str | None = None

    @property
    def url(self) -> str:
        """Of the Session API."""
        return f"{self.base_url}/v1/session/"

    def tls(self) -> ssl.SSLContext | None:
        """Return a context that trusts the server, if it has TLS."""
        if self.ca_file is None:
            return None
        return ssl.create_default_context(cafile=self.ca_file)


@attrs.frozen(kw_only=True)
class Setting:
    """
    The work that all contenders do.

    Attributes:
        target: The server.
        connections: Requests in flight.
        parameters: Of every request, beside `link_id` and `redirect_url`.
        written: The same as they stand in JSON.
    """

    target: Target
    connections: int = CONNECTIONS
    parameters: Mapping[str, Any] = attrs.Factory(dict)
    written: Mapping[str, Any] = attrs.Factory(dict)

    def body(self, link_id: str) -> dict[str, Any]:
        """Return what has to arrive."""
        return {
            "link_id": link_id,
            "api_key": KEY,
            "redirect_url": RETURN,
            **self.written,
        }


@attrs.frozen(kw_only=True)
class Contender:
    """
    A way of creating sessions.

    Attributes:
        name: For tables.
        open: Gets it ready, and gives it back at the end.
        uvloop: Whether it runs on uvloop.
        size: Sessions in a block of measurement; fewer for who is slow.
        rounds: Share of all rounds that it takes part in.
    """

    name: str
    open: Open
    uvloop: bool = False
    size: int = 500
    rounds: float = 1.0


def by_workers(create: Create, connections: int) -> Job:
    """Share ids among workers that create one session at a time."""

    async def job(ids: Iterable[str]) -> list[float]:
        rest, seconds = iter(ids), []

        async def work() -> None:
            for link_id in rest:
                started = time.perf_counter()
                await create(link_id)
                seconds.append(time.perf_counter() - started)

        await asyncio.gather(*(work() for _ in range(connections)))
        return seconds

    return job


def open_client(
    setting: Setting, store: "SessionStore | None" = None
) -> "AsyncBankConnect":
    """
    Return a client for the server.

    Args:
        setting: The work that it does.
        store: The store of its sessions, if it has one.
    """
    from bankconnect_async import TLS, AsyncBankConnect, Pool

    ca_file = setting.target.ca_file
    return AsyncBankConnect(
        KEY,
        base_url=setting.target.base_url,
        redirect_url=RETURN,
        tls=None if ca_file is None else TLS(ca_file=ca_file),
        pool=Pool(limit=setting.connections),
        store=store,
    )


def _requester(
    setting: Setting,
) -> "Callable[[str], SessionRequest | str]":
    # A bare id is what most callers give.
    if not setting.parameters:
        return str
    from bankconnect_async import SessionRequest

    return lambda link_id: SessionRequest(
        link_id=link_id, redirect_url=RETURN, **setting.parameters
    )


@asynccontextmanager
async def open_ours(setting: Setting) -> AsyncIterator[Job]:
    """Call `create_session`, one call at a time in each worker."""
    request = _requester(setting)
    async with open_client(setting) as bank:
        yield by_workers(
            lambda link_id: bank.create_session(request(link_id)),
            setting.connections,
        )


def _in_one_batch(
    bank: "AsyncBankConnect",
    setting: Setting,
    make_journal: "Callable[[], Journal | None]" = lambda: None,
) -> Job:
    from bankconnect_async import Created

    request = _requester(setting)

    async def job(ids: Iterable[str]) -> list[float]:
        async with bank.create_sessions(
            map(request, ids),
            concurrency=setting.connections,
            journal=make_journal(),
        ) as outcomes:
            async for outcome in outcomes:
                assert isinstance(outcome, Created)
        return []

    return job


@asynccontextmanager
async def open_batch(setting: Setting) -> AsyncIterator[Job]:
    """Give all ids to `create_sessions` at once."""
    async with open_client(setting) as bank:
        yield _in_one_batch(bank, setting)


@asynccontextmanager
async def open_journal(setting: Setting) -> AsyncIterator[Job]:
    """Give all ids to `create_sessions` at once, with a journal."""
    from bankconnect_async.journal import Journal

    # A new file for each block, as each batch has one.
    numbers = itertools.count()
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        async with open_client(setting) as bank:
            yield _in_one_batch(
                bank,
                setting,
                lambda: Journal(f"{home}/{next(numbers)}.jsonl"),
            )


@asynccontextmanager
async def open_store(setting: Setting) -> AsyncIterator[Job]:
    """Give all ids to `create_sessions` at once, with a store in a file."""
    from bankconnect_async import SQLiteSessionStore

    # One file, as a service has it.
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        async with (
            SQLiteSessionStore(f"{home}/sessions.sqlite") as store,
            open_client(setting, store=store) as bank,
        ):
            yield _in_one_batch(bank, setting)


@asynccontextmanager
async def open_naive(setting: Setting) -> AsyncIterator[Job]:
    """Do as the README of aiohttp shows."""
    connector = aiohttp.TCPConnector(
        limit=setting.connections, ssl=setting.target.tls() or True
    )
    url = setting.target.url
    async with aiohttp.ClientSession(connector=connector) as session:

        async def create(link_id: str) -> object:
            body = setting.body(link_id)
            async with session.post(url, json=body) as response:
                return (await response.json())["redirect_url"]

        yield by_workers(create, setting.connections)


@asynccontextmanager
async def open_tuned(setting: Setting) -> AsyncIterator[Job]:
    """Use aiohttp as somebody would who has measured it."""
    connector = aiohttp.TCPConnector(limit=0, ssl=setting.target.tls() or True)
    url = URL(setting.target.url)
    async with aiohttp.ClientSession(
        connector=connector,
        headers={"Content-Type": "application/json"},
        skip_auto_headers=("Accept-Encoding", "User-Agent"),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None),
    ) as session:

        async def create(link_id: str) -> object:
            body = orjson.dumps(setting.body(link_id))
            response = await session.post(url, data=body)
            return orjson.loads(await response.read())["redirect_url"]

        yield by_workers(create, setting.connections)


@asynccontextmanager
async def open_httpx(setting: Setting) -> AsyncIterator[Job]:
    """Use one client of httpx for all."""
    import httpx

    url = setting.target.url
    async with httpx.AsyncClient(
        limits=httpx.Limits(max_connections=setting.connections),
        verify=setting.target.tls() or True,
        trust_env=False,
    ) as client:

        async def create(link_id: str) -> object:
            response = await client.post(url, json=setting.body(link_id))
            return response.json()["redirect_url"]

        yield by_workers(create, setting.connections)


@asynccontextmanager
async def open_requests(setting: Setting) -> AsyncIterator[Job]:
    """Use a thread for each connection, and one session of requests."""
    import requests

    url, size = setting.target.url, setting.connections
    with (
        requests.Session() as session,
        concurrent.futures.ThreadPoolExecutor(size) as threads,
    ):
        # What the environment says is looked up for every request.
        session.trust_env = False
        session.verify = setting.target.ca_file or True
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=size)
        session.mount(setting.target.base_url, adapter)

        def create(link_id: str) -> float:
            started = time.perf_counter()
            response = session.post(url, json=setting.body(link_id))
            assert response.json()["redirect_url"]
            return time.perf_counter() - started

        async def job(ids: Iterable[str]) -> list[float]:
            # The loop has nothing else to do meanwhile.
            return list(threads.map(create, ids))

        yield job


class _Connection(asyncio.Protocol):
    """
    One connection on which one request at a time waits for its answer.
    """

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._buffer = b""
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's own is none by its class.
        self._transport = cast("asyncio.WriteTransport", transport)

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        """Send *request*; the future is the body of the answer."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        _, _, rest = head.partition(b"Content-Length: ")
        if len(body) == int(rest.partition(b"\r\n")[0]):
            assert self._answer is not None
            self._buffer = b""
            self._answer.set_result(body)

    def close(self) -> None:
        """Hang up."""
        assert self._transport is not None
        self._transport.close()


@asynccontextmanager
async def open_floor(setting: Setting) -> AsyncIterator[Job]:
    """Use bare protocols that know the answers of this server only."""
    url, tls = URL(setting.target.url), setting.target.tls()
    assert url.host is not None
    assert url.port is not None
    loop = asyncio.get_running_loop()
    connections = [
        (
            await loop.create_connection(
                _Connection, url.host, url.port, ssl=tls
            )
        )[1]
        for _ in range(setting.connections)
    ]
    head = (
        f"POST {url.path} HTTP/1.1\r\nHost: {url.host}:{url.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: "
    )
    free = connections.copy()

    async def create(link_id: str) -> object:
        body = json.dumps(setting.body(link_id))
        connection = free.pop()
        answer = connection.ask(f"{head}{len(body)}\r\n\r\n{body}".encode())
        document = json.loads(await answer)
        free.append(connection)
        return document["redirect_url"]

    try:
        yield by_workers(create, setting.connections)
    finally:
        for connection in connections:
            connection.close()


NAIVE: Final = Contender(name="naive aiohttp", open=open_naive)
OURS: Final = Contender(name="create_session", open=open_ours)
BATCH: Final = Contender(name="create_sessions", open=open_batch)

_HERE: Final = (
    NAIVE,
    OURS,
    BATCH,
    Contender(name="create_sessions, journal", open=open_journal),
    Contender(name="create_sessions, SQLite store", open=open_store),
    Contender(name="tuned aiohttp", open=open_tuned),
    Contender(name="httpx", open=open_httpx, size=250, rounds=0.25),
    Contender(name="bare protocol", open=open_floor),
)

#: All of them, on each event loop where they have one.
CONTENDERS: Final = (
    *_HERE,
    Contender(name="requests", open=open_requests, size=200, rounds=0.25),
    *(
        attrs.evolve(each, name=f"{each.name}, uvloop", uvloop=True)
        for each in _HERE
    ),
)

_counter: Final = itertools.count()


def link_ids(count: int) -> Iterator[str]:
    """Yield so many link ids, one by one."""
    return (f"customer-{number}" for number in range(count))


def new_ids(count: int) -> Iterator[str]:
    """Yield link ids that nobody had before."""
    return (f"customer-{n}" for n in itertools.islice(_counter, count))
