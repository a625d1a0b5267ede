"""
The sandbox's routes, and the handlers of sessions and of their page.
"""

import functools

from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import get_args

import attrs

from aiohttp import web
from yarl import URL

from bankconnect_async.sandbox.data_api.consents import Consents
from bankconnect_async.sandbox.data_api.entity_endpoints import EntityApi
from bankconnect_async.sandbox.data_api.session_endpoints import SessionDataApi
from bankconnect_async.sandbox.fake_data.files import fake_file
from bankconnect_async.sandbox.journey.journey import ClosedReason, parse_step
from bankconnect_async.sandbox.journey.page import (
    NOTICES,
    Page,
    render_journey,
    render_notice,
)
from bankconnect_async.sandbox.journey.session_table import SessionTable
from bankconnect_async.sandbox.session_api.dialects import (
    DialectRules,
    Version,
    rules_for,
)
from bankconnect_async.sandbox.session_api.validation import (
    SandboxRequest,
    validate_request,
)

from .control import ControlApi
from .endpoints import (
    PREFIX,
    Authenticator,
    error_response,
    json_response,
    read_parameters,
)
from .errors import ApiError, render_coded
from .storage import FILES, Storage


@attrs.frozen(kw_only=True)
class SandboxHandlers:
    """
    The handlers of all requests.

    Attributes:
        guard: Checks credentials.
        modes: The modes that are enabled.
        journeys: The sessions.
        origin: Returns the origin of the journey's page.
        control: The control endpoints.
    """

    guard: Authenticator
    modes: Collection[str]
    journeys: SessionTable
    origin: Callable[[], str]
    control: ControlApi

    def routes(self) -> list[web.RouteDef]:
        """
        List the routes.
        """
        storage = Storage(
            origin=self.origin,
            now=self.journeys.clock.time,
            find=functools.partial(fake_file, self.journeys),
        )
        entity = EntityApi(
            guard=self.guard,
            journeys=self.journeys,
            storage=storage,
            origin=self.origin,
        )
        session = SessionDataApi(
            guard=self.guard,
            journeys=self.journeys,
            storage=storage,
            consents=Consents(),
            origin=self.origin,
        )
        versions: tuple[Version, ...] = get_args(Version)
        routes = [
            *(
                web.route(
                    "*",
                    f"{PREFIX}/{version}/session/",
                    functools.partial(
                        self._create_session,
                        rules_for(self.guard.dialect, version),
                    ),
                )
                for version in versions
            ),
            *entity.routes(),
            *session.routes(),
            *self.control.routes(),
            web.get(f"{FILES}{{path:.+}}", storage.serve),
            web.get("/", self._show_page),
            web.post("/", self._do_step),
        ]
        paths = {route.path for route in routes}
        return routes + [
            web.route("*", path.removesuffix("/"), _add_slash)
            for path in paths
            if path.startswith(PREFIX) and path.removesuffix("/") not in paths
        ]

    async def _create_session(
        self, rules: DialectRules, request: web.Request
    ) -> web.Response:
        try:
            parameters = validate_request(
                SandboxRequest(
                    method=request.method,
                    content_type=request.headers.get("Content-Type", ""),
                    body=await request.read(),
                    header_key=request.headers.get("x-api-key"),
                ),
                rules=rules,
                api_key=self.guard.api_key,
                today=self.journeys.now().date(),
                modes=self.modes,
            )
        except ApiError as error:
            return error_response(error, rules.render)
        session = self.journeys.create(rules, parameters, self.origin())
        body = {"redirect_url": session.redirect_url}
        if rules.has_id:
            body = {"session_id": session.session_id, **body}
        return json_response(body)

    async def _show_page(self, request: web.Request) -> web.Response:
        journey = self.journeys.open_url(request.query)
        if isinstance(journey, ClosedReason):
            notice = NOTICES[journey]
            return _html(render_notice(notice), status=notice.status)
        return _html(render_journey(journey, self.journeys.now()))

    async def _do_step(self, request: web.Request) -> web.Response:
        journey = self.journeys.open_url(request.query)
        if isinstance(journey, ClosedReason):
            notice = NOTICES[journey]
            return _html(render_notice(notice), status=notice.step_status)
        try:
            step = parse_step(await read_parameters(request))
        except ApiError as error:
            return error_response(error, render_coded)
        return json_response(attrs.asdict(self.journeys.play(journey, step)))


async def _add_slash(request: web.Request) -> web.Response:
    """
    Redirect a client that leaves out the slash, as Django does.
    """
    path = URL.build(
        path=f"{request.rel_url.raw_path}/",
        query_string=request.rel_url.raw_query_string,
        encoded=True,
    )
    return web.Response(
        status=HTTPStatus.MOVED_PERMANENTLY, headers={"Location": str(path)}
    )


def _html(page: Page, *, status: int = HTTPStatus.OK) -> web.Response:
    return web.Response(
        status=status,
        text=page.text,
        content_type="text/html",
        headers=page.headers,
    )
