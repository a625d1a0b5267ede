"""
Batches on a cluster of real ``dask scheduler`` and ``dask worker`` processes.
"""

import asyncio
import bisect
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import time

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

import bankconnect_async

from bankconnect_async import BatchStoppedError, ConfigurationError
from bankconnect_async.distributed import cluster as clusters
from bankconnect_async.distributed import (
    create_sessions_distributed,
    worker_pool,
)
from bankconnect_async.distributed.shard_files import ShardDirectory
from bankconnect_async.errors import JournalError
from bankconnect_async.journal import CreatedRecord, read_journal
from bankconnect_async.sandbox import Fault, Sandbox


KEY = "a-key-that-nobody-else-knows"


def ids(count):
    """Make link ids."""
    return [f"customer-{number:05}" for number in range(count)]


async def endless():
    """Yield link ids without end."""
    number = 0
    while True:
        yield f"customer-{number:05}"
        number += 1


def created(*paths):
    """Count the created records of each link id."""
    return Counter(
        record.link_id
        for record in read_journal(*paths)
        if isinstance(record, CreatedRecord)
    )


# Requests reach the server with delays of their own on a machine that has
# much to do, so the workers note when they let one through.
NOTE_TIMES = """
import os
from bankconnect_async.distributed.rate_shares import LeasedLimiter
begin, acquire = LeasedLimiter.__init__, LeasedLimiter.acquire

def begin_noting(limiter, clock):
    # The time at which the limiter decides: a busy machine can let the
    # process wait before it notes another.
    def read():
        limiter.read_at = clock()
        return limiter.read_at
    begin(limiter, read)

async def note(limiter):
    await acquire(limiter)
    with open(os.environ["TIMES"], "a") as file:
        file.write(f"{limiter.read_at}\\n")

LeasedLimiter.__init__, LeasedLimiter.acquire = begin_noting, note
"""


def most_in_a_second(times):
    """Return the most of some times that are within one second."""
    times = sorted(times)
    return max(
        bisect.bisect_left(times, at + 1) - place
        for place, at in enumerate(times)
    )


async def until(condition, *, seconds=110):
    """Wait until a condition is true, and fail if it never is."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


#: What schedulers and workers import before our package.
IMPORTS = "aiohttp", "distributed", "tenacity", "yarl"
#: What a worker imports for its first batch.
WORKER = "bankconnect_async.distributed.worker"


@attrs.define
class Cluster:
    """
    Processes of one cluster.
    """

    home: Path
    forking: Callable
    address: str = ""
    scheduler: asyncio.subprocess.Process | None = None
    workers: list[asyncio.subprocess.Process] = attrs.Factory(list)
    processes: list[asyncio.subprocess.Process] = attrs.Factory(list)

    async def start_scheduler(self):
        """Start the scheduler, and wait until it listens."""
        facts = self.home / "scheduler.json"
        self.scheduler = await self._start(
            "scheduler",
            *("--host", "127.0.0.1", "--port", 0, "--no-dashboard"),
            *("--scheduler-file", facts),
        )

        def is_there():
            with contextlib.suppress(OSError, ValueError):
                self.address = json.loads(facts.read_text())["address"]
            return self.address

        await until(is_there)

    async def start_worker(self, *, path=(), words=(), **environ):
        """Start a worker, and wait until it is registered."""
        process = await self._start(
            "worker",
            *(self.address, "--no-nanny", "--nthreads", 2, "--no-dashboard"),
            *("--host", "127.0.0.1", "--local-directory", self.home),
            *words,
            path=path,
            **environ,
        )
        self.workers.append(process)
        name = self.log_of(process)
        await until(lambda: "Registered to" in name.read_text())
        return process

    async def _start(self, what, *words, path=(), **environ):
        package = Path(bankconnect_async.__file__).parent.parent
        log = self.home / f"{len(self.processes)}.log"
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*map(str, path), str(package)]),
            **environ,
        }
        modules = IMPORTS if path else (*IMPORTS, WORKER)
        with log.open("wb") as file, self.forking(*modules):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"distributed.cli.dask_{what}"),
                *map(str, words),
                stdout=file,
                stderr=file,
                env=environ,
                # The checkout there would hide what a path begins with.
                cwd=self.home,
            )
        self.processes.append(process)
        return process

    def log_of(self, process):
        """Return the file with the output of a process."""
        return self.home / f"{self.processes.index(process)}.log"

    async def stop(self):
        """Kill all processes."""
        for process in self.processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture(name="service")
async def _service(monkeypatch):
    """Serve the API, and point the environment of all workers to it."""
    async with Sandbox(api_key=KEY) as sandbox:
        monkeypatch.setenv("BANKCONNECT_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("BANKCONNECT_API_KEY", KEY)
        monkeypatch.delenv("BANKCONNECT_REDIRECT_URL", raising=False)
        yield sandbox


@pytest.fixture(name="cluster")
async def _cluster(service, tmp_path, forking):
    """A scheduler without workers."""
    home = tmp_path / "cluster"
    home.mkdir()
    cluster = Cluster(home, forking)
    try:
        await cluster.start_scheduler()
        yield cluster
    finally:
        await cluster.stop()


@pytest.fixture(name="path")
def _path(tmp_path):
    return tmp_path / "out.jsonl"


@pytest.fixture(name="start")
def _start(cluster, path):
    """Begin a batch on the cluster."""

    def start(source, **settings):
        return create_sessions_distributed(
            source,
            **{
                "cluster": cluster.address,
                "journal": path,
                "redirect_url": None,
                "concurrency": 5,
                **settings,
            },
        )

    return start


@pytest.mark.long
class TestLostWorkers:
    """
    Workers that are killed or stopped.
    """

    async def test_last_one(self, cluster, start, service, path, monkeypatch):
        """
        A batch that loses its last worker resumes on a new one.
        """
        monkeypatch.setattr(worker_pool, "LEASE", 3.0)
        first = await cluster.start_worker()
        running = asyncio.ensure_future(start(ids(400), rate=250))
        await until(lambda: service.created() > 100)
        first.kill()
        await first.wait()
        await cluster.start_worker()
        stats = await asyncio.wait_for(running, 50)

        assert created(path) == dict.fromkeys(ids(400), 1)
        assert stats.created == 400
        assert 400 <= service.created() <= 405

    async def test_drained_without_workers(self, cluster, start, service):
        """
        A batch without workers can be drained within seconds.
        """
        worker = await cluster.start_worker()
        batch = start(endless(), rate=250)
        running = asyncio.ensure_future(batch)
        await until(lambda: service.created() > 50)
        worker.kill()
        await worker.wait()
        scheduler = cluster.log_of(cluster.scheduler)
        await until(lambda: "Lost all workers" in scheduler.read_text())
        batch.drain()
        stats = await asyncio.wait_for(running, 15)

        assert stats.created >= service.created() - 5

    async def test_stopped_at_the_start(self, cluster, start, service, path):
        """
        A batch begins although one worker does not answer.
        """
        stopped = await cluster.start_worker()
        await cluster.start_worker()
        stopped.send_signal(signal.SIGSTOP)
        await asyncio.wait_for(start(ids(200)), 20)

        assert created(path) == dict.fromkeys(ids(200), 1)

    async def test_drained_with_a_stopped_one(
        self, cluster, start, service, path
    ):
        """
        A drain reaches the other workers at once, and names the one that
        does not answer.
        """
        stopped = await cluster.start_worker()
        await cluster.start_worker()
        batch = start(endless(), rate=200)
        running = asyncio.ensure_future(batch)
        await until(lambda: service.created() > 300)
        stopped.send_signal(signal.SIGSTOP)
        batch.drain()
        at_drain = service.created()
        with pytest.raises(BatchStoppedError, match="does not answer") as got:
            await asyncio.wait_for(running, 20)

        assert service.created() - at_drain < 50
        left = [
            each
            for each in path.with_name("out.jsonl.shards").glob("*-*.jsonl")
            if str(each) in str(got.value)
        ]
        assert left
        recorded = created(path, *left)
        assert set(recorded.values()) == {1}
        assert service.created() - 10 <= recorded.total()

    async def test_progress_counts(self, cluster, start, service, path):
        """
        A shard survives the deaths of many workers if each of them made some
        progress.
        """
        # A rate would belong to each dead worker until its lease ends.
        service.faults.always(Fault.stall(0.03))
        running = asyncio.ensure_future(start(ids(300), shard_size=300))
        for step in range(1, 6):
            worker = await cluster.start_worker()
            await until(lambda step=step: service.created() >= 40 * step)
            worker.kill()
            await worker.wait()
        await cluster.start_worker()
        await asyncio.wait_for(running, 30)

        assert created(path) == dict.fromkeys(ids(300), 1)


@pytest.mark.long
class TestRate:
    """
    One rate for all workers.
    """

    async def test_several_workers(
        self, cluster, start, service, path, monkeypatch
    ):
        """
        No second has more requests than the rate, neither at the start nor
        as workers come, stop and continue.
        """
        monkeypatch.setattr(worker_pool, "LEASE", 3.0)
        times = cluster.home / "times"
        (cluster.home / "sitecustomize.py").write_text(NOTE_TIMES)
        settings = {"path": [cluster.home], "TIMES": str(times)}
        first = await cluster.start_worker(**settings)
        await cluster.start_worker(**settings)
        running = asyncio.ensure_future(start(ids(700), rate=50))
        await until(lambda: service.created() >= 150)
        await cluster.start_worker(**settings)
        first.send_signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        await asyncio.sleep(6)
        first.send_signal(signal.SIGCONT)
        stats = await asyncio.wait_for(running, 40)

        sent = list(map(float, times.read_text().splitlines()))
        assert len(sent) == 700
        assert most_in_a_second(sent) <= 50
        arrived = service.sessions.values()
        assert (
            most_in_a_second([each.created_at.timestamp() for each in arrived])
            <= 65
        )
        # When its lease has ended, its share is split among the others.
        late = [at for at in sent if 3.5 < at - stopped_at < 6]
        assert most_in_a_second(late) > 40
        assert stats.created == 700
        assert created(path) == dict.fromkeys(ids(700), 1)


@pytest.mark.long
class TestLosses:
    """
    Records that cannot be written, or not be merged.
    """

    async def test_removed_directory(self, cluster, start, service, path):
        """
        If the directory for shards is removed, the error names the files
        with the record of each session.
        """
        await cluster.start_worker()
        running = asyncio.ensure_future(start(endless(), rate=200))
        await until(lambda: service.created() > 150)
        shutil.rmtree(path.with_name("out.jsonl.shards"))
        with pytest.raises(JournalError) as caught:
            await asyncio.wait_for(running, 40)

        text = str(caught.value)
        words = [word.rstrip(";:,") for word in text.split()]
        saved = [word for word in words if ".saved-" in word]
        saved = [word for word in saved if os.path.exists(word)]  # noqa: ASYNC240, PTH110
        assert created(path, *saved).total() == service.created(), text
        for each in saved:
            os.unlink(each)  # noqa: PTH108

    async def test_no_room(self, cluster, start, service, path):
        """
        If journals of shards cannot grow, each session is in a record or
        counted in the error.
        """
        (cluster.home / "sitecustomize.py").write_text(
            "import resource\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        )
        await cluster.start_worker(path=[cluster.home])
        with pytest.raises(JournalError, match=r"-0000\d\d\.jsonl") as got:
            await asyncio.wait_for(start(ids(3000)), 30)

        # Those that were in flight as the limit was reached are named.
        counts = re.findall(r"(\d+) of them may have sessions", str(got.value))
        lost = sum(map(int, counts))
        assert lost <= 10
        assert created(path).total() + lost == service.created()
        assert 50 < service.created() < 3000

    async def test_lost_scheduler(
        self, cluster, start, service, path, monkeypatch
    ):
        """
        After the scheduler was killed, each session is in the journal or in
        a file that the error names.
        """
        await cluster.start_worker()
        running = asyncio.ensure_future(start(endless(), rate=200))
        await until(lambda: service.created() > 150)
        monkeypatch.setattr(clusters, "_TIMEOUT", 2.0)
        cluster.scheduler.kill()
        with pytest.raises(BatchStoppedError, match="was lost") as caught:
            await asyncio.wait_for(running, 50)

        left = [
            each
            for each in path.with_name("out.jsonl.shards").glob("*-*.jsonl")
            if str(each) in str(caught.value)
        ]
        recorded = created(path, *left)
        assert set(recorded.values()) == {1}
        assert recorded.total() >= service.created() - 5


@pytest.mark.long
class TestUnfitWorkers:
    """
    Workers that cannot take part.
    """

    async def test_without_the_package(
        self, cluster, start, service, path, caplog
    ):
        """
        A worker without the package is named and gets no row, and no log
        shows a customer.
        """
        shadow = cluster.home / "shadow" / "bankconnect_async"
        shadow.mkdir(parents=True)
        (shadow / "__init__.py").write_text(
            "raise ModuleNotFoundError('No module named bankconnect_async')"
        )
        unfit = await cluster.start_worker(path=[shadow.parent])
        await cluster.start_worker()
        await asyncio.wait_for(start(ids(300)), 30)

        assert created(path) == dict.fromkeys(ids(300), 1)
        (warning,) = [
            each.getMessage()
            for each in caplog.records
            if each.name == "bankconnect_async"
        ]
        assert "has no bankconnect_async: it gets no rows" in warning
        log = cluster.log_of(unfit).read_text()
        assert warning.split()[1] in log
        for process in cluster.processes:
            text = cluster.log_of(process).read_text()
            assert "customer-" not in text
            # Not one line for each second.
            assert text.count("out-of-band") <= 3

    async def test_without_cryptography(self, cluster, start, service):
        """
        A batch whose workers cannot decrypt rows does not begin.
        """
        shadow = cluster.home / "shadow"
        shadow.mkdir()
        (shadow / "sitecustomize.py").write_text(
            "import sys\nsys.modules['cryptography'] = None\n"
        )
        await cluster.start_worker(path=[shadow])
        with pytest.raises(ConfigurationError, match="has no cryptography"):
            await asyncio.wait_for(start(ids(9)), 20)

        assert service.requests == 0

    async def test_another_version(self, cluster, start, service):
        """
        A batch whose workers have another version does not begin.
        """
        shadow = cluster.home / "shadow"
        shadow.mkdir()
        (shadow / "sitecustomize.py").write_text(
            "import bankconnect_async\n"
            "bankconnect_async.__version__ = '0.0.7'\n"
        )
        await cluster.start_worker(path=[shadow])
        with pytest.raises(
            ConfigurationError, match=r"has bankconnect-async 0\.0\.7"
        ):
            await asyncio.wait_for(start(ids(9)), 20)

        assert service.requests == 0

    async def test_another_key(self, cluster, start, service):
        """
        Workers with different keys are refused, and both are named.
        """
        await cluster.start_worker()
        await cluster.start_worker(BANKCONNECT_API_KEY="another")
        with pytest.raises(
            ConfigurationError, match=r"tcp:.* and tcp:.* different API keys"
        ):
            await asyncio.wait_for(start(ids(9)), 20)

        assert service.requests == 0


@pytest.mark.long
class TestOrphans:
    """
    Workers of a run that was killed.
    """

    @pytest.mark.parametrize("has_locks", [True, False])
    async def test_started_again(
        self, cluster, start, service, path, has_locks
    ):
        """
        A run that is started at once after another one was killed creates
        nothing twice, whether files can be locked or not.
        """
        shadow = cluster.home / "shadow"
        shadow.mkdir()
        no_locks = (
            "import errno, fcntl\n"
            "def flock(fd, operation):\n"
            "    raise OSError(errno.ENOLCK, 'no locks')\n"
            "fcntl.flock = flock\n"
        )
        (shadow / "sitecustomize.py").write_text("" if has_locks else no_locks)
        await cluster.start_worker(path=[shadow])
        package = Path(bankconnect_async.__file__).parent.parent
        program = (
            "import asyncio, sys\n"
            "from bankconnect_async.distributed import "
            "create_sessions_distributed\n"
            "async def main():\n"
            "    await create_sessions_distributed(\n"
            "        [f'customer-{n:05}' for n in range(600)],\n"
            "        cluster=sys.argv[1], journal=sys.argv[2],\n"
            "        redirect_url=None, rate=200, concurrency=5)\n"
            "asyncio.run(main())\n"
        )
        killed = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, cluster.address, str(path)),
            env={**os.environ, "PYTHONPATH": f"{shadow}:{package}"},
        )
        await until(lambda: service.created() > 200)
        killed.kill()
        await killed.wait()
        assert service.created() < 600
        stats = await asyncio.wait_for(start(ids(600)), 50)

        assert stats.created + stats.skipped == 600
        assert created(path) == dict.fromkeys(ids(600), 1)
        assert service.created() == 600
        assert not path.with_name("out.jsonl.shards").exists()


class TestOneDirectory:
    """
    The directory for shards.
    """

    async def test_of_another_journal(self, tmp_path):
        """
        A directory that another journal uses is refused, and named.
        """
        shards = tmp_path / "shards"
        shards.mkdir()
        (shards / "owner").write_text("/srv/another.jsonl")
        with pytest.raises(
            ConfigurationError, match=r"belongs to /srv/another\.jsonl"
        ):
            ShardDirectory(shards, "ab").claim(
                str(tmp_path / "out.jsonl"), None
            )
        assert [each.name for each in shards.iterdir()] == ["owner"]
