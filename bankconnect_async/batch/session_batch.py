"""
Batches: bounded in flight, constant in memory, one outcome per input.
"""

import abc
import asyncio
import contextvars

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

import attrs

from bankconnect_async._hooks import HookRunner, was_cancelled
from bankconnect_async._http.semaphore import FifoSemaphore
from bankconnect_async.clock import Clock
from bankconnect_async.errors import (
    UNCERTAIN,
    AuthenticationError,
    BankConnectError,
    ClientClosedError,
    ConfigurationError,
    Delivery,
    InvalidRequestError,
    JournalError,
    PaymentRequiredError,
    ProxyAuthenticationError,
    StoreError,
    TransportError,
)
from bankconnect_async.models.sessions import Session, SessionRequest
from bankconnect_async.retry import RetryPolicy
from bankconnect_async.stats import BatchStats

from .item_source import AsyncItemSource, ItemSource, make_item_source
from .outcomes import (
    Created,
    Failed,
    Item,
    Outcome,
    batch_stopped_error,
    failed_outcome,
)
from .protocols import Indexed, ItemSender
from .result_buffer import OrderedResultBuffer, ResultBuffer
from .store_sink import make_sink
from .throttle import BatchThrottle, SendQueue, WorkerSlots


if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable

    from bankconnect_async._resources.stored_sessions import StoredSessions
    from bankconnect_async.models.sessions import SessionResponse
    from bankconnect_async.store import SessionStore

    from .protocols import Capacity, ResultSink


ItemT = TypeVar("ItemT")
RequestT = TypeVar("RequestT")
OutcomeT = TypeVar("OutcomeT", bound=Indexed)

# Errors that every other item would meet, too: they abort the batch.
ABORTING: Final = (
    AuthenticationError,
    ClientClosedError,
    PaymentRequiredError,
    ProxyAuthenticationError,
)
# A worker lets the others run after it skipped that many items.
_SKIPPED_AT_ONCE: Final = 32
# Seconds over which the current rate is measured.
_RATE_WINDOW: Final = 5.0


@attrs.frozen(kw_only=True)
class BatchOptions:
    """
    The options of a batch.

    Attributes:
        api: The name of the API, for the journal.
        concurrency: The largest number of requests in flight.
        rate: The largest number of requests per second; `None` for no limit.
        ordered: Whether outcomes come in the order of the source.
        retry: The retry policy of each item.
        clock: The clock.
        journal: The sink that records every outcome.

    Raises:
        ConfigurationError: If a number is not above 0.
    """

    api: str
    concurrency: int
    rate: float | None = None
    ordered: bool = False
    retry: RetryPolicy
    clock: Clock
    journal: "ResultSink[Any, Any] | None" = None

    def __attrs_post_init__(self) -> None:
        check_number("concurrency", self.concurrency, int)
        if self.rate is not None:
            check_number("rate", self.rate, (int, float))


class Batch(abc.ABC, Generic[ItemT, RequestT, OutcomeT]):
    """
    Sends a request for each item of a source, and yields the outcomes.

    Args:
        sender: The sender of the requests.
        source: The items.
        options: The options.
        capacity: The connections.
        send_queue: The queue of requests, if others send from it, too.
    """

    #: The method of the client that makes such a batch.
    _method: str
    #: What to add to the message of a request that may have been processed.
    _doubt: str = ""
    _throttle_class: type[BatchThrottle] = BatchThrottle

    def __init__(
        self,
        sender: ItemSender[ItemT, RequestT],
        source: "Iterable[ItemT] | AsyncIterable[ItemT]",
        options: BatchOptions,
        *,
        capacity: "Capacity",
        send_queue: SendQueue | None = None,
    ) -> None:
        self._sender = sender
        self._complete = sender.complete
        self._options = options
        self._capacity = capacity
        self._concurrency = options.concurrency
        self._clock = options.clock
        self._journal = options.journal
        self._send_queue = send_queue or SendQueue(
            options.clock,
            rate=options.rate,
            rng=options.retry.rng,
            max_pause=options.retry.deadline,
        )
        self._hooks = HookRunner()
        self._resources = AsyncExitStack()
        # Room for what is in flight and as much again that waits for the
        # consumer: a slow consumer holds the workers back.
        self._room = FifoSemaphore(2 * self._concurrency)
        self._slots = WorkerSlots(
            self._concurrency, self._room, self._replace_worker
        )
        self._source: ItemSource[ItemT] = make_item_source(source, self._room)
        self._get_nowait = self._source.get_nowait
        self._get = self._source.get
        self._results: ResultBuffer[OutcomeT] = (
            OrderedResultBuffer() if options.ordered else ResultBuffer()
        )
        self._waiters: list[asyncio.Future[None]] = []
        self._group = asyncio.TaskGroup()
        self._context = contextvars.Context()
        # In the order in which they began.
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._working = 0
        self._is_leaving = False
        self._sending: set[int] = set()
        self._draining = False
        # The error that ended the batch, until it was raised.
        self._unraised: Exception | None = None
        self._is_grouping = False
        # Outcomes of this turn of the event loop, not yet recorded.
        self._grouped: list[OutcomeT] = []
        self._counts = _Counts()
        self._started: float | None = None

    @abc.abstractmethod
    def _make_success(
        self,
        index: int,
        item: ItemT,
        request: RequestT,
        result: Any,
        seconds: float,
        /,
    ) -> OutcomeT:
        """Return the outcome of an item whose request succeeded."""

    @abc.abstractmethod
    def _make_failure(
        self,
        index: int,
        item: ItemT,
        request: RequestT | None,
        error: BankConnectError,
        /,
    ) -> OutcomeT:
        """Return the outcome of an item whose request failed."""

    @property
    def unreported(self) -> list[ItemT]:
        """
        Items that were taken from the source and whose outcome was not seen.

        After an early exit `may_have_sent` tells which requests may have
        been sent.
        """
        return list(self._source.outstanding.values())

    @property
    def abort_cause(self) -> BankConnectError | None:
        """The error after which the batch sent nothing more, if any."""
        return self._send_queue.abort_cause

    def stats(self) -> BatchStats:
        """
        Return what the batch did so far, and does now.
        """
        counts, rate = self._counts, self._send_queue.adaptive_rate
        now = self._clock.monotonic()
        started = now if self._started is None else self._started
        recent = max(min(now - started, _RATE_WINDOW), 1.0)
        return BatchStats(
            taken=self._source.count,
            created=counts.created,
            failures=dict(counts.failures),
            skipped=counts.skipped,
            in_flight=counts.in_flight,
            retries=self._send_queue.retries,
            seconds=now - started,
            rate=rate.served.since(now - recent) / recent,
            limit=self._send_queue.rate_limit(),
            pause=max(rate.pause(now), self._send_queue.breaker.wait(now)),
            is_probing=not self._send_queue.breaker.is_closed,
        )

    async def run(self) -> BatchStats:
        """
        Run the batch to its end, and return its statistics.

        The outcomes go to the journal alone. A batch that was not entered is
        entered and left.

        Raises:
            JournalError: If the journal cannot be written, as all errors that
                iterating raises.
        """
        if self._started is None:
            async with self:
                return await self.run()
        async for _ in self:
            # The journal has the outcome.
            pass
        return self.stats()

    def drain(self) -> None:
        """
        Take nothing more, and let what was sent come to its end.

        The outcomes end when those in flight are settled. Items that were
        taken ahead and not sent have no outcome: they stay in `unreported`.
        """
        if self._draining:
            return
        self._draining = True
        self._source.close()
        self._send_queue.drain()
        # Nothing more is taken, so no worker has to wait for room.
        self._room.grow(self._room.size + self._concurrency)

    def may_have_sent(self, index: int) -> bool:
        """
        Tell whether an unreported item's request may have left.

        Args:
            index: The position of the item in the source, from 0.
        """
        return index in self._sending

    async def __aenter__(self) -> Self:
        if self._started is not None:
            raise RuntimeError("a batch can be entered only once")
        await self._capacity.open()
        async with AsyncExitStack() as resources:
            if self._journal is not None:
                await resources.enter_async_context(
                    self._journal.opened_for(
                        self._options.api, concurrency=self._concurrency
                    )
                )
                self._is_grouping = self._journal.is_resumable
                if not self._is_grouping:
                    # A record is written before its worker takes the next.
                    self._get_nowait = _get_nothing
                    self._get = partial(
                        self._get_when_written, self._journal.drain
                    )
            # The client may have been closed meanwhile.
            self._capacity.reserve(
                self._concurrency, self._send_queue.rate_limit
            )
            self._resources = resources.pop_all()
        self._context = contextvars.copy_context()
        await self._group.__aenter__()
        self._started = self._clock.monotonic()
        for _ in range(self._concurrency):
            self._start_worker()
        if isinstance(self._source, AsyncItemSource):
            self._start(self._source.run())
        return self

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        # A worker that replaces another is no part of the other's call.
        task = self._group.create_task(work, context=self._context.copy())
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    def _start_worker(self) -> None:
        self._working += 1
        self._start(self._work())

    def _replace_worker(self) -> None:
        if not (self._draining or self._is_leaving) and (
            self._working < self._concurrency + self._slots.lent
        ):
            self._start_worker()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_leaving = True
        for task in list(self._tasks):
            task.cancel()
        self._capacity.release(self._concurrency, self._send_queue.rate_limit)
        # A group wraps what its body raised; the caller's own error should
        # reach the caller as it is.
        if not isinstance(exc, asyncio.CancelledError):
            exc_type = exc = traceback = None
        async with self._resources:
            await self._group.__aexit__(exc_type, exc, traceback)
            if exc is None and self._unraised is not None:
                # The loop over the outcomes was left before it was raised.
                raise self._with_unrecorded(self._unraised)

    def __aiter__(self) -> AsyncIterator[OutcomeT]:
        if self._started is None:
            raise RuntimeError(
                f"use async with: `async with bank.{self._method}(...) as "
                f"outcomes`, then iterate over outcomes"
            )
        return self

    async def __anext__(self) -> OutcomeT:
        while not self._results:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        outcome = self._results.popleft()
        if outcome is None:
            # For whoever asks again.
            self._results.close()
            error, self._unraised = self._unraised, None
            if error is not None:
                raise self._with_unrecorded(error)
            if self._source.error is not None:
                raise self._source.error
            raise StopAsyncIteration
        del self._source.outstanding[outcome.index]
        self._sending.discard(outcome.index)
        self._room.release()
        return outcome

    async def _work(self) -> None:
        try:
            await self._process_items()
        except asyncio.CancelledError:
            # Without its workers a batch would end as if it were complete.
            if not self._is_leaving:
                self._end_with(
                    RuntimeError("a task of the batch was cancelled")
                )
            raise
        finally:
            self._working -= 1
            if not self._working:
                self._results.close()
                self._wake_consumers()

    # One coroutine for all items: one for each would cost 3 % more.
    async def _process_items(self) -> None:
        throttle = self._throttle_class(self._send_queue, self._slots)
        while self._working <= self._concurrency + self._slots.lent and (
            taken := self._get_nowait() or await self._get()
        ):
            index, item = taken
            id_, request = "", None
            try:
                try:
                    id_, request = self._sender.prepare(item)
                    if self._journal is not None and not self._is_due(
                        self._journal, index, id_, request
                    ):
                        if not self._counts.skipped % _SKIPPED_AT_ONCE:
                            # Many must not hold up what is in flight.
                            await asyncio.sleep(0)
                        continue
                    if (
                        self._draining
                        or self._send_queue.abort_cause
                        or not (
                            throttle.try_acquire() or await throttle.acquire()
                        )
                    ):
                        self._check_aborted()
                        break
                    self._sending.add(index)
                    self._counts.in_flight += 1
                    try:
                        result = await self._sender.send(
                            id_, request, self._options.retry, throttle
                        )
                    finally:
                        self._counts.in_flight -= 1
                    self._note_success(throttle)
                    if self._complete is not None:
                        result = await self._complete(result)
                except BaseException as exc:
                    if not self._fail(index, item, request, exc):
                        raise
                    continue
                seconds = self._clock.monotonic() - throttle.sent_at
                outcome = self._make_success(
                    index, item, request, result, seconds
                )
                self._counts.created += 1
                if self._is_grouping:
                    await self._report_together(outcome)
                else:
                    self._report([outcome])
            finally:
                # Not before its outcome is recorded: an item that waits for
                # the slot sends at once.
                throttle.release()

    async def _report_together(self, outcome: OutcomeT) -> None:
        """
        Report an outcome with those of the same turn of the event loop.

        One write for all takes half the time.
        """
        self._grouped.append(outcome)
        try:
            if self._counts.in_flight:
                await asyncio.sleep(0)
        finally:
            # The first worker that comes here reports for all.
            if self._grouped:
                grouped, self._grouped = self._grouped, []
                self._report(grouped)

    def _note_success(self, throttle: BatchThrottle) -> None:
        try:
            throttle.on_success()
        except Exception as exc:  # noqa: BLE001 - the user's clock
            self._hooks.log("the clock", exc)

    def _fail(
        self,
        index: int,
        item: ItemT,
        request: RequestT | None,
        exc: BaseException,
    ) -> bool:
        ends = _ends_batch(exc)
        error = self._make_error(index, None if ends else exc)
        failed = self._make_failure(index, item, request, error)
        if ends:
            if index in self._sending:
                self._record([failed])
            return False
        if isinstance(error, ABORTING):
            self._send_queue.abort(error)
        elif isinstance(error, StoreError):
            self._end_with(error)
        self._counts.failures[type(error).__name__] += 1
        self._report([failed])
        return True

    def _make_error(
        self, index: int, exc: BaseException | None
    ) -> BankConnectError:
        if isinstance(exc, BankConnectError):
            return exc
        if exc is None:
            return TransportError(
                f"interrupted before a response came{self._doubt}",
                delivery=Delivery.AMBIGUOUS,
            )
        self._hooks.log("a call of the batch", exc)
        name = type(exc).__name__
        if index in self._sending:
            error = TransportError(
                f"{name} was raised after the request was begun{self._doubt}",
                delivery=Delivery.AMBIGUOUS,
            )
        else:
            error = TransportError(
                f"{name} was raised before the request; nothing was sent",
                delivery=Delivery.NOT_SENT,
            )
        error.__cause__ = exc
        return error

    def _report(self, outcomes: list[OutcomeT]) -> None:
        if self._journal is not None:
            self._record(outcomes)
        for outcome in outcomes:
            self._results.append(outcome)
        if self._waiters:
            self._wake_consumers()

    def _wake_consumers(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _record(self, outcomes: list[OutcomeT]) -> None:
        if self._journal is not None:
            try:
                self._journal.record_all(outcomes)
            except BaseException as exc:
                if not self._end_with_journal(exc):
                    raise

    # Not a context manager, which would make two calls for each row.
    def _end_with_journal(self, exc: BaseException) -> bool:
        """
        Report what a journal raised, and return whether to go on.

        A journal can be a subclass of the user's, so it may raise anything.
        An `InvalidRequestError` is about the item and passes.
        """
        if isinstance(exc, InvalidRequestError) or _ends_batch(exc):
            return False
        error = exc
        if not isinstance(error, JournalError):
            error = JournalError(f"the journal raised {type(exc).__name__}")
            error.__cause__ = exc
        self._end_with(error)
        return True

    async def _get_when_written(
        self, drain: Callable[[], Awaitable[None]]
    ) -> tuple[int, ItemT] | None:
        try:
            await drain()
        except BaseException as exc:
            if not self._end_with_journal(exc):
                raise
        return self._source.get_nowait() or await self._source.get()

    def _is_due(
        self,
        journal: "ResultSink[RequestT, OutcomeT]",
        index: int,
        link_id: str,
        request: RequestT,
    ) -> bool:
        self._check_aborted()
        try:
            is_due = journal.begin(index, request, link_id=link_id)
        except BaseException as exc:
            if not self._end_with_journal(exc):
                raise
            return False
        if not is_due:
            self._counts.skipped += 1
            del self._source.outstanding[index]
            self._room.release()
            self._results.skip(index)
            self._wake_consumers()
        return is_due

    def _check_aborted(self) -> None:
        if self._send_queue.abort_cause is not None:
            raise batch_stopped_error(self._send_queue.abort_cause)

    def _end_with(self, error: Exception) -> None:
        # It is raised once what is in flight has come to its end.
        self._source.error = self._source.error or error
        self._unraised = self._unraised or error
        self.drain()

    def _with_unrecorded(self, error: Exception) -> Exception:
        if self._journal is None:
            return error
        return explain_unrecorded(error, self._journal)


class SessionBatch(Batch[Item, SessionRequest, Outcome]):
    """
    The outcomes of `AsyncBankConnect.create_sessions`, as they come.

    It is a context manager, because an abandoned generator would leave its
    tasks behind (PEP 789). Leaving it early cancels what is in flight;
    `drain` ends it gently. `stats` may be called at any time, from the loop
    over the outcomes or from a task beside it.
    """

    _method = "create_sessions"
    _doubt = "; a session may exist"

    def __init__(  # noqa: PLR0913
        self,
        creator: "ItemSender[Item, SessionRequest]",
        source: "Iterable[Item] | AsyncIterable[Item]",
        options: BatchOptions,
        *,
        scope: str = "",
        stored: "StoredSessions | None" = None,
        journal: "ResultSink[Any, Any] | SessionStore | None" = None,
        capacity: "Capacity",
        send_queue: SendQueue | None = None,
    ) -> None:
        if journal is not None and stored is not None:
            sink = make_sink(journal, stored, scope)
            options = attrs.evolve(options, journal=sink)
        super().__init__(
            creator,
            source,
            options,
            capacity=capacity,
            send_queue=send_queue,
        )
        self._scope = scope
        self._stored = stored

    async def __aenter__(self) -> Self:
        if self._stored is not None:
            await self._stored.open()
        return await super().__aenter__()

    def _make_success(
        self,
        index: int,
        item: Item,
        request: SessionRequest,
        result: "Session | tuple[SessionResponse, int]",
        seconds: float,
    ) -> Created:
        link_id = item if isinstance(item, str) else request.link_id
        if isinstance(result, Session):
            session = result
        else:
            answer, attempts = result
            session = Session(
                link_id=link_id,
                redirect_url=answer.redirect_url,
                session_id=answer.session_id,
                attempts=attempts,
            )
            self._remember(
                link_id, request, answer.session_id, answer.redirect_url
            )
        return Created(
            index=index,
            item=item,
            session=session,
            request=request,
            seconds=seconds,
        )

    def _make_failure(
        self,
        index: int,
        item: Item,
        request: SessionRequest | None,
        error: BankConnectError,
    ) -> Failed:
        failed = failed_outcome(index, item, request, error)
        request = failed.request
        if request is not None and error.delivery in UNCERTAIN:
            self._remember(request.link_id, request, None, None)
        return failed

    def _remember(
        self,
        link_id: str,
        request: SessionRequest,
        session_id: str | None,
        url: str | None,
    ) -> None:
        stored = self._stored
        # The creator has written to another store.
        if stored is not None and stored.add_nowait is not None:
            stored.add_nowait(
                (
                    link_id,
                    None if request is stored.usual else request,
                    session_id,
                    url,
                    self._scope,
                    self._clock.time(),
                )
            )


@attrs.define
class _Counts:
    """
    The numbers of items that are settled, and in flight.
    """

    created: int = 0
    failures: Counter[str] = attrs.Factory(Counter)
    skipped: int = 0
    in_flight: int = 0


def _get_nothing() -> None:
    return None


def _ends_batch(exc: BaseException) -> bool:
    # A CancelledError that nobody asked for is the result of some future.
    if isinstance(exc, asyncio.CancelledError):
        return was_cancelled()
    return not isinstance(exc, Exception)


def explain_unrecorded(
    error: Exception, journal: "ResultSink[Any, Any]"
) -> Exception:
    """
    Add the outcomes that could not be recorded to the error of a batch.
    """
    if not journal.unrecorded:
        return error
    kind = type(error) if isinstance(error, JournalError) else JournalError
    explained = kind(f"{error}: {journal.describe_unrecorded()}")
    explained.__cause__ = error.__cause__ or error
    return explained


def check_number(name: str, value: Any, types: Any) -> None:
    """
    Refuse a value that is not a number above 0.

    Args:
        name: The name of the argument.
        value: The value.
        types: The accepted types.

    Raises:
        ConfigurationError: If *value* is not such a number.
    """
    if (
        not isinstance(value, types)
        or isinstance(value, bool)
        or not 0 < value < float("inf")
    ):
        raise ConfigurationError(fields={name: ("must be a number above 0",)})
