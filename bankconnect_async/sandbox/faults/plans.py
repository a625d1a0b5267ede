"""
Which fault comes when: scripted, always, or by chance.
"""

import collections
import hashlib
import secrets

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from bankconnect_async.errors import ConfigurationError

from .behaviours import ConnectFaultBehaviour
from .catalogue import Fault
from .specs import parse_spec


_EVERYBODY: Final = ""
# Sums of floats may be a little more than 1.
_CERTAIN: Final = 1 + 1e-9


@attrs.frozen
class RandomFaults:
    """
    Decides by chance, and the same way for the same key.
    """

    seed: int
    chances: Mapping[Fault, float]

    def roll(self, key: str) -> Fault | None:
        """Return the fault of *key*, if there is one."""
        seeded = f"{self.seed}/{key}".encode(errors="backslashreplace")
        digest = hashlib.blake2b(seeded, digest_size=8).digest()
        point = int.from_bytes(digest) / 2**64
        for fault, chance in self.chances.items():
            point -= chance
            if point < 0:
                return fault
        return None


@attrs.define
class _Plan:
    """
    What the link ids with one prefix meet: first a script, then the dice.
    """

    script: tuple[Fault | None, ...] = ()
    dice: RandomFaults | None = None
    turns: collections.Counter[str] = attrs.Factory(collections.Counter)

    def concerns(self, link_id: str) -> bool:
        return self.dice is not None or self.turns[link_id] < len(self.script)

    def next(self, link_id: str) -> Fault | None:
        turn = self.turns[link_id]
        self.turns[link_id] += 1
        if turn < len(self.script):
            return self.script[turn]
        assert self.dice is not None  # noqa: S101 - or it had no concern
        return self.dice.roll(f"request/{link_id}/{turn}")


@attrs.define(eq=False)
class Faults:
    """
    What goes wrong at a sandbox, and when.

    ::

        sandbox.faults.script(Fault.reset(after=True), None)
        sandbox.faults.script(Fault.status(503, retry_after=1), prefix="slow-")
        sandbox.faults.always(Fault.status(500), prefix="outage-")
        sandbox.faults.random({Fault.eof(): 0.1, Fault.stall(): 0.05}, seed=7)
        sandbox.faults.clear()

    The script without a prefix comes first. Then the longest prefix counts
    that has something to say: its script, and after it what is `always` or
    `random`. Faults concern requests of the API; the journey's page stays
    good, but for connections that are refused or let in late.
    """

    _script: collections.deque[Fault | None] = attrs.field(
        init=False, factory=collections.deque
    )
    _plans: dict[str, _Plan] = attrs.field(init=False, factory=dict)
    _door: RandomFaults | None = attrs.field(init=False, default=None)
    _knocks: int = attrs.field(init=False, default=0)

    def script(self, *faults: Fault | None, prefix: str | None = None) -> None:
        """
        Say what the next requests meet, in turn; `None` is a good answer.

        Args:
            *faults: Are added to what was scripted before.
            prefix: If given, each link id that starts with it goes through
                the script by itself, whatever other requests come between.
        """
        if prefix is None:
            self._script.extend(faults)
        else:
            self._plan(prefix).script += faults

    def always(self, fault: Fault, *, prefix: str = _EVERYBODY) -> None:
        """
        Let every request of link ids with *prefix* meet *fault*.
        """
        self._stand({fault: 1.0}, seed=0, prefix=prefix)

    def random(
        self,
        chances: Mapping[Fault, float],
        *,
        seed: int | None = None,
        prefix: str = _EVERYBODY,
    ) -> int:
        """
        Let requests of link ids with *prefix* meet faults by chance.

        What the third request of a link id meets depends on the seed, the
        link id and the three alone, not on what else is going on. Faults
        before a connection is let in know no link id: without a prefix their
        chance is that of a connection, and the dice go by its number.

        Args:
            chances: Of each fault, 0 to 1; what is left of 1 is for good
                answers.
            seed: Made up if not given.
            prefix: Of the link ids.

        Returns:
            The seed, which makes the same happen again.

        Raises:
            ConfigurationError: If the chances are none.
        """
        total = sum(chances.values())
        if not (min(chances.values(), default=0) >= 0 and total <= _CERTAIN):
            raise ConfigurationError(
                fields={"chances": ("must be from 0 to 1, all together too",)}
            )
        seed = secrets.randbits(32) if seed is None else seed
        self._stand(chances, seed=seed, prefix=prefix)
        return seed

    def load(
        self, specs: Iterable[str], *, seed: int | None = None
    ) -> int | None:
        """
        Take faults as the command line has them.

        ``NAME[:WORD...]`` is one fault: `refuse`, `slow-accept[:SECONDS]`,
        `reset`, `eof`, `stall[:SECONDS]`, `truncate`, `garbage`, `html`,
        `empty`, `redirect`, `hang-up[:SECONDS]`, or a status such as `503`.
        The word `after` lets it strike after processing, `head` or `body`
        says where an answer is cut or stalls, `retry-after=SECONDS` and
        `date` tell when to come back. By itself it always strikes.

        ======================  ==============================================
        ``reset:after@0.1``     one request in ten, by chance
        ``503,reset,ok``        the next three, in turn; `ok` is a good answer
        ``outage-*=500``        link ids that start with ``outage-``
        ``flaky-*=eof,ok``      each of those by itself, in turn
        ======================  ==============================================

        Args:
            specs: Each like one of those.
            seed: For those by chance; made up if not given.

        Returns:
            The seed, if there is chance in it.

        Raises:
            ConfigurationError: Naming the first one that makes no sense.
        """
        read = [parse_spec(spec) for spec in specs]
        chances: dict[str, dict[Fault, float]] = {}
        for spec in read:
            match spec.faults:
                case [Fault() as fault]:
                    prefix = spec.prefix or _EVERYBODY
                    chances.setdefault(prefix, {})[fault] = spec.chance
                case several:
                    self.script(*several, prefix=spec.prefix)
        for prefix, each in chances.items():
            seed = self.random(each, seed=seed, prefix=prefix)
        return seed if any(spec.chance < 1 for spec in read) else None

    def clear(self) -> None:
        """Let everything be good again."""
        self._script.clear()
        self._plans.clear()
        self._door = None
        self._knocks = 0

    def on_connect(self) -> ConnectFaultBehaviour | None:
        """
        Return what the next connection meets before it is let in.
        """
        fault = self._next_at_door()
        return None if fault is None else fault.on_connect

    def next_request_fault(self, link_id: str) -> Fault | None:
        """
        Return what the next request of *link_id* meets.
        """
        if self._script:
            return self._script.popleft()
        for prefix in sorted(self._plans, key=len, reverse=True):
            plan = self._plans[prefix]
            if link_id.startswith(prefix) and plan.concerns(link_id):
                return plan.next(link_id)
        return None

    def _next_at_door(self) -> Fault | None:
        if self._script:
            head = self._script[0]
            if head is None or head.on_connect is None:
                return None
            return self._script.popleft()
        if self._door is None:
            return None
        self._knocks += 1
        return self._door.roll(f"connection/{self._knocks}")

    def _plan(self, prefix: str) -> _Plan:
        return self._plans.setdefault(prefix, _Plan())

    def _stand(
        self, chances: Mapping[Fault, float], *, seed: int, prefix: str
    ) -> None:
        if prefix == _EVERYBODY:
            on_connect = {
                fault: chance
                for fault, chance in chances.items()
                if fault.on_connect is not None
            }
            self._door = RandomFaults(seed, on_connect) if on_connect else None
            # They had their chance at the door, unless that is always.
            chances = {
                fault: chance
                for fault, chance in chances.items()
                if chance >= 1 or fault not in on_connect
            }
        self._plan(prefix).dice = RandomFaults(seed, dict(chances))
