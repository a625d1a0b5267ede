"""
What became of the rows of a batch, in numbers.
"""

import time

from collections import Counter
from typing import Any

import attrs

from bankconnect_async.errors import AuthenticationError, BankConnectError


@attrs.define
class Tally:
    """
    The numbers so far, and at the end the summary.

    Attributes:
        created: Rows with a session.
        failures: Rows without one, by the name of the error.
        seconds: Since the beginning, as of the last `tick`.
        interrupted: Somebody stopped it.
        broken: Something else ended it before the end of the input.
        stopped: Why it ended, or sent no more, before the end of the input.
    """

    created: int = 0
    failures: Counter[str] = attrs.Factory(Counter)
    seconds: float = 0
    interrupted: bool = False
    broken: bool = False
    stopped: str | None = None
    _started: float = attrs.field(factory=time.monotonic, init=False)

    @property
    def failed(self) -> int:
        """Rows without a session."""
        return self.failures.total()

    @property
    def done(self) -> int:
        """Rows in all."""
        return self.created + self.failed

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.done / self.seconds if self.seconds else 0

    @property
    def is_incomplete(self) -> bool:
        """Whether there may be rows that nothing is known of."""
        return self.interrupted or self.broken

    @property
    def not_authenticated(self) -> bool:
        """Whether the key was refused."""
        return self.failures[AuthenticationError.__name__] > 0

    def fail(self, error: BankConnectError) -> None:
        """Count a row without a session."""
        self.failures[type(error).__name__] += 1

    def start(self) -> None:
        """Begin to measure."""
        self._started = time.monotonic()

    def tick(self) -> None:
        """Look at the clock."""
        self.seconds = time.monotonic() - self._started

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for machines."""
        return {
            "created": self.created,
            "failed": self.failed,
            "failures": dict(self.failures),
            "seconds": round(self.seconds, 3),
            "rate": round(self.rate, 1),
            "interrupted": self.interrupted,
            "stopped": self.stopped,
        }

    def as_text(self) -> str:
        """Return the summary for people, on one line."""
        classes = ", ".join(
            f"{count} {name}" for name, count in self.failures.most_common()
        )
        return (
            f"created {self.created}, failed {self.failed}"
            + (f" ({classes})" if classes else "")
            + f", {self.seconds:.1f} s, {self.rate:.0f} rows/s"
            + (", interrupted" if self.interrupted else "")
        )
