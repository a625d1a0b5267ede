"""
Every endpoint other than ``session/``, in plain HTTP.

The answers are held against the contract's samples: the same keys, and the
same types, however deep.
"""

import asyncio
import math

import pytest

from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.sandbox import Sandbox, statement_pdf
from bankconnect_async.testing import FakeClock


KEY = {"x-api-key": "sandbox-api-key"}
BOTH = {**KEY, "server-hash": "sandbox-server-hash"}
LINK_ID = "cust-7f31-0042"
UNKNOWN = "f5057fee-4c3e-4459-82dd-21250b729601"

# The contract's overview of endpoints: method, path, headers that it asks
# for in `entity` and `session`, and the dialects that have it.
OVERVIEW = """
POST   entity/                                          K    seed entity
GET    entity/                                          K+H  seed entity
GET    entity/<id>/                                     K+H  seed entity
POST   statement/upload/                                K    seed entity
POST   statement/bankless_upload/                       K    seed entity
POST   statement/upload_base64/                         K    seed entity
POST   statement/bankless_upload_base64/                K    seed entity
GET    entity/<id>/accounts/                            K+H  seed entity
GET    entity/<id>/identity/                            K+H  seed entity
GET    entity/<id>/transactions/                        K+H  seed entity
GET    entity/<id>/salary/                              K+H  seed entity
GET    entity/<id>/recurring_transactions/              K+H  seed entity
GET    entity/<id>/lender_transactions/                 K+H  seed entity
GET    entity/<id>/get_expense_categories/              K+H  entity
GET    entity/<id>/top_credits_debits/                  K+H  entity
GET    entity/<id>/monthly_analysis/                    K+H  seed entity
GET    entity/<id>/monthly_analysis_updated/            K+H  entity
GET    entity/<id>/rolling_monthly_analysis/            K+H  entity
GET    entity/<id>/raw_excel_report/                    K+H  seed entity
GET    entity/<id>/get_excel_report/                    K    seed
GET    entity/<id>/xlsx_report/                         K+H  entity
GET    entity/<id>/predictors/                          K+H  entity
GET    entity/<id>/score/                               K+H  entity
GET    entity/<id>/get_pdfs/                            K+H  entity
POST   entity/update_webhook/                           K+H  seed entity
GET    entity/webhook_payloads/                         K+H  seed entity
GET    net_banking_health/                              K    entity
POST   statement/upload_session/                        K    session
GET    session_data/<id>/session_upload_status/         K+H  session
POST   session_data/<id>/initiate_processing/           K+H  session
GET    session_data/<id>/progress/                      K+H  session
GET    session_data/<id>/session_status/                K+H  session
GET    session_data/<id>/insights/                      K+H  session
GET    session_data/<id>/get_pdfs/                      K+H  session
DELETE session_data/<id>/delete/                        K+H  session
POST   session_data/update_webhook/                     K+H  session
GET    banks/catalogue/                                 K+H  session
POST   account_aggregator/get_recurring_consent_details/ K   session
POST   account_aggregator/fetch_recurring_aa_data/      K    session
GET    session_data/<id>/identity/                      K+H  session
GET    session_data/<id>/transactions/                  K+H  session
GET    session_data/<id>/predictors/                    K+H  session
GET    session_data/<id>/eod_balances/                  K+H  session
GET    session_data/<id>/monthly_analysis_updated/      K+H  session
GET    session_data/<id>/recurring_transactions/        K+H  session
GET    session_data/<id>/xlsx_report/                   K+H  session
"""
ROWS = [
    (method, path, secrets, dialect)
    for method, path, secrets, *dialects in map(
        str.split, OVERVIEW.strip().splitlines()
    )
    for dialect in dialects
]
SESSION = ("session_data/", "upload_session", "banks/", "account_aggregator")


def is_of_session(path):
    """Return whether an endpoint belongs to the session flow."""
    return any(part in path for part in SESSION)


@pytest.fixture(name="call")
def _call(http):
    """
    Send one request, and return status and JSON.
    """

    async def call(sandbox, method, path, *, headers=BOTH, **kwargs):
        url = f"{sandbox.base_url}/v1/{path}"
        async with http.request(
            method, url, headers=headers, **kwargs
        ) as answer:
            return answer.status, await answer.json()

    return call


@pytest.fixture(name="upload")
def _upload(call, form):
    """
    Upload a statement of the entity flow, and return status and JSON.
    """

    async def upload(
        sandbox, path="upload", *, query="?identity=true", pdf=None, **fields
    ):
        fields = {
            "file": statement_pdf("axis", LINK_ID) if pdf is None else pdf,
            "link_id": LINK_ID,
            **({} if "bankless" in path else {"bank_name": "axis"}),
            **fields,
        }
        given = {name: value for name, value in fields.items() if value}
        return await call(
            sandbox,
            "POST",
            f"statement/{path}/{query}",
            headers=KEY,
            data=form(given),
        )

    return upload


@pytest.fixture(name="upload_session")
def _upload_session(call, form):
    """
    Upload a statement into a session, and return status and JSON.
    """

    async def upload(sandbox, session, *, query="?identity=true", **fields):
        fields = {
            "file": statement_pdf("axis", LINK_ID),
            "session_id": session.session_id,
            "upload_type": "PDF",
            **fields,
        }
        given = {
            name: value for name, value in fields.items() if value is not None
        }
        return await call(
            sandbox,
            "POST",
            f"statement/upload_session/{query}",
            headers=KEY,
            data=form(given),
        )

    return upload


class TestOverview:
    """
    Rules of every endpoint.
    """

    def test_complete(self):
        """
        Each row of the contract's overview is tested here.
        """
        table = [line.split() for line in OVERVIEW.strip().splitlines()]

        assert len(table) == 46
        assert sum(is_of_session(path) for _, path, *_ in table) == 19

    @pytest.mark.parametrize("row", ROWS, ids=" ".join)
    async def test_secrets(self, call, sample_json, row):
        """
        Every endpoint requires its set of headers and no more.
        """
        method, path, secrets, dialect = row
        path = path.replace("<id>", UNKNOWN)
        async with Sandbox(dialect) as sandbox:
            refused, body = await call(sandbox, method, path, headers={})
            wrong, _ = await call(
                sandbox, method, path, headers={**BOTH, "x-api-key": "x"}
            )
            with_key, _ = await call(sandbox, method, path, headers=KEY)
            with_both, _ = await call(sandbox, method, path)

        status = 403 if is_of_session(path) else 401
        assert refused == wrong == status
        if "upload_session" in path:
            assert body["error"]["code"] == "INVALID_API_KEY"
        elif is_of_session(path):
            assert body == sample_json("error.session_data.access_denied.json")
        else:
            assert body == sample_json("error.detail.401.json")
        is_enough = secrets == "K" or dialect == "seed"
        assert (with_key not in {401, 403}) is is_enough
        assert with_both not in {401, 403, 405}

    @pytest.mark.parametrize(("method", "path", "secrets", "dialect"), ROWS)
    async def test_method(self, http, method, path, secrets, dialect):
        """
        Another method is refused with a list of the allowed ones.
        """
        path = path.replace("<id>", UNKNOWN)
        async with (
            Sandbox(dialect) as sandbox,
            http.put(f"{sandbox.base_url}/v1/{path}", headers=BOTH) as answer,
        ):
            body = await answer.json()

        assert answer.status == 405
        assert method in answer.headers["Allow"]
        if is_of_session(path) and "account_aggregator" not in path:
            assert body["error"]["code"] == "METHOD_NOT_ALLOWED"
        else:
            assert "PUT" in body["detail"] if "detail" in body else body

    @pytest.mark.parametrize(
        ("method", "path", "dialect"),
        sorted((method, path, dialect) for method, path, _, dialect in ROWS),
    )
    async def test_slash(self, http, method, path, dialect):
        """
        A path without its slash is redirected, except the catalogue's.
        """
        path = path.replace("<id>", UNKNOWN).rstrip("/")
        async with (
            Sandbox(dialect) as sandbox,
            http.request(
                method,
                f"{sandbox.base_url}/v1/{path}",
                headers=BOTH,
                allow_redirects=False,
            ) as answer,
        ):
            location = answer.headers.get("Location")

        moved = f"/bank-connect/v1/{path}/"
        assert location == (None if path == "banks/catalogue" else moved)
        assert (answer.status == 301) is (location is not None)

    @pytest.mark.parametrize(
        "path",
        [path for _, path, _, dialect in ROWS if dialect == "entity"],
    )
    async def test_not_on_the_seeds_day(self, http, path):
        """
        The seed does not have later endpoints.
        """
        in_seed = {path for _, path, _, dialect in ROWS if dialect == "seed"}
        async with (
            Sandbox() as sandbox,
            http.put(
                f"{sandbox.base_url}/v1/{path.replace('<id>', UNKNOWN)}"
            ) as answer,
        ):
            assert (answer.status == 404) is (path not in in_seed)

    @pytest.mark.parametrize(
        ("method", "path", "dialect"),
        [
            (method, path, dialect)
            for method, path, _, dialect in ROWS
            if "<id>" in path
        ],
    )
    async def test_unknown_id(self, call, sample_json, method, path, dialect):
        """
        An unknown id is not found, with the text of its flow.
        """
        async with Sandbox(dialect) as sandbox:
            answer = await call(sandbox, method, path.replace("<id>", UNKNOWN))

        if is_of_session(path):
            body = sample_json("error.session_data.session_not_found.json")
        else:
            body = {"detail": "Not found."}
        assert answer == (404, body)

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            (method, path)
            for method, path, _, dialect in ROWS
            if "session_data/<id>" in path
        ],
    )
    async def test_deleted_and_blank(
        self, call, create, sample_json, method, path
    ):
        """
        A deleted session is gone everywhere, and a blank id is refused.
        """
        async with Sandbox("session") as sandbox:
            session = await create(sandbox)
            await call(
                sandbox, "DELETE", f"session_data/{session.session_id}/delete/"
            )
            gone = await call(
                sandbox, method, path.replace("<id>", session.session_id)
            )
            blank = await call(sandbox, method, path.replace("<id>", "%20"))

        assert gone == (
            410,
            sample_json("error.session_data.session_deleted.json"),
        )
        assert blank == (
            400,
            sample_json("error.session_data.key_required.json"),
        )


ENTITY_SAMPLES = {
    "accounts": "accounts.response.json",
    "identity": "identity.response.json",
    "transactions": "transactions.response.json",
    "salary": "salary.response.json",
    "recurring_transactions": "recurring_transactions.response.json",
    "lender_transactions": "lender_transactions.response.json",
    "get_expense_categories": "expense_categories.response.json",
    "top_credits_debits": "top_credits_debits.response.json",
    "monthly_analysis_updated": "monthly_analysis_updated.response.json",
    "xlsx_report": "xlsx_report.response.json",
    "raw_excel_report": "raw_excel_report.response.json",
    "score": "score.response.json",
    "get_pdfs": "get_pdfs.response.entity.json",
}
SEED_SAMPLES = {
    "accounts": "accounts.response.seed.json",
    "monthly_analysis": "monthly_analysis.response.seed.json",
    "raw_excel_report": "raw_excel_report.response.json",
    "get_excel_report": "get_excel_report.response.seed.json",
}
# Keyed by months, notes, accounts and names that nobody counts.
FREE = {
    "$.monthly_analysis",
    "$.monthly_analysis.*",
    "$.top_5_credit_debit.top_5_credit",
    "$.top_5_credit_debit.top_5_credit.*",
    "$.top_5_credit_debit.top_5_debit",
    "$.top_5_credit_debit.top_5_debit.*",
    "$.monthly_analysis.*[]",
    "$.monthly_analysis.*[].*.monthly_analysis",
    "$.monthly_analysis.*[].*.monthly_analysis.*",
}


class TestEntities:
    """
    `entity/`, and the list of them.
    """

    @pytest.mark.parametrize("dialect", ["seed", "entity"])
    async def test_create(self, call, sample_json, dialect):
        """
        An entity is created as documented, and found again.
        """
        fields = sample_json("entity.create.request.fields.json")
        documented = sample_json("entity.create.response.json")
        async with Sandbox(dialect) as sandbox:
            status, body = await call(
                sandbox, "POST", "entity/", headers=KEY, data=fields
            )
            found = await call(sandbox, "GET", f"entity/{body['entity_id']}/")
            nobody, blank = await call(sandbox, "POST", "entity/", data={})

        assert (status, nobody) == (201, 201)
        assert body == {**documented, "entity_id": body["entity_id"]}
        assert found == (200, body)
        assert (blank["link_id"], blank["meta_data"]) == (None, None)

    async def test_create_badly(self, call):
        """
        The error names a bad field, and JSON is refused.
        """
        async with Sandbox("entity") as sandbox:
            bad = await call(
                sandbox, "POST", "entity/", data={"is_single_account": "so"}
            )
            json = await call(sandbox, "POST", "entity/", json={"link_id": 1})

        assert bad == (
            400,
            {"is_single_account": ["Must be a valid boolean."]},
        )
        assert json[0] == 400
        assert list(json[1]) == ["link_id"]

    @pytest.mark.parametrize("dialect", ["seed", "entity"])
    async def test_pages(self, differences, call, sample_json, dialect):
        """
        A page has ten entities and the URLs of its neighbours.
        """
        documented = sample_json("entity.list.response.json")
        async with Sandbox(dialect) as sandbox:
            for number in range(12):
                data = {"link_id": "odd" if number % 2 else LINK_ID}
                await call(sandbox, "POST", "entity/", data=data)
            _, first = await call(sandbox, "GET", "entity/")
            path = first["next"].removeprefix(f"{sandbox.base_url}/v1/")
            _, second = await call(sandbox, "GET", path)
            _, odd = await call(sandbox, "GET", "entity/?link_id=odd")
            missing = [
                await call(sandbox, "GET", f"entity/?page={page}")
                for page in ("3", "0", "x", "-1", "²")
            ]

        assert not (differences(first, documented))
        assert (first["count"], first["previous"]) == (12, None)
        assert len(first["results"]) == 10
        assert len(second["results"]) == 2
        assert second["next"] is None
        assert second["previous"].endswith("/v1/entity/?page=1")
        assert (odd["count"], odd["next"]) == (6, None)
        assert missing == [(404, {"detail": "Invalid page."})] * 5

    async def test_filtered_pages(self, call):
        """
        The URL of the next page keeps the link id.
        """
        async with Sandbox("entity") as sandbox:
            for _ in range(11):
                await call(
                    sandbox, "POST", "entity/", data={"link_id": "a b&c"}
                )
            _, first = await call(sandbox, "GET", "entity/?link_id=a%20b%26c")

        assert first["next"].endswith("?page=2&link_id=a+b%26c")


class TestEntityData:
    """
    The data of an entity with processed statements.
    """

    @pytest.mark.parametrize("name", ENTITY_SAMPLES)
    async def test_shape(self, differences, call, upload, sample_json, name):
        """
        Each response has the keys and types of its sample.
        """
        documented = sample_json(ENTITY_SAMPLES[name])
        async with Sandbox("entity", processing_time=0) as sandbox:
            _, uploaded = await upload(
                sandbox, pdf=statement_pdf("axis", LINK_ID, edited=True)
            )
            status, body = await call(
                sandbox, "GET", f"entity/{uploaded['entity_id']}/{name}/"
            )

        assert status == 200
        assert not differences(body, documented, free=FREE)

    @pytest.mark.parametrize("name", SEED_SAMPLES)
    async def test_shape_in_the_seed(
        self, differences, call, upload, sample_json, name
    ):
        """
        The seed's responses have fewer fields.
        """
        documented = sample_json(SEED_SAMPLES[name])
        async with Sandbox(processing_time=0) as sandbox:
            _, uploaded = await upload(
                sandbox, pdf=statement_pdf("axis", LINK_ID, edited=True)
            )
            status, body = await call(
                sandbox,
                "GET",
                f"entity/{uploaded['entity_id']}/{name}/",
                headers=KEY,
            )

        assert status == 200
        assert not differences(body, documented, free=FREE)

    @pytest.mark.parametrize(
        "name",
        [
            "identity",
            "transactions",
            "salary",
            "recurring_transactions",
            "lender_transactions",
        ],
    )
    async def test_seed_is_short(self, call, upload, name):
        """
        No response of the seed has the fields of later years.
        """
        async with Sandbox(processing_time=0) as sandbox:
            _, uploaded = await upload(sandbox)
            _, body = await call(
                sandbox, "GET", f"entity/{uploaded['entity_id']}/{name}/"
            )

        (account,) = body["accounts"]
        (progress,) = body["progress"]
        assert progress.keys() == {"status", "message", "statement_id"}
        assert not account.keys() & {
            "account_category",
            "credit_limit",
            "last_updated",
        }

    async def test_predictors(self, call, upload, sample_json):
        """
        Predictors begin with those of the sample; unknown months are `null`.
        """
        documented = sample_json("predictors.response.json")
        async with Sandbox("entity", processing_time=0) as sandbox:
            _, uploaded = await upload(sandbox)
            _, body = await call(
                sandbox, "GET", f"entity/{uploaded['entity_id']}/predictors/"
            )

        (entry,) = body["predictors"]
        (sample,) = documented["predictors"]
        assert body.keys() == documented.keys()
        assert entry["predictors"].keys() >= sample["predictors"].keys()
        assert isinstance(entry["predictors"]["accountnumber"], int)
        assert entry["predictors"]["month_duration"] == 7

    async def test_rolling(self, differences, call, upload, sample_json):
        """
        The withdrawn figures have their blocks under the listed names.
        """
        documented = sample_json("rolling_monthly_analysis.response.json")
        async with Sandbox("entity", processing_time=0) as sandbox:
            _, uploaded = await upload(sandbox)
            _, body = await call(
                sandbox,
                "GET",
                f"entity/{uploaded['entity_id']}/rolling_monthly_analysis/",
            )

        blocks = body["monthly_analysis"]["monthly_analysis"]
        sample = documented["monthly_analysis"]["monthly_analysis"]
        assert body.keys() == documented.keys()
        assert {"month_0", "month_1", "3_months_group"} <= set(
            blocks["months_order"]
        )
        assert not list(
            differences(
                blocks["month_1"]["credit"], sample["month_1"]["credit"]
            )
        )
        assert (
            blocks["month_0"]["cash_deposit_credit"]
            == sample["month_0"]["cash_deposit_credit"]
        )
        for name in blocks["months_order"] + blocks["calander_months_order"]:
            assert name in blocks

    async def test_one_account(self, call, upload):
        """
        `account_id` asks for one account, where the pages have it.
        """
        second = statement_pdf("hdfc", LINK_ID)
        async with Sandbox("entity", processing_time=0) as sandbox:
            _, first = await upload(sandbox)
            await upload(sandbox, pdf=second, bank_name="hdfc")
            entity = f"entity/{first['entity_id']}"
            account_id = first["identity"]["account_id"]
            _, one = await call(
                sandbox,
                "GET",
                f"{entity}/transactions/?account_id={account_id}",
            )
            _, both = await call(sandbox, "GET", f"{entity}/transactions/")
            _, all_ = await call(
                sandbox, "GET", f"{entity}/accounts/?account_id={account_id}"
            )

        assert {row["account_id"] for row in one["transactions"]} == {
            account_id
        }
        assert len({row["account_id"] for row in both["transactions"]}) == 2
        assert len(all_["accounts"]) == 2

    async def test_seed_knows_no_filter(self, call, upload):
        """
        The seed ignores `account_id`.
        """
        async with Sandbox(processing_time=0) as sandbox:
            _, uploaded = await upload(sandbox)
            _, body = await call(
                sandbox,
                "GET",
                f"entity/{uploaded['entity_id']}/transactions/?account_id=x",
            )

        assert body["transactions"]

    async def test_health(self, differences, call, sample_json):
        """
        Net banking is up at most banks, and UTC is the zone.
        """
        documented = sample_json("net_banking_health.response.json")
        clock = FakeClock(epoch=1775026114.0)
        async with Sandbox("entity", clock=clock) as sandbox:
            status, body = await call(
                sandbox, "GET", "net_banking_health/", headers=KEY
            )

        assert status == 200
        assert not (differences(body, documented))
        assert {entry["updated_at"] for entry in body} == {
            "2026-04-01 06:48:34"
        }
        assert {entry["health_up"] for entry in body} == {True, False}


class TestEntityProgress:
    """
    From upload to data.
    """

    @pytest.mark.parametrize("dialect", ["seed", "entity"])
    async def test_in_time(self, call, upload, sample_json, dialect):
        """
        A statement is processing first, with nothing to show, then completed.
        """
        clock = FakeClock()
        async with Sandbox(dialect, processing_time=2, clock=clock) as sandbox:
            _, uploaded = await upload(sandbox)
            path = f"entity/{uploaded['entity_id']}/transactions/"
            _, early = await call(sandbox, "GET", path)
            clock.now += 2
            _, late = await call(sandbox, "GET", path)

        assert early["progress"][0]["status"] == "processing"
        assert (early["transactions"], early["accounts"]) == ([], [])
        assert late["progress"][0]["status"] == "completed"
        assert late["transactions"]

    async def test_partly(self, call, upload, sample_json):
        """
        Completed statements are shown while others are processed.
        """
        documented = sample_json("accounts.response.processing.json")
        clock = FakeClock()
        async with Sandbox(
            "entity", processing_time=2, clock=clock
        ) as sandbox:
            _, uploaded = await upload(sandbox)
            clock.now += 2
            await upload(
                sandbox,
                pdf=statement_pdf("hdfc", LINK_ID),
                bank_name="hdfc",
            )
            entity = f"entity/{uploaded['entity_id']}"
            _, body = await call(sandbox, "GET", f"{entity}/accounts/")
            empty = [
                (await call(sandbox, "GET", f"{entity}/{name}/"))[1]
                for name in ("predictors", "score", "xlsx_report")
            ]

        assert [entry["status"] for entry in body["progress"]] == [
            "completed",
            "processing",
        ]
        assert len(body["accounts"]) == 1
        assert body["accounts"][0].keys() == documented["accounts"][0].keys()
        assert [
            answer[name]
            for answer, name in zip(
                empty, ("predictors", "score", "reports"), strict=True
            )
        ] == [[], [], []]

    @pytest.mark.parametrize(
        ("error_code", "word"),
        [(None, "completed"), ("UNPARSABLE", "failed")],
    )
    async def test_finish(self, call, upload, sample_json, error_code, word):
        """
        A test can end processing with success or failure.
        """
        documented = sample_json("accounts.response.failed.json")
        async with Sandbox(processing_time=math.inf) as sandbox:
            _, uploaded = await upload(sandbox)
            entity_id = uploaded["entity_id"]
            _, before = await call(
                sandbox, "GET", f"entity/{entity_id}/get_excel_report/"
            )
            sandbox.finish(entity_id, error_code=error_code)
            _, after = await call(
                sandbox, "GET", f"entity/{entity_id}/get_excel_report/"
            )
            _, body = await call(
                sandbox, "GET", f"entity/{entity_id}/accounts/"
            )
            with pytest.raises(InvalidRequestError, match="not being"):
                sandbox.finish(entity_id)

        assert (before["progress"], before["report"]) == ("processing", "")
        assert after["progress"] == word
        assert bool(after["report"]) is (word == "completed")
        if word == "failed":
            (entry,) = body["progress"]
            assert entry["message"] == documented["progress"][0]["message"]
            assert body["accounts"] == []
            assert body["fraud"] == documented["fraud"]

    async def test_webhook(self, upload, sample_json, receiver):
        """
        The end of extraction sends a webhook, also without link id.
        """
        documented = sample_json("webhook.entity.completed.null_link.json")
        async with Sandbox(
            webhook_url=receiver.url, processing_time=0.01
        ) as sandbox:
            _, uploaded = await upload(sandbox, link_id="")
            while not (sent := await sandbox.webhooks_sent()):
                await asyncio.sleep(0.005)

        (body,) = receiver.bodies
        assert sent[0].body == body
        assert body == {
            **documented,
            "entity_id": uploaded["entity_id"],
            "statement_id": uploaded["statement_id"],
        }

    async def test_failure_webhook(self, upload, sample_json, receiver):
        """
        A failed extraction sends a webhook, except in mode 0.
        """
        async with Sandbox(
            "entity", webhook_url=receiver.url, processing_time=math.inf
        ) as sandbox:
            _, uploaded = await upload(sandbox)
            sandbox.finish(uploaded["entity_id"], error_code="UNPARSABLE")
            await sandbox.webhooks_sent()

        (body,) = receiver.bodies
        assert (body["progress"], body["reason"]) == (
            "failed",
            "Extraction failed",
        )

    @pytest.mark.parametrize("dialect", ["seed", "entity"])
    async def test_journey(self, call, create, dialect):
        """
        A statement uploaded in the browser is processed at once.
        """
        async with Sandbox(dialect) as sandbox:
            session = await create(sandbox, bank_name="hdfc")
            played = await sandbox.play(
                session.session_id, "success", mode="online"
            )
            entity_id = played.messages[0]["payload"]["entityId"]
            _, body = await call(
                sandbox, "GET", f"entity/{entity_id}/transactions/"
            )

        assert [entry["status"] for entry in body["progress"]] == ["completed"]
        assert body["accounts"][0]["bank"] == "hdfc"
        assert len(body["accounts"][0]["months"]) == 7
        assert body["transactions"]

    async def test_journey_that_failed(self, call, create):
        """
        An entity without statements has empty data.
        """
        async with Sandbox("entity") as sandbox:
            session = await create(sandbox)
            await sandbox.play(session.session_id, "failure")
            (entity_id,) = sandbox.entities
            answers = [
                await call(sandbox, "GET", f"entity/{entity_id}/{name}/")
                for name in (
                    "accounts",
                    "predictors",
                    "monthly_analysis",
                    "get_expense_categories",
                    "top_credits_debits",
                    "rolling_monthly_analysis",
                )
            ]

        assert {status for status, _ in answers} == {200}
        assert all(body["progress"] == [] for _, body in answers)
