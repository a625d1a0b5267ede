"""
What became of the rows of a batch, in numbers.
"""

import time

from collections import Counter
from typing import Any, Final

import attrs

from bankconnect_async.errors import AuthenticationError, BankConnectError


_MINUTE: Final = 60
_HOUR: Final = 3600


@attrs.define
class BatchSummary:
    """
    The numbers so far, and at the end the summary.

    Attributes:
        total: Rows of the input, as far as they could be counted.
        created: Rows with a session.
        failures: Rows without one, by the name of the error.
        skipped: Rows that had their session before.
        seconds: Since the beginning, as of the last `tick`.
        recent_rate: Rows per second of late; `None` if that was not measured.
        limit: Requests per second at most at present, if there is a limit.
        pause: Seconds for which the server asked to be left alone.
        interrupted: Somebody stopped it.
        broken: Something else ended it before the end of the input.
        mismatched: The output turned out to be of other requests.
        stopped: Why it ended, or sent no more, before the end of the input.
    """

    total: int | None = None
    created: int = 0
    failures: Counter[str] = attrs.Factory(Counter)
    skipped: int = 0
    seconds: float = 0
    recent_rate: float | None = None
    limit: float | None = None
    pause: float = 0
    interrupted: bool = False
    broken: bool = False
    mismatched: bool = False
    stopped: str | None = None
    _started: float = attrs.field(factory=time.monotonic, init=False)

    @property
    def failed(self) -> int:
        """Rows without a session."""
        return self.failures.total()

    @property
    def done(self) -> int:
        """Rows in all, but for those that were skipped."""
        return self.created + self.failed

    @property
    def passed(self) -> int:
        """Rows in all."""
        return self.done + self.skipped

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.done / self.seconds if self.seconds else 0

    @property
    def is_incomplete(self) -> bool:
        """Whether there may be rows that nothing is known of."""
        return self.interrupted or self.broken

    @property
    def is_refused(self) -> bool:
        """Whether the output was refused before anything was done."""
        return self.mismatched and not self.passed

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
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
            "rate": round(self.rate, 1),
            "interrupted": self.interrupted,
            "stopped": self.stopped,
        }

    def as_text(self) -> str:
        """Return the summary for people, on one line."""
        return (
            f"created {self.created}, failed {self.failed}{self._classes()}"
            + (f", skipped {self.skipped} created before" * bool(self.skipped))
            + f", {self.seconds:.1f} s, {self.rate:.0f} rows/s"
            + (", interrupted" if self.interrupted else "")
        )

    def as_progress(self) -> str:
        """Return what is going on, beside how many rows passed."""
        rate = self.rate if self.recent_rate is None else self.recent_rate
        parts = [
            f"{self.failed} failed{self._classes()}",
            f"{rate:.0f} rows/s",
        ]
        if self.limit is not None:
            parts.append(f"limit {self.limit:.0f}/s")
        if self.pause:
            parts.append(f"pausing {self.pause:.0f} s")
        if self.total is not None and rate:
            left = max(0, self.total - self.passed) / rate
            parts.append(f"{_duration(left)} left")
        return ", ".join(parts)

    def as_line(self) -> str:
        """Return what is going on, for a log."""
        total = "" if self.total is None else f" of {self.total}"
        return (
            f"{_duration(self.seconds)}: {self.passed}{total} rows, "
            f"{self.as_progress()}"
        )

    def _classes(self) -> str:
        classes = ", ".join(
            f"{count} {name}" for name, count in self.failures.most_common()
        )
        return f" ({classes})" if classes else ""


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"
