"""
Models as dictionaries, as JSON, and in pydantic and FastAPI.
"""

import datetime
import json
import re

from decimal import Decimal
from typing import Annotated

import attrs
import fastapi
import fastapi.testclient
import openapi_spec_validator
import orjson
import pydantic
import pytest

from yarl import URL

from bankconnect_async import (
    UNSET,
    BatchStats,
    CollectionStats,
    Consent,
    ErrorEvent,
    ErrorType,
    Event,
    ExitEvent,
    InfoEvent,
    Latency,
    Metadata,
    Rows,
    Session,
    SessionEntry,
    SessionKey,
    SessionRequest,
    Stats,
    SuccessEvent,
    UnknownEvent,
    Webhook,
    decode_webhook,
    json_default,
    models,
)
from bankconnect_async._codec.responses import decode
from bankconnect_async.models import (
    Insights,
    TopCreditsDebits,
    Transaction,
    Transactions,
    Value,
)


INDIA = datetime.timezone(datetime.timedelta(hours=5.5))
TOKEN = "canary-token"
LINK = f"https://bankconnect.invalid/?token={TOKEN}"
SESSION = Session(link_id="customer-42", redirect_url=URL(LINK))
ENTRY = SessionEntry(
    entry_id="1",
    key=SessionKey(api_id="a", link_id="customer-42"),
    redirect_url=LINK,
    entity_ids=("e",),
    # pydantic writes the zone of UTC as a letter.
    created_at=datetime.datetime(2026, 1, 2, 3, 4, tzinfo=INDIA),
)
STATS = Stats(
    in_flight=1,
    waiting=0,
    tokens=0.5,
    attempts={"succeeded": 3},
    connections_opened=None,
    latency=Latency(count=3, p50=0.25),
)
EVENTS = [
    SuccessEvent(link_id="customer-42", session_id="s", confirmed=True),
    ExitEvent(reason="left", is_failure=False),
    ErrorEvent(error_type="MU003", reason="wrong"),
    ErrorEvent(error_type="MU999"),
    InfoEvent(event_name="manual"),
    UnknownEvent(status="new", key="k"),
]
REQUEST = SessionRequest(
    link_id="customer-42",
    redirect_url=UNSET,
    from_date=datetime.date(2026, 1, 1),
    aa_recurring_tenure_month=12,
    consents={"BCAA001": Consent(from_date=datetime.date(2026, 1, 1))},
    metadata=Metadata(names=["A. Customer"]),
    extra={"partner": {"id": 1}},
)
CLASSES = [
    *filter(attrs.has, map(models.__getattr__, models.__all__)),
    *(BatchStats, CollectionStats, Latency, SessionEntry, SessionKey, Stats),
]


@pytest.fixture(name="transaction")
def _transaction():
    """Return a transaction with a number that no float can hold."""
    return Transaction(
        amount=Decimal("12345678901234567.890"),
        date=datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC),
        transaction_note="UPI/canary",
        raw={"hidden": True},
    )


class TestDictionaries:
    """
    Models as dictionaries.
    """

    def test_a_session(self):
        """
        A dictionary shows the URL, which the repr hides.
        """
        assert TOKEN not in repr(SESSION)
        assert SESSION.as_dict() == {
            "link_id": "customer-42",
            "redirect_url": LINK,
            "session_id": None,
            "attempts": 1,
        }

    def test_all_attributes_of_nested_values(self, sample):
        """
        Values within a value become dictionaries, and rows become lists.
        """
        found = decode(
            Insights, sample("session_data.insights.response.json")
        ).as_dict()

        rows = found["accounts"][0]["transactions"]
        assert type(rows) is list
        assert type(rows[0]["amount"]) is Decimal
        assert "raw" not in found
        assert "raw" not in rows[0]

    def test_an_event_names_its_class(self):
        """
        The dictionaries of two events with the same attributes differ.
        """
        assert ExitEvent(reason="left").as_dict() == {
            "type": "ExitEvent",
            "link_id": None,
            "confirmed": None,
            "key": "",
            "reason": "left",
            "is_failure": None,
        }

    def test_a_request_leaves_out_what_is_unset(self):
        """
        A parameter that is not given has no key, and `None` has.
        """
        inline = attrs.evolve(REQUEST, redirect_url=None)

        assert "redirect_url" not in REQUEST.as_dict()
        assert inline.as_dict()["redirect_url"] is None


class TestJson:
    """
    Models in JSON.
    """

    @pytest.mark.parametrize("dumps", [json.dumps, orjson.dumps])
    def test_all_digits_are_written(self, dumps, transaction):
        """
        The encoders of the standard library and of orjson take a value within
        other data, and a number keeps its digits.
        """
        rows = Rows(Transaction, [transaction])

        text = dumps({"rows": rows, "of": SESSION}, default=json_default)

        found = json.loads(text)
        assert found["rows"][0]["amount"] == "12345678901234567.890"
        assert found["rows"][0]["date"] == "2026-01-02T03:04:00+00:00"
        assert found["of"]["redirect_url"] == LINK

    def test_other_types_are_refused(self):
        """
        A value that JSON cannot carry is an error that names its type.
        """
        with pytest.raises(TypeError, match="object is not JSON"):
            json.dumps({"a": object()}, default=json_default)


class TestPydantic:
    """
    Models in pydantic.
    """

    def test_every_model_has_a_schema(self):
        """
        Every public class of models, and rows of it, have a schema with all
        attributes but `raw`.
        """
        assert all(issubclass(each, Value) for each in CLASSES)
        for each in CLASSES:
            adapter = pydantic.TypeAdapter(Rows[each])
            schema = adapter.json_schema(mode="serialization")
            names = schema["$defs"][each.__name__]["properties"].keys()
            tag = {"type"} & names - attrs.fields_dict(each).keys()
            assert names - tag == {
                field.alias
                for field in attrs.fields(each)
                if field.name != "raw"
            }

    @pytest.mark.parametrize(
        ("hint", "value"),
        [
            (Session, SESSION),
            (SessionRequest, REQUEST),
            (SessionEntry, ENTRY),
            (Stats, STATS),
            *((Event, each) for each in EVENTS),
        ],
    )
    def test_values_return_from_json(self, hint, value):
        """
        An instance is taken as it is, and its JSON makes an equal one.
        """
        adapter = pydantic.TypeAdapter(hint)

        found = adapter.validate_json(adapter.dump_json(value))

        assert adapter.validate_python(value) is value
        assert found == value
        assert type(found) is type(value)
        assert adapter.validate_python(value.as_dict()) == value
        assert adapter.dump_python(value, mode="json") == json.loads(
            json.dumps(value, default=json_default)
        )

    @pytest.mark.parametrize(
        ("cls", "name"),
        [
            (Insights, "session_data.insights.response.json"),
            (TopCreditsDebits, "top_credits_debits.response.json"),
            (Transactions, "transactions.response.json"),
        ],
    )
    def test_responses_return_from_json(self, cls, name, sample):
        """
        The JSON of a response makes an equal one, with rows that convert to
        tables.
        """
        value = decode(cls, sample(name))
        adapter = pydantic.TypeAdapter(cls)

        found = adapter.validate_json(adapter.dump_json(value))

        assert attrs.asdict(found, filter=_is_typed) == attrs.asdict(
            value, filter=_is_typed
        )
        for each in attrs.astuple(found, recurse=False):
            assert not isinstance(each, tuple) or isinstance(each, Rows)

    def test_webhooks_return_from_json(self, fixture_names, sample):
        """
        The JSON of each webhook makes an equal one of the same class.
        """
        adapter = pydantic.TypeAdapter(Webhook)
        names = [
            name
            for name in sorted(fixture_names)
            if re.match(r"webhook\.(entity|session)", name)
        ]

        for name in names:
            value = decode_webhook(sample(name))
            found = adapter.validate_json(adapter.dump_json(value))
            assert found == value
            assert type(found) is type(value)
        assert len(names) >= 12

    def test_numbers_are_texts(self, transaction):
        """
        A number keeps its type in Python, and is a text in JSON, as
        pydantic's own are.
        """
        adapter = pydantic.TypeAdapter(Transaction)
        amount = transaction.amount

        assert adapter.dump_python(transaction)["amount"] is amount
        written = adapter.dump_python(transaction, mode="json")
        assert written["amount"] == str(amount)
        assert adapter.validate_python(written) == transaction

    def test_options_of_pydantic(self, transaction):
        """
        A model of pydantic's that holds ours excludes what it is told to.
        """

        class Page(pydantic.BaseModel):
            rows: Rows[Transaction]
            session: Session | None = None

        page = Page(rows=Rows(Transaction, [transaction]), session=SESSION)

        found = page.model_dump(
            include={"rows": {0: {"amount", "category"}}}, exclude_none=True
        )
        assert found == {"rows": ({"amount": transaction.amount},)}
        assert Page.model_validate_json(page.model_dump_json()) == page

    def test_problems_of_a_request(self):
        """
        A bad parameter and an unknown one are errors at their names.
        """
        adapter = pydantic.TypeAdapter(SessionRequest)

        with pytest.raises(pydantic.ValidationError) as caught:
            adapter.validate_python({"link_id": " ", "mode": "fax"})
        problems = caught.value.errors()
        assert [each["loc"] for each in problems] == [("link_id",), ("mode",)]
        assert "must be one of pdf, aa, online" in problems[1]["msg"]
        with pytest.raises(pydantic.ValidationError, match="lnik_id"):
            adapter.validate_python({"link_id": "c", "lnik_id": "c"})

    def test_errors_show_no_secret(self):
        """
        An error about a stored session names the bad attribute, and hides the
        values.
        """
        adapter = pydantic.TypeAdapter(Session)

        with pytest.raises(pydantic.ValidationError) as caught:
            adapter.validate_python({"redirect_url": LINK, "attempts": "x"})
        assert {each["loc"] for each in caught.value.errors()} == {
            ("link_id",),
            ("attempts",),
        }
        assert TOKEN not in f"{caught.value}{caught.value.errors()}"

    def test_fields_of_later_versions(self):
        """
        A key that a later version wrote is left out.
        """
        adapter = pydantic.TypeAdapter(Session)

        assert adapter.validate_python(SESSION.as_dict() | {"new": 1}) == (
            SESSION
        )

    def test_rows_of_no_class(self):
        """
        Rows that do not say of which class they are have no schema.
        """
        with pytest.raises(TypeError, match=r"Rows\[Transaction\]"):
            pydantic.TypeAdapter(Rows)


def _is_typed(attribute, value):
    """Return whether an attribute is no object as received."""
    return attribute.name not in {"raw", "predictors", "eod_balances"} and (
        "analysis" not in attribute.name
    )


class TestFastApi:
    """
    Models in FastAPI.
    """

    def test_return_values(self, transaction):
        """
        Endpoints return a session, a list of transactions and an event, take a
        request, and the OpenAPI document describes them all.
        """
        app = fastapi.FastAPI()

        @app.get("/session")
        async def session() -> Session:
            return SESSION

        @app.get("/transactions")
        async def transactions() -> list[Transaction]:
            return [transaction]

        @app.get("/rows")
        async def rows() -> Rows[Transaction]:
            return Rows(Transaction, [transaction])

        @app.get("/event/{number}", response_model_exclude_none=True)
        async def event(number: int) -> Event:
            return EVENTS[number]

        @app.post("/session")
        async def create(
            request: Annotated[SessionRequest, fastapi.Body()],
        ) -> str:
            return request.link_id

        client = fastapi.testclient.TestClient(app)
        assert client.get("/session").json() == SESSION.as_dict()
        (found,) = client.get("/transactions").json()
        assert found["amount"] == str(transaction.amount)
        assert "raw" not in found
        assert client.get("/rows").json() == [found]
        assert client.get("/event/2").json() == {
            "type": "ErrorEvent",
            "key": "",
            "error_type": ErrorType.PASSWORD_INCORRECT,
            "reason": "wrong",
        }
        given = client.post(
            "/session",
            content=json.dumps(REQUEST, default=json_default),
            headers={"Content-Type": "application/json"},
        )
        assert given.json() == "customer-42"
        refused = client.post("/session", json={"link_id": ""})
        assert refused.status_code == 422
        assert refused.json()["detail"][0]["loc"] == ["body", "link_id"]
        document = app.openapi()
        openapi_spec_validator.validate(document)
        assert document["components"]["schemas"].keys() >= {
            "Session",
            "SessionRequest",
            "Transaction",
            *(each.__class__.__name__ for each in EVENTS),
        }
