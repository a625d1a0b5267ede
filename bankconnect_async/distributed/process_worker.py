"""
A worker process of a batch on several processes of one machine.

    python -m bankconnect_async.distributed.process_worker NUMBER

Its standard input is a socket, over which the parent sends rows; NUMBER is
the file descriptor of another one, for the records. When the parent is gone,
it cancels what is in flight and ends.
"""

import asyncio
import logging
import math
import os
import signal
import socket
import sys
import threading

from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self

from bankconnect_async._codec.request_digests import request_digest
from bankconnect_async._signals import END_SIGNALS
from bankconnect_async.batch.outcomes import Created, Item, Outcome
from bankconnect_async.errors import (
    BankConnectError,
    BatchStoppedError,
    ConfigurationError,
)
from bankconnect_async.journal.records import encode_record
from bankconnect_async.models.sessions import SessionRequest

from .frames import (
    Done,
    FrameDecoder,
    FrameLink,
    Job,
    Records,
    Work,
    encode_frame,
    frame_size,
)
from .messages import Directive, Rows, unpack
from .runner import BatchRunner, WorkerClient


_log = logging.getLogger("bankconnect_async")

# Seconds between two looks at whether the parent lives. Its end of the socket
# may be open in another process that it forked.
_PARENT_POLL: Final = 1.0
# Seconds to close connections and a store once the parent is gone.
_CLOSE_TIMEOUT: Final = 20.0


class ReceivedRows:
    """
    The rows that came and were not taken yet.
    """

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._is_complete = False
        self._changed = asyncio.Event()

    def put(self, rows: Rows, *, is_last: bool) -> None:
        """Add rows."""
        self._items.extend(item for _, item in rows)
        self._is_complete = is_last
        self._changed.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        while not self._items:
            if self._is_complete:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()


class ParentLink(FrameLink):
    """
    The connection to the parent.

    Attributes:
        rows: The rows that came.
        lines: The line of each row without an outcome, by its number.
        runner: The runner that follows the directives.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: ReceivedRows = ReceivedRows()
        self.lines: dict[int, int] = {}
        self.runner: ProcessRunner | None = None
        self._count = 0
        self._records: list[bytes] = []
        self._numbers: list[int] = []
        self._failures: Counter[str] = Counter()
        # The number of frames of records that were sent, and are written.
        self._sent = self._written = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._is_released = False

    def watch(self, parent: int) -> None:
        """
        Close when another process becomes the parent of this one.

        Args:
            parent: The id of the parent.
        """
        if os.getppid() != parent:
            self.connection_lost(None)
        else:
            self._loop.call_later(_PARENT_POLL, self.watch, parent)

    def data_received(self, data: bytes) -> None:
        """Handle the frames of the parent."""
        try:
            for message in self._decoder.feed(data):
                if isinstance(message, Work):
                    self._take(message)
                elif self.runner is not None:
                    self.send(self.runner.follow(message))
        except (ImportError, AttributeError) as exc:
            # A class of the parent's program.
            self.send(
                Done(
                    ConfigurationError(
                        f"a worker process cannot read a row: {exc}"
                    )
                )
            )
            self.connection_lost(exc)

    def _take(self, work: Work) -> None:
        self._written = work.written
        self._wake(work.written)
        for line, _ in work.rows:
            self.lines[self._count] = line
            self._count += 1
        self.rows.put(work.rows, is_last=work.is_last)

    def add(self, number: int, error: str | None, record: bytes) -> None:
        """
        Send the record of a row, with all others of this turn of the loop.

        Args:
            number: The number of the row.
            error: The name of its error, if it failed.
            record: The line for the journal.
        """
        if not self._records:
            self._loop.call_soon(self.flush)
        self._records.append(record)
        self._numbers.append(number)
        if error is not None:
            self._failures[error] += 1

    def flush(self) -> None:
        """Send all records."""
        if not self._records:
            return
        self._sent += 1
        abort_cause = None if self.runner is None else self.runner.abort_cause
        self.send(
            Records(
                self._numbers,
                dict(self._failures),
                b"".join(self._records),
                abort_cause,
            )
        )
        self._records, self._numbers = [], []
        self._failures.clear()

    async def written(self) -> None:
        """Wait until the parent has written all records."""
        frame = self._sent + bool(self._records)
        if frame > self._written and not self._is_released:
            future = self._loop.create_future()
            self._waiting.append((frame, future))
            await future

    def _wake(self, frame: float) -> None:
        while self._waiting and self._waiting[0][0] <= frame:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)

    def release(self) -> None:
        """Wait for the parent no longer, as nothing more is sent."""
        self._is_released = True
        self._wake(math.inf)

    async def finish(self, error: BankConnectError | None) -> None:
        """Send all records and the last frame, and close."""
        self.flush()
        self.send(Done(error))
        await self._writer.close()
        super().abort()


class RecordSink:
    """
    Encodes outcomes as lines of the parent's journal.

    A worker takes its next row when the parent has written the record of the
    last one, as with a journal of its own.

    Attributes:
        is_resumable: False: a record is not durable when it is made.
        unrecorded: 0.
    """

    is_resumable: bool = False
    unrecorded: int = 0

    def __init__(self, link: ParentLink, api: str) -> None:
        self._link = link
        self._api = api
        self._digested: SessionRequest | None = None
        self._digest = ""
        self._digests: dict[int, str] = {}

    @asynccontextmanager
    async def opened_for(
        self, _api: str, /, **_options: object
    ) -> AsyncIterator[None]:
        """Do nothing: the parent has opened its journal."""
        yield

    def begin(
        self, index: int, request: SessionRequest, /, **_options: object
    ) -> bool:
        """Remember the digest of a request; the parent has checked it."""
        # Bare link ids share a request.
        if request is not self._digested:
            self._digested, self._digest = request, request_digest(request)
        self._digests[index] = self._digest
        return True

    def record_all(self, outcomes: Sequence[Outcome], /) -> None:
        """Send outcomes."""
        for outcome in outcomes:
            self._send(outcome)

    def _send(self, outcome: Outcome) -> None:
        digest = self._digests.pop(outcome.index, None)
        if digest is None and outcome.request is not None:
            digest = request_digest(outcome.request)
        self._link.add(
            outcome.index,
            None
            if isinstance(outcome, Created)
            else type(outcome.error).__name__,
            encode_record(
                outcome,
                line=self._link.lines.pop(outcome.index),
                api=self._api,
                request=digest,
            ),
        )

    async def drain(self) -> None:
        """Wait until the parent has written all records."""
        await self._link.written()

    def describe_unrecorded(self) -> str:
        """Return an empty text: the parent names them."""
        return ""


class ProcessRunner(BatchRunner):
    """
    Runs one batch over all rows that come from the parent.

    Args:
        job: The batch, and the environment of its client.
        link: The connection to the parent.

    Raises:
        ConfigurationError: If the environment makes no client.
    """

    def __init__(self, job: Job, link: ParentLink) -> None:
        spec = job.spec
        super().__init__(
            spec, WorkerClient.from_env(job.environ, **spec.settings)
        )
        self._link = link
        self._batch = self._bank.create_shard(
            link.rows,
            self._options(RecordSink(link, self.api)),
            self._queue,
            scope=spec.scope,
        )
        self._task: asyncio.Task[Any] | None = None

    @property
    def abort_cause(self) -> BankConnectError | None:
        """The error after which nothing more is sent, if any."""
        return self._queue.abort_cause

    def follow(self, directive: Directive) -> object:
        """Follow a directive, and return a heartbeat."""
        is_aborting = self._follow(directive)
        if directive.drain:
            self._drain()
        if is_aborting:
            self.cancel()
        return self._describe({0: self._batch}, {})

    def cancel(self) -> None:
        """Cancel what is in flight."""
        self._drain()
        if self._task is not None:
            self._task.cancel()

    def _drain(self) -> None:
        # Nobody who waited for the parent takes one more row.
        self._batch.drain()
        self._link.release()

    async def run(self) -> BankConnectError | None:
        """Create the sessions, and return the error that ended them."""
        self._task = asyncio.create_task(self._batch.run())
        await asyncio.wait([self._task])
        error = None if self._task.cancelled() else self._task.exception()
        try:
            # A store may have to write what it still holds.
            await self._bank.aclose()
        except BankConnectError as exc:
            error = error or exc
        if error is None or isinstance(error, BankConnectError):
            return error
        _log.error("a worker process failed", exc_info=error)
        return BatchStoppedError(
            f"a worker process failed: {type(error).__name__}"
        )


def main() -> None:
    """Serve the parent until there is nothing more to do."""
    parent = os.getppid()
    for each in END_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    if sys.platform != "win32":
        # The parent blocked them, so that none comes before this.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, END_SIGNALS)
    with (
        socket.socket(fileno=os.dup(0)) as rows,
        socket.socket(fileno=int(sys.argv[1])) as records,
    ):
        # Nothing else is to read from it.
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        serve(rows, records, parent)


def serve(rows: socket.socket, records: socket.socket, parent: int) -> None:
    """
    Serve a parent until there is nothing more to do.

    Args:
        rows: The socket of what comes.
        records: The socket of what is sent.
        parent: The id of the parent.
    """
    job = _receive(rows, records)
    if job is None:
        return
    # A thread that looks up a name, for instance, cannot be cancelled.
    last_resort = threading.Timer(_CLOSE_TIMEOUT, os._exit, [1])
    last_resort.daemon = True
    work = _serve(rows, records, job, parent, last_resort)
    try:
        with asyncio.Runner(loop_factory=job.loop) as runner:
            del job
            runner.run(work)
    finally:
        last_resort.cancel()


def _receive(rows: socket.socket, records: socket.socket) -> Job | None:
    head = _read(rows, FrameDecoder.head)
    if head is None:
        return None
    raw = _read(rows, frame_size(head))
    try:
        job: Job | None = None if raw is None else unpack(raw)
    except (ImportError, AttributeError) as exc:
        # A function of the parent's program.
        error = ConfigurationError(
            f"a worker process cannot read the settings: {exc}"
        )
        records.sendall(encode_frame(Done(error)))
        return None
    return job


def _read(connection: socket.socket, size: int) -> bytes | None:
    # No more than that: the event loop reads the rest.
    raw = b""
    while len(raw) < size:
        more = connection.recv(size - len(raw))
        if not more:
            return None
        raw += more
    return raw


async def _serve(
    rows: socket.socket,
    records: socket.socket,
    job: Job,
    parent: int,
    last_resort: threading.Timer,
) -> None:
    link = ParentLink()
    try:
        link.runner = runner = ProcessRunner(job, link)
    except BankConnectError as error:
        await link.attach(rows, records)
        await link.finish(error)
        return
    del job
    work = asyncio.create_task(runner.run())
    await link.attach(rows, records)
    link.watch(parent)
    either: list[asyncio.Future[Any]] = [work, link.closed]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        await link.finish(work.result())
        return
    # Nobody can record an outcome any more.
    last_resort.start()
    link.abort()
    runner.cancel()
    await work


if __name__ == "__main__":
    main()
