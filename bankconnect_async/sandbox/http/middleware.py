"""
What stands between the sockets and the handlers: it counts, and does harm.
"""

import asyncio
import collections
import functools

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import attrs

from aiohttp import web

from bankconnect_async.clock import Clock
from bankconnect_async.sandbox.faults.behaviours import (
    ConnectFaultBehaviour,
    FaultContext,
)
from bankconnect_async.sandbox.faults.catalogue import Fault
from bankconnect_async.sandbox.faults.plans import Faults

from .bodies import parse_body
from .endpoints import (
    PREFIX,
    Handler,
    json_response,
    method_not_allowed_response,
    not_found_response,
    read_request,
)
from .errors import ApiError
from .listener import Connection
from .origins import host_name, is_allowed_host, is_cross_site
from .storage import FILES


_UPLOADS: Final = f"{PREFIX}/v1/statement/"
# A large statement, in base64.
_MAX_UPLOAD: Final = 24 * 2**20
_BAD: Final = HTTPStatus.BAD_REQUEST


@attrs.define(eq=False, kw_only=True)
class RequestMiddleware:
    """
    Sees every connection and every request first.

    Attributes:
        clock: What time it is.
        faults: What goes wrong.
        hosts: Names that are answered for, besides those of this machine.
        public_host: Host and port of the public URL, if there is one.
        connections: How many there were.
        requests: How many there were, good and bad.
        received: How many of the API each link id had; "" for none.
        processed: How many of each operation were, of each link id and of
            `None` for all.
        link_id_of: Tells the link id of a session or an entity.
    """

    clock: Clock
    faults: Faults
    hosts: frozenset[str] = frozenset()
    public_host: str = ""
    connections: int = attrs.field(init=False, default=0)
    requests: int = attrs.field(init=False, default=0)
    received: collections.Counter[str] = attrs.field(
        init=False, factory=collections.Counter
    )
    processed: collections.Counter[tuple[str, str | None]] = attrs.field(
        init=False, factory=collections.Counter
    )
    link_id_of: Callable[[str], str | None] = attrs.field(
        init=False, default=lambda _: None
    )
    _striking: set[asyncio.Task[object]] = attrs.field(init=False, factory=set)

    def knock(self) -> ConnectFaultBehaviour | None:
        """
        Return what a new connection meets before it is let in.
        """
        self.connections += 1
        return self.faults.on_connect()

    @web.middleware
    async def attend(
        self, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """
        Let a request be handled, or spoil it.
        """
        self.requests += 1
        if stranger := self._refuse_stranger(request):
            return stranger
        if request.path.startswith(_UPLOADS):
            request = request.clone(client_max_size=_MAX_UPLOAD)
        if not request.path.startswith((PREFIX, FILES)):
            return await _process(handler, request)
        link_id = await self._link_id(request)
        process = functools.partial(self._process, handler, request, link_id)
        self.received[link_id] += 1
        connection = _connection(request)
        # Who has hung up already is beyond any harm.
        fault = self.faults.next_request_fault(link_id) if connection else None
        if fault is None or connection is None:
            return await process()
        context = FaultContext(
            connection=connection, process=process, now=self.clock.time
        )
        return await self._strike(fault, context)

    def _refuse_stranger(self, request: web.Request) -> web.Response | None:
        host = request.headers.get("Host")
        if not is_allowed_host(host, self.hosts):
            # 401 and 403 would be put down to the key.
            return _refused(
                f"this sandbox does not answer for {host_name(host or '')!a}:"
                " start it with --allow-host, or Sandbox(allow_hosts=...)"
            )
        own = {(host or "").lower(), self.public_host}
        if is_cross_site(request.method, request.headers, own):
            return _refused("the request comes from a page of another site")
        return None

    async def end(self) -> None:
        """
        Break off what takes its time.
        """
        tasks = list(self._striking)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _process(
        self, handler: Handler, request: web.Request, link_id: str
    ) -> web.StreamResponse:
        answer = await _process(handler, request)
        operation = request.path.rstrip("/").rpartition("/")[2]
        # Creates are counted where sessions are: in a load experiment they
        # are too many for one more count of each link id.
        if answer.status < _BAD and not request.path.endswith("/session/"):
            self.processed[operation, None] += 1
            self.processed[operation, link_id] += 1
        return answer

    async def _link_id(self, request: web.Request) -> str:
        parameters = await _parameters(request)
        link_id = parameters.get("link_id")
        for name in ("session_id", "entity_id"):
            if link_id is None and isinstance(parameters.get(name), str):
                link_id = self.link_id_of(parameters[name])
        path = request.match_info.get("path")
        if link_id is None and path is not None:
            link_id = self.link_id_of(path.partition("/")[0])
        return link_id if isinstance(link_id, str) else ""

    async def _strike(
        self, fault: Fault, context: FaultContext
    ) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in a coroutine
        self._striking.add(task)
        try:
            return await fault.apply(context)
        finally:
            self._striking.discard(task)


async def _process(
    handler: Handler, request: web.Request
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return not_found_response()
    except web.HTTPMethodNotAllowed as exc:
        return method_not_allowed_response(
            request.path, request.method, exc.allowed_methods
        )


def _refused(message: str) -> web.Response:
    return json_response({"message": message}, status=_BAD)


def _connection(request: web.Request) -> Connection | None:
    transport = request.transport
    protocol = None if transport is None else transport.get_protocol()
    return protocol if isinstance(protocol, Connection) else None


async def _parameters(request: web.Request) -> Mapping[str, Any]:
    try:
        body = parse_body(await read_request(request))
    except ApiError:
        body = {}
    return {**request.query, **request.match_info, **body}
