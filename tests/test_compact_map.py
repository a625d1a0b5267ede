"""
The map that finds duplicate link ids.
"""

import operator
import tracemalloc

import pytest

from bankconnect_async import _compact_map as compact_map
from bankconnect_async._compact_map import CompactMap


def test_knows_what_it_has():
    """
    A text is new once and keeps its number, whatever is added.
    """
    known = CompactMap()
    texts = [f"customer-{number}" for number in range(20_000)]
    numbers = range(len(texts))

    assert not any(map(known.exchange, texts, numbers))
    assert list(map(known.exchange, texts, numbers)) == list(numbers)
    assert list(map(known.get, texts)) == list(numbers)
    assert known.get("customer-20000") is None
    assert len(known) == 20_000
    assert known.exchange("customer-20000", 2**32 - 1) is None
    assert known.exchange("customer-20000", 0) == 2**32 - 1
    assert len(known) == 20_001


def test_digests_in_one_place(monkeypatch):
    """
    Digests that all belong into the first bucket are told apart.
    """
    monkeypatch.setattr(compact_map, "digest", int)
    known = CompactMap()
    texts = [str(number << 32) for number in range(200)]

    assert [known.exchange(text, at) for at, text in enumerate(texts)] == (
        [None] * 200
    )
    assert [known.exchange(text, 0) for text in texts] == list(range(200))


def test_digest_across_entries(monkeypatch):
    """
    Bytes of two entries that look like a digest are not one.
    """
    monkeypatch.setattr(compact_map, "digest", int)
    known = CompactMap()
    # The end of the first key and its number are what is looked for. The
    # lowest byte of a digest is not part of its key.
    first, other = str(0x01_000000_000000 << 8), str(0x02_000000_010000 << 8)
    known.exchange(first, 0x02000000)
    (bucket,) = filter(None, known._buckets)

    assert (0x02_000000_010000).to_bytes(7, "little") in bucket
    assert known.get(other) is None
    assert known.exchange(other, 7) is None
    assert known.exchange(other, 8) == 7
    assert known.exchange(first, 0) == 0x02000000


def test_grows_evenly():
    """
    No text waits until all others are moved.
    """
    known = CompactMap()
    before = list(known._buckets)
    worst = 0
    for number in range(20_000):
        known.exchange(str(number), 0)
        now = list(known._buckets)
        # An old bucket is the same object as long as nothing was moved.
        worst = max(worst, sum(map(operator.is_not, before, now)))
        before = now

    assert worst == 2
    assert len(before) == -(-20_000 // 64)


@pytest.mark.parametrize("text", ["", "क", "\0", "a" * 500])
def test_any_text(text):
    """
    Any text can be a key.
    """
    known = CompactMap()

    assert known.exchange(text, 7) is None
    assert known.exchange(text, 0) == 7


@pytest.mark.long
def test_small():
    """
    A text takes at most 14 bytes once the map has grown.
    """
    known = CompactMap()
    tracemalloc.start()
    try:
        worst = 0.0
        for number in range(1, 60_001):
            known.exchange(f"customer-{number}", number)
            if number > 5_000 and not number % 500:
                worst = max(worst, tracemalloc.get_traced_memory()[0] / number)
    finally:
        tracemalloc.stop()

    assert worst <= 14
