"""
A table of texts that is as small as a check for duplicates may be.
"""

from array import array
from typing import Final


_FIRST_SIZE: Final = 1024
_FREE: Final = 0
_ALL_BITS: Final = 2**64 - 1


class DigestTable:
    """
    Remembers texts by a digest of 8 bytes each, and a number with each.

    It has open addressing, a third of it free at most, and takes 15 to 23
    bytes a text; a `dict` takes ten times that. Two of a million texts share
    a digest with a probability of 1 in 37 million.
    """

    def __init__(self) -> None:
        self._make_room(_FIRST_SIZE)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def swap(self, text: str, number: int) -> int | None:
        """
        Remember *number*, below 2**32, for *text*, and return the one before.
        """
        before = self._put(digest(text), number)
        if before is None:
            self._count += 1
            if self._count > self._most:
                self._grow()
        return before

    def _put(self, key: int, number: int) -> int | None:
        slots = self._slots
        size = len(slots)
        at = key % size
        while (found := slots[at]) != _FREE:
            if found == key:
                before = self._numbers[at]
                self._numbers[at] = number
                return before
            at = (at + 1) % size
        slots[at] = key
        self._numbers[at] = number
        return None

    def _make_room(self, size: int) -> None:
        self._slots = array("Q", [_FREE]) * size
        self._numbers = array("I", [0]) * size
        # Looking for a free slot takes longer the fewer there are.
        self._most = size * 4 // 5

    def _grow(self) -> None:
        keys, numbers = self._slots, self._numbers
        self._make_room(len(keys) * 3 // 2)
        for key, number in zip(keys, numbers, strict=True):
            if key != _FREE:
                self._put(key, number)


def digest(text: str) -> int:
    """
    Make a number of 64 bits out of a text; it is never 0.

    Python's own hash serves: the table lives no longer than the process, and
    the hash is keyed for each, so that nobody can make texts collide.
    """
    # The value that marks a free slot is given away.
    return hash(text) & _ALL_BITS or 1
