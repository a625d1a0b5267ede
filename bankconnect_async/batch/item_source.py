"""
Item sources: iterables that all workers of a batch share.
"""

import abc
import asyncio

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from bankconnect_async._hooks import was_cancelled
from bankconnect_async._http.semaphore import FifoSemaphore
from bankconnect_async.errors import ConfigurationError


ItemT = TypeVar("ItemT")


class ItemSource(abc.ABC, Generic[ItemT]):
    """
    The source of a batch; a context that catches what the source raises.

    Attributes:
        count: The number of items taken so far.
        outstanding: The items that were taken and are not reported yet, by
            index.
        error: The exception that the source raised, if any.
    """

    def __init__(self, room: FifoSemaphore) -> None:
        self._room = room
        self._is_closed = False
        self.count: int = 0
        self.outstanding: dict[int, ItemT] = {}
        self.error: Exception | None = None

    @abc.abstractmethod
    def get_nowait(self) -> tuple[int, ItemT] | None:
        """Return the next item, if that takes no waiting."""

    @abc.abstractmethod
    async def get(self) -> tuple[int, ItemT] | None:
        """Wait for room and for the next item; `None` at the end."""

    def close(self) -> None:
        """Take no more items."""
        self._is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return self._catch(exc)

    def _catch(self, exc: BaseException | None) -> bool:
        if isinstance(exc, asyncio.CancelledError):
            if not self._is_closed:
                self.error = source_error(exc)
            return not was_cancelled()
        if isinstance(exc, StopAsyncIteration):
            # Whoever iterates over the outcomes would take it for their end.
            self.error = source_error(exc)
            return True
        if isinstance(exc, Exception):
            self.error = exc
            return True
        return False

    def _register(self, item: ItemT) -> tuple[int, ItemT]:
        index = self.count
        self.count += 1
        self.outstanding[index] = item
        return index, item


class SyncItemSource(ItemSource[ItemT]):
    """
    A plain iterable; the worker that needs an item takes it.
    """

    def __init__(self, source: Iterable[ItemT], room: FifoSemaphore) -> None:
        super().__init__(room)
        self._source: Iterator[ItemT] = iter(source)

    def get_nowait(self) -> tuple[int, ItemT] | None:
        """Return the next item, if there is one and room for it."""
        if self._is_closed or not self._room.try_acquire():
            return None
        return self._next()

    async def get(self) -> tuple[int, ItemT] | None:
        """Wait for room and return the next item; `None` at the end."""
        if not self._is_closed and not self._room.try_acquire():
            await self._room.acquire()
        return None if self._is_closed else self._next()

    def _next(self) -> tuple[int, ItemT] | None:
        # No await lies between taking an item and registering it, because a
        # cancel in between would lose the item.
        try:
            for item in self._source:
                return self._register(item)
        except BaseException as exc:
            if not self._catch(exc):
                raise
        self.close()
        return None


class AsyncItemSource(ItemSource[ItemT]):
    """
    An async iterable, driven by a task of its own.

    A source may hold a timeout or a task group open while it yields, and
    those belong to one task. That task also closes an async generator.
    """

    def __init__(
        self, source: AsyncIterable[ItemT], room: FifoSemaphore
    ) -> None:
        super().__init__(room)
        self._source = aiter(source)
        self._queue: asyncio.Queue[tuple[int, ItemT] | None] = asyncio.Queue()
        self._task: asyncio.Task[Any] | None = None

    def get_nowait(self) -> tuple[int, ItemT] | None:
        """Leave it to `get`, which keeps the order of the queue."""
        return None

    async def get(self) -> tuple[int, ItemT] | None:
        """Wait for the next item; `None` at the end."""
        entry = await self._queue.get()
        if entry is None or self._is_closed:
            # It wakes the next worker.
            self._queue.put_nowait(None)
            return None
        return entry

    def close(self) -> None:
        """Take no more items, and close the source."""
        super().close()
        self._queue.put_nowait(None)
        if self._task is not None:
            self._task.cancel()

    async def run(self) -> None:
        """Put all items into the queue, each as soon as there is room."""
        self._task = asyncio.current_task()
        try:
            with self:
                if not self._is_closed:
                    await self._fill()
        finally:
            self._queue.put_nowait(None)

    async def _fill(self) -> None:
        async with AsyncExitStack() as stack:
            if isinstance(self._source, AsyncGenerator):
                await stack.enter_async_context(aclosing(self._source))
            await self._wait_for_room()
            async for item in self._source:
                self._queue.put_nowait(self._register(item))
                await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        if not self._room.try_acquire():
            await self._room.acquire()


def source_error(
    exc: asyncio.CancelledError | StopAsyncIteration,
) -> RuntimeError:
    """Return the error for a source that raised *exc* by itself."""
    what = (
        "raised StopAsyncIteration"
        if isinstance(exc, StopAsyncIteration)
        else "was cancelled"
    )
    error = RuntimeError(f"the source of the batch {what}")
    error.__cause__ = exc
    return error


def check_source(source: object, ids: str = "link ids") -> None:
    """
    Refuse a single text, which is an iterable of characters.

    Args:
        source: The source.
        ids: The kind of ids that it has, for the message.

    Raises:
        ConfigurationError: If *source* is a text.
    """
    if isinstance(source, str | bytes):
        raise ConfigurationError(
            fields={"source": (f"is one text: give a list of {ids}",)}
        )


def make_item_source(
    source: Iterable[ItemT] | AsyncIterable[ItemT], room: FifoSemaphore
) -> ItemSource[ItemT]:
    """
    Return the item source for a sync or an async iterable.

    Args:
        source: The iterable.
        room: The semaphore of items that are taken and not reported yet.
    """
    check_source(source)
    if isinstance(source, AsyncIterable):
        return AsyncItemSource(source, room)
    return SyncItemSource(source, room)
