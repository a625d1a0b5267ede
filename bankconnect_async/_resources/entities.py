"""
One entity: its statements and their analyses.

The vendor's entity flow (contract, `rest-api.md` sections 4, 5, 7 and 8).
"""

import datetime
import functools

from collections.abc import Awaitable, Callable, Mapping
from typing import (
    TYPE_CHECKING,
    Final,
    Literal,
    Self,
    TypeAlias,
    TypeVar,
    Unpack,
)

import attrs

from bankconnect_async import _resources, models
from bankconnect_async._codec import responses
from bankconnect_async._codec.session_requests import read_url
from bankconnect_async._tracebacks import hide_frames
from bankconnect_async.config import hide
from bankconnect_async.error_details import Failure
from bankconnect_async.errors import (
    InvalidRequestError,
    InvalidResponseError,
    ProcessingFailedError,
)
from bankconnect_async.retry import RetryPolicy

from .base import MAX_DATA, ApiClient, Endpoint, check_id
from .polling import Poller, PollSchedule
from .sessions import clean_failures, explain


if TYPE_CHECKING:
    from .uploads import StatementFile, UploadOptions


T = TypeVar("T")
A = TypeVar("A", models.Transactions, models.SalaryTransactions)

#: The analyses that can be awaited.
Analysis: TypeAlias = Literal[
    "accounts",
    "expense_categories",
    "identity",
    "lender_transactions",
    "monthly_analysis_updated",
    "predictors",
    "recurring_transactions",
    "salary",
    "score",
    "top_credits_debits",
    "transactions",
    "xlsx_report",
]

#: The statuses of a statement that is in progress.
UNSETTLED: Final = frozenset({None, "processing"})

_PATHS: Final[Mapping[str, str]] = {
    "expense_categories": "get_expense_categories"
}
_FAILED: Final = "failed"
_FORMER: Final = "transaction_status"


@attrs.frozen
class EntityHandle:
    """
    An entity at the vendor, by its id.

    `AsyncBankConnect.entity` returns one. It holds only the id, and belongs to
    the client that made it. Its methods raise `TransportError` if no usable
    response came, `NotFoundError` if the entity does not exist, and other
    kinds of `ResponseError`.

    The vendor responds at any time with the data that it has so far: look at
    the `progress` of a response, or `wait` first.

    Attributes:
        entity_id: The id of the entity.
    """

    _api: ApiClient = attrs.field(repr=False)
    entity_id: str = attrs.field(repr=False)

    def __attrs_post_init__(self) -> None:
        check_id("entity_id", self.entity_id)

    async def get(self) -> models.Entity:
        """
        Fetch the `link_id` of the entity, and the data stored with it.
        """
        return await self._api.request(
            "GET entity",
            self._api.endpoint("entity/{entity_id}", entity_id=self.entity_id),
            functools.partial(responses.decode, models.Entity),
        )

    @hide_frames
    async def upload(
        self,
        file: "StatementFile | None" = None,
        /,
        **options: "Unpack[UploadOptions]",
    ) -> models.EntityUpload:
        """
        Upload a statement of the entity.

        It takes and raises the same as `AsyncBankConnect.upload`.
        """
        owner = {"entity_id": hide(self.entity_id)}
        sending = upload(self._api, owner, file, **options)
        del file, options
        return await sending

    async def accounts(self) -> models.Accounts:
        """
        Fetch the accounts, and signs of fraud.
        """
        return await self._get("accounts", models.Accounts)

    async def identity(self) -> models.Identities:
        """
        Fetch the holders of the accounts.
        """
        return await self._get("identity", models.Identities)

    async def transactions(
        self,
        *,
        account_id: str | None = None,
        from_date: datetime.date | None = None,
        to_date: datetime.date | None = None,
    ) -> models.Transactions:
        """
        Fetch the transactions, at most 64 MiB.

        Args:
            account_id: The account; by default all of them.
            from_date: The first day. The vendor has no filter by day: all
                transactions are fetched, and those without a date are left
                out.
            to_date: The last day.

        Raises:
            InvalidRequestError: If *from_date* is after *to_date*.
        """
        found = await self._get(
            "transactions", models.Transactions, account_id=account_id
        )
        return _between(found, account_id, from_date, to_date)

    async def salary(
        self,
        *,
        account_id: str | None = None,
        from_date: datetime.date | None = None,
        to_date: datetime.date | None = None,
    ) -> models.SalaryTransactions:
        """
        Fetch credits that the vendor takes for salaries.

        It takes and raises the same as `transactions`.
        """
        found = await self._get(
            "salary", models.SalaryTransactions, account_id=account_id
        )
        return _between(found, account_id, from_date, to_date)

    async def lender_transactions(
        self,
        *,
        account_id: str | None = None,
        from_date: datetime.date | None = None,
        to_date: datetime.date | None = None,
    ) -> models.Transactions:
        """
        Fetch transactions with lenders.

        It takes and raises the same as `transactions`.
        """
        found = await self._get(
            "lender_transactions", models.Transactions, account_id=account_id
        )
        return _between(found, account_id, from_date, to_date)

    async def recurring_transactions(
        self, *, account_id: str | None = None
    ) -> models.RecurringTransactions:
        """
        Fetch recurring credits and debits.

        Args:
            account_id: The account; by default all of them.
        """
        found = await self._get(
            "recurring_transactions",
            models.RecurringTransactions,
            account_id=account_id,
        )
        if account_id is None:
            return found
        sets = attrs.evolve(
            found.transactions,
            credit_transactions=_of_account(
                found.transactions.credit_transactions, account_id
            ),
            debit_transactions=_of_account(
                found.transactions.debit_transactions, account_id
            ),
        )
        return attrs.evolve(found, transactions=sets)

    async def expense_categories(
        self, *, account_id: str | None = None
    ) -> models.ExpenseCategories:
        """
        Fetch the shares of the expenses.

        Args:
            account_id: The account, which the vendor filters; by default all.
        """
        return await self._get(
            "expense_categories",
            models.ExpenseCategories,
            account_id=account_id,
        )

    async def top_credits_debits(self) -> models.TopCreditsDebits:
        """
        Fetch the largest transactions of each month.
        """
        return await self._ask(
            "top_credits_debits",
            functools.partial(
                responses.decode, models.TopCreditsDebits, keep_pairs=True
            ),
        )

    async def monthly_analysis(self) -> models.MonthlyAnalysis:
        """
        Fetch figures of each month over all accounts, as until 2021.
        """
        return await self._get("monthly_analysis", models.MonthlyAnalysis)

    async def monthly_analysis_updated(self) -> models.MonthlyAnalyses:
        """
        Fetch figures of each month and account.
        """
        return await self._get(
            "monthly_analysis_updated", models.MonthlyAnalyses
        )

    async def rolling_monthly_analysis(self) -> models.MonthlyAnalysis:
        """
        Fetch rolling figures, which the vendor withdrew in 2023.
        """
        return await self._get(
            "rolling_monthly_analysis", models.MonthlyAnalysis
        )

    async def predictors(self) -> models.Predictors:
        """
        Fetch variables for a credit decision.
        """
        return await self._get("predictors", models.Predictors)

    async def score(self) -> models.Scores:
        """
        Fetch a score for each account.
        """
        return await self._get("score", models.Scores)

    async def xlsx_report(self) -> models.Reports:
        """
        Fetch the links of a detailed workbook for each account.
        """
        return await self._get("xlsx_report", models.Reports)

    async def raw_excel_report(self) -> models.Reports:
        """
        Fetch the links of workbooks with transactions, as until 2020.
        """
        return await self._get("raw_excel_report", models.Reports)

    async def excel_report(self) -> models.ExcelReport:
        """
        Fetch the link of one workbook, as in May 2020.
        """
        return await self._ask(
            "get_excel_report",
            functools.partial(responses.decode, models.ExcelReport),
            with_hash=False,
        )

    async def pdfs(self) -> models.Rows[models.StoredPdf]:
        """
        List the statements as they were uploaded, to `download`.
        """
        return (await self._get("get_pdfs", models.StoredPdfs)).statements

    def watch(
        self,
        analysis: Analysis = "transactions",
        /,
        *,
        timeout: float | None = 120.0,
        interval: float = 2.0,
    ) -> Poller[models.Rows[models.StatementProgress]]:
        """
        Iterate over the steps of an analysis, until no statement is in
        progress.

        It keeps nothing open between two steps, so an early exit is fine. A
        poll that fails transiently, such as with a 503 or a lost connection,
        is followed by another one.

        Args:
            analysis: The analysis; each has a progress of its own.
            timeout: The seconds for all polls; `None` for no limit.
            interval: The seconds between two polls, plus or minus a fifth. A
                webhook of the entity causes a poll at once, see
                `AsyncBankConnect.notify`.

        Raises:
            WaitTimeoutError: From the iteration, if it takes longer; caused by
                the error of the last poll, if that poll failed.
            AuthenticationError: From the iteration, as all errors that another
                poll would meet again.
        """
        return Poller(
            PollSchedule.start(self._api, timeout, interval),
            self.entity_id,
            fetch=_ProgressQuery(self._get, analysis),
            is_done=lambda progress: all(
                each.status not in UNSETTLED for each in progress
            ),
        )

    async def wait(
        self,
        analysis: Analysis = "transactions",
        /,
        *,
        timeout: float | None = 120.0,  # noqa: ASYNC109 - in whole polls
        interval: float = 2.0,
    ) -> models.Rows[models.StatementProgress]:
        """
        Wait until no statement is in progress.

        For an entity without statements it returns at once.

        Args:
            analysis: The analysis; each has a progress of its own.
            timeout: The timeout in seconds; `None` for no limit.
            interval: The interval, as for `watch`.

        Raises:
            ProcessingFailedError: If a statement failed; its `failures` name
                each with the reason. The data of the others can be fetched.
            WaitTimeoutError: If it takes longer; caused by the error of the
                last poll, if that poll failed.
            NotFoundError: As all errors that another poll would meet again.
                Transient errors, such as a 503 or a lost connection, do not
                end it.
        """
        progress: models.Rows[models.StatementProgress] = models.Rows(
            models.StatementProgress
        )
        steps = self.watch(analysis, timeout=timeout, interval=interval)
        async for step in steps:
            progress = step
        failures = clean_failures(
            self._api,
            (
                Failure(statement_id=each.statement_id, message=each.message)
                for each in progress
                if each.status == _FAILED
            ),
        )
        if failures:
            raise ProcessingFailedError(
                explain(failures), failures=failures, response=progress
            )
        return progress

    async def _get(
        self,
        name: str,
        cls: type[T],
        *,
        account_id: str | None = None,
        retry: RetryPolicy | None = None,
    ) -> T:
        return await self._ask(
            name,
            functools.partial(responses.decode, cls),
            account_id=account_id,
            retry=retry,
        )

    async def _ask(
        self,
        name: str,
        decode: Callable[..., T],
        *,
        account_id: str | None = None,
        with_hash: bool = True,
        retry: RetryPolicy | None = None,
    ) -> T:
        return await self._api.request(
            f"GET {name}",
            self._api.endpoint(
                f"entity/{{entity_id}}/{_PATHS.get(name, name)}",
                entity_id=self.entity_id,
                query={"account_id": account_id},
            ),
            decode,
            with_hash=with_hash,
            limit=MAX_DATA,
            retry=retry,
        )


@attrs.define
class _ProgressQuery:
    """
    Fetches the progress of an analysis.

    Transactions are many, and `identity/` has reported their progress, too,
    since 2022.
    """

    _fetch: Callable[..., Awaitable[models.EntityResponse]]
    _analysis: str
    _identity_reports: bool = True

    async def __call__(
        self, retry: RetryPolicy
    ) -> models.Rows[models.StatementProgress] | None:
        if self._analysis == "transactions" and self._identity_reports:
            found = await self._fetch(
                "identity", models.EntityResponse, retry=retry
            )
            if all(_FORMER in each.raw for each in found.progress):
                progress = _progress(found)
                return progress and models.Rows(
                    models.StatementProgress, map(_of_transactions, progress)
                )
            self._identity_reports = False
        found = await self._fetch(
            self._analysis, models.EntityResponse, retry=retry
        )
        return _progress(found)


def _progress(
    response: models.EntityResponse,
) -> models.Rows[models.StatementProgress] | None:
    if response.raw.get("progress") is None:
        return None
    return response.progress


def _of_transactions(
    statement: models.StatementProgress,
) -> models.StatementProgress:
    # Without an identity there are no transactions.
    if statement.status == _FAILED:
        return statement
    return attrs.evolve(statement, status=statement.transaction_status)


def _of_account(
    sets: models.Rows[models.RecurringSet], account_id: str
) -> models.Rows[models.RecurringSet]:
    return models.Rows(
        models.RecurringSet,
        (each for each in sets if each.account_id in {None, account_id}),
    )


def _between(
    found: A,
    account_id: str | None,
    from_date: datetime.date | None,
    to_date: datetime.date | None,
) -> A:
    if from_date is None and to_date is None and account_id is None:
        return found
    first, last = from_date or datetime.date.min, to_date or datetime.date.max
    if first > last:
        raise InvalidRequestError(
            fields={"from_date": ("must not be after to_date",)}
        )
    by_date = from_date is not None or to_date is not None

    def wanted(row: models.Transaction) -> bool:
        # Until 2020 the vendor did not filter by account either.
        if account_id is not None and row.account_id not in {None, account_id}:
            return False
        if not by_date:
            return True
        return row.date is not None and first <= row.date.date() <= last

    return attrs.evolve(
        found,
        transactions=models.Rows(
            found.transactions.row_type, filter(wanted, found.transactions)
        ),
    )


async def upload(
    api: ApiClient,
    owner: Mapping[str, str],
    file: "StatementFile | None",
    **options: "Unpack[UploadOptions]",
) -> models.EntityUpload:
    """
    Send a statement to the endpoint for its kind.
    """
    known = _resources.uploads.UploadOptions.__annotations__
    statement = _resources.uploads.prepare(api, owner, file, known, **options)
    del file, options
    name = "upload"
    if statement.fields["bank_name"] is None:
        name = f"bankless_{name}"
    if statement.is_base64:
        name = f"{name}_base64"
    return await _resources.uploads.send(
        api,
        api.endpoint(f"statement/{name}", query=statement.query),
        statement,
        functools.partial(responses.decode, models.EntityUpload),
    )


class Entities:
    """
    All entities of the organisation, page by page, for ``async for``.

    It is not a generator, so an early exit leaks nothing.
    """

    def __init__(
        self, api: ApiClient, *, link_id: str | None, max_pages: int
    ) -> None:
        self._api = api
        self._first = api.endpoint("entity", query={"link_id": link_id})
        self._next: str | None = str(self._first.url)
        self._max_pages = max_pages
        self._pages = 0
        self._rows: list[models.Entity] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> models.Entity:
        while not self._rows:
            if self._next is None:
                raise StopAsyncIteration
            await self._fetch_page(self._follow(self._next))
        return self._rows.pop()

    async def _fetch_page(self, endpoint: Endpoint) -> None:
        if self._pages >= self._max_pages:
            raise InvalidResponseError(
                f"the list has more than {self._max_pages} pages",
                problems=["more pages than max_pages @ $.next"],
            )
        page = await self._api.request(
            "GET entities",
            endpoint,
            functools.partial(responses.decode, models.EntityPage),
        )
        self._pages += 1
        self._rows = list(reversed(page.results))
        self._next = page.next

    def _follow(self, text: str) -> Endpoint:
        # The request carries the key, so the server must be the same.
        url, first = read_url(text), self._first.url
        if (
            url is not None
            and url.scheme == first.scheme
            and url.host
            and (url.origin(), url.raw_path)
            == (first.origin(), first.raw_path)
        ):
            return attrs.evolve(self._first, url=url)
        raise InvalidResponseError(
            "the list continues at another address",
            problems=["is not a page of the same list @ $.next"],
        )
