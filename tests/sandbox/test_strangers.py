"""
The sandbox serves programs and its own pages, and no pages of other sites.
"""

import asyncio
import logging

import pytest

from yarl import URL

from bankconnect_async import AsyncBankConnect
from bankconnect_async.errors import ConfigurationError
from bankconnect_async.sandbox import Sandbox


EVIL = "https://evil.example"
REFUSED = (
    {"Host": "evil.example"},
    {"Host": "evil.example:8600"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "localhost.evil.example"},
    {"Host": "192.168.1.7"},
    {"Host": "[2001:db8::1]:8600"},
    {"Host": ""},
    {"Origin": EVIL},
    {"Origin": "null"},
    {"Origin": "http://localhost:1"},
    {"Origin": "http://[oops"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
)


@pytest.fixture(name="hook")
def _hook(http):
    """Set the webhook with the right key, and return the status."""

    async def send(sandbox, headers, *, form=False):
        url = f"{sandbox.base_url}/v1/session_data/update_webhook/"
        target = {"webhook_url": "http://127.0.0.1:9/inside"}
        body = {"data": target} if form else {"json": target}
        given = {
            "x-api-key": sandbox.api_key,
            "server-hash": sandbox.server_hash,
            **headers,
        }
        async with http.post(url, headers=given, **body) as answer:
            return answer.status, await answer.text()

    return send


@pytest.mark.parametrize("headers", REFUSED, ids=str)
async def test_pages_of_others(hook, headers):
    """
    A page whose name resolves to loopback, or that posts from its own origin,
    changes nothing, even with the key.
    """
    async with Sandbox("session") as sandbox:
        statuses = [
            (await hook(sandbox, headers, form=form))[0]
            for form in (False, True)
        ]
        session = await begin(sandbox)
        await sandbox.play(session.session_id, "success")

        assert statuses == [400, 400]
        assert await sandbox.webhooks_sent() == ()


async def begin(sandbox):
    """
    Create a session as a program does.
    """
    async with AsyncBankConnect(
        sandbox.api_key, base_url=sandbox.base_url, redirect_url=None
    ) as bank:
        return await bank.create_session("customer-42")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost"},
        {"Host": "LOCALHOST.:8600"},
        {"Host": "127.0.0.2:1"},
        {"Host": "[::1]:8600"},
        {"Host": "localhost:5", "Origin": "http://localhost:5"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
async def test_programs_and_own_pages(hook, headers):
    """
    Requests by loopback names, or from the sandbox's own origin, are served.
    """
    async with Sandbox("session") as sandbox:
        assert (await hook(sandbox, headers))[0] == 200


@pytest.mark.parametrize(
    ("settings", "host", "origin"),
    [
        ({"allow_hosts": ["Sandbox"]}, "sandbox:8600", None),
        ({"allow_hosts": ["192.168.1.7"]}, "192.168.1.7:80", None),
        ({"allow_hosts": ["2001:db8::1"]}, "[2001:DB8::1]", None),
        ({"public_url": EVIL}, "evil.example", EVIL),
        ({"public_url": EVIL}, "localhost", EVIL),
    ],
)
async def test_names_that_are_allowed(hook, settings, host, origin):
    """
    Allowed host names and the public URL are served, too.
    """
    headers = {"Host": host, **({"Origin": origin} if origin else {})}
    async with Sandbox("session", **settings) as sandbox:
        assert (await hook(sandbox, headers))[0] == 200


async def test_says_what_to_do(hook):
    """
    The error for another host name says how to allow it.
    """
    async with Sandbox() as sandbox:
        status, text = await hook(sandbox, {"Host": "sandbox:8600"})

    # 401 and 403 would be put down to the key.
    assert status == 400
    assert "'sandbox'" in text
    assert "--allow-host" in text


async def test_journeys_of_others(http, create):
    """
    A page of another site cannot play a journey whose URL it knows.
    """
    async with Sandbox() as sandbox:
        session = await create(sandbox)
        url = URL(session.redirect_url, encoded=True)
        statuses = []
        for headers in ({"Origin": EVIL}, {"Origin": str(url.origin())}):
            async with http.post(
                url, json={"action": "exit"}, headers=headers
            ) as answer:
                statuses.append(answer.status)

    assert statuses == [400, 200]


async def test_no_host_at_all():
    """
    A request without a Host header is served, because only programs send one.
    """
    async with Sandbox() as sandbox:
        url = URL(sandbox.base_url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"GET /bank-connect/v1/entity/ HTTP/1.0\r\n\r\n")
        head = await reader.readline()
        writer.close()

    assert b" 401 " in head


@pytest.mark.parametrize(
    ("host", "count"),
    [("127.0.0.1", 0), ("localhost", 0), ("0.0.0.0", 1)],  # noqa: S104
)
async def test_warns_of_an_open_door(caplog, host, count):
    """
    The sandbox warns if other machines can reach it.
    """
    with caplog.at_level(logging.WARNING, "bankconnect_async.sandbox"):
        async with Sandbox(host=host):
            pass

    assert len(caplog.records) == count
    assert all(host in record.message for record in caplog.records)


@pytest.mark.parametrize(
    "value", ["sandbox", ["http://x"], ["x:80"], [""], [7], 7]
)
def test_bad_names(value):
    """
    An invalid host name is refused when the sandbox is made.
    """
    with pytest.raises(ConfigurationError) as caught:
        Sandbox(allow_hosts=value)

    assert caught.value.fields.keys() == {"allow_hosts"}
