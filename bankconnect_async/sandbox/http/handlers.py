"""
The sandbox's endpoints: from an HTTP request to the rules, and back.
"""

import functools
import types

from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import Final, get_args

import attrs

from aiohttp import web

from bankconnect_async.sandbox.data_api.consents import Consents
from bankconnect_async.sandbox.data_api.entity_endpoints import EntityApi
from bankconnect_async.sandbox.data_api.session_endpoints import SessionDataApi
from bankconnect_async.sandbox.fake_data.files import fake_file
from bankconnect_async.sandbox.journey.journey import (
    ClosedReason,
    Journey,
    parse_step,
)
from bankconnect_async.sandbox.journey.page import (
    NOTICES,
    Page,
    new_nonce,
    render_notice,
    write_journey,
)
from bankconnect_async.sandbox.journey.session_table import SessionTable
from bankconnect_async.sandbox.records import SandboxSession
from bankconnect_async.sandbox.session_api.dialects import (
    DialectRules,
    Version,
    rules_for,
)
from bankconnect_async.sandbox.session_api.validation import Refused, judge

from .bodies import parse_body
from .endpoints import PREFIX, Authenticator, json_response, read_request
from .errors import ApiError, render_coded
from .storage import FILES, Storage


_ALLOW: Final = types.MappingProxyType({"Allow": "POST"})


@attrs.frozen(kw_only=True)
class SandboxHandlers:
    """
    Handlers of all requests.

    Attributes:
        guard: Knows the dialect and the secrets.
        modes: Those that are switched on.
        journeys: What there is.
        origin: Where browsers find the journey's page.
    """

    guard: Authenticator
    modes: Collection[str]
    journeys: SessionTable
    origin: Callable[[], str]
    _consents: Consents = attrs.field(init=False, factory=Consents)
    _storage: Storage = attrs.field(
        init=False,
        default=attrs.Factory(
            lambda self: Storage(
                origin=self.origin,
                now=self.journeys.clock.time,
                find=functools.partial(fake_file, self.journeys),
            ),
            takes_self=True,
        ),
    )

    def routes(self) -> list[web.RouteDef]:
        """
        List the endpoints.
        """
        entity = EntityApi(
            guard=self.guard,
            journeys=self.journeys,
            storage=self._storage,
            origin=self.origin,
        )
        session = SessionDataApi(
            guard=self.guard,
            journeys=self.journeys,
            storage=self._storage,
            consents=self._consents,
            origin=self.origin,
        )
        return [
            *self._session_routes(),
            *entity.routes(),
            *session.routes(),
            web.get(f"{FILES}{{path:.+}}", self._storage.serve),
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
                    self._create_session,
                    rules_for(self.guard.dialect, version),
                ),
            )
            for version in versions
        ]

    async def _create_session(
        self, api: DialectRules, request: web.Request
    ) -> web.Response:
        outcome = judge(
            await read_request(request),
            api=api,
            api_key=self.guard.api_key,
            today=self.journeys.now().date(),
            modes=self.modes,
        )
        if isinstance(outcome, Refused):
            return json_response(
                outcome.body,
                status=outcome.status,
                headers=_ALLOW
                if outcome.status == HTTPStatus.METHOD_NOT_ALLOWED
                else None,
            )
        session = self.journeys.create(api, outcome.parameters, self.origin())
        return json_response(_answer(api, session))

    async def _show_page(self, request: web.Request) -> web.Response:
        opened = self._visit(request)
        if isinstance(opened, ClosedReason):
            notice = NOTICES[opened]
            return _html(
                render_notice(notice, new_nonce()), status=notice.status
            )
        return _html(write_journey(opened, new_nonce(), self.journeys.now()))

    async def _take_step(self, request: web.Request) -> web.Response:
        opened = self._visit(request)
        if isinstance(opened, ClosedReason):
            notice = NOTICES[opened]
            return _html(
                render_notice(notice, new_nonce()), status=notice.refusal
            )
        try:
            step = parse_step(parse_body(await read_request(request)))
        except ApiError as refusal:
            return json_response(render_coded(refusal), status=refusal.status)
        return json_response(attrs.asdict(self.journeys.play(opened, step)))

    def _visit(self, request: web.Request) -> Journey | ClosedReason:
        return self.journeys.open_url(
            request.query.get("session_id", ""), request.query.get("token")
        )


def _answer(api: DialectRules, session: SandboxSession) -> dict[str, str]:
    shown = {"redirect_url": session.redirect_url}
    return (
        {"session_id": session.session_id, **shown} if api.tells_id else shown
    )


def _html(page: Page, *, status: int = HTTPStatus.OK) -> web.Response:
    return web.Response(
        status=status,
        text=page.text,
        content_type="text/html",
        headers=page.headers,
    )
