"""
Call the vendor's endpoints at the pace of a batch.
"""

from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

import attrs

from bankconnect_async._http.bodies import RequestBody
from bankconnect_async._http.operation import Operation
from bankconnect_async._http.semaphore import FifoSemaphore
from bankconnect_async._resources.base import ApiClient, ApiView
from bankconnect_async._resources.statement_data import StatementData
from bankconnect_async.retry import RetryPolicy

from .outcomes import batch_stopped_error
from .session_batch import ABORTING, check_number
from .throttle import IdThrottle, SendQueue, WorkerSlots


if TYPE_CHECKING:
    from .protocols import Capacity


T = TypeVar("T")

# The seconds for one call, its retries included.
_DEADLINE: Final = 120.0


class _PacedApi(ApiView):
    """
    Sends requests as the workers of a batch do.

    Attributes:
        send_queue: The queue in which they wait for each other.
    """

    def __init__(
        self, api: ApiClient, *, concurrency: int, rate: float | None
    ) -> None:
        policy = attrs.evolve(
            api.retry, deadline=max(api.retry.deadline, _DEADLINE)
        )
        super().__init__(api, retry=policy)
        self.send_queue: Final = SendQueue(
            api.clock,
            rate=rate,
            rng=policy.rng,
            max_pause=policy.deadline,
        )
        self._slots: Final = WorkerSlots(
            concurrency, FifoSemaphore(1), _start_nothing
        )

    async def _execute(
        self,
        operation: Operation[T],
        body: RequestBody | None,
        retry: RetryPolicy,
    ) -> T:
        throttle = IdThrottle(self.send_queue, self._slots)
        try:
            cause = self.send_queue.abort_cause
            if cause is None and not (
                throttle.try_acquire() or await throttle.acquire()
            ):
                cause = self.send_queue.abort_cause
            if cause is not None:
                raise batch_stopped_error(cause)
            result, _ = await self.executor.execute(
                operation,
                body,
                policy=retry,
                throttle=throttle,
            )
            throttle.on_success()
        except ABORTING as error:
            self.send_queue.abort(error)
            raise
        finally:
            throttle.release()
        return result


def _start_nothing() -> None:
    # The callers are the workers, and each waits for its own call.
    pass


class PacedClient(StatementData):
    """
    The methods for statement data, whose calls share one pace.

    `AsyncBankConnect.paced` returns one.
    """

    def __init__(
        self,
        api: ApiClient,
        *,
        capacity: "Capacity",
        concurrency: int,
        rate: float | None,
    ) -> None:
        check_number("concurrency", concurrency, int)
        if rate is not None:
            check_number("rate", rate, (int, float))
        paced = _PacedApi(api, concurrency=concurrency, rate=rate)
        self._api = paced
        self._rate_limit = paced.send_queue.rate_limit
        self._capacity = capacity
        self._concurrency = concurrency

    async def __aenter__(self) -> Self:
        await self._capacity.open()
        self._capacity.reserve(self._concurrency, self._rate_limit)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._capacity.release(self._concurrency, self._rate_limit)
