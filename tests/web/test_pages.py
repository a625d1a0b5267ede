"""
The pages that the protocol renders.
"""

import html
import json
import re

from http import HTTPStatus

import pytest

from yarl import URL

from bankconnect_async.models.sessions import Session
from bankconnect_async.web import BrowserReport, PageTexts, WebRequest


SESSION = Session(
    link_id="customer-42",
    session_id="s-1",
    redirect_url=URL("https://bankconnectclient.finbox.in/?session_id=s-1"),
)
EXIT = {
    "type": "finbox-bankconnect",
    "status": "fb-exit",
    "payload": {"reason": ""},
}


class TestPages:
    """
    The pages that the protocol renders.
    """

    def test_connect(self, ours, json_call):
        """
        The connect page has the frame, and a token that its posts are accepted
        with.
        """
        reply = ours.render_connect_page(SESSION)
        text = reply.body.decode()
        settings = json.loads(
            html.unescape(re.search('data-bankconnect="([^"]*)"', text)[1])
        )

        assert reply.status == 200
        assert f'src="{SESSION.redirect_url}"' in text
        assert settings["postTo"] == "/bank/events"
        body = {"event": EXIT, "token": settings["token"]}
        claim = ours.parse_event(json_call(json.dumps(body).encode()))
        assert isinstance(claim, BrowserReport)

    def test_security_headers(self, ours):
        """
        The headers forbid framing, caching, sniffing and the Referer header.
        """
        pages = [
            ours.render_connect_page(SESSION),
            ours.parse_return(WebRequest()),
            ours.render_failure(HTTPStatus.SERVICE_UNAVAILABLE),
            ours.respond_to_event(HTTPStatus.FORBIDDEN),
        ]

        for reply in pages:
            policy = reply.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert reply.headers["Cache-Control"] == "no-store"
            assert reply.headers["Referrer-Policy"] == "no-referrer"
            assert reply.headers["X-Content-Type-Options"] == "nosniff"

    def test_every_script_and_style_has_the_nonce(self, protocol):
        """
        Every script and style on the page satisfies the content security
        policy.
        """
        reply = protocol(next_url="/next").render_connect_page(SESSION)
        text = reply.body.decode()
        (nonce,) = set(re.findall('nonce="([^"]*)"', text))

        assert f"'nonce-{nonce}'" in reply.headers["Content-Security-Policy"]
        assert len(re.findall("<(?:script|style)", text)) == text.count(
            f'nonce="{nonce}"'
        )
        assert "style=" not in text

    def test_nonce_is_new_every_time(self, ours):
        """
        No two pages have the same nonce.
        """
        policies = {
            ours.render_connect_page(SESSION).headers[
                "Content-Security-Policy"
            ]
            for _ in range(5)
        }

        assert len(policies) == 5

    @pytest.mark.parametrize(
        ("base", "flags"),
        [
            (
                "https://lender.example/bank",
                {"Path=/bank/return", "Secure"},
            ),
            ("http://127.0.0.1:1/", {"Path=/return"}),
        ],
    )
    def test_cookie(self, protocol, base, flags):
        """
        The cookie is limited to our return page, and hidden from scripts.
        """
        reply = protocol(base).start_redirect(SESSION)
        _, *given = reply.headers["Set-Cookie"].split("; ")

        assert reply.status == 303
        assert reply.headers["Location"] == str(SESSION.redirect_url)
        assert set(given) == flags | {
            "HttpOnly",
            "SameSite=Lax",
            "Max-Age=2592000",
        }

    def test_texts(self, protocol):
        """
        The texts of the pages can be translated, and are escaped.
        """
        texts = PageTexts(
            language="de",
            title="Bank <verbinden>",
            unknown="Ungültig & abgelaufen",
            proceed="Weiter",
        )
        ours = protocol(texts=texts, next_url='/konto?a="b"&c')
        notice = ours.parse_return(WebRequest()).body.decode()
        page = ours.render_connect_page(SESSION).body.decode()

        assert '<html lang="de">' in notice
        assert "Ungültig &amp; abgelaufen" in notice
        assert '<a href="/konto?a=&quot;b&quot;&amp;c">Weiter</a>' in notice
        assert "<h1>Bank &lt;verbinden&gt;</h1>" in page
        assert 'data-url="/konto?a=&quot;b&quot;&amp;c"' in page

    def test_texts_of_the_frame(self, protocol):
        """
        The sentence that replaces the frame uses the same texts.
        """
        listener = protocol(texts=PageTexts(success="Danke")).listener(SESSION)

        assert listener.success_text == "Danke"
        assert listener.exit_text == PageTexts().exit

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({}, None),
            ({"Sec-Fetch-Dest": "document"}, None),
            ({"Sec-Fetch-Dest": "iframe"}, 403),
            ({"Sec-Fetch-Dest": "image"}, 403),
            ({"Sec-Fetch-Dest": "empty"}, 403),
            ({"Sec-Purpose": "prefetch;prerender"}, 403),
        ],
    )
    def test_visits(self, ours, headers, status):
        """
        Only a navigation by a person creates a session.
        """
        refused = ours.check_visit(WebRequest(headers=headers))

        assert getattr(refused, "status", None) == status
