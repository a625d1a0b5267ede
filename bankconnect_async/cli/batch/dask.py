"""
``bankconnect batch --dask``: the same rows, on the workers of a cluster.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs

from bankconnect_async.cli.options import require_redirect_url
from bankconnect_async.distributed.coordinator import DistributedBatch
from bankconnect_async.errors import BankConnectError, BatchStoppedError
from bankconnect_async.models.sessions import Unset

from .run import Batch


@attrs.define(kw_only=True)
class DaskBatch(Batch):
    """
    One run over one input, by many.

    Attributes:
        cluster: Address of its scheduler, or ``local``.
        journal_dir: For the journals of shards, if not beside the output.
        settings: Of the workers' clients, beside their environment.
    """

    cluster: str
    journal_dir: str | None
    settings: Mapping[str, Any]
    # Rows that made no request, and were sent to nobody.
    _refused: Counter[str] = attrs.field(factory=Counter, init=False)

    async def run_distributed(self) -> None:
        """
        Create a session for every row, and write what came of it.

        What ends it before the end of the input stands in the summary.

        Raises:
            ConfigurationError: If there is no cluster, or no client on it.
        """
        batch = DistributedBatch(
            source=self._requests(),
            cluster=self.cluster,
            journal=self.journal,
            journal_dir=self.journal_dir,
            concurrency=self.concurrency,
            rate=self.rate,
            settings=self.settings,
            on_ready=self._check,
            on_warning=self.bar.say,
        )
        with self.bar.watching(lambda: self._look(batch)):
            try:
                await self._run_until_stopped(batch)
            except BatchStoppedError as error:
                self._break(error)
        if batch.abort_cause is not None:
            self._set_stop_reason(batch.abort_cause)

    def _check(self, redirect_url: str | None | Unset) -> None:
        if self.columns is not None and "redirect_url" not in self.columns:
            require_redirect_url(redirect_url)
        self.summary.start()

    def _look(self, outcomes: Any) -> None:
        super()._look(outcomes)
        now = outcomes.stats()
        self.summary.created = now.created
        self.summary.failures = self._refused + Counter(now.failures)

    async def _create(self, outcomes: Any) -> None:
        await outcomes

    def _in_flight(self, outcomes: Any) -> str:
        # The number is a second old, and 0 before the first one came.
        return "rows" if outcomes.stats().seconds else ""

    def _count_given_up(self) -> None:
        # What the workers have recorded is in the numbers already.
        pass

    def _count_failure(self, error: BankConnectError) -> None:
        self._refused[type(error).__name__] += 1
