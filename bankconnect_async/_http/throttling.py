"""
The protocol between retries and the throttle of a batch.
"""

from typing import Protocol

from bankconnect_async.errors import BankConnectError


class Throttle(Protocol):
    """
    Decides when an operation may make its next attempt.

    A batch implements it; a single operation has none.
    """

    @property
    def throttled_for(self) -> float:
        """The seconds by which the operation's deadline is extended."""
        ...

    def on_failure(self, error: BankConnectError) -> bool:
        """
        Record a failed attempt.

        Returns:
            Whether this failure does not count, because the server only asks
            the whole batch to slow down.
        """
        ...

    async def wait(self, seconds: float) -> bool:
        """
        Wait *seconds*, and until the next attempt may be made.

        Returns:
            Whether to make it; `False` once the batch sends nothing more.
        """
        ...
