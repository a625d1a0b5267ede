"""
Entities of the entity flow, with their statements.
"""

import datetime

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
    One entity with its statements.

    Attributes:
        record: The entity's public record.
        statements: The statements, each with its processing.
    """

    record: SandboxEntity
    statements: list[tuple[UploadedStatement, Processing]] = attrs.Factory(
        list
    )

    @property
    def owner(self) -> str:
        """The owner of the fake data: the link id, else the entity's id."""
        return self.record.link_id or self.record.entity_id

    def accounts(self, now: datetime.datetime) -> list[AccountStatements]:
        """Return the accounts with successfully processed statements."""
        return group_by_account(
            statement
            for statement, processing in self.statements
            if processing.status(now) == "completed"
        )

    def accepts(self, account: FakeAccount) -> bool:
        """Tell whether it takes statements of *account*."""
        return not self.record.is_single_account or all(
            statement.account.account_id == account.account_id
            for statement, _ in self.statements
        )


@attrs.define(eq=False)
class EntityTable:
    """
    All entities, in the order of their creation.

    Attributes:
        records: The public record of each entity by its id.
    """

    records: dict[str, SandboxEntity] = attrs.field(init=False, factory=dict)
    _states: dict[str, EntityState] = attrs.field(init=False, factory=dict)
    # The newest entity of each link id.
    _latest: dict[str, EntityState] = attrs.field(init=False, factory=dict)

    def add(self, record: SandboxEntity) -> EntityState:
        """
        Add an entity.
        """
        state = EntityState(record=record)
        if record.link_id is not None:
            self._latest[record.link_id] = state
        self.records[record.entity_id] = record
        self._states[record.entity_id] = state
        return state

    def latest(self, link_id: str) -> EntityState | None:
        """
        Return the newest entity of a link id.
        """
        return self._latest.get(link_id)

    def get(self, entity_id: str) -> EntityState | None:
        """
        Return an entity with its statements.
        """
        return self._states.get(entity_id)
