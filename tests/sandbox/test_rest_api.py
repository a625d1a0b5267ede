"""
Every endpoint beside ``session/``, spoken to in plain HTTP.

The answers are held against the contract's samples: the same keys, and the
same types, however deep.
"""

import math
import re

import aiohttp
import pytest

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
    """Tell to which flow an endpoint belongs."""
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


def form(**fields):
    """
    Write a form with the file in it.
    """
    data = aiohttp.FormData()
    for name, value in fields.items():
        if isinstance(value, bytes):
            data.add_field(name, value, filename="statement.pdf")
        else:
            data.add_field(name, value)
    return data


@pytest.fixture(name="upload")
def _upload(call):
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
            data=form(**given),
        )

    return upload


@pytest.fixture(name="upload_session")
def _upload_session(call):
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
            data=form(**given),
        )

    return upload


class TestOverview:
    """
    What holds for every endpoint.
    """

    def test_complete(self):
        """
        Each row of the contract's overview is tested here.
        """
        table = [line.split() for line in OVERVIEW.strip().splitlines()]

        assert len(table) == 46
        assert sum(is_of_session(path) for _, path, *_ in table) == 19

    @pytest.mark.parametrize(("method", "path", "secrets", "dialect"), ROWS)
    async def test_secrets(
        self, call, sample_json, method, path, secrets, dialect
    ):
        """
        No endpoint answers without its header set, and none asks for more.
        """
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
        Another method is refused, and told which ones there are.
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
        ("method", "path"),
        sorted({(method, path) for method, path, *_ in ROWS}),
    )
    async def test_slash(self, http, method, path):
        """
        A path without its slash is another one, but for the catalogue's.
        """
        path = path.replace("<id>", UNKNOWN).rstrip("/")
        async with (
            Sandbox("entity") as sandbox,
            http.request(
                method, f"{sandbox.base_url}/v1/{path}", headers=BOTH
            ) as answer,
        ):
            found = answer.status != 404

        assert found is (path == "banks/catalogue")

    @pytest.mark.parametrize(
        "path",
        [path for _, path, _, dialect in ROWS if dialect == "entity"],
    )
    async def test_not_on_the_seeds_day(self, http, path):
        """
        What came later is not there in the seed.
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
        An id that nothing created is not found, in the words of its flow.
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
        A deleted session is gone everywhere, and a blank id is none.
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
