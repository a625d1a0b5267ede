"""
Session requests and responses, compared with every sample of the session API.
"""

import enum
import json
import string

from collections import UserDict
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import parse_qs

import orjson
import pytest

from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from bankconnect_async import (
    BankConnectError,
    Consent,
    Delivery,
    InvalidRequestError,
    InvalidResponseError,
    Metadata,
    SessionRequest,
)
from bankconnect_async._codec.error_responses import error_from_response
from bankconnect_async._codec.session_requests import (
    SessionWriter,
    date_text,
    decode_session,
    encode_session,
    is_loopback,
    read_url,
)
from bankconnect_async.models.sessions import UNSET, Session, SessionResponse


KEY = "test-api-key-000000000000"
LINK = "cust-7f31-0042"
# What parsers of URLs stumble over.
PIECES = (
    *("https://", "[", "]", "[::1]", "::", ":", ":443", "65536", "127.0.0.1"),
    *("a", "é", "-", "--", "xn--", ".", "/", "?", "#", "&", "=", "@"),
    *("%", "%20", "%ff", "session_id="),
)
RETURN = "https://merchant.example/bank/return"
OCTOBER, MARCH = date(2025, 10, 1), date(2026, 3, 31)


class Mode(str, enum.Enum):  # noqa: UP042 - its str() is no value
    """An enum as code has it that is older than `enum.StrEnum`."""

    ONLINE = "online"


class Span(NamedTuple):
    """Two days."""

    start: date | None
    end: date | None


REQUESTS = {
    "session.request.seed.minimal.json": {"redirect_url": RETURN},
    "session.request.seed.full.json": {
        "redirect_url": RETURN,
        "from_date": date(2019, 11, 1),
        "to_date": date(2020, 4, 30),
        "bank_name": "axis",
    },
    "session.request.v1.entity.iframe.json": {"redirect_url": None},
    "session.request.v1.entity.full.json": {
        "redirect_url": RETURN,
        "from_date": OCTOBER,
        "to_date": MARCH,
        "logo_url": "https://merchant.example/logo.png",
        "bank_name": "hdfc",
        "mode": "aa",
        "mobile_number": "9000000001",
        "journey_mode": "multi_banking",
        "aa_journey_mode": "only_recurring",
        "aa_recurring_tenure_month_count": 12,
        "aa_recurring_frequency_unit": "day",
        "aa_recurring_frequency_value": 2,
    },
    "session.request.v1.session.full.json": {
        "redirect_url": RETURN,
        "from_date": OCTOBER,
        "to_date": MARCH,
        "logo_url": "https://merchant.example/logo.png",
        "bank_name": "hdfc",
        "mode": "aa",
        "mobile_number": "9000000001",
        "session_expiry": 120,
        "journey_mode": "multi_pdf",
        "accept_anything": False,
        "is_mobile_field_editable": True,
        "aa_journey_mode": "once_with_recurring",
        "aa_recurring_tenure_month_count": 24,
        "aa_recurring_frequency_unit": "month",
        "aa_recurring_frequency_value": 1,
        "metadata": Metadata(
            names=["SAMPLE HOLDER ONE"],
            employer_names=["SAMPLE EMPLOYER LTD"],
            companies_for_self_transfer=[],
        ),
    },
    "session.request.v1.session.postman.json": {
        "redirect_url": RETURN,
        "from_date": OCTOBER,
        "to_date": MARCH,
    },
    "session.request.v1.session.tenure_short_name.json": {
        "redirect_url": None,
        "mode": "aa",
        "bank_name": "hdfc",
        "aa_journey_mode": "only_recurring",
        "aa_recurring_tenure_month": 24,
        "aa_recurring_frequency_unit": "month",
        "aa_recurring_frequency_value": 1,
    },
    "session.request.v2.body_key.json": {"redirect_url": None},
    "session.request.v2.minimal.json": {"redirect_url": None},
    "session.request.v2.bank_alias.json": {
        "redirect_url": None,
        "from_date": OCTOBER,
        "to_date": MARCH,
        "aa_journey_code": "BCAA001",
        "bank": "HDFC",
    },
    "session.request.v2.full.json": {
        "redirect_url": RETURN,
        "from_date": OCTOBER,
        "to_date": MARCH,
        "logo_url": "https://merchant.example/logo.png",
        "bank_name": "HDFC",
        "mode": "aa",
        "mobile_number": "9000000001",
        "session_expiry": 60,
        "journey_mode": "multi_banking",
        "accept_anything": False,
        "is_mobile_field_editable": False,
        "aa_journey_code": "BCAA003",
        "consents": {
            "CC0003": Consent(
                from_date=OCTOBER,
                to_date=MARCH,
                consent_expiry=date(2026, 4, 1),
            ),
            "CC0004": Consent(from_date=OCTOBER, to_date=MARCH),
        },
        "metadata": Metadata(
            names=["SAMPLE HOLDER ONE"],
            employer_names=[],
            companies_for_self_transfer=[],
        ),
    },
}
# The key goes into the header too; these samples show it only there (U-02).
KEY_IN_HEADER_ONLY = {
    "session.request.v2.minimal.json",
    "session.request.v2.bank_alias.json",
}


# One visible character at the least, and no control characters.
LINK_IDS = st.builds(
    lambda text, end: text + end,
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=499),
    st.characters(categories=("L", "N", "P", "S")),
)


def session_of(raw):
    """Return the session that a client makes of a response."""
    answer = decode_session(raw)
    return Session(
        link_id=LINK,
        redirect_url=answer.redirect_url,
        session_id=answer.session_id,
    )


class TestEncodeSession:
    """
    encode_session
    """

    @pytest.mark.parametrize("name", REQUESTS)
    def test_writes_the_samples(self, name, sample_json):
        """
        Every documented JSON request is written as the vendor prints it.
        """
        expected = sample_json(name)
        if name in KEY_IN_HEADER_ONLY:
            expected["api_key"] = KEY

        raw = encode_session(
            SessionRequest(link_id=LINK, **REQUESTS[name]), KEY
        )

        assert json.loads(raw) == expected

    def test_writes_the_form_sample(self, sample):
        """
        The documented form body is written field for field.
        """
        request = SessionRequest(
            link_id=LINK,
            redirect_url=RETURN,
            from_date=date(2019, 11, 1),
            to_date=date(2020, 4, 30),
        )

        raw = encode_session(request, KEY, encoding="form")

        assert parse_qs(raw.decode()) == parse_qs(
            sample("session.request.seed.form.txt").decode().strip()
        )

    def test_no_request_sample_is_forgotten(self):
        """
        The tables above have every sample of a request.
        """
        fixtures = Path(__file__).parent / "fixtures"
        names = {path.name for path in fixtures.glob("session.request.*")}

        assert names == {*REQUESTS, "session.request.seed.form.txt"}

    def test_leaves_out_what_is_not_given(self):
        """
        None and an unset redirect URL are never sent, not even as null.
        """
        request = SessionRequest(link_id=LINK, redirect_url=UNSET)

        assert json.loads(encode_session(request, KEY)) == {
            "link_id": LINK,
            "api_key": KEY,
        }

    def test_extra_parameters_stand_beside_the_known(self):
        """
        Unknown parameters are sent at the top level.
        """
        request = SessionRequest(
            link_id=LINK,
            redirect_url=None,
            extra={"pan": "P1", "aa_first_flow": True},
        )

        body = json.loads(encode_session(request, KEY))

        assert body["pan"] == "P1"
        assert body["aa_first_flow"] is True
        assert "extra" not in body

    def test_forms_write_booleans_in_lower_case(self):
        """
        A form writes true, false and digits as texts.
        """
        request = SessionRequest(
            link_id="ग्राहक &1",
            redirect_url=None,
            accept_anything=True,
            is_mobile_field_editable=False,
            session_expiry=60,
            extra={"nothing": None},
        )

        raw = encode_session(request, KEY, encoding="form")

        assert parse_qs(raw.decode()) == {
            "link_id": ["ग्राहक &1"],
            "accept_anything": ["true"],
            "is_mobile_field_editable": ["false"],
            "session_expiry": ["60"],
            "api_key": [KEY],
        }

    def test_requests_that_share_values_differ_in_their_types(self):
        """
        Equal numbers and flags of other types keep their own form.
        """
        bodies = [
            json.loads(
                encode_session(
                    SessionRequest(
                        link_id="customer-1",
                        redirect_url=None,
                        aa_recurring_tenure_month=number,
                        extra={"a": flag},
                    ),
                    KEY,
                )
            )
            for number, flag in ((6, True), (6.0, 1), (6, 1.0))
        ]

        assert [
            (repr(body["aa_recurring_tenure_month"]), repr(body["a"]))
            for body in bodies
        ] == [("6", "True"), ("6.0", "1"), ("6", "1.0")]

    @pytest.mark.parametrize("encoding", ["json", "form"])
    def test_objects_put_into_a_request_later_are_not_sent(self, encoding):
        """
        An object's attributes may hold secrets: it is an error, as before.
        """
        request = SessionRequest(link_id=LINK, redirect_url=None, extra={})
        request.extra["a"] = ValueError("password")

        with pytest.raises(TypeError):
            encode_session(request, KEY, encoding=encoding)

    @pytest.mark.parametrize(
        ("value", "sent"),
        [
            (UserDict(day=OCTOBER), {"day": "01/10/2025"}),
            (MappingProxyType({"a": 1}), {"a": 1}),
            (Span(None, OCTOBER), [None, "01/10/2025"]),
        ],
    )
    def test_values_put_into_a_request_later_are_sent_as_they_are(
        self, value, sent
    ):
        """
        Mappings are objects and tuples are arrays, of whatever class.
        """
        request = SessionRequest(link_id=LINK, redirect_url=None, extra={})
        request.extra["a"] = value

        assert json.loads(encode_session(request, KEY))["a"] == sent

    def test_a_time_put_into_a_request_later_has_the_day_of_its_zone(self):
        """
        One moment is two days in two zones.
        """
        in_utc = datetime(2026, 1, 8, 23, tzinfo=UTC)
        in_india = in_utc.astimezone(timezone(timedelta(hours=5.5)))
        request = SessionRequest(link_id=LINK, redirect_url=None, extra={})
        request.extra["a"] = [in_utc, in_india]

        body = json.loads(encode_session(request, KEY))

        assert body["a"] == ["08/01/2026", "09/01/2026"]

    def test_forms_carry_values_of_enums(self):
        """
        A form has the text that JSON has, not the name of a member.
        """
        request = SessionRequest(
            link_id=LINK, redirect_url=None, mode=Mode.ONLINE
        )

        body = parse_qs(encode_session(request, KEY, encoding="form").decode())

        assert body["mode"] == ["online"]

    def test_forms_refuse_nested_values(self):
        """
        One error names all values that only JSON can carry (U-01).
        """
        request = SessionRequest(
            link_id=LINK,
            redirect_url=None,
            consents={"CC0001": Consent()},
            metadata=Metadata(names=["A"]),
        )

        with pytest.raises(InvalidRequestError) as caught:
            encode_session(request, KEY, encoding="form")

        assert caught.value.fields.keys() == {"consents", "metadata"}

    def test_dates_are_padded(self):
        """
        Dates are DD/MM/YYYY with zeros, whatever the C library does.
        """
        assert date_text(date(987, 6, 5)) == "05/06/0987"


class TestSessionWriter:
    """
    SessionWriter
    """

    @pytest.mark.parametrize("encoding", ["json", "form"])
    @given(link_id=LINK_IDS)
    def test_writes_for_a_link_id_what_a_request_of_its_own_has(
        self, encoding, link_id
    ):
        """
        The shared request and one for that customer make the same body.
        """
        usual = SessionRequest(
            link_id="-", redirect_url=RETURN, accept_anything=True
        )
        writer = SessionWriter(KEY, encoding=encoding, usual=usual)
        own = usual.with_link_id(link_id)

        assert writer.write(link_id, usual) == writer.write(link_id, own)
        assert writer.write(link_id, own) == encode_session(
            own, KEY, encoding=encoding
        )


class TestDecodeSession:
    """
    decode_session
    """

    @pytest.mark.parametrize(
        ("name", "session_id"),
        [
            ("session.response.seed.json", "04165baaad1e1cd00d"),
            ("session.response.v1.entity.json", "6370d734b4ecf4f183"),
            (
                "session.response.v1.session.json",
                "d8aaa1f6-d2b6-41ba-9e97-f5f843c901ee",
            ),
            (
                "session.response.v1.session.url_typo.json",
                "d8aaa1f6-d2b6-41ba-9e97-f5f843c901ee",
            ),
            (
                "session.response.v2.json",
                "44d09f3d-38c2-4ebb-95ba-b91cd20b52cf",
            ),
        ],
    )
    def test_reads_the_samples(self, name, session_id, sample, sample_json):
        """
        Every documented response gives its URL unchanged and its id.
        """
        answer = decode_session(sample(name))

        assert answer.session_id == session_id
        assert answer.redirect_url == sample_json(name)["redirect_url"]

    @pytest.mark.parametrize(
        "url",
        [
            "https://x.example/?session_id=a%2fb%7E+c&token=%41",
            "https://x.example/a/../b//c;d?x=1?y=2#frag%20ment",
            "https://x.example/?q=ü&session_id=",
            "https://x.example:8443/",
            "http://127.0.0.1:8600/?session_id=1",
            "http://[::1]:8600/?session_id=1",
            "http://localhost/?session_id=1",
        ],
    )
    def test_keeps_the_url_byte_for_byte(self, url):
        """
        Nothing is decoded, normalised or sorted in the URL.
        """
        raw = json.dumps({"redirect_url": url}).encode()

        session = session_of(raw)

        assert str(session.redirect_url) == session.url == url

    @pytest.mark.parametrize(
        ("document", "session_id"),
        [
            ({"session_id": None}, "in-url"),
            ({"session_id": ""}, "in-url"),
            ({"session_id": 7}, "in-url"),
            ({"session_id": "key"}, "key"),
            ({"status": "new", "later": {"field": 1}}, "in-url"),
        ],
    )
    def test_a_spoilt_id_does_not_spoil_the_session(
        self, document, session_id
    ):
        """
        The URL's id is used if the key has none; unknown keys are ignored.
        """
        url = "https://x.example/?session_id=in-url"
        raw = json.dumps({"redirect_url": url, **document}).encode()

        session = session_of(raw)

        assert session.session_id == session_id

    @pytest.mark.parametrize(
        ("raw", "problem"),
        [
            (b"", "the body is not JSON @ $"),
            (b"<html>200 OK</html>", "the body is not JSON @ $"),
            (b"\xff\xfe", "the body is not JSON @ $"),
            (b"[]", "the body is not a JSON object @ $"),
            (b'"https://x.example/"', "the body is not a JSON object @ $"),
            (b"{}", "required field missing @ $.redirect_url"),
            (b'{"redirect_url": null}', "must be str @ $.redirect_url"),
            (b'{"redirect_url": 1}', "must be str @ $.redirect_url"),
        ],
    )
    def test_names_what_is_missing(self, raw, problem):
        """
        The error for an unusable response names the path, without values.
        """
        with pytest.raises(InvalidResponseError) as caught:
            decode_session(raw, status=201)

        assert caught.value.problems == (problem,)
        assert caught.value.status == 201
        assert caught.value.delivery is Delivery.CREATED_UNREADABLE

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "/?session_id=1",
            "//x.example/",
            "https:///path",
            "https://",
            "http://x.example/?session_id=1",
            "http://127.0.0.1.x.example/",
            "ftp://x.example/",
            "javascript:alert(1)",
            "data:text/html,x",
            "https://x.example\\@y.example/",
            "https://x.example/a b",
            " https://x.example/",
            "https://x.example/\n",
            "https://x.example:port/",
            "https://x.example:99999/",
            "https://[::1/",
            "https://[]@/",
            "https://[...]/x?session_id=a%20b",
            "https://[:]/",
            "https://[1:2]:443/",
            "https://[::1%eth0]/",
            "https://xn--/?session_id=1",
            "https://bücher.example/",
            "https://x.example:٣/",
            'https://">x/',
            "https://user:pw@x.example/",
            "//:[é@]@?",
        ],
    )
    def test_unsafe_urls_are_not_usable(self, url):
        """
        Only an absolute https URL, or http on loopback, is accepted.
        """
        raw = json.dumps({"redirect_url": url}).encode()

        with pytest.raises(InvalidResponseError) as caught:
            decode_session(raw)

        assert caught.value.problems[0].endswith(" @ $.redirect_url")

    def test_http_is_taken_where_it_was_allowed(self):
        """
        With allow_http, http URLs of other hosts are accepted.
        """
        raw = b'{"redirect_url": "http://sandbox:8600/?session_id=1"}'

        session = decode_session(raw, allow_http=True)

        assert session.redirect_url == "http://sandbox:8600/?session_id=1"


@given(st.lists(st.sampled_from(PIECES), max_size=9))
def test_what_is_taken_for_a_url_can_be_read(parts):
    """
    A URL in a response is refused, or can be parsed in full.
    """
    raw = json.dumps({"redirect_url": f"https://{''.join(parts)}"}).encode()
    try:
        session = session_of(raw)
    except InvalidResponseError as error:
        assert error.delivery is Delivery.CREATED_UNREADABLE
        return

    assert session.redirect_url.origin().scheme == "https"
    assert read_url(session.url) == session.redirect_url


@pytest.mark.parametrize(
    "text", ["https://[...]/", "https://[::1", "https://xn--/", "//:[é@]@?"]
)
def test_a_url_that_cannot_be_read_is_none(text):
    """
    An unparsable URL never raises, because a traceback would show it.
    """
    assert read_url(text) is None


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("127.0.0.1.example", False),
        ("localhost.example", False),
        ("10.0.0.1", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback_is_this_machine_only(host, loopback):
    """
    A name that only begins like a loopback address is refused.
    """
    assert is_loopback(host) is loopback


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["https://x.example/?session_id=1", "INVALID_REQUEST"]),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "redirect_url",
                    "session_id",
                    "error",
                    "code",
                    "message",
                    "detail",
                    "status",
                    "entity_id",
                ]
            )
            | st.text(),
            children,
            max_size=6,
        )
    ),
    max_leaves=12,
)
BODIES = st.binary(max_size=300) | JSON.map(
    lambda value: json.dumps(value).encode()
)


@given(status=st.integers(200, 599), raw=BODIES)
def test_any_answer_gives_a_session_or_an_error_of_ours(status, raw):
    """
    Any body and status give a Session or an error of ours.
    """
    try:
        if status < 300:
            result = decode_session(raw, status=status)
        else:
            raise error_from_response(status, raw)
    except BankConnectError as error:
        assert str(error).isprintable() or "\n" not in str(error)
        assert error.delivery is not None
    else:
        assert isinstance(result, SessionResponse)


@given(
    parts=st.lists(
        st.sampled_from(
            [
                *("session_id=", "session_id", "my_session_id=", "=", "a=1"),
                *("&", "?", "#", ";", "+", "-", "_", "%41", "é"),
                *("?session_id=", "session%5Fid=2"),
            ]
        ),
        max_size=9,
    )
)
def test_a_session_id_is_the_one_that_browsers_see(parts):
    """
    The session id from the text of a URL equals the one that a URL parser
    finds.
    """
    url = f"https://journey.example/p{''.join(parts)}"

    found = decode_session(orjson.dumps({"redirect_url": url})).session_id

    parsed = URL(url, encoded=True).query.get("session_id") or ""
    assert found == (parsed if parsed.strip() else None)


@given(
    link_id=LINK_IDS,
    bank_name=st.none() | st.text(string.ascii_letters, min_size=1),
    days=st.none() | st.tuples(st.dates(), st.dates()),
)
def test_what_is_encoded_can_be_read_back(link_id, bank_name, days):
    """
    The body is JSON with the given parameters.
    """
    start, end = sorted(days) if days else (None, None)
    try:
        request = SessionRequest(
            link_id=link_id,
            redirect_url=None,
            bank_name=bank_name,
            from_date=start,
            to_date=end,
        )
    except InvalidRequestError as error:
        assert error.fields.keys() <= {"link_id", "bank_name", "from_date"}
        return

    body = json.loads(encode_session(request, KEY))

    assert body["link_id"] == link_id
    assert body.get("bank_name") == bank_name
    assert body.get("to_date") == (end and date_text(end))
