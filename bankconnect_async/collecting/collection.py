"""
Collections: the data of many sessions and entities, as it comes.
"""

import asyncio
import os

from collections import Counter, deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Sequence,
)
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import attrs

from bankconnect_async._resources.base import ApiClient
from bankconnect_async._resources.files import PART_NAMES
from bankconnect_async._threads import run_in_thread
from bankconnect_async.batch.item_source import check_source
from bankconnect_async.batch.protocols import Capacity
from bankconnect_async.batch.session_batch import Batch, BatchOptions
from bankconnect_async.batch.throttle import IdThrottle
from bankconnect_async.errors import (
    BankConnectError,
    ConfigurationError,
    InvalidRequestError,
    NotReadyError,
)
from bankconnect_async.stats import BatchStats

from .collector import BadPart, Collector, Fetch, Part, Save
from .journal import CollectionJournal
from .kinds import KINDS, Flow, check_kinds
from .outcomes import Collected, CollectOutcome
from .owners import Owner, find_owners


# The event loop runs other tasks after that many inputs were skipped.
_SKIPPED_AT_ONCE: Final = 32


@attrs.frozen(kw_only=True)
class CollectionStats(BatchStats):
    """
    A snapshot of a collection.

    `created` and `failures` count kinds of data, `skipped` those that the
    journal has; the rest is about requests.

    Attributes:
        not_ready: The failures whose data may be there later.
        warnings: The number of outcomes with a warning.
    """

    not_ready: int
    warnings: int


@attrs.frozen(kw_only=True)
class _Fetched:
    """
    The outcomes of one request.
    """

    index: int
    outcomes: Sequence[CollectOutcome]


class _FetchBatch(Batch[BadPart | Fetch, Fetch, _Fetched]):
    """
    The requests of a collection.
    """

    _method = "collect"
    _throttle_class = IdThrottle

    def stop(self, error: Exception) -> None:
        """Send nothing more, and raise *error* in the end."""
        self._end_with(error)

    def _make_success(
        self,
        index: int,
        _part: Part,
        _fetch: Fetch,
        result: Sequence[CollectOutcome],
        _seconds: float,
    ) -> _Fetched:
        return _Fetched(index=index, outcomes=result)

    def _make_failure(
        self,
        index: int,
        part: Part,
        _: Fetch | None,
        error: BankConnectError,
    ) -> _Fetched:
        return _Fetched(index=index, outcomes=part.failures(error))


class Collection:
    """
    The outcomes of `AsyncBankConnect.collect`, as they come.

    It is a context manager, as `SessionBatch` is. Leaving it early cancels
    what is in flight; `drain` ends it gently.
    """

    def __init__(  # noqa: PLR0913
        self,
        api: ApiClient,
        source: Iterable[Any] | AsyncIterable[Any],
        options: BatchOptions,
        *,
        capacity: Capacity,
        what: Sequence[str],
        flow: Flow,
        to: str | os.PathLike[str] | None,
        save: Save | None,
        journal: CollectionJournal | None,
    ) -> None:
        if flow not in KINDS:
            raise ConfigurationError(
                fields={"flow": ("must be entity or session",)}
            )
        check_source(source, "ids")
        self._source = source
        self._what = check_kinds(what)
        self._flow: Flow = flow
        self._api_id = options.api
        self._journal = journal
        self._to = None if to is None else Path(to)
        self._skipped = 0
        self._counts: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._pending: deque[CollectOutcome] = deque()
        self._latest: CollectOutcome | None = None
        self._resources = AsyncExitStack()
        self._batch = _FetchBatch(
            Collector(
                api,
                to=self._to,
                save=save,
                deadline=options.retry.deadline,
                on_crash=self._stop,
            ),
            self._requests(),
            options,
            capacity=capacity,
        )

    @property
    def unreported(self) -> list[Any]:
        """
        Inputs that were taken from the source and are not all reported.
        """
        left = {each.index: each.item for each in self._batch.unreported}
        left |= {each.index: each.item for each in self._pending}
        return list(left.values())

    @property
    def abort_cause(self) -> BankConnectError | None:
        """The error after which nothing more was sent, if any."""
        return self._batch.abort_cause

    def stats(self) -> CollectionStats:
        """
        Return what the collection did so far, and does now.
        """
        facts = attrs.asdict(self._batch.stats(), recurse=False) | {
            "created": self._counts["collected"],
            "failures": dict(self._failures),
            "skipped": self._skipped,
        }
        return CollectionStats(
            **facts,
            not_ready=self._failures[NotReadyError.__name__],
            warnings=self._counts["warnings"],
        )

    def drain(self) -> None:
        """
        Take nothing more, and let what was sent come to its end.
        """
        self._batch.drain()

    def _stop(self, error: Exception) -> None:
        self._batch.stop(error)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as resources:
            if self._journal is not None:
                await resources.enter_async_context(
                    self._journal.opened_for(self._api_id)
                )
                if self._to is not None:
                    # The journal's lock keeps others away.
                    await run_in_thread(_remove_torn, self._to, self._what)
            await resources.enter_async_context(self._batch)
            self._resources = resources.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._resources.__aexit__(exc_type, exc, traceback)

    def __aiter__(self) -> AsyncIterator[CollectOutcome]:
        aiter(self._batch)
        return self

    async def __anext__(self) -> CollectOutcome:
        # The caller has stored the one before.
        latest, self._latest = self._latest, None
        if latest is not None and self._journal is not None:
            self._journal.record(latest)
        while not self._pending:
            fetched = await anext(self._batch)
            self._pending.extend(fetched.outcomes)
        self._latest = self._pending.popleft()
        self._count(self._latest)
        return self._latest

    def _count(self, outcome: CollectOutcome) -> None:
        if isinstance(outcome, Collected):
            self._counts["collected"] += 1
            self._counts["warnings"] += outcome.warning is not None
        else:
            self._failures[type(outcome.error).__name__] += 1

    async def _requests(self) -> AsyncGenerator[BadPart | Fetch, None]:
        index = -1
        async with aclosing(_iterate(self._source)) as items:
            async for item in items:
                index += 1
                is_idle = True
                for fetch in self._split(index, item):
                    is_idle = False
                    yield fetch
                if is_idle and not index % _SKIPPED_AT_ONCE:
                    await asyncio.sleep(0)

    def _split(self, index: int, item: Any) -> Iterable[BadPart | Fetch]:
        try:
            owners = find_owners(item, self._flow)
        except InvalidRequestError as error:
            yield BadPart(
                index=index,
                item=item,
                kinds=self._what,
                owner=None,
                error=error,
            )
            return
        for owner in owners:
            yield from self._split_owner(index, item, owner)

    def _split_owner(
        self, index: int, item: Any, owner: Owner
    ) -> Iterable[BadPart | Fetch]:
        known = KINDS[owner.flow]
        by_method: dict[str, list[str]] = {}
        unknown = []
        for name in self._what:
            if self._journal is not None and self._journal.is_collected(
                owner, name
            ):
                self._skipped += 1
            elif name in known:
                by_method.setdefault(known[name].method, []).append(name)
            else:
                unknown.append(name)
        for method, names in by_method.items():
            yield Fetch(
                index=index,
                item=item,
                kinds=tuple(names),
                owner=owner,
                method=method,
            )
        if unknown:
            yield BadPart(
                index=index,
                item=item,
                kinds=tuple(unknown),
                owner=owner,
                error=InvalidRequestError(
                    f"the {owner.flow} flow has no {', '.join(unknown)}; it "
                    f"has {', '.join(known)}"
                ),
            )


async def _iterate(
    source: Iterable[Any] | AsyncIterable[Any],
) -> AsyncGenerator[Any, None]:
    if not isinstance(source, AsyncIterable):
        for item in source:
            yield item
        return
    async with AsyncExitStack() as stack:
        if isinstance(source, AsyncGenerator):
            await stack.enter_async_context(aclosing(source))
        async for item in source:
            yield item


def _remove_torn(directory: Path, kinds: Iterable[str]) -> None:
    """Remove the parts of files that a killed process left behind."""
    for kind in kinds:
        for path in (directory / kind).rglob(PART_NAMES):
            with suppress(OSError):
                path.unlink()
