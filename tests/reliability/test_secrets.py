"""
Secrets take every path through every fault and appear nowhere.
"""

import asyncio
import logging
import pickle
import socket
import traceback

from collections.abc import Iterator
from contextlib import suppress

import attrs
import pytest

from aiohttp.http_writer import StreamWriter

from bankconnect_async import (
    AsyncBankConnect,
    BankConnectError,
    RetryPolicy,
    SuccessEvent,
    Timeouts,
)
from bankconnect_async.sandbox import Fault, Sandbox
from bankconnect_async.testing import FakeClock


# Short enough that a part of one is noticed, too.
KEY = "canary-key-5c1f9d"
HASH = "canary-hash-7e20b4"

FAULTS = {
    "good": None,
    "refuse": Fault.refuse(),
    "reset": Fault.reset(after=True),
    "eof": Fault.eof(after=True),
    "silence": Fault.stall(after=True),
    "half-a-word": Fault.stall(within="body", after=True),
    "half-a-head": Fault.truncate(within="head", after=True),
    "half-a-body": Fault.truncate(after=True),
    "garbage": Fault.garbage(after=True),
    "html": Fault.html(after=True),
    "empty": Fault.empty(after=True),
    "redirect": Fault.redirect(),
    "429": Fault.status(429, retry_after=1),
    "500": Fault.status(500, after=True),
    "503": Fault.status(503, retry_after=1, as_date=True),
    "401": Fault.status(401),
    "hang-up": Fault.hang_up(),
}


@attrs.define
class Watch:
    """
    Collects everything that anybody could read, and searches it.
    """

    shown: list[str] = attrs.Factory(list)

    def see(self, error: BaseException) -> None:
        """Render an error in every way there is."""
        group = ExceptionGroup("several", [error])
        for each in (*chain(error), group):
            lines = traceback.TracebackException.from_exception(
                each, capture_locals=True
            ).format()
            self.shown += [str(each), repr(each), *lines]
        for each in (error, group):
            self.shown.append(pickle.dumps(each).decode("latin-1"))

    def read(self, records: list[logging.LogRecord]) -> None:
        """Search the log records, arguments included."""
        for record in records:
            self.shown += [
                record.getMessage(),
                repr(record.args),
                repr(record.__dict__),
                str(record.exc_text),
            ]

    def find(self, secrets: list[str]) -> list[str]:
        """Return the lines that contain a secret."""
        return [
            line
            for text in self.shown
            for line in text.splitlines()
            if any(secret in line for secret in secrets)
        ]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


async def try_to(call) -> BankConnectError | None:
    """Make a call without secrets in the caller's locals."""
    try:
        await call()
    except BankConnectError as error:
        return error
    return None


async def call_everything(bank) -> list[BankConnectError]:
    """Make each kind of call; return what failed."""
    event = SuccessEvent(entity_id="e", link_id="c")
    calls = [
        lambda: bank.create_session("c"),
        lambda: bank.confirm(event),
        lambda: bank.webhook_payloads("c"),
        lambda: bank.update_webhook("https://lender.example/h", flow="entity"),
    ]
    errors = await asyncio.gather(*map(try_to, calls))
    return [error for error in errors if error is not None]


@pytest.fixture(name="canaries")
async def _canaries(contexts, request):
    """Run a sandbox and a client whose secrets are canaries."""
    of_server, of_client = contexts
    tls = request.param == "tls"
    async with (
        Sandbox(
            "entity",
            ssl=of_server if tls else None,
            api_key=KEY,
            server_hash=HASH,
        ) as sandbox,
        AsyncBankConnect(
            KEY,
            server_hash=HASH,
            base_url=sandbox.base_url,
            version="v2",
            redirect_url=None,
            tls=of_client if tls else None,
            retry=RetryPolicy(attempts=2),
            timeouts=Timeouts(connect=0.3, read=0.3),
            clock=FakeClock(),
        ) as bank,
    ):
        yield sandbox, bank


@pytest.mark.parametrize("canaries", ["tcp", "tls"], indirect=True)
@pytest.mark.parametrize("name", FAULTS)
async def test_secrets_show_nowhere(canaries, caplog, name):
    """
    No log record, repr, text, traceback with locals, pickle or exception
    group holds the key, the server hash or the token of a session.
    """
    sandbox, bank = canaries
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(enabled=True)
    fault = FAULTS[name]
    if fault is not None:
        sandbox.faults.always(fault)
    watch = Watch([repr(bank), str(bank.stats())])

    errors = await call_everything(bank)

    for error in errors:
        watch.see(error)
    watch.read(caplog.records)
    tokens = [each.token for each in sandbox.sessions.values()]
    ids = list(sandbox.sessions)
    assert watch.find([KEY, HASH, *tokens, *ids]) == []
    assert errors or name in {"good", "hang-up"}
    assert not errors or "Traceback" in "".join(watch.shown)


@pytest.mark.parametrize("canaries", ["tcp", "tls"], indirect=True)
async def test_a_failed_write_shows_no_secret(canaries, caplog, monkeypatch):
    """
    If the system refuses to send a request, its bytes appear nowhere.
    """
    _, bank = canaries
    caplog.set_level(logging.DEBUG)
    for name in ("_write", "_writelines"):
        monkeypatch.setattr(StreamWriter, name, broken(name))
    watch = Watch()

    errors = await call_everything(bank)

    for error in errors:
        watch.see(error)
    watch.read(caplog.records)
    assert len(errors) == 4
    assert watch.find([KEY, HASH]) == []


def broken(name: str):
    """Make a write of aiohttp fail in the system call."""
    write = getattr(StreamWriter, name)

    def fail(self, chunk):
        with suppress(OSError):
            # It may be closed already, from an attempt before.
            self.transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
        write(self, chunk)

    return fail


@pytest.mark.parametrize("canaries", ["tcp"], indirect=True)
async def test_what_succeeds_shows_no_secret(canaries, caplog):
    """
    A session shows its URL only when asked for it.
    """
    sandbox, bank = canaries
    caplog.set_level(logging.DEBUG)

    session = await bank.create_session("c")

    (record,) = sandbox.sessions.values()
    watch = Watch([repr(session), str(session), repr(record), repr(sandbox)])
    watch.read(caplog.records)
    assert record.token in str(session.redirect_url)
    assert watch.find([KEY, HASH, record.token]) == []


@pytest.mark.parametrize("canaries", ["tcp"], indirect=True)
async def test_the_watch_is_awake(canaries):
    """
    The search finds a secret in locals and in a cause.
    """
    watch = Watch()

    def leak() -> None:
        local = KEY
        raise ValueError(len(local))

    try:
        try:
            leak()
        except ValueError as exc:
            raise RuntimeError("no secret") from exc
    except RuntimeError as exc:
        watch.see(exc)

    assert watch.find([KEY])
