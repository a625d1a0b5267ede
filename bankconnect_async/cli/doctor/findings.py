"""
Findings of checks, and their lines.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, TypeAlias

import attrs


Status: TypeAlias = Literal["ok", "warning", "failed", "skipped"]


@attrs.frozen
class Finding:
    """
    The result of one check.

    Attributes:
        check: The name of the check.
        status: Whether the setup passes.
        found: The facts.
        advice: What to do, if there is something to do.
    """

    check: str
    status: Status
    found: str
    advice: str | None = None

    def line(self) -> str:
        """Return the finding as one line of text."""
        advice = f" -> {self.advice}" if self.advice else ""
        return f"{self.status:<8} {self.check:<12} {self.found}{advice}"


class CheckError(Exception):
    """
    A check found a problem.

    Args:
        found: The facts.
        advice: What to do.
        status: Whether the setup can be used in spite of it.
        check: The name of the check, if another than the one that runs.
    """

    def __init__(
        self,
        found: str,
        advice: str,
        *,
        status: Status = "failed",
        check: str | None = None,
    ) -> None:
        super().__init__(found)
        self.found = found
        self.advice = advice
        self.status: Status = status
        self.check = check


@attrs.define
class Findings:
    """
    Runs checks, and collects their findings.

    Attributes:
        report: The function that gets each finding at once.
        all: The findings.
    """

    report: Callable[[Finding], None]
    all: list[Finding] = attrs.Factory(list)

    async def run(self, check: str, work: Awaitable[str]) -> bool:
        """
        Run a check, and return whether the next one makes sense.

        Args:
            check: The name of the check.
            work: Returns what it found, or raises a `CheckError`.
        """
        try:
            found = await work
        except CheckError as error:
            self.add_error(check, error)
            return error.status != "failed"
        self.add(Finding(check, "ok", found))
        return True

    def add_error(self, check: str, error: CheckError) -> None:
        """Report what a check raised."""
        self.add(
            Finding(
                error.check or check, error.status, error.found, error.advice
            )
        )

    def skip(self, checks: Iterable[str], reason: str) -> None:
        """
        Report those of some checks that have no finding as skipped.
        """
        done = {finding.check for finding in self.all}
        for check in checks:
            if check not in done:
                self.add(Finding(check, "skipped", reason))

    def add(self, finding: Finding) -> None:
        """Report a finding."""
        self.all.append(finding)
        self.report(finding)

    @property
    def is_good(self) -> bool:
        """Whether no check failed."""
        return all(each.status != "failed" for each in self.all)
