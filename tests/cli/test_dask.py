"""
``bankconnect batch --dask``.
"""

import asyncio
import os
import signal
import subprocess
import sys

from pathlib import Path

import distributed
import orjson
import pytest

import bankconnect_async

from bankconnect_async.sandbox import Fault


HEADER = b"link_id\n"
INLINE = "--inline-frame"


def csv_of(count):
    """Return a CSV file of link ids."""
    return HEADER + b"".join(
        b"customer-%05d\n" % number for number in range(count)
    )


@pytest.fixture(name="cluster")
def _cluster(service):
    """Run one worker in a thread of this process, with the service's key."""
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        protocol="tcp://",
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        yield cluster.scheduler_address


class TestDask:
    """
    A cluster that is already running.
    """

    def test_again(self, batch, cluster, service, parse):
        """
        Invalid rows and failures are reported as without a cluster.
        """
        data = HEADER + b"a\nb,x\nc\na\n"
        first = batch(data, INLINE, "--dask", cluster, "--rate", 1000)
        second = batch(data, INLINE, "--dask", cluster, "--json")

        assert first.result.code == second.result.code == 1
        assert first.result.err.startswith(
            "created 2, failed 2 (2 invalid request), "
        )
        (summary,) = parse(second.result.out)
        assert (summary["created"], summary["skipped"]) == (0, 2)
        assert sorted(first.by_line()) == [2, 3, 4, 5]
        assert service.created() == 2

    def test_refused_key(self, batch, cluster, monkeypatch):
        """
        A key that workers are refused with is reported by the command.
        """
        monkeypatch.setenv("BANKCONNECT_API_KEY", "another")
        ran = batch(csv_of(100), INLINE, "--dask", cluster)

        assert ran.result.code == 3
        assert "stopped, nothing more was sent" in ran.result.err
        assert "to resume: bankconnect batch" in ran.result.err
        assert len(ran.records) == 100

    def test_another_api(self, batch, cluster, tmp_path, service):
        """
        An output of another API is refused, and nothing is sent.
        """
        batch(csv_of(2), "--sandbox")
        ran = batch(csv_of(2), INLINE, "--dask", cluster)

        assert ran.result.code == 2
        assert "line 1 is of sandbox/seed/v1, and this is 127" in (
            ran.result.err
        )
        assert service.requests == 0

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ([], "no redirect URL: set BANKCONNECT_REDIRECT_URL"),
            (["--sandbox"], "--dask and --sandbox exclude each other"),
            (
                [INLINE, "--output", "-"],
                "with --dask, --output must be a file",
            ),
        ],
        ids=["redirect", "sandbox", "stdout"],
    )
    def test_usage(self, batch, cluster, service, options, reason):
        """
        Options that exclude each other are refused before anything is sent.
        """
        ran = batch(csv_of(2), "--dask", cluster, *options)

        assert ran.result.code == 2
        assert reason in ran.result.err
        assert service.requests == 0

    def test_directory_alone(self, batch):
        """
        A directory for shards needs a cluster.
        """
        ran = batch(csv_of(2), "--journal-dir", "x")

        assert ran.result.code == 2
        assert "--journal-dir requires --dask" in ran.result.err

    def test_lost_workers(self, batch, cluster, service, monkeypatch):
        """
        If workers leave shards again and again, the command says so.
        """
        monkeypatch.setattr(
            "bankconnect_async.distributed.coordinator._ATTEMPTS", 0
        )
        ran = batch(csv_of(2), INLINE, "--dask", cluster)

        assert ran.result.code == 1
        assert "workers left a shard again and again" in ran.result.err
        assert "holds the 0 rows that were done" in ran.result.err


@pytest.mark.long
class TestLocal:
    """
    Worker processes that live as long as the command.
    """

    async def test_interrupt_while_starting(
        self, begin, service, until, children
    ):
        """
        Ctrl-C while worker processes start prints one line about the rows,
        without a traceback.
        """
        process, _ = await begin(100_000, "--dask", "local")
        await until(lambda: len(children(process.pid)) > 1, seconds=110)
        os.killpg(process.pid, signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 60)

        assert process.returncode == 130
        assert b"Traceback" not in err
        # On a slow machine there is progress before the interrupt.
        lines = [
            line
            for line in err.splitlines()
            if b" of 100000 rows, " not in line
        ]
        assert len(lines) == 4

    @pytest.mark.parametrize("module", ["click", "rich"])
    async def test_interrupt_while_importing(
        self, start, tmp_path, until, module
    ):
        """
        Ctrl-C during imports prints one line.
        """
        begun = tmp_path / "begun"
        (tmp_path / f"{module}.py").write_text(
            "import pathlib, time\n"
            f"pathlib.Path({str(begun)!r}).touch()\n"
            "time.sleep(60)\n"
        )
        path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
        process = await start("--help", env={**os.environ, "PYTHONPATH": path})
        await until(begun.exists)
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 20)

        assert process.returncode == 130
        assert err == b"bankconnect: interrupted\n"

    @pytest.mark.parametrize(
        ("is_file", "problem"),
        [
            (True, 'call it below `if __name__ == "__main__":`'),
            (False, "must be a file, not text on standard input"),
        ],
    )
    def test_program_that_workers_cannot_import(
        self, service, tmp_path, is_file, problem
    ):
        """
        A program without a main guard, or without a file, gets one error that
        says so, and leaves no process.
        """
        program = tmp_path / "program.py"
        program.write_text(
            "import asyncio\n"
            "from bankconnect_async.distributed import "
            "create_sessions_distributed\n"
            "async def main():\n"
            "    await create_sessions_distributed(\n"
            "        ['a'], cluster='local', journal='out.jsonl',\n"
            "        redirect_url=None)\n"
            "asyncio.run(main())\n"
        )
        package = Path(bankconnect_async.__file__).parent.parent
        with (
            program.open() as stdin,
            subprocess.Popen(
                [sys.executable, *([program] if is_file else [])],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(package)},
                stdin=stdin,
                stderr=subprocess.PIPE,
                text=True,
            ) as process,
        ):
            # This ends when the last process with this stderr has ended.
            _, stderr = process.communicate(timeout=60)

        assert process.returncode == 1
        assert problem in stderr
        assert stderr.count("Traceback") == 1
        assert len(stderr.splitlines()) < 40
        assert service.requests == 0
        assert not (tmp_path / "out.jsonl").exists()

    async def test_interrupt_twice(self, begin, service, until):
        """
        A second Ctrl-C cancels the rows in flight, and no row is lost.
        """
        service.faults.script(*[None] * 60)
        service.faults.always(Fault.stall(after=True))
        process, output = await begin(100_000, "--dask", "local")
        await until(lambda: service.created() > 100, seconds=110)
        os.killpg(process.pid, signal.SIGINT)
        async with asyncio.timeout(60):
            await process.stderr.readuntil(b"to cancel them")
        os.killpg(process.pid, signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 60)

        assert process.returncode == 130
        assert b"to resume: bankconnect batch" in err
        lines = output.read_bytes().splitlines()
        created = [line for line in lines if b'"error"' not in line]
        assert len(set(created)) == len(created) == 60
        assert len(lines) >= service.created()

    async def test_kill(self, begin, service, until):
        """
        If the command and its workers are killed, running it again creates
        every session and records each once.
        """
        words = "--dask", "local", "--concurrency", 20
        process, output = await begin(1500, *words)
        await until(lambda: service.created() > 300, seconds=110)
        process.kill()
        await process.wait()
        before = service.created()
        again, _ = await begin(1500, *words)
        _, err = await asyncio.wait_for(again.communicate(), 60)

        assert again.returncode == 0, err
        lines = output.read_bytes().splitlines()
        created = [orjson.loads(line)["link_id"] for line in lines]
        assert sorted(created) == [f"customer-{n:05}" for n in range(1500)]
        cores = os.cpu_count() or 1
        assert 300 < before < 1500
        assert service.created() <= 1500 + 20 * cores
