"""
``bankconnect session``.
"""

import asyncio
import os
import signal

import pytest

from yarl import URL


RETURN = "https://lender.example/return"


def test_prints_the_url(bankconnect, service):
    """
    Only the URL goes to stdout.
    """
    result = bankconnect("session", "a", "--redirect-url", RETURN)

    (session,) = service.sessions.values()
    assert result.code == 0
    assert result.out == f"{session.redirect_url}\n"
    assert result.err == ""
    assert session.parameters["redirect_url"] == RETURN


def test_json(bankconnect, parse):
    """
    With --json the result has the same keys as a row of a batch.
    """
    result = bankconnect("session", "a", "--sandbox", "--json")

    (record,) = parse(result.out)
    assert result.code == 0
    assert record["link_id"] == "a"
    assert record["attempts"] == 1
    assert (
        URL(record["redirect_url"]).query["session_id"]
        == (record["session_id"])
    )


def test_parameters(bankconnect, service):
    """
    Parameters have the forms of a file; the last one of a name applies.
    """
    given = {
        "from_date": "2026-01-01",
        "to_date": "30/06/2026",
        "session_expiry": "60",
        "extra.branch": "a=b",
    }
    words = [f"--param={name}={value}" for name, value in given.items()]
    result = bankconnect(
        *("session", "a", "--inline-frame", "--api-version", "v2"),
        *("--param", "bank_name=sbi", "--param", "bank_name=axis"),
        *words,
    )

    (session,) = service.sessions.values()
    assert result.code == 0
    assert session.parameters["bank_name"] == "axis"
    assert session.parameters["session_expiry"] == 60
    assert "redirect_url" not in session.parameters


def test_redirect_url_as_a_parameter(bankconnect, service):
    """
    The redirect URL may be one of the parameters.
    """
    result = bankconnect("session", "a", "--param", f"redirect_url={RETURN}")

    assert result.code == 0
    assert service.created("a") == 1


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["", "--sandbox"], "link_id: must not be blank"),
        (["a" * 501, "--sandbox"], "link_id: has 501 characters"),
        (["a", "--sandbox", "--param", "k3y"], "--param takes NAME=VALUE"),
        (["a", "--sandbox", "--param", "api_key=k3y"], "is a secret"),
        (["a", "--sandbox", "--param", "x=1"], "send it as extra.x"),
        (["a", "--sandbox", "--param", "from_date=x"], "is not a date"),
        (["a", "--inline-frame"], "BANKCONNECT_API_KEY is not set"),
        ([], "Missing argument"),
    ],
)
def test_usage(bankconnect, args, problem):
    """
    An input that makes no request exits with 2 and a reason.
    """
    result = bankconnect("session", *args)

    assert result.code == 2
    assert problem in result.err
    assert result.out == ""
    assert "k3y" not in result.err


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_blank_base_url(bankconnect, service, monkeypatch, version):
    """
    Without a base URL, the command names the API that it uses.
    """
    monkeypatch.setenv("BANKCONNECT_BASE_URL", " ")
    result = bankconnect("session", "a", "--api-version", version)

    host = "portal" if version == "v1" else "apis.bankconnect"
    assert result.code == 2
    assert result.err.startswith(
        f"BANKCONNECT_BASE_URL is not set: the API is {host}.finbox.in"
    )


def test_no_redirect_url(bankconnect, service):
    """
    Without a redirect URL the message names all ways to give one.
    """
    result = bankconnect("session", "a", "--json")

    assert result.code == 2
    assert "BANKCONNECT_REDIRECT_URL" in result.err
    assert "--inline-frame" in result.err
    assert service.requests == 0


def test_refused_key(bankconnect, service, monkeypatch):
    """
    A refused key exits with 3, and is not shown.
    """
    monkeypatch.setenv("BANKCONNECT_API_KEY", "k3y")
    result = bankconnect("session", "a", "--inline-frame")

    assert result.code == 3
    assert "401" in result.err
    assert "check BANKCONNECT_API_KEY" in result.err
    assert "k3y" not in result.err


def test_refused_request(bankconnect, service, parse):
    """
    With --json a refused request is an object on stdout, and exits with 1.
    """
    result = bankconnect(
        *("session", "a", "--inline-frame", "--api-version", "v2", "--json"),
        *("--param", "bank_name=no-such-bank"),
    )

    (record,) = parse(result.out)
    assert result.code == 1
    assert record["link_id"] == "a"
    assert record["error"]["code"] == "INVALID_BANK_NAME"
    assert result.err.startswith("bankconnect: the server answered 400")


async def test_undecodable(start, parse):
    """
    Bytes that are not UTF-8 are an error, in JSON too.
    """
    process = await start(
        "session", os.fsdecode(b"\xff"), "--sandbox", "--json"
    )
    out, err = await process.communicate()

    (record,) = parse(out.decode())
    assert process.returncode == 2
    assert record["link_id"] == "?"
    assert b"not UTF-8" in err


async def test_stdout_full(start):
    """
    A full disk behind stdout is one line and no traceback.
    """
    full = os.open("/dev/full", os.O_WRONLY)
    process = await start("session", "a", "--sandbox", stdout=full)
    os.close(full)
    _, err = await process.communicate()

    assert err == b"stdout: cannot be written: No space left on device\n"
    assert process.returncode == 1


async def test_stdout_closed(start):
    """
    A closed stdout fails without a message.
    """
    reader, writer = os.pipe()
    os.close(reader)
    process = await start("session", "a", "--sandbox", stdout=writer)
    os.close(writer)
    _, err = await process.communicate()

    assert err == b""
    assert process.returncode == 1


async def test_interrupted(start, raw_server, monkeypatch):
    """
    Ctrl-C exits with 130 and without a traceback.
    """
    asked = asyncio.Event()

    async def never_respond(server, reader, writer):
        await server.read_request(reader)
        asked.set()
        # Wait until the client closes the connection.
        await reader.read()

    async with raw_server(never_respond) as server:
        monkeypatch.setenv("BANKCONNECT_BASE_URL", server.base_url)
        monkeypatch.setenv("BANKCONNECT_API_KEY", "k3y")
        process = await start("session", "a", "--inline-frame")
        await asked.wait()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()

    assert err == b"bankconnect: interrupted\n"
    assert process.returncode == 130


async def test_lost(start, raw_server, monkeypatch):
    """
    The message of a broken connection says that a session may exist.
    """

    async def hang_up(server, reader, writer):
        await server.read_request(reader)

    async with raw_server(hang_up) as server:
        monkeypatch.setenv("BANKCONNECT_BASE_URL", server.base_url)
        monkeypatch.setenv("BANKCONNECT_API_KEY", "k3y")
        process = await start("session", "a", "--inline-frame")
        _, err = await process.communicate()

    assert process.returncode == 1
    assert b"(3 attempts; " in err
    assert err.endswith(b"; a session may exist\n")
