"""
Secrets take every path through every fault and appear nowhere.
"""

import asyncio
import json
import logging
import pickle
import socket
import sqlite3
import time
import traceback

from collections.abc import Iterator
from contextlib import closing, suppress

import attrs
import pytest

from aiohttp.http_writer import StreamWriter
from yarl import URL

from bankconnect_async import (
    AsyncBankConnect,
    BankConnectError,
    RetryPolicy,
    SQLiteSessionStore,
    SuccessEvent,
    Timeouts,
)
from bankconnect_async.sandbox import Fault, Sandbox
from bankconnect_async.testing import FakeClock
from bankconnect_async.web import CallbackProtocol, CallbackService, WebRequest


# Short enough that a part of one is noticed, too.
KEY = "canary-key-5c1f9d"
HASH = "canary-hash-7e20b4"
ACCOUNT = "canary-account-4302"
SIGNING = "canary-signing-key-of-32-bytes-or-more"
SEALING = "canary-sealing-key-of-32-bytes-or-more"
NAMES = (
    "SESSION_EXPIRY_NOTIFICATION",
    "SESSION_REQUIREMENT_COMPLETION_NOTIFICATION",
)
#: Work can be taken, but not put in.
CLOSE_INBOX = """
    CREATE TRIGGER closed BEFORE INSERT ON inbox
    BEGIN SELECT RAISE(FAIL, 'closed'); END
"""

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
            if record.name == "bankconnect_async.sandbox.requests":
                # It is the vendor's, which names the paths of its requests.
                continue
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


@attrs.frozen(repr=False)
class Lender:
    """
    A service, and what happens to it.
    """

    sandbox: Sandbox
    service: CallbackService
    later: list[float]

    @property
    def link(self):
        """The link of an invitation."""
        return self.service.protocol.invitation_url(
            "customer-41", invitation_id="spring"
        )

    @property
    def secrets(self):
        """The texts that nobody may read, with ids of sessions in work."""
        protocol, sessions = self.service.protocol, self.sandbox.sessions
        return [
            *(KEY, ACCOUNT, SIGNING, SEALING),
            self.link.rpartition(".")[2],
            URL(protocol.webhook_url).name,
            *(session.redirect_url for session in sessions.values()),
            *(
                id_
                for id_, session in sessions.items()
                if session.link_id == "customer-41"
            ),
        ]

    async def visit(self):
        """Begin journeys in each way."""
        visit = WebRequest()
        await self.service.handle_invitation(
            WebRequest(
                method="POST",
                path=URL(self.link).raw_path,
                headers={"Origin": "https://lender.example"},
            )
        )
        await self.service.connect(visit, "customer-42")
        await self.service.redirect(visit, "customer-43")

    async def finish(self):
        """Report the outcomes of journeys, but for the invitation's."""
        protocol = self.service.protocol
        for id_, session in list(self.sandbox.sessions.items()):
            if session.link_id == "customer-41":
                continue
            with suppress(ValueError):
                await self.sandbox.play(id_, "success")
            path = URL(protocol.return_url(session.link_id)).raw_path
            query = f"success=true&session_id={id_}"
            await self.service.handle_return(
                WebRequest(path=f"{path}?{query}")
            )
            for name in NAMES:
                body = {
                    "session_id": id_,
                    "event_name": name,
                    "accounts": [{"account_number": ACCOUNT}],
                }
                await self.service.handle_webhook(
                    WebRequest(
                        method="POST",
                        path=URL(protocol.webhook_url).raw_path,
                        headers={"Content-Type": "application/json"},
                        body=json.dumps(body).encode(),
                    )
                )

    async def sweep(self):
        """Sweep two days later; return the error, if there is one."""
        self.later.append(self.later[-1] + 172_800.0)
        try:
            await self.service.sweep()
        except BankConnectError as error:
            return error
        return None


async def fail(_):
    """Fail, as the callback of a service."""
    raise RuntimeError("the callback failed")


@pytest.fixture(name="lender")
async def _lender(tmp_path):
    """Run a service whose callback fails, and whose secrets are canaries."""
    later = [0.0]
    async with (
        Sandbox("session", api_key=KEY) as sandbox,
        SQLiteSessionStore(
            tmp_path / "sessions.db", encryption_keys=[SEALING]
        ) as store,
        AsyncBankConnect(
            KEY,
            server_hash=sandbox.server_hash,
            base_url=sandbox.base_url,
            redirect_url=None,
            store=store,
            retry=RetryPolicy(attempts=1),
        ) as bank,
    ):
        protocol = CallbackProtocol(
            "https://lender.example/bank",
            secret=SIGNING,
            now=lambda: time.time() + later[-1],
        )
        service = CallbackService(
            bank, protocol, on_event=fail, poll_interval=0.01, max_attempts=2
        )
        yield Lender(sandbox, service, later)
        await service.aclose(0.1)


async def test_services_show_no_secret(lender, caplog, tmp_path):
    """
    While the callback, the vendor and the store fail one after the other, no
    log, repr or traceback with locals holds a key, a link, a URL, an account
    number or the id of a session in work.
    """
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(enabled=True)
    watch = Watch()
    faults = [
        lender.sandbox.faults.clear,
        lambda: lender.sandbox.faults.always(Fault.status(500)),
        lambda: lender.sandbox.faults.always(Fault.status(401)),
        lambda: change(tmp_path / "sessions.db", CLOSE_INBOX),
        lambda: change(tmp_path / "sessions.db", "DROP TABLE entries"),
    ]
    errors = []
    for fault in faults:
        lender.sandbox.faults.clear()
        await lender.visit()
        await lender.finish()
        fault()
        await lender.visit()
        await lender.finish()
        errors.append(await lender.sweep())

    for error in errors:
        if error is not None:
            watch.see(error)
    for record in caplog.records:
        if record.exc_info:
            watch.see(record.exc_info[1])
    watch.read(caplog.records)
    bank = lender.service.bank
    watch.shown += map(repr, (lender.service, bank, bank.store))
    assert [type(each).__name__ for each in errors] == [
        "NoneType",
        "NoneType",
        "AuthenticationError",
        "StoreError",
        "StoreError",
    ]
    assert "the callback failed" in "".join(watch.shown)
    assert watch.find(lender.secrets) == []


def change(path, statement):
    """Change the database of a store that is open."""
    with closing(sqlite3.connect(path)) as database:
        database.execute(statement)
