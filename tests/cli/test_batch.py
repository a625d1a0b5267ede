"""
``bankconnect batch`` from an input to an output.
"""

import array
import asyncio
import fcntl
import gzip
import json
import os
import re
import signal
import stat
import termios

from collections import Counter

import orjson
import pytest


HEADER = b"link_id\n"
URL = "https://lender.example/return"


def csv_of(count):
    """
    Return a CSV file of link ids.
    """
    return HEADER + b"".join(
        b"customer-%04d\n" % number for number in range(count)
    )


def errors(batch):
    """
    Return the types of errors of the failed rows, by line number.
    """
    return {
        line: record["error"]["type"]
        for line, record in batch.by_line().items()
        if "error" in record
    }


# All are handled by the same lines.
SIGNALS = [
    signal.SIGINT,
    pytest.param(signal.SIGTERM, marks=pytest.mark.long),
    pytest.param(signal.SIGHUP, marks=pytest.mark.long),
]


class TestMainJob:
    """
    A file through an embedded sandbox.
    """

    def test_every_row(self, batch, tmp_path):
        """
        A thousand rows give a thousand sessions and one summary line.
        """
        ran = batch(csv_of(1000), "--sandbox")

        assert ran.result.code == 0
        assert ran.result.out == ""
        # A slow machine prints its progress before.
        *progress, summary = ran.result.err.splitlines()
        assert summary.startswith("created 1000, failed 0, ")
        assert all(" of 1000 rows" in line for line in progress)
        assert len({record["redirect_url"] for record in ran.records}) == 1000
        assert {
            line: record["link_id"] for line, record in ran.by_line().items()
        } == {number + 2: f"customer-{number:04}" for number in range(1000)}
        assert stat.S_IMODE((tmp_path / "out.jsonl").stat().st_mode) == 0o600

    def test_record(self, batch):
        """
        The record of a created row holds its whole session.
        """
        (record,) = batch(HEADER + b"a\n", "--sandbox").records

        assert set(record) == {
            "link_id",
            "redirect_url",
            "session_id",
            "attempts",
            "line",
            "api",
            "request",
            "at",
            "seconds",
        }
        assert record["api"] == "sandbox/seed/v1"
        assert record["link_id"] == "a"
        assert record["session_id"] in record["redirect_url"]
        assert (record["attempts"], record["line"]) == (1, 2)

    def test_json_summary(self, batch, parse):
        """
        With --json the summary is one object on stdout, and stderr is empty.
        """
        ran = batch(HEADER + b"a\na,b\nb\na\n", "--sandbox", "--json")

        (summary,) = parse(ran.result.out)
        assert summary.pop("seconds") > 0
        assert summary.pop("rate") > 0
        assert summary == {
            "created": 2,
            "failed": 2,
            "failures": {"InvalidRequestError": 2},
            "skipped": 0,
            "interrupted": False,
            "stopped": None,
        }
        assert ran.result.err == ""
        assert ran.result.code == 1

    @pytest.mark.parametrize("dialect", ["seed", "entity", "session"])
    def test_dialects(self, batch, dialect):
        """
        A batch works in every dialect of the sandbox.
        """
        ran = batch(csv_of(3), "--sandbox", "--dialect", dialect)

        assert ran.result.code == 0
        assert len(ran.records) == 3

    def test_environment_is_ignored(self, batch, monkeypatch):
        """
        With --sandbox nothing goes to the server of the environment.
        """
        monkeypatch.setenv("BANKCONNECT_BASE_URL", "nonsense")
        monkeypatch.setenv("BANKCONNECT_API_KEY", "real-secret")
        monkeypatch.setenv("BANKCONNECT_REDIRECT_URL", "nonsense")

        assert batch(csv_of(2), "--sandbox").result.code == 0

    def test_pipe(self, bankconnect, tmp_path, parse):
        """
        A batch reads a pipe like a file.
        """
        reader, writer = os.pipe()
        os.write(writer, csv_of(100) + b"\n")
        os.close(writer)
        output = tmp_path / "out.jsonl"
        result = bankconnect(
            "batch", f"/dev/fd/{reader}", "--sandbox", "--output", output
        )
        os.close(reader)

        assert result.code == 0
        assert len(parse(output.read_text())) == 100


class TestMixedRows:
    """
    Rows that succeed, rows that the server refuses, and invalid rows.
    """

    def test_one_line_each(self, batch, service):
        """
        Every row has exactly one record, with its line and its error.
        """
        data = (
            b"link_id;bank_name;from_date;to_date;redirect_url\r\n"
            b"a;axis;01/01/2026;30/06/2026;\r\n"
            b"b;no-such-bank;;;\r\n"
            b"c;axis;30/06/2026;01/01/2026;\r\n"
            b";axis;;;\r\n"
            b'd;"axis;;;\r\n'
            b"e;axis;;;nowhere\r\n"
            b"a;axis;;;\r\n"
            b'"f\r\ng";axis;;;\r\n'
            b"i;AXIS ;;;https://other.example/\r\n"
            b"h;axis;;;;\r\n"
            b"0012;;;;\r\n"
        )
        ran = batch(data, "--redirect-url", URL, "--api-version", "v2")

        assert ran.result.code == 1
        assert errors(ran) == {
            3: "BadRequestError",
            **dict.fromkeys((4, 5, 6, 7, 8, 9, 10, 12), "InvalidRequestError"),
        }
        created = {
            line: record["link_id"]
            for line, record in ran.by_line().items()
            if "error" not in record
        }
        assert created == {2: "a", 11: "i", 13: "0012"}
        assert len(ran.records) == 12
        sent = {
            session.link_id: session.parameters["redirect_url"]
            for session in service.sessions.values()
        }
        assert sent == {
            "a": URL,
            "i": "https://other.example/",
            "0012": URL,
        }
        assert ran.result.err.startswith(
            "created 3, failed 9 (8 invalid request, 1 bad request), "
        )

    def test_error_record(self, batch, service):
        """
        The record of a failed row holds what a program needs to act on it.
        """
        ran = batch(
            HEADER[:-1] + b",bank_name\na,no-such-bank\n",
            "--inline-frame",
            "--api-version",
            "v2",
        )

        (record,) = ran.records
        assert (record["link_id"], record["line"]) == ("a", 2)
        assert record["attempts"] == 1
        message = record["error"].pop("message")
        assert "Invalid bank identifier" in message
        assert record["error"] == {
            "type": "BadRequestError",
            "code": "INVALID_BANK_NAME",
            "fields": {},
            "status": 400,
            "delivery": "rejected",
            "retry_after": None,
        }

    def test_json_lines(self, batch, service):
        """
        JSON lines hold null, numbers and nested values.
        """
        lines = [
            {
                "link_id": "a",
                "redirect_url": None,
                "session_expiry": 60,
                "metadata": {"names": ["A"]},
            },
            {"link_id": "b"},
            {"link_id": "c", "session_expiry": 2**70},
            {"link_id": "d", "consents": {"C": {"from_date": "x"}}},
        ]
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        ran = batch(data, "--redirect-url", URL, "--api-version", "v2")

        assert errors(ran) == dict.fromkeys((3, 4), "InvalidRequestError")
        sent = {
            session.link_id: session.parameters
            for session in service.sessions.values()
        }
        assert set(sent) == {"a", "b"}
        assert "redirect_url" not in sent["a"]
        assert sent["a"]["session_expiry"] == 60
        assert sent["b"]["redirect_url"] == URL

    def test_only_bad_rows(self, batch, service):
        """
        A file of invalid rows causes no request.
        """
        ran = batch(HEADER + b"a,b\n" * 300, "--inline-frame")

        assert ran.result.code == 1
        assert sorted(ran.by_line()) == list(range(2, 302))
        assert service.requests == 0


class TestRefusedKey:
    """
    Responses that stop a batch.
    """

    @pytest.mark.parametrize("rows", [1, 300])
    def test_not_authenticated(self, batch, service, monkeypatch, rows):
        """
        A refused key exits with 3, and every row has an outcome.
        """
        monkeypatch.setenv("BANKCONNECT_API_KEY", "k3y-of-another")
        ran = batch(csv_of(rows), "--inline-frame", "--concurrency", "4")

        assert ran.result.code == 3
        assert sorted(ran.by_line()) == list(range(2, rows + 2))
        kinds = Counter(errors(ran).values())
        assert set(kinds) <= {"AuthenticationError", "BatchStoppedError"}
        assert 1 <= kinds["AuthenticationError"] <= 4
        assert service.requests == kinds["AuthenticationError"]
        assert "check BANKCONNECT_API_KEY" in ran.result.err
        assert "k3y" not in f"{ran.result} {ran.records}"

    def test_not_paid(self, batch, service, monkeypatch):
        """
        A plan that is used up stops the batch, too, with a message.
        """
        monkeypatch.setenv("BANKCONNECT_API_KEY", "sandbox-unpaid-key")
        ran = batch(csv_of(50), "--inline-frame", "--concurrency", "1")

        assert ran.result.code == 1
        assert len(ran.records) == 50
        assert service.requests == 1
        assert "stopped, nothing more was sent: " in ran.result.err
        assert "402" in ran.result.err


class TestConfiguration:
    """
    Configurations that are refused before anything is sent.
    """

    def test_no_key(self, batch):
        """
        Without a key the error names the variable, and no output is created.
        """
        ran = batch(csv_of(1), "--inline-frame")

        assert ran.result.code == 2
        assert "BANKCONNECT_API_KEY" in ran.result.err
        assert ran.records == []

    def test_no_redirect_url(self, batch, service, tmp_path):
        """
        Without a redirect URL one error names all ways to give one.
        """
        ran = batch(csv_of(3))

        assert ran.result.code == 2
        assert ran.result.err.count("\n") == 1
        for way in (
            "BANKCONNECT_REDIRECT_URL",
            "--redirect-url",
            "--inline-frame",
        ):
            assert way in ran.result.err
        assert service.requests == 0
        assert not (tmp_path / "out.jsonl").exists()

    def test_redirect_url_of_the_environment(
        self, batch, service, monkeypatch
    ):
        """
        The environment's redirect URL applies to every row.
        """
        monkeypatch.setenv("BANKCONNECT_REDIRECT_URL", URL)
        assert batch(csv_of(1)).result.code == 0

        (session,) = service.sessions.values()
        assert session.parameters["redirect_url"] == URL

    def test_redirect_url_of_rows(self, batch, service):
        """
        A column can hold redirect URLs; a row with an empty cell fails alone.
        """
        ran = batch(b"link_id,redirect_url\na," + URL.encode() + b"\nb,\n")

        assert ran.result.code == 1
        assert errors(ran) == {3: "InvalidRequestError"}

    @pytest.mark.parametrize(
        ("args", "problem"),
        [
            (["--concurrency", "0"], "--concurrency"),
            (["--rate", "0"], "--rate"),
            (["--rate", "nan"], "--rate: must be a number above 0"),
            (["--dialect", "klingon"], "--dialect"),
            (["--redirect-url", "x", "--inline-frame"], "exclude each other"),
            (["--base-url", "https://x.example"], "exclude each other"),
            (
                ["--api-version", "vX"],
                "--api-version or BANKCONNECT_API_VERSION: must be v1 or v2",
            ),
            (
                ["--redirect-url", "x"],
                "--redirect-url or BANKCONNECT_REDIRECT_URL: is not an abs",
            ),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_bad_options(self, batch, tmp_path, args, problem):
        """
        A bad option exits with 2 and creates no output.
        """
        ran = batch(csv_of(1), "--sandbox", *args)

        assert ran.result.code == 2
        assert problem in ran.result.err
        assert not (tmp_path / "out.jsonl").exists()

    def test_plain_http(self, batch, monkeypatch):
        """
        The key is sent without TLS only if an option allows it.
        """
        monkeypatch.setenv("BANKCONNECT_API_KEY", "k3y")
        address = "--base-url", "http://sandbox.invalid", "--inline-frame"
        refused = batch(csv_of(1), *address)
        tried = batch(csv_of(1), *address, "--allow-http")

        assert refused.result.code == 2
        assert "--base-url or BANKCONNECT_BASE_URL: uses plain http" in (
            refused.result.err
        )
        assert "or --allow-http for a sandbox" in refused.result.err
        assert tried.result.code == 1
        assert errors(tried) == {2: "ConnectError"}


class TestFiles:
    """
    Inputs and outputs that cannot be used.
    """

    @pytest.mark.parametrize(
        ("data", "problem"),
        [
            (b"", "is empty"),
            (HEADER, "has a header and no rows"),
            ("link_id\na\n".encode("utf-16"), "is UTF-16"),
            (b"\x7fELF\0\0", "is binary"),
            (b"[]", "is a JSON array"),
            (b"a,b\n1,2\n", "link_id column"),
            (b"link_id,pan\na,b\n", "unknown columns: 'pan'"),
            (b"link_id,api_key\na,b\n", "api_key"),
        ],
        ids=lambda value: str(value)[:24],
    )
    def test_bad_input(self, batch, service, tmp_path, data, problem):
        """
        A bad input sends nothing, prints one line with its name and the
        reason, and creates no output.
        """
        ran = batch(data, "--inline-frame")

        assert ran.result.code == 2
        assert ran.result.err.startswith(f"{tmp_path / 'links.csv'}: ")
        assert problem in ran.result.err
        assert ran.result.err.count("\n") == 1
        assert service.requests == 0
        assert not (tmp_path / "out.jsonl").exists()

    @pytest.mark.parametrize("name", ["missing.csv", "."])
    def test_no_input(self, bankconnect, tmp_path, name):
        """
        A missing file and a directory are refused.
        """
        path = tmp_path / name
        result = bankconnect(
            "batch", path, "--sandbox", "--output", tmp_path / "out"
        )

        assert result.code == 2
        assert result.err.startswith(f"{path}: cannot be read: ")
        assert not (tmp_path / "out").exists()

    def test_existing_output(self, batch, service, tmp_path):
        """
        An output that is no journal is refused, and nothing is sent.
        """
        (tmp_path / "out.jsonl").write_text("{}\n")
        ran = batch(csv_of(1), "--inline-frame")

        assert ran.result.code == 2
        assert ran.result.err == (
            f"{tmp_path / 'out.jsonl'}: line 1 is no record of a session: "
            f"name another --output, or --fresh to start over\n"
        )
        assert ran.records == [{}]
        assert service.requests == 0

    def test_existing_output_spares_the_input(self, bankconnect, tmp_path):
        """
        A refused output leaves the input unread, because a pipe can be read
        only once.
        """
        output = tmp_path / "out.jsonl"
        output.write_text("precious")
        reader, writer = os.pipe()
        os.write(writer, csv_of(1))
        os.close(writer)
        result = bankconnect(
            "batch", f"/dev/fd/{reader}", "--sandbox", "--output", output
        )

        assert result.code == 2
        assert os.read(reader, 1000) == csv_of(1)
        os.close(reader)

    def test_disk_full(self, bankconnect, tmp_path):
        """
        A full disk ends the batch with a report on its rows.
        """
        source = tmp_path / "links.csv"
        source.write_bytes(csv_of(500))
        result = bankconnect(
            "batch", source, "--sandbox", "--output", "/dev/full"
        )

        assert result.code == 1
        # The rows that were in flight when the first write failed.
        count = int(result.err.removeprefix("created ").split(",")[0])
        assert 1 <= count <= 64
        assert f"created {count}, failed 0" in result.err
        assert "/dev/full: cannot be written: No space left" in result.err
        assert f"holds the 0 rows that were done; {count} more" in result.err
        assert "could not be written: they may have sessions" in result.err
        assert "to go on" not in result.err


class TestProcess:
    """
    Behaviour that needs a process of its own.
    """

    async def test_streams(self, start, parse):
        """
        Rows come from stdin and go to stdout; messages go to stderr.
        """
        process = await start(
            "batch", "-", "--sandbox", "--output", "-", "--json"
        )
        out, err = await process.communicate(csv_of(100))

        assert process.returncode == 0
        assert len(parse(out.decode())) == 100
        # A slow machine prints its progress before.
        assert orjson.loads(err.splitlines()[-1])["created"] == 100

    async def test_rows_are_not_waited_for(self, start):
        """
        A row on stdin is done while the next one is still being written.
        """
        process = await start("batch", "-", "--sandbox", "--output", "-")
        for number in range(3):
            process.stdin.write(HEADER if not number else b"")
            process.stdin.write(b"customer-%d\n" % number)
            line = await process.stdout.readline()
            assert orjson.loads(line)["link_id"] == f"customer-{number}"
        process.stdin.close()

        assert await process.wait() == 0

    async def test_reader_goes_away(self, start):
        """
        A closed stdout ends the batch, which reports the rows that were sent
        without a record.
        """
        process = await start("batch", "-", "--sandbox", "--output", "-")
        process.stdin.write(HEADER + b"a\n")
        assert await process.stdout.readline()
        process._transport.get_pipe_transport(1).close()
        # A later step of the loop closes the pipe itself.
        assert await process.stdout.read() == b""
        process.stdin.write(csv_of(50).removeprefix(HEADER))
        process.stdin.close()
        err = (await process.stderr.read()).decode()

        assert await process.wait() == 1
        assert "stdout: cannot be written: its reader has closed it: " in err
        # The number of rows in flight depends on the timing.
        assert re.search(r" outcomes \(line 3[,)]", err)
        assert "stdout: holds the 1 rows that were done; " in err

    async def test_a_reader_that_stops_reading_does_not_stop_ctrl_c(
        self, start, raw_server, created_answer, monkeypatch
    ):
        """
        A second Ctrl-C cancels rows whose records nobody reads, and names
        them.
        """

        async def respond(server, reader, writer):
            await server.read_request(reader)
            writer.write(created_answer)
            await writer.drain()

        reader, writer = os.pipe()
        os.write(writer, bytes(fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ)))
        async with raw_server(respond) as server:
            process = await self._begin_two(
                start, server, monkeypatch, stdout=writer
            )
            os.close(writer)
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(60):
                await process.stderr.readuntil(b"press Ctrl-C again")
            process.send_signal(signal.SIGINT)
            err = (await process.stderr.read()).decode()
        os.close(reader)

        assert await process.wait() == 130
        assert "stdout: holds the 0 rows that were done; 2 more were" in err
        assert "its reader takes nothing: 2 outcomes (line 2, 3) " in err

    @pytest.mark.parametrize("number", SIGNALS)
    async def test_input_that_yields_nothing_for_long(
        self, start, tmp_path, until, number
    ):
        """
        Sixty million blank lines in a gzip file do not delay signals.
        """
        source, output = tmp_path / "links.csv.gz", tmp_path / "out.jsonl"
        with gzip.open(source, "wb", compresslevel=1) as file:
            file.write(HEADER + b"a\n")
            for _ in range(60):
                file.write(b"\n" * 2**20)
        process = await start("batch", source, "--sandbox", "--output", output)
        await until(lambda: output.exists() and output.read_bytes())
        process.send_signal(number)
        async with asyncio.timeout(5):
            said = await process.stderr.readuntil(b"rows that were done\n")
            await process.wait()

        assert process.returncode == 130
        assert b"created 1, failed 0" in said

    def test_a_device_without_end(self, bankconnect, tmp_path):
        """
        An endless first line is refused at once.
        """
        result = bankconnect(
            *("batch", "/dev/zero", "--sandbox"),
            *("--output", tmp_path / "out"),
        )

        assert result.code == 2
        assert "/dev/zero: is " in result.err

    async def test_stdout_full(self, start):
        """
        A full disk behind stdout is an error that begins with its name.
        """
        full = os.open("/dev/full", os.O_WRONLY)
        process = await start(
            "batch", "-", "--sandbox", "--output", "-", stdout=full
        )
        os.close(full)
        _, err = await process.communicate(csv_of(3))

        assert b"stdout: cannot be written: No space left" in err
        assert process.returncode == 1

    @pytest.mark.parametrize("number", SIGNALS)
    async def test_interrupted(self, start, tmp_path, parse, until, number):
        """
        Ctrl-C or SIGTERM keeps the rows that were sent, and reports where they
        are.
        """
        source, output = tmp_path / "links.csv", tmp_path / "out.jsonl"
        source.write_bytes(csv_of(5_000))
        process = await start(
            *("batch", source, "--sandbox", "--output", output),
            *("--rate", "200", "--concurrency", "8"),
        )
        await until(
            lambda: output.exists() and output.read_bytes().count(b"\n") > 20
        )
        process.send_signal(number)
        _, err = await process.communicate()

        assert process.returncode == 130
        records = parse(output.read_text())
        assert 20 < len(records) < 5_000
        assert all("redirect_url" in record for record in records)
        text = err.decode()
        assert f"created {len(records)}, failed 0, " in text
        assert ", interrupted\n" in text
        assert (
            f"{output}: holds the {len(records)} rows that were done\n"
            f"to resume: bankconnect batch {source} --sandbox "
            f"--output {output} --rate 200 --concurrency 8\n"
        ) in text

    async def test_interrupted_while_waiting_for_rows(self, start):
        """
        Ctrl-C works while stdin is silent.
        """
        process = await start("batch", "-", "--sandbox", "--output", "-")
        process.stdin.write(HEADER + b"a\n")
        assert await process.stdout.readline()
        process.send_signal(signal.SIGINT)

        assert b"holds the 1 rows" in await process.stderr.read()
        assert await process.wait() == 130

    async def test_interrupted_before_the_first_row(
        self, start, tmp_path, until
    ):
        """
        Ctrl-C before the first row leaves no output.
        """
        output = tmp_path / "out.jsonl"
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        process = await start("batch", fifo, "--sandbox", "--output", output)
        # Opening it for writing blocks until the other end is open.
        writer = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)
        os.write(writer, HEADER)
        await until(lambda: not _unread(writer))
        process.send_signal(signal.SIGINT)

        assert await process.stderr.read() == b"bankconnect: interrupted\n"
        assert await process.wait() == 130
        assert not output.exists()
        os.close(writer)

    async def test_drains(
        self, start, raw_server, created_answer, monkeypatch, parse
    ):
        """
        After Ctrl-C the batch waits for the rows in flight, and records them.
        """
        release = asyncio.Event()

        async def respond_late(server, reader, writer):
            await server.read_request(reader)
            await release.wait()
            writer.write(created_answer)
            await writer.drain()

        async with raw_server(respond_late) as server:
            process = await self._begin_two(start, server, monkeypatch)
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(60):
                said = await process.stderr.readuntil(b"to cancel them")
            release.set()
            out, err = await process.communicate()

        assert b"stopping when the 2 rows in flight are done" in said
        assert process.returncode == 130
        records = parse(out.decode())
        assert [record["attempts"] for record in records] == [1, 1]
        assert b"created 2, failed 0" in err
        assert b"stdout: holds the 2 rows that were done\n" in err

    async def test_cancels(self, start, raw_server, monkeypatch, parse):
        """
        A second Ctrl-C ends the batch at once, and records for each row in
        flight that a session may exist.
        """

        async def never_respond(server, reader, writer):
            await server.read_request(reader)
            await asyncio.Event().wait()

        async with raw_server(never_respond) as server:
            process = await self._begin_two(start, server, monkeypatch)
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(60):
                await process.stderr.readuntil(b"to cancel them")
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()

        assert process.returncode == 130
        records = parse(out.decode())
        assert {record["line"] for record in records} == {2, 3}
        for record in records:
            assert record["error"]["delivery"] == "ambiguous"
            assert "a session may exist" in record["error"]["message"]
        assert b"failed 2 (2 transport)" in err

    @staticmethod
    async def _begin_two(start, server, monkeypatch, **streams):
        monkeypatch.setenv("BANKCONNECT_BASE_URL", server.base_url)
        monkeypatch.setenv("BANKCONNECT_API_KEY", "k3y")
        process = await start(
            *("batch", "-", "--inline-frame", "--output", "-"),
            *("--concurrency", "2"),
            **streams,
        )
        process.stdin.write(csv_of(2))
        process.stdin.close()
        async with asyncio.timeout(60):
            while len(server.requests) < 2:
                await asyncio.sleep(0.005)
        return process

    async def test_progress_bar(self, start, tmp_path):
        """
        A terminal shows a bar with counts, rate and time left; the summary
        comes below it.
        """
        source = tmp_path / "links.csv"
        source.write_bytes(csv_of(300))
        terminal, end = os.openpty()
        process = await start(
            *("batch", source, "--sandbox", "--output", tmp_path / "out"),
            *("--rate", "600"),
            stderr=end,
        )
        os.close(end)
        shown = await asyncio.to_thread(_read_terminal, terminal)
        await process.wait()

        assert process.returncode == 0
        assert "creating sessions" in shown
        assert "300/300" in shown
        assert "0 failed" in shown
        assert "rows/s" in shown
        assert "created 300, failed 0, " in shown.splitlines()[-1]

    async def test_drain_message_on_a_terminal(
        self, start, raw_server, created_answer, monkeypatch
    ):
        """
        A terminal shows the message of Ctrl-C beside the bar.
        """
        release = asyncio.Event()

        async def respond_late(server, reader, writer):
            await server.read_request(reader)
            await release.wait()
            writer.write(created_answer)
            await writer.drain()

        terminal, end = os.openpty()
        async with raw_server(respond_late) as server:
            process = await self._begin_two(
                start, server, monkeypatch, stderr=end
            )
            os.close(end)
            process.send_signal(signal.SIGINT)
            said = await asyncio.to_thread(_read_until, terminal, b"stopping")
            release.set()
            rest = await asyncio.to_thread(_read_terminal, terminal)

        assert await process.wait() == 130
        assert "creating sessions" in said + rest
        assert "press Ctrl-C again to cancel them\r\n" in said + rest
        assert "created 2, failed 0" in rest

    async def test_progress_bar_of_a_pipe(self, start, tmp_path):
        """
        The bar of a pipe has no total.
        """
        terminal, end = os.openpty()
        process = await start(
            *("batch", "-", "--sandbox", "--output", tmp_path / "out"),
            stderr=end,
        )
        os.close(end)
        process.stdin.write(csv_of(50))
        process.stdin.close()
        shown = await asyncio.to_thread(_read_terminal, terminal)

        assert await process.wait() == 0
        assert "50/?" in shown


def _unread(pipe):
    """
    Count the bytes that wait in a pipe.
    """
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def _read_until(terminal, word):
    """
    Read the output of a terminal up to *word*.
    """
    shown = b""
    while word not in shown:
        shown += os.read(terminal, 65536)
    return shown.decode()


def _read_terminal(terminal):
    """
    Read the output of a terminal until its last process ends.
    """
    shown = b""
    try:
        while block := os.read(terminal, 65536):
            shown += block
    except OSError:
        # Linux raises this when the other end is closed.
        pass
    finally:
        os.close(terminal)
    return shown.decode()
