"""
Statements: what came in, grouped by account, and how far each has come.

Pure: the time comes in as an argument.
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
    rows,
)


#: Where statements come from: an upload, net banking, Account Aggregator.
Source: TypeAlias = Literal["pdf", "online", "aa"]


def new_id() -> str:
    """
    Return a UUID for a statement.
    """
    return str(uuid.uuid4())


@attrs.frozen(kw_only=True)
class UploadedStatement:
    """
    One statement that was taken.

    Attributes:
        statement_id: A UUID.
        account: Of which account.
        span: Which days it covers.
        source: How it came in.
        received_at: When.
        password: Of the uploaded PDF.
        page_count: Of the PDF.
        fraud_type: What is wrong with the file, if something is.
        digest: Of the file, to know it again.
        has_details: Whether account and days could be read at once.
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
        """What the file is called."""
        return f"{self.statement_id}_{self.account.bank}.pdf"


@attrs.frozen(kw_only=True)
class AccountStatements:
    """
    One account, and the statements of it.
    """

    account: FakeAccount
    statements: tuple[UploadedStatement, ...]

    @property
    def spans(self) -> list[Span]:
        """The days that are covered."""
        return [statement.span for statement in self.statements]

    @property
    def months(self) -> list[str]:
        """The months that are covered, as `YYYY-MM`."""
        return [f"{month:%Y-%m}" for month in months(self.spans)]

    @property
    def rows(self) -> list[FakeTransaction]:
        """What happened on those days."""
        return rows(self.account, self.spans)

    def missing(self, asked: Span) -> list[Span]:
        """Return the days asked for that are not covered."""
        return list(gaps(asked, self.spans))

    def missing_months(self, asked: Span) -> list[str]:
        """Return the months asked for without a day, as `YYYY-MM`."""
        return [
            f"{month:%Y-%m}"
            for month in months([asked])
            if f"{month:%Y-%m}" not in self.months
        ]

    @property
    def updated_at(self) -> datetime.datetime:
        """When the last statement came."""
        return self.statements[-1].received_at


def group_by_account(
    statements: Iterable[UploadedStatement],
) -> list[AccountStatements]:
    """
    Group statements by account, in the order in which accounts came up.
    """
    grouped: dict[str, list[UploadedStatement]] = {}
    for statement in statements:
        grouped.setdefault(statement.account.account_id, []).append(statement)
    return [
        AccountStatements(account=group[0].account, statements=tuple(group))
        for group in grouped.values()
    ]


@attrs.define(kw_only=True)
class Processing:
    """
    Something that takes its time.

    Attributes:
        started_at: Since when.
        seconds: How long; for ever, if infinite and nobody ends it.
        error_code: What went wrong, once it is over.
        is_notified: Whether the webhook about it is out.
    """

    started_at: datetime.datetime
    seconds: float
    error_code: str | None = None
    is_notified: bool = False

    def is_over(self, now: datetime.datetime) -> bool:
        """Tell whether it is over."""
        return (
            math.isfinite(self.seconds)
            and (now - self.started_at).total_seconds() >= self.seconds
        )

    def finish(self, error_code: str | None) -> None:
        """Let it be over, and well if there is no code."""
        self.seconds = 0
        self.error_code = error_code

    def status(self, now: datetime.datetime) -> str:
        """Say how far it is, in the words of `progress`."""
        if not self.is_over(now):
            return "processing"
        return "failed" if self.error_code else "completed"
