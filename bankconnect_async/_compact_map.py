"""
A map from texts to numbers that is small enough for millions of them.
"""

from typing import Final


# The lowest 8 bits of a digest choose one of the first buckets, so that the
# other 7 bytes are enough as a key in it.
_BITS: Final = 8
_FIRST: Final = 2**_BITS
_KEY: Final = 7
_NUMBER: Final = 4
_SIZE: Final = _KEY + _NUMBER
# The entries of a bucket on average: more of them make searches slower, fewer
# make the allocator waste more on buckets of many sizes.
_ENTRIES: Final = 64


class CompactMap:
    """
    Maps texts, kept as digests of 8 bytes, to numbers below 2**32.

    It takes 14 to 16 bytes for each text; a `dict` takes ten times that. Two
    of a million texts share a digest with a probability of 1 in 37 million.

    A bucket is a `bytes` object with one entry after the other, which
    `bytes.find` searches. As the map grows, buckets are split one at a time
    (Litwin's linear hashing), so that no text takes long.
    """

    def __init__(self) -> None:
        self._buckets = [b""] * _FIRST
        # The number of buckets when the first one was split last.
        self._round = _FIRST
        self._count = 0
        self._most = _FIRST * _ENTRIES

    def __len__(self) -> int:
        return self._count

    def get(self, text: str) -> int | None:
        """
        Return the number of *text*; `None` if it has none.
        """
        at, _, start = self._find(text)
        return None if start < 0 else _number(self._buckets[at], start)

    def exchange(self, text: str, number: int) -> int | None:
        """
        Map *text* to *number*, and return its earlier number.
        """
        at, key, start = self._find(text)
        bucket = self._buckets[at]
        entry = key + number.to_bytes(_NUMBER, "little")
        if start >= 0:
            self._buckets[at] = b"".join(
                (bucket[:start], entry, bucket[start + _SIZE :])
            )
            return _number(bucket, start)
        self._buckets[at] = bucket + entry
        self._count += 1
        if self._count > self._most:
            self._split()
        return None

    def _find(self, text: str) -> tuple[int, bytes, int]:
        """
        Return the place of the bucket, the key, and the start of the entry.
        """
        number = digest(text)
        at = number & (2 * self._round - 1)
        if at >= len(self._buckets):
            at -= self._round
        bucket, key = (
            self._buckets[at],
            (number >> _BITS).to_bytes(_KEY, "little", signed=True),
        )
        start = bucket.find(key)
        while start % _SIZE and start >= 0:
            # The bytes belong to two other entries.
            start = bucket.find(key, start + 1)
        return at, key, start

    def _split(self) -> None:
        buckets, size = self._buckets, self._round
        at = len(buckets) - size
        # The bit of a digest that tells the two parts apart.
        place, bit = divmod(size.bit_length() - 1 - _BITS, 8)
        bucket = buckets[at]
        parts: tuple[list[bytes], list[bytes]] = [], []
        for start in range(0, len(bucket), _SIZE):
            part = parts[bucket[start + place] >> bit & 1]
            part.append(bucket[start : start + _SIZE])
        buckets[at] = b"".join(parts[0])
        buckets.append(b"".join(parts[1]))
        self._most += _ENTRIES
        if len(buckets) == 2 * size:
            self._round = len(buckets)


def _number(bucket: bytes, start: int) -> int:
    return int.from_bytes(bucket[start + _KEY : start + _SIZE], "little")


def digest(text: str) -> int:
    """
    Digest a text to 64 bits.

    Python's own hash does: the map lives no longer than the process, whose
    secret key prevents made-up collisions.
    """
    return hash(text)
