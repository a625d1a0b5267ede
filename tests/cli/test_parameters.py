"""
Parameters as people write them.
"""

import datetime

import pytest

from bankconnect_async.cli._parameters import (
    build_request,
    is_parameter,
    parse_date,
)
from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.schema import PARAMETERS, UNSET, Consent, Metadata


@pytest.mark.parametrize(
    "text", ["01/02/2026", "2026-02-01", " 01/02/2026 ", "2026-02-01\n"]
)
def test_date(text):
    """
    Both writings of a date mean the same day, blanks around it or not.
    """
    assert parse_date(text) == datetime.date(2026, 2, 1)


@pytest.mark.parametrize(
    "text",
    [
        "31/02/2026",
        "2026-02-30",
        "00/01/2026",
        "01/01/0000",
        "1/1/2026",
        "01-02-2026",
        "2026/02/01",
        "20260201",
        "2026-W01-1",
        "2026-02-01T00:00",
        "०१/०२/२०२६",
        "today",
        "",
        "x" * 1000,
    ],
)
def test_no_date(text):
    """
    Anything else is refused, with the two writings and not all of the text.
    """
    with pytest.raises(ValueError, match="DD/MM/YYYY or YYYY-MM-DD") as caught:
        parse_date(text)

    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("session_expiry", " 60 ", 60),
        ("aa_recurring_tenure_month_count", "+3", 3),
        ("aa_recurring_frequency_value", "5", 5),
        ("aa_recurring_tenure_month", "1.5", 1.5),
        ("accept_anything", "TRUE", True),
        ("accept_anything", "no", False),
        ("is_mobile_field_editable", "1", True),
        ("mobile_number", "0987654321", "0987654321"),
        ("redirect_url", "https://a.example/", "https://a.example/"),
        ("metadata", '{"names": ["A"]}', Metadata(names=["A"])),
        (
            "consents",
            '{"C": {"from_date": "01/01/2026"}}',
            {"C": Consent(from_date=datetime.date(2026, 1, 1))},
        ),
    ],
)
def test_text(name, text, value):
    """
    A text becomes what its parameter is.
    """
    request = build_request({"link_id": "a", name: text})

    assert getattr(request, name) == value


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("session_expiry", "6_0", "'6_0' is not a whole number"),
        ("session_expiry", "٦٠", "'٦٠' is not a whole number"),
        ("session_expiry", "1e3", "'1e3' is not a whole number"),
        ("session_expiry", "9" * 5000, "is not a whole number"),
        ("session_expiry", "4", "is 4, must be 5 to 43200"),
        ("aa_recurring_tenure_month", "nan", "'nan' is not a number"),
        ("aa_recurring_tenure_month", "1,5", "'1,5' is not a number"),
        ("accept_anything", "maybe", "'maybe' is neither true nor false"),
        ("metadata", "{", "must be a JSON object"),
        ("consents", "[]", "must be a JSON object"),
    ],
)
def test_bad_text(name, text, problem):
    """
    A text that cannot be what its parameter is, is refused with the reason.
    """
    with pytest.raises(InvalidRequestError) as caught:
        build_request({"link_id": "a", name: text})

    assert set(caught.value.fields) == {name}
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 120


def test_redirect_url_left_to_the_client():
    """
    Without a redirect URL the request leaves it to the client.
    """
    assert build_request({"link_id": "a"}).redirect_url is UNSET


@pytest.mark.parametrize("name", ["api_key", "server_hash", "extra.API_KEY"])
def test_secret(name):
    """
    A secret is refused, and its value is not repeated.
    """
    with pytest.raises(InvalidRequestError) as caught:
        build_request({"link_id": "a", name: "k3y"})

    assert "k3y" not in str(caught.value)


@pytest.mark.parametrize("name", [*sorted(PARAMETERS), "extra.x"])
def test_may_head_a_column(name):
    """
    Every documented parameter may head a column, and any extra.
    """
    assert is_parameter(name)


@pytest.mark.parametrize("name", ["extra", "extra.", "api_key", "Link_Id", ""])
def test_may_not_head_a_column(name):
    """
    Nothing else may.
    """
    assert not is_parameter(name)
