"""
Parts that the endpoints of both flows share.
"""

from collections.abc import Callable, Mapping

import attrs

from aiohttp import web

from bankconnect_async.sandbox.http.endpoints import (
    PREFIX,
    SUCCESS,
    Authenticator,
    Handler,
    JsonHandler,
    read_parameters,
)
from bankconnect_async.sandbox.http.errors import JsonObject
from bankconnect_async.sandbox.http.storage import Storage
from bankconnect_async.sandbox.journey.session_table import SessionTable


@attrs.frozen(kw_only=True)
class DataApi:
    """
    The parts that the handlers of both flows work with.

    Attributes:
        guard: The check of the secrets.
        journeys: The sessions and entities.
        storage: The stored files.
        origin: Returns the origin of the sandbox.
    """

    guard: Authenticator
    journeys: SessionTable
    storage: Storage
    origin: Callable[[], str]

    def url_maker(self, owner_id: str) -> Callable[[str], str]:
        """
        Return a function from a file's name to its link.

        Args:
            owner_id: The id of the session or entity that owns the files.
        """
        return lambda name: self.storage.presigned_url(f"{owner_id}/{name}")


def webhook_update(update: Callable[[JsonObject], None]) -> JsonHandler:
    """
    Return the handler of an ``update_webhook/`` endpoint.
    """

    async def handle(request: web.Request) -> JsonObject:
        update(await read_parameters(request))
        return dict(SUCCESS)

    return handle


def make_routes(handlers: Mapping[str, Handler]) -> list[web.RouteDef]:
    """
    Return the routes of handlers by method and path.
    """
    return [
        web.route(method, f"{PREFIX}/v1/{path}", handler)
        for name, handler in handlers.items()
        for method, path in [name.split(" ")]
    ]
