"""
A thread that owns a SQLite connection, and commits calls in groups.
"""

import asyncio
import os
import sqlite3
import threading
import weakref

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, TypeVar

import attrs

from bankconnect_async._threads import finish
from bankconnect_async.errors import StoreError


T = TypeVar("T")

#: Seconds for which another process may hold the lock.
LOCK_TIMEOUT: Final = 30.0
_BUSY: Final = 5  # SQLITE_BUSY
# After a group of so many, the next one waits for more, so many seconds.
_MANY: Final = 8
_PAUSE: Final = 0.002


@attrs.define(eq=False)
class _Call:
    """
    A call that waits for its group.

    Attributes:
        work: The function that runs in the thread.
        future: The future of the caller.
        writes: Whether it needs the lock for writing.
        result, error: The outcome.
    """

    work: Callable[[], Any]
    future: asyncio.Future[Any]
    writes: bool
    result: Any = attrs.field(default=None, repr=False)
    error: Exception | None = None


@attrs.define(eq=False)
class _Group:
    """
    Calls that are committed together.

    Attributes:
        rows: The rows that are added.
        adds: The futures of those who add them.
        calls: The other calls.
        error: The error of the whole group.
    """

    rows: list[Any] = attrs.field(factory=list, repr=False)
    adds: list[asyncio.Future[None]] = attrs.field(factory=list, repr=False)
    calls: list[_Call] = attrs.field(factory=list, repr=False)
    error: Exception | None = None

    def run(
        self,
        connect: Callable[[], sqlite3.Connection],
        add: Callable[[Sequence[Any]], None],
        check: Callable[[], None],
    ) -> None:
        """Run the group in one transaction; its thread calls this."""
        is_writer = self.rows or any(call.writes for call in self.calls)
        try:
            check()
            connection = connect()
            connection.execute("BEGIN IMMEDIATE" if is_writer else "BEGIN")
            try:
                if self.rows:
                    add(self.rows)
                for call in self.calls:
                    _run_call(connection, call)
                connection.execute("COMMIT")
            except BaseException:
                # SQLite rolls back by itself after some errors.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except Exception as exc:  # noqa: BLE001 - the callers raise it
            self.error = exc

    def resolve(self, path: str) -> None:
        """Hand the outcomes to the callers."""
        for future in self.adds:
            _resolve(future, None, self.error, path)
        for call in self.calls:
            _resolve(call.future, call.result, self.error or call.error, path)


def _resolve(
    future: asyncio.Future[Any],
    result: Any,
    error: Exception | None,
    path: str,
) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(as_store_error(path, error))


def _run_call(connection: sqlite3.Connection, call: _Call) -> None:
    connection.execute("SAVEPOINT call")
    try:
        call.result = call.work()
    except sqlite3.Error:
        raise
    except Exception as exc:  # noqa: BLE001 - the caller raises it
        call.error = exc
        connection.execute("ROLLBACK TO call")
    connection.execute("RELEASE call")


def as_store_error(path: str, error: Exception) -> Exception:
    """
    Return a new `StoreError` for one of a store or an error of SQLite.

    Any other error is returned as it is.
    """
    if isinstance(error, StoreError):
        # Each caller of a group adds facts to an error of its own.
        return StoreError(error.message)
    if not isinstance(error, sqlite3.Error):
        return error
    text = str(error)
    if name := getattr(error, "sqlite_errorname", None):
        text += f" ({name})"
    if is_busy(error):
        text = f"another process held its lock for {LOCK_TIMEOUT:g} seconds"
    failure = StoreError(f"{path}: {text}")
    # Its frames hold what was to be written.
    failure.__cause__ = error.with_traceback(None)
    return failure


def is_busy(error: sqlite3.Error) -> bool:
    """
    Tell whether another process holds the lock.
    """
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == _BUSY


class DatabaseThread:
    """
    Runs calls in one thread; those that wait at the same time are committed
    together.

    A thread switch and a commit cost more than a row, and both are paid once
    for each group. A plain queue hands the groups over, since an executor
    would cost as much as ten rows.

    While the process forks, the connection is closed, and the thread opens it
    again for the next call.

    Args:
        path: The name of the file, for messages.

    Attributes:
        loop: The event loop of the callers.
        pid: The id of the process.

    Raises:
        StoreError: If the system has no thread left.
    """

    def __init__(self, path: str) -> None:
        self.loop: Final = asyncio.get_running_loop()
        self.pid: Final = os.getpid()
        self._path = path
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._group = _Group()
        self._is_scheduled = False
        self._had_many = False
        # Resolved when no group is scheduled any more.
        self._idle: asyncio.Future[None] | None = None
        # A store that nobody closes does not keep the interpreter alive.
        self._thread = threading.Thread(
            target=_run_jobs, args=(self._queue,), name="store", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError as exc:
            raise StoreError(f"{path}: {exc}") from None
        _forks.add(self)

    def use(
        self,
        connection: sqlite3.Connection,
        *,
        reconnect: Callable[[], sqlite3.Connection],
        add: Callable[[Sequence[Any]], None],
        check: Callable[[], None],
    ) -> None:
        """
        Use a connection, which the thread itself made.

        Args:
            connection: The connection.
            reconnect: The function that makes another one after a fork.
            add: The function that adds rows within a transaction.
            check: The function that raises an error if the file is not the
                one that was opened.
        """
        self._connection = connection
        self._reconnect = reconnect
        self._add = add
        self._check = check

    def add(self, rows: Iterable[Any]) -> asyncio.Future[None]:
        """
        Add rows with the next group, and return the future of its commit.

        Its error is a `StoreError` if the group cannot be written.
        """
        future: asyncio.Future[None] = self.loop.create_future()
        group = self._group
        group.rows += rows
        group.adds.append(future)
        if not self._is_scheduled:
            self._schedule()
        return future

    async def run(self, work: Callable[[], T], *, writes: bool = True) -> T:
        """
        Run *work* in a transaction, and wait for its commit.

        Args:
            work: The function.
            writes: Whether it needs the lock for writing.

        Raises:
            StoreError: If the file cannot be read or written.
        """
        future: asyncio.Future[T] = self.loop.create_future()
        self._call(work, future, writes=writes)
        return await future

    def run_unawaited(self, work: Callable[[], object]) -> None:
        """
        Run *work* after the calls before it; nobody gets its outcome.
        """
        future: asyncio.Future[Any] = self.loop.create_future()
        future.cancel()
        self._call(work, future, writes=True)

    async def run_alone(self, work: Callable[[], T]) -> T:
        """
        Run *work* outside of transactions, even if the caller is cancelled.

        Raises:
            StoreError: If SQLite fails.
        """

        def run() -> T:
            self._connect()
            return work()

        return await self.call(run)

    async def call(self, work: Callable[[], T]) -> T:
        """
        Run *work* without a connection, even if the caller is cancelled.

        Raises:
            StoreError: If SQLite fails.
        """
        result: Future[T] = Future()

        def run() -> None:
            try:
                result.set_result(work())
            except BaseException as exc:  # noqa: BLE001 - the caller raises it
                result.set_exception(exc)

        self._queue.put(run)
        try:
            return await finish(asyncio.wrap_future(result))
        except sqlite3.Error as exc:
            error = as_store_error(self._path, exc)
        raise error

    async def close(self) -> None:
        """Finish what waits, close the connection, and end the thread."""
        try:
            while self._is_scheduled and not self.loop.is_closed():
                if self._idle is None:
                    self._idle = self.loop.create_future()
                await finish(self._idle)
        finally:
            await self.end()

    async def end(self) -> None:
        """Close the connection, if there is one, and end the thread."""
        try:
            await self.call(self._disconnect)
        finally:
            _forks.discard(self)
            self._queue.put(None)
            self._thread.join()

    def suspend(self, resumed: threading.Event) -> threading.Event:
        """
        Close the connection after the calls before, and do nothing more.

        Args:
            resumed: Ends the suspension.

        Returns:
            An event that is set when the connection is closed.
        """
        is_closed = threading.Event()

        def wait() -> None:
            with suppress(sqlite3.Error):
                self._disconnect()
            is_closed.set()
            resumed.wait()

        self._queue.put(wait)
        return is_closed

    def _connect(self) -> sqlite3.Connection:
        """Return the connection, and open it again after a fork."""
        if self._connection is None:
            self._connection = self._reconnect()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _call(
        self,
        work: Callable[[], Any],
        future: asyncio.Future[Any],
        *,
        writes: bool,
    ) -> None:
        self._group.calls.append(_Call(work, future, writes))
        if not self._is_scheduled:
            self._schedule()

    def _schedule(self) -> None:
        # The calls of this round of the event loop go together. In a batch,
        # a larger group costs less than its latency.
        self._is_scheduled = True
        if self._had_many:
            self.loop.call_later(_PAUSE, self._start)
        else:
            self.loop.call_soon(self._start)

    def _start(self) -> None:
        group, self._group = self._group, _Group()
        self._had_many = len(group.adds) >= _MANY

        def run() -> None:
            group.run(self._connect, self._add, self._check)
            # The loop may have been closed meanwhile.
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._finish, group)

        self._queue.put(run)

    def _finish(self, group: _Group) -> None:
        self._is_scheduled = False
        group.resolve(self._path)
        if self._group.adds or self._group.calls:
            self._schedule()
        elif self._idle is not None:
            idle, self._idle = self._idle, None
            idle.set_result(None)


def _run_jobs(queue: "SimpleQueue[Callable[[], object] | None]") -> None:
    while (job := queue.get()) is not None:
        job()
        # It holds what was written until the next one comes.
        del job


class _Forks:
    """
    Closes the connections of this process while it forks.

    A child inherits what SQLite knows of the locks of its parent, although
    the locks themselves are not inherited. It would wait for ever for a
    transaction of the parent, or write to a file that the parent, as the last
    one that it knows of, removes when it closes.
    """

    def __init__(self) -> None:
        self._threads: weakref.WeakSet[DatabaseThread] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._resumed = threading.Event()

    def add(self, thread: DatabaseThread) -> None:
        """Note a thread that runs."""
        with self._lock:
            self._threads.add(thread)

    def discard(self, thread: DatabaseThread) -> None:
        """Forget a thread that is about to end."""
        with self._lock:
            self._threads.discard(thread)

    def before(self) -> None:
        """Suspend all threads, and wait until they have finished."""
        self._lock.acquire()
        self._resumed = threading.Event()
        closing = [each.suspend(self._resumed) for each in self._threads]
        for is_closed in closing:
            is_closed.wait()

    def after_in_parent(self) -> None:
        """Let the threads go on."""
        self._resumed.set()
        self._lock.release()

    def after_in_child(self) -> None:
        """Forget the threads, which only the parent has."""
        self._threads.clear()
        # C code may fork without a call of `before`.
        self._lock = threading.Lock()


_forks: Final = _Forks()
if hasattr(os, "register_at_fork"):  # there is none on Windows
    os.register_at_fork(
        before=_forks.before,
        after_in_parent=_forks.after_in_parent,
        after_in_child=_forks.after_in_child,
    )
