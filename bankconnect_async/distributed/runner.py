"""
The client and the send rate of a worker process, for any coordinator.
"""

from collections.abc import AsyncIterable, Mapping
from typing import Any

import attrs

from bankconnect_async._codec.redirects import without_state
from bankconnect_async._codec.return_urls import ReturnURL
from bankconnect_async.batch.outcomes import Item
from bankconnect_async.batch.protocols import ResultSink
from bankconnect_async.batch.session_batch import BatchOptions, SessionBatch
from bankconnect_async.batch.throttle import SendQueue
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.clock import SYSTEM_CLOCK
from bankconnect_async.models.sessions import Unset
from bankconnect_async.retry import RetryPolicy

from .messages import Directive, Heartbeat, JobSpec
from .rate_shares import LeasedLimiter
from .shared_limit import apply_limit


class WorkerClient(AsyncBankConnect):
    """
    A client whose batches share one send queue.
    """

    def create_shard(
        self,
        source: AsyncIterable[Item],
        options: BatchOptions,
        queue: SendQueue,
        *,
        scope: str,
    ) -> SessionBatch:
        """Return the batch of one shard."""
        return SessionBatch(
            self._stored.creator(self._creator, scope),
            source,
            options,
            scope=scope,
            stored=self._stored,
            capacity=self._executor.transport,
            send_queue=queue,
        )


class BatchRunner:
    """
    The client and the send rate of one batch in a worker process.

    Args:
        spec: The batch.
        bank: The client.
    """

    def __init__(self, spec: JobSpec, bank: WorkerClient) -> None:
        self._spec = spec
        self._bank = bank
        policy = spec.settings.get("retry", RetryPolicy())
        self._retry = attrs.evolve(policy, deadline=spec.deadline)
        self._limiter = (
            LeasedLimiter(SYSTEM_CLOCK.monotonic) if spec.is_paced else None
        )
        # All shards share the send rate and its knowledge of the server.
        self._queue = SendQueue(
            SYSTEM_CLOCK,
            limiter=self._limiter,
            max_pause=spec.deadline,
        )
        self._directive = Directive()

    @property
    def api(self) -> str:
        """The name of the API in records."""
        return self._spec.api or self._bank.api_id

    def _follow(self, directive: Directive) -> bool:
        """Follow a directive, and return whether it begins an abort."""
        is_aborting = directive.abort and not self._directive.abort
        # A stale directive must not undo a newer drain or abort.
        self._directive = attrs.evolve(
            directive,
            drain=directive.drain or self._directive.drain,
            abort=directive.abort or self._directive.abort,
        )
        if self._limiter is not None and directive.rate is not None:
            self._limiter.renew(directive.rate, directive.rate_end)
        now = SYSTEM_CLOCK.monotonic()
        apply_limit(self._queue.adaptive_rate, directive, now)
        cause = directive.abort_cause
        if cause is not None and self._queue.abort_cause is None:
            self._queue.abort(cause)
        return is_aborting

    def _describe(
        self,
        batches: Mapping[int, SessionBatch],
        created: Mapping[int, int],
        *,
        secrets: str = "",
        key: bytes = b"",
    ) -> Heartbeat:
        stats = {number: batch.stats() for number, batch in batches.items()}
        rate, now = self._queue.adaptive_rate, SYSTEM_CLOCK.monotonic()
        return Heartbeat(
            api=self.api,
            redirect_url=self._plain_redirect_url(),
            created=created,
            failures={number: each.failures for number, each in stats.items()},
            in_flight=sum(each.in_flight for each in stats.values()),
            retries=self._queue.retries,
            # All shards share one meter, so any of them tells the rate.
            rate=max((each.rate for each in stats.values()), default=0.0),
            limit=rate.limit(now),
            is_probing=not self._queue.breaker.is_closed,
            found=rate.found,
            pause_end=rate.requested_end,
            secrets=secrets,
            clock=now,
            key=key,
        )

    def _options(self, journal: ResultSink[Any, Any]) -> BatchOptions:
        return BatchOptions(
            api=self._bank.api_id,
            concurrency=self._spec.concurrency,
            retry=self._retry,
            clock=SYSTEM_CLOCK,
            journal=journal,
        )

    def _plain_redirect_url(self) -> str | None | Unset:
        url = self._bank.redirect_url
        if isinstance(url, ReturnURL):
            return without_state(str(url.build("-")), "-")
        return url
