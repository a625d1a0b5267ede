"""
``bankconnect sandbox``.
"""

import shlex
import signal
import socket

import aiohttp
import pytest

from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.sandbox import statement_pdf


async def read_settings(process):
    """
    Read the variables that the command prints for a shell.
    """
    comment = await process.stdout.readline()
    assert comment.startswith(b"# ")
    settings = {}
    for _ in range(3):
        (_, word) = shlex.split((await process.stdout.readline()).decode())
        name, _, value = word.partition("=")
        settings[name] = value
    return settings


@pytest.mark.parametrize(
    ("number", "options", "lines"),
    [
        (signal.SIGINT, [], b"POST /bank-connect/v1/session/: 200\n"),
        (signal.SIGTERM, ["--quiet"], b""),
    ],
)
async def test_serves_until_stopped(start, number, options, lines):
    """
    The command prints the settings of its clients, a line for each request
    unless it is quiet, and exits with 0 on a signal.
    """
    process = await start("sandbox", "--port", "0", *options)
    settings = await read_settings(process)
    async with AsyncBankConnect.from_env(settings, redirect_url=None) as bank:
        session = await bank.create_session("a")
    process.send_signal(number)

    assert session.link_id == "a"
    assert settings["BANKCONNECT_SERVER_HASH"] == "sandbox-server-hash"
    assert await process.wait() == 0
    assert await process.stderr.read() == lines


@pytest.mark.long
async def test_own_settings(start):
    """
    Key, hash, dialect and port can be set, and a shell can read them.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = await start(
        *("sandbox", "--port", port, "--dialect", "session"),
        *("--api-key", "it's mine", "--server-hash", "$HOME"),
    )
    settings = await read_settings(process)
    async with AsyncBankConnect.from_env(settings, redirect_url=None) as bank:
        session = await bank.create_session("a")

    assert settings == {
        "BANKCONNECT_BASE_URL": f"http://127.0.0.1:{port}/bank-connect",
        "BANKCONNECT_API_KEY": "it's mine",
        "BANKCONNECT_SERVER_HASH": "$HOME",
    }
    assert session.session_id.count("-") == 4


def test_port_in_use(bankconnect):
    """
    A port that is in use is an error with advice.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        result = bankconnect("sandbox", "--port", port)

    assert result.code == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in result.err
    assert "choose another" in result.err


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["--port", "65536"], "--port"),
        (["--host", ""], "host: must be"),
        (["--api-key", " "], "--api-key: must be"),
        (["--dialect", "klingon"], "--dialect"),
        (["--allow-host", "http://x"], "--allow-host: must be"),
        (["--allow-origin", "app.example"], "--allow-origin: must be"),
    ],
)
def test_bad_settings(bankconnect, args, problem):
    """
    The message names a setting that cannot work.
    """
    result = bankconnect("sandbox", *args)

    assert result.code == 2
    assert problem in result.err


@pytest.mark.long
async def test_processing_time(start):
    """
    Statements are processed for the given time.
    """
    process = await start(
        *("sandbox", "--port", 0, "--dialect", "session"),
        *("--processing-time", 3600),
    )
    settings = await read_settings(process)
    async with AsyncBankConnect.from_env(settings, redirect_url=None) as bank:
        session = bank.session((await bank.create_session("a")).session_id)
        await session.upload(statement_pdf())
        await session.initiate_processing()

        assert (await session.progress()).session_progress == "processing"


@pytest.mark.long
@pytest.mark.parametrize("options", [(), ("--allow-remote-webhooks",)])
async def test_remote_webhooks(start, options):
    """
    Webhooks go to other machines only on demand.
    """
    process = await start(
        *("sandbox", "--port", 0, "--webhook-url", "http://web.invalid/"),
        *options,
    )
    settings = await read_settings(process)
    origin = settings["BANKCONNECT_BASE_URL"].removesuffix("/bank-connect")
    async with (
        AsyncBankConnect.from_env(settings, redirect_url=None) as bank,
        aiohttp.ClientSession(origin) as http,
    ):
        session = await bank.create_session("a")
        step = {"session_id": session.session_id, "action": "success"}
        async with http.post("/sandbox/play", json=step) as response:
            assert response.status == 200
        async with http.get("/sandbox/webhooks") as response:
            (webhook,) = await response.json()

    is_refused = webhook["problem"] == "leads to another machine"
    assert is_refused is not bool(options)


@pytest.mark.long
async def test_reachable_from_other_machines(start):
    """
    The command warns when other machines can reach it, and accepts their host
    name.
    """
    process = await start(
        *("sandbox", "--port", "0", "--host", "0.0.0.0"),  # noqa: S104
        *("--allow-host", "sandbox", "--quiet"),
    )
    settings = await read_settings(process)
    statuses = []
    async with aiohttp.ClientSession() as http:
        for host in ("sandbox:1", "other"):
            async with http.get(
                f"{settings['BANKCONNECT_BASE_URL']}/v1/entity/",
                headers={"Host": host},
            ) as response:
                statuses.append(response.status)
    process.send_signal(signal.SIGINT)
    await process.wait()
    warning = (await process.stderr.read()).decode()

    assert statuses == [401, 400]
    assert warning == (
        "the sandbox listens on 0.0.0.0: any machine that reaches this address"
        " can use it\n"
    )
