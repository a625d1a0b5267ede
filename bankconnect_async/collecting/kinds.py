"""
The kinds of data that can be collected, and how each is fetched.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from bankconnect_async._resources.entities import UNSETTLED
from bankconnect_async._resources.statement_kinds import (
    ENTITY_KINDS,
    SESSION_KINDS,
    Kind,
    read_rows,
)
from bankconnect_async.errors import ConfigurationError, NotReadyError
from bankconnect_async.models import COMPLETED, Insights


#: The two flows of the vendor.
Flow: TypeAlias = Literal["entity", "session"]

#: The kinds of each flow, by their names.
KINDS: Final[Mapping[Flow, Mapping[str, Kind]]] = {
    "entity": ENTITY_KINDS,
    "session": SESSION_KINDS,
}
#: The kinds whose rows have a file each: the attribute with its link, and
#: the suffix of its name.
FILES: Final[Mapping[str, tuple[str, str]]] = {
    "pdfs": ("pdf_url", ".pdf"),
    "reports": ("link", ".xlsx"),
}
_FAILED: Final = "failed"
_NAMES: Final = frozenset().union(*KINDS.values())


def check_kinds(what: Sequence[str]) -> tuple[str, ...]:
    """
    Return the names of kinds, each once.

    Raises:
        ConfigurationError: If one is not known, or there is none.
    """
    names = [what] if isinstance(what, str) else list(what)
    problem = None
    if unknown := [name for name in names if name not in _NAMES]:
        problem = (
            f"has no kind {unknown[0]!r}; the kinds are "
            f"{', '.join(sorted(_NAMES))}"
        )
    elif not names:
        problem = "names no kind of data"
    if problem is not None:
        raise ConfigurationError(fields={"what": (problem,)})
    return tuple(dict.fromkeys(names))


def check_ready(flow: Flow, response: Any) -> None:
    """
    Check that the data of a response is complete.

    The session flow refuses to respond before that; the entity flow responds
    with the data so far, and names the statements that are in progress.

    Raises:
        NotReadyError: If statements are still in progress.
    """
    if flow != "entity":
        return
    waiting = [
        each
        for each in getattr(response, "progress", ())
        if each.status in UNSETTLED
    ]
    if waiting:
        raise NotReadyError(
            f"{len(waiting)} of {len(response.progress)} statements are "
            f"still in progress"
        )


def find_failure(flow: Flow, response: Any) -> str | None:
    """
    Return what failed in processing, as far as a response tells.
    """
    if isinstance(response, Insights) and not response.accounts:
        return "processing failed for every account, so there are no rows"
    if flow == "entity":
        statements = getattr(response, "progress", ())
        if failed := sum(each.status == _FAILED for each in statements):
            return (
                f"processing failed for {failed} of {len(statements)} "
                f"statements"
            )
    return None


def is_uploaded(status: str) -> bool:
    """
    Tell from an `upload_status` whether no more statements can be uploaded.
    """
    return status in {COMPLETED, "EXPIRED"}


def read_kind(response: Any, kind: Kind) -> Any:
    """
    Return the rows of one kind in a response; the response if it has none.
    """
    if kind.row_type is None:
        return response
    return read_rows(response, kind, kind.row_type)
