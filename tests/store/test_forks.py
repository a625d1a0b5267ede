"""
A store in a SQLite file, in a process that forks.
"""

import contextlib
import sqlite3

import pytest


BEGIN = """
import asyncio, datetime, os, sys, threading, warnings
from bankconnect_async import SQLiteSessionStore, StoreError

def put(store, key):
    now = datetime.datetime.now(datetime.UTC)
    return store.enqueue(key, b"body", at=now)

def fork():
    # Python warns of forks beside threads.
    with warnings.catch_warnings(action="ignore"):
        return os.fork()

def join(pid):
    assert os.waitpid(pid, 0)[1] == 0

store = SQLiteSessionStore(sys.argv[1])
runner = asyncio.Runner().__enter__()
runner.run(put(store, "parent"))
"""

BUSY = """
begun, forking = threading.Event(), threading.Event()
os.register_at_fork(before=forking.set)

def work(tables):
    begun.set()
    assert forking.wait(30)

async def fork_within():
    working = asyncio.ensure_future(store._run(work))
    await asyncio.to_thread(begun.wait)
    pid = fork()
    if pid:
        await working
    return pid

pid = runner.run(fork_within())
if pid:
    join(pid)
    runner.run(put(store, "again"))
    runner.run(store.aclose())
else:
    asyncio.run(put(store, "child"))
    os._exit(0)
"""

CLOSING = """
opened, closed = os.pipe(), os.pipe()
pid = fork()
if pid:
    os.read(opened[0], 1)
    runner.run(store.aclose())
    os.write(closed[1], b"1")
    join(pid)
else:
    with asyncio.Runner() as runner:
        runner.run(put(store, "child"))
        os.write(opened[1], b"1")
        os.read(closed[0], 1)
        for number in range(5):
            runner.run(put(store, f"child {number}"))
        # Without an end of the interpreter, as if it were killed.
        os._exit(0)
"""

WRITING = """
def write():
    async def write_all():
        async with SQLiteSessionStore(sys.argv[1]) as store:
            for number in range(200):
                await put(store, f"thread {number}")
    asyncio.run(write_all())

thread = threading.Thread(target=write)
thread.start()
children = 0
while thread.is_alive():
    children += 1
    pid = fork()
    if not pid:
        asyncio.run(put(store, f"child {children}"))
        os._exit(0)
    join(pid)
runner.run(store.aclose())
print(children)
"""

GONE = """
os.unlink(sys.argv[1])
pid = fork()
if not pid:
    os._exit(0)
join(pid)
try:
    runner.run(put(store, "lost"))
except StoreError as error:
    print(error)
runner.run(store.aclose())
"""


def count(path):
    """Return the number of items in the inbox."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT count(*) FROM inbox").fetchone()[0]


@pytest.mark.parametrize(
    ("program", "items"), [(BUSY, 3), (CLOSING, 7)], ids=["busy", "closing"]
)
def test_nothing_is_inherited(tmp_path, run_program, program, items):
    """
    Neither a transaction that a fork meets nor the end of the parent's store
    disturbs a child.
    """
    path = tmp_path / "s.db"

    run_program(BEGIN + program, path)

    assert count(path) == items


def test_forks_beside_writes(tmp_path, run_program):
    """
    A process can fork while another of its threads writes.
    """
    path = tmp_path / "s.db"

    children = int(run_program(BEGIN + WRITING, path))

    assert children > 0
    assert count(path) == 1 + 200 + children


def test_a_removed_file(tmp_path, run_program):
    """
    A file that is removed before a fork is not made again after it.
    """
    path = tmp_path / "s.db"

    assert "was removed or replaced" in run_program(BEGIN + GONE, path)
    assert not path.exists()
