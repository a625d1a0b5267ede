"""
Invitations: links for mail and SMS, whose tap begins a journey.
"""

import datetime
import re

import pytest

from yarl import URL

from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.models.sessions import SessionRequest
from bankconnect_async.web import WebRequest, WebResponse


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

        assert re.fullmatch(
            r"https://lender\.example/bank/invitation/[\w.-]{80,400}", url
        )
        invitation = ours.parse_invitation(WebRequest(path=path_of(url)))
        assert invitation.invitation_id == "loan 7"
        assert invitation.request(None) == SessionRequest(
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

        assert frames.invitation_url("a" * 400, invitation_id="a")
        long = "".join(map(chr, range(0x4E00, 0x4E00 + 500)))
        with pytest.raises(InvalidRequestError, match="shorten link_id"):
            frames.invitation_url(long, invitation_id="a")

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
