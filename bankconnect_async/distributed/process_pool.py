"""
The worker processes of a batch on one machine, as their parent knows them.
"""

import asyncio
import os
import socket
import subprocess
import sys

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, Self

import attrs

from bankconnect_async._signals import END_SIGNALS, signals_blocked
from bankconnect_async._threads import finish_in_thread, run_in_thread
from bankconnect_async.batch.outcomes import Item
from bankconnect_async.environment import PROXY_EXCEPTIONS, PROXY_VARIABLES
from bankconnect_async.errors import BankConnectError, ConfigurationError

from .frames import (
    Done,
    FrameLink,
    Job,
    Records,
    Work,
)
from .messages import Directive, Heartbeat, Rows
from .monitor import TIMEOUT, reporting_to


_PROGRAM: Final = "bankconnect_async.distributed.process_worker"
_PROXIES: Final = frozenset((*PROXY_VARIABLES, *PROXY_EXCEPTIONS))
# Seconds to wait for a heartbeat.
_HEARTBEAT_TIMEOUT: Final = 10.0
# Seconds for a process to end when it has nothing to do any more.
_END_TIMEOUT: Final = 20.0
# Seconds for a process to end when its connection is closed.
_EXIT_TIMEOUT: Final = 1.0


@attrs.frozen(kw_only=True)
class WorkerCallbacks:
    """
    The callbacks for what comes from worker processes.

    Attributes:
        on_records: Called with records to write.
        on_end: Called when a process has ended its work, with the error that
            ended it early.
        on_loss: Called when a process is gone.
        on_error: Called with what these raise.
    """

    on_records: Callable[["WorkerProcess", Records], None]
    on_end: Callable[[BankConnectError | None], None]
    on_loss: Callable[["WorkerProcess"], None]
    on_error: Callable[[Exception], None]


class WorkerProcess(FrameLink):
    """
    One worker process.

    Args:
        process: The process.
        concurrency: The most requests that it has in flight.
        callbacks: The callbacks for its messages.

    Attributes:
        address: The name of the process.
        rows: The rows that it got and that have no outcome, by their number.
        silence: The polls of members since its last message.
        is_done: Whether it has ended its work.
    """

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        concurrency: int,
        callbacks: WorkerCallbacks,
    ) -> None:
        self.process: Final = process
        self.concurrency: Final = concurrency
        self.address: Final = f"process {process.pid}"
        self.rows: dict[int, tuple[int, Item]] = {}
        self.silence: int = 0
        self.is_done: bool = False
        super().__init__()
        self._callbacks = callbacks
        self._heartbeats: deque[asyncio.Future[Heartbeat | None]] = deque()
        self._count = 0
        self._written = 0
        self._waiting: Rows = []
        self._is_last = self._is_due = False

    @property
    def is_gone(self) -> bool:
        """Whether its connection is closed."""
        return self.closed.done()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that the process is gone."""
        super().connection_lost(exc)
        for future in self._heartbeats:
            _resolve(future, None)
        with reporting_to(self._callbacks.on_error):
            self._callbacks.on_loss(self)

    def data_received(self, data: bytes) -> None:
        """Pass the messages of the process on."""
        self.silence = 0
        for message in self._decoder.feed(data):
            # An error with one message must not lose the others.
            with reporting_to(self._callbacks.on_error):
                self._handle(message)

    def _handle(self, message: Records | Done | Heartbeat) -> None:
        if isinstance(message, Records):
            self._callbacks.on_records(self, message)
        elif isinstance(message, Done):
            self.is_done = True
            self._callbacks.on_end(message.error)
        elif self._heartbeats:
            _resolve(self._heartbeats.popleft(), message)

    def put(self, row: tuple[int, Item]) -> None:
        """Send a row, with all others of this turn of the loop."""
        self.rows[self._count] = row
        self._count += 1
        self._waiting.append(row)
        self._schedule()

    def confirm(self) -> None:
        """Let the process know that its next records are written."""
        self._written += 1
        self._schedule()

    def end(self) -> None:
        """Send the process no more rows."""
        self._is_last = True
        self._schedule()

    async def send_directive(self, directive: Directive) -> Heartbeat | None:
        """Send a directive, and return the heartbeat that answers it."""
        if self.is_gone or self.is_done:
            return None
        future = self._loop.create_future()
        self._heartbeats.append(future)
        self.send(directive)
        with suppress(TimeoutError):
            async with asyncio.timeout(_HEARTBEAT_TIMEOUT):
                answer: Heartbeat | None = await future
                return answer
        return None

    def _schedule(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_due = False
        rows, self._waiting = self._waiting, []
        # A row of the user may hold what cannot be pickled.
        with reporting_to(self._callbacks.on_error):
            self.send(Work(self._written, rows, self._is_last))


@attrs.frozen
class Sockets:
    """
    One side of the connection to a process: a socket for each direction.

    Attributes:
        rows: The socket of what the process gets.
        records: The socket of what it sends.
    """

    rows: socket.socket
    records: socket.socket

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return both sides of a new connection."""
        rows = socket.socketpair()
        try:
            records = socket.socketpair()
        except OSError:
            for each in rows:
                each.close()
            raise
        return cls(rows[0], records[0]), cls(rows[1], records[1])

    def close(self) -> None:
        """Close both."""
        self.rows.close()
        self.records.close()


class ProcessPool:
    """
    Starts worker processes, and ends them.

    Args:
        job: The batch, and the environment of the clients.
        callbacks: The callbacks for their messages.

    Attributes:
        workers: The processes that are not gone, by their address.
    """

    def __init__(self, job: Job, callbacks: WorkerCallbacks) -> None:
        self.workers: dict[str, WorkerProcess] = {}
        self._job = job
        self._callbacks = callbacks
        self._environ = _environ_without_secrets()
        # Those that nobody has waited for yet.
        self._started: dict[subprocess.Popen[bytes], Sockets] = {}

    async def start(self, concurrency: int) -> None:
        """
        Start one process.

        Args:
            concurrency: The most requests that it has in flight.

        Raises:
            OSError: If it cannot be started.
        """
        process = await run_in_thread(self._spawn)
        worker = WorkerProcess(process, concurrency, self._callbacks)
        self.workers[worker.address] = worker
        ours = self._started[process]
        await worker.attach(ours.records, ours.rows)
        spec = attrs.evolve(self._job.spec, concurrency=concurrency)
        worker.send(attrs.evolve(self._job, spec=spec))

    def _spawn(self) -> "subprocess.Popen[bytes]":
        ours, theirs = Sockets.pair()
        try:
            # A signal before the process ignores it would end it.
            with closing(theirs), signals_blocked(END_SIGNALS):
                number = theirs.records.fileno()
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", _PROGRAM, str(number)],
                    stdin=theirs.rows.fileno(),
                    stdout=subprocess.DEVNULL,
                    pass_fds=[number],
                    env=self._environ,
                )
        except BaseException:
            ours.close()
            raise
        self._started[process] = ours
        return process

    async def members(self) -> set[str]:
        """
        Return the names of the processes, and kill those that do not answer.

        It is called once a second. Only its calls count, because this process
        may have been stopped along with the others.
        """
        for worker in self.workers.values():
            worker.silence += 1
            if worker.silence > TIMEOUT:
                worker.process.kill()
        return self.addresses()

    def addresses(self) -> set[str]:
        """Return the names of the processes that have not ended."""
        return {
            address
            for address, worker in self.workers.items()
            if not worker.is_done
        }

    async def send_heartbeat(
        self, address: str, directive: Directive
    ) -> Heartbeat | None:
        """Send a directive to a process, and return its heartbeat."""
        worker = self.workers.get(address)
        return (
            None if worker is None else await worker.send_directive(directive)
        )

    async def disconnect(self, _workers: Iterable[str]) -> None:
        """End all processes, which have nothing to do any more."""
        for worker in self.workers.values():
            worker.end()
        ends = [worker.closed for worker in self.workers.values()]
        if ends:
            await asyncio.wait(ends, timeout=_END_TIMEOUT)

    async def remove(self, worker: WorkerProcess) -> int:
        """Wait until a process has ended, and return its exit code."""
        self.workers.pop(worker.address, None)
        worker.abort()
        await finish_in_thread(self._end, worker.process)
        return worker.process.returncode

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        # One that ends by itself has a code that tells why.
        with suppress(subprocess.TimeoutExpired):
            process.wait(_EXIT_TIMEOUT)
        process.kill()
        self._reap([process])

    async def close(self) -> None:
        """Kill all processes that are left."""
        for worker in self.workers.values():
            worker.abort()
        self.workers.clear()
        processes = list(self._started)
        for process in processes:
            process.kill()
        await finish_in_thread(self._reap, processes)

    def _reap(self, processes: "list[subprocess.Popen[bytes]]") -> None:
        for process in processes:
            process.wait()
            self._started.pop(process).close()


def is_setting(name: str) -> bool:
    """
    Tell whether clients read a variable of the environment.

    Its value may be a secret, so workers get it over their private socket.
    """
    return name.startswith("BANKCONNECT_") or name in _PROXIES


def check_platform() -> None:
    """
    Check that worker processes can be started.

    Raises:
        ConfigurationError: If they cannot.
    """
    problem = None
    if sys.platform == "win32":
        problem = "is not available on Windows: use --dask or --shard"
    elif not sys.executable or getattr(sys, "frozen", False):
        problem = "needs a Python interpreter, and this program is frozen"
    if problem is not None:
        raise ConfigurationError(fields={"processes": (problem,)})


def _resolve(
    future: "asyncio.Future[Heartbeat | None]", answer: Heartbeat | None
) -> None:
    if not future.done():
        future.set_result(answer)


def _environ_without_secrets() -> dict[str, str]:
    # Other programs of the user can read the environment of a process, which
    # is the one that it was started with.
    path = os.pathsep.join(each or str(Path.cwd()) for each in sys.path)
    return {
        name: value
        for name, value in os.environ.items()
        if not is_setting(name)
    } | {"PYTHONPATH": path}
