"""
``bankconnect batch --processes``.
"""

import asyncio
import os
import signal

from collections import Counter
from pathlib import Path

import orjson
import pytest


INLINE = "--inline-frame"


def csv_of(count):
    """Return a CSV file of link ids."""
    return b"link_id\n" + b"".join(
        b"customer-%05d\n" % number for number in range(count)
    )


def children(pid):
    """Return the processes that a process started."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(each) for text in lists for each in text.read_text().split()]


def shown_to_others(pid):
    """Return the command line and the environment of a process."""
    home = Path(f"/proc/{pid}")
    return (home / "cmdline").read_bytes() + (home / "environ").read_bytes()


def is_running(pid):
    """Tell whether a process has not ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


class TestProcesses:
    """
    One command, several processes.
    """

    @pytest.mark.long
    def test_again(self, batch, parse):
        """
        Invalid rows and failures are reported as in one process.
        """
        data = b"link_id\na\nb,x\nc\na\n"
        options = "--sandbox", "--processes", 2
        first = batch(data, *options, "--rate", 1000)
        second = batch(data, "--sandbox", "--json")

        assert first.result.code == second.result.code == 1
        assert first.result.err.startswith(
            "created 2, failed 2 (2 invalid request), "
        )
        (summary,) = parse(second.result.out)
        assert (summary["created"], summary["skipped"]) == (0, 2)
        assert sorted(first.by_line()) == [2, 3, 4, 5]

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (
                ["--dask", "local"],
                "--dask and --processes exclude each other",
            ),
            (["--output", "-"], "with --processes, --output must be a file"),
        ],
        ids=["dask", "stdout"],
    )
    def test_usage(self, batch, service, options, reason):
        """
        Options that exclude each other are refused before anything is sent.
        """
        ran = batch(csv_of(2), INLINE, "--processes", 2, *options)

        assert ran.result.code == 2
        assert reason in ran.result.err
        assert service.requests == 0


@pytest.mark.long
class TestSignals:
    """
    Processes that are killed or interrupted.
    """

    @staticmethod
    async def _begin(start, tmp_path, count, until, service):
        source, output = tmp_path / "links.csv", tmp_path / "out.jsonl"
        source.write_bytes(csv_of(count))
        process = await start(
            *("batch", source, "--output", output, INLINE),
            *("--processes", 2, "--concurrency", 8),
            start_new_session=True,
        )
        await until(lambda: service.created() > 40, seconds=110)
        return process, output

    async def test_kill(self, start, service, tmp_path, until):
        """
        If a worker and then the command are killed, no process is left, and
        running it again creates every session and records each once.
        """
        process, output = await self._begin(
            start, tmp_path, 300, until, service
        )
        first = children(process.pid)
        shown = b"".join(map(shown_to_others, first))
        assert service.api_key.encode() not in shown
        assert service.server_hash.encode() not in shown
        os.kill(first[0], signal.SIGKILL)
        await until(lambda: set(children(process.pid)) - set(first))
        second = children(process.pid)
        before = service.created()
        await until(lambda: service.created() > before + 20, seconds=60)
        process.kill()
        await process.wait()
        await until(lambda: not any(map(is_running, second)), seconds=60)
        source = tmp_path / "links.csv"
        again = await start("batch", source, "--output", output, INLINE)
        _, err = await asyncio.wait_for(again.communicate(), 60)

        assert again.returncode == 0, err
        lines = output.read_bytes().splitlines()
        created = Counter(orjson.loads(line)["link_id"] for line in lines)
        assert created == Counter(f"customer-{n:05}" for n in range(300))
        assert service.created() <= 300 + 4 + 8

    async def test_interrupt(self, start, service, tmp_path, until):
        """
        Ctrl-C in a terminal reaches all processes, and no row is lost.
        """
        process, output = await self._begin(
            start, tmp_path, 100_000, until, service
        )
        os.killpg(process.pid, signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 60)

        assert process.returncode == 130
        assert b"stopping when the rows in flight are done" in err
        assert b"to resume: bankconnect batch" in err
        assert b"Traceback" not in err
        lines = output.read_bytes().splitlines()
        assert len(set(lines)) == len(lines) == service.created() < 100_000
        assert b'"error"' not in b"".join(lines)
