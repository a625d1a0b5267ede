"""
Protocols of a batch: what sends its requests, and where outcomes go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from bankconnect_async.retry import RetryPolicy

    from .throttle import BatchThrottle


ItemT_contra = TypeVar("ItemT_contra", contravariant=True)
OutcomeT_contra = TypeVar("OutcomeT_contra", contravariant=True)
RequestT = TypeVar("RequestT")
RequestT_contra = TypeVar("RequestT_contra", contravariant=True)


class Indexed(Protocol):
    """
    An outcome of an item.
    """

    @property
    def index(self) -> int:
        """The position of the item in the source, from 0."""
        ...


class ItemSender(Protocol[ItemT_contra, RequestT]):
    """
    Sends the request of an item.
    """

    @property
    def complete(self) -> Callable[[Any], Awaitable[Any]] | None:
        """
        The coroutine function that completes a result, if there is one.

        The worker awaits it before the outcome is recorded. It sends nothing
        to the API.
        """
        ...

    def prepare(self, item: ItemT_contra, /) -> tuple[str, RequestT]:
        """
        Return the id of an item, and its request.

        Raises:
            InvalidRequestError: If *item* makes no request.
        """
        ...

    def send(
        self,
        id_: str,
        request: RequestT,
        retry: RetryPolicy,
        throttle: BatchThrottle,
        /,
    ) -> Awaitable[tuple[Any, int]]:
        """
        Return an awaitable of the result: the response and the number of
        attempts.
        """
        ...


class Capacity(Protocol):
    """
    The connections over which a batch sends.
    """

    async def open(self) -> object:
        """Bind to the running event loop."""
        ...

    def reserve(
        self, concurrency: int, rate_limit: Callable[[], float | None], /
    ) -> None:
        """
        Reserve that many connections more, until `release`.

        Args:
            concurrency: The number of connections.
            rate_limit: The function that returns the requests per second
                that the batch allows itself, `None` for no limit.
        """
        ...

    def release(
        self, concurrency: int, rate_limit: Callable[[], float | None], /
    ) -> None:
        """Give back what `reserve` took."""
        ...


class ResultSink(Protocol[RequestT_contra, OutcomeT_contra]):
    """
    A record of a batch's outcomes; a `Journal` is one.

    A batch also takes the store of its client in the place of a sink.
    """

    @property
    def is_resumable(self) -> bool:
        """Whether records are durable as soon as `record_all` returns."""
        ...

    @property
    def unrecorded(self) -> int:
        """The number of outcomes that could not be recorded."""
        ...

    def opened_for(
        self, api: str, /, *, concurrency: int = 1
    ) -> AbstractAsyncContextManager[None]:
        """
        Stay open for one batch.

        Args:
            api: The name of the API.
            concurrency: The largest number of requests in flight, whose
                records must find room.
        """
        ...

    def begin(
        self, index: int, request: RequestT_contra, /, *, link_id: str | None
    ) -> bool:
        """
        Tell whether the request of an input is still to be sent.

        Args:
            index: The position of the input, from 0.
            request: The request that the input makes.
            link_id: The customer, if other than the request's.
        """
        ...

    def record_all(self, outcomes: Sequence[OutcomeT_contra], /) -> None:
        """
        Record outcomes before their workers take the next inputs.

        Args:
            outcomes: The outcomes; several where responses came together.

        Raises:
            JournalError: If one of them cannot be recorded.
        """
        ...

    async def drain(self) -> None:
        """Wait until all records are written."""
        ...

    def describe_unrecorded(self) -> str:
        """Name the outcomes that could not be recorded."""
        ...
