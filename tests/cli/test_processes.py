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


WORDS = "--processes", 2, "--concurrency", 8


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
        data = b"link_id\na\nb\n"
        ran = batch(data, "--inline-frame", "--processes", 2, *options)

        assert ran.result.code == 2
        assert reason in ran.result.err
        assert service.requests == 0


@pytest.mark.long
class TestSignals:
    """
    Processes that are killed or interrupted.
    """

    async def test_kill(self, begin, service, until, children, monkeypatch):
        """
        If a worker and then the command are killed, no process is left, and
        running it again creates every session and records each once.
        """
        # No proxy of plain http, but its address is a secret all the same.
        monkeypatch.setenv("HTTPS_PROXY", "http://user:canary@127.0.0.1:9")
        process, output = await begin(300, *WORDS)
        await until(lambda: service.created() > 40, seconds=110)
        first = children(process.pid)
        shown = b"".join(map(shown_to_others, first))
        assert service.api_key.encode() not in shown
        assert service.server_hash.encode() not in shown
        assert b"canary" not in shown
        os.kill(first[0], signal.SIGKILL)
        await until(lambda: set(children(process.pid)) - set(first))
        second = children(process.pid)
        before = service.created()
        await until(lambda: service.created() > before + 20, seconds=60)
        process.kill()
        await process.wait()
        await until(lambda: not any(map(is_running, second)), seconds=60)
        again, _ = await begin(300)
        _, err = await asyncio.wait_for(again.communicate(), 60)

        assert again.returncode == 0, err
        lines = output.read_bytes().splitlines()
        created = Counter(orjson.loads(line)["link_id"] for line in lines)
        assert created == Counter(f"customer-{n:05}" for n in range(300))
        assert service.created() <= 300 + 4 + 8

    @pytest.mark.parametrize(
        ("number", "words"),
        [
            (signal.SIGINT, WORDS),
            (signal.SIGINT, ("--dask", "local")),
            (signal.SIGHUP, ("--dask", "local")),
        ],
        ids=["SIGINT", "SIGINT-dask", "SIGHUP-dask"],
    )
    async def test_interrupt(self, begin, service, until, number, words):
        """
        Ctrl-C or a closed terminal ends all processes of the command, and no
        row is lost.
        """
        process, output = await begin(100_000, *words)
        await until(lambda: service.created() > 50, seconds=110)
        os.killpg(process.pid, number)
        _, err = await asyncio.wait_for(process.communicate(), 60)

        assert process.returncode == 130
        assert b"stopping when the rows in flight are done" in err
        assert b"to resume: bankconnect batch" in err
        assert b"Traceback" not in err
        lines = output.read_bytes().splitlines()
        assert len(set(lines)) == len(lines) == service.created() < 100_000
        assert b'"error"' not in b"".join(lines)
