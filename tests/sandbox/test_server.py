"""
The sandbox as a server, over loopback.
"""

import asyncio
import datetime
import io
import json
import re
import socket
import zlib

from pathlib import Path

import aiohttp
import attrs
import pytest

from yarl import URL

from bankconnect_async import sandbox as package
from bankconnect_async._codec.session_requests import (
    decode_session,
)
from bankconnect_async.errors import ConfigurationError
from bankconnect_async.sandbox import Sandbox


FIXTURES = Path(__file__).parents[1] / "fixtures"
LINK = {"link_id": "cust-1", "api_key": "sandbox-api-key"}

RESPONSES = {
    ("seed", "v1"): "session.response.seed.json",
    ("entity", "v1"): "session.response.v1.entity.json",
    ("session", "v1"): "session.response.v1.session.json",
    ("seed", "v2"): "session.response.v2.json",
}


def shape(text: str) -> str:
    """
    Replace what differs from call to call with placeholders.
    """
    uuid = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    text = re.sub(r"https?://[^/]+/", "<origin>/", text)
    text = re.sub(uuid, "<uuid>", text)
    return re.sub(r"[0-9a-f]{18,}", lambda hex_: f"<{len(hex_[0])}>", text)


@pytest.mark.parametrize(("dialect", "version"), RESPONSES)
async def test_answers_as_documented(http, dialect, version):
    """
    Each dialect's 2xx response has the keys and the form of its sample.
    """
    sample = json.loads((FIXTURES / RESPONSES[dialect, version]).read_bytes())
    async with Sandbox(dialect) as sandbox:
        response = await http.post(
            f"{sandbox.base_url}/{version}/session/", json=LINK
        )
        answer = await response.json()

    assert response.status == 200
    assert answer.keys() == sample.keys()
    assert {key: shape(text) for key, text in answer.items()} == {
        key: shape(text) for key, text in sample.items()
    }


async def test_answers_are_usable(sandbox, http):
    """
    Our own decoder reads a response, and finds the id of the record.
    """
    response = await http.post(f"{sandbox.base_url}/v2/session/", json=LINK)
    session = decode_session(await response.read())

    record = sandbox.sessions[session.session_id]
    assert record.redirect_url == session.redirect_url
    assert record.token == URL(session.redirect_url).query["token"]
    assert record.link_id == "cust-1"
    assert record.created_at.utcoffset() == datetime.timedelta(hours=5.5)


async def test_counts(sandbox, http):
    """
    Processed creates are counted by link id, and requests in total.
    """
    url = f"{sandbox.base_url}/v1/session/"
    for body in (LINK, LINK, {**LINK, "link_id": "cust-2"}, {}):
        await http.post(url, json=body)

    assert sandbox.created("cust-1") == 2
    assert sandbox.created("cust-2") == 1
    assert sandbox.created("cust-3") == 0
    assert sandbox.created() == len(sandbox.sessions) == 3
    assert sandbox.requests == 4


async def test_own_key(http):
    """
    Only the configured key is accepted, in the body or in the header.
    """
    async with Sandbox(api_key="clé") as sandbox:
        url = f"{sandbox.base_url}/v1/session/"
        responses = [
            await http.post(url, json={"link_id": "a"}, headers=headers)
            for headers in ({}, {"X-Api-Key": "clé"}, {"x-api-key": "cle"})
        ]

    assert [response.status for response in responses] == [401, 200, 401]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/bank-connect/v1/sessions", 404),
        ("/bank-connect/v3/session/", 404),
        ("/v1/session/", 404),
        ("/", 404),
    ],
)
async def test_other_paths(sandbox, http, path, status):
    """
    An unknown path has an HTML page, as Django would send.
    """
    origin = sandbox.base_url.removesuffix("/bank-connect")

    response = await http.post(origin + path, json=LINK)

    assert response.status == status
    assert response.content_type == "text/html"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods(sandbox, http, method):
    """
    The error for a method other than POST names the allowed one.
    """
    response = await http.request(
        method, f"{sandbox.base_url}/v2/session/", json=LINK
    )

    assert response.status == 405
    assert response.headers["Allow"] == "POST"


async def test_multipart(sandbox, http):
    """
    The multipart form that aiohttp writes is parsed.
    """
    with aiohttp.MultipartWriter("form-data") as form:
        for name, value in LINK.items():
            form.append(value).set_content_disposition("form-data", name=name)

    response = await http.post(f"{sandbox.base_url}/v1/session/", data=form)

    assert response.status == 200


async def test_large_body(sandbox, http):
    """
    A body beyond 1 MiB is refused, whatever its content.
    """
    response = await http.post(
        f"{sandbox.base_url}/v1/session/",
        data=io.BytesIO(b" " * (2**20 + 1)),
    )

    assert response.status == 413


async def test_compressed_body(sandbox, http):
    """
    A compressed body is no JSON.
    """
    response = await http.post(
        f"{sandbox.base_url}/v1/session/",
        data=zlib.compress(json.dumps(LINK).encode()),
        headers={
            "Content-Encoding": "deflate",
            "Content-Type": "application/json",
        },
    )

    assert response.status == 400
    assert "JSON parse error" in (await response.json())["detail"]


async def test_public_url(http):
    """
    Journey URLs start with the public URL, if there is one.
    """
    async with Sandbox(public_url="https://demo.example/") as sandbox:
        url = f"{sandbox.base_url}/v1/session/"
        answer = await (await http.post(url, json=LINK)).json()

    assert answer["redirect_url"].startswith(
        "https://demo.example/?session_id="
    )


async def test_restart(http):
    """
    A restarted sandbox has its sessions, and closing is idempotent.
    """
    sandbox = Sandbox()
    for _ in range(2):
        await sandbox.start()
        await http.post(f"{sandbox.base_url}/v1/session/", json=LINK)
        await sandbox.aclose()
        await sandbox.aclose()

    assert sandbox.created("cust-1") == 2


async def test_not_running():
    """
    The error for the address of a stopped sandbox says how to get one.
    """
    with pytest.raises(RuntimeError, match="async with"):
        _ = Sandbox().base_url


async def test_second_start(sandbox):
    """
    A running sandbox cannot be started a second time.
    """
    with pytest.raises(RuntimeError, match="running"):
        await sandbox.start()


async def test_taken_port():
    """
    The error for a port in use reaches the caller, and nothing is left open.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sandbox = Sandbox(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            await sandbox.start()

    async with sandbox:
        assert sandbox.base_url.startswith("http://127.0.0.1:")


async def test_wildcard_address():
    """
    A sandbox that listens everywhere has an address that clients can use.
    """
    async with Sandbox(host="0.0.0.0") as sandbox:  # noqa: S104
        assert sandbox.base_url.startswith("http://127.0.0.1:")


HEAD = b"POST /bank-connect/v1/session/ HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(HEAD + b"Content-Length: 99\r\n\r\n{", id="cut"),
        pytest.param(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", id="bad-chunk"
        ),
        pytest.param(b"\x16\x03\x01\r\n\r\n", id="tls"),
    ],
)
async def test_broken_requests(sandbox, http, request_):
    """
    A caller that breaks off or speaks no HTTP creates and breaks nothing.
    """
    host, port = sandbox.base_url.split("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request_)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()

    response = await http.post(f"{sandbox.base_url}/v1/session/", json=LINK)

    assert answer[9:12] in {b"", b"400"}
    assert response.status == 200
    assert sandbox.created() == 1


def test_reprs_keep_secrets():
    """
    No repr shows a secret.
    """
    shown = repr(
        Sandbox(
            api_key="hush-1",
            server_hash="hush-2",
            webhook_url="https://lender.example/hush-3",
            webhook_secret="hush-4",
        )
    )

    assert "hush" not in shown
    assert "seed" in shown


async def test_records(sandbox, http):
    """
    Records are frozen, the mapping is read-only, and the reprs show no URL.
    """
    response = await http.post(f"{sandbox.base_url}/v2/session/", json=LINK)
    session_id = (await response.json())["session_id"]
    record = sandbox.sessions[session_id]

    assert session_id not in repr(record)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        record.link_id = "other"
    with pytest.raises(TypeError):
        sandbox.sessions["x"] = record


def test_settings_are_fixed():
    """
    The settings of a sandbox cannot be changed after its creation.
    """
    with pytest.raises(attrs.exceptions.FrozenAttributeError):
        Sandbox().api_key = "other"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dialect", "v2"),
        ("dialect", ["seed"]),
        ("host", ""),
        ("host", 7),
        ("port", -1),
        ("port", 65536),
        ("port", True),
        ("port", "8000"),
        ("api_key", " "),
        ("server_hash", None),
        ("public_url", "demo.example"),
        ("public_url", "https://demo.example/?x=1"),
        ("public_url", "https://me:hush@demo.example"),
        ("public_url", "https://demo.example:port"),
        ("public_url", 7),
        ("webhook_url", "hooks"),
        ("webhook_url", "https://[]@/"),
        ("webhook_url", "ftp://127.0.0.1/hooks"),
        ("webhook_secret", ""),
        ("webhook_secret", "two\nlines"),
        ("webhook_secret", "clé"),
    ],
)
def test_bad_settings(field, value):
    """
    The error names a bad setting.
    """
    with pytest.raises(ConfigurationError) as caught:
        Sandbox(**{field: value})

    assert caught.value.fields.keys() == {field}


def test_bad_settings_together():
    """
    One error names all bad settings.
    """
    with pytest.raises(ConfigurationError) as caught:
        Sandbox("v9", port=-1)

    assert caught.value.fields.keys() == {"dialect", "port"}


def test_exports():
    """
    Every exported name exists and is public.
    """
    assert set(package.__all__) == {
        "UNPAID_API_KEY",
        "Dialect",
        "Fault",
        "Faults",
        "Played",
        "ReceivedRequest",
        "Sandbox",
        "SandboxEntity",
        "SandboxSession",
        "SentWebhook",
        "statement_pdf",
    }
    assert all(hasattr(package, name) for name in package.__all__)
