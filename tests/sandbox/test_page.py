"""
The journey's page, over loopback and without a browser.
"""

import csv
import html
import importlib.resources
import re

import pytest

from bankconnect_async._codec.browser_messages import decode_event
from bankconnect_async.models.events import ErrorType
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.testing import FakeClock


BANNER = "<strong>Sandbox: not FinBox.</strong> Do not enter real bank data."
EVIL = "<script>alert('&\"')</script>"


async def fetch(http, url):
    """
    Get a page, and return its response and its text.
    """
    async with http.get(url) as response:
        return response, await response.text()


async def step(http, url, **said):
    """
    Do a step as the page does, and return status and body.
    """
    async with http.post(url, json=said) as response:
        assert response.content_type == "application/json"
        return response.status, await response.json()


def policy(response):
    """
    Read the policy of a page.
    """
    header = response.headers["Content-Security-Policy"]
    return dict(part.split(" ", 1) for part in header.split("; "))


class TestPage:
    """
    An open journey.
    """

    @pytest.mark.parametrize("version", ["v1", "v2"])
    async def test_opens(self, sandbox, http, create, version):
        """
        The URL of a session leads to a page that says that it is a sandbox.
        """
        session = await create(sandbox, version)

        response, text = await fetch(http, session.redirect_url)

        assert response.status == 200
        assert response.content_type == "text/html"
        assert BANNER in text

    async def test_headers(self, sandbox, http, create):
        """
        The page may be framed by anyone, loads nothing else, and is not
        cached.
        """
        session = await create(sandbox)

        response, text = await fetch(http, session.redirect_url)

        nonce = re.search(r'<script nonce="([^"]+)">', text)[1]
        assert policy(response) == {
            "default-src": "'none'",
            "script-src": f"'nonce-{nonce}'",
            "style-src": f"'nonce-{nonce}'",
            "img-src": "data:",
            "connect-src": "'self'",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "*",
        }
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"

    async def test_nonces_differ(self, sandbox, http, create):
        """
        No nonce is used twice.
        """
        session = await create(sandbox)

        nonces = {
            policy((await fetch(http, session.redirect_url))[0])["script-src"]
            for _ in range(3)
        }

        assert len(nonces) == 3

    async def test_is_self_contained(self, http, create):
        """
        The page refers to nothing outside of it, the logo included.
        """
        async with Sandbox("entity") as sandbox:
            session = await create(
                sandbox, logo_url="https://lender.example/logo.png"
            )
            _, text = await fetch(http, session.redirect_url)

        sources = re.findall(r'\b(?:src|href|action)="([^"]*)"', text)
        assert all(source.startswith("data:") for source in sources)
        assert "lender.example" not in text
        assert not re.search(r"url\(|@import|\bon[a-z]+=|\bstyle=", text)

    async def test_is_escaped(self, http, create):
        """
        The parameters of a session are escaped.
        """
        async with Sandbox("entity") as sandbox:
            session = await create(sandbox, link_id=EVIL, bank_name=EVIL)
            _, text = await fetch(http, session.redirect_url)

        assert EVIL not in text
        assert text.count(html.escape(EVIL)) == 3

    async def test_offers_every_bank(self, sandbox, http, create):
        """
        The page offers every documented bank with its modes.
        """
        session = await create(sandbox)
        _, text = await fetch(http, session.redirect_url)

        table = importlib.resources.files("bankconnect_async.sandbox")
        rows = csv.DictReader(
            table.joinpath("banks.csv").read_text().splitlines()
        )
        buttons = re.findall(
            r'data-bank="([^"]+)" data-modes="([^"]*)">(.+)</button>', text
        )
        assert {(code, html.unescape(name)) for code, _, name in buttons} == {
            (row["identifier"], row["bank_name"]) for row in rows
        }
        modes = {code: offered for code, offered, _ in buttons}
        assert modes["HDFC"] == "manual net_banking account_aggregator"
        assert modes["ANDHRA"] == "manual"

    async def test_offers_every_failure(self, sandbox, http, create):
        """
        The page offers every documented failure where it can happen.
        """
        session = await create(sandbox)
        _, text = await fetch(http, session.redirect_url)

        manual, net_banking, consent = re.findall(
            r"<select.*?</select>", text, re.DOTALL
        )
        codes = re.compile(r'<option value="(\w+)">')
        assert codes.findall(consent) == ["CONSENT_REJECTED", "CONSENT_FAILED"]
        assert all(code.startswith("MU") for code in codes.findall(manual))
        assert {*codes.findall(manual), *codes.findall(net_banking)} == {
            *ErrorType
        }

    @pytest.mark.parametrize(
        ("parameters", "data"),
        [
            (
                {},
                {
                    "bank": "",
                    "mode": "",
                    "modes": "manual net_banking account_aggregator",
                },
            ),
            (
                {"bank_name": "hdfc"},
                {"bank": "HDFC", "bank-name": "HDFC Bank", "mode": ""},
            ),
            (
                {"bank_name": "andhra", "mode": "pdf"},
                {"bank": "ANDHRA", "modes": "manual", "mode": "manual"},
            ),
            ({"mode": "online"}, {"mode": "net_banking"}),
            (
                {"bank_name": "andhra", "mode": "aa"},
                {"modes": "manual", "mode": "account_aggregator"},
            ),
            ({"bank_name": "gringotts"}, {"bank-name": "gringotts"}),
        ],
    )
    async def test_starts_where_asked(self, http, create, parameters, data):
        """
        A bank or a mode of the session is chosen already.
        """
        async with Sandbox("entity") as sandbox:
            session = await create(sandbox, **parameters)
            _, text = await fetch(http, session.redirect_url)

        root = re.search(r'<div class="card" id="journey"[^>]*>', text)[0]
        for name, value in data.items():
            assert f' data-{name}="{value}"' in root

    async def test_knows_its_end(self, http, create):
        """
        The page has the number of seconds until it expires.
        """
        clock = FakeClock()
        async with Sandbox(clock=clock) as sandbox:
            session = await create(sandbox)
            clock.now += 600.5
            _, text = await fetch(http, session.redirect_url)

        assert 'data-expires-in="3000"' in text

    async def test_head(self, sandbox, http, create):
        """
        A HEAD has the response of a GET, without its body.
        """
        session = await create(sandbox)

        response = await http.head(session.redirect_url)

        assert response.status == 200


class TestNotices:
    """
    Journeys that cannot be opened.
    """

    @pytest.mark.parametrize("query", ["", "?session_id=", "?session_id=1d"])
    async def test_unknown(self, sandbox, http, query):
        """
        The page of an unknown session says so.
        """
        origin = sandbox.base_url.removesuffix("/bank-connect")

        response, text = await fetch(http, f"{origin}/{query}")

        assert response.status == 404
        assert "This link opens no session" in text
        assert BANNER in text
        assert policy(response)["default-src"] == "'none'"

    @pytest.mark.parametrize("token", ["", "&token=", "&token=ff"])
    async def test_token(self, sandbox, http, create, token):
        """
        A session of v2 needs its token, to look and to act.
        """
        session = await create(sandbox, "v2")
        url = session.redirect_url.partition("&")[0] + token

        response, text = await fetch(http, url)
        refusal = await http.post(url, json={"action": "success"})

        assert response.status == refusal.status == 404
        assert "This link opens no session" in text
        assert not (await sandbox.webhooks_sent())

    async def test_expired(self, http, create):
        """
        An expired session opens nothing.
        """
        clock = FakeClock()
        async with Sandbox("session", clock=clock) as sandbox:
            session = await create(sandbox, session_expiry=5)
            clock.now += 300
            response, text = await fetch(http, session.redirect_url)
            refusal = await http.post(
                session.redirect_url, json={"action": "success"}
            )

        assert response.status == refusal.status == 410
        assert "This session has expired" in text

    async def test_expire(self, sandbox, http, create):
        """
        A session can be made to expire.
        """
        session = await create(sandbox)
        sandbox.expire(session.session_id)

        response, _ = await fetch(http, session.redirect_url)

        assert response.status == 410

    async def test_completed(self, sandbox, http, create):
        """
        The page of a completed session says so, and accepts no further step.
        """
        session = await create(sandbox)
        await sandbox.play(session.session_id, "success")
        sandbox.expire(session.session_id)

        response, text = await fetch(http, session.redirect_url)
        refusal = await http.post(
            session.redirect_url, json={"action": "exit"}
        )

        assert response.status == 200
        assert "Statements already submitted" in text
        assert refusal.status == 409


class TestSteps:
    """
    The steps that the page posts to the sandbox.
    """

    async def test_walk(self, http, create, sample_json):
        """
        A complete walk has the messages of its dialect, and the redirect.
        """
        async with Sandbox("entity") as sandbox:
            url = (
                await create(sandbox, redirect_url="https://a.example/r")
            ).redirect_url
            walk = [
                await step(http, url, **said)
                for said in (
                    {"action": "bank_selected", "bank": "HDFC"},
                    {"action": "manual"},
                    {"action": "failure", "error_type": "MU003"},
                    {"action": "success", "mode": "pdf", "bank": "HDFC"},
                )
            ]
            (entity,) = sandbox.entities.values()

        assert [status for status, _ in walk] == [200] * 4
        statuses = [body["messages"][0]["status"] for _, body in walk]
        assert statuses == ["info", "info", "error", "success"]
        assert [body["redirect"] for _, body in walk[:3]] == [None] * 3
        assert walk[0][1]["messages"] == [
            sample_json("event.iframe.info.v1.bank_selected.json")
        ]
        assert walk[3][1]["redirect"] == (
            f"https://a.example/r?success=true&entity_id={entity.entity_id}"
        )
        assert entity.link_id == "cust-7f31-0042"

    async def test_v2_reports_as_the_session_flow(self, sandbox, http, create):
        """
        A session of v2 ends with its own id, whatever the dialect of v1.
        """
        session = await create(sandbox, "v2")

        _, body = await step(http, session.redirect_url, action="success")

        event = decode_event(body["messages"][0])
        assert event.session_id == session.session_id
        assert not sandbox.entities

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            ((b"{", "application/json"), 400),
            ((b"[]", "application/json"), 400),
            ((b'{"action": "win"}', "application/json"), 400),
            ((b"success", "text/plain"), 415),
        ],
    )
    async def test_nonsense(self, sandbox, http, create, sent, status):
        """
        Steps that the page would not post are refused, and change nothing.
        """
        body, content_type = sent
        session = await create(sandbox)

        response = await http.post(
            session.redirect_url,
            data=body,
            headers={"Content-Type": content_type},
        )

        assert response.status == status
        assert "error" in await response.json()
        assert not sandbox.entities
