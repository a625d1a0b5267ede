"""
``bankconnect batch --shard`` and ``bankconnect merge``.
"""

import asyncio
import json
import signal
import stat

import pytest

from bankconnect_async.cli.batch.shard import InputShard
from bankconnect_async.journal import CreatedRecord, Journal, read_journal
from bankconnect_async.sandbox import Fault


INLINE = "--inline-frame"
API = "api.example/v1"
# In UTC it is in the year 10000.
LATEST = "9999-12-31T23:59:59-23:59"


def record(link_id, line, session_id="", at="2026-01-01T00:00:00Z", api=API):
    """Return a line of a journal; a failure without a *session_id*."""
    facts = {"link_id": link_id, "line": line}
    if session_id:
        facts |= {
            "redirect_url": f"https://bank.example/{session_id}",
            "session_id": session_id,
            "attempts": 1,
        }
    else:
        facts["error"] = {
            "type": "ServerError",
            "code": None,
            "message": "",
            "fields": {},
            "status": 503,
            "delivery": "ambiguous",
            "retry_after": None,
        }
    facts |= {"api": api, "request": "0123456789abcdef", "at": at}
    return json.dumps(facts, separators=(",", ":")) + "\n"


class TestShard:
    """
    ``--shard``.
    """

    def test_shards_are_one_batch(self, bankconnect, service, tmp_path):
        """
        Each row is in one shard, and the merged journal is that of one run.
        """
        source, out = tmp_path / "links.csv", tmp_path / "out.jsonl"
        rows = [f"customer-{number}" for number in range(40)]
        # Duplicates whose first rows are in other shards, and a bad row.
        rows += ["customer-0", "customer-1", "x,y", "customer-2"]
        source.write_text("\n".join(["link_id", *rows, ""]))
        command = ("batch", source, INLINE, "--output")

        results = [
            bankconnect(*command, out, "--shard", f"{index}/3")
            for index in range(3)
        ]
        shards = sorted(tmp_path.glob("out.jsonl.shard-*-of-3"))
        merged = bankconnect("merge", out, *shards)
        whole = bankconnect(*command, tmp_path / "one.jsonl")

        assert [result.code for result in results] == [1, 1, 1]
        assert not merged.code
        assert merged.err == (
            f"{out}: 40 created, 4 failed, from 3 journals\n"
        )
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        assert whole.err.startswith("created 40, failed 4 ")
        one, several = (
            sorted(
                (each.line, each.link_id, isinstance(each, CreatedRecord))
                for each in read_journal(path)
            )
            for path in (tmp_path / "one.jsonl", out)
        )
        assert one == several
        reports = [
            json.loads(bankconnect("report", *paths, "--json").out)["creation"]
            for paths in ([tmp_path / "one.jsonl"], shards, [out])
        ]
        assert {
            (each["created"], each["failed"], each["repeated"], each["stale"])
            for each in reports
        } == {(40, 1, 3, 0)}
        assert service.created() == 80
        # The result is a journal like any other.
        again = bankconnect(*command, out)
        assert again.err.startswith("created 0, failed 4 ")
        assert service.created() == 80

    def test_repeated_row_is_not_copied(self, bankconnect, tmp_path, service):
        """
        A shard's row that repeats a link id is not among those to try again,
        even before the row that failed.
        """
        source, out = tmp_path / "links.csv", tmp_path / "out.jsonl"
        source.write_text("link_id\na\nbad\nbad\n")
        service.faults.script(Fault.status(400), prefix="bad")
        for index in range(2):
            bankconnect(
                *("batch", source, INLINE, "--output", out),
                *("--shard", f"{index}/2"),
            )
        shards = sorted(tmp_path.glob("out.jsonl.shard-*"))
        again = tmp_path / "again.csv"
        ran = bankconnect("report", *shards, "--failed", again)

        assert (ran.code, again.read_text()) == (0, "link_id\nbad\n")

    @pytest.mark.long
    async def test_survives_kills(self, service, start, tmp_path, until):
        """
        Killed shards resume, and every row has one session in the end.
        """
        source, out = tmp_path / "links.csv", tmp_path / "out.jsonl"
        source.write_text(
            "link_id\n" + "".join(f"c-{number}\n" for number in range(60))
        )
        command = ("batch", source, INLINE, "--rate", 100, "--output")

        async def run(index):
            path = tmp_path / f"out.jsonl.shard-{index}-of-2"
            shard = (*command, out, "--shard", f"{index}/2")
            process = await start(*shard)
            await until(lambda: path.exists() and path.stat().st_size)
            process.send_signal(signal.SIGKILL)
            await process.wait()
            process = await start(*shard)
            assert await process.wait() == 0
            return path

        paths = await asyncio.gather(run(0), run(1))
        merge = await start("merge", out, *paths)

        assert await merge.wait() == 0
        records = list(read_journal(out))
        assert len(records) == len({each.link_id for each in records}) == 60

    @pytest.mark.parametrize(
        ("text", "environ", "expected"),
        [
            ("2/5", {}, (2, 5)),
            ("auto/5", {"JOB_COMPLETION_INDEX": "4"}, (4, 5)),
            (
                "auto",
                {
                    "AWS_BATCH_JOB_ARRAY_INDEX": "0",
                    "AWS_BATCH_JOB_ARRAY_SIZE": "3",
                },
                (0, 3),
            ),
        ],
    )
    def test_reads_its_number(self, text, environ, expected):
        """
        The number may come from Kubernetes or AWS Batch.
        """
        shard = InputShard.parse(text, environ)

        assert (shard.index, shard.count) == expected
        sizes = [
            InputShard(i, shard.count).size(17) for i in range(shard.count)
        ]
        assert sum(sizes) == 17

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("5/5", "the first one is 0, and the last one 4"),
            ("1", "is not I/N, auto/N or auto"),
            ("0/0", "names shard 0 of 0"),
            ("auto/5", "JOB_COMPLETION_INDEX or AWS_BATCH_JOB_ARRAY_INDEX"),
            ("auto", "lacks its number"),
        ],
    )
    def test_refuses_other_numbers(self, bankconnect, tmp_path, text, message):
        """
        A wrong shard is refused before anything is read.
        """
        result = bankconnect(
            *("batch", tmp_path / "none.csv", "--sandbox"),
            *("--output", tmp_path / "out", "--shard", text),
        )

        assert result.code == 2
        assert message in " ".join(result.err.split())


class TestMerge:
    """
    ``bankconnect merge``.
    """

    @pytest.fixture(name="merge")
    def _merge(self, bankconnect, tmp_path):
        """Merge journals of lines, and return the result and its lines."""

        def run(*journals: str):
            paths = []
            for number, lines in enumerate(journals):
                paths.append(tmp_path / f"{number}.jsonl")
                paths[-1].write_text(lines)
            out = tmp_path / "out.jsonl"
            result = bankconnect("merge", out, *paths)
            return result, out.read_text() if out.exists() else None

        return run

    def test_takes_the_last_record_of_each_input(self, merge):
        """
        A success replaces failures, also later ones, and a later failure
        replaces an earlier one.
        """
        failed, late = (
            record("a", 2),
            record("a", 2, at="2026-02-01T00:00:00Z"),
        )
        created = record("a", 2, "s1")
        twice = record("b", 3) + record("b", 3, at="2026-03-01T00:00:00Z")
        bad = record(None, 4) + record(None, 5)

        result, lines = merge(failed + twice, created, late + bad)

        assert result.code == 0
        assert lines == twice.splitlines(keepends=True)[1] + created + bad

    def test_names_conflicts(self, merge):
        """
        Of two sessions of a link id, the later one is kept.
        """
        old = record("a", 2, "old")
        new = record("a", 2, "new", at="2026-02-01T00:00:00Z")

        result, lines = merge(new, old)

        assert (result.code, lines) == (0, new)
        assert "line 2: the link id has a session in" in result.err
        assert "1.jsonl and a later one in" in result.err

    def test_leaves_torn_lines_out(self, merge):
        """
        The last line of a killed process may be torn.
        """
        result, lines = merge(record("a", 2, "s") + '{"link_id":"b","li')

        assert (result.code, lines) == (0, record("a", 2, "s"))

    @pytest.mark.parametrize(
        ("journals", "message"),
        [
            (
                (record("a", 2), record("b", 3, api="other/v1")),
                "is of other/v1, and the others are of api.example/v1",
            ),
            (("link_id\na\n",), "line 1 is no record of a session"),
            (('{"link_id":"a"}\n',), "line 1 is no record"),
            ((record("a", 2, "s", at=7),), "line 1 is no record"),
            ((record("a", 2, at="yesterday"),), "line 1 is no record"),
            ((record("a", 2, "s", at=LATEST),), "line 1 is no record"),
        ],
    )
    def test_makes_nothing_of_wrong_files(self, merge, journals, message):
        """
        Journals of two APIs and other files are refused as a whole.
        """
        result, lines = merge(*journals)

        assert result.code == 2
        assert message in result.err
        assert lines is None

    def test_overwrites_nothing(self, bankconnect, tmp_path):
        """
        The result is a new file, missing journals are not made, and none is
        merged with itself.
        """
        path = tmp_path / "0.jsonl"
        path.write_text(record("a", 2))

        onto = bankconnect("merge", path, path)
        missing = bankconnect("merge", tmp_path / "out", tmp_path / "none")
        twice = bankconnect("merge", tmp_path / "out", path, path)

        assert (onto.code, missing.code, twice.code) == (2, 2, 2)
        assert "0.jsonl: is the same file as" in twice.err
        assert "exists already: name a new file" in onto.err
        assert "none: is no file" in missing.err
        assert list(tmp_path.iterdir()) == [path]

    def test_refuses_a_running_shard(self, bankconnect, tmp_path):
        """
        A journal that is being written is not merged half.
        """
        path = tmp_path / "0.jsonl"
        path.write_text(record("a", 2))
        with Journal(path, api=API):
            result = bankconnect("merge", tmp_path / "out", path)

        assert result.code == 2
        assert "another process is writing to it" in result.err
