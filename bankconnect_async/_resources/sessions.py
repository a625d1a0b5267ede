"""
One session: its uploads, its processing and what came of it.

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
from bankconnect_async.errors import (
    AlreadyProcessingError,
    BankConnectError,
    Delivery,
    DuplicateStatementError,
    Failure,
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
# Of what the vendor says about a failure.
_LONGEST_TEXT: Final = 500


@attrs.frozen
class SessionHandle:
    """
    A session that exists at the vendor's, by its id.

    Get one from `AsyncBankConnect.session`. It holds nothing but the id, and
    belongs to the client that made it. Its methods raise `TransportError` if
    no usable answer came, `NotFoundError` if there is no such session or it
    was deleted, `NotReadyError` if it is too early, and other kinds of
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
        Tell how far the customer's uploads are.

        Where the id is not known, the vendor answers with no uploads, or
        with 404.
        """
        return await self._get("session_upload_status", models.UploadStatus)

    async def is_uploaded(self) -> bool:
        """
        Tell whether the uploads are complete, whatever else the answer has.

        Raises:
            NotFoundError: If there is no such session.
        """
        state = await self._get("session_upload_status", models.UploadState)
        return state.upload_status == models.COMPLETED

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
        try:
            return await _resources.uploads.send(
                self._api,
                self._api.url(
                    "statement", "upload_session", query=statement.query
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
        Ask the vendor to process what was uploaded.

        Raises:
            AlreadyProcessingError: If that was done before, by somebody else
                than this call. It does no harm.
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
        Tell how far processing is.

        Raises:
            NotReadyError: If it was not asked for.
        """
        return await self._get("progress", models.SessionProgress, retry=retry)

    async def status(
        self, *, retry: RetryPolicy | None = None
    ) -> models.SessionStatus:
        """
        Tell what processing came to, account by account.

        Raises:
            NotReadyError: If it was not asked for, or is not over.
        """
        return await self._get(
            "session_status", models.SessionStatus, retry=retry
        )

    async def insights(self) -> models.Insights:
        """
        Fetch everything about the session, 64 MiB at most.

        Raises:
            NotReadyError: If processing is not over.
        """
        return await self._get("insights", models.Insights)

    async def pdfs(self) -> tuple[models.StoredPdf, ...]:
        """
        List the statements as they were uploaded, to `download`.
        """
        return (await self._get("get_pdfs", models.StoredPdfs)).statements

    async def delete(self) -> None:
        """
        Delete the session; one that is deleted already is fine.

        Raises:
            NotFoundError: If there never was such a session.
        """
        try:
            await self._ask("delete", _nothing, method="DELETE")
        except NotFoundError as error:
            if error.status != _GONE:
                raise

    async def recurring_consents(
        self,
    ) -> tuple[models.RecurringConsent, ...]:
        """
        List consents under which the customer's banks may be asked again.

        Each goes into `AsyncBankConnect.fetch_recurring_aa_data`.
        """
        found = await self._api.request(
            "POST get_recurring_consent_details",
            self._api.url(
                "account_aggregator",
                "get_recurring_consent_details",
                query={"session_id": self.session_id},
            ),
            functools.partial(responses.decode, models.RecurringConsents),
            method="POST",
        )
        return found.consent_details

    async def identity(self) -> models.SessionIdentities:
        """
        Fetch whose the accounts are.

        This and the six below are of April 2024; `insights` has it all.
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
        Fetch what recurs, in a shape that the vendor does not document.
        """
        return await self._ask(
            "recurring_transactions", responses.decode_document
        )

    def watch(
        self, *, timeout: float | None = 120.0, interval: float = 2.0
    ) -> Poller[models.SessionProgress]:
        """
        Report every step of processing, until it is over.

        ::

            async for progress in bank.session(session_id).watch():
                print(progress.session_progress)

        While processing was not even asked for, there is nothing to report.
        It holds nothing between two steps, so leaving it early is fine.

        Args:
            timeout: The seconds for all polls; `None` for no limit.
            interval: The seconds between two polls, give or take a fifth. The
                webhook of the session makes it poll at once, see
                `AsyncBankConnect.notify`.

        A poll that fails transiently, such as with a 503 or a lost
        connection, is followed by another one.

        Raises:
            WaitTimeoutError: From the iteration, if it takes longer; caused
                by the error of the last poll, if that poll failed.
            AuthenticationError: From the iteration, as all errors that
                another poll would meet again.
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
        Wait until processing is over, and tell what it came to.

        It does not ask for processing: see `initiate_processing`.

        Args:
            timeout: The timeout in seconds; `None` for no limit.
            interval: As for `watch`.

        Raises:
            ProcessingFailedError: If a statement or account failed; which
                and why is in its `failures`. What did not fail can be
                fetched if its `answer` says `insights_available`.
            WaitTimeoutError: If it takes longer; caused by the error of the
                last poll, if that poll failed.
            NotFoundError: As all errors that another poll would meet again.
                Transient ones, such as a 503 or a lost connection, do not end
                it.
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
        # The one may be over a moment before the other knows.
        status = await anext(over)
        failures = washed(self._api, _failures(status))
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
            self._api.url("session_data", self.session_id, name),
            decode,
            method=method,
            idempotent=idempotent,
            limit=MAX_DATA,
            retry=retry,
        )


def _not_yet(
    ask: Callable[..., Awaitable[T]],
) -> Callable[[RetryPolicy], Awaitable[T | None]]:
    async def ask_patiently(retry: RetryPolicy) -> T | None:
        try:
            return await ask(retry=retry)
        except NotReadyError:
            return None

    return ask_patiently


def _nothing(_: bytes, *, status: int) -> None:
    # The vendor does not show this answer (U-34).
    del status


def _is_over(progress: models.SessionProgress) -> bool:
    if progress.session_progress in _SETTLED:
        return True
    # A statement that failed may hold up the whole for good.
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


def washed(api: ApiClient, failures: Iterable[Failure]) -> tuple[Failure, ...]:
    """
    Make one printable line without secrets of each text of *failures*.
    """

    def wash(text: str | None) -> str | None:
        return text and one_line(api.executor.redact(text), _LONGEST_TEXT)

    return tuple(
        attrs.evolve(each, code=wash(each.code), message=wash(each.message))
        for each in failures
    )


def explain(failures: "tuple[Failure, ...]") -> str:
    """
    Say in one line which failed and why.
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
    Tell whether an earlier attempt of the same call can have been processed.
    """
    return any(
        each.delivery in {Delivery.AMBIGUOUS, Delivery.CREATED_UNREADABLE}
        for each in error.attempts
    )
