"""
The unit of work for workflow engines: one shard of a batch.
"""

import asyncio
import os

from collections.abc import AsyncIterable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeAlias

from ._hooks import HookRunner
from .batch.session_batch import SessionBatch
from .client import AsyncBankConnect
from .journal.journal import Journal
from .models.sessions import SessionRequest
from .stats import BatchStats


if TYPE_CHECKING:
    from .batch.outcomes import Outcome
    from .batch.protocols import ResultSink
    from .store import SessionStore

    _Sink: TypeAlias = ResultSink[SessionRequest, Outcome] | SessionStore

Heartbeat: TypeAlias = Callable[[BatchStats], object]


async def run_shard(  # noqa: PLR0913
    rows: Iterable[SessionRequest | str] | AsyncIterable[SessionRequest | str],
    journal: "str | os.PathLike[str] | _Sink",
    *,
    client: AsyncBankConnect | None = None,
    concurrency: int = 64,
    rate: float | None = None,
    scope: str = "",
    heartbeat: Heartbeat | None = None,
    heartbeat_interval: float = 10.0,
) -> BatchStats:
    """
    Create a session for each row of a shard, and record each in its journal.

    ::

        stats = await run_shard(link_ids[shard::8], f"/data/{shard}.jsonl")

    An engine may run it again after any failure, in any process that has the
    journal's file: rows with a session are skipped.

    Args:
        rows: The requests or bare link ids, sync or async.
        journal: The path of the shard's own journal; or a `Journal`, the
            *client*'s store, or another sink.
        client: The client; by default one from `BANKCONNECT_*` environment
            variables, which is closed in the end.
        concurrency: The largest number of requests in flight.
        rate: Requests per second of this shard; `None` for no limit.
        scope: The campaign or loan, for the store.
        heartbeat: A function that is called with the statistics so far; what
            it raises is logged.
        heartbeat_interval: The seconds between two calls of *heartbeat*.

    Returns:
        The statistics; their `failures` are worth another run.

    Raises:
        AuthenticationError: If the key is refused, as all errors after which
            a batch sends nothing more. What was done is in the journal.
        JournalError: If the journal cannot be written.
        ConfigurationError: If a setting is missing or wrong.
    """
    if isinstance(journal, str | os.PathLike):
        journal = Journal(journal)
    async with AsyncExitStack() as stack:
        if client is None:
            client = await stack.enter_async_context(
                AsyncBankConnect.from_env()
            )
        batch = client.create_sessions(
            rows,
            concurrency=concurrency,
            rate=rate,
            scope=scope,
            journal=journal,
        )
        if heartbeat is not None:
            beats = asyncio.create_task(
                _beat(batch, heartbeat, heartbeat_interval)
            )
            stack.callback(beats.cancel)
        stats = await batch.run()
    if batch.abort_cause is not None:
        raise batch.abort_cause
    return stats


async def _beat(
    batch: SessionBatch, heartbeat: Heartbeat, interval: float
) -> None:
    hooks = HookRunner()
    while True:
        hooks.run("heartbeat", heartbeat, batch.stats())
        await asyncio.sleep(interval)
