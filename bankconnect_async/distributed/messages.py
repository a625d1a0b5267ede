"""
Messages between the coordinator of a batch and its workers.
"""

import pickle

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import attrs

from bankconnect_async.batch.outcomes import Item
from bankconnect_async.errors import BankConnectError
from bankconnect_async.models.sessions import Unset


#: The name of the heartbeat among the messages of Dask.
HEARTBEAT: Final = "bankconnect_heartbeat"

#: Items, each with its line in the input.
Rows: TypeAlias = list[tuple[int, Item]]


@attrs.frozen(kw_only=True)
class JobSpec:
    """
    The settings that all workers of a batch share; no secrets.

    Attributes:
        run: The name of the batch.
        api: The name of the API in records; `None` for the client's own.
        concurrency: The most requests in flight in one process.
        deadline: The seconds that one item may take.
        settings: The client settings that override a worker's environment.
        scope: The campaign or loan, for the store.
        machine: The name of the coordinator's machine.
        directory: The directory for shards, which belongs to one journal.
        is_paced: Whether a worker needs a share of a rate to send anything.
    """

    run: str
    api: str | None
    concurrency: int
    deadline: float
    settings: Mapping[str, Any]
    scope: str = ""
    machine: str = ""
    directory: str = ""
    is_paced: bool = False


@attrs.frozen(kw_only=True)
class Directive:
    """
    The coordinator's latest instructions to a worker.

    Attributes:
        rate: The share of the rate limit that this process may use.
        rate_end: The time on the process's own clock when the share expires.
        limit: The share of the server's limit to use from now on, as the
            workers found it; `None` to keep what this process has found.
        found: The limit in the heartbeat that this share replaces. If the
            process has found another one since then, it keeps that.
        sharers: The number of processes that share the server's limit.
        pause_end: The time on the process's own clock when a pause ends that
            the server demanded of any worker.
        drain: Whether to send nothing more.
        abort: Whether to give up what is in flight, too.
        abort_cause: The error that aborted the batch, if any.
        ignore_interrupts: Whether to leave Ctrl-C to the parent process.
    """

    rate: float | None = None
    rate_end: float = 0.0
    limit: float | None = None
    found: float | None = None
    sharers: int = 1
    pause_end: float = 0.0
    drain: bool = False
    abort: bool = False
    abort_cause: BankConnectError | None = None
    ignore_interrupts: bool = False


@attrs.frozen(kw_only=True)
class Shard:
    """
    Rows that one process can read, and the journal for their outcomes.

    Attributes:
        number: The number of the shard, from 0.
        path: The path of its journal, which exists.
        sealed_rows: The rows, encrypted for one worker process.
    """

    number: int
    path: str
    sealed_rows: bytes = attrs.field(repr=False)


@attrs.define(kw_only=True)
class Assignment:
    """
    A shard and the worker that has it.

    Attributes:
        number: The number of the shard, from 0.
        path: The path of its journal.
        rows: The rows, each with its line.
        address: The worker's address.
        attempt: The number of workers that had it before.
    """

    number: int
    path: str
    rows: Rows
    address: str
    attempt: int = 0


@attrs.frozen(kw_only=True)
class Result:
    """
    The end of a shard, apart from its journal.

    Attributes:
        left: The number of rows without an outcome.
        is_missing: Whether its journal does not exist.
        is_locked: Whether another process still writes to its journal.
        is_foreign: Whether it was encrypted for another process.
        abort_cause: The error that aborted the batch, if any.
        error: The reason why the shard failed, if it did.
    """

    left: int = 0
    is_missing: bool = False
    is_locked: bool = False
    is_foreign: bool = False
    abort_cause: BankConnectError | None = None
    error: BankConnectError | None = None


@attrs.frozen(kw_only=True)
class Heartbeat:
    """
    A worker's answer to a directive.

    Attributes:
        api: The client's name for the API.
        redirect_url: The redirect URL of a customer ``-``.
        created, failures: The counts of each shard in progress, by number.
        in_flight, retries, rate, limit, is_probing: As in `BatchStats`.
        found: The rate that the server leaves to this process, as far as it
            was found; `None` while no request was refused.
        pause_end: The time on the clock of this process when the latest
            pause ends for which the server asked this process.
        secrets: A digest of the API key, the server hash and the store, which
            differs from run to run.
        clock: The time on the clock of this process.
        key: The public key that shards are encrypted for.
    """

    api: str
    redirect_url: str | None | Unset
    created: Mapping[int, int]
    failures: Mapping[int, Mapping[str, int]]
    in_flight: int
    retries: int
    rate: float
    limit: float | None
    is_probing: bool
    found: float | None
    pause_end: float
    secrets: str
    clock: float
    key: bytes

    @property
    def pause(self) -> float:
        """The seconds that are left of a pause."""
        return max(0.0, self.pause_end - self.clock)

    def has_same_settings(self, other: "Heartbeat") -> bool:
        """Tell whether both workers send the same requests to one API."""
        return (self.api, self.redirect_url) == (other.api, other.redirect_url)


def unpack(message: bytes) -> Any:
    """Load a message that a process of the same batch pickled."""
    return pickle.loads(message)  # noqa: S301 - packed by our own processes
