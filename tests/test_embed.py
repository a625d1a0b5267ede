"""
The frame, its listener and the content security policy work together.
"""

import html.parser
import json

import pytest

from yarl import URL

from bankconnect_async._templates import read_template
from bankconnect_async.embed import (
    Listener,
    content_security_policy,
    iframe_html,
)
from bankconnect_async.errors import ConfigurationError, InvalidRequestError
from bankconnect_async.models.sessions import Session


SCRIPT = read_template("bankconnect_async", "listener.js")
STYLE = read_template("bankconnect_async", "frame.css")
NONCE = "c2l4dGVlbi1ieXRlcyEh"
JOURNEY = "https://bankconnectclient.finbox.in/?session_id=127d&token=t%2F1"
NASTY = "\"'><script>alert(1)</script><!-- & \u2028"


class Page(html.parser.HTMLParser):
    """
    The elements of a snippet, as a browser parses them.
    """

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.open = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        """
        Record an element.
        """
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        """
        Check that elements are nested.
        """
        assert self.open.pop() == tag

    def only(self, tag):
        """
        Return the attributes of the only such element.
        """
        (found,) = [attrs for name, attrs in self.elements if name == tag]
        return found


def session(url=JOURNEY):
    """
    Return a session at *url*.
    """
    return Session(link_id="c", redirect_url=url)


def listener(**kwargs):
    """
    Return a valid listener, except for *kwargs*.
    """
    return Listener(**{"post_to": "/bank/events", "token": "csrf"} | kwargs)


def snippet(**kwargs):
    """
    Return the snippet for a session, with *kwargs*.
    """
    arguments = {"listener": listener(), "nonce": NONCE} | kwargs
    return iframe_html(arguments.pop("session", session()), **arguments)


def directives(policy):
    """
    The policy's directives by name.
    """
    return dict(part.split(" ", 1) for part in policy.split("; "))


class TestIframeHtml:
    """
    `iframe_html` writes safe markup.
    """

    def test_frame(self):
        """
        The frame opens the session's exact URL, and sends no referrer.
        """
        frame = Page(snippet(title="Your bank")).only("iframe")

        assert frame["src"] == JOURNEY
        assert frame["title"] == "Your bank"
        assert frame["referrerpolicy"] == "no-referrer"
        assert "allow-same-origin" in frame["sandbox"]
        assert "allow-top-navigation" not in frame["sandbox"]

    def test_settings(self):
        """
        The listener reads its settings and the pinned origin from the
        elements.
        """
        root = Page(snippet()).only("div")

        assert json.loads(root["data-bankconnect"]) == {
            "origin": "https://bankconnectclient.finbox.in",
            "type": "finbox-bankconnect",
            "keys": {
                "type": "type",
                "status": "status",
                "payload": "payload",
                "errorType": "error_type",
                "reason": "reason",
                "message": "message",
            },
            "mayFail": "exit",
            "unclear": "fb-exit",
            "unclearText": "The bank connection is not complete yet.",
            "exits": ["fb-exit", "exit"],
            "texts": {
                "fb-success": "Thank you. Your statements are being checked.",
                "success": "Thank you. Your statements are being checked.",
                "fb-exit": "You have left the bank connection.",
                "exit": "You have left the bank connection.",
            },
            "postTo": "/bank/events",
            "token": "csrf",
            "eventType": "bankconnect",
        }

    def test_listens_first(self):
        """
        The listener precedes the frame, so that it misses no message.
        """
        text = snippet()

        assert text.index(SCRIPT) < text.index("<iframe")

    @pytest.mark.parametrize("tag", ["script", "style"])
    def test_nonce(self, tag):
        """
        The one script and the one style have the nonce.
        """
        assert Page(snippet()).only(tag) == {"nonce": NONCE}

    def test_no_inline_code(self):
        """
        No attribute holds code or style.
        """
        names = {
            name for _, attrs in Page(snippet()).elements for name in attrs
        }

        assert "style" not in names
        assert not [name for name in names if name.startswith("on")]

    def test_escapes(self):
        """
        Texts are escaped.
        """
        nasty = listener(
            token=NASTY,
            success_text=NASTY,
            exit_text=NASTY,
            unclear_text=NASTY,
            again_text=NASTY,
            leave_text=NASTY,
        )
        page = Page(
            snippet(
                session=session("https://a.example/?'<b>\""),
                listener=nasty,
                title=NASTY,
            )
        )

        found = json.loads(page.only("div")["data-bankconnect"])
        assert [tag for tag, _ in page.elements] == [
            "style",
            "div",
            "script",
            "p",
            "p",
            "button",
            "button",
            "iframe",
        ]
        assert page.only("iframe")["title"] == NASTY
        assert page.only("iframe")["src"] == "https://a.example/?'<b>\""
        assert found["token"] == NASTY
        assert found["texts"]["exit"] == NASTY

    def test_accessible(self):
        """
        The sentence that replaces the frame is announced and can take the
        focus; the buttons follow it, and are hidden until there is a choice.
        """
        note, actions = [
            attrs for name, attrs in Page(snippet()).elements if name == "p"
        ]

        assert note == {"role": "status", "tabindex": "-1"}
        assert actions == {"data-actions": None, "hidden": None}

    def test_no_way_out_of_the_elements(self):
        """
        Neither the script nor the style can end its element early.
        """
        assert "</" not in SCRIPT + STYLE
        assert "<!--" not in SCRIPT + STYLE

    @pytest.mark.parametrize(
        "url",
        [
            "javascript:alert(1)",
            "data:text/html,x",
            "//evil.example/",
            "/relative",
            "http://journey.example/",
            "https://a.example/ x",
            "https://[...]/x?session_id=a%20b",
        ],
    )
    def test_bad_url(self, url):
        """
        The frame accepts https URLs only, and no error shows the URL.
        """
        bad = session(url)

        for attempt in (
            lambda: snippet(session=bad),
            lambda: content_security_policy(bad, nonce=NONCE),
        ):
            with pytest.raises(InvalidRequestError) as caught:
                attempt()
            frames = [e.frame.f_locals for e in caught.traceback[2:]]
            assert url not in str(caught.value) + repr(frames)

    @pytest.mark.parametrize(
        ("url", "kwargs"),
        [
            ("http://localhost:8080/", {}),
            ("http://127.0.0.1/", {}),
            ("http://sandbox:8080/", {"allow_http": True}),
        ],
    )
    def test_http(self, url, kwargs):
        """
        Plain http is accepted on loopback, or where the caller allows it.
        """
        page = Page(snippet(session=session(url), **kwargs))

        assert page.only("iframe")["src"] == url

    @pytest.mark.parametrize(
        "nonce", ["", "short", NONCE + '"', NONCE + "; script-src *"]
    )
    def test_bad_nonce(self, nonce):
        """
        A nonce that is guessable or ends a directive is refused.
        """
        for attempt in (
            lambda: snippet(nonce=nonce),
            lambda: content_security_policy(session(), nonce=nonce),
        ):
            with pytest.raises(ConfigurationError) as caught:
                attempt()
            assert "nonce" in caught.value.fields


class TestListener:
    """
    A `Listener` refuses bad settings.
    """

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("post_to", "https://elsewhere.example/events"),
            ("post_to", "//elsewhere.example/events"),
            ("post_to", "/\\elsewhere.example/events"),
            ("post_to", "events"),
            ("post_to", "/with blank"),
            ("post_to", URL("/events")),
            ("token", ""),
            ("event_type", "two words"),
            ("success_text", " "),
            ("exit_text", None),
            ("unclear_text", ""),
            ("again_text", " "),
            ("leave_text", 1),
        ],
    )
    def test_refused(self, setting, value):
        """
        The error names the bad setting.
        """
        with pytest.raises(ConfigurationError) as caught:
            listener(**{setting: value})

        assert list(caught.value.fields) == [setting]

    def test_repr(self):
        """
        The repr hides the token.
        """
        assert "csrf" not in repr(listener())


class TestContentSecurityPolicy:
    """
    The policy allows what the snippet needs and nothing else.
    """

    def test_directives(self):
        """
        The policy allows the frame's origin, our own, and elements with the
        nonce.
        """
        policy = content_security_policy(session(), nonce=NONCE)

        assert directives(policy) == {
            "default-src": "'none'",
            "base-uri": "'none'",
            "connect-src": "'self'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
            "frame-src": "https://bankconnectclient.finbox.in",
            "object-src": "'none'",
            "script-src": f"'nonce-{NONCE}'",
            "style-src": f"'nonce-{NONCE}'",
        }

    @pytest.mark.parametrize(
        ("url", "origin"),
        [
            ("https://Bank.Example:443/x?Y=Z", "https://bank.example"),
            ("https://bank.example:8443/", "https://bank.example:8443"),
            ("http://127.0.0.1:9/", "http://127.0.0.1:9"),
        ],
    )
    def test_origin(self, url, origin):
        """
        Policy and listener write the origin as a browser does.
        """
        policy = content_security_policy(session(url), nonce=NONCE)
        root = Page(snippet(session=session(url))).only("div")

        assert directives(policy)["frame-src"] == origin
        assert json.loads(root["data-bankconnect"])["origin"] == origin
