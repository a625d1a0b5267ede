"""
The counts of a batch, and their texts.
"""

import re

from collections import Counter
from typing import Any, ClassVar, Final

import attrs

from bankconnect_async.errors import AuthenticationError
from bankconnect_async.stats import BatchStats


_MINUTE: Final = 60
_HOUR: Final = 3600


@attrs.define
class BatchSummary:
    """
    The counts so far, and at the end the summary.

    Attributes:
        total: The number of rows of the input, if it is known.
        created: The number of rows with a new session.
        failures: The number of failed rows, by the name of the error.
        skipped: The number of rows with a session of an earlier run.
        seconds: The time since the start.
        recent_rate: The rows per second over the last seconds.
        limit: The present limit of requests per second, if there is one.
        pause: The seconds for which the batch sends nothing.
        is_probing: Whether single requests find out when the server is back.
        interrupted: Whether a signal stopped the batch.
        aborted: Whether an error ended the batch early.
        mismatched: Whether the output belongs to other requests.
        stopped: The reason why the batch ended or sent no more, if it did so
            before the end of the input.
    """

    #: The title of the progress bar, the unit of the counts, and the words
    #: for what is done in this run and in an earlier one.
    title: ClassVar[str] = "creating sessions"
    unit: ClassVar[str] = "rows"
    done: ClassVar[str] = "created"
    done_before: ClassVar[str] = "created before"

    total: int | None = None
    created: int = 0
    failures: Counter[str] = attrs.Factory(Counter)
    skipped: int = 0
    seconds: float = 0
    recent_rate: float = 0
    limit: float | None = None
    pause: float = 0
    is_probing: bool = False
    interrupted: bool = False
    aborted: bool = False
    mismatched: bool = False
    stopped: str | None = None

    @property
    def failed(self) -> int:
        """The number of failed rows."""
        return self.failures.total()

    @property
    def processed(self) -> int:
        """The number of rows that are done or skipped."""
        return self.created + self.failed + self.skipped

    @property
    def rate(self) -> float:
        """The rows per second since the start, without skipped rows."""
        done = self.created + self.failed
        return done / self.seconds if self.seconds else 0

    @property
    def is_incomplete(self) -> bool:
        """Whether rows of the input may have no record."""
        return self.interrupted or self.aborted

    @property
    def is_refused(self) -> bool:
        """Whether the output was refused before the first row."""
        return self.mismatched and not self.processed

    @property
    def not_authenticated(self) -> bool:
        """Whether the server refused the API key."""
        return self.failures[AuthenticationError.__name__] > 0

    def update(
        self, stats: BatchStats, invalid: Counter[str], rate: float | None
    ) -> None:
        """
        Take over the counts of a batch.

        Args:
            stats: The statistics of the batch.
            invalid: The rows that make no request, by the name of the error.
            rate: The user's limit of requests per second, if there is one.
        """
        self.created = stats.created
        self.failures = invalid + Counter(stats.failures)
        self.skipped = stats.skipped
        self.seconds = stats.seconds
        self.recent_rate = stats.rate
        self.limit = rate if stats.limit is None else stats.limit
        self.pause = stats.pause
        self.is_probing = stats.is_probing

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as an object for JSON."""
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
        """Return the summary as one line of text."""
        skipped = f", skipped {self.skipped} {self.done_before}"
        return (
            f"{self.done} {self.created}, "
            f"failed {self.failed}{self._classes()}"
            + (skipped if self.skipped else "")
            + f", {self.seconds:.1f} s, {self.rate:.0f} {self.unit}/s"
            + (", interrupted" if self.interrupted else "")
        )

    def as_progress(self) -> str:
        """Return the text beside the bar."""
        parts = [
            f"{self.failed} failed",
            f"{self.recent_rate:.0f} {self.unit}/s",
        ]
        if self.is_probing:
            parts.append("nearly everything fails: probing")
        elif self.limit is not None:
            parts.append(f"limit {self.limit:.0f}/s")
        if self.pause and not self.is_probing:
            parts.append(f"pausing {self.pause:.0f} s")
        if self.total is not None and self.recent_rate:
            left = max(0, self.total - self.processed) / self.recent_rate
            parts.append(f"{_duration(left)} left")
        # Narrow terminals show the beginning only.
        return ", ".join(parts) + self._classes()

    def as_line(self) -> str:
        """Return the progress as a line of a log."""
        total = "" if self.total is None else f" of {self.total}"
        return (
            f"{_duration(self.seconds)}: {self.processed}{total} {self.unit}, "
            f"{self.as_progress()}"
        )

    def _classes(self) -> str:
        classes = ", ".join(
            f"{count} {error_words(name)}"
            for name, count in self.failures.most_common()
        )
        return f" ({classes})" if classes else ""


def error_words(name: str) -> str:
    """
    Return the name of an error as words, such as `rate limit`.
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removesuffix("Error"))
    return words.lower()


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"
