"""
The sender of a collection: fetches data, downloads its files, saves it.
"""

import datetime

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from bankconnect_async._http.bodies import RequestBody
from bankconnect_async._http.operation import Operation
from bankconnect_async._resources.base import ApiClient, ApiView
from bankconnect_async._resources.downloads import download
from bankconnect_async._resources.sessions import SessionHandle
from bankconnect_async._threads import run_in_thread
from bankconnect_async.batch.throttle import BatchThrottle
from bankconnect_async.config import hide
from bankconnect_async.errors import (
    BankConnectError,
    BatchStoppedError,
    InvalidRequestError,
    NotReadyError,
)
from bankconnect_async.journal.file_system import fsync_directory
from bankconnect_async.retry import RetryPolicy

from .kinds import (
    FILES,
    KINDS,
    check_ready,
    find_failure,
    is_uploaded,
    read_kind,
)
from .names import safe_name
from .outcomes import Collected, CollectOutcome, NotCollected, SavedFile
from .owners import Owner


T = TypeVar("T")

#: A coroutine function that stores an outcome.
Save = Callable[[Collected], Awaitable[Any]]

_MAX_FILE: Final = 256 * 1024 * 1024
_PRIVATE_DIRECTORY: Final = 0o700
# PDFs that are deleted within this time are worth a warning.
_SOON: Final = datetime.timedelta(days=7)


@attrs.frozen(kw_only=True)
class Part:
    """
    A part of an input: kinds of data of one session or entity.

    Attributes:
        index: The position of the input in the source.
        item: The input.
        kinds: The names of the kinds.
        owner: The session or entity; `None` if the input has none.
    """

    index: int
    item: Any = attrs.field(repr=False)
    kinds: tuple[str, ...]
    owner: Owner | None

    def failures(self, error: BankConnectError) -> list[CollectOutcome]:
        """Return the outcomes, if all kinds fail."""
        return [self.failure(kind, error) for kind in self.kinds]

    def failure(self, kind: str, error: BankConnectError) -> NotCollected:
        """Return the outcome of a kind that failed."""
        return NotCollected(
            index=self.index,
            item=self.item,
            owner=self.owner,
            kind=kind,
            error=error,
        )


@attrs.frozen(kw_only=True)
class BadPart(Part):
    """
    A part of an input that makes no request.

    Attributes:
        error: The reason.
    """

    error: InvalidRequestError


@attrs.frozen(kw_only=True)
class Fetch(Part):
    """
    A part of an input that takes one request.

    Attributes:
        owner: The session or entity.
        method: The method of the handle.
    """

    owner: Owner
    method: str


class _ThrottledApi(ApiView):
    """
    Sends the requests of one item, at the pace of its batch.
    """

    def __init__(
        self, api: ApiClient, retry: RetryPolicy, throttle: BatchThrottle
    ) -> None:
        super().__init__(api, retry=retry)
        self._throttle = throttle
        self._is_first = True

    async def _execute(
        self,
        operation: Operation[T],
        body: RequestBody | None,
        retry: RetryPolicy,
    ) -> T:
        # The batch waits before the first request of an item.
        if not (self._is_first or await self._throttle.acquire_next()):
            raise BatchStoppedError("not sent: the collection was stopped")
        self._is_first = False
        result, _ = await self.executor.execute(
            operation,
            body,
            policy=retry,
            throttle=self._throttle,
        )
        return result


class Collector:
    """
    Fetches kinds of data, and makes outcomes of the responses.

    Args:
        api: The API.
        to: The directory for files; `None` to download none.
        save: The function that stores an outcome, if any.
        deadline: The seconds for one file.
        on_crash: Called with what *save*, or writing a file, raised.
    """

    def __init__(
        self,
        api: ApiClient,
        *,
        to: Path | None,
        save: Save | None,
        deadline: float,
        on_crash: Callable[[Exception], None],
    ) -> None:
        self._api = api
        self._to = to
        self._save = save
        self._deadline = deadline
        self._on_crash = on_crash

    def prepare(self, part: BadPart | Fetch) -> tuple[str, Fetch]:
        """
        Return the id of the session or entity, and the request.

        Raises:
            InvalidRequestError: If the input makes no request.
        """
        if isinstance(part, BadPart):
            raise part.error
        # It checks the id.
        part.owner.handle(self._api)
        return part.owner.id, part

    async def send(
        self,
        _: str,
        fetch: Fetch,
        retry: RetryPolicy,
        throttle: BatchThrottle,
    ) -> tuple[tuple[Fetch, Any], int]:
        """Fetch a response."""
        api = _ThrottledApi(self._api, retry, throttle)
        handle = fetch.owner.handle(api)
        if isinstance(handle, SessionHandle) and fetch.method == "pdfs":
            # The list may grow before that, and a later run would skip it.
            state = await handle.upload_state()
            if not is_uploaded(state):
                # The server has served what was sent.
                throttle.on_success()
                raise NotReadyError(
                    "the customer has not completed the uploads"
                )
        return (fetch, await getattr(handle, fetch.method)()), 1

    async def complete(
        self, result: tuple[tuple[Fetch, Any], int]
    ) -> list[CollectOutcome]:
        """
        Return the outcomes of a response, with their files on the disk.

        Raises:
            NotReadyError: If the data is not complete yet.
        """
        (fetch, response), _ = result
        check_ready(fetch.owner.flow, response)
        outcomes: list[CollectOutcome] = []
        for kind in fetch.kinds:
            try:
                outcomes.append(await self._collect(fetch, kind, response))
            except BankConnectError as error:
                outcomes.append(fetch.failure(kind, error))
            except Exception as exc:  # noqa: BLE001 - it ends the collection
                self._on_crash(exc)
                stopped = BatchStoppedError(
                    f"not stored: {type(exc).__name__} was raised"
                )
                stopped.__cause__ = exc
                outcomes.append(fetch.failure(kind, stopped))
        return outcomes

    async def _collect(
        self, fetch: Fetch, name: str, response: Any
    ) -> Collected:
        owner = fetch.owner
        data = read_kind(response, KINDS[owner.flow][name])
        files: tuple[SavedFile, ...] = ()
        if self._to is not None and name in FILES:
            folder = self._to / name / safe_name(owner.id)
            files = await self._download(data, *FILES[name], folder)
        warnings = (
            find_failure(owner.flow, response),
            self._warn(owner, name, files),
        )
        collected = Collected(
            index=fetch.index,
            item=fetch.item,
            flow=owner.flow,
            id=owner.id,
            link_id=owner.link_id,
            kind=name,
            data=data,
            files=files,
            pdfs_deleted_at=owner.pdfs_deleted_at,
            warning="; ".join(filter(None, warnings)) or None,
        )
        if self._save is not None:
            await self._save(collected)
        return collected

    async def _download(
        self, rows: Any, link: str, suffix: str, folder: Path
    ) -> tuple[SavedFile, ...]:
        await run_in_thread(_make_directory, folder)
        files, names = [], set()
        for number, row in enumerate(rows, 1):
            url = getattr(row, link)
            if url is None:
                files.append(SavedFile(path=None, row=row))
                continue
            id_ = getattr(row, "statement_id", None) or row.account_id
            name = safe_name(id_ or f"file-{number}")
            if name in names:
                name = f"{name}~{number}"
            names.add(name)
            path = folder / f"{name}{suffix}"
            size = await download(
                self._api,
                hide(url),
                path,
                max_bytes=_MAX_FILE,
                deadline=self._deadline,
            )
            files.append(SavedFile(path=path, size=size, row=row))
        await run_in_thread(fsync_directory, folder / "-")
        return tuple(files)

    def _warn(
        self, owner: Owner, kind: str, files: tuple[SavedFile, ...]
    ) -> str | None:
        if files:
            gone = sum(each.path is None for each in files)
            if gone:
                return (
                    f"the vendor has deleted {gone} of {len(files)} files, as "
                    f"it does after 30 days"
                )
            return None
        deleted_at = owner.pdfs_deleted_at
        if deleted_at is None or kind == "pdfs":
            return None
        now = datetime.datetime.fromtimestamp(
            self._api.clock.time(), datetime.UTC
        )
        if now < deleted_at < now + _SOON:
            return (
                f"the vendor deletes the PDFs from {deleted_at:%Y-%m-%d} on: "
                f"collect pdfs before"
            )
        return None


def _make_directory(path: Path) -> None:
    path.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
