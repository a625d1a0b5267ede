"""
Heartbeats: directives to all workers once a second, and their answers.
"""

import asyncio

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, Protocol

import attrs

from bankconnect_async.errors import BatchStoppedError

from .messages import Directive, Heartbeat
from .rate_shares import LEASE, RateShares
from .shared_limit import SharedLimit
from .worker_pool import WorkerPool


#: Seconds between two heartbeats of a worker.
HEARTBEAT_INTERVAL: Final = 1.0
# Seconds between two heartbeats while workers agree on their shares.
_PAUSE: Final = 0.05
#: Seconds to wait for a worker, a lock or a scheduler before giving up.
TIMEOUT: Final = 60.0
RESUME: Final = "run the same batch again to resume"


class SchedulerLostError(BatchStoppedError):
    """
    The connection to the scheduler was lost.
    """


class WorkerLink(Protocol):
    """
    The connection to the workers of a batch.
    """

    async def members(self) -> set[str] | None:
        """Return the addresses of all workers; `None` without an answer."""
        ...

    async def send_heartbeat(
        self, address: str, directive: Directive
    ) -> Heartbeat | None:
        """
        Send a directive to a worker, and return its heartbeat.

        Returns:
            The heartbeat; `None` if the worker does not answer.

        Raises:
            LookupError: If it cannot take part in any batch.
            BankConnectError: If its environment does not suit this batch.
        """
        ...

    async def disconnect(self, workers: Iterable[str], /) -> None:
        """Shut the batch down on all workers."""
        ...


class ClusterMonitor:
    """
    Follows the workers of a cluster, and tells them what to do.

    Args:
        workers: The workers.
        rate: The requests per second of all workers together, if limited.
        on_error: A callback for an error that ends the batch.
        on_warning: A callback for the reason why a worker gets no rows.
        gives_up: Whether the batch ends without workers that are silent;
            else their processes are ended elsewhere.

    Attributes:
        directive: The instructions that all workers get.
        is_dispatching: Whether there are more shards to come.
    """

    def __init__(
        self,
        workers: WorkerPool,
        *,
        rate: float | None,
        on_error: Callable[[Exception], None],
        on_warning: Callable[[str], None],
        gives_up: bool = True,
    ) -> None:
        self.directive: Directive = Directive()
        self.is_dispatching = True
        self._workers = workers
        self._shares = None if rate is None else RateShares(rate)
        self._limit = SharedLimit()
        self._on_error = on_error
        self._warn = on_warning
        self._gives_up = gives_up
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def most(self) -> int | None:
        """The number of workers that the rate is enough for."""
        return None if self._shares is None else self._shares.most

    def update(self, **changes: Any) -> None:
        """Change the directive, and send it to all workers at once."""
        self.directive = attrs.evolve(self.directive, **changes)
        self.beat_now()
        self._workers.notify()

    def beat_now(self) -> None:
        """Send the next heartbeats at once."""
        due, self._due = self._due, asyncio.Event()
        due.set()

    @asynccontextmanager
    async def following(self, link: WorkerLink) -> AsyncIterator[None]:
        """Exchange heartbeats with the workers, and disconnect at the end."""
        task = asyncio.create_task(self._follow(link))
        try:
            yield
        finally:
            await end(task)
            self._stop_timer()
            await link.disconnect(self._workers.heartbeats)

    async def beat_all(self, link: WorkerLink) -> None:
        """Get a last heartbeat from each worker that answers in time."""
        beats = [
            asyncio.create_task(self._beat(link, address))
            for address in self._workers.heartbeats
        ]
        if beats:
            _, late = await asyncio.wait(beats, timeout=HEARTBEAT_INTERVAL)
            for task in late:
                await end(task)

    async def _follow(self, link: WorkerLink) -> None:
        tasks: dict[str, asyncio.Task[None]] = {}
        try:
            with reporting_to(self._on_error):
                while True:
                    members = await link.members()
                    if members is not None:
                        self._workers.set_members(members)
                        for address in tasks.keys() - members:
                            tasks.pop(address).cancel()
                        for address in members - tasks.keys():
                            tasks[address] = asyncio.create_task(
                                self._keep_beating(link, address)
                            )
                    self._workers.drop_silent()
                    if self._gives_up:
                        self._give_up_silent()
                    await asyncio.sleep(HEARTBEAT_INTERVAL)
        finally:
            for task in tasks.values():
                task.cancel()
            if tasks:
                await asyncio.wait(tasks.values())

    async def _keep_beating(self, link: WorkerLink, address: str) -> None:
        while address not in self._workers.unfit:
            # A change during a heartbeat is a reason for another one.
            due = self._due
            await self._beat(link, address)
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_INTERVAL):
                    await due.wait()

    async def _beat(self, link: WorkerLink, address: str) -> None:
        with reporting_to(self._on_error):
            workers, directive = self._workers, self._directive_for(address)
            try:
                heartbeat = await link.send_heartbeat(address, directive)
            except LookupError as exc:
                text = f"worker {address} {exc.args[0]}: it gets no rows"
                workers.unfit[address] = text
                workers.notify()
                self._warn(text)
                return
            if heartbeat is None:
                return
            is_new = address not in workers.heartbeats
            workers.update(address, heartbeat)
            if address not in workers.heartbeats:
                return
            sharers = self._sharers()
            now = asyncio.get_running_loop().time()
            # A worker that joins does not know of a pause.
            is_due = self._limit.split(sharers) or is_new
            self._limit.update(address, heartbeat, directive, now)
            if self._shares is not None:
                self._shares.confirm(
                    address,
                    directive.rate or 0.0,
                    now,
                    workers.lease_end(address),
                )
                if directive.rate != self._shares.wanted(address, sharers):
                    freed_at = self._shares.freed_at(now, sharers)
                    self._beat_by(freed_at or now + _PAUSE)
            if is_due:
                # Workers wait for their shares.
                self.beat_now()
            workers.check_agreement()

    def _beat_by(self, when: float) -> None:
        """Send heartbeats at this time, if none is sent before."""
        if self._timer is None or self._timer.when() > when:
            self._stop_timer()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.beat_now()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _directive_for(self, address: str) -> Directive:
        workers = self._workers
        heartbeat = workers.heartbeats.get(address)
        if heartbeat is None:
            # The first heartbeat tells the time on the worker's clock.
            return self.directive
        directive = attrs.evolve(
            self.directive,
            limit=self._limit.part(address, heartbeat),
            found=heartbeat.found,
            sharers=self._limit.sharers,
            pause_end=workers.clock_of(address, self._limit.resumed_at),
        )
        if self._shares is None:
            return directive
        end = workers.lease_end(address)
        now = asyncio.get_running_loop().time()
        return attrs.evolve(
            directive,
            rate=self._shares.grant(address, self._sharers(), now, end),
            rate_end=workers.clock_of(address, end),
        )

    def _sharers(self) -> list[str]:
        workers = self._workers
        return [
            each
            for each in workers.heartbeats
            if self.is_dispatching or workers.busy[each]
        ]

    def _give_up_silent(self) -> None:
        # Shards of a silent worker may be half done. While others have work,
        # it may come back.
        workers = self._workers
        silent = workers.silent_with_shards()
        held = sum(workers.busy[address] for address in silent)
        if self.directive.drain:
            # Its lease has ended by then, so that it sends nothing more.
            timeout = LEASE
        elif self.is_dispatching or workers.busy.total() > held:
            return
        else:
            timeout = TIMEOUT
        for address, seconds in silent.items():
            if seconds > timeout:
                self._on_error(
                    BatchStoppedError(
                        f"not done: worker {address} does not answer, and "
                        f"holds {workers.busy[address]} shards: continue or "
                        f"end it, and {RESUME}"
                    )
                )
                workers.give_up(address)


@contextmanager
def reporting_to(handle: Callable[[Exception], None]) -> Iterator[None]:
    """Give an exception to *handle*, which has it raised later."""
    try:
        yield
    except Exception as exc:  # noqa: BLE001 - the batch raises it at its end
        handle(exc)


async def end(task: "asyncio.Task[None]") -> None:
    """Cancel a task and wait for it."""
    task.cancel()
    await asyncio.wait([task])
