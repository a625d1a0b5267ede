"""
Rows of responses, which are read by columns.

An array with a `null` is read row by row, so both ways can be compared.
"""

import copy
import datetime
import gc
import json
import pickle

import attrs
import msgspec
import pytest

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bankconnect_async import DecodeError, InvalidResponseError
from bankconnect_async._codec.responses import decode
from bankconnect_async.models import (
    Identities,
    Identity,
    Insights,
    SalaryTransaction,
    SalaryTransactions,
    StoredPdfs,
    Transaction,
    Transactions,
    _columns,
    _fields,
)


FEW = _fields._FEW
# JSON texts, each a value of some field.
TEXTS = [
    *("null", '""', '"  "', '"Salary"', '" CREDIT"', '"\xe9 "', '"\\ud800"'),
    *('"\\ud83d\\ude00"', '"100.0"', '" 7 "', '"1e5"', '"NaN"', '"n/a"'),
]
NUMBERS = ["1234.10", "5", "-0", "-0.0", "1.0", "1e400", "1E5", "1" + "0" * 30]
DATES = [
    *('"2026-01-08 10:30:05"', '"2026-01-08"', '"8-Jan-26"', '"08/01/2026"'),
    *('"2026-01-08T10:30:05+05:30"', '"2026-01-08T10:30:05Z"'),
]
ODD = ["true", "[1.10]", "{}", '{"a":{"b":1.50}}', "0", "1", '{"hash":"x"}']
# No JSON, or more than Python takes.
BROKEN = ["NaN", "01", '"\\q"', "1e99999999999999999999", "9" * 5000]
KEYS = [
    *("date", "amount", "balance", "category", "chq_num", "metadata", "hash"),
    *("transaction_type", "account_id", "month_year", "later", "raw"),
]


@pytest.fixture(autouse=True, scope="module")
def few_rows_by_columns():
    """Read by columns even what is faster one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fields, "_FEW", 0)
        yield


values = st.sampled_from(TEXTS + NUMBERS + DATES + ODD)


def write(pairs):
    """Write an object as JSON, with repeated keys if there are any."""
    return "{" + ",".join(f'"{key}":{text}' for key, text in pairs) + "}"


objects = st.lists(st.tuples(st.sampled_from(KEYS), values), max_size=5).map(
    write
)


@st.composite
def alike(draw):
    """Draw rows with the same keys, of which some have a nested part."""
    keys = draw(st.lists(st.sampled_from(KEYS), max_size=6))
    columns = [
        draw(
            st.lists(
                st.sampled_from(draw(st.sampled_from([TEXTS, NUMBERS, DATES])))
                | values,
                min_size=4,
                max_size=4,
            )
        )
        for _ in keys
    ]
    return [
        write(zip(keys, row, strict=True))
        for row in zip(*columns, strict=True)
    ] or ["{}"]


arrays = (
    alike()
    | st.lists(objects, max_size=4)
    | st.lists(objects | values | st.sampled_from(BROKEN), max_size=4)
)


def outcome(cls, template, rows):
    """Decode a response, and return all that shows of it."""
    raw = template.replace("ROWS", ",".join(rows)).encode()
    try:
        value = decode(cls, raw)
    except InvalidResponseError as error:
        return str(error), error.problems
    (each,) = getattr(value, "accounts", None) or [value]
    rows = each.transactions
    return [
        (type(row), [repr(getattr(row, name)) for name in names(row)])
        for row in rows
    ], to_arrow(rows)


def names(row):
    """Return the names of the attributes of a row, `raw` among them."""
    return [each.name for each in attrs.fields(type(row))]


def to_arrow(rows):
    """Convert rows to a table, or return the error that tells why not."""
    try:
        return rows.to_arrow()
    except DecodeError as error:
        return str(error)


@pytest.mark.parametrize(
    ("cls", "template"),
    [
        (Transactions, '{"entity_id":"e","transactions":[ROWS]}'),
        (SalaryTransactions, '{"entity_id":"e","transactions":[ROWS]}'),
        (
            Insights,
            '{"session_id":"s","accounts":[{"data":{"transactions":[ROWS]}}]}',
        ),
    ],
)
@given(rows=arrays)
@example(rows=['{"hash":"x"}', '{"hash":"\\ud800"}'])
@example(rows=['{"hash":null}', '{"hash":"\\ud800"}'])
@example(rows=['{"amount":5}', '{"amount":1.0}'])
@example(rows=['{"hash":"outer","metadata":{"hash":"inner"}}', "{}"])
@example(rows=['{"hash":"x"}', '{"chq_num":1}', '{"hash":"y","later":[]}'])
@settings(max_examples=50)
def test_any_rows_are_read_as_one_by_one(cls, template, rows):
    """
    Both ways give the same values to the last digit, or the same problems.
    """
    assert outcome(cls, template, rows) == outcome(
        cls, template, [*rows, "null"]
    )


def statement(rows=600, **fields):
    """Return a response with so many rows, the last of which has *fields*."""
    row = {
        "transaction_type": "CREDIT",
        "amount": 1.5,
        "date": "2026-01-08",
        "hash": "a",
        "metadata": {"unclean_merchant": "SAMPLE", "hash": "b"},
        "later": [1.5],
    }
    lines = [{**row, "category": f"{number}"} for number in range(rows)]
    lines[-1] |= fields
    return json.dumps({"entity_id": "e", "transactions": lines}).encode()


def test_thousands_of_rows_are_complete():
    """
    Rows come in their order, with the outer one of two values.
    """
    found = decode(Transactions, statement()).transactions

    assert [row.category for row in found] == list(map(str, range(600)))
    assert {
        (row.date, row.transaction_type, row.unclean_merchant, row.hash)
        for row in found
    } == {(datetime.datetime(2026, 1, 8), "credit", "SAMPLE", "a")}  # noqa: DTZ001 - as it is
    assert found[599].raw["later"] == [1.5]


def test_names_the_places_of_bad_rows():
    """
    Bad values among hundreds of good ones are an error with their places.
    """
    raw = statement(amount=True).replace(b'"7"', b"7").replace(b'"9"', b"9")

    with pytest.raises(InvalidResponseError) as caught:
        decode(Transactions, raw)

    assert caught.value.problems == (
        "must be a text, not int @ $.transactions[7].category",
        "must be a text, not int @ $.transactions[9].category",
        "must be a number, not bool @ $.transactions[599].amount",
    )


@pytest.mark.parametrize(
    ("cls", "row_type", "get", "raw"),
    [
        (Transactions, Transaction, "transactions", statement(3)),
        (SalaryTransactions, SalaryTransaction, "transactions", statement(3)),
        (
            Identities,
            Identity,
            "identities",
            b'{"entity_id":"e","identity":[{"name":"A"}]}',
        ),
    ],
)
def test_rows_are_values_like_others(cls, row_type, get, raw):
    """
    Libraries see whole, frozen instances of the model in each row.
    """
    row = getattr(decode(cls, raw), get)[0]
    fields = {name: getattr(row, name) for name in names(row)}
    made = row_type(**fields)

    assert type(row) is row_type
    assert row == made
    assert hash(row) == hash(made)
    assert repr(row) == repr(made)
    assert row.raw
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        row.raw = {}
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        del row.raw
    assert attrs.asdict(row) == attrs.asdict(made)
    assert attrs.asdict(attrs.evolve(row, account_id="x")) == attrs.asdict(
        attrs.evolve(made, account_id="x")
    )
    for other in (
        copy.copy(row),
        copy.deepcopy(row),
        pickle.loads(pickle.dumps(row)),
    ):
        assert other == made
        assert other.raw == made.raw
    assert msgspec.to_builtins(row) == msgspec.to_builtins(made)
    assert len(gc.get_referents(row)) == len(gc.get_referents(made))


def test_other_objects_than_rows_are_read():
    """
    A list of models that are no statement's lines is complete, too.
    """
    pdfs = decode(
        StoredPdfs,
        b'{"statements":[{"statement_id":7,"source":""},{"bank_name":"axis"}]}',
    ).statements

    assert [(pdf.statement_id, pdf.source, pdf.bank_name) for pdf in pdfs] == [
        ("7", None, None),
        (None, None, "axis"),
    ]


def test_few_objects_are_read_one_by_one(monkeypatch):
    """
    Columns of none to three objects cost twice as much as the objects.
    """
    by_columns = []

    def build(_cls, values, *_):
        by_columns.append(len(values))
        return []

    monkeypatch.setattr(_fields, "_FEW", FEW)
    monkeypatch.setattr(_columns, "build", build)
    for count in range(5):
        _fields.ObjectReader(Transaction).read_all([{}] * count, "$", [])

    assert by_columns == [4]
