"""
What the sandbox remembers of the entity flow.
"""

import datetime
import itertools
import uuid

from collections.abc import Iterator

import attrs

from bankconnect_async.sandbox.fake_data.ledgers import FakeAccount
from bankconnect_async.sandbox.records import SandboxEntity

from .statements import (
    AccountStatements,
    Processing,
    UploadedStatement,
    group_by_account,
)


@attrs.define(eq=False, kw_only=True)
class EntityState:
    """
    One entity with what came in for it.

    Attributes:
        record: Which.
        statements: With how far each of them is.
    """

    record: SandboxEntity
    statements: list[tuple[UploadedStatement, Processing]] = attrs.Factory(
        list
    )

    @property
    def owner(self) -> str:
        """Whose data are made up: the link id's, or the entity's own."""
        return self.record.link_id or self.record.entity_id

    def completed(self, now: datetime.datetime) -> list[AccountStatements]:
        """Return the accounts with statements that came through."""
        return group_by_account(
            statement
            for statement, processing in self.statements
            if processing.status(now) == "completed"
        )

    def refuses(self, account: FakeAccount) -> bool:
        """Tell whether it takes statements of another account only."""
        return self.record.is_single_account and any(
            statement.account.account_id != account.account_id
            for statement, _ in self.statements
        )


@attrs.define(eq=False, kw_only=True)
class EntityTable:
    """
    All entities, in the order in which they came up.

    Attributes:
        records: Every entity by its id.
    """

    records: dict[str, SandboxEntity] = attrs.field(init=False, factory=dict)
    # The last one of each link id.
    _latest: dict[str, SandboxEntity] = attrs.field(init=False, factory=dict)
    # Of entities that something came in for.
    _files: dict[str, EntityState] = attrs.field(init=False, factory=dict)

    def add(
        self,
        link_id: str | None,
        *,
        entity_id: str | None = None,
        meta_data: str | None = None,
        is_single_account: bool = False,
    ) -> SandboxEntity:
        """
        Create an entity.
        """
        record = SandboxEntity(
            entity_id=entity_id or str(uuid.uuid4()),
            link_id=link_id,
            meta_data=meta_data,
            is_single_account=is_single_account,
        )
        if record.link_id is not None:
            self._latest[record.link_id] = record
        self.records[record.entity_id] = record
        return record

    def latest(self, link_id: str) -> SandboxEntity | None:
        """
        Return the last entity of a link id.
        """
        return self._latest.get(link_id)

    def get(self, entity_id: str) -> EntityState | None:
        """
        Return an entity with what came in for it.
        """
        record = self.records.get(entity_id)
        if record is None:
            return None
        return self._files.setdefault(entity_id, EntityState(record=record))

    def page(
        self, link_id: str | None, first: int, rows: int
    ) -> tuple[int, list[SandboxEntity]]:
        """
        Return how many entities there are, and some of them.

        Args:
            link_id: Whose; `None` for all.
            first: How many to pass over.
            rows: How many to return.
        """
        return (
            sum(1 for _ in self._matching(link_id)),
            list(
                itertools.islice(self._matching(link_id), first, first + rows)
            ),
        )

    def _matching(self, link_id: str | None) -> Iterator[SandboxEntity]:
        return (
            record
            for record in self.records.values()
            if link_id is None or record.link_id == link_id
        )
