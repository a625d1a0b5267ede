"""
``bankconnect trigger``: another process drives the sandbox.
"""

import asyncio
import http.server
import json
import threading

from asyncio import to_thread
from contextlib import asynccontextmanager

import pytest

from aiohttp import web

from bankconnect_async import AsyncBankConnect, SuccessEvent, decode_event
from bankconnect_async.sandbox import Sandbox


TRIGGER = "bankconnect_async.cli.trigger"


@pytest.fixture(name="session_id")
def _session_id(bankconnect, service):
    """The id of a session, which the command line created."""
    result = bankconnect("session", "customer-42", "--inline-frame")
    assert result.code == 0
    (session_id,) = service.sessions
    return session_id


def test_success(bankconnect, service, session_id):
    """
    The journey is completed, and the result is what the page posts.
    """
    result = bankconnect("trigger", "success", session_id, "--bank", "hdfc")

    played = json.loads(result.out)
    event = decode_event(played["messages"][0])
    (entity,) = service.entities.values()
    assert (result.code, result.err) == (0, "")
    assert isinstance(event, SuccessEvent)
    assert event.entity_id == entity.entity_id
    assert played["redirect"] is None


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["exit"], "User closed the journey"),
        (["error"], "Password Incorrect"),
        (["error", "--error-type", "NB004"], "Invalid Captcha"),
        (["error", "--mode", "online"], "Net banking login failed"),
    ],
    ids=" ".join,
)
def test_other_ends(bankconnect, service, session_id, args, reason):
    """
    The customer leaves, or meets an error; the URL of a session is an id.
    """
    event, *options = args
    url = service.sessions[session_id].redirect_url
    result = bankconnect("trigger", event, url, *options)

    (message,) = json.loads(result.out)["messages"]
    assert result.code == 0
    assert message["payload"]["reason"] == reason


def test_expire(bankconnect, session_id):
    """
    An expired session takes no step, and the error says so.
    """
    assert bankconnect("trigger", "expire", session_id).code == 0
    result = bankconnect("trigger", "success", session_id)

    assert result.code == 2
    assert result.err == "bankconnect: ID: has expired\n"


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["exit", "1d"], "ID: is not a session of this sandbox"),
        (["finish", "1d"], "ID: is not being processed"),
        (["webhook", "1d"], "webhook_url: is not set"),
        (["exit", "1d", "--bank", "hdfc"], "--bank does not go with exit"),
        (["error", "1d", "--error-code", "X"], "--error-code does not go"),
        (["error", "1d", "--base-url", "ftp://x"], "--base-url"),
        (["error", "1d", "--base-url", "http://x"], "is not an https URL"),
        (["error", "1d", "--base-url", "http://[::1]:9"], "no sandbox"),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("service")
def test_bad_arguments(bankconnect, args, problem):
    """
    A bad argument is a usage error that names it.
    """
    result = bankconnect("trigger", *args)

    assert result.code == 2
    assert problem in result.err


async def test_refused_key(bankconnect, monkeypatch):
    """
    Behind a public URL the sandbox wants its key.
    """
    results = []
    async with Sandbox(public_url="https://box.example") as sandbox:
        monkeypatch.setenv("BANKCONNECT_BASE_URL", sandbox.base_url)
        for key in ("other", sandbox.api_key):
            monkeypatch.setenv("BANKCONNECT_API_KEY", key)
            result = await to_thread(bankconnect, "trigger", "exit", "1d")
            results.append((result.code, result.err))

    assert results == [
        (
            3,
            "bankconnect: the sandbox refused the key; check "
            "BANKCONNECT_API_KEY\n",
        ),
        (2, "bankconnect: ID: is not a session of this sandbox\n"),
    ]


@pytest.fixture(name="answering")
async def _answering():
    """
    Serve 400 with a body at any address; yields the origin and the requests.
    """

    @asynccontextmanager
    async def answering(body):
        received = []

        async def handle(request):
            received.append(request.headers)
            return web.Response(status=400, body=body)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}", received
        finally:
            await runner.cleanup()

    return answering


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"[1]", "no sandbox responds at"),
        (b"3", "no sandbox responds at"),
        (b'{"status": 0}', "bankconnect: status: 0"),
    ],
)
async def test_strange_errors(
    bankconnect, monkeypatch, answering, body, problem
):
    """
    The body of an error may be anything, and the key ends with a newline.
    """
    monkeypatch.setenv("BANKCONNECT_API_KEY", "key\n")
    async with answering(body) as (origin, received):
        result = await to_thread(
            bankconnect, "trigger", "exit", "1d", "--base-url", origin
        )

    assert problem in result.err
    assert "Traceback" not in result.err
    assert received[0]["x-api-key"] == "key"


def test_the_default_address_gets_no_key(bankconnect, monkeypatch):
    """
    Another program may listen at the default address.
    """
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(self.headers)
            self.send_error(404)

        def log_message(self, *_):
            pass

    monkeypatch.setenv("BANKCONNECT_API_KEY", "production-key")
    monkeypatch.delenv("BANKCONNECT_BASE_URL", raising=False)
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}/bank-connect"
        monkeypatch.setattr(f"{TRIGGER}._DEFAULT_URL", url)
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        bankconnect("trigger", "exit", "1d")
        thread.join()

    (headers,) = received
    assert "x-api-key" not in headers


@pytest.mark.usefixtures("service")
def test_blank_options_count(bankconnect):
    """
    An option that is given blank is refused, and not left out.
    """
    result = bankconnect("trigger", "finish", "1d", "--bank", "")

    assert result.code == 2
    assert "--bank does not go with finish" in result.err


async def test_not_a_sandbox(bankconnect, monkeypatch):
    """
    An API that is not a sandbox is named as what it is not.
    """
    app = web.Application()
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    monkeypatch.setenv("BANKCONNECT_BASE_URL", f"{origin}/bank-connect")
    result = await to_thread(bankconnect, "trigger", "exit", "1d")
    await runner.cleanup()

    assert result.code == 2
    assert f"no sandbox responds at {origin}" in result.err


@pytest.mark.long
async def test_from_another_process(start, monkeypatch):
    """
    A session completes, is processed, and its webhooks reach a server.
    """
    hooks = asyncio.Queue()

    async def receive(request):
        await hooks.put(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/hooks", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
    sandbox = await start(
        *("sandbox", "--port", 0, "--dialect", "session"),
        *("--webhook-url", url, "--processing-time", 3600),
    )
    settings = {}
    while len(settings) < 3:
        line = (await sandbox.stdout.readline()).decode()
        if line.startswith("export "):
            name, _, value = line.split()[1].partition("=")
            settings[name] = value
            monkeypatch.setenv(name, value)
    async with AsyncBankConnect.from_env(settings, redirect_url=None) as bank:
        session = bank.session(await bank.create_session("customer-42"))

        async def trigger(event):
            process = await start("trigger", event, session.session_id)
            out, _ = await process.communicate()
            assert process.returncode == 0
            return json.loads(out)

        async with asyncio.timeout(60):
            await trigger("success")
            completed = await hooks.get()
            await session.initiate_processing()
            await trigger("finish")
            enriched = await hooks.get()
            again = await trigger("webhook")
            resent = await hooks.get()
            status = await session.status()
    await runner.cleanup()

    assert completed["event_name"] == (
        "SESSION_REQUIREMENT_COMPLETION_NOTIFICATION"
    )
    assert enriched["event_name"] == "ENRICHMENT_NOTIFICATION"
    assert resent == enriched == again["body"]
    assert again["status"] == 200
    assert [account.account_status for account in status.accounts] == [
        "completed"
    ]
