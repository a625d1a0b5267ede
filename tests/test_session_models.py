"""
A request is checked when it is built, and one error lists all problems.
"""

import pickle

from datetime import UTC, date, datetime

import attrs
import pytest

from yarl import URL

from bankconnect_async import (
    UNSET,
    Consent,
    EventName,
    InvalidRequestError,
    Metadata,
    Session,
    SessionRequest,
)


RETURN = "https://lender.example/return"


def nested(depth):
    """Nest a list *depth* times."""
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


def request(**parameters):
    """Build a valid request, except for *parameters*."""
    return SessionRequest(
        **{"link_id": "customer-42", "redirect_url": RETURN, **parameters}
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("link_id", "a"),
        ("link_id", "x" * 500),
        ("link_id", "ग्राहक-४२"),
        ("link_id", " '00123\u00a0"),
        ("link_id", "a\u200bb"),
        ("link_id", "NaN"),
        ("redirect_url", None),
        ("redirect_url", UNSET),
        ("redirect_url", "http://localhost:8000/return?x=1#y"),
        ("redirect_url", "https://" + "h" * 192),
        ("redirect_url", "https://[::1]:8443/"),
        ("redirect_url", "HTTPS://LENDER.EXAMPLE"),
        ("from_date", date(2026, 1, 1)),
        ("to_date", date(2026, 1, 1)),
        ("bank_name", "x" * 50),
        ("bank", "HDFC"),
        ("logo_url", "https://lender.example/" + "x" * 1000),
        ("mode", "pdf"),
        ("mode", "aa"),
        ("mode", "online"),
        ("mobile_number", "+91 90000 00001"),
        ("journey_mode", "aa_multi_banking"),
        ("session_expiry", 5),
        ("session_expiry", 43200),
        ("accept_anything", False),
        ("is_mobile_field_editable", True),
        ("aa_journey_mode", "only_once"),
        ("aa_journey_mode", "only_recurring"),
        ("aa_journey_mode", "once_with_recurring"),
        ("aa_recurring_tenure_month_count", 1),
        ("aa_recurring_tenure_month_count", 84),
        ("aa_recurring_tenure_month_count", 120),
        ("aa_recurring_tenure_month", 12.5),
        ("aa_recurring_frequency_unit", "hour"),
        ("aa_recurring_frequency_value", 5),
        ("aa_journey_code", "BCAA001"),
        ("consents", {"CC0001": Consent(consent_expiry=date(2026, 4, 1))}),
        ("consents", {"CC0001": "01/04/2026"}),
        ("metadata", Metadata(names=["A"], employer_names=[])),
        ("max_from_date", date(2026, 1, 1)),
        ("max_to_date", date(2026, 1, 1)),
        ("program_id", "gold-loan"),
        ("aa_vendor", "onemoney"),
        ("extra", {"pan": "X", "n": 1, "f": 1.5, "b": None, "l": [{"a": 1}]}),
        ("extra", {"d": nested(16)}),
    ],
)
def test_accepts_what_some_dialect_accepts(name, value):
    """
    A value that any documented dialect accepts is never refused locally.
    """
    assert getattr(request(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("link_id", None),
        ("link_id", ""),
        ("link_id", "  "),
        ("link_id", "\u00a0\u200b"),
        ("link_id", "a\tb"),
        ("link_id", "a\n"),
        ("link_id", "a\x7f"),
        ("link_id", "a\x85"),
        ("link_id", 42),
        ("link_id", "x" * 501),
        ("link_id", "bad \udcff byte"),
        ("redirect_url", ""),
        ("redirect_url", "lender.example/return"),
        ("redirect_url", "//lender.example/return"),
        ("redirect_url", "myapp://return"),
        ("redirect_url", "javascript:alert(1)"),
        ("redirect_url", "https://"),
        ("redirect_url", "https://lender.example/a b"),
        ("redirect_url", "https://lender.example/a\r\nX: y"),
        ("redirect_url", "https://lender\\.example/"),
        ("redirect_url", "https://" + "h" * 193),
        ("redirect_url", b"https://lender.example/"),
        ("from_date", "01/01/2026"),
        ("from_date", datetime(2026, 1, 1, tzinfo=UTC)),
        ("to_date", 20260101),
        ("bank_name", ""),
        ("bank_name", "x" * 51),
        ("bank", 1),
        ("logo_url", "logo.png"),
        ("logo_url", UNSET.value),
        ("mode", "PDF"),
        ("mode", ["pdf"]),
        ("mobile_number", 9000000001),
        ("journey_mode", "x" * 51),
        ("session_expiry", 4),
        ("session_expiry", 43201),
        ("session_expiry", True),
        ("session_expiry", "60"),
        ("accept_anything", "true"),
        ("accept_anything", 1),
        ("aa_journey_mode", "never"),
        ("aa_recurring_tenure_month_count", 0),
        ("aa_recurring_tenure_month_count", 1.5),
        ("aa_recurring_tenure_month", 0),
        ("aa_recurring_tenure_month", float("nan")),
        ("aa_recurring_tenure_month", "12"),
        ("aa_recurring_frequency_unit", "week"),
        ("aa_recurring_frequency_value", 0),
        ("aa_recurring_frequency_value", 6),
        ("aa_journey_code", ""),
        ("consents", {"CC0001": {"from_date": "01/01/2026"}}),
        ("consents", [Consent()]),
        ("metadata", {"names": []}),
        ("extra", ["pan"]),
        ("extra", {"api_key": "k"}),
        ("extra", {"Server-Hash": "h"}),
        ("extra", {"bank_name": "axis"}),
        ("extra", {"": 1}),
        ("extra", {1: 1}),
        ("extra", {"when": date(2026, 1, 1)}),
        ("extra", {"n": 2**64}),
        ("extra", {"f": float("inf")}),
        ("extra", {"s": "\udcff"}),
        ("extra", {"d": {1: 2}}),
        ("extra", {"d": nested(17)}),
        ("extra", {"d": nested(3000)}),
        ("extra", {"\udcff": 1}),
        ("extra", {"api key ": "k"}),
        ("extra", {EventName.MANUAL: 1}),
        ("consents", {"\udcff": Consent()}),
        ("aa_recurring_tenure_month_count", 10**30),
        ("aa_recurring_tenure_month", 10**400),
        ("aa_recurring_tenure_month", -(10**400)),
    ],
)
def test_refuses_what_no_dialect_accepts(name, value):
    """
    The error names the parameter and does not repeat the value.
    """
    with pytest.raises(InvalidRequestError) as caught:
        request(**{name: value})

    assert list(caught.value.fields) == [name]
    assert str(caught.value).startswith(f"{name}: ")


def test_reports_all_problems_at_once():
    """
    One error has all problems of one request.
    """
    with pytest.raises(InvalidRequestError) as caught:
        SessionRequest(
            link_id="",
            redirect_url="nowhere",
            from_date=date(2026, 6, 30),
            to_date=date(2026, 6, 30),
            mode="fax",
            session_expiry=1,
        )

    assert caught.value.fields.keys() == {
        "link_id",
        "redirect_url",
        "from_date",
        "mode",
        "session_expiry",
    }


@pytest.mark.parametrize("cls", [Consent, request], ids=["consent", "request"])
def test_from_date_is_before_to_date(cls):
    """
    Equal dates are refused, because the contract's order is strict.
    """
    day = date(2026, 1, 31)

    with pytest.raises(InvalidRequestError) as caught:
        cls(from_date=day, to_date=day)

    assert caught.value.fields == {
        "from_date": ("2026-01-31 must be before to_date 2026-01-31",)
    }


def test_max_from_date_is_before_max_to_date():
    """
    The second pair of dates has the same order.
    """
    day = date(2026, 1, 31)

    with pytest.raises(InvalidRequestError) as caught:
        request(max_from_date=day, max_to_date=day)

    assert caught.value.fields == {
        "max_from_date": ("2026-01-31 must be before max_to_date 2026-01-31",)
    }


def test_order_is_not_judged_on_bad_dates():
    """
    An invalid date is one problem, not two.
    """
    with pytest.raises(InvalidRequestError) as caught:
        request(from_date="x", to_date=date(2026, 1, 1))

    assert len(caught.value.fields) == 1


def test_metadata_takes_lists_of_texts():
    """
    A bare text is not read as a list of letters.
    """
    assert Metadata(names=["A", "B"]).names == ("A", "B")
    for bad in ("AB", 7, [7], ["\udcff"]):
        with pytest.raises(InvalidRequestError) as caught:
            Metadata(names=bad)
        assert list(caught.value.fields) == ["names"]


def test_url_objects_become_texts():
    """
    URLs may be yarl.URL objects, and are kept as they will be sent.
    """
    built = request(
        redirect_url=URL(RETURN), logo_url=URL("https://lender.example/l.png")
    )

    assert built.redirect_url == RETURN
    assert built.logo_url == "https://lender.example/l.png"


def test_required_parameters_cannot_be_forgotten():
    """
    A missing redirect URL must be explicit: None or UNSET.
    """
    with pytest.raises(TypeError, match="redirect_url"):
        SessionRequest(link_id="customer-42")


def test_requests_are_values():
    """
    Requests are frozen, comparable, hashable and picklable.
    """
    one = request(consents={"CC0001": Consent()}, extra={"a": [1]})
    two = pickle.loads(pickle.dumps(one))

    assert one == two
    assert len({one, two}) == 1
    assert request(redirect_url=UNSET) == pickle.loads(
        pickle.dumps(request(redirect_url=UNSET))
    )
    with pytest.raises(AttributeError):
        one.link_id = "other"  # type: ignore[misc]


def test_repr_hides_what_is_personal():
    """
    The repr hides a number, a name and unknown parameters.
    """
    text = repr(
        request(
            mobile_number="9000000001",
            metadata=Metadata(names=["SAMPLE HOLDER"]),
            extra={"pan": "ABCDE1234F"},
        )
    )

    assert "customer-42" in text
    for secret in ("9000000001", "SAMPLE HOLDER", "ABCDE1234F"):
        assert secret not in text


def test_session_repr_cannot_open_the_journey():
    """
    The repr of a session shows neither its URL nor its whole id.
    """
    session = Session(
        link_id="customer-42",
        redirect_url=URL("https://x.example/?session_id=04165baaad1e&token=t"),
        session_id="04165baaad1e",
    )

    assert repr(session) == (
        "Session(link_id='customer-42', session_id='0416…', attempts=1)"
    )
    assert "None" in repr(
        Session(link_id="c", redirect_url=URL("https://x.example/"))
    )


def test_a_session_url_is_a_text_or_a_url():
    """
    A text and a URL make the same session, and come back unchanged.
    """
    url = "https://x.example/?token=%2F%c3%A9"
    parsed = URL(url, encoded=True)
    first = Session(link_id="c", redirect_url=url)
    second = Session(link_id="c", redirect_url=parsed)

    assert first == second
    assert hash(first) == hash(second)
    assert first != Session(link_id="c", redirect_url=f"{url}&")
    assert first.redirect_url == second.redirect_url == parsed
    assert first.url == second.url == url
    assert attrs.evolve(first, attempts=2).redirect_url == parsed
    assert pickle.loads(pickle.dumps(first)) == first


class TestWithLinkId:
    """
    SessionRequest.with_link_id
    """

    def test_is_what_building_it_gives(self):
        """
        All but the link_id is kept, and the first request is unchanged.
        """
        first = SessionRequest(
            link_id="a",
            redirect_url=None,
            from_date=date(2026, 1, 1),
            extra={"later": [1]},
        )

        second = first.with_link_id("b")

        assert second == attrs.evolve(first, link_id="b")
        assert hash(second) == hash(attrs.evolve(first, link_id="b"))
        assert (first.link_id, second.link_id) == ("a", "b")
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            second.link_id = "c"

    @pytest.mark.parametrize(
        "link_id", ["", " ", "x" * 501, None, 7, "\ud800"]
    )
    def test_checks_the_link_id(self, link_id):
        """
        An invalid link_id is refused, as where a request is built.
        """
        first = SessionRequest(link_id="a", redirect_url=None)

        with pytest.raises(InvalidRequestError) as caught:
            first.with_link_id(link_id)

        assert list(caught.value.fields) == ["link_id"]
