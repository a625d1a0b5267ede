"""
``bankconnect report``.
"""

import asyncio
import csv
import datetime
import io
import json
import os
import pty
import re
import resource
import stat
import subprocess

import pytest

from bankconnect_async import (
    SessionEntry,
    SessionKey,
    SessionState,
    SQLiteSessionStore,
)
from bankconnect_async.cli.messages import CommandError
from bankconnect_async.cli.output import new_file
from bankconnect_async.sandbox import Fault


URL = "https://lender.example/return"


@pytest.fixture(name="campaign")
def _campaign(batch, tmp_path, service):
    """
    Run a batch, in which the server refuses link ids with a "bad" in front,
    and return the path of its output and its summary.
    """
    service.faults.script(*[Fault.status(400)] * 9, prefix="bad")

    def run(rows, *args):
        ran = batch(
            rows, "--inline-frame", "--json", "--concurrency", "1", *args
        )
        return tmp_path / "out.jsonl", json.loads(ran.result.out)

    return run


async def fill(store, *, prefix="", detail="=wrong password"):
    """Put a journey at each of three steps into a store."""
    now = datetime.datetime.now(datetime.UTC)
    states = SessionState.CREATED, SessionState.OPENED, SessionState.COMPLETED
    async with store:
        for state in states:
            entry = SessionEntry(
                entry_id=f"entry-{state.value}",
                key=SessionKey(api_id="api", link_id=f"{prefix}{state.value}"),
                session_id=f"{prefix}session-{state.value}",
                created_at=now,
            )
            await store.add([entry])
            is_open = state is SessionState.OPENED
            await store.advance(
                entry.entry_id,
                state,
                at=now,
                detail=detail if is_open else None,
            )


def rows_of(path):
    """Return the rows of a CSV file."""
    return list(csv.reader(io.StringIO(path.read_text())))


class TestFigures:
    """What is printed"""

    def test_agrees_with_summary(self, bankconnect, campaign):
        """
        Every row of the closing summary is in the report, under its name.
        """
        path, summary = campaign(b"link_id\na\nc,b\nb\na\nbad\n")
        found = json.loads(bankconnect("report", path, "--json").out)[
            "creation"
        ]

        assert found["created"] == summary["created"] == 2
        assert found["failed"] + found["repeated"] == summary["failed"] == 3
        assert found["errors"] == {
            "BadRequestError": 1,
            "InvalidRequestError": 1,
        }
        assert found["rows"] == 5

    def test_agrees_after_resuming(self, bankconnect, campaign):
        """
        So is every row of a resumed batch; failures of the run before are
        stale.
        """
        rows = b"link_id\na\nc,b\nb\na\nbad\n"
        campaign(rows)
        path, summary = campaign(rows)
        found = json.loads(bankconnect("report", path, "--json").out)[
            "creation"
        ]

        assert found["created"] == summary["skipped"] == 2
        assert found["failed"] + found["repeated"] == summary["failed"] == 3
        assert (found["rows"], found["stale"]) == (5, 3)

    def test_text(self, bankconnect, campaign):
        """
        Without a terminal the text has no colours, and no blanks at the ends
        of its lines.
        """
        path, _ = campaign(b"link_id\na\nb\nbad\n")
        ran = bankconnect("report", path)

        assert (ran.code, ran.err) == (0, "")
        assert "\x1b" not in ran.out
        lines = ran.out.splitlines()
        assert all(line == line.rstrip() for line in lines)
        words = [line.split() for line in lines]
        assert ["stale", "records,", "left", "out", "0"] in words
        assert ["created", "2", "66.7", "%", "█" * 20] in words
        assert ["BadRequestError", "1", "100.0", "%", "█" * 30] in words

    @pytest.mark.parametrize("width", [30, 120])
    def test_terminal(self, command, campaign, width):
        """
        On a terminal it has colours, and no line is wider than that.
        """
        path, _ = campaign(b"link_id\na\nbad\n")
        ours, theirs = pty.openpty()
        with os.fdopen(ours, "rb", buffering=0) as terminal:
            subprocess.run(
                [*command, "report", path],
                stdout=theirs,
                check=True,
                env={**os.environ, "COLUMNS": str(width), "TERM": "xterm"},
            )
            os.close(theirs)
            text = b""
            # Linux reports the end of a terminal as an error.
            while True:
                try:
                    text += terminal.read(2**16)
                except OSError:
                    break

        assert b"\x1b[" in text
        lines = re.sub(r"\x1b\[[\d;]*m", "", text.decode()).splitlines()
        assert any(line.startswith("created") for line in lines)
        assert max(map(len, lines)) <= width

    @pytest.mark.parametrize("keys", [None, "k" * 32])
    def test_store(self, bankconnect, campaign, tmp_path, monkeypatch, keys):
        """
        A store is counted alone or beside a journal, encrypted or not.
        """
        path, _ = campaign(b"link_id\na\nbad\n")
        address = str(tmp_path / "sessions.db")
        if keys is not None:
            monkeypatch.setenv("BANKCONNECT_STORE_KEYS", keys)
        asyncio.run(fill(SQLiteSessionStore(address, encryption_keys=keys)))

        ran = bankconnect("report", path, "--store", address, "--json")
        both = json.loads(ran.out)
        monkeypatch.setenv("BANKCONNECT_STORE", f"sqlite:///{address}")
        alone = json.loads(bankconnect("report", "--json").out)
        page = tmp_path / "page.html"
        text = bankconnect("report", "--html", page).out
        without = json.loads(bankconnect("report", path, "--json").out)

        assert both["creation"]["created"] == 1
        assert alone == {"creation": None, "journeys": both["journeys"]}
        assert without["journeys"] is None
        funnel = alone["journeys"]["funnel"]
        assert funnel["created"] == 3
        assert (funnel["opened"], funnel["exited"]) == (2, 1)
        assert "wrong password" in text
        assert "wrong password" in page.read_text()

    def test_no_store(self, bankconnect, tmp_path):
        """
        A store that is not there is an error, and is not created.
        """
        ran = bankconnect("report", "--store", tmp_path / "x.db")
        assert (ran.code, ran.out) == (2, "")
        assert "x.db: there is no such store" in ran.err
        assert not list(tmp_path.iterdir())
        ran = bankconnect("report")
        assert ran.code == 2
        assert "give --store" in ran.err
        ran = bankconnect("report", "--store", "x", "--urls", "y")
        assert "--urls and --failed require a JOURNAL" in ran.err

    def test_no_journal(self, bankconnect, tmp_path):
        """
        A file that is no journal is an error of one line, and leaves no file
        behind.
        """
        path = tmp_path / "rows.csv"
        path.write_bytes(b"link_id\na\n")
        for option in "--html", "--urls", "--failed":
            ran = bankconnect("report", path, option, tmp_path / "new")

            assert (ran.code, ran.out) == (2, "")
            assert ran.err.count("\n") == 1
            assert "rows.csv: line 1 is no record of a session" in ran.err
        assert list(tmp_path.iterdir()) == [path]


class TestFiles:
    """What is written"""

    def test_html(self, bankconnect, campaign, tmp_path):
        """
        --html writes a page, for its owner only.
        """
        path, _ = campaign(b"link_id\na\nbad\n")
        page = tmp_path / "page.html"
        assert bankconnect("report", path, "--html", page).code == 0

        assert page.read_text().startswith("<!doctype html>")
        assert stat.S_IMODE(page.stat().st_mode) == 0o600

    def test_states(self, bankconnect, tmp_path):
        """
        --states writes what became of each session, for its owner only.
        """
        asyncio.run(fill(SQLiteSessionStore(tmp_path / "store.db")))
        states = tmp_path / "states.csv"
        command = ("report", "--store", tmp_path / "store.db", "--states")
        assert bankconnect(*command, states).code == 0

        assert stat.S_IMODE(states.stat().st_mode) == 0o600
        header, created, opened, completed = rows_of(states)
        assert header == [
            *("link_id", "session_id", "state", "problem"),
            *("created_at", "changed_at"),
        ]
        assert created[:4] == ["created", "session-created", "created", ""]
        assert created[5] == ""
        assert opened[2:4] == ["opened", "'=wrong password"]
        assert completed[2] == "completed"
        assert datetime.datetime.fromisoformat(completed[5]).tzinfo
        assert "exists already" in bankconnect(*command, states).err

    def test_formulas(self, bankconnect, tmp_path):
        """
        No text of a browser starts a row, and no id is run as a formula.
        """
        store = SQLiteSessionStore(tmp_path / "store.db")
        asyncio.run(fill(store, prefix="=", detail="p\r=3"))
        states = tmp_path / "states.csv"
        command = ("report", "--store", tmp_path / "store.db", "--states")
        assert bankconnect(*command, states).code == 0

        with states.open(newline="") as file:
            rows = list(csv.reader(file))
        assert [row[:2] for row in rows[1:]] == [
            [f"'={state}", f"'=session-{state}"]
            for state in ("created", "opened", "completed")
        ]
        assert rows[2][3] == "p =3"

    @pytest.mark.parametrize("name", ["urls.csv", "new.csv", "no/urls.csv"])
    def test_paths(self, bankconnect, campaign, tmp_path, name):
        """
        No file is written unless all of them can be.
        """
        path, _ = campaign(b"link_id\na\n")
        asyncio.run(fill(SQLiteSessionStore(tmp_path / "store.db")))
        (tmp_path / "urls.csv").touch()
        before = sorted(tmp_path.iterdir())
        ran = bankconnect(
            *("report", path, "--store", tmp_path / "store.db"),
            *("--states", tmp_path / "new.csv", "--urls", tmp_path / name),
        )

        assert ran.code == 2
        assert f"{name}: " in ran.err
        assert sorted(tmp_path.iterdir()) == before

    def test_urls(self, bankconnect, campaign, tmp_path):
        """
        --urls writes each session once, for its owner only.
        """
        path, _ = campaign(
            b'link_id\na\n\xc3\xa9\na\nbad\n"x ""y"", z"\n@SUM(A1)\n'
        )
        urls = tmp_path / "urls.csv"
        assert bankconnect("report", path, "--urls", urls).code == 0

        header, *rows = rows_of(urls)
        assert header == ["link_id", "session_id", "redirect_url"]
        assert [row[0] for row in rows] == ["a", "é", 'x "y", z', "'@SUM(A1)"]
        assert all(id_ and id_ in url for _, id_, url in rows)
        assert stat.S_IMODE(urls.stat().st_mode) == 0o600

    def test_failed_ids(self, bankconnect, campaign, batch, tmp_path, service):
        """
        The file of --failed is an input of batch, which then completes OUT.
        """
        path, _ = campaign(b"link_id\na\nbad-1\nbad-1\n\nbad-4\n")
        again = tmp_path / "again.csv"
        ran = bankconnect("report", path, "--failed", again)

        assert rows_of(again) == [["link_id"], ["bad-1"], ["bad-4"]]
        assert stat.S_IMODE(again.stat().st_mode) == 0o600
        service.faults.clear()
        _, summary = campaign(again.read_bytes())
        assert (summary["created"], summary["failed"]) == (2, 0)
        assert ran.code == 0

    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
    def test_failed_rows(self, bankconnect, campaign, tmp_path, end):
        """
        With --input it has the whole rows as they were, each once.
        """
        rows = [
            b"\xef\xbb\xbflink_id;bank_name;extra.note",
            b"a;axis;x",
            b'bad-1;icici;"two\nlines"',
            b"",
            b"b;sbi;",
            b"bad-2;;",
            b"bad-2;axis;",
            b"too;many;cells;here",
            b"'00123;axis;",
            b"bad-3;hdfc;last",
        ]
        path, summary = campaign((end or b"\n").join(rows) + end)
        again = tmp_path / "again.csv"
        source = tmp_path / "links.csv"
        ran = bankconnect("report", path, "--failed", again, "--input", source)

        assert (ran.code, ran.err) == (0, "")
        kept = (rows[0], *rows[2:4], rows[5], *rows[7:])
        assert again.read_bytes() == (end or b"\n").join(kept) + end
        assert summary["failed"] == 6

    def test_failed_json_lines(self, bankconnect, campaign, tmp_path):
        """
        Rows of JSON lines are copied as well.
        """
        rows = [
            b'{"link_id": "bad-1", "bank_name": "axis"}\n',
            b'{"link_id": "a"}\n',
            b"no JSON\n",
            b'{"link_id": "b"}\n',
        ]
        path, _ = campaign(b"".join(rows))
        again = tmp_path / "again.jsonl"
        source = tmp_path / "links.csv"
        bankconnect("report", path, "--failed", again, "--input", source)

        assert again.read_bytes() == rows[0] + rows[2]

    def test_failed_needs_input(self, bankconnect, campaign, tmp_path):
        """
        Rows that differ in parameters are not reduced to their link ids.
        """
        path, _ = campaign(b"link_id,bank_name\nbad-1,axis\nbad-2,sbi\n")
        again = tmp_path / "again.csv"
        ran = bankconnect("report", path, "--failed", again)

        assert (ran.code, ran.out) == (2, "")
        assert "with --input INPUT" in ran.err
        assert not again.exists()

    def test_unreadable_ids(self, bankconnect, campaign, tmp_path):
        """
        Rows without a readable link id are not left out silently.
        """
        path, _ = campaign(b"link_id,bank_name\nbad-1,\n,axis\n")
        again = tmp_path / "again.csv"
        ran = bankconnect("report", path, "--failed", again)

        assert rows_of(again) == [["link_id"], ["bad-1"]]
        assert "1 rows without a readable link id were left out" in ran.err

    def test_existing_file(self, bankconnect, campaign):
        """
        No file is overwritten, and stdout is for the figures.
        """
        path, _ = campaign(b"link_id\na\n")
        for option in "--html", "--urls", "--failed":
            ran = bankconnect("report", path, option, path)
            assert (ran.code, ran.out) == (2, "")
            assert "exists already and is not overwritten" in ran.err
            ran = bankconnect("report", path, option, "-")
            assert "name a file instead of -" in ran.err

    def test_full_disk(self, bankconnect, campaign, tmp_path):
        """
        If one file has no room, none is left that the next try would meet.
        """
        path, _ = campaign(b"link_id\na\n")
        urls, page = tmp_path / "urls.csv", tmp_path / "report.html"
        command = ["report", path, "--urls", urls, "--html", page]
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            full = bankconnect(*command)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        left = urls.exists(), page.exists()

        assert full.code == 2
        assert f"{page}: cannot be written: File too large" in full.err
        assert left == (False, False)
        assert bankconnect(*command).code == 0
        assert urls.exists()

    def test_empty_path(self, bankconnect, campaign):
        """
        A path without a name is refused.
        """
        path, _ = campaign(b"link_id\na\n")
        ran = bankconnect("report", path, "--html", "")

        assert (ran.code, ran.out) == (2, "")
        assert "cannot be written" in ran.err

    def test_file_that_came_since(self, tmp_path):
        """
        A file that came while ours was written is not overwritten, either.
        """
        path = tmp_path / "report.html"
        with (
            pytest.raises(CommandError, match="File exists"),
            new_file(str(path)) as file,
        ):
            file.write(b"ours")
            path.write_bytes(b"theirs")

        assert path.read_bytes() == b"theirs"
        assert list(tmp_path.iterdir()) == [path]

    def test_usage(self, bankconnect, tmp_path):
        """
        --input is of no use without --failed.
        """
        ran = bankconnect("report", tmp_path, "--input", tmp_path)
        assert (ran.code, ran.out) == (2, "")
        assert "--input requires --failed" in ran.err
