"""
A set of texts that is as small as a check for duplicates may be.
"""

import hashlib

from array import array
from typing import Final


_FIRST_SIZE: Final = 1024
_FREE: Final = 0


class DigestSet:
    """
    Remembers texts by a digest of 8 bytes each.

    It is a table with open addressing, a third of it free at most, and takes
    10 to 15 bytes a text; a `set` takes ten times that. Two of a million
    texts share a digest with a probability of 1 in 37 million.
    """

    def __init__(self) -> None:
        self._slots = _free_slots(_FIRST_SIZE)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, text: str) -> bool:
        """Remember *text*, and tell whether it is new."""
        if 5 * self._count >= 4 * len(self._slots):
            self._grow()
        is_new = self._put(_digest(text))
        self._count += is_new
        return is_new

    def _put(self, digest: int) -> bool:
        slots = self._slots
        size = len(slots)
        at = digest % size
        while (found := slots[at]) != _FREE:
            if found == digest:
                return False
            at = (at + 1) % size
        slots[at] = digest
        return True

    def _grow(self) -> None:
        full = self._slots
        self._slots = _free_slots(len(full) * 3 // 2)
        for digest in full:
            if digest != _FREE:
                self._put(digest)


def _free_slots(size: int) -> "array[int]":
    return array("Q", [_FREE]) * size


def _digest(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    # The value that marks a free slot is given away.
    return int.from_bytes(digest, "big") or 1
