"""
The workers of a cluster, as the coordinator of a batch knows them.
"""

import asyncio

from collections import Counter
from contextlib import suppress
from typing import Final

from bankconnect_async.errors import ConfigurationError

from .messages import Heartbeat
from .rate_shares import LEASE


# A shard to run, one to begin while the last rows of the first are out, and
# one on its way.
_SHARDS_PER_WORKER: Final = 3


class WorkerPool:
    """
    The workers of the cluster, and the number of shards that each has.

    Attributes:
        heartbeats: The latest heartbeat of each worker that is not silent.
        busy: The number of shards that each worker has.
        unfit: The workers that cannot take part, and the reasons.
        given_up: The workers whose shards are left to another run.
    """

    def __init__(self) -> None:
        self.heartbeats: dict[str, Heartbeat] = {}
        self.busy: Counter[str] = Counter()
        self.unfit: dict[str, str] = {}
        self.given_up: set[str] = set()
        self._members: set[str] = set()
        self._answered: dict[str, float] = {}
        self._lost: dict[str, asyncio.Event] = {}
        self._retries: dict[str, int] = {}
        self._changed = asyncio.Event()

    @property
    def retries(self) -> int:
        """The number of retries, those of lost workers included."""
        return sum(self._retries.values())

    @property
    def silent(self) -> set[str]:
        """The workers that have not answered yet, or no longer do."""
        return self._members - self.heartbeats.keys() - self.unfit.keys()

    def set_members(self, members: set[str]) -> None:
        """Replace the workers by those that the scheduler has now."""
        for address in self._members - members:
            self.heartbeats.pop(address, None)
            self.unfit.pop(address, None)
            self._answered.pop(address, None)
            self.lost(address).set()
        for address in members - self._members:
            self._lost.pop(address, None)
        self._members = members
        self.notify()

    def lost(self, address: str) -> asyncio.Event:
        """Return an event that is set once a worker is lost or given up."""
        return self._lost.setdefault(address, asyncio.Event())

    def give_up(self, address: str) -> None:
        """Wait no longer for the shards of a worker."""
        self.given_up.add(address)
        self.lost(address).set()

    def update(self, address: str, heartbeat: Heartbeat) -> None:
        """Remember the latest heartbeat of a worker."""
        if address not in self._members:
            return
        self.heartbeats[address] = heartbeat
        self._answered[address] = asyncio.get_running_loop().time()
        self._retries[address] = heartbeat.retries
        self.notify()

    def lease_end(self, address: str) -> float:
        """Return when a share counted from the latest heartbeat ends."""
        return self._answered[address] + LEASE

    def clock_of(self, address: str, when: float) -> float:
        """Return a time on the clock of a worker."""
        return self.heartbeats[address].clock + when - self._answered[address]

    def drop_silent(self) -> None:
        """Drop the heartbeats of workers that have become silent."""
        now = asyncio.get_running_loop().time()
        for address, answered in self._answered.items():
            if now - answered > LEASE:
                self.heartbeats.pop(address, None)

    def silent_with_shards(self) -> dict[str, float]:
        """Return the seconds of silence of workers that have shards."""
        now = asyncio.get_running_loop().time()
        return {
            address: now - self._answered[address]
            for address in self._answered.keys() - self.heartbeats.keys()
            if self.busy[address]
        }

    def check_agreement(self) -> None:
        """
        Check that all workers send the same requests to one API.

        Raises:
            ConfigurationError: If their environments differ.
        """
        (first, expected), *others = self.heartbeats.items()
        for address, heartbeat in others:
            if not expected.has_same_settings(heartbeat):
                raise ConfigurationError(
                    "the workers have different settings in their "
                    "environment: give them the same base_url, version and "
                    "redirect_url"
                )
            if expected.secrets != heartbeat.secrets:
                raise ConfigurationError(
                    f"workers {first} and {address} have different API keys, "
                    f"server hashes or stores in their environment: give all "
                    f"workers the same"
                )

    def release(self, address: str) -> None:
        """Note that a worker has one shard less."""
        self.busy[address] -= 1
        self.notify()

    def pick(self, most: int | None, *, is_urgent: bool) -> str | None:
        """
        Return the least busy worker, if it can take a shard.

        Args:
            most: The most workers to use; `None` for all.
            is_urgent: Whether it may have more shards than usual.
        """
        able = list(self.heartbeats)[:most]
        found = min(able, key=self.busy.__getitem__, default=None)
        if found is None or is_urgent:
            return found
        return found if self.busy[found] < _SHARDS_PER_WORKER else None

    def notify(self) -> None:
        """Wake everybody who waits for a change."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait(self, seconds: float) -> None:
        """Wait until something changes, for some seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
