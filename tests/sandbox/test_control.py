"""
The control endpoints: another process drives the sandbox.
"""

import json
import math
import re

from pathlib import Path

import aiohttp
import pytest

from yarl import URL

from bankconnect_async.sandbox import Fault, Sandbox, statement_pdf


KEY = {"x-api-key": "sandbox-api-key"}
BOTH = {**KEY, "server-hash": "sandbox-server-hash"}


@pytest.fixture(name="control")
def _control(http):
    """Call a control endpoint, and return the status and the body."""

    async def call(sandbox, name, method="POST", *, headers=None, **given):
        url = URL(sandbox.base_url).with_path(f"/sandbox/{name}")
        sent = {"params" if method == "GET" else "json": given}
        async with http.request(
            method, url, headers=headers, **sent
        ) as response:
            return response.status, await response.json()

    return call


class TestActions:
    """
    Each action does what the method of its name does.
    """

    @pytest.mark.parametrize("dialect", ["seed", "entity", "session"])
    async def test_success(self, control, create, receiver, dialect):
        """
        A success returns what the page posts, and sends its webhook.
        """
        async with Sandbox(dialect, webhook_url=receiver.url) as sandbox:
            session = await create(sandbox, redirect_url="https://a.example/")
            status, played = await control(
                sandbox,
                "play",
                session_id=session.session_id,
                action="success",
            )
            _, webhooks = await control(sandbox, "webhooks", "GET")

        assert status == 200
        assert played["messages"][0]["status"].endswith("success")
        assert played["redirect"].startswith(
            "https://a.example/?success=true&"
        )
        assert [each["status"] for each in webhooks] == [200]
        assert [each["body"] for each in webhooks] == receiver.bodies

    async def test_failure(self, control, create):
        """
        A failure takes the same parameters as `play`.
        """
        async with Sandbox("session") as sandbox:
            session = await create(sandbox)
            _, played = await control(
                sandbox,
                "play",
                session_id=session.session_id,
                action="failure",
                error_type="NB004",
            )

        (message,) = played["messages"]
        assert message["payload"]["error_type"] == "NB004"

    @pytest.mark.parametrize("error_code", [None, "UNPARSABLE"])
    async def test_finish(self, http, control, create, error_code):
        """
        Processing ends well, or with the code of a failure.
        """
        async with Sandbox("session", processing_time=math.inf) as sandbox:
            session = await create(sandbox)
            data = f"{sandbox.base_url}/v1/session_data/{session.session_id}"
            await sandbox.play(session.session_id, "success")
            async with http.post(
                f"{data}/initiate_processing/", headers=BOTH
            ) as response:
                assert response.status == 202
            finished = await control(
                sandbox,
                "finish",
                owner_id=session.session_id,
                error_code=error_code,
            )
            async with http.get(
                f"{data}/session_status/", headers=BOTH
            ) as response:
                (account,) = (await response.json())["accounts"]

        assert finished == (200, {})
        assert account["error_code"] == error_code

    async def test_expire(self, control, create):
        """
        An expired session takes no step.
        """
        async with Sandbox() as sandbox:
            session = await create(sandbox)
            given = {"session_id": session.session_id}
            assert await control(sandbox, "expire", **given) == (200, {})
            played = await control(sandbox, "play", action="exit", **given)

        assert played == (400, {"session_id": ["has expired"]})

    @pytest.mark.parametrize("dialect", ["entity", "session"])
    async def test_resend(self, control, create, receiver, dialect):
        """
        The newest webhook goes out again, to the URL that is set now.
        """
        async with Sandbox(dialect, webhook_url=receiver.url) as sandbox:
            session = await create(sandbox)
            await sandbox.play(session.session_id, "success")
            status, sent = await control(
                sandbox, "resend_webhook", owner_id=session.session_id
            )

        first, again = receiver.bodies
        assert status == 200
        assert (sent["status"], sent["url"]) == (200, receiver.url)
        assert first == again == sent["body"]

    async def test_resend_without_url(self, control, create):
        """
        Without a URL, and before any webhook, the error says so.
        """
        async with Sandbox() as sandbox:
            session = await create(sandbox)
            given = {"owner_id": session.session_id}
            no_url = await control(sandbox, "resend_webhook", **given)
        async with Sandbox(webhook_url="http://127.0.0.1:9/") as sandbox:
            session = await create(sandbox)
            given = {"owner_id": session.session_id}
            no_webhook = await control(sandbox, "resend_webhook", **given)

        assert no_url == (400, {"webhook_url": ["is not set"]})
        assert no_webhook == (400, {"owner_id": ["has no webhook yet"]})

    @pytest.mark.parametrize(
        ("name", "given", "problem"),
        [
            (
                "play",
                {"session_id": "1d"},
                {
                    "non_field_errors": [
                        "missing a required argument: 'action'"
                    ]
                },
            ),
            (
                "play",
                {"session_id": "1d", "action": "exit"},
                {"session_id": ["is not a session of this sandbox"]},
            ),
            (
                "finish",
                {"owner": "1d"},
                {
                    "non_field_errors": [
                        "missing a required argument: 'owner_id'"
                    ]
                },
            ),
            (
                "finish",
                {"owner_id": []},
                {"owner_id": ["Not a valid string."]},
            ),
            (
                "finish",
                {"owner_id": "1d"},
                {
                    "owner_id": [
                        "is not being processed: start its processing first, "
                        "and finish it before the processing_time of the "
                        "sandbox is over"
                    ]
                },
            ),
        ],
    )
    async def test_bad_arguments(self, sandbox, control, name, given, problem):
        """
        The response names a bad argument.
        """
        assert await control(sandbox, name, **given) == (400, problem)


class TestListings:
    """
    What the sandbox received, created and sent.
    """

    async def test_sessions(self, sandbox, control, create):
        """
        Sessions are listed with their URLs, all or of one link id.
        """
        session = await create(sandbox)
        await create(sandbox, link_id="other")
        _, every = await control(sandbox, "sessions", "GET")
        _, found = await control(
            sandbox, "sessions", "GET", link_id=session.link_id
        )

        (one,) = found
        assert len(every) == 2
        assert one["session_id"] == session.session_id
        assert one["redirect_url"] == session.redirect_url

    async def test_requests(self, http, control, create):
        """
        Requests are listed with their parameters, and without secrets.
        """
        async with Sandbox("entity") as sandbox:
            session = await create(sandbox, bank_name="axis")
            url = f"{sandbox.base_url}/v1/statement/upload/?identity=true"
            form = aiohttp.FormData(
                {"bank_name": "axis", "link_id": "b", "pdf_password": "hush"}
            )
            for name in ("file", "scan"):
                form.add_field(name, statement_pdf(), filename="a.pdf")
            async with http.post(url, data=form, headers=KEY) as response:
                assert response.status == 200
            status, every = await control(sandbox, "requests", "GET")
            _, found = await control(
                sandbox, "requests", "GET", link_id=session.link_id
            )

        assert status == 200
        assert every == [
            {
                "method": "POST",
                "path": "/bank-connect/v1/session/",
                "parameters": {
                    "link_id": session.link_id,
                    "bank_name": "axis",
                },
                "link_id": session.link_id,
                "status": 200,
            },
            {
                "method": "POST",
                "path": "/bank-connect/v1/statement/upload/",
                "parameters": {
                    "identity": "true",
                    "bank_name": "axis",
                    "link_id": "b",
                },
                "link_id": "b",
                "status": 200,
            },
        ]
        assert found == every[:1]
        assert "sandbox-api-key" not in json.dumps(every)

    async def test_request_with_a_fault(self, sandbox, http):
        """
        A request that a fault kept from processing has no status.
        """
        sandbox.faults.script(Fault.status(503), Fault.status(503, after=True))
        body = {"link_id": "a", "api_key": sandbox.api_key}
        for _ in range(2):
            async with http.post(
                f"{sandbox.base_url}/v1/session/", json=body
            ) as response:
                assert response.status == 503

        assert [each.status for each in sandbox.request_log] == [None, 200]


@pytest.mark.parametrize(
    "body",
    [
        b'{"note": "' + b"x" * 20_000 + b'"}',
        b'{"note": ' + b"[" * 300 + b"]" * 300 + b"}",
    ],
    ids=["large", "nested"],
)
async def test_parameters_that_the_log_leaves_out(
    sandbox, http, control, body
):
    """
    Large and deeply nested parameters are not kept, and the listing works.
    """
    headers = {"Content-Type": "application/json"}
    url = f"{sandbox.base_url}/v1/statement/nosuch/"
    async with http.post(url, data=body, headers=headers) as response:
        assert response.status == 404
    status, (received,) = await control(sandbox, "requests", "GET")

    assert (status, received["parameters"]) == (200, {})


@pytest.mark.parametrize(
    "header", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"]
)
async def test_a_proxy_on_this_machine_needs_the_key(sandbox, control, header):
    """
    The requests that a proxy passes on may come from anywhere.
    """
    passed_on = {header: "203.0.113.9"}
    status, _ = await control(sandbox, "sessions", "GET", headers=passed_on)
    allowed, _ = await control(
        sandbox, "sessions", "GET", headers={**passed_on, **KEY}
    )

    assert (status, allowed) == (401, 200)


async def test_documented(sandbox, control):
    """
    Every endpoint of the documented table is served.
    """
    page = Path(__file__).parent.parent.parent / "docs" / "sandbox.md"
    endpoints = re.findall(
        r"^\| `(GET|POST) /sandbox/(\w+)`",
        page.read_text("utf-8"),
        re.MULTILINE,
    )
    statuses = [
        (await control(sandbox, name, method))[0] for method, name in endpoints
    ]

    assert statuses == [400] * 4 + [200] * 3


class TestAuthorization:
    """
    Programs of this machine need no key; all others do.
    """

    @pytest.mark.parametrize(
        ("settings", "headers", "status"),
        [
            ({}, {}, 200),
            ({"allow_hosts": ["box"]}, {"Host": "box:1"}, 401),
            ({"allow_hosts": ["box"]}, {"Host": "box:1", **KEY}, 200),
            ({"public_url": "https://box.example"}, {}, 401),
            ({"public_url": "https://box.example"}, KEY, 200),
            ({}, {"Host": "evil.example"}, 400),
            ({}, {"Origin": "https://evil.example"}, 400),
            ({}, {"Origin": "http://localhost:3000"}, 400),
        ],
        ids=str,
    )
    async def test_key(self, control, create, settings, headers, status):
        """
        The key is needed where a request may come from another machine.
        """
        async with Sandbox(**settings) as sandbox:
            session = await create(sandbox)
            response = await control(
                sandbox,
                "play",
                headers=headers,
                session_id=session.session_id,
                action="exit",
            )

        assert response[0] == status
