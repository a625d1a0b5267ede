"""
Every endpoint: the request, and the decoded response.
"""

import asyncio
import datetime
import json
import traceback

import pytest

from yarl import URL

from bankconnect_async import (
    AlreadyProcessingError,
    AsyncBankConnect,
    BankConnectError,
    Delivery,
    InvalidRequestError,
    InvalidResponseError,
    NotFoundError,
    NotReadyError,
    RetryPolicy,
    Session,
    SuccessEvent,
)
from bankconnect_async import (
    models as answers,
)
from bankconnect_async._resources.base import MAX_DATA
from bankconnect_async._resources.sessions import SessionHandle


S = "d8aaa1f6-d2b6-41ba-9e97-f5f843c901ee"
E = "f5057fee-4c3e-4459-82dd-21250b729601"
A = "b7b3ff7b-623d-48df-8cd5-8cc6f137bdc5"


def session(name):
    """Call a method of a session's handle."""
    return lambda bank: getattr(bank.session(S), name)()


def entity(name, **arguments):
    """Call a method of an entity's handle."""
    return lambda bank: getattr(bank.entity(E), name)(**arguments)


# Call, method and path it sends, sample it is answered by, kind of result.
CALLS = {
    "upload_status": (
        session("upload_status"),
        f"GET session_data/{S}/session_upload_status/",
        "session_data.session_upload_status.response.json",
        answers.UploadStatus,
    ),
    "initiate_processing": (
        session("initiate_processing"),
        f"POST session_data/{S}/initiate_processing/",
        "session_data.initiate_processing.response.json",
        type(None),
    ),
    "progress": (
        session("progress"),
        f"GET session_data/{S}/progress/",
        "session_data.progress.response.completed.json",
        answers.SessionProgress,
    ),
    "status": (
        session("status"),
        f"GET session_data/{S}/session_status/",
        "session_data.session_status.response.completed.json",
        answers.SessionStatus,
    ),
    "insights": (
        session("insights"),
        f"GET session_data/{S}/insights/",
        "session_data.insights.response.json",
        answers.Insights,
    ),
    "session pdfs": (
        session("pdfs"),
        f"GET session_data/{S}/get_pdfs/",
        "get_pdfs.response.session.json",
        tuple,
    ),
    "delete": (
        session("delete"),
        f"DELETE session_data/{S}/delete/",
        b"",
        type(None),
    ),
    "recurring_consents": (
        session("recurring_consents"),
        "POST account_aggregator/get_recurring_consent_details/"
        f"?session_id={S}",
        "aa.get_recurring_consent_details.response.json",
        tuple,
    ),
    "session identity": (
        session("identity"),
        f"GET session_data/{S}/identity/",
        {"session_id": S, "identity": []},
        answers.SessionIdentities,
    ),
    "session xlsx_report": (
        session("xlsx_report"),
        f"GET session_data/{S}/xlsx_report/",
        {"session_id": S, "reports": []},
        answers.SessionReports,
    ),
    **{
        f"session {name}": (
            session(name),
            f"GET session_data/{S}/{name}/",
            {"session_id": S, name: []},
            dict,
        )
        for name in (
            "transactions",
            "predictors",
            "eod_balances",
            "monthly_analysis_updated",
            "recurring_transactions",
        )
    },
    "fetch_recurring_aa_data": (
        lambda bank: bank.fetch_recurring_aa_data(
            "54dc7651-89f8-46dc-9f93-26be5a7eff0d",
            from_date=datetime.date(2025, 10, 10),
            to_date=datetime.date(2025, 11, 10),
        ),
        "POST account_aggregator/fetch_recurring_aa_data/",
        "aa.fetch_recurring_aa_data.response.json",
        SessionHandle,
    ),
    "banks": (
        lambda bank: bank.banks(),
        "GET banks/catalogue/",
        "banks_catalogue.response.json",
        tuple,
    ),
    "net_banking_health": (
        lambda bank: bank.net_banking_health(),
        "GET net_banking_health/",
        "net_banking_health.response.json",
        tuple,
    ),
    "update_webhook entity": (
        lambda bank: bank.update_webhook("https://l.example", flow="entity"),
        "POST entity/update_webhook/",
        {},
        type(None),
    ),
    "update_webhook session": (
        lambda bank: bank.update_webhook("https://l.example", flow="session"),
        "POST session_data/update_webhook/",
        "webhook.update.response.session.json",
        type(None),
    ),
    "webhook_payloads": (
        lambda bank: bank.webhook_payloads("a&b c"),
        "GET entity/webhook_payloads/?link_id=a&b c",
        "webhook.payloads.response.entity.json",
        tuple,
    ),
    "create_entity": (
        lambda bank: bank.create_entity(
            "cust-7f31-0042", meta_data={"tier": 1}
        ),
        "POST entity/",
        "entity.create.response.json",
        answers.Entity,
    ),
    "get": (
        entity("get"),
        f"GET entity/{E}/",
        "entity.get.response.json",
        answers.Entity,
    ),
    "accounts": (
        entity("accounts"),
        f"GET entity/{E}/accounts/",
        "accounts.response.json",
        answers.Accounts,
    ),
    "identity": (
        entity("identity"),
        f"GET entity/{E}/identity/",
        "identity.response.json",
        answers.Identities,
    ),
    "transactions": (
        entity("transactions"),
        f"GET entity/{E}/transactions/",
        "transactions.response.json",
        answers.Transactions,
    ),
    "transactions of an account": (
        entity("transactions", account_id=A),
        f"GET entity/{E}/transactions/?account_id={A}",
        "transactions.response.json",
        answers.Transactions,
    ),
    "salary": (
        entity("salary", account_id=A),
        f"GET entity/{E}/salary/?account_id={A}",
        "salary.response.json",
        answers.SalaryTransactions,
    ),
    "recurring_transactions": (
        entity("recurring_transactions"),
        f"GET entity/{E}/recurring_transactions/",
        "recurring_transactions.response.json",
        answers.RecurringTransactions,
    ),
    "lender_transactions": (
        entity("lender_transactions"),
        f"GET entity/{E}/lender_transactions/",
        "lender_transactions.response.json",
        answers.Transactions,
    ),
    "expense_categories": (
        entity("expense_categories", account_id=A),
        f"GET entity/{E}/get_expense_categories/?account_id={A}",
        "expense_categories.response.json",
        answers.ExpenseCategories,
    ),
    "top_credits_debits": (
        entity("top_credits_debits"),
        f"GET entity/{E}/top_credits_debits/",
        "top_credits_debits.response.json",
        answers.TopCreditsDebits,
    ),
    "monthly_analysis": (
        entity("monthly_analysis"),
        f"GET entity/{E}/monthly_analysis/",
        "monthly_analysis.response.seed.json",
        answers.MonthlyAnalysis,
    ),
    "monthly_analysis_updated": (
        entity("monthly_analysis_updated"),
        f"GET entity/{E}/monthly_analysis_updated/",
        "monthly_analysis_updated.response.json",
        answers.MonthlyAnalyses,
    ),
    "rolling_monthly_analysis": (
        entity("rolling_monthly_analysis"),
        f"GET entity/{E}/rolling_monthly_analysis/",
        "rolling_monthly_analysis.response.json",
        answers.MonthlyAnalysis,
    ),
    "predictors": (
        entity("predictors"),
        f"GET entity/{E}/predictors/",
        "predictors.response.json",
        answers.Predictors,
    ),
    "score": (
        entity("score"),
        f"GET entity/{E}/score/",
        "score.response.json",
        answers.Scores,
    ),
    "xlsx_report": (
        entity("xlsx_report"),
        f"GET entity/{E}/xlsx_report/",
        "xlsx_report.response.json",
        answers.Reports,
    ),
    "raw_excel_report": (
        entity("raw_excel_report"),
        f"GET entity/{E}/raw_excel_report/",
        "raw_excel_report.response.json",
        answers.Reports,
    ),
    "excel_report": (
        entity("excel_report"),
        f"GET entity/{E}/get_excel_report/",
        "get_excel_report.response.seed.json",
        answers.ExcelReport,
    ),
    "pdfs": (
        entity("pdfs"),
        f"GET entity/{E}/get_pdfs/",
        "get_pdfs.response.entity.json",
        tuple,
    ),
}
# These take the key alone (contract, `rest-api.md` section 1).
WITHOUT_HASH = {"net_banking_health", "create_entity", "excel_report"}


def asked(request):
    """Return a request in one line."""
    query = "&".join(f"{key}={text}" for key, text in request.query.items())
    return f"{request.method} {request.path}" + (f"?{query}" if query else "")


@pytest.mark.parametrize("name", CALLS)
async def test_asks_as_documented(name, vendor, bank, sample):
    """
    Path, query and headers are the contract's; the response decodes.
    """
    call, request, said, kind = CALLS[name]
    said = sample(said) if isinstance(said, str) else said
    path = request.partition(" ")[2].partition("?")[0]
    vendor.say(path, (200, said))

    result = await call(bank)

    assert isinstance(result, kind)
    (sent,) = vendor.requests
    assert asked(sent) == request
    assert sent.headers["x-api-key"] == "key"
    assert sent.headers.get("server-hash") == (
        None if name in WITHOUT_HASH else "hash"
    )
    if name == "initiate_processing":
        assert sent.body == b""


async def test_bodies_are_the_samples(vendor, bank, sample, sample_json):
    """
    A form for an entity, JSON for the account aggregator.
    """
    vendor.say("entity/", (201, sample("entity.create.response.json")))
    name = "account_aggregator/fetch_recurring_aa_data/"
    vendor.say(name, (200, {"session_id": "new"}))

    await CALLS["create_entity"][0](bank)
    handle = await CALLS["fetch_recurring_aa_data"][0](bank)

    assert handle.session_id == "new"
    form, body = vendor.requests
    assert form.body == (
        b"is_single_account=false&link_id=cust-7f31-0042"
        b"&meta_data=%7B%22tier%22%3A1%7D"
    )
    assert form.headers["content-type"] == (
        "application/x-www-form-urlencoded"
    )
    assert body.headers["content-type"] == "application/json"
    assert json.loads(body.body) == sample_json(
        "aa.fetch_recurring_aa_data.request.json"
    )


@pytest.mark.parametrize("bad", ["", " ", ".", "..", None, 7, "\ud800"])
def test_refuses_ids_that_are_none(bad):
    """
    An id that changes the path is refused.
    """
    bank = AsyncBankConnect("key")
    for handle in (bank.session, bank.entity):
        with pytest.raises(InvalidRequestError) as caught:
            handle(bad)

        assert "_id" in next(iter(caught.value.fields))


@pytest.mark.parametrize("bad", [" ", 7, "\ud800"])
async def test_refuses_parameters_that_cannot_be_sent(bank, bad):
    """
    The error names a bad parameter.
    """
    calls = [
        lambda: bank.webhook_payloads(bad),
        lambda: bank.create_entity(bad),
        lambda: bank.upload(b"%PDF", link_id=bad),
        lambda: anext(bank.entities(link_id=bad)),
    ]
    for call in calls:
        with pytest.raises(InvalidRequestError) as caught:
            await call()

        assert list(caught.value.fields) == ["link_id"]
    with pytest.raises(InvalidRequestError) as caught:
        await bank.entity(E).transactions(account_id=bad)

    assert list(caught.value.fields) == ["account_id"]


async def test_a_customer_has_to_be_named(bank, vendor):
    """
    Without a link id no request is sent.
    """
    with pytest.raises(InvalidRequestError, match="link_id"):
        await bank.webhook_payloads(None)

    assert vendor.requests == []


async def test_ids_are_quoted(vendor, bank, sample):
    """
    An id is escaped in the path.
    """
    vendor.say("entity/a/../b?c/", (200, sample("entity.get.response.json")))

    with pytest.raises(NotFoundError):
        await bank.entity("webhook_payloads/../x").get()

    assert "%2F..%2F" in str(
        bank._api.endpoint("entity/{id}", id="a/../b").url
    )


async def test_made_up_ids_are_not_confirmed(vendor, bank):
    """
    A malformed id of a browser is not confirmed and sends no request.
    """
    event = SuccessEvent(entity_id="..", link_id="c")

    assert (await bank.confirm(event)).confirmed is False
    assert vendor.requests == []


async def test_confirming_needs_one_word(vendor, bank):
    """
    An unexpected response does not stop the confirmation.
    """
    vendor.say(
        f"session_data/{S}/session_upload_status/",
        (200, {"session_id": S, "upload_status": "COMPLETED", "accounts": 7}),
    )
    event = SuccessEvent(session_id=S, link_id="c")
    session = Session(
        link_id="c", redirect_url=URL("https://x.example"), session_id=S
    )

    assert (await bank.confirm(event, session=session)).confirmed is True
    with pytest.raises(InvalidResponseError):
        await bank.session(S).upload_status()


def test_reprs_of_handles_hide_ids():
    """
    The repr of a handle hides its id.
    """
    bank = AsyncBankConnect("key", server_hash="canary")

    for handle in (bank.session("canary"), bank.entity("canary")):
        assert "canary" not in repr(handle)


# What is said to these is not looked at.
UNREAD = {"delete", "update_webhook entity", "update_webhook session"}


@pytest.mark.parametrize(
    ("name", "said"),
    [(name, (500, {})) for name in CALLS]
    + [(name, (200, b"<html>")) for name in sorted(CALLS.keys() - UNREAD)],
)
async def test_ids_show_nowhere(vendor, bank, name, said):
    """
    No traceback with locals shows the id of a session or an entity: that of
    a session opens a journey.
    """
    vendor.say(CALLS[name][1].partition(" ")[2].partition("?")[0], said)

    error = await attempt(bank, name)

    shown = "".join(
        traceback.TracebackException.from_exception(
            error, capture_locals=True
        ).format()
    )
    assert [id_ for id_ in (S, E) if id_ in shown] == []
    assert error.attempts


async def attempt(bank, name):
    """Make a call outside every frame of a test."""
    try:
        await CALLS[name][0](bank)
    except BankConnectError as error:
        return error
    raise AssertionError("it went well")


class TestInitiateProcessing:
    """
    SessionHandle.initiate_processing
    """

    PATH = f"session_data/{S}/initiate_processing/"

    @pytest.mark.parametrize("status", [400, 409])
    async def test_twice_is_told(self, vendor, bank, sample, status):
        """
        A repeated request has an error of its own class.
        """
        said = sample("error.session_data.duplicate_processing_request.json")
        vendor.say(self.PATH, (status, said))

        with pytest.raises(AlreadyProcessingError):
            await bank.session(S).initiate_processing()

        assert len(vendor.requests) == 1

    async def test_a_lost_answer_is_no_duplicate(self, vendor, bank, sample):
        """
        After an ambiguous attempt that error means success.
        """
        said = sample("error.session_data.duplicate_processing_request.json")
        vendor.say(self.PATH, (500, {}), (400, said))

        await bank.session(S).initiate_processing()

        assert len(vendor.requests) == 2

    async def test_at_most_once_is_sent_once(self, vendor, bank):
        """
        With at-most-once the ambiguous failure is raised.
        """
        vendor.say(self.PATH, (500, {}))

        with pytest.raises(Exception, match="500") as caught:
            await bank.session(S).initiate_processing(
                retry=RetryPolicy(delivery="at-most-once")
            )

        assert caught.value.delivery is Delivery.AMBIGUOUS
        assert len(vendor.requests) == 1


class TestDelete:
    """
    SessionHandle.delete
    """

    PATH = f"session_data/{S}/delete/"

    async def test_is_idempotent(self, vendor, bank, sample):
        """
        Deleting a session that is already gone succeeds.
        """
        said = sample("error.session_data.session_deleted.json")
        vendor.say(self.PATH, (500, {}), (410, said))

        await bank.session(S).delete()

        assert len(vendor.requests) == 2

    async def test_tells_of_unknown_sessions(self, vendor, bank, sample):
        """
        Deleting an unknown session fails.
        """
        said = sample("error.session_data.session_not_found.json")
        vendor.say(self.PATH, (404, said))

        with pytest.raises(NotFoundError):
            await bank.session(S).delete()


async def test_reads_are_repeated(vendor, bank, sample):
    """
    A GET is retried even if creating is at-most-once.
    """
    vendor.say(
        f"entity/{E}/accounts/",
        (503, {}),
        (200, sample("accounts.response.json")),
    )

    found = await bank.entity(E).accounts()

    assert found.entity_id == E
    assert len(vendor.requests) == 2


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        ((400, "processing_not_requested"), NotReadyError),
        ((400, "processing_not_completed"), NotReadyError),
        ((404, "session_not_found"), NotFoundError),
        ((410, "session_deleted"), NotFoundError),
    ],
)
async def test_too_early_and_too_late(vendor, bank, sample, refusal, error):
    """
    Calls in the wrong phase have errors of their own.
    """
    status, name = refusal
    said = sample(f"error.session_data.{name}.json")
    vendor.say(f"session_data/{S}/insights/", (status, said))

    with pytest.raises(error):
        await bank.session(S).insights()

    assert len(vendor.requests) == 1


class TestFilters:
    """
    Filters of transactions
    """

    ROWS = (
        ("a", "2026-01-01 00:00:00"),
        ("a", "2026-01-31 23:59:59"),
        ("b", "2026-01-31 00:00:00"),
        ("a", "2026-02-01 00:00:00"),
        (None, "2026-01-15 00:00:00"),
        ("a", None),
    )

    @pytest.fixture(name="rows")
    def _rows(self, vendor):
        """Script the rows above for all three endpoints."""
        rows = [
            {"hash": str(number), "account_id": account, "date": date}
            for number, (account, date) in enumerate(self.ROWS)
        ]
        for name in ("transactions", "salary", "lender_transactions"):
            vendor.say(
                f"entity/{E}/{name}/",
                (200, {"entity_id": E, "transactions": rows}),
            )

    @pytest.mark.parametrize(
        ("filters", "hashes"),
        [
            ({}, "012345"),
            ({"account_id": "a"}, "01345"),
            ({"from_date": datetime.date(2026, 1, 31)}, "123"),
            ({"to_date": datetime.date(2026, 1, 31)}, "0124"),
            (
                {
                    "from_date": datetime.date(2026, 1, 31),
                    "to_date": datetime.date(2026, 1, 31),
                    "account_id": "a",
                },
                "1",
            ),
        ],
    )
    @pytest.mark.parametrize(
        "name", ["transactions", "salary", "lender_transactions"]
    )
    async def test_combine(self, bank, rows, name, filters, hashes):
        """
        Both days are included; account and days combine.
        """
        found = await getattr(bank.entity(E), name)(**filters)

        assert "".join(each.hash for each in found.transactions) == hashes
        assert len(found.raw["transactions"]) == 6

    async def test_refuse_a_range_without_days(self, bank, rows):
        """
        A range that ends before it begins is refused.
        """
        with pytest.raises(InvalidRequestError) as caught:
            await bank.entity(E).transactions(
                from_date=datetime.date(2026, 2, 1),
                to_date=datetime.date(2026, 1, 1),
            )

        assert list(caught.value.fields) == ["from_date"]

    async def test_of_what_recurs(self, vendor, bank):
        """
        Series of other accounts are left out, on both sides.
        """
        sets = [{"account_id": "a"}, {"account_id": "b"}]
        vendor.say(
            f"entity/{E}/recurring_transactions/",
            (
                200,
                {
                    "entity_id": E,
                    "transactions": {
                        "credit_transactions": sets,
                        "debit_transactions": sets,
                    },
                },
            ),
        )

        found = await bank.entity(E).recurring_transactions(account_id="b")

        for side in ("credit_transactions", "debit_transactions"):
            (left,) = getattr(found.transactions, side)
            assert left.account_id == "b"


class TestEntities:
    """
    AsyncBankConnect.entities
    """

    @staticmethod
    def page(number, of, base_url, query=""):
        """Make a page of two entities."""
        following = f"{base_url}/v1/entity/?page={number + 1}{query}"
        return (
            200,
            {
                "count": 2 * of,
                "next": following if number < of else None,
                "previous": None,
                "results": [
                    {"entity_id": f"{number}{letter}"} for letter in "ab"
                ],
            },
        )

    async def test_follows_pages(self, vendor, bank):
        """
        Pages are requested one by one, in order.
        """
        vendor.say(
            "entity/", *(self.page(n, 3, vendor.base_url) for n in (1, 2, 3))
        )

        found = [each.entity_id async for each in bank.entities(link_id="c 1")]

        assert found == ["1a", "1b", "2a", "2b", "3a", "3b"]
        assert [dict(each.query) for each in vendor.requests] == [
            {"link_id": "c 1"},
            {"page": "2"},
            {"page": "3"},
        ]

    async def test_asks_no_further_than_it_is_followed(self, vendor, bank):
        """
        An early exit requests no further page.
        """
        vendor.say("entity/", self.page(1, 3, vendor.base_url))

        async for _ in bank.entities():
            break

        assert len(vendor.requests) == 1

    @pytest.mark.parametrize(
        "following",
        [
            "https://evil.example/bank-connect/v1/entity/?page=2",
            "http://127.0.0.1:1/bank-connect/v1/entity/?page=2",
            "{base}/v1/entity/webhook_payloads/?page=2",
            "//evil.example/",
            "?page=2",
            "http://[",
            "http://[...]/",
            "//:[é@]@?",
        ],
    )
    async def test_takes_the_key_nowhere_else(self, vendor, bank, following):
        """
        A next page at another address is not requested.
        """
        page = self.page(1, 1, "")
        page[1]["next"] = following.format(base=vendor.base_url)
        vendor.say("entity/", page)
        found = []

        with pytest.raises(InvalidResponseError):
            async for each in bank.entities():
                found.append(each.entity_id)  # noqa: PERF401 - it breaks off

        assert found == ["1a", "1b"]
        assert len(vendor.requests) == 1

    async def test_ends(self, vendor, bank):
        """
        A list that repeats a page ends with an error.
        """
        vendor.say("entity/", self.page(1, 2, vendor.base_url))

        with pytest.raises(InvalidResponseError, match="more than 3 pages"):
            async for _ in bank.entities(max_pages=3):
                pass

        assert len(vendor.requests) == 3


class TestLargeAnswers:
    """
    Responses of many megabytes
    """

    @staticmethod
    def rows(count):
        """Make a large answer."""
        row = {"hash": "x" * 40, "amount": 1.5, "account_id": A}
        return {"entity_id": E, "transactions": [row] * count}

    async def test_are_read(self, vendor, bank):
        """
        Statement data may be longer than other answers, and the loop runs
        while it is decoded.
        """
        vendor.say(f"entity/{E}/transactions/", (200, self.rows(20_000)))
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        found = await bank.entity(E).transactions()
        ticking.cancel()

        assert len(found.transactions) == 20_000
        assert ticks > 100

    async def test_are_bounded(self, vendor, bank, monkeypatch):
        """
        A response above the limit is refused.
        """
        monkeypatch.setattr(
            "bankconnect_async._resources.entities.MAX_DATA", 2_000_000
        )
        vendor.say(f"entity/{E}/transactions/", (200, self.rows(30_000)))

        with pytest.raises(InvalidResponseError):
            await bank.entity(E).transactions()

        assert MAX_DATA == 64 * 1024 * 1024

    async def test_refusals_are_not(self, vendor, bank):
        """
        A long error body is dropped; its status remains.
        """
        vendor.say(f"entity/{E}/transactions/", (404, b"x" * 2_000_000))

        with pytest.raises(NotFoundError) as caught:
            await bank.entity(E).transactions()

        assert caught.value.body == b""
