"""
A table of texts that is as small as a check for duplicates may be.
"""

import struct

from typing import Final


_ENTRY: Final = struct.Struct("<qI")
_SIZE: Final = _ENTRY.size
_KEY: Final = 8
# Buckets at the start, and entries of one on average: with more, searching
# takes longer; with fewer, what Python needs for each takes more room.
_FIRST: Final = 16
_USUAL: Final = 24


class CompactMap:
    """
    Remembers texts by a digest of 8 bytes each, and a number with each.

    It takes 14 to 18 bytes a text; a `dict` takes ten times that. Two of a
    million texts share a digest with a probability of 1 in 37 million.

    Entries stand in buckets one behind the other, where `bytes.find` finds
    them. Buckets are split one at a time and in turn as it grows (Litwin's
    linear hashing), so that no text takes long.
    """

    def __init__(self) -> None:
        self._buckets = [b""] * _FIRST
        # How many there were when the first one was split last.
        self._round = _FIRST
        self._count = 0
        self._most = _FIRST * _USUAL

    def __len__(self) -> int:
        return self._count

    def exchange(self, text: str, number: int) -> int | None:
        """
        Remember *number*, below 2**32, for *text*, and return the one before.
        """
        key, buckets = digest(text), self._buckets
        at = key & (2 * self._round - 1)
        if at >= len(buckets):
            at -= self._round
        bucket, entry = buckets[at], _ENTRY.pack(key, number)
        start = bucket.find(entry[:_KEY])
        while start >= 0:
            end = start + _SIZE
            if not start % _SIZE:
                buckets[at] = b"".join((bucket[:start], entry, bucket[end:]))
                return int.from_bytes(bucket[start + _KEY : end], "little")
            # It lies across two others.
            start = bucket.find(entry[:_KEY], start + 1)
        buckets[at] = bucket + entry
        self._count += 1
        if self._count > self._most:
            self._split()
        return None

    def _split(self) -> None:
        buckets, size = self._buckets, self._round
        at = len(buckets) - size
        parts: tuple[list[bytes], list[bytes]] = [], []
        for key, number in _ENTRY.iter_unpack(buckets[at]):
            parts[bool(key & size)].append(_ENTRY.pack(key, number))
        buckets[at] = b"".join(parts[0])
        buckets.append(b"".join(parts[1]))
        self._most += _USUAL
        if len(buckets) == 2 * size:
            self._round = len(buckets)


def digest(text: str) -> int:
    """
    Make a number of 64 bits out of a text.

    Python's own hash serves: the table lives no longer than the process, and
    the hash is keyed for each, so that nobody can make texts collide.
    """
    return hash(text)
