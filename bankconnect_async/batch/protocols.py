"""
Protocols of a batch: capacity for its requests, and a sink for outcomes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol


if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from bankconnect_async.models.sessions import SessionRequest

    from .outcomes import Outcome


class Capacity(Protocol):
    """
    The connections over which a batch sends.
    """

    async def open(self) -> object:
        """Bind to the running event loop."""
        ...

    def reserve(self, concurrency: int, /) -> None:
        """Reserve that many connections more, until `release`."""
        ...

    def release(self, concurrency: int, /) -> None:
        """Give back what `reserve` took."""
        ...


class ResultSink(Protocol):
    """
    A record of a batch's outcomes; a `Journal` is one.
    """

    @property
    def is_resumable(self) -> bool:
        """Whether records are durable as soon as `record` returns."""
        ...

    @property
    def unrecorded(self) -> int:
        """The number of outcomes that could not be recorded."""
        ...

    def opened_for(
        self, api: str, *, concurrency: int = 1
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
        self, index: int, request: SessionRequest, *, link_id: str | None
    ) -> bool:
        """
        Tell whether the session of an input is still to be created.

        Args:
            index: The position of the input, from 0.
            request: The request that the input makes.
            link_id: The customer, if other than the request's.
        """
        ...

    def record(self, outcome: Outcome) -> None:
        """
        Record an outcome before its worker takes the next input.

        Raises:
            JournalError: If it cannot be recorded.
        """
        ...

    async def drain(self) -> None:
        """Wait until all records are written."""
        ...

    def describe_unrecorded(self) -> str:
        """Name the outcomes that could not be recorded."""
        ...
