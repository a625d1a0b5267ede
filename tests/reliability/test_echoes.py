"""
A server echoes the request, and the API key still appears nowhere.
"""

import asyncio
import base64
import csv
import html
import json
import logging
import os
import pickle
import quopri
import sys
import traceback

from contextlib import asynccontextmanager
from urllib.parse import quote, quote_plus

from aiohttp import web

from bankconnect_async import (
    AsyncBankConnect,
    BankConnectError,
    Created,
    RetryPolicy,
)
from bankconnect_async.journal import Journal, read_journal


KEY = 'canary+Key/5c=1f&9d<e7"x2b'
PASSWORD = "hunter's+pass/w0rd"

ENCODINGS = {
    "raw": str,
    "percent": lambda text: quote(text, safe=""),
    "percent-lower": lambda text: "".join(f"%{b:02x}" for b in text.encode()),
    "percent-twice": lambda text: quote(quote(text, safe=""), safe=""),
    "form": quote_plus,
    "json": lambda text: json.dumps(text).replace("/", "\\/"),
    "json-escapes": lambda text: "".join(f"\\u{ord(c):04X}" for c in text),
    "html": html.escape,
    "html-numbers": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64url": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "quoted-printable": lambda text: quopri.encodestring(
        text.encode()
    ).decode(),
}
#: What a server puts around an echo of which the cut falls in the middle.
LENGTHS = (1, 30, *range(60, 118, 3), 120, 200, 255)
#: What the commands import.
COMMANDS = (
    "bankconnect_async.cli.batch.run",
    "bankconnect_async.cli.statements",
)
LETTERS = "cdeh"


def pieces(secret: str) -> set[str]:
    """Return recognisable pieces of *secret* in each encoding."""
    echoes = [
        encode(before + secret)[len(encode(before)) :]
        for encode in ENCODINGS.values()
        for before in ("", "ab", "a")
    ]
    return {
        echo[start : start + size]
        for echo in echoes
        # Six characters of the secret, more or less.
        for size in [max(8, 6 * len(echo) // len(secret))]
        for start in range(len(echo) - size + 1)
    }


def find(secret: str, shown: str) -> list[str]:
    """Return the pieces of *secret* that appear."""
    return [piece for piece in pieces(secret) if piece in shown]


async def _echo(request: web.Request) -> web.Response:
    """Refuse, and echo the request in the ways that its link id selects."""
    body = (await request.read()).decode()
    key = request.headers["x-api-key"]
    way = sum(body.encode()) + len(body)
    encode = list(ENCODINGS.values())[way % len(ENCODINGS)]
    headers = {"X-Echo": quote(encode(key), safe="&#;=+/")}
    said = f"{'p' * (len(body) % 71)}{body}{key}"
    match way // 7 % 4:
        case 0:
            return web.Response(status=400, text=encode(said), headers=headers)
        case 1:
            answer = {"message": encode(said)}
        case 2:
            answer = {encode(f"{key}{body}"): ["is not known", encode(said)]}
        case _:
            error = {"code": encode(key), "message": encode(said)}
            answer = {"error": error, "session_id": encode(key)}
    return web.json_response(answer, status=422, headers=headers)


@asynccontextmanager
async def _serving():
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", _echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}/bank-connect"
    finally:
        await runner.cleanup()


def _client(url: str) -> AsyncBankConnect:
    return AsyncBankConnect(
        KEY,
        base_url=url,
        redirect_url=None,
        retry=RetryPolicy(attempts=1),
    )


def _all_of(error: BaseException) -> str:
    """Return everything that an error shows."""
    lines = traceback.TracebackException.from_exception(
        error, capture_locals=True
    ).format()
    facts = {
        name: value
        for name, value in vars(error).items()
        if name != "__notes__"
    }
    pickled = pickle.dumps(error).decode("latin-1")
    body = getattr(error, "body", b"").decode("latin-1")
    return "\n".join(
        [str(error), repr(error), repr(facts), pickled, *lines, body]
    )


async def _try_to(call) -> BankConnectError:
    """Make a call without secrets in the caller's locals."""
    try:
        await call()
    except BankConnectError as error:
        return error
    raise AssertionError


async def test_an_echoed_key_shows_in_no_error(caplog):
    """
    No message, field, repr, log, pickle or traceback with locals has a piece
    of it, wherever the text is cut.
    """
    caplog.set_level(logging.DEBUG)
    shown, kinds = [], set()

    async with _serving() as url, _client(url) as bank:
        for length in LENGTHS:
            for letter in LETTERS:
                error = await _try_to(
                    lambda link_id=letter * length: bank.create_session(
                        link_id
                    )
                )
                shown.append(_all_of(error))
                kinds.add((error.status, error.code is None))

    shown += [record.getMessage() for record in caplog.records]
    assert kinds == {(400, True), (422, True), (422, False)}
    assert find(KEY, "\n".join(shown)) == []


async def test_an_echoed_key_gets_into_no_journal(tmp_path):
    """
    A batch's journal records the failures, and no piece of the key.
    """
    path = tmp_path / "out.jsonl"
    ids = [letter * length for letter in LETTERS for length in LENGTHS]

    async with (
        _serving() as url,
        _client(url) as bank,
        bank.create_sessions(ids, journal=Journal(path)) as outcomes,
    ):
        found = [outcome async for outcome in outcomes]

    assert not any(isinstance(each, Created) for each in found)

    assert len(list(read_journal(path))) == len(ids)
    assert find(KEY, path.read_text()) == []


async def test_an_echoed_key_gets_into_no_output(forking, tmp_path):
    """
    Commands show no piece of the key on stdout, on stderr or in their files.
    """
    rows, out = tmp_path / "in.csv", tmp_path / "out.jsonl"
    with rows.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["link_id"])
        writer.writerows(["c" * length] for length in LENGTHS)

    with forking(*COMMANDS):
        async with _serving() as url:
            shown = [
                await _run(url, "batch", rows, "--output", out, "--json"),
                await _run(url, "session", "customer-42", "--json"),
                await _run(url, "fetch", "entity-1"),
            ]

    assert "failed" in shown[0]
    assert all("the server answered" in text for text in shown[1:])
    assert find(KEY, "\n".join([*shown, out.read_text()])) == []


async def _run(url: str, *args: object) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bankconnect_async.cli", *map(str, args)),
        *(
            ["--redirect-url", "https://lender.example/"]
            if args[0] != "fetch"
            else []
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={
            **os.environ,
            "BANKCONNECT_API_KEY": KEY,
            "BANKCONNECT_BASE_URL": url,
        },
    )
    output, _ = await process.communicate()
    return output.decode()


async def test_an_echoed_password_shows_nowhere():
    """
    The password of a PDF is redacted in the response to its upload.
    """
    async with _serving() as url, _client(url) as bank:
        errors = [
            await _try_to(
                lambda name=name: bank.upload(
                    b"%PDF-1.4",
                    link_id="c",
                    bank_name=name,
                    pdf_password=PASSWORD,
                )
            )
            for name in ("axis", "hdfc", "icici", "sbi", "kotak", "yes")
        ]

    shown = "\n".join(map(_all_of, errors))
    assert find(PASSWORD, shown) == []
    assert find(KEY, shown) == []


async def test_echoed_credentials_of_a_proxy_show_nowhere():
    """
    Proxy credentials are redacted in the proxy's error responses.
    """

    async def refuse(request: web.BaseRequest) -> web.Response:
        sent = request.headers["Proxy-Authorization"]
        pair = base64.b64decode(sent.removeprefix("Basic ")).decode()
        return web.Response(status=407, text=f"{sent} {pair} {quote(pair)}")

    server = web.ServerRunner(web.Server(refuse), access_log=None)
    await server.setup()
    try:
        await web.TCPSite(server, "127.0.0.1", 0).start()
        port = server.addresses[0][1]
        async with AsyncBankConnect(
            KEY,
            base_url="http://127.0.0.1:1/bank-connect",
            redirect_url=None,
            proxy=f"http://lender:pr0xy-canary@127.0.0.1:{port}",
            retry=RetryPolicy(attempts=1),
        ) as bank:
            error = await _try_to(lambda: bank.create_session("c"))
    finally:
        await server.cleanup()

    assert error.status == 407
    assert find("pr0xy-canary", _all_of(error)) == []


async def test_an_echoed_key_shows_in_no_failure_of_processing():
    """
    The reason of a failed statement in a 2xx response is redacted, too.
    """

    async def answer(request: web.Request) -> web.Response:
        key = request.headers["x-api-key"]
        row = {
            "statement_id": "s",
            "status": "failed",
            "message": f"\x9b2J bad {quote(key)} {key}",
        }
        return web.json_response({"entity_id": "e", "progress": [row]})

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with _client(f"http://127.0.0.1:{port}/bank-connect") as bank:
            error = await _try_to(lambda: bank.entity("e").wait(timeout=5))
    finally:
        await runner.cleanup()

    (failure,) = error.failures
    assert failure.message == "\ufffd2J bad *** ***"
    assert str(error) == f"statement s failed: {failure.message}"
    assert find(KEY, pickle.dumps(error).decode("latin-1")) == []
