"""
Share what workers learn about the server's rate limit.

Each worker finds the rate that the server leaves to it, as TCP flows do on
one link. The sum of these rates is the limit of all. It is split evenly when
workers come or go; in between, each worker keeps what it finds.
"""

from collections.abc import Collection
from typing import Final

from bankconnect_async.batch.adaptive_rate import AdaptiveRate

from .messages import Directive, Heartbeat


# The seconds of a pause that is not passed on: it would end before the others
# hear of it, or cut their work short by chance.
_SHORT: Final = 1.0


class SharedLimit:
    """
    Collects limits and pauses from workers, and tells them to the others.

    Attributes:
        resumed_at: The time when the latest `Retry-After` pause ends.
    """

    def __init__(self) -> None:
        self.resumed_at: float = 0.0
        self._pause_ends: dict[str, float] = {}
        self._is_found = False
        # The part of the limit that each worker with work has; before it has
        # found one, the requests per second that it is served.
        self._parts: dict[str, float] = {}
        # The workers that have not been told their new part yet.
        self._due: set[str] = set()

    @property
    def sharers(self) -> int:
        """The number of workers that share the limit, or 1."""
        return max(1, len(self._parts))

    def split(self, sharers: Collection[str]) -> bool:
        """
        Split the limit evenly, if other workers have work now.

        Args:
            sharers: The workers that have work.

        Returns:
            Whether there are parts to tell to workers.
        """
        if sharers and self._parts.keys() != set(sharers):
            part = sum(self._parts.values()) / len(sharers)
            self._parts = dict.fromkeys(sharers, part)
            self._due = set(sharers) if self._is_found else set()
            return self._is_found
        return False

    def part(self, address: str, heartbeat: Heartbeat) -> float | None:
        """
        Return the limit that a worker is to use from now on.

        Args:
            address: The worker.
            heartbeat: Its latest heartbeat.

        Returns:
            The limit; `None` to keep what the worker has found.
        """
        if address in self._due:
            return self._parts[address]
        if heartbeat.found is None and self._is_found:
            return sum(self._parts.values()) / len(self._parts)
        return None

    def update(
        self,
        address: str,
        heartbeat: Heartbeat,
        directive: Directive,
        now: float,
    ) -> None:
        """
        Learn from a heartbeat.

        Args:
            address: The worker.
            heartbeat: Its heartbeat.
            directive: The directive that it answers.
            now: The time.
        """
        # A pause that is known already is no news: with each message that is
        # late it would last longer.
        known = max(directive.pause_end, self._pause_ends.get(address, 0.0))
        self._pause_ends[address] = heartbeat.pause_end
        if heartbeat.pause_end > known and heartbeat.pause > _SHORT:
            self.resumed_at = max(self.resumed_at, now + heartbeat.pause)
        # The directive may be older than the latest split.
        if directive.limit == self._parts.get(address):
            self._due.discard(address)
        if address in self._parts and address not in self._due:
            found = heartbeat.found
            self._is_found = self._is_found or found is not None
            self._parts[address] = heartbeat.rate if found is None else found


def apply_limit(rate: AdaptiveRate, directive: Directive, now: float) -> None:
    """
    Follow what a directive says about the server's limit.

    Args:
        rate: The rate control of this process.
        directive: The directive.
        now: The time on the clock of this process.
    """
    rate.sharers = directive.sharers
    if directive.limit is not None and directive.found == rate.found:
        rate.use_limit(now, directive.limit)
    if directive.pause_end > now:
        rate.pause_until(now, directive.pause_end)
