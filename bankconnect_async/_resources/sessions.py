"""
One session: its uploads, its processing and its results.

The vendor's session flow (contract, `rest-api.md` sections 3, 6, 8, 9).
"""

import functools

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack

import attrs

from bankconnect_async import _resources, models
from bankconnect_async._codec import responses
from bankconnect_async._printable import one_line
from bankconnect_async._tracebacks import hide_frames
from bankconnect_async.config import hide
from bankconnect_async.error_details import Failure
from bankconnect_async.errors import (
    AlreadyProcessingError,
    BankConnectError,
    Delivery,
    DuplicateStatementError,
    NotFoundError,
    NotReadyError,
    ProcessingFailedError,
)
from bankconnect_async.retry import RetryPolicy

from .base import MAX_DATA, ApiClient, check_id
from .polling import Poller, PollSchedule


if TYPE_CHECKING:
    from .uploads import SessionUploadOptions, StatementFile


T = TypeVar("T")

_SETTLED: Final = frozenset({"completed", "failed"})
_FAILED: Final = "failed"
_GONE: Final = 410
# The most characters of the vendor's text about a failure.
_MAX_TEXT: Final = 500


@attrs.frozen
class SessionHandle:
    """
    A session at the vendor, by its id.

    `AsyncBankConnect.session` returns one. It holds only the id, and belongs
    to the client that made it. Its methods raise `TransportError` if no usable
    response came, `NotFoundError` if the session does not exist or was
    deleted, `NotReadyError` if it is too early, and other kinds of
    `ResponseError`.

    Attributes:
        session_id: The id of the session.
    """

    _api: ApiClient = attrs.field(repr=False)
    session_id: str = attrs.field(repr=False)

    def __attrs_post_init__(self) -> None:
        check_id("session_id", self.session_id)

    async def upload_status(self) -> models.UploadStatus:
        """
        Fetch the state of the customer's uploads.

        For an unknown id, the vendor responds with no uploads or with 404.
        """
        return await self._get("session_upload_status", models.UploadStatus)

    async def is_uploaded(self) -> bool:
        """
        Return whether the uploads are complete.

        Raises:
            NotFoundError: If the session does not exist.
        """
        return await self.upload_state() == models.COMPLETED

    async def upload_state(self) -> str:
        """
        Fetch the `upload_status` of the customer's uploads alone.

        Raises:
            NotFoundError: If the session does not exist.
        """
        state = await self._get("session_upload_status", models.UploadState)
        return state.upload_status

    @hide_frames
    async def upload(
        self,
        file: "StatementFile | None" = None,
        /,
        **options: "Unpack[SessionUploadOptions]",
    ) -> models.SessionUpload:
        """
        Upload a statement into the session.

        It is sent in pieces, and never as a whole in memory. An attempt that
        may have arrived is repeated as the policy's `delivery` says; if the
        vendor then has the statement already, that is a success. A file that
        cannot be rewound, such as a pipe, is sent once.

        Args:
            file: The path of a regular file, a file opened for bytes, whose
                methods may be coroutines, or bytes; else use the option *url*
                or *base64*. A cancel waits for a read in progress.
            **options: The options of `AsyncBankConnect.upload` (*bank_name*
                must be the statement's), and *account_category*: `SAVINGS`,
                `CURRENT` or `OVERDRAFT`.

        Raises:
            InvalidRequestError: If there is not exactly one source, or it
                cannot be read.
            StatementError: If the vendor refused the statement; see its
                subclasses.
            SessionExpiredError: If the session accepts no more uploads.
            PaymentRequiredError: If the trial is over.
        """
        owner = {
            "session_id": hide(self.session_id),
            "upload_type": "BASE64" if options.get("base64") else "PDF",
        }
        statement = _resources.uploads.prepare(
            self._api, owner, file, **options
        )
        del file, options
        try:
            return await _resources.uploads.send(
                self._api,
                self._api.endpoint(
                    "statement/upload_session", query=statement.query
                ),
                statement,
                functools.partial(responses.decode, models.SessionUpload),
            )
        except DuplicateStatementError as error:
            if not may_have_arrived(error):
                raise
            return models.SessionUpload(
                session_id=error.session_id or self.session_id,
                statement_id=error.statement_id,
                repeated=True,
            )

    async def initiate_processing(
        self, *, retry: RetryPolicy | None = None
    ) -> None:
        """
        Ask the vendor to process the uploads.

        Raises:
            AlreadyProcessingError: If processing was requested before, by
                another call than this one. That does no harm.
            UnparsableStatementError: If a statement cannot be read.
        """
        try:
            await self._ask(
                "initiate_processing",
                functools.partial(responses.decode, models.ProcessingRequest),
                method="POST",
                idempotent=False,
                retry=retry,
            )
        except AlreadyProcessingError as error:
            if not may_have_arrived(error):
                raise

    async def progress(
        self, *, retry: RetryPolicy | None = None
    ) -> models.SessionProgress:
        """
        Fetch the progress of processing.

        Raises:
            NotReadyError: If processing was not requested.
        """
        return await self._get("progress", models.SessionProgress, retry=retry)

    async def status(
        self, *, retry: RetryPolicy | None = None
    ) -> models.SessionStatus:
        """
        Fetch the outcome of processing, account by account.

        Raises:
            NotReadyError: If processing was not requested, or has not ended.
        """
        return await self._get(
            "session_status", models.SessionStatus, retry=retry
        )

    async def insights(self) -> models.Insights:
        """
        Fetch all data of the session, at most 64 MiB.

        Raises:
            NotReadyError: If processing has not ended.
        """
        return await self._get("insights", models.Insights)

    async def pdfs(self) -> models.Rows[models.StoredPdf]:
        """
        List the statements as they were uploaded, to `download`.
        """
        return (await self._get("get_pdfs", models.StoredPdfs)).statements

    async def delete(self) -> None:
        """
        Delete the session; it may be deleted already.

        Raises:
            NotFoundError: If the session never existed.
        """
        try:
            await self._ask("delete", _nothing, method="DELETE")
        except NotFoundError as error:
            if error.status != _GONE:
                raise

    async def recurring_consents(
        self,
    ) -> models.Rows[models.RecurringConsent]:
        """
        List the consents to ask the customer's banks again.

        Each can be passed to `AsyncBankConnect.fetch_recurring_aa_data`.
        """
        found = await self._api.request(
            "POST get_recurring_consent_details",
            self._api.endpoint(
                "account_aggregator/get_recurring_consent_details",
                query={"session_id": self.session_id},
            ),
            functools.partial(responses.decode, models.RecurringConsents),
            method="POST",
        )
        return found.consent_details

    async def identity(self) -> models.SessionIdentities:
        """
        Fetch the holders of the accounts.

        This and the six methods below are of April 2024; `insights` has all of
        it.
        """
        return await self._get("identity", models.SessionIdentities)

    async def xlsx_report(self) -> models.SessionReports:
        """
        Fetch the links of a workbook for each account.
        """
        return await self._get("xlsx_report", models.SessionReports)

    async def transactions(self) -> Mapping[str, Any]:
        """
        Fetch transactions, in a shape that the vendor does not document.
        """
        return await self._ask("transactions", responses.decode_document)

    async def predictors(self) -> Mapping[str, Any]:
        """
        Fetch variables, in a shape that the vendor does not document.
        """
        return await self._ask("predictors", responses.decode_document)

    async def eod_balances(self) -> Mapping[str, Any]:
        """
        Fetch daily balances, in a shape that the vendor does not document.
        """
        return await self._ask("eod_balances", responses.decode_document)

    async def monthly_analysis_updated(self) -> Mapping[str, Any]:
        """
        Fetch monthly figures, in a shape that the vendor does not document.
        """
        return await self._ask(
            "monthly_analysis_updated", responses.decode_document
        )

    async def recurring_transactions(self) -> Mapping[str, Any]:
        """
        Fetch recurring items, in a shape that the vendor does not document.
        """
        return await self._ask(
            "recurring_transactions", responses.decode_document
        )

    def watch(
        self, *, timeout: float | None = 120.0, interval: float = 2.0
    ) -> Poller[models.SessionProgress]:
        """
        Iterate over the steps of processing, until it ends.

        ::

            async for progress in bank.session(session_id).watch():
                print(progress.session_progress)

        While processing was not requested, there is nothing to report. It
        keeps nothing open between two steps, so an early exit is fine. A poll
        that fails transiently, such as with a 503 or a lost connection, is
        followed by another one.

        Args:
            timeout: The seconds for all polls; `None` for no limit.
            interval: The seconds between two polls, plus or minus a fifth. The
                webhook of the session causes a poll at once, see
                `AsyncBankConnect.notify`.

        Raises:
            WaitTimeoutError: From the iteration, if it takes longer; caused by
                the error of the last poll, if that poll failed.
            AuthenticationError: From the iteration, as all errors that another
                poll would meet again.
        """
        return self._watch_progress(
            PollSchedule.start(self._api, timeout, interval)
        )

    async def wait(
        self,
        *,
        timeout: float | None = 120.0,  # noqa: ASYNC109 - in whole polls
        interval: float = 2.0,
    ) -> models.SessionStatus:
        """
        Wait until processing ends, and return its outcome.

        It does not request processing: see `initiate_processing`.

        Args:
            timeout: The timeout in seconds; `None` for no limit.
            interval: The interval, as for `watch`.

        Raises:
            ProcessingFailedError: If a statement or account failed; its
                `failures` name each with the reason. The rest can be fetched
                if its `response` says `insights_available`.
            WaitTimeoutError: If it takes longer; caused by the error of the
                last poll, if that poll failed.
            NotFoundError: As all errors that another poll would meet again.
                Transient errors, such as a 503 or a lost connection, do not
                end it.
        """
        schedule = PollSchedule.start(self._api, timeout, interval)
        async for _ in self._watch_progress(schedule):
            pass
        over = Poller(
            schedule,
            self.session_id,
            fetch=_not_yet(self.status),
            is_done=lambda _: True,
        )
        # The status may follow the progress with a delay.
        status = await anext(over)
        failures = clean_failures(self._api, _failures(status))
        if failures or status.insights_available is False:
            raise ProcessingFailedError(
                explain(failures), failures=failures, response=status
            )
        return status

    def _watch_progress(
        self, schedule: PollSchedule
    ) -> Poller[models.SessionProgress]:
        return Poller(
            schedule,
            self.session_id,
            fetch=_not_yet(self.progress),
            is_done=_is_over,
        )

    async def _get(
        self, name: str, cls: type[T], *, retry: RetryPolicy | None = None
    ) -> T:
        return await self._ask(
            name, functools.partial(responses.decode, cls), retry=retry
        )

    async def _ask(
        self,
        name: str,
        decode: Callable[..., T],
        *,
        method: str = "GET",
        idempotent: bool = True,
        retry: RetryPolicy | None = None,
    ) -> T:
        return await self._api.request(
            f"{method} {name}",
            self._api.endpoint(
                f"session_data/{{session_id}}/{name}",
                session_id=self.session_id,
            ),
            decode,
            method=method,
            idempotent=idempotent,
            limit=MAX_DATA,
            retry=retry,
        )


def _not_yet(
    ask: Callable[..., Awaitable[T]],
) -> Callable[[RetryPolicy], Awaitable[T | None]]:
    async def fetch(retry: RetryPolicy) -> T | None:
        try:
            return await ask(retry=retry)
        except NotReadyError:
            return None

    return fetch


def _nothing(_: bytes, *, status: int) -> None:
    # The vendor does not document this response (U-34).
    del status


def _is_over(progress: models.SessionProgress) -> bool:
    if progress.session_progress in _SETTLED:
        return True
    # A failed statement may block the whole session forever.
    return any(_FAILED in _stages(each) for each in progress.progress) and all(
        _stages(each) <= _SETTLED for each in progress.progress
    )


def _stages(statement: models.StatementStages) -> set[str | None]:
    return {
        statement.identity_status,
        statement.transaction_status,
        statement.processing_status,
        statement.fraud_status,
    }


def _failures(status: models.SessionStatus) -> "list[Failure]":
    failures = []
    for account in status.accounts:
        if (account.account_status or "").lower() == _FAILED:
            failures.append(
                Failure(
                    account_id=account.account_id,
                    code=account.error_code,
                    message=account.error_message,
                )
            )
        failures += [
            Failure(
                statement_id=each.statement_id,
                account_id=account.account_id,
                code=each.error_code,
                message=each.error_message,
            )
            for each in account.statements
            if (each.statement_status or "").lower() == _FAILED
        ]
    return failures


def clean_failures(
    api: ApiClient, failures: Iterable[Failure]
) -> tuple[Failure, ...]:
    """
    Return *failures* with texts that are one printable line without secrets.
    """

    def clean(text: str | None) -> str | None:
        return text and one_line(api.executor.redact(text), _MAX_TEXT)

    return tuple(
        attrs.evolve(each, code=clean(each.code), message=clean(each.message))
        for each in failures
    )


def explain(failures: "tuple[Failure, ...]") -> str:
    """
    Return one line that names the failures with their reasons.
    """
    if not failures:
        return "processing is over, and there are no insights"
    return "; ".join(
        (
            f"statement {each.statement_id}"
            if each.statement_id
            else f"account {each.account_id}"
        )
        + f" failed: {each.code or each.message or 'no reason given'}"
        for each in failures
    )


def may_have_arrived(error: BankConnectError) -> bool:
    """
    Return whether an earlier attempt of the operation can have been processed.
    """
    return any(
        each.delivery in {Delivery.AMBIGUOUS, Delivery.CREATED_UNREADABLE}
        for each in error.attempts
    )
