"""
`parse_return` decodes and verifies a return URL and its cookie.
"""

import re

import attrs
import pytest

from yarl import URL

from bankconnect_async._codec.redirects import build_redirect
from bankconnect_async.models.events import ExitEvent, SuccessEvent
from bankconnect_async.models.sessions import Session
from bankconnect_async.web import WebRequest


SESSION = Session(
    link_id="customer-42",
    session_id="s-1",
    redirect_url=URL("https://bankconnectclient.finbox.in/?session_id=s-1"),
)


def cookie_of(reply):
    """
    Return the name and value of the cookie that *reply* sets.
    """
    return reply.headers["Set-Cookie"].partition(";")[0]


class TestReadReturn:
    """
    `parse_return` trusts the signed path and the signed cookie only.
    """

    def test_success(self, ours):
        """
        A return has the customer of its URL and the session of the cookie.
        """
        cookie = cookie_of(ours.start_redirect(SESSION))
        url = build_redirect(
            ours.return_url("customer-42"), SuccessEvent(session_id="s-1")
        )
        call = WebRequest(
            path=url.raw_path_qs, headers={"Cookie": f"a=1; {cookie}; b"}
        )
        claim = ours.parse_return(call)

        assert claim.event == SuccessEvent(
            session_id="s-1", link_id="customer-42"
        )
        assert claim.session.session_id == "s-1"

    @pytest.mark.parametrize(
        ("length", "has_journey"), [(40, True), (85, False)]
    )
    def test_path_of_the_cookie(self, ours, length, has_journey):
        """
        The browser sends the cookie to the return URL of its journey, also if
        that has no room for the journey beside the customer.
        """
        link_id, entry_id = "x" * length, "0" * 32
        reply = ours.start_redirect(
            attrs.evolve(SESSION, link_id=link_id), entry_id=entry_id
        )
        path = re.search("Path=([^;]*)", reply.headers["Set-Cookie"])[1]
        way_back = URL(ours.return_url(link_id, entry_id)).raw_path

        assert path.endswith("/00000000") is has_journey
        assert way_back.startswith(f"{path}/")

    @pytest.mark.parametrize(
        "cookie",
        ["", "bankconnect=forged", "other=1", "bankconnect=\udcff.a.b"],
    )
    def test_without_our_cookie(self, ours, cookie):
        """
        With no cookie or a forged one, the event names no session.
        """
        url = build_redirect(ours.return_url("customer-42"), ExitEvent())
        call = WebRequest(path=url.raw_path_qs, headers={"cookie": cookie})
        claim = ours.parse_return(call)

        assert claim.event == ExitEvent(link_id="customer-42")
        assert claim.session is None

    def test_cookie_of_somebody_else(self, ours):
        """
        The cookie of another customer is ignored.
        """
        cookie = cookie_of(ours.start_redirect(SESSION))
        url = build_redirect(ours.return_url("customer-43"), ExitEvent())
        claim = ours.parse_return(
            WebRequest(path=url.raw_path_qs, headers={"cookie": cookie})
        )

        assert claim.event.link_id == "customer-43"
        assert claim.session is None

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/bank/return/x.y.z?success=true&entity_id=e", 403),
            ("/bank/return/", 403),
            ("/elsewhere", 403),
            ("", 403),
            ("https://evil.example/bank/return/x", 403),
            ("{good}", 400),
            ("{good}?success=maybe", 400),
            ("{good}?success=true", 400),
        ],
    )
    def test_refused(self, ours, path, status):
        """
        A foreign path is forged; a path without an outcome is malformed.
        """
        good = URL(ours.return_url("customer-42")).raw_path
        reply = ours.parse_return(WebRequest(path=path.format(good=good)))

        assert reply.status == status
        assert b"not valid" in reply.body
