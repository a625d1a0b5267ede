"""
Batches on the workers of a Dask cluster: threads for most, processes to kill.
"""

import asyncio
import os
import pickle
import signal
import sys
import threading

from collections import Counter
from contextlib import asynccontextmanager, suppress

import attrs
import dask
import distributed
import pytest

from distributed.comm import tcp

from bankconnect_async import (
    AuthenticationError,
    BatchStoppedError,
    ConfigurationError,
    Delivery,
    JournalLockedError,
    JournalMismatchError,
    RetryPolicy,
    ReturnURL,
    SessionRequest,
    SQLiteSessionStore,
)
from bankconnect_async.batch import Created, SessionBatch
from bankconnect_async.distributed import cluster as clusters
from bankconnect_async.distributed import coordinator as ours
from bankconnect_async.distributed import (
    create_sessions_distributed,
    monitor,
    worker_batch,
)
from bankconnect_async.distributed import worker as workers
from bankconnect_async.distributed.sealing import public_key, seal, unseal
from bankconnect_async.distributed.worker import (
    Directive,
    JobSpec,
    Shard,
    WorkerRunner,
)
from bankconnect_async.journal import (
    CreatedRecord,
    FailedRecord,
    Journal,
    read_journal,
)
from bankconnect_async.sandbox import Fault, Sandbox


KEY = "a-key-that-nobody-else-knows"


def ids(count):
    """Make link ids."""
    return [f"customer-{number:04}" for number in range(count)]


def created(path):
    """Count the created records of each link id."""
    return Counter(
        record.link_id
        for record in read_journal(path)
        if isinstance(record, CreatedRecord)
    )


@asynccontextmanager
async def make_cluster(**settings):
    """Start two workers with two threads each."""
    async with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=2,
        dashboard_address="127.0.0.1:0",
        asynchronous=True,
        **settings,
    ) as cluster:
        yield cluster


@pytest.fixture(name="service")
async def _service(monkeypatch):
    """Serve the API, and point the environment of all workers to it."""
    async with Sandbox(api_key=KEY) as sandbox:
        monkeypatch.setenv("BANKCONNECT_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("BANKCONNECT_API_KEY", KEY)
        monkeypatch.delenv("BANKCONNECT_REDIRECT_URL", raising=False)
        yield sandbox


@pytest.fixture(name="cluster")
async def _cluster():
    """Two workers in this process, which share one runner."""
    async with make_cluster(processes=False) as cluster:
        yield cluster


@pytest.fixture(name="run")
def _run(cluster, service, tmp_path):
    """Run a batch on two workers in this process."""

    def run(source, **settings):
        return create_sessions_distributed(
            source,
            **{
                "cluster": cluster.scheduler_address,
                "journal": tmp_path / "out.jsonl",
                "redirect_url": None,
                **settings,
            },
        )

    return run


@pytest.fixture(name="path")
def _path(tmp_path):
    return tmp_path / "out.jsonl"


def make_shard(number, path, rows):
    """Encrypt a shard for this process."""
    rows = seal(pickle.dumps(rows), public_key())
    return Shard(number=number, path=str(path), sealed_rows=rows)


async def until(condition, *, seconds=30):
    """Wait until a condition is true, and fail if it never is."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.long
class TestProcesses:
    """
    Workers that are processes.
    """

    @pytest.fixture(autouse=True)
    def _fork(self):
        """Fork workers, as these come from a process with Dask's imports."""
        with dask.config.set(
            {"distributed.worker.multiprocessing-method": "forkserver"}
        ):
            yield

    async def test_kill(self, service, path, monkeypatch):
        """
        A killed worker loses no input and doubles no record; messages hold
        neither API keys nor link ids, and keys of tasks hold no link ids.
        """
        frames, keys = [], set()
        to_frames = tcp.to_frames

        async def record(message, *args, **kwargs):
            made = await to_frames(message, *args, **kwargs)
            frames.extend(bytes(frame) for frame in made)
            keys.update(cluster.scheduler.tasks)
            return made

        rows, concurrency = 2000, 20
        async with make_cluster() as cluster:
            pids = await pids_of(cluster)
            monkeypatch.setattr(tcp, "to_frames", record)
            batch = create_sessions_distributed(
                ids(rows),
                cluster=cluster.scheduler_address,
                journal=path,
                redirect_url=None,
                concurrency=concurrency,
                shard_size=200,
            )
            running = asyncio.ensure_future(batch)
            await until(lambda: service.created() >= 400)
            os.kill(pids[0], signal.SIGKILL)
            stats = await running

        assert created(path) == dict.fromkeys(ids(rows), 1)
        assert stats.created == stats.done == stats.taken == rows
        assert rows <= service.created() <= rows + concurrency
        assert not path.with_name("out.jsonl.shards").exists()
        sent = b"".join(frames)
        assert KEY.encode() not in sent
        assert b"bankconnect-" in sent
        assert b"customer-" not in sent
        assert keys
        assert not [key for key in keys if "customer" in key]

    async def test_pause(self, service, path):
        """
        A pause that the server demands of one worker holds for all.
        """
        async with make_cluster() as cluster:
            batch = create_sessions_distributed(
                endless(),
                cluster=cluster.scheduler_address,
                journal=path,
                redirect_url=None,
                concurrency=5,
            )
            running = asyncio.ensure_future(batch)
            await until(lambda: batch.stats().created > 100)
            service.faults.script(Fault.status(429, retry_after=60))
            # The other worker hears of it with its next heartbeat.
            await until(lambda: 40 < batch.stats().pause < 56)
            sent = service.requests
            await until(lambda: 40 < batch.stats().pause < 54)
            assert service.requests == sent
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    @pytest.mark.long
    async def test_killed_all(self, service, path):
        """
        A batch ends with an error if worker after worker is killed at the
        same shard without any progress.
        """
        service.faults.always(Fault.stall(60, after=True))
        async with make_cluster() as cluster:
            running = asyncio.ensure_future(
                create_sessions_distributed(
                    ids(1),
                    cluster=cluster.scheduler_address,
                    journal=path,
                    redirect_url=None,
                )
            )
            killed = 0
            while not running.done():
                await until(
                    lambda seen=killed: (
                        service.created() > seen or running.done()
                    )
                )
                killed = service.created()
                for pid in await pids_of(cluster):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            with pytest.raises(BatchStoppedError, match="was killed at"):
                await running

        # A worker that is dead when it gets the shard counts, too.
        assert 1 < service.created() <= 4


async def pids_of(cluster):
    """List the processes of all workers."""
    async with distributed.Client(
        cluster, asynchronous=True, set_as_default=False
    ) as client:
        return list((await client.run(os.getpid)).values())


class TestAgain:
    """
    The same batch, run again.
    """

    async def test_nothing_left(self, run, path, service):
        """
        Inputs that have a session are skipped, new ones are not.
        """
        seen = []
        await run(ids(120), shard_size=40, on_progress=seen.append)
        stats = await run(ids(125))

        assert (stats.created, stats.skipped, stats.taken) == (5, 120, 125)
        assert seen[-1].created == 120
        assert created(path) == dict.fromkeys(ids(125), 1)
        assert service.created() == 125

    async def test_failed_ones(self, run, path, service):
        """
        Failed inputs are tried again; bad ones and second ones are refused.
        """
        service.faults.script(Fault.status(400), prefix="b")
        source = ["a", "b", SessionRequest(link_id="c", redirect_url=None)]
        first = await run([*source, "a", 7])
        second = await run(source)

        assert first.failures == {
            "BadRequestError": 1,
            "InvalidRequestError": 2,
        }
        assert (second.created, second.skipped) == (1, 2)
        lines = [
            (record.line, record.type)
            for record in read_journal(path)
            if isinstance(record, FailedRecord)
        ]
        assert sorted(lines) == [
            (2, "BadRequestError"),
            (4, "InvalidRequestError"),
            (5, "InvalidRequestError"),
        ]

    async def test_another_api(self, run, path):
        """
        A journal of another API, or of other requests, is refused.
        """
        await run(["a"])
        with pytest.raises(JournalMismatchError, match="created by another"):
            await run(["b", "a"], redirect_url="https://lender.example/")
        with pytest.raises(JournalMismatchError, match="and this is"):
            await run(["a"], version="v2")

        assert set(created(path)) <= {"a", "b"}

    async def test_signed(self, run, monkeypatch):
        """
        A redirect URL that workers sign is the same request each time.
        """
        monkeypatch.setenv("BANKCONNECT_SIGNING_KEY", "s" * 32)
        url = "https://lender.example/return"
        await run(["a"], redirect_url=url)
        stats = await run(["a"], redirect_url=url)

        assert stats.skipped == 1

    async def test_leftovers(self, run, path, service):
        """
        Sessions in shards that a killed run left are not created again.
        """
        shards = path.with_name("out.jsonl.shards")
        await run(ids(4))
        shards.mkdir()
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(lines[0])
        (shards / "ab-000000.jsonl").write_bytes(b"".join(lines[:2]))
        (shards / "ab-000001.jsonl").write_bytes(lines[2] + b'{"link_id":"c')
        stats = await run(ids(4))

        assert (stats.created, stats.skipped) == (1, 3)
        assert created(path) == dict.fromkeys(ids(4), 1)
        assert not shards.exists()

    async def test_leftovers_of_another(self, run, path, service):
        """
        A file that is no journal of this batch stays where it is.
        """
        shards = path.with_name("out.jsonl.shards")
        shards.mkdir()
        (shards / "ab-000000.jsonl").write_text("what\n")
        with pytest.raises(JournalMismatchError, match="line 1 is no record"):
            await run(ids(4))

        assert service.requests == 0
        assert list(shards.iterdir())

    async def test_leftovers_in_use(self, run, path, service, monkeypatch):
        """
        A batch waits while a worker of a killed run still writes.
        """
        monkeypatch.setattr(ours, "TIMEOUT", 0.5)
        monkeypatch.setattr(ours, "LOCK_POLL", 0.01)
        shards = path.with_name("out.jsonl.shards")
        shards.mkdir()
        with (
            Journal(shards / "ab-000000.jsonl"),
            pytest.raises(JournalLockedError),
        ):
            await run(ids(4))
        assert service.requests == 0
        (shards / "ab-000000.jsonl").touch()

        assert (await run(ids(4))).created == 4

    async def test_begun_once_more(self, run, path, monkeypatch):
        """
        The merge of a finished shard waits for another worker that runs it
        again, as the scheduler saw its first one die.
        """
        monkeypatch.setattr(ours, "LOCK_POLL", 0.01)
        original = Journal.merge
        others = []
        tries = 0

        def merge(journal, shard):
            nonlocal tries
            tries += 1
            if tries == 1:
                others.append(Journal(shard))
                others[0].open()
            elif tries == 3:
                others[0].close()
            return original(journal, shard)

        monkeypatch.setattr(Journal, "merge", merge)
        stats = await run(ids(4))

        assert (stats.created, tries) == (4, 3)
        assert created(path) == dict.fromkeys(ids(4), 1)

    async def test_fresh(self, run, path, service):
        """
        Starting over backs up the journals of shards, too.
        """
        await run(ids(4))
        shards = path.with_name("out.jsonl.shards")
        shards.mkdir()
        (shards / "ab-000000.jsonl").write_bytes(path.read_bytes())
        stats = await run(ids(4), journal=Journal(path, fresh=True))

        assert stats.created == 4
        assert service.created() == 8
        assert path.with_name("out.jsonl.shards.old-1").is_dir()


class TestEnds:
    """
    Ends before the end of the input.
    """

    async def test_refused_key(self, run, path, monkeypatch, service):
        """
        A refused key stops all workers, and every input has an outcome.
        """
        monkeypatch.setenv("BANKCONNECT_API_KEY", "another")
        batch = run(ids(3000), concurrency=5)
        stats = await batch

        assert isinstance(batch.abort_cause, AuthenticationError)
        assert stats.failed == 3000
        assert set(stats.failures) == {
            "AuthenticationError",
            "BatchStoppedError",
        }
        assert 0 < stats.failures["AuthenticationError"] <= 20
        assert len(list(read_journal(path))) == 3000

    async def test_drain(self, run, path, service):
        """
        A drained batch finishes what is in flight, and can be resumed.
        """
        batch = run(endless(), concurrency=5)
        running = asyncio.ensure_future(batch)
        await until(lambda: service.created() > 20)
        batch.drain()
        stats = await running

        assert stats.created == service.created() == created(path).total()
        assert set(created(path).values()) == {1}

    async def test_outage(self, run, service):
        """
        While nearly everything fails, the statistics say that single
        requests find out when the server is back.
        """
        service.faults.always(Fault.status(500))
        batch = run(endless(), concurrency=5)
        running = asyncio.ensure_future(batch)
        await until(lambda: batch.stats().is_probing)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    async def test_drained_before(self, run, service):
        """
        A batch that is drained before it begins sends nothing.
        """
        batch = run(ids(3))
        batch.drain()

        assert (await batch).taken == 0
        with pytest.raises(RuntimeError, match="only once"):
            await batch

    async def test_cancel(self, run, path, service):
        """
        A cancelled request is recorded as possibly created.
        """
        service.faults.script(Fault.stall(60, after=True), prefix="customer")
        running = asyncio.ensure_future(run(ids(6)))
        await until(lambda: service.created() == 6)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert {
            (record.link_id, record.delivery) for record in read_journal(path)
        } == {(each, Delivery.AMBIGUOUS) for each in ids(6)}

    async def test_source_fails(self, run, path, service):
        """
        An error of the source is raised, after its earlier items are done.
        """

        async def source():
            for each in ids(120):
                yield each
            raise LookupError("no more")

        with pytest.raises(LookupError, match="no more"):
            await run(source(), shard_size=50)

        assert created(path) == dict.fromkeys(ids(120), 1)
        assert service.created() == 120

    async def test_a_source_that_is_cancelled(self, run, service, path):
        """
        A CancelledError of a plain source is an error, not an end.
        """

        def source():
            yield from ids(60)
            raise asyncio.CancelledError

        with pytest.raises(RuntimeError, match="source of the batch"):
            await run(source(), shard_size=50)

        assert created(path) == dict.fromkeys(ids(60), 1)

    @pytest.mark.parametrize("cls", [LookupError, asyncio.CancelledError])
    async def test_progress_fails(self, run, path, caplog, cls):
        """
        An error of the callback is logged once, and the batch continues.
        """

        def complain(stats):
            raise cls

        stats = await run(ids(60), on_progress=complain)

        assert stats.created == 60
        assert created(path) == dict.fromkeys(ids(60), 1)
        (logged,) = [
            each
            for each in caplog.records
            if each.name == "bankconnect_async" and each.levelname == "ERROR"
        ]
        assert logged.exc_info[0] is cls

    @pytest.mark.parametrize("is_late", [False, True])
    async def test_lost_scheduler(self, service, path, monkeypatch, is_late):
        """
        A batch that loses its scheduler ends and says how to resume, even
        if the connection is closed before it disconnects.
        """
        disconnect = clusters.Cluster.disconnect

        async def disconnect_late(self, addresses):
            await until(lambda: self._client.status == "closed")
            await disconnect(self, addresses)

        if is_late:
            monkeypatch.setattr(
                clusters.Cluster, "disconnect", disconnect_late
            )
        monkeypatch.setattr(clusters, "_TIMEOUT", 1.0)
        timeouts = {"distributed.comm.timeouts.connect": "1s"}
        with dask.config.set(timeouts):
            async with make_cluster(
                processes=False, protocol="tcp://"
            ) as cluster:
                running = asyncio.ensure_future(
                    create_sessions_distributed(
                        endless(),
                        cluster=cluster.scheduler_address,
                        journal=path,
                        redirect_url=None,
                    )
                )
                await until(lambda: service.created() > 20)
                await cluster.scheduler.close()
                with pytest.raises(
                    BatchStoppedError, match="scheduler was lost"
                ):
                    await running

    async def test_no_directory(self, run, path, monkeypatch):
        """
        A directory that workers do not share is named.
        """
        stat = os.stat

        def miss(path, *args, **kwargs):
            if "jsonl.shards" in str(path) and str(path).endswith(".jsonl"):
                raise FileNotFoundError(path)
            return stat(path, *args, **kwargs)

        monkeypatch.setattr(workers.os, "stat", miss)
        with pytest.raises(
            ConfigurationError, match="is not the same on inproc://"
        ):
            await run(ids(3))

    async def test_disagreement(self, run, monkeypatch, service):
        """
        Workers with different settings get no rows.
        """
        status, apis = WorkerRunner.status, iter("abcdef")

        def status_elsewhere(self):
            return attrs.evolve(status(self), api=next(apis))

        monkeypatch.setattr(WorkerRunner, "status", status_elsewhere)
        with pytest.raises(ConfigurationError, match="different settings"):
            await run(ids(3))

        assert service.requests == 0

    async def test_no_key(self, run, monkeypatch):
        """
        A worker without a key says so before anything is read.
        """
        monkeypatch.delenv("BANKCONNECT_API_KEY")
        with pytest.raises(
            ConfigurationError, match=r"worker inproc.*BANKCONNECT_API_KEY"
        ):
            await run(endless())


async def endless():
    """Yield link ids without end."""
    number = 0
    while True:
        yield f"customer-{number}"
        number += 1


class TestSettings:
    """
    Arguments and settings.
    """

    @pytest.mark.parametrize(
        "settings",
        [
            {"api_key": "k"},
            {"signing_key": "k"},
            {"tls": None},
            {"redirect_url": ReturnURL("https://a.example/", secret="s" * 32)},
            {"concurrency": 0},
            {"rate": 0},
            {"shard_size": "many"},
            {"deadline": -1},
        ],
        ids=lambda settings: next(iter(settings)),
    )
    def test_refused(self, settings):
        """
        Secrets do not travel, and numbers make sense.
        """
        with pytest.raises(ConfigurationError) as caught:
            create_sessions_distributed(
                [], cluster="local", journal="x", **settings
            )

        assert set(caught.value.fields) == set(settings)

    def test_lazy(self, run_program):
        """
        Nothing of Dask is imported before a batch of it runs.
        """
        program = (
            "import sys, bankconnect_async.distributed\n"
            "print({'dask', 'distributed'} & set(sys.modules))"
        )

        assert run_program(program) == "set()\n"

    def test_one_text(self):
        """
        A single text is refused as a source.
        """
        with pytest.raises(ConfigurationError, match="is one text"):
            create_sessions_distributed("a", cluster="local", journal="x")

    async def test_not_installed(self, monkeypatch):
        """
        A missing extra is named.
        """
        monkeypatch.setitem(sys.modules, "distributed", None)
        monkeypatch.delitem(sys.modules, clusters.__name__)
        with pytest.raises(ConfigurationError, match=r"async\[dask\]"):
            await create_sessions_distributed([], cluster="x", journal="x")

    async def test_store(self, run, monkeypatch, path, tmp_path):
        """
        Each worker writes to the store of its environment.
        """
        file = tmp_path / "sessions.sqlite"
        monkeypatch.setenv("BANKCONNECT_STORE", str(file))
        await run(ids(30), scope="loan-1")

        async with SQLiteSessionStore(file) as store:
            entries = [entry async for entry in store.entries()]
        assert {entry.key.scope for entry in entries} == {"loan-1"}
        sessions = {each.session.session_id for each in read_journal(path)}
        assert len(sessions) == 30
        assert {entry.session_id for entry in entries} == sessions

    def test_a_password_in_a_store(self, path):
        """
        The address of a store must not carry a password through the cluster.
        """
        for address in (
            "postgresql://u:pa55word@db/x",
            "postgresql://db/x?password=pa55word",
            "postgresql://db/x?sslpassword=pa55word",
            "postgresql://u:pa55word@db:port/x",
            "postgresql://[]:pa55word@db/x",
            "host=db dbname=x password = pa55word",
        ):
            with pytest.raises(ConfigurationError, match="workers") as caught:
                create_sessions_distributed(
                    [], cluster="tcp://x:1", journal=path, store=address
                )
            assert "pa55word" not in str(caught.value)

    async def test_a_file_of_another_machine(self, service, path):
        """
        Workers on other machines refuse a store that is a file.
        """
        spec = JobSpec(
            run="ef",
            api=None,
            concurrency=4,
            deadline=60,
            settings={"redirect_url": None, "store": f"{path}.sqlite"},
            machine="another",
        )
        with pytest.raises(ConfigurationError, match="use PostgreSQL"):
            WorkerRunner(spec)

    async def test_no_scheduler(self, monkeypatch):
        """
        An address without a scheduler is named.
        """
        monkeypatch.setattr(clusters, "_TIMEOUT", 0.5)
        with pytest.raises(ConfigurationError, match="no scheduler answers"):
            await create_sessions_distributed(
                [], cluster="tcp://127.0.0.1:9", journal="x"
            )

    async def test_no_workers(self, service, monkeypatch, path):
        """
        A batch does not wait for ever for a first worker.
        """
        monkeypatch.setattr(worker_batch, "TIMEOUT", 0.2)
        async with distributed.LocalCluster(
            n_workers=0,
            processes=False,
            dashboard_address="127.0.0.1:0",
            asynchronous=True,
        ) as cluster:
            with pytest.raises(ConfigurationError, match="has no workers"):
                await create_sessions_distributed(
                    [], cluster=cluster.scheduler_address, journal=path
                )

    async def test_a_pipe(self, run):
        """
        A journal that cannot be read again is refused.
        """
        with pytest.raises(
            ConfigurationError, match="journal: must be a file"
        ):
            await run(ids(1), journal="/dev/null")

    async def test_rate(self, run, monkeypatch, service):
        """
        Workers share the rate.
        """
        rates = []
        apply = WorkerRunner.apply

        def record(self, directive):
            rates.append(directive.rate)
            apply(self, directive)

        monkeypatch.setattr(WorkerRunner, "apply", record)
        monkeypatch.setattr(monitor, "HEARTBEAT_INTERVAL", 0.05)
        batch = run(endless(), rate=100)
        running = asyncio.ensure_future(batch)
        await until(lambda: rates[-5:] == [50] * 5)
        batch.drain()
        await running

        # Without a share, which needs the worker's clock, nothing is sent.
        assert rates[0] is None

    def test_shard_hides_rows(self):
        """
        The repr and the pickle of a shard hold no link ids.
        """
        shard = make_shard(0, "x", [(1, "customer-42")])

        assert "customer-42" not in repr(shard)
        assert b"customer-42" not in pickle.dumps(shard)
        rows = unseal(pickle.loads(pickle.dumps(shard)).sealed_rows)
        assert pickle.loads(rows) == [(1, "customer-42")]


class TestWorkerRunner:
    """
    One worker process, without Dask.
    """

    @pytest.fixture(name="runner")
    async def _runner(self, service):
        runner = WorkerRunner(
            JobSpec(
                run="ab",
                api=None,
                concurrency=4,
                deadline=60,
                settings={"redirect_url": None},
            )
        )
        yield runner
        await runner.shut_down()

    async def test_locked(self, runner, path, service, monkeypatch):
        """
        A shard waits until another worker has unlocked its journal, and does
        not repeat that worker's rows.
        """
        monkeypatch.setattr(workers, "LOCK_POLL", 0.01)
        with Journal(path, api=runner.api) as journal:
            shard = make_shard(0, str(path), list(enumerate(ids(9), 1)))
            running = asyncio.ensure_future(runner.run(shard))
            bank = runner._bank
            for index in range(3):
                request = SessionRequest(
                    link_id=f"customer-{index:04}", redirect_url=None
                )
                session = await bank.create_session(request)
                journal.begin(index, request)
                journal.record(
                    Created(
                        index=index,
                        item=request.link_id,
                        request=request,
                        session=session,
                    )
                )
        result = await running

        assert result.left == 0
        assert created(path) == dict.fromkeys(ids(9), 1)
        assert service.created() == 9

    async def test_told_limit(self, runner):
        """
        A runner uses the limit that others found, unless it has found
        another one since its last heartbeat.
        """
        runner.apply(Directive(limit=20.0))
        assert runner.status().found == 20
        runner.apply(Directive(limit=50.0))
        assert runner.status().found == 20
        runner.apply(Directive(limit=50.0, found=20.0))
        assert runner.status().found == 50

    async def test_drained_while_locked(self, runner, path, service):
        """
        A drained runner does not wait for the lock of a journal.
        """
        with Journal(path):
            shard = make_shard(0, str(path), [(1, "a")])
            runner.apply(Directive(drain=True))
            result = await runner.run(shard)

        assert result.left == 1
        assert service.requests == 0

    async def test_too_late(self, runner, path, service):
        """
        A shard whose journal was removed sends nothing.
        """
        result = await runner.run(make_shard(0, str(path), [(1, "a")]))

        assert result.is_missing
        assert service.requests == 0
        assert not path.exists()

    async def test_journal_deleted(self, runner, path, service):
        """
        A journal that is deleted under a shard is reported with the place
        where its records are.
        """
        service.faults.script(Fault.stall(0.5, after=True))
        path.touch()
        running = asyncio.ensure_future(
            runner.run(make_shard(0, str(path), [(1, "a")]))
        )
        await until(lambda: service.created() == 1)
        path.unlink()
        result = await running

        saved = path.with_name(f"{path.name}.saved-1")
        assert f"its records (1) were saved to {saved}" in str(result.error)
        assert created(saved) == {"a": 1}

    async def test_in_flight(self, runner, path, service, tmp_path):
        """
        Parallel shards share one limit of requests in flight.
        """
        peak = 0
        results = []
        for number in range(3):
            journal = tmp_path / f"{number}.jsonl"
            journal.touch()
            rows = [(n, f"{number}-{n}") for n in range(40)]
            results.append(
                asyncio.ensure_future(
                    runner.run(make_shard(number, str(journal), rows))
                )
            )
        while not all(each.done() for each in results):
            peak = max(peak, runner.status().in_flight)
            await asyncio.sleep(0)

        assert [each.result().left for each in results] == [0, 0, 0]
        assert service.created() == 120
        assert 2 <= peak <= 4

    @pytest.mark.parametrize("fault", [None, Fault.stall(after=True)])
    async def test_aborted_while_closing(
        self, runner, path, service, monkeypatch, fault
    ):
        """
        An abort lets a journal that is being closed unlock itself, so that
        its records can be merged.
        """
        closing, release = threading.Event(), threading.Event()
        close = Journal.close

        def close_late(journal):
            closing.set()
            release.wait(20)
            close(journal)

        monkeypatch.setattr(Journal, "close", close_late)
        service.faults.script(fault)
        path.touch()
        running = asyncio.ensure_future(
            runner.run(make_shard(0, str(path), [(1, "a")]))
        )
        if fault is not None:
            await until(lambda: service.created() == 1)
            runner.apply(Directive(drain=True, abort=True))
        assert await asyncio.to_thread(closing.wait, 20)
        runner.apply(Directive(drain=True, abort=True))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not running.done()
        release.set()

        assert (await running).left == (fault is not None)
        assert len(list(read_journal(path))) == 1
        with Journal(path):
            pass

    async def test_aborted_twice(self, runner, path, service, monkeypatch):
        """
        A shard that is being aborted is not disturbed, not even by a directive
        that arrives late.
        """
        leaving, go_on = asyncio.Event(), asyncio.Event()
        leave = SessionBatch.__aexit__

        async def leave_late(batch, *args):
            leaving.set()
            await go_on.wait()
            await leave(batch, *args)

        monkeypatch.setattr(SessionBatch, "__aexit__", leave_late)
        service.faults.script(Fault.stall(after=True))
        path.touch()
        running = asyncio.ensure_future(
            runner.run(make_shard(0, str(path), [(1, "a")]))
        )
        await until(lambda: service.created() == 1)
        runner.apply(Directive(drain=True, abort=True))
        await leaving.wait()
        for abort in (False, True):
            runner.apply(Directive(drain=True, abort=abort))
        go_on.set()

        assert (await running).left == 1
        assert len(list(read_journal(path))) == 1

    async def test_expired(self, path, service, monkeypatch):
        """
        A runner without heartbeats expires.
        """
        spec = JobSpec(
            run="cd",
            api="mine",
            concurrency=4,
            deadline=60,
            settings={"redirect_url": None, "retry": RetryPolicy(attempts=1)},
        )
        runner = workers._get_runner(spec, Directive())
        path.touch()
        rows = [(number, f"c-{number}") for number in range(5_000)]
        running = asyncio.ensure_future(
            runner.run(make_shard(0, str(path), rows))
        )
        await until(lambda: service.created() >= 1)
        # The last heartbeat, and no time for another one.
        monkeypatch.setattr(workers, "_EXPIRY", 0)
        runner.renew()
        result = await running

        assert 0 < result.left == 5_000 - service.created()
        assert created(path).total() == service.created()
        assert "cd" not in workers._runners
        assert {record.api for record in read_journal(path)} == {"mine"}
