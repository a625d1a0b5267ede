"""
The rules of the sandbox's Session API, on bytes and without a socket.
"""

import datetime
import json

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import attrs
import orjson
import pytest

from hypothesis import given
from hypothesis import strategies as st

from bankconnect_async.models.sessions import PARAMETERS
from bankconnect_async.sandbox.banks import find_bank
from bankconnect_async.sandbox.config import ALL_MODES
from bankconnect_async.sandbox.http.endpoints import UNPAID_API_KEY
from bankconnect_async.sandbox.http.errors import ApiError
from bankconnect_async.sandbox.session_api.dialects import rules_for
from bankconnect_async.sandbox.session_api.validation import (
    SandboxRequest,
    validate_request,
)


FIXTURES = Path(__file__).parents[1] / "fixtures"
TODAY = datetime.date(2026, 11, 22)
KEY = "test-api-key-000000000000"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=frontier"

SEED = "seed", "v1"
ENTITY = "entity", "v1"
SESSION = "session", "v1"
V2 = "session", "v2"
PLAIN = [pytest.param(SEED, id="seed"), pytest.param(ENTITY, id="entity")]
CODED = [pytest.param(SESSION, id="session"), pytest.param(V2, id="v2")]
EVERY = PLAIN + CODED

SAMPLES = {
    "seed.full": SEED,
    "seed.minimal": SEED,
    "v1.entity.full": ENTITY,
    "v1.entity.iframe": ENTITY,
    "v1.session.full": SESSION,
    "v1.session.postman": SESSION,
    "v1.session.tenure_short_name": SESSION,
    "v2.bank_alias": V2,
    "v2.body_key": V2,
    "v2.full": V2,
    "v2.minimal": V2,
}


@attrs.frozen
class Accepted:
    """
    A request that the vendor would process.
    """

    parameters: Any


@attrs.frozen
class Refused:
    """
    A request that the vendor would refuse.
    """

    status: int
    body: Any


def fixture(name: str) -> Any:
    """
    Read one sample.
    """
    return json.loads((FIXTURES / name).read_bytes())


def send(
    body: bytes,
    which: tuple[str, str] = SEED,
    *,
    method: str = "POST",
    content_type: str = JSON,
    header_key: str | None = KEY,
    today: datetime.date = TODAY,
    modes: tuple[str, ...] = ALL_MODES,
) -> Accepted | Refused:
    """
    Validate one request; the body of an error must be JSON.
    """
    request = SandboxRequest(
        method=method,
        content_type=content_type,
        body=body,
        header_key=header_key,
    )
    rules = rules_for(*which)
    try:
        parameters = validate_request(
            request, rules=rules, api_key=KEY, today=today, modes=modes
        )
    except ApiError as error:
        shown = error.body or rules.render(error)
        assert json.loads(orjson.dumps(shown)) == shown
        return Refused(error.status, shown)
    return Accepted(parameters)


def ask(which: tuple[str, str], **parameters: Any) -> Accepted | Refused:
    """
    Validate parameters as JSON.
    """
    body = {"link_id": "cust-1", **parameters}
    return send(json.dumps(body).encode(), which)


def multipart(fields: dict[str, Any]) -> bytes:
    """
    Write fields as a multipart form.
    """
    parts = "".join(
        "--frontier\r\n"
        f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    return f"{parts}--frontier--\r\n".encode()


def urlencoded(fields: dict[str, Any]) -> bytes:
    """
    Write fields as a plain form.
    """
    return urlencode(fields).encode()


def code_of(outcome: Accepted | Refused) -> str:
    """
    Return the code of an error.
    """
    assert isinstance(outcome, Refused)
    return outcome.body["error"]["code"]


class TestDocumentedRequests:
    """
    The requests of the contract.
    """

    @pytest.mark.parametrize("name", SAMPLES)
    def test_key_in_body(self, name):
        """
        Every documented request is accepted with its key in the body alone.
        """
        body = {"api_key": KEY, **fixture(f"session.request.{name}.json")}

        outcome = send(
            json.dumps(body).encode(), SAMPLES[name], header_key=None
        )

        assert isinstance(outcome, Accepted)
        assert outcome.parameters.keys() == body.keys() - {"api_key"}

    @pytest.mark.parametrize("name", SAMPLES)
    def test_key_in_header(self, name):
        """
        Every documented request is accepted with its key in the header alone.
        """
        body = fixture(f"session.request.{name}.json")
        body.pop("api_key", None)

        outcome = send(json.dumps(body).encode(), SAMPLES[name])

        assert isinstance(outcome, Accepted)

    @pytest.mark.parametrize("name", SAMPLES)
    @pytest.mark.parametrize(
        ("content_type", "write"),
        [
            pytest.param(
                FORM, lambda body: urlencode(body).encode(), id="form"
            ),
            pytest.param(MULTIPART, multipart, id="multipart"),
        ],
    )
    def test_forms_say_the_same(self, name, content_type, write):
        """
        A form and JSON give the same parameters.
        """
        flat = {
            key: value
            for key, value in fixture(f"session.request.{name}.json").items()
            if not isinstance(value, dict)
        }

        outcome = send(write(flat), SAMPLES[name], content_type=content_type)

        assert isinstance(outcome, Accepted)
        assert outcome == send(json.dumps(flat).encode(), SAMPLES[name])

    def test_form_sample(self):
        """
        The documented form body is accepted unchanged.
        """
        raw = (FIXTURES / "session.request.seed.form.txt").read_bytes()

        outcome = send(
            raw.strip(), content_type=f"{FORM}; charset=utf-8", header_key=None
        )

        assert outcome == Accepted(
            parameters={
                "link_id": "cust-7f31-0042",
                "redirect_url": "https://merchant.example/bank/return",
                "from_date": datetime.date(2019, 11, 1),
                "to_date": datetime.date(2020, 4, 30),
            }
        )

    def test_every_parameter_has_a_rule(self):
        """
        The rules of the four dialects together cover the schema's parameters,
        and no others.
        """
        rules = [rules_for(*which).fields.keys() for which in SAMPLES.values()]

        assert frozenset().union(*rules) == PARAMETERS


#: What draws each documented error body: changed parameters, whole call.
ERRORS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "auth_missing": ({}, {"header_key": None}),
    "invalid_bank_name": ({"bank_name": "gringotts"}, {}),
    "invalid_date_format": (
        {"from_date": "1/10/2025", "to_date": "31/03/2026"},
        {},
    ),
    "invalid_date_range": (
        {"from_date": "31/03/2026", "to_date": "31/03/2026"},
        {},
    ),
    "invalid_length": ({"journey_mode": "x" * 51}, {}),
    "invalid_mobile_number": ({"mobile_number": "12345"}, {}),
    "invalid_request.generic": ({}, {"body": b"{"}),
    "invalid_parameter_count": ({f"x{n}": n for n in range(50)}, {}),
    "invalid_request.link_id_required": ({}, {"body": b"{}"}),
    "invalid_request.link_id_too_long": ({"link_id": "x" * 501}, {}),
    "invalid_request.mode_choice": ({"mode": "no"}, {}),
    "invalid_session_expiry": ({"session_expiry": 4}, {}),
    "invalid_url": ({"logo_url": "no url"}, {}),
    "method_not_allowed": ({}, {"method": "GET"}),
    "missing_bank_name": ({"mode": "pdf"}, {}),
    "missing_date_field": ({"to_date": "31/03/2026"}, {}),
    "mode_not_available": ({"mode": "aa", "bank_name": "andhra"}, {}),
    "mode_not_enabled": (
        {"mode": "aa", "bank_name": "hdfc"},
        {"modes": ("pdf", "online")},
    ),
    "payment_required": ({"api_key": UNPAID_API_KEY}, {}),
    "unsupported_media_type": ({}, {"content_type": "text/plain"}),
}
SESSION_ERRORS = {
    "invalid_aa_parameter": {"aa_recurring_tenure_month_count": 85},
    "missing_aa_parameter": {
        "aa_journey_mode": "only_recurring",
        "mode": "aa",
        "bank_name": "hdfc",
    },
}
STATUSES = {
    "auth_missing": 401,
    "payment_required": 402,
    "mode_not_enabled": 403,
    "method_not_allowed": 405,
    "unsupported_media_type": 415,
}


class TestCodedErrors:
    """
    Errors of the session flow and of v2.
    """

    @pytest.mark.parametrize("which", CODED)
    @pytest.mark.parametrize("name", ERRORS)
    def test_documented_bodies(self, name, which):
        """
        Each documented error equals its sample, in v1 and in v2.
        """
        parameters, call = ERRORS[name]
        body = json.dumps({"link_id": "cust-1", **parameters}).encode()

        assert send(**{"body": body, "which": which, **call}) == Refused(
            status=STATUSES.get(name, 400),
            body=fixture(f"error.v2.{name}.json"),
        )

    @pytest.mark.parametrize("name", SESSION_ERRORS)
    def test_recurring_bodies(self, name):
        """
        The errors of recurring journeys exist in v1 only, and equal their
        samples.
        """
        assert ask(SESSION, **SESSION_ERRORS[name]) == Refused(
            status=400, body=fixture(f"error.v2.{name}.json")
        )

    def test_every_documented_body_is_drawn(self):
        """
        Every documented error is tested.
        """
        documented = {
            path.name.removeprefix("error.v2.").removesuffix(".json")
            for path in FIXTURES.glob("error.v2.*.json")
        }

        assert documented == ERRORS.keys() | SESSION_ERRORS.keys()

    @pytest.mark.parametrize(
        ("parameters", "code"),
        [
            ({"bank_name": "x" * 51}, "INVALID_LENGTH"),
            (
                {"redirect_url": f"https://a.example/{'x' * 200}"},
                "INVALID_LENGTH",
            ),
            ({"redirect_url": "//a.example"}, "INVALID_URL"),
            ({"from_date": "01/10/2025"}, "MISSING_DATE_FIELD"),
            (
                {"from_date": "01/10/2025", "to_date": "23/11/2026"},
                "INVALID_DATE_RANGE",
            ),
            ({"mode": "aa"}, "MISSING_BANK_NAME"),
            ({"mode": "online", "bank_name": "UCO"}, "MODE_NOT_AVAILABLE"),
            ({"session_expiry": "soon"}, "INVALID_SESSION_EXPIRY"),
            ({"session_expiry": 43201}, "INVALID_SESSION_EXPIRY"),
            ({"session_expiry": True}, "INVALID_SESSION_EXPIRY"),
            ({"accept_anything": "perhaps"}, "INVALID_REQUEST"),
            ({"is_mobile_field_editable": []}, "INVALID_REQUEST"),
            ({"metadata": []}, "INVALID_REQUEST"),
            ({"metadata": {"names": "A"}}, "INVALID_REQUEST"),
            ({"metadata": {"names": [1]}}, "INVALID_REQUEST"),
        ],
    )
    @pytest.mark.parametrize("which", CODED)
    def test_codes(self, which, parameters, code):
        """
        Each kind of bad value has the code of the contract's table.
        """
        assert code_of(ask(which, **parameters)) == code

    @pytest.mark.parametrize(
        ("parameters", "code"),
        [
            ({"bank": "gringotts"}, "INVALID_BANK_NAME"),
            ({"aa_journey_code": "BCAA009"}, "INVALID_AA_PARAMETER"),
            ({"consents": "CC0001"}, "INVALID_REQUEST"),
            ({"consents": {"CC0001": ["all"]}}, "INVALID_REQUEST"),
            (
                {"consents": {"CC0001": {"from_date": "2026-01-01"}}},
                "INVALID_AA_PARAMETER",
            ),
            (
                {
                    "consents": {
                        "CC0001": {
                            "from_date": "02/01/2026",
                            "to_date": "01/01/2026",
                        }
                    }
                },
                "INVALID_AA_PARAMETER",
            ),
        ],
    )
    def test_codes_of_v2(self, parameters, code):
        """
        Parameters of v2 alone are checked in v2.
        """
        assert code_of(ask(V2, **parameters)) == code

    @pytest.mark.parametrize(
        ("parameters", "code"),
        [
            ({"aa_journey_mode": "never"}, "INVALID_REQUEST"),
            ({"aa_recurring_tenure_month_count": "x"}, "INVALID_REQUEST"),
            ({"aa_recurring_tenure_month": 0}, "INVALID_AA_PARAMETER"),
            ({"aa_recurring_frequency_unit": "week"}, "INVALID_REQUEST"),
            ({"aa_recurring_frequency_value": 6}, "INVALID_AA_PARAMETER"),
            (
                {
                    "aa_journey_mode": "once_with_recurring",
                    "aa_recurring_frequency_unit": "month",
                    "aa_recurring_frequency_value": 1,
                },
                "MISSING_AA_PARAMETER",
            ),
        ],
    )
    def test_codes_of_recurring_journeys(self, parameters, code):
        """
        The recurring parameters of v1 are checked one by one and together.
        """
        assert code_of(ask(SESSION, **parameters)) == code

    def test_first_problem_is_told(self):
        """
        Of several problems the first in the order of the table is reported.
        """
        outcome = ask(V2, link_id="", mode="no", session_expiry=1)

        assert isinstance(outcome, Refused)
        assert outcome.body == {
            "error": {
                "code": "INVALID_REQUEST",
                "message": "link_id, This field may not be blank.",
            }
        }


class TestPlainErrors:
    """
    Errors of the seed and of the entity flow.
    """

    @pytest.mark.parametrize("which", PLAIN)
    def test_missing_key(self, which):
        """
        A missing key gets the documented 401.
        """
        assert send(b"", which, header_key=None) == Refused(
            status=401, body=fixture("error.detail.401.json")
        )

    @pytest.mark.parametrize("which", PLAIN)
    @pytest.mark.parametrize(
        ("call", "status", "detail"),
        [
            ({"method": "PUT"}, 405, 'Method "PUT" not allowed.'),
            (
                {"content_type": "text/plain; charset=utf-8"},
                415,
                'Unsupported media type "text/plain" in request.',
            ),
            (
                {"content_type": "a\udcff{}/b"},
                415,
                'Unsupported media type "a?{}/b" in request.',
            ),
            (
                {"content_type": ""},
                415,
                'Unsupported media type "" in request.',
            ),
        ],
    )
    def test_details(self, which, call, status, detail):
        """
        Errors of the request as a whole are under `detail`.
        """
        outcome = send(b'{"link_id": "cust-1"}', which, **call)

        assert outcome == Refused(status=status, body={"detail": detail})

    def test_fields_of_seed(self):
        """
        One error reports all bad fields.
        """
        outcome = ask(
            SEED,
            link_id=None,
            redirect_url="lender",
            from_date="31/02/2026",
            bank_name="x" * 51,
        )

        assert outcome == Refused(
            status=400,
            body={
                "link_id": ["This field may not be null."],
                "redirect_url": ["Enter a valid URL."],
                "from_date": [
                    "Date has wrong format. "
                    "Use one of these formats instead: DD/MM/YYYY."
                ],
                "bank_name": [
                    "Ensure this field has no more than 50 characters."
                ],
            },
        )

    def test_fields_of_entity(self):
        """
        The entity flow adds its status number to the fields.
        """
        assert send(b"{}", ENTITY) == Refused(
            status=400,
            body={"link_id": ["This field is required."], "status": 0},
        )

    @pytest.mark.parametrize(
        "parameters",
        [
            {"aa_journey_mode": "never"},
            {"aa_recurring_tenure_month_count": 25},
            {"aa_recurring_frequency_unit": "week"},
            {"aa_recurring_frequency_value": 4},
            {"logo_url": "ftp://a.example"},
            {"mobile_number": "+919000000001"},
        ],
        ids=lambda parameters: next(iter(parameters)),
    )
    def test_limits_of_entity(self, parameters):
        """
        Parameters of the entity flow have the limits of its page.
        """
        outcome = ask(ENTITY, **parameters)

        assert isinstance(outcome, Refused)
        assert outcome.body.keys() == {*parameters, "status"}

    @pytest.mark.parametrize(
        ("which", "number"), [(SEED, {}), (ENTITY, {"status": 2})]
    )
    def test_unpaid(self, which, number):
        """
        An expired plan has the same error here as at uploads of the flow.
        """
        assert ask(which, api_key=UNPAID_API_KEY) == Refused(
            status=402,
            body={
                "message": "Your trial period has expired. "
                "Please request FinBox to upgrade your plan",
                **number,
            },
        )


class TestOrderOfChecks:
    """
    The error that wins if there are several.
    """

    @pytest.mark.parametrize("which", EVERY)
    def test_narrows_down(self, which):
        """
        The order of checks is method, media type, syntax, key, payment,
        values.
        """
        faults = [
            ({"method": "GET"}, 405),
            ({"content_type": "text/plain"}, 415),
            ({"body": b"{"}, 400),
            ({"header_key": "wrong"}, 401),
            ({"header_key": UNPAID_API_KEY}, 402),
            ({"body": b"{}"}, 400),
        ]

        for index, (_, status) in enumerate(faults):
            call: dict[str, Any] = {}
            for fault, _ in reversed(faults[index:]):
                call |= fault
            outcome = send(which=which, **call)

            assert isinstance(outcome, Refused)
            assert outcome.status == status


class TestKeys:
    """
    Authentication.
    """

    @pytest.mark.parametrize(
        ("body_key", "header_key"),
        [(KEY, None), (KEY, "wrong"), (None, KEY)],
    )
    def test_good(self, body_key, header_key):
        """
        The body's key wins; without one, the header's is used.
        """
        body = json.dumps({"link_id": "cust-1", "api_key": body_key}).encode()

        assert isinstance(send(body, header_key=header_key), Accepted)

    @pytest.mark.parametrize(
        ("body_key", "header_key"),
        [
            ("wrong", KEY),
            ("", KEY),
            (7, KEY),
            (["x"], KEY),
            (None, "wrong"),
            (None, "\udcff"),
            (None, None),
        ],
    )
    def test_bad(self, body_key, header_key):
        """
        A wrong key is refused, whatever it is and wherever it stands.
        """
        body = json.dumps({"link_id": "cust-1", "api_key": body_key}).encode()
        outcome = send(body, header_key=header_key)

        assert isinstance(outcome, Refused)
        assert outcome.status == 401

    def test_hidden(self):
        """
        No repr shows a key or parameters.
        """
        call = SandboxRequest(
            method="POST",
            content_type=JSON,
            body=b'{"api_key": "hush"}',
            header_key="hush",
        )

        assert "hush" not in repr(call)


class TestDates:
    """
    The contract's table of dates.
    """

    @pytest.mark.parametrize(
        "text",
        [
            "1/01/2026",
            "01/1/2026",
            "01/01/26",
            "01-01-2026",
            "2026-01-01",
            "01/13/2026",
            "30/02/2026",
            "01/01/0000",
            "\u0660\u0661/\u0660\u0661/2026",
            " 01/01/2026",
            "01/01/2026\n",
            1012026,
            ["01/01/2026"],
        ],
    )
    @pytest.mark.parametrize("which", EVERY)
    def test_malformed(self, which, text):
        """
        Only real dates, with zeros and slashes, are accepted.
        """
        outcome = ask(which, from_date=text, to_date="01/02/2026")

        assert isinstance(outcome, Refused)
        assert "from_date" in str(outcome.body)

    @pytest.mark.parametrize(
        ("which", "latest"),
        [
            pytest.param(SEED, None, id="seed"),
            pytest.param(ENTITY, "22/11/2026", id="entity"),
            pytest.param(SESSION, "22/11/2026", id="session"),
            pytest.param(V2, "22/11/2026", id="v2"),
        ],
    )
    def test_ceiling(self, which, latest):
        """
        The last day that may be asked for is today, except in the seed.
        """
        refused = {
            day
            for day in ("21/11/2026", "22/11/2026", "23/11/2026", "01/01/2030")
            if isinstance(
                ask(which, from_date="01/01/2026", to_date=day), Refused
            )
        }

        expected = {
            None: set(),
            "22/11/2026": {"23/11/2026", "01/01/2030"},
        }
        assert refused == expected[latest]

    @pytest.mark.parametrize("which", PLAIN)
    @pytest.mark.parametrize(
        ("dates", "taken"),
        [
            ({"from_date": "20/11/2026"}, True),
            ({"from_date": "21/11/2026"}, False),
            ({"to_date": "02/05/2026"}, True),
            ({"to_date": "01/05/2026"}, False),
        ],
    )
    def test_one_date(self, which, dates, taken):
        """
        A single date is compared with the default of the other.
        """
        assert isinstance(ask(which, **dates), Accepted) is taken

    def test_default_start_crosses_the_year(self):
        """
        Six months before January are in July of the year before.
        """
        today = datetime.date(2026, 1, 15)
        bodies = [
            json.dumps({"link_id": "cust-1", "to_date": day}).encode()
            for day in ("01/07/2025", "02/07/2025")
        ]

        outcomes = [send(body, today=today) for body in bodies]

        assert [type(outcome) for outcome in outcomes] == [Refused, Accepted]


class TestValues:
    """
    Single parameters.
    """

    @pytest.mark.parametrize("which", EVERY)
    def test_foreign_parameters(self, which):
        """
        Parameters that a dialect does not have are neither checked nor kept.
        """
        outcome = ask(which, account_number={"deep": []}, pan=None)

        assert outcome == Accepted(parameters={"link_id": "cust-1"})

    def test_seed_has_no_mode(self):
        """
        The seed ignores values that only later dialects refuse.
        """
        outcome = ask(SEED, mode="no", session_expiry=1, bank_name="gringotts")

        assert outcome == Accepted(
            parameters={"link_id": "cust-1", "bank_name": "gringotts"}
        )

    @pytest.mark.parametrize("which", EVERY)
    def test_null_redirect_url(self, which):
        """
        A null means the inline-frame workflow, as a missing one does.
        """
        outcome = ask(which, redirect_url=None)

        assert outcome == Accepted(parameters={"link_id": "cust-1"})

    @pytest.mark.parametrize(
        "url",
        [
            "https://lender.example",
            "http://localhost:8000/return?x=1#y",
            "https://user:pass@lender.example/",
            "http://[::1]:8000/",
            "HTTPS://LENDER.EXAMPLE/%20",
        ],
    )
    def test_urls(self, url):
        """
        Absolute web URLs of every form are accepted unchanged.
        """
        assert ask(SEED, redirect_url=url) == Accepted(
            parameters={"link_id": "cust-1", "redirect_url": url}
        )

    @pytest.mark.parametrize(
        "url",
        ["", "lender", "ftp://a.example", "https://", "https://a b", 7, []],
    )
    def test_not_urls(self, url):
        """
        Everything but an absolute web URL is refused.
        """
        assert isinstance(ask(SEED, redirect_url=url), Refused)

    @pytest.mark.parametrize(
        "link_id", ["", "  ", "a\x00b", True, ["x"], {"a": 1}, "x" * 501]
    )
    @pytest.mark.parametrize("which", EVERY)
    def test_bad_link_ids(self, which, link_id):
        """
        A link id is a text of 1 to 500 characters.
        """
        assert isinstance(ask(which, link_id=link_id), Refused)

    def test_number_as_link_id(self):
        """
        A number is read as its digits.
        """
        assert ask(SEED, link_id=42) == Accepted(parameters={"link_id": "42"})

    @pytest.mark.parametrize("which", CODED)
    @pytest.mark.parametrize("name", ["HDFC", "hdfc", "Hdfc", "citi_union"])
    def test_banks(self, which, name):
        """
        Banks are recognised in any case, and by their names of the seed.
        """
        assert isinstance(ask(which, bank_name=name), Accepted)

    def test_bank_serves_mode(self):
        """
        The other name of `bank_name` in v2 determines the allowed modes, too.
        """
        assert isinstance(ask(V2, bank="HDFC", mode="aa"), Accepted)

    @pytest.mark.parametrize(
        ("given_value", "value"), [(24, 24), ("24", 24), (24.0, 24), (84, 60)]
    )
    @pytest.mark.parametrize(
        "name",
        ["aa_recurring_tenure_month_count", "aa_recurring_tenure_month"],
    )
    def test_tenure(self, name, given_value, value):
        """
        A tenure is a whole number of months; a long one is cut to 60.
        """
        assert ask(SESSION, **{name: given_value}) == Accepted(
            parameters={"link_id": "cust-1", name: value}
        )

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("true", True),
            ("False", False),
            ("1", True),
            (0, False),
            ("on", True),
        ],
    )
    def test_booleans(self, text, value):
        """
        Booleans are accepted in every spelling that forms use.
        """
        assert ask(V2, accept_anything=text) == Accepted(
            parameters={"link_id": "cust-1", "accept_anything": value}
        )

    def test_complete_recurring_journey(self):
        """
        A recurring journey with unit, value, bank and mode is accepted.
        """
        outcome = ask(
            SESSION,
            aa_journey_mode="only_recurring",
            aa_recurring_frequency_unit="month",
            aa_recurring_frequency_value="2",
            bank_name="hdfc",
            mode="aa",
        )

        assert isinstance(outcome, Accepted)

    def test_partial_consents(self):
        """
        Consents may omit dates; given ones are read as dates.
        """
        outcome = ask(
            V2, consents={"CC0001": {"to_date": "01/01/2027", "more": 1}}
        )

        assert outcome == Accepted(
            parameters={
                "link_id": "cust-1",
                "consents": {"CC0001": {"to_date": datetime.date(2027, 1, 1)}},
            }
        )


class TestBodies:
    """
    Bodies that cannot be parsed.
    """

    @pytest.mark.parametrize("which", EVERY)
    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            pytest.param(JSON, b"\xff", id="not-utf-8"),
            pytest.param(JSON, b"[" * 100_000, id="deep"),
            pytest.param(JSON, b'["link_id"]', id="array"),
            pytest.param(JSON, b"null", id="null"),
            pytest.param(JSON, b'{"link_id": NaN}', id="nan"),
            pytest.param(JSON, b'{"link_id": "\\u0000"}', id="nul"),
            pytest.param(
                JSON, b'{"link_id": 1' + b"0" * 5000 + b"}", id="huge"
            ),
            pytest.param(
                JSON,
                b'{"link_id": ' + b"[" * 1000 + b"]" * 1000 + b"}",
                id="deep-value",
            ),
            pytest.param(FORM, b"link_id=%FF", id="form-not-utf-8"),
            pytest.param(FORM, b"&".join([b"a=1"] * 1001), id="form-many"),
            pytest.param(FORM, b"link_id=", id="form-blank"),
            pytest.param(MULTIPART, b"link_id=1", id="multipart-no-part"),
            pytest.param(
                MULTIPART,
                b'--frontier\r\nContent-Disposition: form-data; name="a"',
                id="multipart-cut",
            ),
            pytest.param(
                MULTIPART,
                multipart({"link_id": "x"}).replace(b"x\r\n", b"\xff\r\n"),
                id="multipart-not-utf-8",
            ),
            pytest.param(
                MULTIPART,
                multipart({"link_id": "x"}).replace(
                    b'name="link_id"', b'name="link_id"; filename="x"'
                ),
                id="multipart-file",
            ),
            pytest.param(
                MULTIPART,
                b"--frontier\r\n\r\nx\r\n--frontier--",
                id="multipart-nameless",
            ),
            pytest.param(
                "multipart/form-data", b"x", id="multipart-unbounded"
            ),
            pytest.param(
                "multipart/form-data; boundary=\udcff",
                b"x",
                id="multipart-odd",
            ),
        ],
    )
    def test_unreadable(self, which, content_type, body):
        """
        A body that cannot be parsed, or has no link id, is a client error.
        """
        outcome = send(body, which, content_type=content_type)

        assert isinstance(outcome, Refused)
        assert outcome.status == 400

    def test_not_an_object(self):
        """
        JSON that is no object is refused with the framework's text.
        """
        assert send(b"[]", SEED) == Refused(
            status=400,
            body={
                "non_field_errors": [
                    "Invalid data. Expected a dictionary, but got list."
                ]
            },
        )

    @pytest.mark.parametrize(
        "content_type",
        [
            "application/json; charset=utf-8",
            "Application/JSON",
            "application/json;",
        ],
    )
    def test_content_types(self, content_type):
        """
        Case and parameters of the content type do not matter.
        """
        outcome = send(b'{"link_id": "cust-1"}', content_type=content_type)

        assert isinstance(outcome, Accepted)

    def test_blanks_in_forms(self):
        """
        A blank in a form means null for optional parameters.
        """
        outcome = send(
            b"link_id=cust-1&redirect_url=&bank_name=&api_key=",
            content_type=FORM,
        )

        assert outcome == Accepted(parameters={"link_id": "cust-1"})

    @pytest.mark.long
    @given(
        body=st.binary() | st.text().map(str.encode),
        content_type=st.sampled_from([JSON, FORM, MULTIPART]),
        which=st.sampled_from([SEED, ENTITY, SESSION, V2]),
    )
    def test_any_bytes(self, body, content_type, which):
        """
        Any bytes are accepted or refused.
        """
        outcome = send(body, which, content_type=content_type)

        assert isinstance(outcome, Accepted | Refused)

    @pytest.mark.long
    @given(
        values=st.dictionaries(
            st.sampled_from(sorted(PARAMETERS)),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(st.text(), inner, max_size=3)
                ),
                max_leaves=5,
            ),
        ),
        which=st.sampled_from([SEED, ENTITY, SESSION, V2]),
    )
    def test_any_values(self, values, which):
        """
        Any parameters are accepted or refused with 400.
        """
        outcome = ask(which, **values)

        assert isinstance(outcome, Accepted) or outcome.status == 400


def test_banks_know_their_modes():
    """
    A bank offers a mode unless a documented list denies it.
    """
    hdfc, andhra, baroda = map(find_bank, ("HDFC", "andhra", "baroda"))

    assert hdfc is not None
    assert andhra is not None
    assert baroda is not None
    assert hdfc.modes == {"pdf", "online", "aa"}
    assert andhra.modes == {"pdf"}
    assert baroda.modes == {"pdf", "online"}
    assert find_bank("gringotts") is None
