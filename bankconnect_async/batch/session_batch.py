"""
Many sessions: bounded in flight, constant in memory, one outcome each.
"""

import abc
import asyncio

from collections import Counter, deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Iterator,
)
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import attrs

from bankconnect_async._hooks import HookRunner, was_cancelled
from bankconnect_async._http.semaphore import FifoSemaphore
from bankconnect_async.clock import Clock
from bankconnect_async.errors import (
    AuthenticationError,
    BankConnectError,
    BatchStoppedError,
    ConfigurationError,
    Delivery,
    InvalidRequestError,
    JournalError,
    PaymentRequiredError,
    ProxyAuthenticationError,
    TransportError,
)
from bankconnect_async.models.sessions import Session, SessionRequest
from bankconnect_async.retry import RetryPolicy
from bankconnect_async.stats import BatchStats

from .throttle import BatchThrottle, SendQueue


if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

    from bankconnect_async._resources.session_creation import SessionCreator

    from .protocols import Capacity, ResultSink


_INTERRUPTED: Final = "interrupted before an answer came; a session may exist"

Item: TypeAlias = SessionRequest | str
Source: TypeAlias = Iterable[Item] | AsyncIterable[Item]

#: Errors that every other item would meet, too: the batch stops.
STOPPING: Final = (
    AuthenticationError,
    PaymentRequiredError,
    ProxyAuthenticationError,
)
_SKIPPED_AT_ONCE: Final = 32
# Seconds over which the present rate is taken.
_LATELY: Final = 5.0


@attrs.frozen(kw_only=True)
class Created:
    """
    An input for which a session was created.

    Attributes:
        index: Position in the source, from 0.
        item: What was given.
        session: What came of it.
        request: What was asked for.
    """

    index: int
    item: Item
    session: Session
    # Bare link ids share one, from which their own is made when asked for.
    _request: SessionRequest = attrs.field(
        alias="request", repr=False, eq=False
    )

    @property
    def request(self) -> SessionRequest:
        """What was asked for."""
        if self._request.link_id == self.session.link_id:
            return self._request
        return self._request.with_link_id(self.session.link_id)

    @property
    def link_id(self) -> str:
        """Your id of the customer."""
        return self.session.link_id


@attrs.frozen(kw_only=True)
class Failed:
    """
    An input for which there is no session.

    Attributes:
        index: Position in the source, from 0.
        item: What was given.
        request: What was asked for; `None` if *item* made no request.
        error: Why; its `delivery` says whether the server may have created
            one all the same.
    """

    index: int
    item: Item
    request: SessionRequest | None
    error: BankConnectError

    @property
    def link_id(self) -> str | None:
        """Your id of the customer, as far as *item* has one."""
        if self.request is not None:
            return self.request.link_id
        if isinstance(self.item, SessionRequest):
            return self.item.link_id
        return self.item if isinstance(self.item, str) else None


Outcome: TypeAlias = Created | Failed


class SessionBatch:
    """
    The outcomes of `AsyncBankConnect.create_sessions`, as they come.

    It is a context manager, because an abandoned generator would leave its
    tasks behind (PEP 789). Leaving it early cancels what is in flight;
    `drain` ends it gently. `stats` may be called at any time, from the loop
    over the outcomes or from a task beside it.
    """

    def __init__(  # noqa: PLR0913
        self,
        creator: "SessionCreator",
        source: Source,
        *,
        capacity: "Capacity",
        api: str,
        concurrency: int,
        rate: float | None,
        ordered: bool,
        retry: RetryPolicy,
        clock: Clock,
        journal: "ResultSink | None",
        line: SendQueue | None = None,
    ) -> None:
        check_number("concurrency", concurrency, int)
        if rate is not None:
            check_number("rate", rate, (int, float))
        self._creator = creator
        self._capacity = capacity
        self._api = api
        self._concurrency = concurrency
        self._retry = retry
        self._clock = clock
        self._line = line or SendQueue(
            clock,
            limiter=None if rate is None else make_limiter(rate),
            max_pause=retry.deadline,
        )
        self._journal = journal
        self._hooks = HookRunner()
        self._resources = AsyncExitStack()
        # Room for what is in flight and as much again that waits for the
        # consumer: a slow consumer holds the workers back.
        self._room = FifoSemaphore(2 * concurrency)
        self._intake = _make_intake(source, self._room)
        self._take_ready = self._intake.take_ready
        self._take = self._intake.take
        self._shelf = ResultBuffer(ordered=ordered)
        self._group: asyncio.TaskGroup | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._working = 0
        self._is_leaving = False
        self._sending: set[int] = set()
        self._draining = False
        # What went wrong with the journal, until somebody was told.
        self._break_up: Exception | None = None
        self._counts = _Counts()
        self._started: float | None = None

    @property
    def unreported(self) -> list[Item]:
        """
        Items that were taken from the source and whose outcome was not seen.

        After an early exit `may_have_sent` tells which requests may have
        been sent.
        """
        return list(self._intake.held.values())

    def stats(self) -> BatchStats:
        """
        Return what the batch did so far, and does now.
        """
        counts, pace = self._counts, self._line.pace
        now = self._clock.monotonic()
        started = now if self._started is None else self._started
        recent = max(min(now - started, _LATELY), 1.0)
        return BatchStats(
            taken=self._intake.count,
            created=counts.created,
            failures=dict(counts.failures),
            skipped=counts.skipped,
            in_flight=counts.in_flight,
            retries=self._line.retries,
            seconds=now - started,
            rate=pace.served.since(now - recent) / recent,
            limit=pace.rate(now),
            pause=pace.pause(now),
        )

    def drain(self) -> None:
        """
        Take nothing more, and let what was sent come to its end.

        The outcomes end when those in flight are settled. Items that were
        taken ahead and not sent have no outcome: they stay in `unreported`.
        """
        if self._draining:
            return
        self._draining = True
        self._intake.stop()
        self._line.turn_back()
        # Nobody has to wait for room to take what is not taken any more.
        self._room.widen(self._room.size + self._concurrency)

    def may_have_sent(self, index: int) -> bool:
        """
        Tell whether an unreported item's request may have left.

        Args:
            index: Position of the item in the source, from 0.
        """
        return index in self._sending

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise RuntimeError("a batch can be entered only once")
        await self._capacity.open()
        async with AsyncExitStack() as resources:
            if self._journal is not None:
                await resources.enter_async_context(
                    self._journal.opened_for(
                        self._api, concurrency=self._concurrency
                    )
                )
                if not self._journal.is_resumable:
                    # A record is written before its worker takes the next.
                    self._take_ready = _take_nothing
                    self._take = self._take_after_writing
            # The client may have been closed meanwhile.
            self._capacity.admit(self._concurrency)
            self._resources = resources.pop_all()
        self._group = group = asyncio.TaskGroup()
        await group.__aenter__()
        self._started = self._clock.monotonic()
        self._working = self._concurrency
        work = [self._work() for _ in range(self._concurrency)]
        if isinstance(self._intake, AsyncItemSource):
            work.append(self._intake.feed())
        self._tasks = [group.create_task(each) for each in work]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._group is not None  # noqa: S101 - it was entered
        self._is_leaving = True
        for task in self._tasks:
            task.cancel()
        self._capacity.dismiss(self._concurrency)
        # A group wraps what its body raised; the caller's own error should
        # reach the caller as it is.
        if not isinstance(exc, asyncio.CancelledError):
            exc_type = exc = traceback = None
        async with self._resources:
            await self._group.__aexit__(exc_type, exc, traceback)
            if exc is None and self._break_up is not None:
                # Whoever left early was not told yet.
                raise self._explained(self._break_up)

    def __aiter__(self) -> AsyncIterator[Outcome]:
        if self._group is None:
            raise RuntimeError(
                "use async with: `async with bank.create_sessions(...) as "
                "outcomes`, then iterate over outcomes"
            )
        return self

    async def __anext__(self) -> Outcome:
        outcome = self._shelf.take_ready() or await self._shelf.take()
        if outcome is None:
            error, self._break_up = self._break_up, None
            if error is not None:
                raise self._explained(error)
            if self._intake.error is not None:
                raise self._intake.error
            raise StopAsyncIteration
        del self._intake.held[outcome.index]
        self._sending.discard(outcome.index)
        self._room.leave()
        return outcome

    async def _work(self) -> None:
        try:
            await self._work_off()
        except asyncio.CancelledError:
            # Without its workers a batch would end as if it were complete.
            if not self._is_leaving:
                self._break_off(
                    RuntimeError("a task of the batch was cancelled")
                )
            raise
        finally:
            self._working -= 1
            if not self._working:
                self._shelf.close()

    # One coroutine for all of them: one for each item cost 3 % more.
    async def _work_off(self) -> None:
        turn = BatchThrottle(self._line)
        while taken := self._take_ready() or await self._take():
            index, item = taken
            link_id, request = None, None
            try:
                link_id, request = self._creator.assign(item)
                if not self._is_due(index, link_id, request):
                    if not self._counts.skipped % _SKIPPED_AT_ONCE:
                        # Many must not hold up what is in flight.
                        await asyncio.sleep(0)
                    continue
                if self._draining or not (
                    turn.try_begin() or await turn.begin()
                ):
                    self._refuse_if_stopped()
                    break
                self._sending.add(index)
                self._counts.in_flight += 1
                try:
                    answer = await self._creator.ask(
                        link_id, request, self._retry, turn
                    )
                finally:
                    self._counts.in_flight -= 1
                session = self._creator.make(link_id, *answer)
            except BankConnectError as error:
                self._fail(index, item, link_id, request, error)
                continue
            except BaseException as exc:
                if _ends_batch(exc):
                    self._note_lost(index, item, link_id, request)
                    raise
                unexpected = self._unexpected(index, exc)
                self._fail(index, item, link_id, request, unexpected)
                continue
            self._report(
                Created(
                    index=index, item=item, session=session, request=request
                )
            )
            try:
                turn.note_served()
            except Exception as exc:  # noqa: BLE001 - of a user's clock
                self._hooks.log("the clock", exc)

    async def _take_after_writing(self) -> tuple[int, Item] | None:
        journal = self._journal
        assert journal is not None  # noqa: S101 - see __aenter__
        try:
            await journal.drain()
        except (Exception, asyncio.CancelledError) as exc:
            if _ends_batch(exc):
                raise
            self._break_off(_of_journal(exc))
        return self._intake.take_ready() or await self._intake.take()

    def _unexpected(self, index: int, exc: BaseException) -> TransportError:
        self._hooks.log("a call of the batch", exc)
        name = type(exc).__name__
        if index in self._sending:
            error = TransportError(
                f"{name} was raised after the request was begun; a session "
                f"may exist",
                delivery=Delivery.AMBIGUOUS,
            )
        else:
            error = TransportError(
                f"{name} was raised before the request; nothing was sent",
                delivery=Delivery.NOT_SENT,
            )
        error.__cause__ = exc
        return error

    def _fail(
        self,
        index: int,
        item: Item,
        link_id: str | None,
        request: SessionRequest | None,
        error: BankConnectError,
    ) -> None:
        if isinstance(error, STOPPING):
            self._line.stop(error)
        self._report(_make_failed(index, item, link_id, request, error))

    def _report(self, outcome: Outcome) -> None:
        if self._journal is not None:
            self._record(outcome, self._journal)
        if isinstance(outcome, Created):
            self._counts.created += 1
        else:
            self._counts.failures[type(outcome.error).__name__] += 1
        self._shelf.put(outcome)

    def _record(self, outcome: Outcome, journal: "ResultSink") -> None:
        try:
            journal.record(outcome)
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001
            self._break_off(_of_journal(exc))

    def _is_due(
        self, index: int, link_id: str, request: SessionRequest
    ) -> bool:
        self._refuse_if_stopped()
        if self._journal is None:
            return True
        try:
            is_due = self._journal.begin(index, request, link_id=link_id)
        except InvalidRequestError:
            raise
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001
            self._break_off(_of_journal(exc))
            return False
        if not is_due:
            self._counts.skipped += 1
            del self._intake.held[index]
            self._room.leave()
            self._shelf.pass_over(index)
        return is_due

    def _break_off(self, error: Exception) -> None:
        # It is raised once what is in flight has come to its end.
        self._intake.error = self._intake.error or error
        self._break_up = self._break_up or error
        self.drain()

    def _explained(self, error: Exception) -> Exception:
        if self._journal is None or not self._journal.unrecorded:
            return error
        kind = type(error) if isinstance(error, JournalError) else JournalError
        explained = kind(f"{error}: {self._journal.describe_unrecorded()}")
        explained.__cause__ = error.__cause__ or error
        return explained

    def _note_lost(
        self,
        index: int,
        item: Item,
        link_id: str | None,
        request: SessionRequest | None,
    ) -> None:
        if self._journal is not None and index in self._sending:
            error = TransportError(_INTERRUPTED, delivery=Delivery.AMBIGUOUS)
            lost = _make_failed(index, item, link_id, request, error)
            self._record(lost, self._journal)

    def _refuse_if_stopped(self) -> None:
        if self._line.abort_cause is not None:
            raise stopped(self._line.abort_cause)


def _take_nothing() -> None:
    return None


def _of_journal(exc: BaseException) -> JournalError:
    if isinstance(exc, JournalError):
        return exc
    # A journal can be a subclass of the user's.
    error = JournalError(f"the journal raised {type(exc).__name__}")
    error.__cause__ = exc
    return error


def _ends_batch(exc: BaseException) -> bool:
    # A CancelledError that nobody asked for is the result of some future.
    if isinstance(exc, asyncio.CancelledError):
        return was_cancelled()
    return not isinstance(exc, Exception)


def _make_failed(
    index: int,
    item: Item,
    link_id: str | None,
    request: SessionRequest | None,
    error: BankConnectError,
) -> Failed:
    if link_id is not None and request is not None:
        # It may be the one that all bare link ids share.
        request = request.with_link_id(link_id)
    return Failed(index=index, item=item, request=request, error=error)


@attrs.define
class _Counts:
    """
    What became of the items so far.
    """

    created: int = 0
    failures: Counter[str] = attrs.Factory(Counter)
    skipped: int = 0
    in_flight: int = 0


class ItemSource(abc.ABC):
    """
    The source, shared by all workers.

    Attributes:
        count: Items taken so far.
        held: Items that were taken and not reported yet, by index.
        error: What the source raised.
    """

    def __init__(self, room: FifoSemaphore) -> None:
        self._room = room
        self.count = 0
        self.held: dict[int, Item] = {}
        self.error: Exception | None = None

    @abc.abstractmethod
    def take_ready(self) -> tuple[int, Item] | None:
        """Take the next item, if there is one and room for it by now."""

    @abc.abstractmethod
    async def take(self) -> tuple[int, Item] | None:
        """Take the next item, when there is room; `None` at the end."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Let this be the end."""

    def _own(self, item: Item) -> tuple[int, Item]:
        index = self.count
        self.count += 1
        self.held[index] = item
        return index, item


class SyncItemSource(ItemSource):
    """
    Takes items from a plain iterable, in the worker that needs one.
    """

    def __init__(self, source: Iterable[Item], room: FifoSemaphore) -> None:
        super().__init__(room)
        self._source: Iterator[Item] | None = iter(source)

    def take_ready(self) -> tuple[int, Item] | None:
        """Take the next item, if there is one and room for it by now."""
        if self._source is None or not self._room.enter():
            return None
        return self._next(self._source)

    async def take(self) -> tuple[int, Item] | None:
        """Take the next item, when there is room; `None` at the end."""
        if self._source is not None and not self._room.enter():
            await self._room.queue()
        if self._source is None:
            return None
        return self._next(self._source)

    def _next(self, source: Iterator[Item]) -> tuple[int, Item] | None:
        # No await lies between taking an item and owning it: a cancel in
        # between would lose the item.
        try:
            for item in source:
                return self._own(item)
        except asyncio.CancelledError as exc:
            # A plain call cannot be cancelled.
            self.error = source_cancelled(exc)
        except Exception as exc:  # noqa: BLE001 - it is the consumer's
            self.error = exc
        self._source = None
        return None

    def stop(self) -> None:
        """Let this be the end."""
        self._source = None


class AsyncItemSource(ItemSource):
    """
    A task of its own drives the source.

    A source may hold a timeout or a task group open while it yields, and
    those belong to one task. An async generator is closed at the end, in
    that task too.
    """

    def __init__(
        self, source: AsyncIterable[Item], room: FifoSemaphore
    ) -> None:
        super().__init__(room)
        self._source = aiter(source)
        self._taken: asyncio.Queue[tuple[int, Item] | None] = asyncio.Queue()
        self._feeder: asyncio.Task[Any] | None = None
        self._stopped = False

    def take_ready(self) -> tuple[int, Item] | None:
        """Leave it to `take`, which keeps the feeder's order."""
        return None

    async def take(self) -> tuple[int, Item] | None:
        """Take the next item that was fed; `None` at the end."""
        taken = await self._taken.get()
        if taken is None or self._stopped:
            self._taken.put_nowait(None)
            return None
        return taken

    def stop(self) -> None:
        """Let this be the end, for the source too."""
        self._stopped = True
        self._taken.put_nowait(None)
        if self._feeder is not None:
            self._feeder.cancel()

    async def feed(self) -> None:
        """Take all items, one for each place that becomes free."""
        self._feeder = task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in a coroutine
        try:
            if not self._stopped:
                await self._drain()
        except asyncio.CancelledError as exc:
            if not self._stopped:
                self.error = source_cancelled(exc)
            if task.cancelling():
                raise
        except Exception as exc:  # noqa: BLE001 - it is the consumer's
            self.error = exc
        finally:
            self._taken.put_nowait(None)

    async def _drain(self) -> None:
        async with AsyncExitStack() as stack:
            if isinstance(self._source, AsyncGenerator):
                await stack.enter_async_context(aclosing(self._source))
            await self._enter()
            async for item in self._source:
                self._taken.put_nowait(self._own(item))
                await self._enter()

    async def _enter(self) -> None:
        if not self._room.enter():
            await self._room.queue()


def source_cancelled(exc: asyncio.CancelledError) -> RuntimeError:
    """Make the error of a source that raises what only a task should."""
    error = RuntimeError("the source of the batch was cancelled")
    error.__cause__ = exc
    return error


def check_source(source: object) -> None:
    """
    Refuse what is iterable and cannot have been meant.

    Raises:
        ConfigurationError: For one text, whose characters are no link ids.
    """
    if isinstance(source, str | bytes):
        raise ConfigurationError(
            fields={"source": ("is one text: give a list of link ids",)}
        )


def _make_intake(source: Source, room: FifoSemaphore) -> ItemSource:
    check_source(source)
    if isinstance(source, AsyncIterable):
        return AsyncItemSource(source, room)
    return SyncItemSource(source, room)


class ResultBuffer:
    """
    Outcomes between the workers and the consumer.
    """

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._early: dict[int, Outcome | None] = {}
        self._due = 0
        self._ready: deque[Outcome] = deque()
        self._news = asyncio.Event()
        # How many consumers wait.
        self._waiting = 0
        self._is_closed = False

    def put(self, outcome: Outcome) -> None:
        """Hand over an outcome, in its turn where order is asked for."""
        if self._ordered:
            self._arrange(outcome.index, outcome)
        else:
            self._ready.append(outcome)
        if self._waiting:
            self._news.set()

    def pass_over(self, index: int) -> None:
        """Do not wait for the outcome of that input."""
        if self._ordered:
            self._arrange(index, None)
            self._news.set()

    def _arrange(self, index: int, outcome: Outcome | None) -> None:
        self._early[index] = outcome
        while self._due in self._early:
            due = self._early.pop(self._due)
            self._due += 1
            if due is not None:
                self._ready.append(due)

    def take_ready(self) -> Outcome | None:
        """Return the next outcome, if there is one already."""
        return self._ready.popleft() if self._ready else None

    async def take(self) -> Outcome | None:
        """Wait for the next outcome; `None` after the last."""
        while not self._ready and not self._is_closed:
            self._news.clear()
            self._waiting += 1
            try:
                await self._news.wait()
            finally:
                self._waiting -= 1
        return self.take_ready()

    def close(self) -> None:
        """Say that nothing more will come."""
        # After a drain there are gaps that nothing will fill.
        for index in sorted(self._early):
            outcome = self._early.pop(index)
            if outcome is not None:
                self._ready.append(outcome)
        self._is_closed = True
        self._news.set()


def stopped(by: BankConnectError) -> BatchStoppedError:
    """Make the error of an item that comes after what stopped a batch."""
    return BatchStoppedError(
        f"not sent: the batch was stopped, because {by.message}"
    )


def check_number(name: str, value: Any, types: Any) -> None:
    """
    Refuse what is no number above 0.

    Raises:
        ConfigurationError: Naming it.
    """
    if (
        not isinstance(value, types)
        or isinstance(value, bool)
        or not 0 < value < float("inf")
    ):
        raise ConfigurationError(fields={name: ("must be a number above 0",)})


def make_limiter(rate: float) -> "AsyncLimiter":
    """Let *rate* requests a second through, without bursts."""
    from aiolimiter import AsyncLimiter  # noqa: PLC0415 - seldom needed

    # A tenth of a second's worth at a time: a bucket of a whole second would
    # let a burst of *rate* requests through at once.
    burst = max(1.0, rate / 10)
    return AsyncLimiter(burst, burst / rate)
