"""
The pages of the demo: the campaign, both workflows, and what is received.
"""

import contextlib
import functools
import secrets

from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Final

import attrs
import orjson

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from bankconnect_async._codec.browser_messages import decode_event
from bankconnect_async._codec.redirects import build_redirect
from bankconnect_async._templates import read_template, render
from bankconnect_async.embed import content_security_policy, iframe_html
from bankconnect_async.models.events import SuccessEvent
from bankconnect_async.sandbox.http.origins import (
    is_allowed_host,
    is_cross_site,
)
from bankconnect_async.tables import encode_table
from bankconnect_async.web import (
    MAX_WEBHOOK,
    Notification,
    WebRequest,
    read_body,
)
from bankconnect_async.web.reports import parse_notification

from .campaign import CUSTOMERS, Campaign


#: The customer of the journeys without an invitation.
CUSTOMER: Final = "customer-42"
#: The dialects, with what they mean.
DIALECTS: Final[Mapping[str, str]] = {
    "seed": "v1 as first documented, in 2020",
    "entity": "today's v1, entity flow",
    "session": "today's v1, session flow",
}

_render = functools.partial(render, str(__package__))
_VICTIM: Final = "somebody-else"
_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_POLICY: Final = (
    "default-src 'none'; base-uri 'none'; connect-src 'self'; form-action "
    "'self'; frame-ancestors 'none'; script-src 'nonce-{0}'; style-src "
    "'nonce-{0}'"
)
# The icon is part of the document.
_ICON_POLICY: Final = "img-src data:"
_LOST: Final = "lost"
_DELIVERED: Final = "delivered"
# States change without an event, too, such as when a customer taps.
_INTERVAL: Final = 0.5


def guard(url: str, hosts: Collection[str]) -> Middleware:
    """
    Make a middleware that refuses foreign requests, and redirects other names
    to the demo's URL.

    The cookies and the origin of ``localhost`` differ from those of the
    URL. A web page must not reach the demo under its own host name, or
    post a form to it.

    Args:
        url: The URL of the demo.
        hosts: Host names that are accepted besides those of this machine.
    """
    address = url.rstrip("/")

    @web.middleware
    async def check(
        request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        if not is_allowed_host(request.headers.get("Host"), hosts):
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

    return check


@attrs.frozen(kw_only=True)
class Pages:
    """
    The pages of one dialect, beside the endpoints of every service.

    Attributes:
        root: The path below which they are, with a slash at the end.
        campaign: The service.
    """

    root: str
    campaign: Campaign

    def routes(self) -> list[web.RouteDef]:
        """
        Return the routes of the pages.
        """
        pages = {
            "": self._show_campaign,
            "workflows": self._show_workflows,
            "frame": self._show_frame,
            "live": self._stream,
            "transactions.csv": self._download,
        }
        actions = {
            "frame": self._show_frame,
            "forge": self._forge,
            "answer": self._let_others_answer,
            "webhooks": self._switch_webhooks,
            "sweep": self._sweep,
            "lost": self._lose_webhook,
        }
        return [
            *(
                web.get(self.root + path, handler, allow_head=False)
                for path, handler in pages.items()
            ),
            *(
                web.post(self.root + path, handler)
                for path, handler in actions.items()
            ),
        ]

    async def _show_campaign(self, request: web.Request) -> web.Response:
        customers = "".join(
            _render(
                "customer.html",
                link_id=link_id,
                name=name,
                url=self.campaign.links[link_id],
            )
            for link_id, name in CUSTOMERS.items()
        )
        are_lost = self.campaign.loses_webhooks
        stage = _render(
            "campaign.html",
            {"customers": customers},
            count=len(CUSTOMERS),
            welcome="Welcome back. The list shows what happened."
            if "back" in request.query
            else "",
            webhooks="Webhooks are lost." if are_lost else "Webhooks arrive.",
            switch="Deliver webhooks" if are_lost else "Lose webhooks",
            choice=_DELIVERED if are_lost else _LOST,
        )
        return self._page(
            stage,
            title="From invitations to statements",
            heading="Your campaign",
            statements=_render("statements.html"),
        )

    async def _show_workflows(self, _: web.Request) -> web.Response:
        return self._page(
            _render("choice.html"), title="Two ways to connect a bank"
        )

    async def _show_frame(self, request: web.Request) -> web.Response:
        protocol = self.campaign.protocol
        visit = WebRequest(method=request.method, headers=request.headers)
        if refused := protocol.check_visit(visit):
            return web.Response(
                status=refused.status,
                headers=refused.headers,
                body=refused.body,
            )
        session = await self.campaign.bank.create_session(CUSTOMER)
        nonce = secrets.token_urlsafe(16)
        snippet = iframe_html(
            session, listener=protocol.listener(session), nonce=nonce
        )
        return self._page(
            _render("frame.html", {"snippet": snippet}),
            title="In a frame",
            nonce=nonce,
            policy=content_security_policy(session, nonce=nonce),
        )

    async def _forge(self, _: web.Request) -> web.Response:
        bank = self.campaign.bank
        victim = await bank.create_session(_VICTIM)
        played = await self.campaign.sandbox.play(
            victim.session_id or "", "success"
        )
        stolen = decode_event(played.messages[0])
        if not isinstance(stolen, SuccessEvent):
            raise TypeError(stolen)
        forged = SuccessEvent(
            entity_id=stolen.entity_id, session_id=stolen.session_id
        )
        return_url = self.campaign.protocol.return_url(CUSTOMER)
        raise web.HTTPSeeOther(build_redirect(return_url, forged))

    async def _let_others_answer(self, _: web.Request) -> web.Response:
        await self.campaign.let_others_answer()
        raise web.HTTPSeeOther(self.root)

    async def _switch_webhooks(self, request: web.Request) -> web.Response:
        chosen = (await request.post()).get("webhooks")
        await self.campaign.set_webhooks(are_lost=chosen == _LOST)
        raise web.HTTPSeeOther(self.root)

    async def _sweep(self, _: web.Request) -> web.Response:
        await self.campaign.sweep()
        raise web.HTTPSeeOther(self.root)

    async def _lose_webhook(self, request: web.Request) -> web.Response:
        body = await read_body(request.content.iter_any(), MAX_WEBHOOK)
        found = parse_notification(body)
        if isinstance(found, Notification):
            await self.campaign.feed.add_lost(found.webhook)
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        feed = self.campaign.feed
        seen = request.headers.get("Last-Event-ID", "")
        response = web.StreamResponse(
            headers={**_HEADERS, "Content-Type": "text/event-stream"}
        )
        # The browser closes the connection when it leaves the page.
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            await response.write(b"retry: 1000\n\n")
            after = int(seen) if seen.isdecimal() else 0
            shown = b""
            # It is `None` once the browser has left; a write tells so, too.
            while request.transport is not None and not feed.is_closed:
                snapshot = orjson.dumps(await self.campaign.snapshot())
                if snapshot != shown:
                    shown = snapshot
                    await response.write(
                        b"event: campaign\ndata: %b\n\n" % snapshot
                    )
                for entry in await feed.wait(after, _INTERVAL):
                    after = entry.number
                    data = orjson.dumps(attrs.asdict(entry))
                    await response.write(
                        b"id: %d\ndata: %b\n\n" % (after, data)
                    )
        return response

    async def _download(self, _: web.Request) -> web.Response:
        return web.Response(
            body=encode_table(self.campaign.transactions(), "csv"),
            headers={
                **_HEADERS,
                "Content-Type": "text/csv; charset=utf-8",
                "Content-Disposition": "attachment",
            },
        )

    def _page(  # noqa: PLR0913
        self,
        stage: str,
        *,
        title: str,
        heading: str = "Your customer sees",
        statements: str = "",
        nonce: str | None = None,
        policy: str | None = None,
    ) -> web.Response:
        nonce = nonce or secrets.token_urlsafe(16)
        policy = policy or _POLICY.format(nonce)
        current = self.campaign.sandbox.dialect
        text = _render(
            "page.html",
            {
                "stage": stage,
                "statements": statements,
                "dialects": "".join(
                    _render(
                        "dialect.html",
                        name=name,
                        state="page" if name == current else "false",
                    )
                    for name in DIALECTS
                ),
                "style": read_template(__package__, "demo.css"),
                "script": read_template(__package__, "demo.js"),
            },
            title=title,
            heading=heading,
            nonce=nonce,
            root=self.root,
            meaning=DIALECTS[current],
        )
        return web.Response(
            text=text,
            content_type="text/html",
            headers={
                **_HEADERS,
                "Content-Security-Policy": f"{policy}; {_ICON_POLICY}",
            },
        )
