"""
The control endpoints, through which other processes drive the sandbox.
"""

import inspect

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import attrs

from aiohttp import web

from bankconnect_async._codec.session_requests import is_loopback
from bankconnect_async.errors import InvalidRequestError

from .endpoints import (
    Handler,
    error_response,
    json_response,
    read_parameters,
    secrets_match,
)
from .errors import ApiError, JsonObject, Problem, render_plain
from .origins import host_name


#: The path of the control endpoints.
CONTROL: Final = "/sandbox"
# The headers that proxies add.
_FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


@attrs.frozen(kw_only=True)
class ControlApi:
    """
    Serves methods of a sandbox, each under its name.

    The arguments are in the query or in the body, as JSON or as a form. The
    response to an invalid one is a 400 that names it.

    Attributes:
        api_key: The key that callers on other machines need.
        has_public_url: Whether there is a public URL. A proxy on this
            machine may then pass on requests of other machines.
        actions: The methods to POST to.
        listings: The methods to GET from, which return records.
    """

    api_key: str = attrs.field(repr=False)
    has_public_url: bool
    actions: tuple[Callable[..., Any], ...]
    listings: Mapping[str, Callable[..., Any]]

    def routes(self) -> list[web.RouteDef]:
        """
        List the routes.
        """
        actions = {action.__name__: action for action in self.actions}
        return [
            *(
                web.post(f"{CONTROL}/{name}", self._serve(action))
                for name, action in actions.items()
            ),
            *(
                web.get(f"{CONTROL}/{name}", self._serve(listing))
                for name, listing in self.listings.items()
            ),
        ]

    def _serve(self, method: Callable[..., Any]) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            try:
                self._authorize(request)
                body = await read_parameters(request)
                result = await _call(method, {**request.query, **body})
            except ApiError as error:
                return error_response(error, render_plain)
            return json_response(result)

        return handle

    def _authorize(self, request: web.Request) -> None:
        is_local = (
            not self.has_public_url
            # A proxy on this machine passes the requests of others on.
            and not any(name in request.headers for name in _FORWARDED)
            and is_loopback(request.remote)
            and is_loopback(host_name(request.headers.get("Host", "")))
        )
        key = request.headers.get("x-api-key")
        if not (is_local or secrets_match(key, self.api_key)):
            raise ApiError(HTTPStatus.UNAUTHORIZED)


async def _call(
    method: Callable[..., Any], arguments: JsonObject
) -> JsonObject | list[JsonObject]:
    for name, value in arguments.items():
        if not isinstance(value, str | None):
            raise ApiError.of_field(name, "Not a valid string.")
    try:
        inspect.signature(method).bind(**arguments)
    except TypeError as exc:
        raise ApiError.of_field("non_field_errors", str(exc)) from exc
    try:
        result = method(**arguments)
        if inspect.isawaitable(result):
            result = await result
    except InvalidRequestError as error:
        problems = [
            Problem(field, text)
            for field, texts in error.fields.items()
            for text in texts
        ]
        raise ApiError(HTTPStatus.BAD_REQUEST, problems=problems) from error
    if isinstance(result, tuple):
        return list(map(attrs.asdict, result))
    return {} if result is None else attrs.asdict(result)
