"""
The pages of the demo: the choice of a workflow, the frame and the feed.
"""

import contextlib
import functools
import secrets

from collections.abc import Collection, Mapping
from typing import Final

import attrs
import orjson

from aiohttp import web
from aiohttp.typedefs import Handler

from bankconnect_async._codec.browser_messages import decode_event
from bankconnect_async._codec.redirects import build_redirect
from bankconnect_async._templates import read_template, render
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.embed import content_security_policy, iframe_html
from bankconnect_async.models.events import SuccessEvent
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.sandbox.http.origins import (
    is_allowed_host,
    is_cross_site,
)
from bankconnect_async.web import CallbackProtocol, WebRequest

from .event_feed import EventFeed


#: The customer of all journeys.
CUSTOMER: Final = "customer-42"

_render = functools.partial(render, str(__package__))
_VICTIM: Final = "somebody-else"
_DIALECTS: Final[Mapping[str, str]] = {
    "seed": "as first documented, in 2020",
    "entity": "today's v1, entity flow",
    "session": "today's v1, session flow",
}
_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_CHOICE_POLICY: Final = (
    "default-src 'none'; base-uri 'none'; connect-src 'self'; form-action "
    "'self'; frame-ancestors 'none'; script-src 'nonce-{0}'; style-src "
    "'nonce-{0}'"
)
# The icon is part of the document.
_ICON_POLICY: Final = "img-src data:"


@attrs.frozen(kw_only=True)
class Pages:
    """
    The pages of the demo, beside the endpoints of every service.

    Attributes:
        url: The URL of the demo.
        hosts: Host names that are accepted besides those of this machine.
        sandbox: The sandbox.
        bank: The client of the sandbox.
        protocol: The protocol of the service's endpoints.
        feed: The events that the service receives.
    """

    url: str
    hosts: Collection[str]
    sandbox: Sandbox
    bank: AsyncBankConnect
    protocol: CallbackProtocol
    feed: EventFeed

    def routes(self) -> list[web.RouteDef]:
        """
        Return the routes of the pages.
        """
        return [
            web.get("/", self._choice, allow_head=False),
            web.get("/frame", self._frame, allow_head=False),
            web.post("/frame", self._frame),
            web.get("/live", self._live, allow_head=False),
            web.post("/forge", self._forge),
        ]

    @web.middleware
    async def guard(
        self, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """
        Refuse foreign requests, and redirect other names to the demo's URL.

        The cookies and the origin of ``localhost`` differ from those of the
        URL. A web page must not reach the demo under its own host name, or
        post a form to it.
        """
        address = self.url.rstrip("/")
        if not is_allowed_host(request.headers.get("Host"), self.hosts):
            raise web.HTTPBadRequest(
                text="This demo does not accept that host name: start it with "
                "--allow-host."
            )
        own = {address.partition("//")[2]}
        if is_cross_site(request.method, request.headers, own):
            raise web.HTTPForbidden(
                text="The request comes from a page of another site."
            )
        if f"http://{request.host}" != address:
            raise web.HTTPTemporaryRedirect(address + request.raw_path)
        return await handler(request)

    async def _choice(self, request: web.Request) -> web.Response:
        nonce = secrets.token_urlsafe(16)
        stage = _render(
            "choice.html",
            welcome="Welcome back. The list shows what happened."
            if "back" in request.query
            else "",
        )
        policy = _CHOICE_POLICY.format(nonce)
        return self._page(stage, "Two ways to connect a bank", nonce, policy)

    async def _frame(self, request: web.Request) -> web.Response:
        visit = WebRequest(method=request.method, headers=request.headers)
        if refused := self.protocol.check_visit(visit):
            return web.Response(
                status=refused.status,
                headers=refused.headers,
                body=refused.body,
            )
        session = await self.bank.create_session(CUSTOMER)
        nonce = secrets.token_urlsafe(16)
        snippet = iframe_html(
            session, listener=self.protocol.listener(session), nonce=nonce
        )
        stage = _render("frame.html", {"snippet": snippet})
        policy = content_security_policy(session, nonce=nonce)
        return self._page(stage, "In a frame", nonce, policy)

    async def _forge(self, _: web.Request) -> web.Response:
        victim = await self.bank.create_session(_VICTIM)
        played = await self.sandbox.play(victim.session_id or "", "success")
        stolen = decode_event(played.messages[0])
        if not isinstance(stolen, SuccessEvent):
            raise TypeError(stolen)
        forged = SuccessEvent(
            entity_id=stolen.entity_id, session_id=stolen.session_id
        )
        url = build_redirect(self.protocol.return_url(CUSTOMER), forged)
        raise web.HTTPSeeOther(url)

    async def _live(self, request: web.Request) -> web.StreamResponse:
        seen = request.headers.get("Last-Event-ID", "")
        response = web.StreamResponse(
            headers={**_HEADERS, "Content-Type": "text/event-stream"}
        )
        # The browser closes the connection when it leaves the page.
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            await response.write(b"retry: 1000\n\n")
            after = int(seen) if seen.isdecimal() else 0
            async for entry in self.feed.follow(after):
                data = orjson.dumps(attrs.asdict(entry))
                await response.write(
                    b"id: %d\ndata: %b\n\n" % (entry.number, data)
                )
        return response

    def _page(
        self, stage: str, title: str, nonce: str, policy: str
    ) -> web.Response:
        dialect = self.sandbox.dialect
        text = _render(
            "page.html",
            {
                "stage": stage,
                "style": read_template(__package__, "demo.css"),
                "script": read_template(__package__, "demo.js"),
            },
            title=title,
            nonce=nonce,
            customer=CUSTOMER,
            dialect=dialect,
            meaning=_DIALECTS[dialect],
        )
        return web.Response(
            text=text,
            content_type="text/html",
            headers={
                **_HEADERS,
                "Content-Security-Policy": f"{policy}; {_ICON_POLICY}",
            },
        )
