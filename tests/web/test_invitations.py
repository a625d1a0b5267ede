"""
Invitations: links for mail and SMS, whose tap begins a journey.
"""

import asyncio
import contextlib
import datetime
import html
import re

import attrs
import pytest

from yarl import URL

from bankconnect_async import (
    SessionRequest,
    SessionState,
    SQLiteSessionStore,
)
from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.sandbox import Fault, Sandbox
from bankconnect_async.web import CallbackService, WebRequest, WebResponse


BASE = "https://lender.example/bank"
DAY = datetime.timedelta(days=1)
PERIOD = {
    "from_date": datetime.date(2026, 1, 1),
    "to_date": datetime.date(2026, 6, 30),
}


@pytest.fixture(name="clock")
def _clock():
    """Return a list whose last number is the time."""
    return [1_767_225_600.0]


@pytest.fixture(name="dated")
def _dated(protocol, clock):
    """Return a protocol at the time of `clock`."""
    return protocol(now=lambda: clock[-1])


def path_of(url):
    """Return the path of a link."""
    return URL(url, encoded=True).raw_path


class TestLinks:
    """
    A link carries the customer, the invitation and the parameters.
    """

    def test_round_trip(self, ours):
        """
        The request of a link has the parameters that it was made from.
        """
        given = {**PERIOD, "bank_name": "axis", "mode": "pdf"}
        url = ours.invitation_url(
            "kündin/42", invitation_id="loan 7", parameters=given
        )

        # No part of the path begins with a dot: many servers refuse that.
        assert re.fullmatch(
            rf"{BASE}/invitation/[\w-]{{80,150}}\.[\w-]+\.[\w-]{{43}}", url
        )
        invitation = ours.parse_invitation(WebRequest(path=path_of(url)))
        assert invitation.invitation_id == "loan 7"
        assert invitation.request() == SessionRequest(
            link_id="kündin/42", redirect_url=None, **given
        )

    @pytest.mark.parametrize(
        ("field", "changes"),
        [
            ("link_id", {"link_id": " "}),
            ("invitation_id", {"invitation_id": ""}),
            ("invitation_id", {"invitation_id": "a\nb"}),
            ("invitation_id", {"invitation_id": "a" * 101}),
            ("invitation_id", {"invitation_id": None}),
            ("max_age", {"max_age": datetime.timedelta(0)}),
            ("max_age", {"max_age": 14}),
            ("mobile_number", {"parameters": {"mobile_number": "98"}}),
            ("redirect_url", {"parameters": {"redirect_url": None}}),
            ("from_date", {"parameters": {"from_date": "01/01/2026"}}),
            ("mode", {"parameters": {"mode": "fax"}}),
            # The session would have no room for it in its return URL.
            ("redirect_url", {"link_id": "a" * 200}),
        ],
    )
    def test_refused(self, ours, field, changes):
        """
        The error names the argument that cannot be in a link.
        """
        given = {"link_id": "customer-42", "invitation_id": "a", **changes}

        with pytest.raises(InvalidRequestError) as caught:
            ours.invitation_url(given.pop("link_id"), **given)

        assert list(caught.value.fields) == [field]

    def test_long_link(self, protocol):
        """
        A link that programs might cut is refused.
        """
        frames = protocol(invitation_frame=True)

        assert frames.invitation_url("a" * 500, invitation_id="a")
        with pytest.raises(InvalidRequestError, match="shorten link_id"):
            frames.invitation_url("ä" * 500, invitation_id="a")

    def test_clicks_that_are_tracked(self, ours):
        """
        A query that a mail program appends does not matter.
        """
        url = ours.invitation_url("customer-42", invitation_id="a")

        opened = ours.parse_invitation(
            WebRequest(path=f"{path_of(url)}?utm_source=mail")
        )

        assert opened.link_id == "customer-42"


class TestRefusals:
    """
    A link that is not valid gets a page that says what to do.
    """

    def test_expired(self, dated, clock):
        """
        After its lifetime a link leads to a page that says so.
        """
        url = dated.invitation_url(
            "customer-42", invitation_id="a", max_age=DAY
        )
        request = WebRequest(path=path_of(url))
        clock.append(clock[0] + DAY.total_seconds())
        assert dated.parse_invitation(request).link_id == "customer-42"

        clock.append(clock[0] + DAY.total_seconds() + 1)
        page = dated.parse_invitation(request)

        assert (page.status, b"has expired" in page.body) == (410, True)
        assert b"ask us for a new one" in page.body

    @pytest.mark.parametrize(
        "forge",
        [
            lambda url, _: url[:-1],
            lambda url, _: f"{url}.",
            lambda url, _: url.replace("/invitation/", "/invitation/x"),
            lambda _, ours: ours.return_url("customer-42").replace(
                "/return/", "/invitation/"
            ),
            lambda url, _: url.rpartition("/")[0],
            lambda url, _: url.replace("/bank/", "/other/"),
            lambda url, _: f"{url.rpartition('/')[0]}/{'a' * 9999}",
            lambda url, _: f"{url.rpartition('/')[0]}/ä.\udcff.b",
            # The two last bits of a signature are not part of it.
            lambda url, _: url[:-1] + chr(ord(url[-1]) ^ 1),
        ],
    )
    def test_forged(self, ours, forge):
        """
        A link that was not signed for this purpose gets no details.
        """
        url = ours.invitation_url("customer-42", invitation_id="a")
        path = forge(url, ours).removeprefix("https://lender.example")

        page = ours.parse_invitation(WebRequest(path=path))

        assert isinstance(page, WebResponse)
        assert (page.status, b"customer" in page.body) == (403, False)
        assert b"open the whole link" in page.body


@attrs.frozen
class Lender:
    """
    A service with its sandbox.
    """

    sandbox: Sandbox
    service: CallbackService

    def link(self, link_id="customer-42", invitation_id="spring", **settings):
        """Return the path of an invitation."""
        return path_of(
            self.service.protocol.invitation_url(
                link_id, invitation_id=invitation_id, **settings
            )
        )

    async def open(self, link, method="GET"):
        """Open a link, as the browser of somebody who has it."""
        return await self.service.handle_invitation(
            WebRequest(
                method=method,
                path=link,
                headers={"Sec-Fetch-Site": "cross-site"},
            )
        )

    async def tap(self, link, **headers):
        """Tap the button of the page."""
        given = {"Origin": "https://lender.example", **headers}
        return await self.service.handle_invitation(
            WebRequest(method="POST", path=link, headers=given)
        )

    async def news(self, session, state):
        """Record what became of a session."""
        store, api_id = self.service.bank.store, self.service.bank.store_api_id
        (entry,) = await store.find(
            api_id=api_id, session_id=session.session_id
        )
        await store.advance(
            entry.entry_id, state, at=datetime.datetime.now(datetime.UTC)
        )

    @property
    def sessions(self):
        """The sessions that were created."""
        return [*self.sandbox.sessions.values()]


@pytest.fixture(name="lender")
async def _lender(bank_of, protocol, told):
    """Run a service: ``await lender(dialect)``."""
    async with contextlib.AsyncExitStack() as stack:

        async def lender(
            dialect="session", *, store=None, sandbox=None, **settings
        ):
            if sandbox is None:
                sandbox = await stack.enter_async_context(Sandbox(dialect))
            bank = await stack.enter_async_context(
                bank_of(sandbox, store=store)
            )
            service = CallbackService(
                bank,
                protocol(**settings),
                on_event=told.on_event,
                on_failure=told.on_failure,
            )
            stack.push_async_callback(service.aclose)
            return Lender(sandbox, service)

        yield lender


def journey_of(response):
    """Return the URL to which a response leads."""
    assert response.status == 303
    return response.headers["Location"]


class TestCrawlers:
    """
    A program that fetches a link begins nothing.
    """

    @pytest.mark.parametrize(("method", "count"), [("GET", 1000), ("HEAD", 9)])
    async def test_nothing_is_created(self, lender, method, count):
        """
        Programs that fetch links for previews create no session, get no
        cookie and keep nothing.
        """
        lender = await lender()
        links = [lender.link(f"customer-{number}") for number in range(count)]

        pages = [await lender.open(link, method) for link in links]

        assert {page.status for page in pages} == {200}
        assert not any("Set-Cookie" in page.headers for page in pages)
        assert pages[0].headers["Cache-Control"] == "no-store"
        assert b'<form method="post"' in pages[0].body
        assert lender.sandbox.created() == lender.sandbox.requests == 0

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Dest": "iframe"},
            {"Sec-Purpose": "prefetch"},
        ],
    )
    async def test_posts_of_others(self, lender, headers):
        """
        A post that no page of the service sent creates no session.
        """
        lender = await lender()

        response = await lender.tap(lender.link(), **headers)

        assert (response.status, lender.sandbox.created()) == (403, 0)


class TestTap:
    """
    A tap creates, continues or replaces a session.
    """

    @pytest.mark.parametrize("dialect", ["seed", "session"])
    async def test_first_tap(self, lender, dialect):
        """
        The first tap creates a session, and leads to its journey.
        """
        lender = await lender(dialect)
        link = lender.link(parameters={**PERIOD, "bank_name": "axis"})

        response = await lender.tap(link)

        (session,) = lender.sessions
        assert journey_of(response) == session.redirect_url
        assert session.link_id == "customer-42"
        assert session.parameters["from_date"] == PERIOD["from_date"]
        assert session.parameters["redirect_url"].startswith(f"{BASE}/return/")
        (entry,) = await lender.service.bank.store.find(
            api_id=lender.service.bank.store_api_id, link_id="customer-42"
        )
        assert entry.key.scope == "spring"

    @pytest.mark.parametrize(
        "count", [100, pytest.param(400, marks=pytest.mark.long)]
    )
    async def test_taps_at_once(self, lender, count):
        """
        Two taps at once make one session, and later ones no more.
        """
        lender = await lender()
        links = [lender.link(f"customer-{number}") for number in range(count)]

        async def tap_twice(link):
            return [
                journey_of(response)
                for response in await asyncio.gather(
                    lender.tap(link), lender.tap(link)
                )
            ]

        first = await asyncio.gather(*map(tap_twice, links))
        assert lender.sandbox.created() == count
        assert all(one == other for one, other in first)

        again = await asyncio.gather(*map(tap_twice, links))
        assert again == first
        assert lender.sandbox.created() == count

    async def test_second_device(self, lender):
        """
        Another browser is asked whether to continue or to start again.
        """
        lender = await lender()
        link = lender.link()
        journey = journey_of(await lender.tap(link))

        page = html.unescape((await lender.open(link)).body.decode())
        (again,) = re.findall('action="([^"]+)"', page)

        assert journey_of(await lender.tap(link)) == journey
        assert journey_of(await lender.tap(again)) != journey
        assert lender.sandbox.created() == 2

    async def test_second_process(self, lender, tmp_path):
        """
        Taps at two processes at once make one session, too.
        """
        stores = [
            SQLiteSessionStore(tmp_path / "store", encryption_keys="k" * 32)
            for _ in range(2)
        ]
        first = await lender(store=stores[0])
        second = await lender(store=stores[1], sandbox=first.sandbox)

        one, other = await asyncio.gather(
            first.tap(first.link()), second.tap(first.link())
        )

        assert journey_of(one) == journey_of(other)
        assert first.sandbox.created() == 1
        for store in stores:
            await store.aclose()

    async def test_campaigns(self, lender):
        """
        Each campaign of a customer has a session of its own.
        """
        lender = await lender()

        for name in ("spring", "autumn"):
            await lender.tap(lender.link(invitation_id=name))

        assert lender.sandbox.created("customer-42") == 2

    @pytest.mark.parametrize("state", ["expired", "failed"])
    async def test_replaced(self, lender, state):
        """
        A session that cannot be used any more is replaced.
        """
        lender = await lender()
        link = lender.link()
        journey = journey_of(await lender.tap(link))
        (session,) = lender.sessions
        await lender.news(session, SessionState(state))

        assert b'<form method="post"' in (await lender.open(link)).body
        assert journey_of(await lender.tap(link)) != journey

    @pytest.mark.parametrize("state", ["submitted", "completed", "deleted"])
    async def test_used(self, lender, state):
        """
        Once something was submitted, every browser gets a page that says so.
        """
        lender = await lender()
        link = lender.link()
        await lender.tap(link)
        (session,) = lender.sessions
        await lender.news(session, SessionState(state))

        for page in (await lender.open(link), await lender.tap(link)):
            assert page.status == 200
            assert b"already submitted" in page.body
            assert b"<form" not in page.body
        assert lender.sandbox.created() == 1

    async def test_vendor_out_of_service(self, lender):
        """
        If no session can be created, the page leads back to the invitation.
        """
        lender = await lender()
        link = lender.link()
        lender.sandbox.faults.always(Fault.status(503))

        page = await lender.tap(link)
        assert (page.status, b'<a href="">' in page.body) == (503, True)

        lender.sandbox.faults.clear()
        assert journey_of(await lender.tap(link))

    async def test_refused_parameter(self, lender, caplog):
        """
        If the vendor refuses a parameter, the page does not ask to try again
        at once, and the log names the customer.
        """
        lender = await lender()
        link = lender.link("customer-7", parameters={"bank_name": "hdcf"})

        page = await lender.tap(link)

        assert page.status == 502
        assert b"went wrong on our side" in page.body
        assert "no session for customer-7: " in caplog.text

    async def test_try_again(self, lender):
        """
        After an exit the customer can try again, without a login.
        """
        lender = await lender()
        link = lender.link()
        response = await lender.tap(link)
        (session,) = lender.sessions
        way_back = path_of(session.parameters["redirect_url"])

        page = await lender.service.handle_return(
            WebRequest(
                path=f"{way_back}?success=false",
                headers={
                    "Cookie": response.headers["Set-Cookie"].split(";")[0]
                },
            )
        )

        assert page.status == 200
        assert f'href="{link}"'.encode() in page.body

    async def test_frame(self, lender):
        """
        A service can show the journey in a frame instead.
        """
        lender = await lender(invitation_frame=True)

        page = await lender.tap(lender.link())

        (session,) = lender.sessions
        assert session.parameters.get("redirect_url") is None
        assert page.status == 200
        assert html.escape(session.redirect_url) in page.body.decode()


async def test_browser(serve):
    """
    The mounted route takes visits, previews and taps, without a login.
    """
    async with serve("session") as service:
        url = service.endpoints.protocol.invitation_url(
            "customer-42", invitation_id="spring"
        )
        link = URL(url, encoded=True)
        async with service.http.head(link) as preview:
            assert preview.status == 200
        async with service.http.get(link) as page:
            assert "Continue" in await page.text()
        async with service.http.post(
            link, headers={"Origin": service.origin}, allow_redirects=False
        ) as response:
            assert response.status == 303

        (session,) = service.sandbox.sessions.values()
        assert response.headers["Location"] == session.redirect_url
