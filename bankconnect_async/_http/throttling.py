"""
What retries know of the throttle that an operation of a batch waits in.
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
        """Seconds that extend the operation's deadline."""
        ...

    def on_failure(self, error: BankConnectError) -> bool:
        """
        Hear of a failed attempt.

        Returns:
            Whether this failure does not count, because the server only asks
            the whole batch for patience.
        """
        ...

    async def wait(self, seconds: float) -> bool:
        """
        Wait *seconds*, and until the next attempt may be made.

        Returns:
            Whether to make it; `False` once nothing is to be sent any more.
        """
        ...
