"""
The sandbox's endpoints: from an HTTP request to the rules, and back.
"""

import functools
import types

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeAlias, get_args

import attrs
import orjson

from aiohttp import web

from bankconnect_async.events import Dialect

from ._bodies import Call, read_body
from ._dialects import Api, Version, api_of
from ._journey import Closed, Journey, read_step
from ._journeys import Journeys
from ._notifications import upload_status
from ._page import NOTICES, Page, new_nonce, write_journey, write_notice
from ._records import SandboxSession
from ._refusals import JsonObject, Problem, Refusal, write_coded, write_plain
from ._rules import Rule, read_fields
from ._session_api import Refused, is_same, judge
from ._webhooks import ENTITY_RULES, SESSION_RULES


Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Answer: TypeAlias = Callable[[web.Request], Awaitable[JsonObject]]

#: Where the API is.
PREFIX: Final = "/bank-connect"

_DONE: Final = types.MappingProxyType({"message": "success"})
_ALLOW: Final = types.MappingProxyType({"Allow": "POST"})
_NOT_FOUND: Final = b"""\
<!doctype html>
<html lang="en">
<head>
  <title>Not Found</title>
</head>
<body>
  <h1>Not Found</h1><p>The requested resource was not found on this server.</p>
</body>
</html>
"""


@attrs.frozen
class _Family:
    """
    Endpoints that refuse alike.

    Attributes:
        unauthorized: HTTP status without good secrets.
        write: Puts a refusal into an error body.
    """

    unauthorized: HTTPStatus
    write: Callable[[Refusal], JsonObject]


_ENTITY: Final = _Family(HTTPStatus.UNAUTHORIZED, write_plain)
_SESSION_DATA: Final = _Family(HTTPStatus.FORBIDDEN, write_coded)


@attrs.frozen(kw_only=True)
class Handlers:
    """
    Handlers of all requests.

    Attributes:
        dialect: Of `v1`. It decides which secrets are asked for, too.
        api_key, server_hash: What is let in.
        journeys: What there is.
        origin: Where browsers find the journey's page.
    """

    dialect: Dialect
    api_key: str = attrs.field(repr=False)
    server_hash: str = attrs.field(repr=False)
    journeys: Journeys
    origin: Callable[[], str]

    def routes(self) -> list[web.RouteDef]:
        """
        List the endpoints.
        """
        entity = f"{PREFIX}/v1/entity"
        data = f"{PREFIX}/v1/session_data"
        session = f"{data}/{{session_id}}"
        asked = functools.partial(self._guarded, _ENTITY)
        told = functools.partial(self._guarded, _SESSION_DATA)
        return [
            *self._session_routes(),
            web.get(f"{entity}/webhook_payloads/", asked(self._payloads)),
            web.post(f"{entity}/update_webhook/", asked(self._update_entity)),
            web.get(f"{entity}/{{entity_id}}/", asked(self._entity)),
            web.post(f"{data}/update_webhook/", told(self._update_session)),
            web.get(f"{session}/session_upload_status/", told(self._status)),
            web.delete(f"{session}/delete/", told(self._delete)),
            web.get("/", self._show_page),
            web.post("/", self._take_step),
        ]

    def _session_routes(self) -> list[web.RouteDef]:
        versions: tuple[Version, ...] = get_args(Version)
        return [
            web.route(
                "*",
                f"{PREFIX}/{version}/session/",
                functools.partial(
                    self._create_session, api_of(self.dialect, version)
                ),
            )
            for version in versions
        ]

    async def _create_session(
        self, api: Api, request: web.Request
    ) -> web.Response:
        outcome = judge(
            await call_of(request),
            api=api,
            api_key=self.api_key,
            today=self.journeys.now().date(),
        )
        if isinstance(outcome, Refused):
            return _json(outcome.body, status=outcome.status)
        session = self.journeys.open(api, outcome.parameters, self.origin())
        return _json(_answer(api, session))

    def _guarded(self, family: _Family, answer: _Answer) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            try:
                self._admit(request, family)
                return _json(await answer(request))
            except Refusal as refusal:
                return _json(family.write(refusal), status=refusal.status)

        return handle

    def _admit(self, request: web.Request, family: _Family) -> None:
        server_hash = request.headers.get("server-hash")
        # The header is eleven days younger than the seed.
        if server_hash is None and self.dialect == "seed":
            server_hash = self.server_hash
        if not (
            is_same(request.headers.get("x-api-key"), self.api_key)
            and is_same(server_hash, self.server_hash)
        ):
            raise Refusal(family.unauthorized)

    async def _entity(self, request: web.Request) -> JsonObject:
        entity = self.journeys.entities.get(request.match_info["entity_id"])
        if entity is None:
            raise Refusal(HTTPStatus.NOT_FOUND)
        return {**attrs.asdict(entity), "meta_data": None}

    async def _payloads(self, request: web.Request) -> JsonObject:
        link_id = request.query.get("link_id")
        if link_id is None:
            problem = Problem("link_id", "This field is required.")
            raise Refusal(HTTPStatus.BAD_REQUEST, problems=[problem])
        return {"payloads": self.journeys.webhooks.payloads(link_id)}

    async def _update_entity(self, request: web.Request) -> JsonObject:
        values = await _fields(request, ENTITY_RULES)
        self.journeys.webhooks.update_entity(values)
        return dict(_DONE)

    async def _update_session(self, request: web.Request) -> JsonObject:
        values = await _fields(request, SESSION_RULES)
        self.journeys.webhooks.update_session(values)
        return dict(_DONE)

    async def _status(self, request: web.Request) -> JsonObject:
        journey = self._session_journey(request)
        return upload_status(journey, self.journeys.now())

    async def _delete(self, request: web.Request) -> JsonObject:
        journey = self._session_journey(request)
        self.journeys.delete(journey.session.session_id)
        return dict(_DONE)

    def _session_journey(self, request: web.Request) -> Journey:
        session_id = request.match_info["session_id"]
        if self.journeys.is_deleted(session_id):
            raise Refusal(HTTPStatus.GONE)
        journey = self.journeys.find(session_id)
        if journey is None or journey.is_entity_flow:
            raise Refusal(HTTPStatus.NOT_FOUND)
        return journey

    async def _show_page(self, request: web.Request) -> web.Response:
        opened = self._visit(request)
        if isinstance(opened, Closed):
            notice = NOTICES[opened]
            return _html(
                write_notice(notice, new_nonce()), status=notice.status
            )
        return _html(write_journey(opened, new_nonce(), self.journeys.now()))

    async def _take_step(self, request: web.Request) -> web.Response:
        opened = self._visit(request)
        if isinstance(opened, Closed):
            notice = NOTICES[opened]
            return _html(
                write_notice(notice, new_nonce()), status=notice.refusal
            )
        try:
            step = read_step(read_body(await call_of(request)))
        except Refusal as refusal:
            return _json(write_coded(refusal), status=refusal.status)
        return _json(attrs.asdict(self.journeys.play(opened, step)))

    def _visit(self, request: web.Request) -> Journey | Closed:
        return self.journeys.visit(
            request.query.get("session_id", ""), request.query.get("token")
        )


async def _fields(
    request: web.Request, rules: Mapping[str, Rule]
) -> Mapping[str, Any]:
    body = read_body(await call_of(request))
    values, problems = read_fields(body, rules, required="webhook_url")
    if problems:
        raise Refusal(HTTPStatus.BAD_REQUEST, problems=problems)
    return values


def _answer(api: Api, session: SandboxSession) -> dict[str, str]:
    shown = {"redirect_url": session.redirect_url}
    return (
        {"session_id": session.session_id, **shown} if api.tells_id else shown
    )


def _json(
    body: Mapping[str, Any], *, status: int = HTTPStatus.OK
) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps(body),
        content_type="application/json",
        headers=_ALLOW if status == HTTPStatus.METHOD_NOT_ALLOWED else None,
    )


def _html(page: Page, *, status: int = HTTPStatus.OK) -> web.Response:
    return web.Response(
        status=status,
        text=page.text,
        content_type="text/html",
        headers=page.headers,
    )


async def call_of(request: web.Request) -> Call:
    """
    Take from a request what matters.
    """
    return Call(
        method=request.method,
        content_type=request.headers.get("Content-Type", ""),
        body=await request.read(),
        header_key=request.headers.get("x-api-key"),
    )


def not_found() -> web.Response:
    """
    Answer for a path that does not exist, as Django would.
    """
    return web.Response(
        status=HTTPStatus.NOT_FOUND,
        body=_NOT_FOUND,
        content_type="text/html",
        charset="utf-8",
    )
