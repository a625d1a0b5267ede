"""
Plans that decide which request meets which fault.
"""

import collections
import hashlib
import secrets

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from bankconnect_async.errors import ConfigurationError

from .catalogue import Fault
from .specs import parse_spec


_ALL: Final = ""
# Sums of floats may be a little more than 1.
_CERTAIN: Final = 1 + 1e-9


@attrs.frozen
class RandomFaults:
    """
    Chooses faults at random, and the same fault for the same key.
    """

    seed: int
    chances: Mapping[Fault, float]

    def choose(self, key: str) -> Fault | None:
        """Return the fault of *key*, if any."""
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
    The faults of the link ids with one prefix: a script, then random ones.
    """

    script: tuple[Fault | None, ...] = ()
    random: RandomFaults | None = None
    requests: collections.Counter[str] = attrs.Factory(collections.Counter)


@attrs.define(eq=False)
class Faults:
    """
    The faults that a sandbox injects.

    ::

        sandbox.faults.script(Fault.reset(after=True), None)
        sandbox.faults.script(Fault.status(503, retry_after=1), prefix="slow-")
        sandbox.faults.always(Fault.status(500), prefix="outage-")
        sandbox.faults.random({Fault.eof(): 0.1, Fault.stall(): 0.05}, seed=7)
        sandbox.faults.clear()

    The script without a prefix comes first. After it, the longest prefix
    that has a fault left decides: first its script, then its `always` or
    `random`. Faults affect requests of the API. The journey's page is served
    well, except that its connections may be refused or accepted late.
    """

    _script: collections.deque[Fault | None] = attrs.field(
        init=False, factory=collections.deque
    )
    _plans: collections.defaultdict[str, _Plan] = attrs.field(
        init=False, factory=lambda: collections.defaultdict(_Plan)
    )
    _on_connect: RandomFaults | None = attrs.field(init=False, default=None)
    _connections: int = attrs.field(init=False, default=0)

    def script(self, *faults: Fault | None, prefix: str | None = None) -> None:
        """
        Set the faults of the next requests, in order.

        Args:
            *faults: The faults; `None` is a good response. They are appended
                to an earlier script.
            prefix: If given, each link id that starts with it has the script
                to itself, whatever other requests arrive in between.
        """
        if prefix is None:
            self._script.extend(faults)
        else:
            self._plans[prefix].script += faults

    def always(self, fault: Fault, *, prefix: str = _ALL) -> None:
        """
        Apply *fault* to every request of link ids with *prefix*.
        """
        self.random({fault: 1}, seed=0, prefix=prefix)

    def random(
        self,
        chances: Mapping[Fault, float],
        *,
        seed: int | None = None,
        prefix: str = _ALL,
    ) -> int:
        """
        Apply faults at random to requests of link ids with *prefix*.

        The fault of a link id's third request depends on the seed, the link
        id and the number three alone, not on other requests. Connect faults
        precede the link id: without a prefix, their chance is that of a
        connection and depends on the connection's number.

        Args:
            chances: The chance of each fault, 0 to 1. The rest of 1 is the
                chance of a good response.
            seed: The seed; random by default.
            prefix: The prefix of the link ids.

        Returns:
            The seed, which repeats the same faults.

        Raises:
            ConfigurationError: If a chance or their sum is not from 0 to 1.
        """
        total = sum(chances.values())
        if not (min(chances.values(), default=0) >= 0 and total <= _CERTAIN):
            raise ConfigurationError(
                fields={"chances": ("must be from 0 to 1, all together too",)}
            )
        seed = secrets.randbits(32) if seed is None else seed
        if prefix == _ALL:
            on_connect = {
                fault: chance
                for fault, chance in chances.items()
                if fault.behaviour.is_on_connect
            }
            self._on_connect = RandomFaults(seed, on_connect)
            # The connection had its chance already. Only what always happens
            # happens to requests over open connections, too.
            chances = {
                fault: chance
                for fault, chance in chances.items()
                if chance >= 1 or fault not in on_connect
            }
        self._plans[prefix].random = RandomFaults(seed, dict(chances))
        return seed

    def load(
        self, specs: Iterable[str], *, seed: int | None = None
    ) -> int | None:
        """
        Add faults as the command line writes them.

        ``NAME[:WORD...]`` is one fault: `refuse`, `slow-accept[:SECONDS]`,
        `reset`, `eof`, `stall[:SECONDS]`, `truncate`, `garbage`, `html`,
        `empty`, `redirect`, `hang-up[:SECONDS]`, or a status such as `503`.
        The word `after` applies it after processing, `head` or `body` says
        where a response is cut or stalls, and `retry-after=SECONDS` and
        `date` set the Retry-After header. A fault by itself always applies.

        ======================  ==============================================
        ``reset:after@0.1``     one request in ten, at random
        ``503,reset,ok``        the next three, in order; `ok` is a good one
        ``outage-*=500``        link ids that start with ``outage-``
        ``flaky-*=eof,ok``      each of those by itself, in order
        ======================  ==============================================

        Args:
            specs: The faults.
            seed: The seed of random faults; random by default.

        Returns:
            The seed, if there are random faults.

        Raises:
            ConfigurationError: If a spec is invalid.
        """
        parsed = [parse_spec(spec) for spec in specs]
        chances: dict[str, dict[Fault, float]] = {}
        for spec in parsed:
            match spec.faults:
                case [Fault() as fault]:
                    prefix = spec.prefix or _ALL
                    chances.setdefault(prefix, {})[fault] = spec.chance
                case several:
                    self.script(*several, prefix=spec.prefix)
        for prefix, each in chances.items():
            seed = self.random(each, seed=seed, prefix=prefix)
        return seed if any(spec.chance < 1 for spec in parsed) else None

    def clear(self) -> None:
        """Remove all faults."""
        self._script.clear()
        self._plans.clear()
        self._on_connect = None
        self._connections = 0

    def next_connect_fault(self) -> Fault | None:
        """
        Return the fault of the next connection, before it is accepted.
        """
        if self._script:
            fault = self._script[0]
            if fault is not None and fault.behaviour.is_on_connect:
                return self._script.popleft()
            return None
        if self._on_connect is None:
            return None
        self._connections += 1
        return self._on_connect.choose(f"connection/{self._connections}")

    def next_request_fault(self, link_id: str) -> Fault | None:
        """
        Return the fault of the next request of *link_id*.
        """
        if self._script:
            return self._script.popleft()
        for prefix in sorted(self._plans, key=len, reverse=True):
            plan = self._plans[prefix]
            number = plan.requests[link_id]
            if not link_id.startswith(prefix):
                continue
            if number < len(plan.script):
                fault = plan.script[number]
            elif plan.random is not None:
                fault = plan.random.choose(f"request/{link_id}/{number}")
            else:
                continue
            plan.requests[link_id] += 1
            return fault
        return None
