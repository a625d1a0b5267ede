"""
The middleware of all requests: checks, counters and faults.
"""

import asyncio
import collections
import functools
import logging

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

import attrs
import orjson

from aiohttp import web

from bankconnect_async._printable import one_line
from bankconnect_async.clock import Clock
from bankconnect_async.sandbox.faults.behaviours import FaultContext
from bankconnect_async.sandbox.faults.catalogue import Fault
from bankconnect_async.sandbox.faults.plans import Faults
from bankconnect_async.sandbox.records import ReceivedRequest

from .endpoints import (
    PREFIX,
    Handler,
    json_response,
    method_not_allowed_response,
    not_found_response,
    read_parameters,
)
from .errors import ApiError, JsonObject
from .origins import OriginPolicy
from .storage import FILES


_UPLOADS: Final = f"{PREFIX}/v1/statement/"
# A large statement, in base64.
_MAX_UPLOAD: Final = 24 * 2**20
_MAX_LOG: Final = 1000
# Seconds until a connection that is about to be closed is looked at again.
_BUSY_PAUSE: Final = 0.001
# The most characters of a path in a line.
_MAX_PATH: Final = 200
# The largest parameters in the log, in bytes of JSON.
_MAX_LOGGED: Final = 16 * 2**10
# Parameters that the log leaves out. A file in Base64 is too large for it.
_SECRET: Final = frozenset(
    {"api_key", "file", "file_url", "pdf_password", "signature"}
)

_log: Final = logging.getLogger("bankconnect_async.sandbox.requests")


@attrs.define(eq=False, kw_only=True)
class RequestMiddleware:
    """
    Checks and counts every request, and applies faults to it.

    Attributes:
        clock: The clock.
        faults: The faults.
        policy: The policy on hosts and origins.
        link_id_of: Returns the link id of a session or an entity.
        connections: The number of connections.
        requests: The number of requests, good and bad.
        received: The number of API requests by link id; "" for none.
        request_log: The newest API requests, the oldest first.
        processed: The number of good responses by operation and link id, and
            by operation and `None` for all link ids.
    """

    clock: Clock
    faults: Faults
    policy: OriginPolicy
    link_id_of: Callable[[str], str | None]
    connections: int = attrs.field(init=False, default=0)
    requests: int = attrs.field(init=False, default=0)
    received: collections.Counter[str] = attrs.field(
        init=False, factory=collections.Counter
    )
    request_log: collections.deque[ReceivedRequest] = attrs.field(
        init=False, factory=lambda: collections.deque(maxlen=_MAX_LOG)
    )
    processed: collections.Counter[tuple[str, str | None]] = attrs.field(
        init=False, factory=collections.Counter
    )
    _faulty: set[asyncio.Task[web.StreamResponse]] = attrs.field(
        init=False, factory=set
    )
    _idle_timers: dict[web.RequestHandler, asyncio.TimerHandle] = attrs.field(
        init=False, factory=dict
    )

    def next_connect_fault(self) -> Fault | None:
        """
        Count a new connection, and return its fault.
        """
        self.connections += 1
        return self.faults.next_connect_fault()

    @web.middleware
    async def handle(
        self, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """
        Handle a request, or apply a fault to it, and log the status.
        """
        status = "no response"
        try:
            response = await self._handle(request, handler)
            status = str(response.status)
        finally:
            if _log.isEnabledFor(logging.INFO):
                # Without the query, which may hold a token.
                path = one_line(request.path, _MAX_PATH)
                _log.info("%s %s: %s", request.method, path, status)
        return response

    async def _handle(
        self, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        self.requests += 1
        if timer := self._idle_timers.pop(request.protocol, None):
            timer.cancel()
        if problem := self.policy.problem(request):
            # 401 and 403 would point to the key.
            return json_response(
                {"message": problem}, status=HTTPStatus.BAD_REQUEST
            )
        if request.path.startswith(_UPLOADS):
            request = request.clone(client_max_size=_MAX_UPLOAD)
        if not request.path.startswith((PREFIX, FILES)):
            return await _respond(handler, request)
        parameters = await _parameters(request)
        link_id = self._link_id(parameters, request.match_info)
        self.received[link_id] += 1
        received = ReceivedRequest(
            method=request.method,
            path=request.path,
            parameters=_loggable(parameters),
            link_id=link_id,
        )
        self.request_log.append(received)
        process = functools.partial(self._process, handler, request, received)
        transport = request.transport
        # A lost connection takes no fault.
        fault = self.faults.next_request_fault(link_id) if transport else None
        if fault is None or transport is None:
            return await process()
        return await self._apply(
            fault,
            FaultContext(
                request=request,
                transport=transport,
                lost=asyncio.Event(),
                close_when_idle=functools.partial(
                    self._close_when_idle, request.protocol
                ),
                process=process,
                now=self.clock.time,
            ),
        )

    async def cancel_faults(self) -> None:
        """
        Cancel the requests that wait because of a fault.
        """
        tasks = list(self._faulty)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _process(
        self,
        handler: Handler,
        request: web.Request,
        received: ReceivedRequest,
    ) -> web.StreamResponse:
        response = await _respond(handler, request)
        received.status = response.status
        operation = request.path.rstrip("/").rpartition("/")[2]
        # The session table counts creates itself: a load experiment has too
        # many link ids for a second counter.
        if (
            response.status < HTTPStatus.BAD_REQUEST
            and response.status != HTTPStatus.MOVED_PERMANENTLY
            and not request.path.endswith("/session/")
        ):
            self.processed[operation, None] += 1
            self.processed[operation, received.link_id] += 1
        return response

    def _link_id(self, parameters: JsonObject, path: Mapping[str, str]) -> str:
        parameters = {**path, **parameters}
        link_id = parameters.get("link_id")
        for owner_id in (
            parameters.get("session_id"),
            parameters.get("entity_id"),
            path.get("path", "").partition("/")[0],
        ):
            if link_id is None and isinstance(owner_id, str):
                link_id = self.link_id_of(owner_id)
        return link_id if isinstance(link_id, str) else ""

    async def _apply(
        self, fault: Fault, context: FaultContext
    ) -> web.StreamResponse:
        task = asyncio.create_task(fault.apply(context))
        self._faulty.add(task)
        task.add_done_callback(self._faulty.discard)
        try:
            # Like a real server, it goes on when the caller disconnects.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            context.lost.set()
            raise

    def _close_when_idle(
        self, protocol: web.RequestHandler, seconds: float
    ) -> None:
        loop = asyncio.get_running_loop()

        def close() -> None:
            del self._idle_timers[protocol]
            if protocol.transport is None:
                return
            # A response may not be finished yet, or a request that was read
            # may not have got here: aiohttp's own timer asks the same.
            waiter = protocol._waiter  # noqa: SLF001
            if waiter is None or waiter.done():
                set_timer(_BUSY_PAUSE)
            else:
                protocol.force_close()

        def set_timer(delay: float) -> None:
            self._idle_timers[protocol] = loop.call_later(delay, close)

        set_timer(seconds)


def _loggable(parameters: JsonObject) -> JsonObject:
    """
    Return the parameters for the log: no secrets and no large ones.
    """
    shown = {
        name: value
        for name, value in parameters.items()
        if name not in _SECRET and not isinstance(value, bytes)
    }
    try:
        size = len(orjson.dumps(shown))
    except orjson.JSONEncodeError:
        # Nested too deeply for the listing, too.
        return {}
    return shown if size <= _MAX_LOGGED else {}


async def _parameters(request: web.Request) -> JsonObject:
    try:
        body = await read_parameters(request)
    except ApiError:
        body = {}
    return {**request.query, **body}


async def _respond(
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
