"""
Large responses, whose rows msgspec checks, beside the readers of fields.
"""

import gc
import json
import pickle

from decimal import Decimal

import hypothesis
import pytest

from hypothesis import strategies as st

from bankconnect_async import DecodeError, InvalidResponseError, Rows
from bankconnect_async._codec import responses
from bankconnect_async.models import (
    Accounts,
    Identities,
    Insights,
    SalaryTransactions,
    SessionStatus,
    StoredPdfs,
    Transaction,
    Transactions,
)


#: Responses with rows, by the name of their sample.
SAMPLES = {
    "accounts.response": Accounts,
    "get_pdfs.response.entity": StoredPdfs,
    "identity.response": Identities,
    "salary.response": SalaryTransactions,
    "session_data.insights.response": Insights,
    "session_data.session_status.response.completed": SessionStatus,
    "transactions.response": Transactions,
}


def outcome(cls, raw, monkeypatch, *, large):
    """Decode a response in one of two ways; return all that shows."""
    with monkeypatch.context() as patch:
        patch.setattr(responses, "_LARGE", -1 if large else 2**40)
        try:
            value = responses.decode(cls, raw)
        except InvalidResponseError as error:
            return str(error), error.problems
    arrow = [to_arrow(rows) for rows in rows_within(value)]
    return value, repr(value), arrow, raws(value), texts(value)


def to_arrow(rows):
    """Convert rows to a table, or return the error that tells why not."""
    try:
        return rows.to_arrow()
    except DecodeError as error:
        return str(error)


def rows_within(value):
    """Find the transactions in a response."""
    found = getattr(value, "transactions", ())
    if isinstance(found, Rows):
        yield found
    for account in getattr(value, "accounts", ()):
        yield from rows_within(account)


def raws(value):
    """Return what a value and its rows were made of, with every digit."""
    rows = [row for rows in rows_within(value) for row in rows]
    accounts = getattr(value, "accounts", ())
    return [repr(each.raw) for each in (value, *accounts, *rows)]


def texts(value):
    """Return the numbers of rows, with every digit."""
    return [
        (str(row.amount), str(row.balance))
        for rows in rows_within(value)
        for row in rows
    ]


def check(cls, raw, monkeypatch):
    """Compare both ways of decoding."""
    large = outcome(cls, raw, monkeypatch, large=True)

    assert large == outcome(cls, raw, monkeypatch, large=False)
    return large[0]


@pytest.mark.parametrize("name", SAMPLES)
def test_reads_samples_as_small_ones(name, sample, monkeypatch):
    """
    A sample has equal values in both ways, and those survive pickling.
    """
    value = check(SAMPLES[name], sample(f"{name}.json"), monkeypatch)

    monkeypatch.setattr(responses, "_LARGE", -1)
    unread = responses.decode(SAMPLES[name], sample(f"{name}.json"))
    copy = pickle.loads(pickle.dumps(unread))
    assert copy == value
    assert copy.raw == value.raw


# Texts of JSON; each is one value of a field.
values = st.sampled_from(
    [
        *("null", '""', '"  "', "true", "[]", "{}", '"n/a"', '"\\ud800"'),
        *("1234.10", "5", "-0.0", "1e400", "1E5", "1e99999999999999999999"),
        *('"100.0"', '" 7 "', '"1e5"', '"NaN"', "NaN", "01", "1" + "0" * 30),
        *('"2026-01-08 10:30:05"', '"2026-01-08"', '"8-Jan-26"', '"x\\q"'),
        *('"2026-01-08T10:30:05+05:30"', '"CREDIT "', '"\xe9"', "12345"),
        *('{"amount":1.50,"category":"a"}', '{"category":2.5,"new":[1.0]}'),
        *("[1.10]", '{"a":{"b":1e99999999999999999999}}', "1" + "0" * 5000),
    ]
)
keys = st.sampled_from(
    [
        *("date", "amount", "balance", "category", "chq_num", "metadata"),
        *("transaction_type", "account_id", "hash", "later", "not a name"),
    ]
)
objects = st.lists(st.tuples(keys, values), max_size=5).map(
    lambda pairs: (
        "{" + ",".join(f'"{key}":{text}' for key, text in pairs) + "}"
    )
)


@hypothesis.given(rows=st.lists(objects | values, max_size=4))
@hypothesis.settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_reads_any_rows_as_small_ones(rows, monkeypatch):
    """
    Odd values, bad ones, unknown fields and broken JSON give equal values, or
    equal errors, in both ways.
    """
    array = ",".join(rows).encode()

    check(
        Transactions,
        b'{"entity_id":"e","transactions":[%s]}' % array,
        monkeypatch,
    )
    check(
        Insights,
        b'{"session_id":"s","new":1.0,"accounts":[null,{"account_id":"a","x":'
        b'{},"data":{"account_id":"b","y":1,"transactions":[%s]}}]}' % array,
        monkeypatch,
    )


def large(rows):
    """Return a large response with so many rows."""
    row = {
        "amount": 1.5,
        "date": "2026-01-08",
        "hash": "x" * 40,
        "added_later": {"x": [1.50]},
    }
    return json.dumps(
        {"entity_id": "e", "transactions": [row] * rows}
    ).encode()


def test_names_the_place_of_a_bad_row():
    """
    One bad row in thousands is an error with its place.
    """
    raw = large(3000).replace(b"}]}", b'},{"amount":true}]}')

    with pytest.raises(InvalidResponseError) as caught:
        responses.decode(Transactions, raw)

    assert caught.value.problems == (
        "must be a number, not bool @ $.transactions[3000].amount",
    )


def test_a_row_outlives_its_response():
    """
    A row that is kept holds nothing of the others.
    """
    rows = responses.decode(Transactions, large(3000)).transactions
    row = rows[7]
    del rows
    gc.collect()

    assert gc.get_referents(row._document) == []
    assert len(bytes(row._document)) < 200
    assert row.raw["added_later"] == {"x": [Decimal("1.50")]}
    assert not hasattr(row, "added_later")
    assert row == Transaction(amount=row.amount, date=row.date, hash="x" * 40)
