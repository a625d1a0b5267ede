"""
The inbox of a service: work in the store that is done at least once.
"""

import asyncio
import datetime
import logging

from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from bankconnect_async._tracebacks import hide_frames
from bankconnect_async.store.entries import InboxItem
from bankconnect_async.store.protocol import SessionStore


_log: Final = logging.getLogger("bankconnect_async.web")


@attrs.define(eq=False)
class Inbox:
    """
    Takes work from the store and does it, whichever process put it there.

    What a killed process had taken is taken again when its lease ends; what
    failed, after a backoff.

    Attributes:
        store: The store.
        work: The function that does an item, and tells whether it is done.
        now: The clock.
        limit: The number of items that may be in work at the same time.
        lease: How long an item belongs to the process that took it.
        poll_interval: The seconds between two looks for the work of other
            processes, and for work that is to be tried again.
        running: The items in work, by their key.
    """

    store: SessionStore
    work: Callable[[InboxItem], Awaitable[bool]]
    now: Callable[[], datetime.datetime]
    limit: int
    lease: datetime.timedelta
    poll_interval: float
    running: dict[str, InboxItem] = attrs.field(init=False, factory=dict)
    _tasks: dict[asyncio.Task[None], str] = attrs.field(
        init=False, factory=dict
    )
    # The keys that were put in here and have not been taken yet, with the
    # number of looks that had begun by then.
    _accepted: dict[str, int] = attrs.field(init=False, factory=dict)
    _looks: int = attrs.field(init=False, default=0)
    _changed: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _finished: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _loop: asyncio.Task[None] | None = attrs.field(init=False, default=None)

    @property
    def pending(self) -> int:
        """The number of items in work, or put in here and not taken yet."""
        return len(self._accepted.keys() | self.running.keys())

    async def start(self) -> None:
        """
        Open the store and begin to take work; calling it again does nothing.

        Raises:
            StoreError: If the store cannot be used.
        """
        await self.store.open()
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run())
            self._loop.add_done_callback(lambda _: self._finished.set())

    @hide_frames
    async def put(
        self, key: str, body: bytes, *, link_id: str | None = None
    ) -> bool:
        """
        Put work in, durably, and begin it soon.

        Args:
            key: The key of the work.
            body: The content.
            link_id: The customer, if known.

        Returns:
            False if the key is known.

        Raises:
            StoreError: If the store cannot be used.
        """
        await self.start()
        is_new = await self.store.enqueue(
            key, body, at=self.now(), link_id=link_id
        )
        if is_new:
            self._accepted[key] = self._looks
            self._changed.set()
        return is_new

    async def do(
        self,
        key: str,
        body: bytes,
        work: Callable[[], Awaitable[None]],
        *,
        link_id: str | None = None,
    ) -> None:
        """
        Put work in and do it here and now, unless its key is known.

        If this process is killed meanwhile, or the work fails, it is done by
        any process when the lease ends.

        Args:
            key: The key of the work.
            body: The content, for another process.
            work: The function that does it.
            link_id: The customer, if known.

        Raises:
            StoreError: If the store cannot be used.
            Exception: What *work* raises.
        """
        await self.start()
        try:
            is_new = await self.store.enqueue(
                key, body, at=self.now() + self.lease, link_id=link_id
            )
        finally:
            # A traceback with locals would show it.
            del body
        if is_new:
            is_done = False
            try:
                await work()
                is_done = True
            finally:
                await self._settle(key, is_done=is_done)

    async def aclose(self, grace: float) -> list[InboxItem]:
        """
        Do what was put in here, and stop.

        Args:
            grace: The seconds to wait. Slower work is cancelled, and gets the
                same time again.

        Returns:
            The items whose work ignored that.
        """
        # What was accepted in an event loop that is closed is in the store.
        if self._loop is None or self._loop.get_loop().is_closed():
            return []
        try:
            async with asyncio.timeout(grace):
                # A loop that was torn down takes nothing more.
                while self.running if self._loop.done() else self.pending:
                    self._finished.clear()
                    await self._finished.wait()
        except TimeoutError:
            pass
        self._loop.cancel()
        await asyncio.wait([self._loop])
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        if self._accepted:
            left = len(self._accepted)
            _log.warning(
                "%d items are left in the inbox", left, extra={"items": left}
            )
        return list(self.running.values())

    async def _run(self) -> None:
        while True:
            # Before the look, so that nothing is overlooked.
            self._changed.clear()
            if not await self.take():
                try:
                    async with asyncio.timeout(self.poll_interval):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    async def take(self) -> int:
        """
        Begin the work that may be begun now.

        Returns:
            The number of items that the store gave.
        """
        free = self.limit - len(self.running)
        if free <= 0:
            return 0
        self._looks += 1
        look = self._looks
        try:
            items = await self.store.take(
                now=self.now(), limit=free, lease=self.lease
            )
        except Exception:  # noqa: BLE001 - its work must not wait forever
            _log.exception("the inbox cannot be read")
            return 0
        for item in items:
            # Taking it again while it is in work renews its lease.
            if item.key not in self.running:
                self.running[item.key] = item
                self._accepted.pop(item.key, None)
                task = asyncio.create_task(self._do(item))
                self._tasks[task] = item.key
                task.add_done_callback(self._on_done)
        if len(items) < free:
            self._drop_accepted(look)
        return len(items)

    def _drop_accepted(self, look: int) -> None:
        # Another process has taken what was put in before a look that found
        # everything.
        self._accepted = {
            key: looks
            for key, looks in self._accepted.items()
            if looks >= look
        }
        self._finished.set()

    async def _do(self, item: InboxItem) -> None:
        is_done = False
        try:
            is_done = await self.work(item)
        finally:
            await self._settle(item.key, is_done=is_done)

    async def _settle(self, key: str, *, is_done: bool) -> None:
        try:
            await (self.store.done if is_done else self.store.release)(key)
        except Exception:  # noqa: BLE001 - as above
            _log.exception("work is done again when its lease ends")

    def _on_done(self, task: asyncio.Task[None]) -> None:
        key = self._tasks.pop(task)
        del self.running[key]
        self._changed.set()
        self._finished.set()
