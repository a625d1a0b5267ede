"""
The outcomes of a collection.
"""

import datetime

from pathlib import Path
from typing import Any, TypeAlias

import attrs

from bankconnect_async.batch.outcomes import Failed
from bankconnect_async.errors import NotReadyError
from bankconnect_async.models.sessions import mask_id

from .kinds import Flow
from .owners import Owner


@attrs.frozen(kw_only=True)
class SavedFile:
    """
    A file of a collected row, such as the PDF of a statement.

    Attributes:
        path: The path of the file; `None` if the vendor has deleted it.
        size: Its length in bytes.
        row: The row that had its link, such as a `StoredPdf`.
    """

    path: Path | None
    size: int = 0
    row: Any = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Collected:
    """
    One kind of data of a session or entity.

    Attributes:
        index: The position of the input in the source, from 0.
        item: The input as it was given.
        flow: The flow: `entity` or `session`.
        id: The id of the session or entity.
        link_id: Your id of the customer, if *item* has one.
        kind: The name of the kind.
        data: The rows; for a kind without rows, the whole response.
        files: The files of the rows, if they were to be downloaded.
        pdfs_deleted_at: When the vendor deletes the PDFs at the earliest, if
            *item* says when the session was created.
        warning: A text about processing that failed, and about PDFs that are
            deleted or soon will be; `None` if there are none.
    """

    index: int
    item: Any = attrs.field(repr=False)
    flow: Flow
    id: str = attrs.field(repr=mask_id)
    link_id: str | None = None
    kind: str
    data: Any = attrs.field(repr=False)
    files: tuple[SavedFile, ...] = ()
    pdfs_deleted_at: datetime.datetime | None = None
    warning: str | None = None


@attrs.frozen(kw_only=True)
class NotCollected(Failed):
    """
    One kind of data that could not be collected.

    Attributes:
        flow: The flow; `None` if *item* has no id.
        id: The id of the session or entity.
        kind: The name of the kind.
        pdfs_deleted_at: When the vendor deletes the PDFs at the earliest, if
            *item* says when the session was created.
    """

    # It may be an id, which opens the journey in some dialects.
    item: Any = attrs.field(repr=False)
    request: None = attrs.field(default=None, repr=False)
    _owner: Owner | None = attrs.field(alias="owner", default=None, repr=False)
    kind: str

    @property
    def link_id(self) -> str | None:
        """Your id of the customer, if *item* has one."""
        return None if self._owner is None else self._owner.link_id

    @property
    def flow(self) -> Flow | None:
        """The flow; `None` if *item* has no id."""
        return None if self._owner is None else self._owner.flow

    @property
    def id(self) -> str | None:
        """The id of the session or entity, if *item* has one."""
        return None if self._owner is None else self._owner.id

    @property
    def pdfs_deleted_at(self) -> datetime.datetime | None:
        """When the vendor deletes the PDFs at the earliest, if known."""
        return None if self._owner is None else self._owner.pdfs_deleted_at

    @property
    def is_not_ready(self) -> bool:
        """Whether the data may be there later."""
        return isinstance(self.error, NotReadyError)


CollectOutcome: TypeAlias = Collected | NotCollected
