"""
``bankconnect sweep``.
"""

import asyncio
import datetime
import json
import sys
import time

import pytest

from bankconnect_async import AsyncBankConnect
from bankconnect_async.clock import SystemClock
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.store import SQLiteSessionStore


class EarlierClock(SystemClock):
    """
    A clock that is twenty minutes slow.
    """

    def time(self):
        """Return the time twenty minutes ago."""
        return time.time() - 1200


@pytest.fixture(name="sweep")
async def _sweep(bankconnect, tmp_path, monkeypatch):
    """
    Play a journey whose webhook is lost, and return the command.
    """
    path = tmp_path / "store.sqlite"
    async with Sandbox("session") as sandbox:
        async with (
            SQLiteSessionStore(path) as store,
            AsyncBankConnect(
                sandbox.api_key,
                base_url=sandbox.base_url,
                redirect_url=None,
                store=store,
                clock=EarlierClock(),
            ) as bank,
        ):
            session = await bank.create_session("customer-42")
        await sandbox.play(session.session_id, "success")
        monkeypatch.setenv("BANKCONNECT_STORE", str(path))
        monkeypatch.setenv("BANKCONNECT_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("BANKCONNECT_API_KEY", sandbox.api_key)
        monkeypatch.setenv("BANKCONNECT_SERVER_HASH", sandbox.server_hash)
        yield lambda *args: asyncio.to_thread(bankconnect, "sweep", *args)


@pytest.fixture(name="events")
def _events(tmp_path, monkeypatch):
    """Write callbacks to a module, and return the file of the first one."""
    monkeypatch.syspath_prepend(tmp_path)
    # That of the test before.
    monkeypatch.delitem(sys.modules, "lender_events", raising=False)
    path = str(tmp_path / "events")
    (tmp_path / "lender_events.py").write_text(
        "import pathlib\n"
        "async def on_event(event):\n"
        f"    with pathlib.Path({path!r}).open('a') as f:\n"
        "        print(type(event).__name__, event.link_id, file=f)\n"
        "async def fail(event):\n"
        "    raise RuntimeError('no database')\n"
        "def plain(event): ...\n"
    )
    return tmp_path / "events"


async def test_for_services(sweep, tmp_path):
    """
    What it finds waits in the store for a running service, once.
    """
    result = await sweep("--json")

    assert result.code == 0
    assert json.loads(result.out) == {
        "checked": 1,
        "found": 1,
        "closed": 0,
        "failures": {},
    }
    again = await sweep()
    assert (again.code, again.out) == (0, "")
    assert again.err.startswith("0 sessions checked; 0 events found")
    async with SQLiteSessionStore(tmp_path / "store.sqlite") as store:
        (item,) = await store.take(
            now=datetime.datetime.now(datetime.UTC),
            limit=9,
            lease=datetime.timedelta(minutes=1),
        )
    assert json.loads(item.body)["message"] == "Upload Completed"


async def test_callback(sweep, events):
    """
    A callback gets what it finds, and processing is started.
    """
    result = await sweep("--on-event", "lender_events:on_event", "--json")

    assert result.code == 0
    assert json.loads(result.out)["handed_on"] == 1
    assert events.read_text() == "UploadWebhook customer-42\n"


async def test_callback_gets_what_waits(sweep, events):
    """
    A callback gets what an earlier run left, also if nothing new is found.
    """
    await sweep()

    result = await sweep("--on-event", "lender_events:on_event", "--json")

    counts = json.loads(result.out)
    assert (counts["found"], counts["handed_on"]) == (0, 1)
    assert events.read_text() == "UploadWebhook customer-42\n"


async def test_callback_that_fails(sweep, events):
    """
    An event that the callback refuses is kept for the next run.
    """
    result = await sweep("--on-event", "lender_events:fail")

    assert result.code == 1
    assert "RuntimeError: no database" in result.err
    assert "1 refused, to be tried again" in result.err
    assert not events.exists()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("lender_events", "must be MODULE:FUNCTION"),
        ("lender_events:missing", "cannot be imported"),
        ("no_such_module:f", "cannot be imported"),
        ("lender_events:plain", "must be a coroutine function"),
    ],
)
def test_bad_callbacks(bankconnect, events, name, problem):
    """
    A callback that cannot be used is refused before anything is done.
    """
    result = bankconnect("sweep", "--on-event", name)

    assert result.code == 2
    assert problem in result.err
    assert not events.exists()


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ((), "set BANKCONNECT_STORE, or give --store"),
        (("--store", "missing.sqlite"), "there is no such store"),
    ],
)
def test_no_store(bankconnect, args, problem):
    """
    Without a store there is nothing to sweep, and none is created.
    """
    result = bankconnect("sweep", *args)

    assert result.code == 2
    assert problem in result.err


async def test_refused_key(sweep, monkeypatch):
    """
    A key that the vendor refuses has an exit code of its own.
    """
    monkeypatch.setenv("BANKCONNECT_SERVER_HASH", "wrong")

    result = await sweep()

    assert result.code == 3
    assert "check BANKCONNECT_SERVER_HASH and BANKCONNECT_API_KEY" in (
        result.err
    )
