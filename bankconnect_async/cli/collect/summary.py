"""
The counts of a collection, and their texts.
"""

from collections import Counter
from typing import Any, ClassVar

import attrs

from bankconnect_async.cli.batch.summary import BatchSummary
from bankconnect_async.collecting.collection import CollectionStats
from bankconnect_async.errors import NotReadyError


@attrs.define
class CollectSummary(BatchSummary):
    """
    The counts so far, and at the end the summary; it counts files.

    Attributes:
        warnings: The number of files with a warning: their processing failed,
            or their PDFs are lost, or soon will be.
    """

    title: ClassVar[str] = "collecting"
    unit: ClassVar[str] = "files"
    done: ClassVar[str] = "collected"
    done_before: ClassVar[str] = "there before"
    warnings: int = 0

    @property
    def not_ready(self) -> int:
        """The number of files whose data is not complete yet."""
        return self.failures[NotReadyError.__name__]

    def update_collection(
        self, stats: CollectionStats, rate: float | None
    ) -> None:
        """
        Take over the counts of a collection.

        Args:
            stats: The statistics of the collection.
            rate: The user's limit of requests per second, if there is one.
        """
        self.update(stats, Counter(), rate)
        self.warnings = stats.warnings

    def as_text(self) -> str:
        """Return the summary as one line of text."""
        text = super().as_text()
        if self.warnings:
            text += f", {self.warnings} with a warning in collected.jsonl"
        return text

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as an object for JSON."""
        facts = super().as_dict()
        return {
            "collected": facts.pop("created"),
            **facts,
            "not_ready": self.not_ready,
            "warnings": self.warnings,
        }
