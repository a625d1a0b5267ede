"""
`parse_event` decodes and verifies what the listener posts.
"""

import datetime
import json
import string

import pytest

from yarl import URL

from bankconnect_async.models.events import (
    ErrorEvent,
    ExitEvent,
    InfoEvent,
    SuccessEvent,
)
from bankconnect_async.models.sessions import Session
from bankconnect_async.web import MAX_EVENT, BrowserReport, WebRequest


SECRET = "correct horse battery staple long enough"
OLD_SECRET = "an older secret which is long enough too"
ALPHABET = f"{string.ascii_letters}{string.digits}-_"
SESSION = Session(
    link_id="customer-42",
    session_id="s-1",
    redirect_url=URL("https://bankconnectclient.finbox.in/?session_id=s-1"),
)
SUCCESS = {
    "type": "finbox-bankconnect",
    "status": "fb-success",
    "payload": {"entityId": "e-1", "linkId": "somebody-else"},
}


class Clock:
    """
    A wall clock that the test sets.
    """

    def __init__(self):
        self.time = 1_800_000_000.0

    def __call__(self):
        """Return the time."""
        return self.time


def post(token, event=SUCCESS):
    """
    Return the body that the listener posts.
    """
    return json.dumps({"event": event, "token": token}).encode()


def cookie_of(reply):
    """
    Return the name and value of the cookie that *reply* sets.
    """
    return reply.headers["Set-Cookie"].partition(";")[0]


@pytest.fixture(name="token")
def _token(ours):
    """Return a token for the session of customer-42."""
    return ours.listener(SESSION).token


class TestReadEvent:
    """
    `parse_event` accepts events with our token only.
    """

    def test_link_id_is_the_tokens(self, ours, token, json_call):
        """
        A message that names another customer is attributed to the token's
        customer.
        """
        claim = ours.parse_event(json_call(post(token)))

        assert isinstance(claim, BrowserReport)
        assert claim.event == SuccessEvent(
            entity_id="e-1", link_id="customer-42"
        )
        assert claim.event.confirmed is None
        assert claim.session is not None
        assert claim.session.link_id == "customer-42"
        assert claim.session.session_id == "s-1"

    @pytest.mark.parametrize(
        ("said", "kind"),
        [
            (("fb-exit", {"reason": "left"}), ExitEvent),
            (("exit", {"message": "left"}), ExitEvent),
            (("error", {"error_type": "MU003", "reason": ""}), ErrorEvent),
            (("info", {"event_name": "manual"}), InfoEvent),
        ],
    )
    def test_kinds(self, ours, token, json_call, said, kind):
        """
        Every kind of event is attributed to the token's customer.
        """
        status, payload = said
        event = {**SUCCESS, "status": status, "payload": payload}
        claim = ours.parse_event(json_call(post(token, event)))

        assert isinstance(claim.event, kind)
        assert claim.event.link_id == "customer-42"

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "http://lender.example"}, 403),
            ({"Origin": "https://lender.example:8443"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec_Fetch_Site": "cross-site"}, 403),
            ({"Sec_Fetch_Site": "same-site"}, 403),
            ({"Sec_Fetch_Site": "same-origin"}, None),
            ({"Content_Type": "text/plain"}, 415),
            ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
            ({"Content_Type": ""}, 415),
            ({"Content_Type": "Application/JSON; charset=utf-8"}, None),
            ({"Content_Encoding": "gzip"}, 415),
            ({"Content_Encoding": "identity"}, None),
        ],
    )
    def test_headers(self, ours, token, json_call, headers, status):
        """
        Only JSON that our own page posts from our own origin is accepted.
        """
        read = ours.parse_event(json_call(post(token), **headers))

        assert getattr(read, "status", None) == status

    def test_needs_an_origin(self, ours, token):
        """
        A request without an Origin header is refused.
        """
        call = WebRequest(
            headers={"content-type": "application/json"}, body=post(token)
        )

        assert ours.parse_event(call).status == 403

    @pytest.mark.parametrize(
        ("base", "origin"),
        [
            ("https://Lender.Example:443/bank", "https://lender.example"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://bücher.example/b/", "https://xn--bcher-kva.example"),
        ],
    )
    def test_origin_as_browsers_write_it(
        self, protocol, json_call, base, origin
    ):
        """
        Case, default ports and internationalised names make no difference.
        """
        ours = protocol(base)
        token = ours.listener(SESSION).token

        assert isinstance(
            ours.parse_event(json_call(post(token), Origin=origin)),
            BrowserReport,
        )

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b'"text"',
            b"\xff",
            b"{}",
            b'{"event": {}}',
            b'{"token": "t"}',
            b'{"event": "text", "token": "t"}',
            b'{"event": {}, "token": 1}',
            b"[" * 5000,
        ],
    )
    def test_malformed(self, ours, json_call, body):
        """
        Any body that the listener would not post is malformed.
        """
        assert ours.parse_event(json_call(body)).status == 400

    @pytest.mark.parametrize(
        "event",
        [
            {},
            {**SUCCESS, "type": "react-devtools"},
            {**SUCCESS, "payload": {}},
            {**SUCCESS, "payload": "text"},
        ],
    )
    def test_not_the_vendors(self, ours, token, json_call, event):
        """
        A post of our listener with a foreign message is malformed.
        """
        assert ours.parse_event(json_call(post(token, event))).status == 400

    def test_size(self, ours, token, json_call):
        """
        A body may have up to 64 KiB.
        """
        body = post(token)
        fits = body + b" " * (MAX_EVENT - len(body))

        assert isinstance(ours.parse_event(json_call(fits)), BrowserReport)
        assert ours.parse_event(json_call(fits + b" ")).status == 413

    def test_forged_token(self, ours, protocol, token, json_call):
        """
        A token that was changed, or made for another secret, base or purpose,
        is a forgery.
        """
        payload, *rest = token.split(".")
        other = json.dumps(["customer-43", "s-1"]).encode()
        redirect = ours.start_redirect(SESSION)
        forged = [
            "",
            "x",
            token[:-2],
            "A" + token,
            ".".join([other.hex(), *rest]),
            payload,
            protocol(secret=OLD_SECRET).listener(SESSION).token,
            protocol("https://lender.example/other").listener(SESSION).token,
            protocol("https://evil.example/bank").listener(SESSION).token,
            cookie_of(redirect).partition("=")[2],
        ]
        statuses = [
            ours.parse_event(json_call(post(one))).status for one in forged
        ]

        # An empty text is as good as none.
        assert statuses == [400] + [403] * (len(forged) - 1)

    def test_expiry(self, protocol, json_call):
        """
        A token expires after the longest journey; one from the past that is
        still valid is accepted.
        """
        clock = Clock()
        ours = protocol(max_age=datetime.timedelta(hours=1), now=clock)
        call = json_call(post(ours.listener(SESSION).token))
        clock.time -= 60
        early = ours.parse_event(call)
        clock.time += 60 + 3600
        in_time = ours.parse_event(call)
        clock.time += 1

        assert isinstance(early, BrowserReport)
        assert isinstance(in_time, BrowserReport)
        assert ours.parse_event(call).status == 403

    def test_from_the_future(self, protocol, json_call):
        """
        A token from the future is accepted up to a minute, for clock skew
        between hosts.
        """
        clock = Clock()
        ours = protocol(now=clock)
        call = json_call(post(ours.listener(SESSION).token))
        clock.time -= 60
        skewed = ours.parse_event(call)
        clock.time -= 1

        assert isinstance(skewed, BrowserReport)
        assert ours.parse_event(call).status == 403

    def test_other_spellings(self, ours, token, json_call):
        """
        A token is valid only in the exact spelling in which it was signed.
        """
        others = [
            *(token[:-1] + last for last in ALPHABET if last != token[-1]),
            *(token + more for more in ("=", "==", "A", "!", "\n", ".")),
            f"{token[:-1]}!{token[-1]}",
            f"={token}",
        ]
        statuses = {
            ours.parse_event(json_call(post(one))).status for one in others
        }

        assert isinstance(
            ours.parse_event(json_call(post(token))), BrowserReport
        )
        assert statuses == {403}

    def test_other_spellings_of_the_cookie(self, ours):
        """
        The same holds for the cookie that identifies a customer's session.
        """
        name, _, value = cookie_of(ours.start_redirect(SESSION)).partition("=")
        path = URL(ours.return_url("customer-42")).raw_path

        def session(last):
            cookie = f"{name}={value[:-1]}{last}"
            call = WebRequest(
                path=f"{path}?success=false", headers={"Cookie": cookie}
            )
            return ours.parse_return(call).session

        known = [last for last in ALPHABET if session(last) is not None]

        assert known == [value[-1]]

    def test_rotation(self, protocol, json_call, token):
        """
        The newest secret signs; older ones still verify.
        """
        new = "the newest secret which is long enough!!"
        rotated = protocol(secret=[new, "x" * 32, SECRET])

        assert isinstance(
            rotated.parse_event(json_call(post(token))), BrowserReport
        )
        fresh = rotated.listener(SESSION).token
        assert isinstance(
            protocol(secret=new).parse_event(json_call(post(fresh))),
            BrowserReport,
        )
