"""
The table that knows duplicate link ids.
"""

import tracemalloc

import pytest

from bankconnect_async import _digests
from bankconnect_async._digests import DigestTable


def test_knows_what_it_has():
    """
    A text is new once, whatever was added since, and keeps its number.
    """
    known = DigestTable()
    texts = [f"customer-{number}" for number in range(20_000)]
    numbers = range(len(texts))

    assert not any(map(known.swap, texts, numbers))
    assert list(map(known.swap, texts, numbers)) == list(numbers)
    assert known.swap("customer-20000", 2**32 - 1) is None
    assert known.swap("customer-20000", 0) == 2**32 - 1
    assert len(known) == 20_001


def test_digests_in_one_place(monkeypatch):
    """
    Digests that all belong to the last slot are told apart.
    """
    monkeypatch.setattr(_digests, "digest", int)
    known = DigestTable()
    size = len(known._slots)
    texts = [str(size * number - 1) for number in range(1, 50)]

    assert {known.swap(text, int(text)) for text in texts} == {None}
    assert [known.swap(text, 0) for text in texts] == list(map(int, texts))


@pytest.mark.parametrize("text", ["", "क", "\0", "a" * 500])
def test_any_text(text):
    """
    Every text that a link id can be has a digest that marks no free slot.
    """
    assert 0 < _digests.digest(text) < 2**64


def test_small():
    """
    A row costs at most 23 bytes once the table is larger than its start.
    """
    known = DigestTable()
    tracemalloc.start()
    try:
        worst = 0.0
        for number in range(1, 60_001):
            known.swap(f"customer-{number}", number)
            if number > 5_000 and not number % 500:
                worst = max(worst, tracemalloc.get_traced_memory()[0] / number)
    finally:
        tracemalloc.stop()

    assert worst <= 23
