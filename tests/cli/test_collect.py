"""
``bankconnect collect``: files that are whole, and a command that resumes.
"""

import asyncio
import contextlib
import csv
import datetime
import io
import json
import random
import resource
import signal
import stat
import subprocess

from pathlib import Path

import pyarrow.parquet
import pytest

from aiohttp import web

import bankconnect_async

from bankconnect_async import (
    AsyncBankConnect,
    SessionState,
    SQLiteSessionStore,
)
from bankconnect_async.journal import Journal
from bankconnect_async.sandbox import Fault, statement_pdf


PDF = statement_pdf()
# The bytes of a record of the journal, about.
RECORD = 300
KINDS = "transactions,pdfs,accounts"


@pytest.fixture(name="sandbox_settings")
def _sandbox_settings():
    """Serve the session flow, and process statements at once."""
    return {"dialect": "session", "processing_time": 0}


def connect(service, **settings):
    """Make a client of *service*."""
    return AsyncBankConnect(
        service.api_key,
        server_hash=service.server_hash,
        base_url=service.base_url,
        redirect_url=None,
        **settings,
    )


@pytest.fixture(name="campaign")
def _campaign_fixture(service, service_loop, tmp_path):
    """Complete the journeys of sessions; returns a journal and the ids."""

    async def create(path, count):
        async with (
            connect(service) as bank,
            bank.create_sessions(
                [f"customer-{number}" for number in range(count)],
                journal=Journal(path),
            ) as outcomes,
        ):
            return sorted([each.session.session_id async for each in outcomes])

    async def submit(ids):
        for id_ in ids:
            await service.play(id_, "success")

    async def process(ids):
        async with connect(service) as bank:
            for id_ in ids:
                await bank.session(id_).initiate_processing()

    def campaign(count, *, is_processed=True, name="campaign.jsonl"):
        path = tmp_path / name
        ids = asyncio.run(create(path, count))
        asyncio.run_coroutine_threadsafe(submit(ids), service_loop).result()
        if is_processed:
            asyncio.run(process(ids))
        return path, ids

    campaign.process = process
    return campaign


def names(folder, suffix=".json"):
    """Return the ids with a file in *folder*."""
    return sorted(
        path.name.removesuffix(suffix)
        for path in folder.iterdir()
        if path.is_file()
    )


def is_whole_pdf(path):
    """Tell whether a file begins and ends as a PDF does."""
    content = path.read_bytes()
    return content.startswith(b"%PDF") and content.rstrip().endswith(b"%%EOF")


def test_files_of_a_campaign(bankconnect, campaign, tmp_path):
    """
    Each kind of each session is a whole file for its owner only.
    """
    journal, ids = campaign(4)
    to = tmp_path / "data"

    ran = bankconnect("collect", journal, "--to", to, "--what", KINDS)

    assert ran.code == 0, ran.err
    assert ran.err.startswith("collected 12, failed 0, ")
    assert sorted(path.name for path in to.iterdir()) == [
        "accounts",
        "collected.jsonl",
        "pdfs",
        "transactions",
    ]
    for kind in KINDS.split(","):
        assert names(to / kind) == ids
    for path in to.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    rows = json.loads((to / "transactions" / f"{ids[0]}.json").read_bytes())
    assert rows
    assert rows[0]["account_id"]
    (listed,) = json.loads((to / "pdfs" / f"{ids[0]}.json").read_bytes())
    assert is_whole_pdf(to / "pdfs" / listed["file"])
    assert "pdf_url" not in listed


@pytest.mark.parametrize("suffix", ["csv", "parquet", "xlsx"])
def test_formats(bankconnect, campaign, tmp_path, suffix):
    """
    Tables have the format that was asked for; what is no table is JSON.
    """
    journal, (id_,) = campaign(1)
    to = tmp_path / "data"

    ran = bankconnect(
        *("collect", journal, "--to", to, "--format", suffix),
        *("--what", "transactions,insights"),
    )

    assert ran.code == 0, ran.err
    content = (to / "transactions" / f"{id_}.{suffix}").read_bytes()
    assert json.loads((to / "insights" / f"{id_}.json").read_bytes())
    match suffix:
        case "csv":
            rows = list(csv.DictReader(io.StringIO(content.decode())))
            assert rows[0]["amount"]
        case "parquet":
            table = pyarrow.parquet.read_table(io.BytesIO(content))
            assert table.num_rows
        case "xlsx":
            assert content.startswith(b"PK")


def test_it_resumes(bankconnect, campaign, service, tmp_path):
    """
    The same command skips what is there, and fetches what was not ready.
    """
    done, done_ids = campaign(2)
    waiting, waiting_ids = campaign(2, is_processed=False, name="w.jsonl")
    both = tmp_path / "both.jsonl"
    both.write_bytes(done.read_bytes() + waiting.read_bytes())
    to = tmp_path / "data"

    first = bankconnect("collect", both, "--to", to, "--json")
    asyncio.run(campaign.process(waiting_ids))
    second = bankconnect("collect", both, "--to", to, "--json")
    before = service.requests
    third = bankconnect("collect", both, "--to", to)

    summary = json.loads(first.out)
    assert first.code == 1
    assert (summary["collected"], summary["not_ready"]) == (2, 2)
    assert f"to resume: bankconnect collect {both} --to" in first.err
    assert "bankconnect sweep starts processing" in first.err
    summary = json.loads(second.out)
    assert second.code == 0, second.err
    assert (summary["collected"], summary["skipped"]) == (2, 2)
    assert third.code == 0
    assert third.err.startswith(
        "collected 0, failed 0, skipped 4 there before, "
    )
    assert "starts processing" not in third.err
    assert service.requests == before
    assert names(to / "transactions") == sorted(done_ids + waiting_ids)


@pytest.mark.parametrize(
    "write",
    [
        lambda ids: "session_id\n" + "\n".join(ids) + "\n\n",
        lambda ids: "link_id;session_id\r\n" + f"a;{ids[0]}\r\n",
        lambda ids: f"sep=;\r\nnote;session_id;note\r\na;{ids[0]};b\r\n",
        lambda ids: "entity_id,session_id\n" + f',"{ids[0]}"\n',
        lambda ids: "\n" + json.dumps({"session_id": ids[0]}) + "\n",
    ],
    ids=["csv", "semicolons", "declared", "empty-cell", "json"],
)
def test_inputs(bankconnect, campaign, tmp_path, write):
    """
    A file of ids is CSV with a header or JSON lines.
    """
    _, ids = campaign(1)
    source = tmp_path / "ids"
    source.write_text(write(ids))

    ran = bankconnect("collect", source, "--to", tmp_path / "data")

    assert ran.code == 0, ran.err
    assert names(tmp_path / "data" / "transactions") == ids


def test_bad_rows(bankconnect, campaign, parse, tmp_path):
    """
    A row without an id fails by itself, and its record names the line.
    """
    _, (id_,) = campaign(1)
    source, to = tmp_path / "ids.jsonl", tmp_path / "data"
    rows = [
        {"link_id": "a", "session_id": None},
        {"link_id": "b", "error": {"type": "ServerError"}},
        {"session_id": 7},
        {"session_id": id_},
        {"session_id": "../../../x"},
    ]
    lines = [json.dumps(row) for row in rows]
    source.write_text("\n".join([*lines, "[]", "{"]))

    ran = bankconnect("collect", source, "--to", to)

    assert ran.code == 1
    assert ran.err.startswith(
        "collected 1, failed 5 (4 invalid request, 1 not found), "
    )
    records = parse((to / "collected.jsonl").read_text())
    messages = {
        each["error"]["message"] for each in records if "error" in each
    }
    assert "line 1 has neither a session_id nor an entity_id" in messages
    assert "line 3 has a session_id that is no text" in messages
    assert "line 6 is not a JSON object" in messages
    assert names(to / "transactions") == [id_]


@pytest.mark.parametrize(
    "case",
    [
        ("a,b\n1,2\n", [], "is neither CSV with a session_id or entity_id"),
        ("", [], "is empty"),
        ("\0i\0d\0\n", [], "is UTF-16: save it as CSV in UTF-8"),
        ("PK\x03\x04 xl/", [], "is a workbook (.xlsx)"),
        ("session_id\rx\r", [], "has lines that end in CR alone"),
        ('[{"session_id": "x"}]', [], "is a JSON array"),
        ("entity_id,a,entity_id\nx,y,z\n", [], "column entity_id twice"),
        ("session_id\x1a\n", [], "its first line ends with the byte 0x1A"),
        ("session_id\nx\n", ["--what", "statement"], "--what: "),
        ("session_id\nx\n", ["--rate", "0"], "--rate"),
    ],
)
def test_wrong_usage(bankconnect, service, tmp_path, case):
    """
    Wrong usage sends nothing, and its message says what is wrong.
    """
    content, args, message = case
    source = tmp_path / "ids.csv"
    source.write_text(content)

    ran = bankconnect("collect", source, "--to", tmp_path / "data", *args)

    assert ran.code == 2
    assert message in ran.err
    assert service.requests == 0


def test_a_refused_key(bankconnect, campaign, monkeypatch, tmp_path):
    """
    A refused key stops the collection with an exit code of its own.
    """
    journal, _ = campaign(3)
    monkeypatch.setenv("BANKCONNECT_SERVER_HASH", "another")

    ran = bankconnect("collect", journal, "--to", tmp_path / "data")

    assert ran.code == 3
    assert "check BANKCONNECT_SERVER_HASH and BANKCONNECT_API_KEY" in ran.err


def test_another_api(bankconnect, campaign, tmp_path):
    """
    A directory of another API is refused.
    """
    journal, _ = campaign(1)
    to = tmp_path / "data"
    bankconnect("collect", journal, "--to", to)
    path = to / "collected.jsonl"
    path.write_text(path.read_text().replace("127.0.0.1", "bank.example"))

    ran = bankconnect("collect", journal, "--to", to)

    assert ran.code == 2
    assert "is of bank.example:" in ran.err
    assert ran.err.endswith(": name another --to\n")


def test_a_directory_that_cannot_be_written(
    bankconnect, campaign, unprivileged, tmp_path
):
    """
    The message names the directory that cannot be written.
    """
    journal, _ = campaign(1)
    (tmp_path / "file").write_text("")

    ran = bankconnect("collect", journal, "--to", tmp_path / "file" / "data")

    assert ran.code == 2
    assert "cannot be written: Not a directory" in ran.err


def test_a_full_disk(bankconnect, campaign, tmp_path):
    """
    The message says why nothing more is written; a later run resumes.
    """
    journal, _ = campaign(1)
    command = ["collect", journal, "--to", tmp_path / "data"]
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        full = bankconnect(*command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    again = bankconnect(*command)

    assert (full.code, again.code) == (1, 0)
    assert "a file cannot be written: File too large\n" in full.err
    assert again.err.startswith("collected 1, failed 0, ")


@pytest.mark.parametrize("by", ["option", "environment"])
def test_sessions_of_a_store(bankconnect, service, monkeypatch, tmp_path, by):
    """
    Of a store, the sessions that have data are collected.
    """
    path, to = tmp_path / "store.db", tmp_path / "data"
    ids = asyncio.run(_stored_campaign(service, path))
    args = ["--store", path]
    if by == "environment":
        monkeypatch.setenv("BANKCONNECT_STORE", str(path))
        args = []

    ran = bankconnect("collect", *args, "--to", to)

    assert ran.code == 0, ran.err
    assert ran.err.startswith("collected 2, failed 0, ")
    assert names(to / "transactions") == ids


async def _stored_campaign(service, path):
    async with (
        SQLiteSessionStore(path) as store,
        connect(service, store=store) as bank,
    ):
        ids = []
        for number in range(4):
            session = await bank.create_session(f"customer-{number}")
            if number % 2:
                continue
            handle = bank.session(session.session_id)
            await handle.upload(PDF)
            await handle.initiate_processing()
            (entry,) = await store.find(
                api_id=bank.store_api_id, session_id=session.session_id
            )
            now = datetime.datetime.now(datetime.UTC)
            await store.advance(entry.entry_id, SessionState.SUBMITTED, at=now)
            ids.append(session.session_id)
    return sorted(ids)


def test_store_without_data(bankconnect, service, tmp_path):
    """
    If no session of a store has data, the command says what is missing.
    """

    async def create():
        async with (
            SQLiteSessionStore(tmp_path / "store.db") as store,
            connect(service, store=store) as bank,
        ):
            await bank.create_session("customer-42")

    asyncio.run(create())
    ran = bankconnect(
        *("collect", "--store", tmp_path / "store.db"),
        *("--to", tmp_path / "data"),
    )

    assert ran.code == 0
    assert "was not submitted, or not processed yet" in ran.err


def test_neither_input_nor_store(bankconnect, service, tmp_path):
    """
    Without an INPUT and a store the message says what to give.
    """
    ran = bankconnect("collect", "--to", tmp_path / "data")

    assert ran.code == 2
    assert "no store: set BANKCONNECT_STORE, or give --store" in ran.err
    assert not (tmp_path / "data").exists()


def test_pdfs_that_are_deleted_soon(bankconnect, campaign, tmp_path):
    """
    It warns once of PDFs that the vendor deletes within a week.
    """
    journal, _ = campaign(2)
    old = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=25)
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    journal.write_text(
        "".join(
            json.dumps({**each, "at": f"{old:%Y-%m-%dT%H:%M:%SZ}"}) + "\n"
            for each in records
        )
    )

    ran = bankconnect("collect", journal, "--to", tmp_path / "data", "--json")

    assert ran.code == 0
    assert json.loads(ran.out)["warnings"] == 2
    assert ran.err.count("warning: the vendor deletes the PDFs from ") == 1
    again = bankconnect("collect", journal, "--to", tmp_path / "more")
    assert "2 with a warning in collected.jsonl" in again.err


@pytest.mark.long
def test_memory_is_flat(command, serve_sample, tmp_path):
    """
    Ten times as many sessions take no more memory.
    """
    peaks = []
    program = (
        "import resource, sys\n"
        "from bankconnect_async.cli.app import app\n"
        "try:\n    app(sys.argv[1:])\n"
        "finally:\n    usage = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    print(usage.ru_maxrss)\n"
    )
    for count in (100, 1000):
        source = tmp_path / f"{count}.csv"
        ids = "".join(f"session-{number}\n" for number in range(count))
        source.write_text("session_id\n" + ids)
        to = tmp_path / f"data-{count}"
        ran = subprocess.run(
            [*command[:1], "-c", program, "collect", source, "--to", to],
            capture_output=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert len(names(to / "transactions")) == count
        peaks.append(int(ran.stdout))

    print(peaks)
    assert peaks[1] < peaks[0] + 2.5 * 1024


@pytest.fixture(name="serve_sample")
def _serve_sample(sample, service_loop, monkeypatch):
    """Serve the sample of insights for every session."""
    content = sample("session_data.insights.response.json")

    async def respond(_):
        return web.Response(body=content, content_type="application/json")

    async def start():
        app = web.Application()
        app.router.add_get("/{path:.*}", respond)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), service_loop).result()
    port = runner.addresses[0][1]
    url = f"http://127.0.0.1:{port}/bank-connect"
    monkeypatch.setenv("BANKCONNECT_BASE_URL", url)
    monkeypatch.setenv("BANKCONNECT_API_KEY", "key")
    package = Path(bankconnect_async.__file__).parent
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    yield
    asyncio.run_coroutine_threadsafe(runner.cleanup(), service_loop).result()


# By the number of sessions.
KILLS = {40: 2, 300: 5}


class TestKilled:
    """
    A process that is killed in the middle
    """

    async def _run(self, start, args, to, rng, total):
        process = await start("collect", *args)
        until = _recorded(to) + rng.randrange(1, total // 6) * RECORD
        while process.returncode is None and _recorded(to) < until:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 0.02)
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.communicate()
        return process.returncode

    @pytest.mark.parametrize(
        "count", [40, pytest.param(300, marks=pytest.mark.long)]
    )
    async def test_every_file_is_whole(
        self, start, service, campaign, tmp_path, count
    ):
        """
        However often it is killed, every file is whole, and none is missing
        or there twice.
        """
        journal, ids = await asyncio.to_thread(campaign, count)
        to = tmp_path / "data"
        service.faults.random({Fault.status(503): 0.02}, seed=1)
        seed = random.randrange(10**6)
        print(f"seed {seed}")
        rng = random.Random(seed)
        args = (
            *(journal, "--to", to, "--what", "upload-status,pdfs"),
            *("--concurrency", 4),
        )
        codes = [
            await self._run(start, args, to, rng, 2 * count)
            for _ in range(KILLS[count])
        ]
        last = await start("collect", *args)
        _, err = await last.communicate()

        assert last.returncode == 0, err
        assert -signal.SIGKILL in codes
        assert names(to / "upload-status") == ids
        assert names(to / "pdfs") == ids
        for id_ in ids:
            raw = (to / "upload-status" / f"{id_}.json").read_bytes()
            assert json.loads(raw)
            listed = json.loads((to / "pdfs" / f"{id_}.json").read_bytes())
            assert [
                is_whole_pdf(to / "pdfs" / each["file"]) for each in listed
            ] == [True]
        assert not list(to.rglob(".bankconnect-*"))
        lines = (to / "collected.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        good = [
            (each["id"], each["kind"])
            for each in records
            if "error" not in each
        ]
        assert sorted(good) == sorted(
            (id_, kind) for id_ in ids for kind in ("upload-status", "pdfs")
        )

    async def test_an_interrupt_waits(self, start, campaign, until, tmp_path):
        """
        Ctrl-C waits for the requests in flight, and prints how to resume.
        """
        journal, _ = await asyncio.to_thread(campaign, 30)
        to = tmp_path / "data"
        process = await start(
            *("collect", journal, "--to", to, "--concurrency", 2)
        )
        await until(lambda: _recorded(to))
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()

        assert process.returncode == 130
        assert b"interrupted\n" in err
        assert b"to resume: bankconnect collect " in err
        records = (to / "collected.jsonl").read_text().splitlines()
        assert len(names(to / "transactions")) == len(records) < 30


async def test_a_silent_pipe(start, campaign, until, tmp_path):
    """
    Ctrl-C ends a collection whose input is a pipe that stays open.
    """
    _, (id_,) = await asyncio.to_thread(campaign, 1)
    to = tmp_path / "data"
    process = await start("collect", "-", "--to", to)
    process.stdin.write(f"session_id\n{id_}\n".encode())
    await process.stdin.drain()
    await until(lambda: _recorded(to))
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130
    _, err = await process.communicate()

    assert err.startswith(b"collected 1, failed 0, ")
    assert names(to / "transactions") == [id_]


def _recorded(to):
    # The bytes of some records tell as well, and take no time to count.
    journal = to / "collected.jsonl"
    return journal.stat().st_size if journal.exists() else 0
