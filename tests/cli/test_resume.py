"""
``bankconnect batch`` with the output of an earlier run.
"""

import asyncio
import errno
import gzip
import os
import random
import shlex
import signal

from collections import Counter

import pytest

from bankconnect_async.cli.batch import progress as _progress
from bankconnect_async.journal import CreatedRecord, Journal, read_journal
from bankconnect_async.sandbox import Fault, Sandbox


HEADER = b"link_id\n"
URL = "https://lender.example/return"
INLINE = "--inline-frame"


def csv_of(count):
    """Return a CSV file of link ids."""
    return HEADER + b"".join(
        b"customer-%04d\n" % number for number in range(count)
    )


def created(ran):
    """Return the link ids of all created records."""
    return [each["link_id"] for each in ran.records if "error" not in each]


class TestAgain:
    """
    The same command again.
    """

    def test_all_created_before(self, batch, service):
        """
        Rows with a session are skipped, and counted.
        """
        batch(csv_of(300), INLINE)
        ran = batch(csv_of(300), INLINE)

        assert ran.result.code == 0
        assert ran.result.err.startswith(
            "created 0, failed 0, skipped 300 created before, "
        )
        assert service.created() == len(ran.records) == 300

    def test_sandbox(self, batch, parse):
        """
        All embedded sandboxes are the same API.
        """
        batch(csv_of(3), "--sandbox")
        ran = batch(csv_of(5), "--sandbox", "--json")

        (summary,) = parse(ran.result.out)
        assert (summary["created"], summary["skipped"]) == (2, 3)
        assert len(created(ran)) == 5

    def test_failed_ones(self, batch, service):
        """
        Failed rows are sent again, and invalid ones are refused again.
        """
        service.faults.script(Fault.status(400), prefix="b")
        data = HEADER + b"a\nb\na,x\nc\na\n"
        first, second = batch(data, INLINE), batch(data, INLINE)

        assert (first.result.code, second.result.code) == (1, 1)
        assert first.result.err.startswith(
            "created 2, failed 3 (2 invalid request, 1 bad request), "
        )
        assert second.result.err.startswith(
            "created 1, failed 2 (2 invalid request), skipped 2 "
        )
        assert sorted(created(second)) == ["a", "b", "c"]
        doubles = [
            each["error"]["message"]
            for each in second.records
            if each["line"] == 6
        ]
        assert doubles == 2 * [
            "link_id: was given before, on line 2; remove one"
        ]

    def test_rows_added(self, batch, service):
        """
        Rows may be added anywhere, and their order may change.
        """
        batch(csv_of(3), INLINE)
        lines = csv_of(6).splitlines(keepends=True)
        ran = batch(HEADER + b"".join(lines[:0:-1]), INLINE)

        assert "created 3, failed 0, skipped 3 " in ran.result.err
        assert len(created(ran)) == 6

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (["--api-version", "v2"], "line 1 is of 127.0.0.1:"),
            (["--sandbox"], "and this is sandbox/seed/v1"),
            (["--redirect-url", URL], "line 2 that was created by an"),
        ],
        ids=["version", "sandbox", "redirect"],
    )
    def test_refused(self, batch, service, tmp_path, change, reason):
        """
        An output of another API or of other requests is refused, and nothing
        is sent.
        """
        given = [INLINE] if change[0] != "--redirect-url" else []
        batch(csv_of(2), INLINE)
        before = (tmp_path / "out.jsonl").read_bytes()
        ran = batch(csv_of(3), *given, *change)

        assert ran.result.code == 2
        assert reason in ran.result.err
        assert "name another --output, or --fresh to start over" in (
            ran.result.err
        )
        assert "to go on" not in ran.result.err
        assert (tmp_path / "out.jsonl").read_bytes() == before
        assert service.created() == 2

    def test_output_of_a_sandbox(self, batch, service):
        """
        A real run refuses the output of a sandbox.
        """
        batch(csv_of(2), "--sandbox")
        ran = batch(csv_of(2), INLINE)

        assert ran.result.code == 2
        assert "line 1 is of sandbox/seed/v1, and this is 127" in (
            ran.result.err
        )
        assert service.requests == 0

    def test_changed_row(self, batch, service):
        """
        A changed row stops the batch at that row.
        """
        header = b"link_id,bank_name\n"
        batch(header + b"a,axis\n", INLINE)
        ran = batch(header + b"b,axis\na,hdfc\nc,axis\n", INLINE)

        assert ran.result.code == 2
        assert "a session for the link id of line 3 " in ran.result.err
        assert "'a'" not in ran.result.err
        assert set(created(ran)) <= {"a", "b"}

    def test_signed_return_url(self, batch, service, monkeypatch):
        """
        A signed redirect URL changes on each run, and counts as the same
        request.
        """
        monkeypatch.setenv("BANKCONNECT_REDIRECT_URL", URL)
        monkeypatch.setenv("BANKCONNECT_SIGNING_KEY", "s" * 32)
        batch(csv_of(2))
        ran = batch(csv_of(2))

        assert "created 0, failed 0, skipped 2 " in ran.result.err

    def test_short_signing_key(self, batch, service, monkeypatch):
        """
        The message names the variable of a signing key that is too short.
        """
        monkeypatch.setenv("BANKCONNECT_REDIRECT_URL", URL)
        monkeypatch.setenv("BANKCONNECT_SIGNING_KEY", "short")
        ran = batch(csv_of(2))

        assert ran.result.code == 2
        assert ran.result.err.startswith(
            "bankconnect: BANKCONNECT_SIGNING_KEY: must be 32 bytes"
        )

    def test_fresh(self, batch, service, tmp_path):
        """
        Starting over keeps the old file, and prints its name.
        """
        batch(csv_of(2), INLINE)
        before = (tmp_path / "out.jsonl").read_bytes()
        ran = batch(csv_of(2), INLINE, "--fresh")

        kept = tmp_path / "out.jsonl.old-1"
        assert (
            f"started over; the old file is backed up as {kept}\n"
            in ran.result.err
        )
        assert kept.read_bytes() == before
        assert service.created() == 4
        assert len(ran.records) == 2

    def test_second_writer(self, batch, service, tmp_path):
        """
        A second command on the same output is refused.
        """
        path = tmp_path / "out.jsonl"
        with Journal(path):
            ran = batch(csv_of(2), INLINE)

        assert ran.result.code == 2
        assert ran.result.err.startswith(
            f"{path}: another process is writing to it: wait until that is "
            f"done, or name another --output"
        )
        assert service.requests == 0

    def test_no_locks(self, batch, monkeypatch):
        """
        The command warns if the output cannot be locked.
        """

        def flock(fd, operation):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("fcntl.flock", flock)
        ran = batch(csv_of(2), "--sandbox")

        assert ran.result.code == 0
        assert "make sure that no other command writes" in ran.result.err

    @pytest.mark.parametrize("number", [errno.EPERM, None])
    def test_no_permissions(self, batch, monkeypatch, tmp_path, number):
        """
        The command warns if others can read the output, whether the file
        system refuses another mode or ignores it.
        """

        def chmod(fd, mode):
            if number is not None:
                raise OSError(number, os.strerror(number))

        path = tmp_path / "out.jsonl"
        path.touch(0o644)
        monkeypatch.setattr(os, "chmod", chmod)
        monkeypatch.setattr(os, "supports_fd", {chmod})
        ran = batch(csv_of(2), "--sandbox")

        assert ran.result.code == 0
        assert "other users can read it" in ran.result.err

    def test_output_is_the_input(self, bankconnect, tmp_path):
        """
        An output that is the input is refused under any name.
        """
        path = tmp_path / "out.jsonl"
        path.write_text('{"link_id": "a"}\n')
        (tmp_path / "link").symlink_to(path)
        result = bankconnect(
            "batch", path, "--sandbox", "--output", tmp_path / "link"
        )

        assert result.code == 2
        assert "is the input, too: name another --output" in result.err
        assert path.read_text() == '{"link_id": "a"}\n'

    def test_refused_key(self, batch, service, monkeypatch, tmp_path):
        """
        After a refused key the printed command resumes the batch.
        """
        monkeypatch.setenv("BANKCONNECT_API_KEY", "k3y-of-another")
        refused = batch(csv_of(20), INLINE, "--fresh")
        monkeypatch.setenv("BANKCONNECT_API_KEY", service.api_key)
        ran = batch(csv_of(20), INLINE)

        source, output = tmp_path / "links.csv", tmp_path / "out.jsonl"
        assert refused.result.code == 3
        assert refused.result.err.endswith(
            f"to resume: bankconnect batch {source} --output {output} "
            f"--inline-frame\n"
        )
        assert ran.result.code == 0
        assert len(created(ran)) == 20

    def test_sync_that_fails(self, batch, monkeypatch):
        """
        An fsync that fails makes the command fail.
        """

        def fsync(fd):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fsync", fsync)
        ran = batch(csv_of(2), "--sandbox")

        assert ran.result.code == 1
        assert "cannot be written: Input/output error" in ran.result.err


class TestInputs:
    """
    Inputs of many kinds, through the whole command.
    """

    @pytest.mark.parametrize("kind", ["csv", "jsonl"])
    def test_gzip(self, batch, service, kind):
        """
        A compressed file gives the same records as the file itself.
        """
        data = csv_of(50)
        if kind == "jsonl":
            data = b"".join(
                b'{"link_id": "%s"}\n' % line for line in data.split()[1:]
            )
        batch(data, INLINE)
        ran = batch(gzip.compress(data), INLINE)

        assert "skipped 50 " in ran.result.err

    def test_damaged_gzip(self, batch, service, tmp_path):
        """
        A truncated gzip file keeps the rows before its end, and prints how to
        resume.
        """
        # Without compression, so that the cut removes rows.
        data = gzip.compress(csv_of(1000), 0)
        ran = batch(data[:-8_000], INLINE)

        assert ran.result.code == 1
        assert "cannot be read to its end: its gzip data is cut off" in (
            ran.result.err
        )
        assert 0 < len(created(ran)) == service.created() < 1000
        assert f"holds the {service.created()} rows" in ran.result.err
        assert "to resume: bankconnect batch " in ran.result.err

    def test_spreadsheet(self, batch, service):
        """
        Damage by a spreadsheet costs only the damaged rows.
        """
        data = (
            b'\xef\xbb\xbf"link_id";bank_name\r\n'
            b"0012;axis\r\n"
            b'"two\r\nlines";axis\r\n'
            b"007;\r\n"
            b";\r\n"
        )
        ran = batch(data, INLINE)

        assert ran.result.code == 1
        assert {
            line: each.get("redirect_url") and each["link_id"]
            for line, each in ran.by_line().items()
        } == {2: "0012", 3: None, 4: None, 5: "007"}

    def test_damaged_link_ids(self, batch, service):
        """
        Damaged link ids get no session, and a record with the reason.
        """
        data = HEADER + b"a\n b\n'00123\n1.23457E+11\n#N/A\nNaN\nlink_id\nc\n"
        ran = batch(data, INLINE)

        assert ran.result.code == 1
        assert created(ran) == ["a", "c"]
        assert len(service.sessions) == 2
        refused = [each for each in ran.records if "error" in each]
        assert [each["line"] for each in refused] == [3, 4, 5, 6, 7, 8]
        for each in refused:
            assert each["error"]["type"] == "InvalidRequestError"
            assert list(each["error"]["fields"]) == ["link_id"] or (
                each["line"] == 8
            )

        insisted = batch(data, INLINE, "--allow-any-link-id")

        assert insisted.result.code == 1
        assert {
            each["link_id"]
            for each in insisted.records
            if "redirect_url" in each
        } == {"a", " b", "'00123", "1.23457E+11", "#N/A", "NaN", "c"}

    def test_month_first(self, batch, service):
        """
        A file with a month-first date is refused before anything is sent.
        """
        rows = b"".join(b"c%03d,01/02/2026\n" % each for each in range(200))
        ran = batch(b"link_id,from_date\n" + rows + b"d,01/31/2026\n", INLINE)

        assert ran.result.code == 2
        assert "links.csv: line 202: from_date is '01/31/2026'" in (
            ran.result.err
        )
        assert ran.result.err.endswith("Nothing was sent\n")
        assert len(service.sessions) == 0

    def test_tabs(self, batch, service):
        """
        Tabs may separate cells.
        """
        ran = batch(b"link_id\tbank_name\n00\taxis\n", INLINE)

        assert created(ran) == ["00"]

    def test_huge_line(self, batch, service):
        """
        A line of ten megabytes, or with a NUL byte, fails alone.
        """
        ran = batch(
            HEADER + b"a\n" + b"x" * 10_000_000 + b"\nb\0c\nd\n", INLINE
        )

        assert ran.result.code == 1
        assert created(ran) == ["a", "d"]
        assert {
            each["line"]: each["error"]["message"]
            for each in ran.records
            if "error" in each
        } == {
            3: "row: is longer than 1048576 bytes: check its quotes and line "
            "ends",
            4: "row: holds a NUL byte: export the file again",
        }

    async def test_stdin(self, start, tmp_path, parse):
        """
        A batch from stdin can be resumed, too.
        """
        output = tmp_path / "out.jsonl"
        for count, skipped in (30, 0), (50, 30):
            process = await start(
                "batch", "-", "--sandbox", "--output", output, "--json"
            )
            out, err = await process.communicate(csv_of(count))
            (summary,) = parse(out.decode())
            assert (err, summary["skipped"]) == (b"", skipped)

        assert len(parse(output.read_text())) == 50


class TestProgress:
    """
    Progress during a batch.
    """

    def test_lines(self, batch, monkeypatch):
        """
        Without a terminal a line shows the progress at intervals.
        """
        monkeypatch.setattr(_progress, "_LINE_INTERVAL", 0.02)
        ran = batch(csv_of(200) + b"a,b\n", "--sandbox", "--rate", "400")

        first, *_, last = ran.result.err.splitlines()[:-1]
        assert " of 201 rows, " in first
        assert "rows/s" in first
        assert ", limit 400/s" in first
        assert " left" in last
        assert ", 1 failed, " in last
        assert last.endswith(" (1 invalid request)")

    async def test_failures_on_a_terminal(
        self, start, raw_server, monkeypatch
    ):
        """
        A terminal shows the failures by class.
        """

        async def refuse(server, reader, writer):
            await server.read_request(reader)
            writer.write(b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()

        terminal, end = os.openpty()
        async with raw_server(refuse) as server:
            monkeypatch.setenv("BANKCONNECT_BASE_URL", server.base_url)
            monkeypatch.setenv("BANKCONNECT_API_KEY", "k3y")
            process = await start(
                *("batch", "-", INLINE, "--output", "/dev/null"), stderr=end
            )
            os.close(end)
            await process.communicate(csv_of(3))
        shown = os.read(terminal, 65536).decode()
        os.close(terminal)

        assert process.returncode == 1
        assert "3 failed, " in shown
        assert "(3 bad request)" in shown


class TestKilled:
    """
    Processes that end without a chance to clean up.
    """

    ROWS, KILLS, CONCURRENCY = 2_000, 20, 25

    @pytest.mark.long
    async def test_kill(self, start, tmp_path, monkeypatch, until):
        """
        After any number of kills the same command ends with one session for
        each row, and repeats only requests that were in flight.
        """
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        # The warnings of imports and of the sandbox have tests of their own.
        monkeypatch.delenv("PYTHONDEVMODE", raising=False)
        asyncio.get_running_loop().set_debug(False)
        source, output = tmp_path / "links.csv", tmp_path / "out.jsonl"
        source.write_bytes(csv_of(self.ROWS))
        points = sorted(
            random.Random(seed).sample(range(1, self.ROWS), self.KILLS)
        )
        async with Sandbox() as sandbox:
            monkeypatch.setenv("BANKCONNECT_BASE_URL", sandbox.base_url)
            monkeypatch.setenv("BANKCONNECT_API_KEY", sandbox.api_key)
            command = (
                *("batch", source, INLINE, "--output", output),
                *("--concurrency", self.CONCURRENCY),
            )
            for point in points:
                process = await start(*command)
                async with asyncio.timeout(60):
                    while sandbox.created() < point:
                        await asyncio.sleep(0.002)
                process.kill()
                await process.wait()
                assert process.returncode == -signal.SIGKILL
            process = await start(*command)
            _, err = await process.communicate()
            assert (process.returncode, b"created" in err) == (0, True)

            found = Counter(
                record.link_id
                for record in read_journal(output)
                if isinstance(record, CreatedRecord)
            )
            expected = csv_of(self.ROWS).decode().split()[1:]
            assert found == Counter(expected)
            assert sandbox.created() <= (
                self.ROWS + self.CONCURRENCY * self.KILLS
            )

    async def test_output_deleted(self, start, tmp_path, until):
        """
        Deleting the output during a batch ends it with an error that names the
        lost rows.
        """
        source, output = tmp_path / "links.csv", tmp_path / "out.jsonl"
        source.write_bytes(csv_of(3000))
        process = await start(
            *("batch", source, "--sandbox", "--output", output),
            *("--rate", "300"),
        )
        await until(lambda: output.exists() and output.stat().st_size > 2_000)
        output.unlink()
        _, err = await process.communicate()

        assert process.returncode == 1
        text = err.decode()
        saved = tmp_path / "out.jsonl.saved-1"
        count = len(saved.read_bytes().splitlines())
        assert f"its records ({count}) were saved to {saved}: move" in text
        assert 0 < count < 3000
        assert text.startswith(f"created {count}, failed 0")
        assert "holds the" not in text
        assert "to resume: " not in text

    async def test_printed_command(self, start, tmp_path, until, parse):
        """
        The command that is printed after Ctrl-C finishes the work.
        """
        source, output = tmp_path / "my links.csv", tmp_path / "out.jsonl"
        source.write_bytes(csv_of(500))
        process = await start(
            *("batch", source, "--sandbox", "--output", output),
            *("--rate", "300"),
        )
        await until(lambda: output.exists() and output.stat().st_size > 2_000)
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        (words,) = [
            line.removeprefix("to resume: ")
            for line in err.decode().splitlines()
            if line.startswith("to resume: ")
        ]
        program, *arguments = shlex.split(words)
        done = await start(*arguments, "--json")
        out, _ = await done.communicate()

        assert program == "bankconnect"
        assert done.returncode == 0
        (summary,) = parse(out.decode())
        assert summary["created"] + summary["skipped"] == 500
        assert summary["skipped"] > 0
        records = parse(output.read_text())
        assert len({record["link_id"] for record in records}) == 500
