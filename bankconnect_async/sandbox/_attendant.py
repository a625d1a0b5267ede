"""
What stands between the sockets and the handlers: it counts, and does harm.
"""

import asyncio
import collections
import functools

import attrs

from aiohttp import web

from bankconnect_async._clock import Clock

from . import _refusals
from ._bodies import read_body
from ._handlers import PREFIX, Handler, call_of, not_found
from ._kinds import Fault
from ._listener import Connection
from ._plans import Faults
from ._troubles import DoorTrouble, Exchange


@attrs.define(eq=False, kw_only=True)
class Attendant:
    """
    Sees every connection and every request first.

    Attributes:
        clock: What time it is.
        faults: What goes wrong.
        connections: How many there were.
        requests: How many there were, good and bad.
        received: How many of the API each link id had; "" for none.
    """

    clock: Clock
    faults: Faults
    connections: int = attrs.field(init=False, default=0)
    requests: int = attrs.field(init=False, default=0)
    received: collections.Counter[str] = attrs.field(
        init=False, factory=collections.Counter
    )
    _striking: set[asyncio.Task[object]] = attrs.field(init=False, factory=set)

    def knock(self) -> DoorTrouble | None:
        """
        Return what a new connection meets before it is let in.
        """
        self.connections += 1
        return self.faults.at_door()

    @web.middleware
    async def attend(
        self, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """
        Let a request be handled, or spoil it.
        """
        self.requests += 1
        process = functools.partial(_process, handler, request)
        if not request.path.startswith(PREFIX):
            return await process()
        link_id = await _link_id(request)
        self.received[link_id] += 1
        connection = _connection(request)
        # Who has hung up already is beyond any harm.
        fault = self.faults.at_request(link_id) if connection else None
        if fault is None or connection is None:
            return await process()
        exchange = Exchange(
            connection=connection, process=process, now=self.clock.time
        )
        return await self._strike(fault, exchange)

    async def end(self) -> None:
        """
        Break off what takes its time.
        """
        tasks = list(self._striking)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _strike(
        self, fault: Fault, exchange: Exchange
    ) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in a coroutine
        self._striking.add(task)
        try:
            return await fault.strike(exchange)
        finally:
            self._striking.discard(task)


async def _process(
    handler: Handler, request: web.Request
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return not_found()


def _connection(request: web.Request) -> Connection | None:
    transport = request.transport
    protocol = None if transport is None else transport.get_protocol()
    return protocol if isinstance(protocol, Connection) else None


async def _link_id(request: web.Request) -> str:
    try:
        link_id = read_body(await call_of(request)).get("link_id")
    except _refusals.Refusal:
        link_id = None
    if link_id is None:
        link_id = request.query.get("link_id")
    return link_id if isinstance(link_id, str) else ""
