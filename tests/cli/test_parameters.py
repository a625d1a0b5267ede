"""
Parameters as people and programs write them.
"""

import datetime

import pytest

from bankconnect_async.cli.input.dates import parse_date
from bankconnect_async.cli.input.parameters import build_request, is_parameter
from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.models import Consent, Metadata
from bankconnect_async.models.sessions import (
    PARAMETERS,
    UNSET,
    SessionRequest,
)


@pytest.mark.parametrize(
    "text",
    [
        "01/02/2026",
        "01-02-2026",
        "01.02.2026",
        "2026-02-01",
        "2026/02/01",
        "2026.02.01",
        " 01/02/2026 ",
        "2026-02-01\n",
        "\u200b01/02/2026\u00a0",
        "2026-02-01 00:00:00",
        "2026-02-01T00:00:00",
        "01-02-2026 00:00:00",
    ],
)
def test_date(text):
    """
    All forms of a date mean the same day, with or without blanks.
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
        "1/2/2026",
        "1.2.2026",
        "01/02/26",
        "01/02-2026",
        "01/31/2026",
        "2026/31/01",
        "Feb 1, 2026",
        "46054",
        "20260201",
        "2026-W01-1",
        "2026-02-01T00:00",
        "2026-02-01 00:00:01",
        "2026-02-01 12:00:00",
        "2026-02-01 00:00:00 00:00:00",
        "०१/०२/२०२६",
        "today",
        "",
        "x" * 1000,
    ],
)
def test_no_date(text):
    """
    Other texts are refused with two valid forms and a short quote.
    """
    with pytest.raises(ValueError, match="DD/MM/YYYY or YYYY-MM-DD") as caught:
        parse_date(text)

    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("session_expiry", " 60 ", 60),
        ("session_expiry", "60.0", 60),
        ("session_expiry", "60.00", 60),
        ("session_expiry", 60.0, 60),
        ("accept_anything", "1.0", True),
        ("accept_anything", "WAHR", True),
        ("accept_anything", "falsch", False),
        ("bank_name", " hdfc ", "hdfc"),
        ("bank_name", "HDFC\u200b", "HDFC"),
        ("bank_name", "Hdfc", "HDFC"),
        ("bank", "Pune Merchants", "PUNE MERCHANTS"),
        ("bank_name", "Bank of the Future", "Bank of the Future"),
        ("mode", " PDF", "pdf"),
        ("mode", "\u00a0Online", "online"),
        ("journey_mode", "Multi_PDF ", "multi_pdf"),
        ("journey_mode", " Some_New", "Some_New"),
        ("aa_journey_mode", "ONLY_ONCE", "only_once"),
        ("aa_recurring_frequency_unit", "Month", "month"),
        ("aa_journey_code", "bcaa001", "BCAA001"),
        ("mobile_number", " +91 98765 43210 ", "+91 98765 43210"),
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
        ("consents", '{"C": "granted"}', {"C": "granted"}),
        (
            "consents",
            """{"C": "{\\"from_date\\": \\"01/01/2026\\"}"}""",
            {"C": Consent(from_date=datetime.date(2026, 1, 1))},
        ),
    ],
)
def test_text(name, text, value):
    """
    A text becomes a value of its parameter's type.
    """
    request = build_request({"link_id": "a", name: text})

    assert getattr(request, name) == value


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("session_expiry", "60.5", "'60.5' is not a whole number"),
        ("session_expiry", "1,440", "'1,440' is not a whole number"),
        ("session_expiry", 60.5, "must be a whole number, not float"),
        ("mode", "nan", "stands for no value"),
        ("bank_name", "#N/A", "is the error of a formula"),
        ("bank_name", '"axis"', "begins or ends with a quote"),
        ("mobile_number", "9.87654E+09", "has lost digits"),
        ("mobile_number", "9876543210.0", "with decimals added"),
        ("extra.note", "#REF!", "is the error of a formula"),
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
    A text of the wrong form is refused with a reason.
    """
    with pytest.raises(InvalidRequestError) as caught:
        build_request({"link_id": "a", name: text})

    assert set(caught.value.fields) == {name}
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 140


LINK_ID_DAMAGE = {
    " a": "begins or ends with a blank",
    "a ": "begins or ends with a blank",
    "\u00a0a": "U+00A0 (no-break space)",
    "a\u200b": "U+200B (zero width space)",
    "a\u2060": "U+2060 (word joiner)",
    "\ufeffa": "U+FEFF (zero width no-break space)",
    "a\u3164": "U+3164 (hangul filler)",
    "\u202ea": "U+202E (right-to-left override)",
    "a\u00a0b": "invisible character U+00A0",
    "a\u200db": "invisible character U+200D",
    "a\u00adb": "invisible character U+00AD",
    "क\u200d": "U+200D (zero width joiner)",
    "'00123": "begins or ends with a quote",
    '="00123"': "begins with =",
    "＝1": "begins with =",  # noqa: RUF001 - the damage
    '"00123"': "begins or ends with a quote",
    "“00123”": "begins or ends with a quote",
    "00123’": "begins or ends with a quote",  # noqa: RUF001 - as above
    "«00123»": "begins or ends with a quote",
    "1.23457E+11": "has lost digits",
    "1,23457E+11": "has lost digits",
    "1E+11": "has lost digits",
    "1.23457e-05": "has lost digits",
    "1.23457E11": "has lost digits",
    "12345.0": "decimals added",
    "12345,00": "decimals added",
    "1,23,456": "digits in groups",
    "123,456": "digits in groups",
    "1,234,567.00": "digits in groups",
    "01-Mar": "looks like a date",
    "01. Mrz": "looks like a date",
    "Mar-26": "looks like a date",
    "2026-01-02 00:00:00": "looks like a date",
    "#N/A": "error of a formula",
    "#n/a": "error of a formula",
    "#REF!": "error of a formula",
    "#VALUE!": "error of a formula",
    "#NAME?": "error of a formula",
    "#DIV/0!": "error of a formula",
    "#NV": "error of a formula",
    "#WERT!": "error of a formula",
    "Err:502": "error of a formula",
    "########": "too narrow",
    "NaN": "stands for no value",
    "None": "stands for no value",
    "NULL": "stands for no value",
    "<NA>": "stands for no value",
    "NaT": "stands for no value",
    "n/a": "stands for no value",
    "inf": "stands for no value",
    "\\N": "stands for no value",
    "????": "no letter and no digit",
    "-": "no letter and no digit",
    "Z\ufffdrich": "characters were lost",
    "link_id": "name of its own column",
    "Link_ID": "name of its own column",
}


@pytest.mark.parametrize("link_id", LINK_ID_DAMAGE)
def test_damaged_link_id(link_id):
    """
    A damaged link id is refused with advice, unless the option allows it.
    """
    with pytest.raises(InvalidRequestError) as caught:
        build_request({"link_id": link_id})

    (problem,) = caught.value.fields["link_id"]
    assert LINK_ID_DAMAGE[link_id] in problem
    assert ": " in problem
    assert problem.endswith("; --allow-any-link-id accepts it")
    request = build_request({"link_id": link_id}, allow_any_link_id=True)
    assert request.link_id == link_id
    assert SessionRequest(link_id=link_id, redirect_url=None).link_id == (
        link_id
    )


@pytest.mark.parametrize(
    ("link_id", "problem"),
    [
        ("a\tb", "control character U+0009"),
        ("a\n", "control character U+000A"),
        ("a\x7fb", "control character U+007F"),
        ("a\x85", "control character U+0085"),
        ("a\x1a", "control character U+001A"),
        (" \u00a0", "must not be blank"),
        ("\u200b\u200b", "must not be blank"),
    ],
)
def test_invalid_link_id(link_id, problem):
    """
    Blank ids and control characters are refused with any option.
    """
    with pytest.raises(InvalidRequestError) as caught:
        build_request({"link_id": link_id})

    assert problem in str(caught.value)
    assert "--allow-any-link-id" not in str(caught.value)
    with pytest.raises(InvalidRequestError):
        build_request({"link_id": link_id}, allow_any_link_id=True)
    with pytest.raises(InvalidRequestError):
        SessionRequest(link_id=link_id, redirect_url=None)


@pytest.mark.parametrize(
    "link_id",
    [
        "customer-42",
        "00123",
        "+919876543210",
        "customer 42",
        "Doe, John",
        "a@b.example",
        "550e8400-e29b-41d4-a716-446655440000",
        "12e45",
        "1e5",
        "1.2.3",
        "12.345",
        "YWJjZA==",
        "#42",
        "May",
        "1-MAR",
        "nano",
        "link_id_7",
        "O'Neil",
        "ग्राहक-४२",
        "क्\u200dष",
        "می\u200cخواهم",  # noqa: RUF001 - its letters
        "客户 42",
        "x" * 500,
    ],
)
def test_sound_link_id(link_id):
    """
    An unusual link id without damage is accepted unchanged.
    """
    assert build_request({"link_id": link_id}).link_id == link_id


@pytest.mark.parametrize("link_id", [7, 1.5, True])
def test_link_id_that_is_no_text(link_id):
    """
    A number as a link id is refused with advice.
    """
    with pytest.raises(InvalidRequestError, match="put it in quotes"):
        build_request({"link_id": link_id})


def test_damage_with_other_problems():
    """
    One error reports a damaged link id and other problems.
    """
    with pytest.raises(InvalidRequestError) as caught:
        build_request({"link_id": "NaN", "from_date": "soon", "mode": "x"})

    assert set(caught.value.fields) == {"link_id", "from_date", "mode"}


def test_redirect_url_left_to_the_client():
    """
    Without a redirect URL the client's own applies.
    """
    assert build_request({"link_id": "a"}).redirect_url is UNSET


@pytest.mark.parametrize("name", ["api_key", "server_hash", "extra.API_KEY"])
def test_secret(name):
    """
    A secret is refused, and its value is not shown.
    """
    with pytest.raises(InvalidRequestError) as caught:
        build_request({"link_id": "a", name: "k3y"})

    assert "k3y" not in str(caught.value)


@pytest.mark.parametrize("name", [*sorted(PARAMETERS), "extra.x"])
def test_may_head_a_column(name):
    """
    Documented parameters and extra ones are valid columns.
    """
    assert is_parameter(name)


@pytest.mark.parametrize("name", ["extra", "extra.", "api_key", "Link_Id", ""])
def test_may_not_head_a_column(name):
    """
    Other names are not valid.
    """
    assert not is_parameter(name)
