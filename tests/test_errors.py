"""
The error tree: every class is documented, can be pickled and keeps secrets.
"""

import inspect
import pickle

import pytest

from bankconnect_async import Attempt, BankConnectError, Delivery, Phase
from bankconnect_async import errors as errors_module
from bankconnect_async.errors import (
    ConfigurationError,
    DecodeError,
    InvalidRequestError,
    InvalidResponseError,
    ResponseError,
    TransportError,
)


CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors_module, inspect.isclass)
    if issubclass(cls, Exception) and not cls.__name__.startswith("_")
]


@pytest.mark.parametrize("cls", CLASSES)
def test_has_the_one_root(cls):
    """
    `BankConnectError` catches every error of ours.
    """
    assert issubclass(cls, BankConnectError)


@pytest.mark.parametrize("cls", CLASSES)
def test_stands_in_the_tree(cls):
    """
    The module docstring shows every class.
    """
    assert f" {cls.__name__} " in f"{errors_module.__doc__}".replace("\n", " ")


@pytest.mark.parametrize("cls", CLASSES)
def test_survives_pickling(cls):
    """
    Class, message and attributes survive a trip to another process.
    """
    error = cls("what happened")
    error.attempts = (
        Attempt(
            number=1,
            phase=Phase.SENT,
            delivery=Delivery.AMBIGUOUS,
            reason="x",
        ),
    )
    error.delivery = Delivery.AMBIGUOUS
    error.add_note("noted")

    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is cls
    assert copy.message == "what happened"
    assert copy.attempts == error.attempts
    assert copy.delivery is Delivery.AMBIGUOUS
    assert copy.__notes__ == ["noted"]


def test_facts_survive_pickling():
    """
    The attributes of each branch survive pickling.
    """
    fields = {"from_date": ("must be before to_date",)}
    for error, facts in [
        (InvalidRequestError(fields=fields), {"fields": fields}),
        (ConfigurationError(fields=fields), {"fields": fields}),
        (
            TransportError(delivery=Delivery.NOT_SENT, phase=Phase.QUEUED),
            {"delivery": Delivery.NOT_SENT, "phase": Phase.QUEUED},
        ),
        (
            ResponseError(
                status=429, code="X", retry_after=2.0, fields=fields
            ),
            {"status": 429, "code": "X", "retry_after": 2.0, "fields": fields},
        ),
        (DecodeError(problems=["a @ $"]), {"problems": ("a @ $",)}),
        (InvalidResponseError(status=201), {"status": 201}),
    ]:
        copy = pickle.loads(pickle.dumps(error))
        for name, value in facts.items():
            assert getattr(copy, name) == value


def test_bodies_are_neither_printed_nor_pickled():
    """
    A response body stays in the process that received it.
    """
    error = ResponseError("refused", body=b"canary", headers={"x": "canary"})

    assert error.body == b"canary"
    assert b"canary" not in pickle.dumps(error)
    assert "canary" not in f"{error!r} {error}"


def test_message_is_one_line_with_the_story():
    """
    str() gives the failure, the number of attempts and the reason to stop.
    """
    error = BankConnectError("the connection was lost")
    assert str(error) == "the connection was lost"

    error.attempts = tuple(
        Attempt(
            number=number,
            phase=Phase.SENT,
            delivery=Delivery.AMBIGUOUS,
            reason="x",
            stopped=stopped,
        )
        for number, stopped in [(1, None), (2, "no attempts left")]
    )

    assert str(error) == (
        "the connection was lost (2 attempts; no attempts left)"
    )
    assert error.message == "the connection was lost"
    assert BankConnectError().message == ""


def test_problems_make_the_message():
    """
    Without a message an error lists its problems.
    """
    assert str(DecodeError(problems=["a @ $.x", "b @ $.y"])) == (
        "a @ $.x; b @ $.y"
    )
    assert str(InvalidRequestError(fields={"x": ("1", "2")})) == "x: 1; x: 2"
