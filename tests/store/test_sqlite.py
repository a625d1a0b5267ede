"""
The store in a SQLite file.
"""

import asyncio
import datetime
import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import traceback
import warnings
import zlib

import attrs
import pytest

from bankconnect_async import (
    ConfigurationError,
    Reserved,
    Session,
    SessionKey,
    SessionRequest,
    SessionState,
    SQLiteSessionStore,
    StoreError,
)
from bankconnect_async.store.entries import CreatedFacts, build_entry
from bankconnect_async.store.network_drives import network_drive
from bankconnect_async.store.sqlite_tables import MIGRATIONS


API = "api/v1#1a2b3c4d"
LEASE = datetime.timedelta(seconds=30)
OLD, NEW = "old-" * 10, "new-" * 10
OPEN_AND_CLOSE = """
import asyncio, sys
from bankconnect_async import SQLiteSessionStore

async def main():
    async with SQLiteSessionStore(sys.argv[1]):
        pass

asyncio.run(main())
"""


def run(code, *args, **options):
    """Start a process that runs *code*; its lines are read by the test."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def read_all(path):
    """Return the bytes of the file and of those beside it."""
    return b"".join(
        each.read_bytes() for each in path.parent.glob(f"{path.name}*")
    )


def snapshot(folder):
    """Return the permissions and bytes of the files in a folder."""
    return {
        each.name: (
            each.stat().st_mode,
            # Readers of a store that is open take marks there.
            None if each.suffix == ".db-shm" else each.read_bytes(),
        )
        for each in folder.iterdir()
    }


class TestFile:
    """The file on the disk"""

    async def test_private(self, tmp_path, make_entry):
        """
        Its owner alone can read the file and those beside it, also if it was
        there and open to others.
        """
        path = tmp_path / "sessions.db"
        path.touch(0o644)
        async with SQLiteSessionStore(path) as store:
            await store.add([make_entry()])
            modes = {
                each.name: stat.S_IMODE(each.stat().st_mode)
                for each in tmp_path.iterdir()
            }

        assert modes == {
            "sessions.db": 0o600,
            "sessions.db-wal": 0o600,
            "sessions.db-shm": 0o600,
        }

    async def test_a_device(self, tmp_path):
        """
        What is no file is refused, and keeps its permissions.
        """
        path = tmp_path / "pipe"
        os.mkfifo(path)
        path.chmod(0o666)
        store = SQLiteSessionStore(path)

        for use in (store.open, store.inspect):
            with pytest.raises(StoreError, match="pipe: is not a file"):
                await use()
        assert stat.S_IMODE(path.stat().st_mode) == 0o666

    async def test_two_stores_make_one_file(
        self, tmp_path, monkeypatch, run_program
    ):
        """
        A store that makes the file ends no lock of one that opens it first.
        """
        path = tmp_path / "sessions.db"
        other = SQLiteSessionStore(path)
        close = os.close

        def open_other_first(fd):
            monkeypatch.undo()
            asyncio.run(other.open())
            close(fd)

        monkeypatch.setattr(os, "close", open_other_first)
        async with SQLiteSessionStore(path):
            # The last one to close the file would remove those beside it.
            await asyncio.to_thread(run_program, OPEN_AND_CLOSE, path)
            await other.aclose()
            names = {each.name for each in tmp_path.iterdir()}

        assert names == {"sessions.db", "sessions.db-wal", "sessions.db-shm"}

    async def test_loop_of_links(self, tmp_path):
        """
        A loop of symbolic links is an error, and no traceback.
        """
        path = tmp_path / "sessions.db"
        path.symlink_to(path)

        with pytest.raises(StoreError, match="symbolic links"):
            await SQLiteSessionStore(path).open()

    async def test_survives(self, tmp_path, make_entry, now):
        """
        Stored entries and work are there when the file is opened again.
        """
        path = tmp_path / "sessions.db"
        entry = make_entry()
        async with SQLiteSessionStore(path) as store:
            await store.add([entry])
            await store.enqueue("k", b"body", at=now)
        async with SQLiteSessionStore(path) as store:
            found = await store.find(api_id=API, session_id=entry.session_id)
            assert [each.entry_id for each in found] == [entry.entry_id]
            assert not await store.enqueue("k", b"", at=now)

    async def test_many_unindexed_entries(self, tmp_path, make_entry):
        """
        Entries are found before and after their ids are indexed.
        """
        async with SQLiteSessionStore(tmp_path / "s.db") as store:
            entries = [make_entry(f"x{n}") for n in range(5000)]
            for first in range(0, 5000, 500):
                await store.add(entries[first : first + 500])
            for entry in entries[:: len(entries) // 50]:
                [found] = await store.find(
                    api_id=API, session_id=entry.session_id
                )
                assert found.link_id == entry.link_id
            assert await store.forget(link_id="x4999") == 1
            assert not await store.find(api_id=API, link_id="x4999")

    async def test_ids_with_one_number(self, tmp_path, make_entry):
        """
        Ids with the same number in the index are told apart.
        """
        twins = "plumless", "buckeroo"
        assert len({zlib.crc32(each.encode()) for each in twins}) == 1
        async with SQLiteSessionStore(tmp_path / "s.db") as store:
            await store.add([make_entry(each) for each in twins])
            found = await store.find(api_id=API, link_id="plumless")
            erased = await store.forget(link_id="plumless")
            left = await store.find(api_id=API, link_id="buckeroo")

        assert [each.link_id for each in found] == ["plumless"]
        assert erased == len(left) == 1

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (f"PRAGMA user_version={len(MIGRATIONS) + 1}", "a newer "),
            ("PRAGMA application_id=7", "another program"),
        ],
        ids=["newer", "foreign"],
    )
    async def test_wrong_schema(self, tmp_path, damage, message):
        """
        A file of a newer version or of another program is refused, untouched.
        """
        path = tmp_path / "sessions.db"
        async with SQLiteSessionStore(path):
            pass
        with sqlite3.connect(path) as connection:
            connection.execute(damage)
        connection.close()
        before = path.read_bytes()

        with pytest.raises(StoreError, match=message) as caught:
            await SQLiteSessionStore(path).open()

        assert str(path) in str(caught.value)
        assert path.read_bytes() == before

    async def test_foreign_tables(self, tmp_path):
        """
        A database without our mark gets no tables of ours.
        """
        path = tmp_path / "app.db"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE users (name)")
        connection.close()

        with pytest.raises(StoreError, match="another program"):
            await SQLiteSessionStore(path).open()

    @pytest.mark.parametrize("call", ["open", "inspect"])
    @pytest.mark.parametrize("kind", ["database", "text"])
    async def test_of_another_program(self, tmp_path, kind, call):
        """
        A file of another program stays as it is, with its permissions.
        """
        path = tmp_path / "app.db"
        if kind == "text":
            path.write_text("link_id\ncustomer-42\n" * 100)
        else:
            with sqlite3.connect(path) as connection:
                connection.execute("CREATE TABLE users (name)")
            connection.close()
        path.chmod(0o664)
        before = snapshot(tmp_path)

        with pytest.raises(StoreError, match=str(path)):
            await getattr(SQLiteSessionStore(path), call)()

        assert snapshot(tmp_path) == before

    @pytest.mark.parametrize("state", ["missing", "empty", "closed", "open"])
    async def test_inspect(self, tmp_path, make_entry, state):
        """
        A look changes nothing, and says whether there is a store.
        """
        path = tmp_path / "sessions.db"
        service = SQLiteSessionStore(path, encryption_keys=OLD)
        if state == "empty":
            path.touch(0o644)
        elif state != "missing":
            await service.add([make_entry()])
        if state == "closed":
            await service.aclose()
        before = snapshot(tmp_path)
        is_made = await SQLiteSessionStore(path, encryption_keys=OLD).inspect()
        after = snapshot(tmp_path)
        await service.aclose()

        assert is_made is (state in {"closed", "open"})
        assert after == before

    async def test_inspect_a_part_of_a_copy(self, tmp_path, make_entry):
        """
        Changes that a look cannot read are not overlooked.
        """
        path = tmp_path / "sessions.db"
        copy = tmp_path / "copy.db"
        async with SQLiteSessionStore(path) as store:
            await store.add([make_entry()])
            for suffix in ("", "-wal"):
                shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
        with pytest.raises(StoreError, match=r"in copy\.db-wal"):
            await SQLiteSessionStore(copy).inspect()
        async with SQLiteSessionStore(copy) as store:
            assert len([each async for each in store.entries()]) == 1

        assert await SQLiteSessionStore(copy).inspect()

    @pytest.mark.parametrize("kind", ["text", "directory", "nowhere"])
    async def test_no_database(self, tmp_path, kind):
        """
        A file of another format, a directory, and a path into nowhere are
        clear errors.
        """
        path = tmp_path / "sessions.db"
        if kind == "text":
            path.write_text("link_id\ncustomer-42\n" * 100)
        elif kind == "directory":
            path.mkdir()
        else:
            path = tmp_path / "nowhere" / "sessions.db"

        with pytest.raises(StoreError, match=str(path)):
            await SQLiteSessionStore(path).open()

        assert not [
            each for each in threading.enumerate() if "store" in each.name
        ]

    @pytest.mark.parametrize("path", ["", ":memory:", "a\0b"])
    def test_no_path(self, path):
        """
        A path that names no file is refused.
        """
        with pytest.raises(ConfigurationError, match="path"):
            SQLiteSessionStore(path)

    def test_network_drives(self, tmp_path):
        """
        The drive of a path is the last one mounted closest to it.
        """
        mounts = tmp_path / "mountinfo"
        mounts.write_text(
            "22 1 0:1 / / rw - ext4 /dev/sda rw\n"
            f"23 22 0:2 / {tmp_path} rw shared:1 - nfs4 host:/x rw\n"
            f"24 23 0:3 / {tmp_path}/local rw - xfs /dev/sdb rw\n"
            "25 22 0:4 / /mnt/with\\040blank rw - cifs //host/x rw\n"
        )

        assert network_drive(tmp_path / "s.db", mounts) == "nfs4"
        assert network_drive(tmp_path / "local/s.db", mounts) is None
        assert network_drive(tmp_path / "s.db", tmp_path / "none") is None
        assert network_drive(tmp_path / "s.db") is None

    async def test_network_drive_is_refused(self, tmp_path, monkeypatch):
        """
        A file on a network drive is refused with what to use instead.
        """
        monkeypatch.setattr(
            "bankconnect_async.store.sqlite.network_drive", lambda _: "nfs4"
        )

        with pytest.raises(StoreError, match=r"nfs4.*PostgresSessionStore"):
            await SQLiteSessionStore(tmp_path / "s.db").open()

    async def test_of_another_user(self, tmp_path, monkeypatch):
        """
        A file that others can read, and that only its owner can make
        private, is refused.
        """
        path = tmp_path / "sessions.db"
        path.touch(0o644)

        def refuse(path, mode):
            raise PermissionError

        # Tests may run as root, who may change every file.
        monkeypatch.setattr("pathlib.Path.chmod", refuse)

        with pytest.raises(StoreError, match="another user"):
            await SQLiteSessionStore(path).open()

    async def test_inspect_without_rights(self, tmp_path, monkeypatch):
        """
        A look reports a folder that is not there, and a file that cannot be
        written.
        """
        path = tmp_path / "sessions.db"
        path.write_bytes(b"x")
        with pytest.raises(StoreError, match="no such folder"):
            await SQLiteSessionStore(tmp_path / "none" / "s.db").inspect()
        # Tests may run as root, who may write every file.
        monkeypatch.setattr("os.access", lambda each, _: each.is_dir())

        with pytest.raises(StoreError, match=f"{path}: it cannot be written"):
            await SQLiteSessionStore(path).inspect()

    @pytest.mark.parametrize("minutes", [None, 5, 60])
    @pytest.mark.parametrize("keys", [None, NEW], ids=["plain", "encrypted"])
    async def test_created_facts(self, tmp_path, keys, minutes, now):
        """
        The facts of a session make the entry that `build_entry` makes.
        """
        url = "https://journey.example/?token=t"
        facts = CreatedFacts(
            entry_id="entry",
            api_id=API,
            link_id="customer-42",
            scope="loan",
            request_digest="digest",
            session_id="session-9876543210",
            redirect_url=url,
            is_frame=True,
            created=now.timestamp() + 0.123456,
            minutes=minutes,
        )
        store = SQLiteSessionStore(tmp_path / "s.db", encryption_keys=keys)
        await store.add_facts(facts)
        await store.add_facts(facts)
        found = [
            await store.find(api_id=API, session_id=facts.session_id),
            await store.find(api_id=API, link_id="customer-42"),
            await store.due(
                now=now + datetime.timedelta(minutes=15),
                limit=9,
                lease=LEASE,
            ),
        ]
        await store.aclose()

        entry = build_entry(
            key=SessionKey(
                api_id=API,
                link_id="customer-42",
                scope="loan",
                request_digest="digest",
            ),
            request=SessionRequest(
                link_id="customer-42",
                redirect_url=None,
                session_expiry=minutes,
            ),
            session=Session(
                link_id="customer-42",
                redirect_url=url,
                session_id=facts.session_id,
            ),
            entry_id="entry",
            created=facts.created,
        )
        if not keys:
            entry = attrs.evolve(entry, redirect_url=None)
        assert found[:2] == [[entry], [entry]]
        assert [each.entry_id for each in found[2]] == (
            ["entry"] if minutes == 5 else []
        )
        assert "session" not in repr(facts)
        assert "token" not in repr(facts)

    async def test_created_facts_wake(self, tmp_path, make_key, now):
        """
        A caller that waits for the session of a customer gets it at once.
        """
        async with SQLiteSessionStore(
            tmp_path / "s.db", encryption_keys=NEW
        ) as store:
            key = make_key()
            right = await store.reserve(key, now=now, lease=LEASE)
            waiting = asyncio.ensure_future(
                store.reserve(key, now=now, lease=LEASE)
            )
            await store.find(api_id=API, link_id="x")
            await store.add_facts(
                CreatedFacts(
                    entry_id=right.entry_id,
                    api_id=API,
                    link_id=key.link_id,
                    scope="",
                    request_digest="",
                    session_id="s",
                    redirect_url="https://journey.example/",
                    is_frame=False,
                    created=now.timestamp(),
                    minutes=None,
                )
            )
            found = await asyncio.wait_for(waiting, 20)

        assert found.session_id == "s"

    @pytest.mark.parametrize("is_replaced", [False, True])
    async def test_file_is_removed(self, tmp_path, make_entry, is_replaced):
        """
        Nothing is written to a file that was removed or replaced, where no
        other process would find it.
        """
        path = tmp_path / "sessions.db"
        async with SQLiteSessionStore(path) as store:
            await store.add([make_entry("before")])
            for each in tmp_path.glob("sessions.db*"):
                each.unlink()
            if is_replaced:
                async with SQLiteSessionStore(path):
                    pass
            errors = await asyncio.gather(
                store.add([make_entry("after")]),
                store.add([make_entry("after")]),
                return_exceptions=True,
            )
            assert [type(error) for error in errors] == [StoreError] * 2
            assert "removed or replaced" in str(errors[0])
            # Each caller may add facts to it.
            assert errors[0] is not errors[1]
            with pytest.raises(StoreError, match="removed or replaced"):
                await store.find(api_id=API, link_id="before")
            await store.aclose()
            await store.open()
            await store.add([make_entry("reopened")])
        async with SQLiteSessionStore(path) as store:
            assert await store.find(api_id=API, link_id="reopened")

    async def test_damaged_entry(self, tmp_path, make_entry):
        """
        An entry that cannot be read is a clear error.
        """
        async with SQLiteSessionStore(tmp_path / "s.db") as store:
            await store.add([make_entry()])
            other = sqlite3.connect(tmp_path / "s.db")
            with other:
                other.execute("UPDATE entries SET body = substr(body, 2)")
            other.close()

            with pytest.raises(StoreError, match="damaged"):
                await store.find(api_id=API, link_id="customer-42")

    async def test_full_disk(self, tmp_path, make_entry):
        """
        A disk that is full is an error for everybody who waits; the store
        works again when there is room.
        """
        async with SQLiteSessionStore(tmp_path / "s.db") as store:
            limit = store._thread._connection
            await store._thread.run_alone(
                lambda: limit.execute("PRAGMA max_page_count = 1").fetchone()
            )
            failures = await asyncio.gather(
                *(
                    store.add([make_entry("full") for _ in range(50)])
                    for _ in range(3)
                ),
                return_exceptions=True,
            )
            await store._thread.run_alone(
                lambda: limit.execute(
                    "PRAGMA max_page_count = 1000000"
                ).fetchone()
            )
            await store.add([make_entry("later")])

            assert {type(each) for each in failures} == {StoreError}
            assert "full" in str(failures[0])
            assert not await store.find(api_id=API, link_id="full")
            assert await store.find(api_id=API, link_id="later")


class TestUse:
    """Opening, closing, and where a store can be used"""

    async def test_opens_itself(self, tmp_path, make_entry):
        """
        The first call opens the store, once.
        """
        store = SQLiteSessionStore(tmp_path / "s.db")
        await asyncio.gather(*(store.add([make_entry("x")]) for _ in range(9)))

        assert len(await store.find(api_id=API, link_id="x")) == 9
        await store.aclose()

    async def test_closed(self, tmp_path, make_entry):
        """
        A closed store is refused until it is opened again.
        """
        store = SQLiteSessionStore(tmp_path / "s.db")
        await store.aclose()
        await store.open()
        await store.open()
        adding = asyncio.ensure_future(store.add([make_entry("x")]))
        await asyncio.sleep(0)
        await store.aclose()
        await store.aclose()

        assert await adding is None
        with pytest.raises(StoreError, match="the store is closed"):
            await store.add([make_entry("x")])
        await store.open()
        assert len(await store.find(api_id=API, link_id="x")) == 1
        await store.aclose()

    async def test_cancelled_closing(self, tmp_path, make_entry):
        """
        Closing and opening leave no thread when they are cancelled.
        """
        store = SQLiteSessionStore(tmp_path / "s.db")
        await store.open()
        adding = asyncio.ensure_future(store.add([make_entry("x")]))
        await asyncio.sleep(0)
        for change in (store.aclose, store.open):
            changing = asyncio.ensure_future(change())
            await asyncio.sleep(0)
            changing.cancel()
            await asyncio.wait([changing])

            assert changing.cancelled()
            assert not [
                each for each in threading.enumerate() if each.name == "store"
            ]
        assert await adding is None

    def test_other_loop(self, tmp_path, make_entry):
        """
        Another event loop is refused, and says what to do.
        """
        store = SQLiteSessionStore(tmp_path / "s.db")

        async def reopen():
            async with store:
                return await store.find(api_id=API, link_id="customer-42")

        with asyncio.Runner() as runner:
            runner.run(store.add([make_entry()]))
            with pytest.raises(StoreError, match="one store for each loop"):
                asyncio.run(store.add([make_entry()]))
            with pytest.raises(StoreError, match="one store for each loop"):
                asyncio.run(store.aclose())
            runner.run(store.aclose())
        assert len(asyncio.run(reopen())) == 1

    def test_closed_loop(self, tmp_path, make_entry):
        """
        A store whose event loop has ended can be closed in the next one.
        """
        store = SQLiteSessionStore(tmp_path / "s.db")
        asyncio.run(store.add([make_entry()]))
        with pytest.raises(StoreError, match="one store for each loop"):
            asyncio.run(store.add([make_entry()]))
        asyncio.run(store.aclose())

        async def add_many():
            async with store:
                await asyncio.gather(
                    *(store.add([make_entry("x")]) for _ in range(9))
                )
                return await store.find(api_id=API, link_id="x")

        assert len(asyncio.run(add_many())) == 9

    def test_fork(self, tmp_path, make_entry):
        """
        A forked child gets a connection of its own, and both work on.
        """
        store = SQLiteSessionStore(tmp_path / "s.db")

        async def add(link_id, entry_id):
            await store.add([make_entry(link_id, entry_id=entry_id)])

        async def add_and_close():
            await add("child", "1")
            await store.aclose()

        with asyncio.Runner() as runner, warnings.catch_warnings():
            runner.run(add("parent", "2"))
            # Python warns of forks beside threads.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = multiprocessing.get_context("fork").Process(
                target=lambda: asyncio.run(add_and_close())
            )
            child.start()
            child.join(30)
            runner.run(add("parent", "3"))
            found = [
                len(runner.run(store.find(api_id=API, link_id=link_id)))
                for link_id in ("parent", "child")
            ]
            runner.run(store.aclose())

        assert child.exitcode == 0
        assert found == [2, 1]

    async def test_cancelled_caller(self, tmp_path, make_entry, now):
        """
        A caller that is cancelled disturbs no other.
        """
        async with SQLiteSessionStore(tmp_path / "s.db") as store:
            tasks = [
                asyncio.ensure_future(store.add([make_entry("x")]))
                for _ in range(9)
            ]
            tasks.append(
                asyncio.ensure_future(store.enqueue("k", b"", at=now))
            )
            await asyncio.sleep(0)
            tasks[0].cancel()
            tasks[-1].cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)

            assert results[1:-1] == [None] * 8
            assert isinstance(results[0], asyncio.CancelledError)
            assert len(await store.find(api_id=API, link_id="x")) >= 8

    async def test_bad_argument_hurts_nobody_else(self, tmp_path, now):
        """
        A call that SQLite cannot take fails by itself.
        """
        async with SQLiteSessionStore(tmp_path / "s.db") as store:
            bad, good = await asyncio.gather(
                store.enqueue("\ud800", b"", at=now),
                store.enqueue("good", b"", at=now),
                return_exceptions=True,
            )

            assert isinstance(bad, UnicodeEncodeError)
            assert good is True
            assert len(await store.take(now=now, limit=9, lease=LEASE)) == 1

    async def test_says_what_is_off(self, tmp_path, caplog):
        """
        Without keys, one line says that journeys cannot be continued.
        """
        with caplog.at_level(logging.INFO, "bankconnect_async"):
            async with SQLiteSessionStore(tmp_path / "s.db"):
                pass
            async with SQLiteSessionStore(
                tmp_path / "e.db", encryption_keys=NEW
            ):
                pass

        [record] = caplog.records
        assert "cannot be continued" in record.getMessage()
        assert record.levelno == logging.INFO

    async def test_repr(self, tmp_path):
        """
        The repr names the file, and no key.
        """
        store = SQLiteSessionStore(tmp_path / "e.db", encryption_keys=NEW)

        assert repr(store) == f"SQLiteSessionStore('{tmp_path}/e.db')"


class TestProcesses:
    """Several processes on one file"""

    async def test_thirty_reservations_of_two_processes(
        self, tmp_path, make_key, make_entry, now
    ):
        """
        Thirty loads over two processes make one session.
        """
        path = tmp_path / "sessions.db"
        code = """
            import asyncio, datetime, sys
            from bankconnect_async import (
                Reserved, SessionEntry, SessionKey, SQLiteSessionStore)
            now = datetime.datetime.fromisoformat(sys.argv[2])
            key = SessionKey(api_id=sys.argv[3], link_id="customer-42")
            lease = datetime.timedelta(seconds=30)
            numbers = iter(range(15))

            async def load(store):
                if next(numbers) == 14:
                    print("asks", flush=True)
                found = await store.reserve(key, now=now, lease=lease)
                if isinstance(found, Reserved):
                    await asyncio.to_thread(sys.stdin.readline)
                    await store.add([SessionEntry(
                        entry_id=found.entry_id, key=key, created_at=now,
                        redirect_url="https://journey.example/")])
                    print("created")
                return found.entry_id

            async def main():
                keys = "k" * 32
                path = sys.argv[1]
                async with SQLiteSessionStore(
                    path, encryption_keys=keys
                ) as store:
                    found = await asyncio.gather(
                        *(load(store) for _ in range(15)))
                    print(*found)

            asyncio.run(main())
        """
        processes = [
            run(code, path, now.isoformat(), API, stdin=subprocess.PIPE)
            for _ in range(2)
        ]
        for each in processes:
            line = await asyncio.to_thread(each.stdout.readline)
            assert line == "asks\n"
        outputs = await asyncio.gather(
            *(
                asyncio.to_thread(each.communicate, "add\n", timeout=60)
                for each in processes
            )
        )

        words = [word for out, _ in outputs for word in out.split()]
        assert words.count("created") == 1
        assert len({*words} - {"created"}) == 1
        assert len(words) == 31

    async def test_right_of_a_killed_process(self, tmp_path, make_key, now):
        """
        The right of a killed process ends with its lease.
        """
        path = tmp_path / "sessions.db"
        code = """
            import asyncio, datetime, sys
            from bankconnect_async import SessionKey, SQLiteSessionStore

            async def main():
                store = SQLiteSessionStore(
                    sys.argv[1], encryption_keys="k" * 32)
                await store.reserve(
                    SessionKey(api_id=sys.argv[3], link_id="customer-42"),
                    now=datetime.datetime.fromisoformat(sys.argv[2]),
                    lease=datetime.timedelta(seconds=1))
                print("reserved", flush=True)
                sys.stdin.read()

            asyncio.run(main())
        """
        with run(
            code, path, now.isoformat(), API, stdin=subprocess.PIPE
        ) as process:
            line = await asyncio.to_thread(process.stdout.readline)
            process.send_signal(signal.SIGKILL)
        assert line == "reserved\n"
        async with SQLiteSessionStore(path, encryption_keys="k" * 32) as store:
            found = await asyncio.wait_for(
                store.reserve(make_key(), now=now, lease=LEASE), 30
            )

        assert isinstance(found, Reserved)

    async def test_kill_loses_nothing(self, tmp_path, now):
        """
        Processes that are killed while they write lose nothing that they
        were told is stored, and damage nothing.
        """
        path = tmp_path / "sessions.db"
        code = """
            import asyncio, datetime, sys
            from bankconnect_async import (
                SessionEntry, SessionKey, SQLiteSessionStore)
            now = datetime.datetime.fromisoformat(sys.argv[2])

            async def work(store, name):
                for number in range(10_000):
                    entry_id = f"{name}-{number}"
                    await store.add([SessionEntry(
                        entry_id=entry_id, created_at=now,
                        key=SessionKey(api_id="a", link_id="x"),
                        session_id=entry_id)])
                    await store.enqueue(entry_id, b"body", at=now)
                    print(entry_id, flush=True)

            async def main():
                async with SQLiteSessionStore(sys.argv[1]) as store:
                    await asyncio.gather(*(
                        work(store, f"{sys.argv[3]}.{n}") for n in range(8)))

            asyncio.run(main())
        """
        told = []
        for round_ in range(2):
            processes = [
                run(code, path, now.isoformat(), f"{round_}.{n}")
                for n in range(2)
            ]
            for process in processes:
                told += [
                    (await asyncio.to_thread(process.stdout.readline)).strip()
                    for _ in range(40)
                ]
            for process in processes:
                process.send_signal(signal.SIGKILL)
                rest, _ = process.communicate()
                told += rest.split("\n")[:-1]
        async with SQLiteSessionStore(path) as store:
            stored = {each.entry_id async for each in store.entries()}
            items = await store.take(now=now, limit=100_000, lease=LEASE)
            [check] = await store._run(
                lambda tables: tables._db.execute(
                    "PRAGMA integrity_check"
                ).fetchone()
            )

        assert len(told) >= 160
        assert not {*told} - stored
        assert not {*told} - {item.key for item in items}
        assert check == "ok"

    async def test_opened_by_many_at_once(self, tmp_path):
        """
        Processes that create one file at the same time all get it.
        """
        code = """
            import asyncio, sys
            from bankconnect_async import SQLiteSessionStore

            async def main():
                sys.stdin.readline()
                async with SQLiteSessionStore(sys.argv[1]):
                    print("open")

            asyncio.run(main())
        """
        processes = [
            run(code, tmp_path / "s.db", stdin=subprocess.PIPE)
            for _ in range(3)
        ]
        outputs = [each.communicate("go\n", timeout=60) for each in processes]

        assert [out for out, _ in outputs] == ["open\n"] * 3

    async def test_locked_for_too_long(
        self, tmp_path, monkeypatch, make_entry
    ):
        """
        A lock that another process holds for too long is a clear error.
        """
        monkeypatch.setattr(
            "bankconnect_async.store.sqlite.LOCK_TIMEOUT", 0.05
        )
        async with SQLiteSessionStore(tmp_path / "s.db") as store:
            other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="another process held"):
                await store.add([make_entry()])
            # Reading needs no lock.
            assert not await store.find(api_id=API, link_id="customer-42")
            other.close()
            await store.add([make_entry()])


class TestSecrets:
    """The content of the files, and the keys"""

    SECRETS = (
        b"session-s3cret",
        b"entity-s3cret",
        b"customer-s3cret",
        b"journey.example",
        b"t0ken",
        b"0012345678",
        b"A. Sharma",
    )

    async def fill(self, store, make_entry, now):
        """Write secrets into all tables, change them, and erase some."""
        for number in range(2):
            entry = make_entry(
                f"customer-s3cret-{number}",
                session_id=f"session-s3cret-{number}",
                redirect_url="https://journey.example/?token=t0ken",
                entity_ids=(f"entity-s3cret-{number}",),
            )
            await store.add([entry])
            await store.advance(
                entry.entry_id,
                SessionState.OPENED,
                at=now,
                entity_id=f"entity-s3cret-x{number}",
                detail="account 0012345678 of A. Sharma",
            )
            await store.enqueue(
                f"session-s3cret-{number}/x",
                b'{"account": "0012345678", "name": "A. Sharma"}',
                at=now,
                link_id=entry.link_id,
            )
            await store.reserve(
                entry.key,
                now=now,
                lease=LEASE,
                created_after=now,
            )
        await store.take(now=now, limit=1, lease=LEASE)
        await store.done("session-s3cret-0/x")

    async def test_encrypted(self, tmp_path, make_entry, now):
        """
        With keys, no id, URL, token, account number or name is in the bytes
        of the files, before and after erasure.
        """
        path = tmp_path / "sessions.db"
        async with SQLiteSessionStore(path, encryption_keys=NEW) as store:
            await self.fill(store, make_entry, now)
            found = [each for each in self.SECRETS if each in read_all(path)]
            await store.forget(link_id="customer-s3cret-0")
            found += [each for each in self.SECRETS if each in read_all(path)]

        assert not found
        assert not [each for each in self.SECRETS if each in read_all(path)]

    async def test_plain(self, tmp_path, make_entry, now):
        """
        Without keys, no URL and no token is in the files; what is forgotten
        leaves no byte behind.
        """
        path = tmp_path / "sessions.db"
        async with SQLiteSessionStore(path) as store:
            await self.fill(store, make_entry, now)
            content = read_all(path)
            for number in range(2):
                await store.forget(link_id=f"customer-s3cret-{number}")
            erased = read_all(path)

        assert not [
            each for each in (b"journey.example", b"t0ken") if each in content
        ]
        assert b"session-s3cret" in content
        assert not [each for each in self.SECRETS if each in erased]

    async def test_rotation(self, tmp_path, make_entry, make_key, now):
        """
        With a new key in front of the old one, everything is found; the old
        one is refused to go while records need it, and can go afterwards.
        """
        path = tmp_path / "sessions.db"
        entries = [make_entry(entity_ids=("entity-1",)) for _ in range(2)]
        async with SQLiteSessionStore(path, encryption_keys=OLD) as store:
            await store.add(entries)
            await store.enqueue("done", b"", at=now)
            await store.done("done")
            await store.enqueue("open", b"body", at=now, link_id="x")
        async with SQLiteSessionStore(
            path, encryption_keys=[NEW, OLD]
        ) as store:
            for ids in (
                {"link_id": "customer-42"},
                {"entity_id": "entity-1"},
                {"session_id": entries[1].session_id},
            ):
                assert entries[1] in await store.find(api_id=API, **ids)
            assert not await store.enqueue("done", b"", at=now)
            assert not await store.enqueue("open", b"", at=now)
            [item] = await store.take(now=now, limit=9, lease=LEASE)
            assert (item.key, item.body) == ("open", b"body")
            await store.release("open")
            live = await store.reserve(make_key(), now=now, lease=LEASE)
            assert live in entries
            await store.advance(
                entries[0].entry_id, SessionState.OPENED, at=now
            )
            await store.forget(link_id="x")
        with pytest.raises(StoreError, match="behind the newest"):
            await SQLiteSessionStore(path, encryption_keys=NEW).open()
        later = now + datetime.timedelta(hours=2)
        async with SQLiteSessionStore(
            path, encryption_keys=[NEW, OLD]
        ) as store:
            await store.advance(
                entries[1].entry_id, SessionState.OPENED, at=now
            )
            await store.enqueue("later", b"", at=later)
        async with SQLiteSessionStore(path, encryption_keys=NEW) as store:
            for ids in (
                {"link_id": "customer-42"},
                {"entity_id": "entity-1"},
                {"session_id": entries[1].session_id},
            ):
                found = await store.find(api_id=API, **ids)
                assert entries[1].entry_id in {each.entry_id for each in found}
            assert await store.forget(link_id="customer-42") == 2
            assert not await store.find(api_id=API, entity_id="entity-1")

    @pytest.mark.parametrize(
        ("written", "opened", "message"),
        [
            (OLD, NEW, "give that key as well, behind the newest"),
            (None, NEW, "without encryption keys"),
            (OLD, None, "it is encrypted"),
        ],
        ids=["another", "none before", "none now"],
    )
    async def test_wrong_key(
        self, tmp_path, make_entry, written, opened, message
    ):
        """
        A wrong key is an error when the store opens, not later.
        """
        path = tmp_path / "sessions.db"
        async with SQLiteSessionStore(path, encryption_keys=written) as store:
            await store.add([make_entry()])

        with pytest.raises(StoreError, match=message):
            await SQLiteSessionStore(path, encryption_keys=opened).open()

        with pytest.raises(StoreError, match=message):
            await SQLiteSessionStore(path, encryption_keys=opened).inspect()

    async def test_other_key_while_in_use(self, tmp_path, make_entry):
        """
        Another key that opens a store before its first record takes nothing
        from the process that uses it.
        """
        path = tmp_path / "sessions.db"
        async with SQLiteSessionStore(path, encryption_keys=OLD) as service:
            async with SQLiteSessionStore(path, encryption_keys=NEW):
                pass
            await service.add([make_entry("first")])
        async with SQLiteSessionStore(path, encryption_keys=OLD) as service:
            found = await service.find(api_id=API, link_id="first")

        assert len(found) == 1
        with pytest.raises(StoreError, match="not given"):
            await SQLiteSessionStore(path, encryption_keys=NEW).open()

    async def test_no_secret_in_errors(self, tmp_path, make_entry, now):
        """
        Errors of a store show no secret, even in a traceback with locals.
        """
        secrets = [
            b"s3cret-key " * 4,
            b"0012345678",
            b"t0ken",
            b"session-9876",
        ]
        path = tmp_path / "sessions.db"
        key = secrets[0].decode()
        errors = []
        with pytest.raises(ConfigurationError) as caught:
            SQLiteSessionStore(path, encryption_keys=[key, "short"])
        errors.append(caught.value)
        async with SQLiteSessionStore(path, encryption_keys=key) as store:
            connection = store._thread._connection
            await store._thread.run_alone(
                lambda: connection.execute("PRAGMA query_only = 1")
            )
            for call in (
                store.add(
                    [
                        make_entry(
                            session_id="session-9876543210",
                            redirect_url="https://journey.example/?t0ken",
                        )
                    ]
                ),
                store.add_facts(
                    CreatedFacts(
                        entry_id="entry",
                        api_id=API,
                        link_id="customer-42",
                        scope="",
                        request_digest="",
                        session_id="session-9876543210",
                        redirect_url="https://journey.example/?t0ken",
                        is_frame=False,
                        created=now.timestamp(),
                        minutes=None,
                    )
                ),
                store.enqueue("session-9876543210", b"0012345678", at=now),
                store.done("session-9876543210"),
            ):
                with pytest.raises(StoreError, match="readonly") as caught:
                    await call
                errors.append(caught.value)
        # The first frame is this test.
        shown = "".join(
            line
            for error in errors
            for line in traceback.TracebackException(
                type(error),
                error,
                error.__traceback__.tb_next,
                capture_locals=True,
            ).format()
        )

        assert "readonly" in shown
        assert not [each for each in secrets if each.decode() in shown]

    def test_pickle(self, tmp_path):
        """
        A store with keys cannot be pickled.
        """
        store = SQLiteSessionStore(tmp_path / "s.db", encryption_keys=NEW)

        with pytest.raises(TypeError, match="make one in each process"):
            pickle.dumps(store)

    @pytest.mark.parametrize("keys", ["short", [], ["k" * 32, "short"], [""]])
    def test_bad_keys(self, tmp_path, keys):
        """
        Keys that are too short or missing are refused at once.
        """
        with pytest.raises(ConfigurationError, match="32 bytes"):
            SQLiteSessionStore(tmp_path / "s.db", encryption_keys=keys)
