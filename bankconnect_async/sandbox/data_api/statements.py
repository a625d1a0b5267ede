"""
Uploaded statements, grouped by account, and the processing of each.

Pure: the time is an argument.
"""

import datetime
import math
import uuid

from collections.abc import Iterable
from typing import Literal, TypeAlias

import attrs

from bankconnect_async.sandbox.fake_data.ledgers import (
    FakeAccount,
    FakeTransaction,
    Span,
    gaps,
    months,
    transactions,
)
from bankconnect_async.sandbox.messages import find_message


#: How a statement came in: upload, net banking or Account Aggregator.
Source: TypeAlias = Literal["pdf", "online", "aa"]


def new_id() -> str:
    """
    Return a random UUID for a statement.
    """
    return str(uuid.uuid4())


@attrs.frozen(kw_only=True)
class UploadedStatement:
    """
    One accepted statement.

    Attributes:
        statement_id: A UUID.
        account: The account that it is of.
        span: The days that it covers.
        source: How it came in.
        received_at: The time at which it came in.
        password: The password of the uploaded PDF.
        page_count: The number of pages of the PDF.
        fraud_type: The kind of fraud that the file shows, if any.
        digest: The digest of the file, which finds duplicates.
        has_details: Whether the file itself names the account and the days.
    """

    statement_id: str = attrs.Factory(new_id)
    account: FakeAccount
    span: Span
    source: Source
    received_at: datetime.datetime
    password: str | None = attrs.field(default=None, repr=False)
    page_count: int = 1
    fraud_type: str | None = None
    digest: str | None = None
    has_details: bool = True

    @property
    def file_name(self) -> str:
        """The file's name."""
        return f"{self.statement_id}_{self.account.bank}.pdf"


@attrs.frozen(kw_only=True)
class AccountStatements:
    """
    One account with all its statements.
    """

    account: FakeAccount
    statements: tuple[UploadedStatement, ...]

    @property
    def spans(self) -> list[Span]:
        """The days that the statements cover."""
        return [statement.span for statement in self.statements]

    @property
    def months(self) -> list[str]:
        """The months that the statements cover, as `YYYY-MM`."""
        return _month_names(self.spans)

    @property
    def rows(self) -> list[FakeTransaction]:
        """The transactions of those days."""
        return transactions(self.account, self.spans)

    def missing(self, requested: Span) -> list[Span]:
        """Return the requested days that no statement covers."""
        return list(gaps(requested, self.spans))

    def missing_months(self, requested: Span) -> list[str]:
        """Return the requested months without a covered day."""
        covered = self.months
        return [m for m in _month_names([requested]) if m not in covered]

    @property
    def updated_at(self) -> datetime.datetime:
        """The time of the last statement."""
        return self.statements[-1].received_at


def _month_names(spans: Iterable[Span]) -> list[str]:
    return [f"{month:%Y-%m}" for month in months(spans)]


def group_by_account(
    statements: Iterable[UploadedStatement],
) -> list[AccountStatements]:
    """
    Group statements by account, in the order of each account's first one.
    """
    groups: dict[str, list[UploadedStatement]] = {}
    for statement in statements:
        groups.setdefault(statement.account.account_id, []).append(statement)
    return [
        AccountStatements(account=group[0].account, statements=tuple(group))
        for group in groups.values()
    ]


@attrs.define(kw_only=True)
class Processing:
    """
    The processing of a statement or a session, which takes a while.

    Attributes:
        started_at: The time at which it started.
        seconds: How long it takes; infinite until `finish` is called.
        error_code: The code of its failure, if it fails.
        statement_error_code: The code of the failed statements, if these are
            the reason.
        is_notified: Whether the webhook about its end was sent.
    """

    started_at: datetime.datetime
    seconds: float
    error_code: str | None = None
    statement_error_code: str | None = None
    is_notified: bool = False

    def is_over(self, now: datetime.datetime) -> bool:
        """Tell whether it has ended."""
        return (
            math.isfinite(self.seconds)
            and (now - self.started_at).total_seconds() >= self.seconds
        )

    def finish(
        self, error_code: str | None, statement_error_code: str | None
    ) -> None:
        """End it now, with a failure if there is a code."""
        if not find_message("account", error_code or "") and find_message(
            "statement", error_code or ""
        ):
            error_code, statement_error_code = None, error_code
        self.seconds = 0
        self.error_code = error_code or (statement_error_code and "UNPARSABLE")
        self.statement_error_code = statement_error_code

    def status(self, now: datetime.datetime) -> str:
        """Return its status, as `progress` shows it."""
        if not self.is_over(now):
            return "processing"
        return "failed" if self.error_code else "completed"
