"""
The set that knows duplicate link ids.
"""

import tracemalloc

import pytest

from bankconnect_async.cli import _digests
from bankconnect_async.cli._digests import DigestSet


def test_knows_what_it_has():
    """
    A text is new once, whatever was added since.
    """
    known = DigestSet()
    texts = [f"customer-{number}" for number in range(20_000)]

    assert all(map(known.add, texts))
    assert not any(map(known.add, texts))
    assert known.add("customer-20000")
    assert len(known) == 20_001


def test_digests_in_one_place(monkeypatch):
    """
    Digests that all belong to the last slot are told apart.
    """
    monkeypatch.setattr(_digests, "_digest", int)
    known = DigestSet()
    size = len(known._slots)
    texts = [str(size * number - 1) for number in range(1, 50)]

    assert all(map(known.add, texts))
    assert not any(map(known.add, texts))


@pytest.mark.parametrize("text", ["", "क", "\0", "a" * 500])
def test_any_text(text):
    """
    Every text that a link id can be has a digest that marks no free slot.
    """
    assert 0 < _digests._digest(text) < 2**64


def test_small():
    """
    A row costs at most 16 bytes once the table is larger than its start.
    """
    known = DigestSet()
    tracemalloc.start()
    try:
        worst = 0.0
        for number in range(1, 60_001):
            known.add(f"customer-{number}")
            if number > 5_000 and not number % 500:
                worst = max(worst, tracemalloc.get_traced_memory()[0] / number)
    finally:
        tracemalloc.stop()

    assert worst <= 16
