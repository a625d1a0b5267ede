"""
Numbered lines of a file, of bounded length.
"""

from collections import deque
from collections.abc import Sequence
from typing import BinaryIO, Final, Self

import attrs


UTF8_BOM: Final = b"\xef\xbb\xbf"

# Longer than any row of documented parameters.
_LONGEST: Final = 2**20


@attrs.frozen(kw_only=True)
class InputLine:
    """
    One line with its line end.

    Attributes:
        number: The number of the line, from 1.
        raw: The bytes; only the first ones of a line that is too long.
        text: The text, as far as the bytes can be decoded.
        problem: The reason why the line cannot be used, if there is one.
    """

    number: int
    raw: bytes = attrs.field(repr=False)
    text: str = attrs.field(repr=False)
    problem: str | None = None


class InputLines:
    """
    Iterates over the lines of a binary file.

    Only the beginning of a line that is too long is kept in memory.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._number = 0
        self._pending: deque[InputLine] = deque()
        self._is_in_long_line = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> InputLine:
        if self._pending:
            return self._pending.popleft()
        if self._is_in_long_line:
            self._skip_rest()
        raw = self._stream.readline(_LONGEST)
        if not raw:
            raise StopIteration
        self._number += 1
        if self._number == 1:
            raw = raw.removeprefix(UTF8_BOM)
        if len(raw) == _LONGEST and not raw.endswith(b"\n"):
            # The next call skips the rest, which may have no end.
            self._is_in_long_line = True
            return InputLine(
                number=self._number,
                raw=raw,
                text="",
                problem=f"is longer than {_LONGEST} bytes: check its quotes "
                f"and line ends",
            )
        return _decode(self._number, raw)

    def put_back(self, lines: Sequence[InputLine]) -> None:
        """Yield *lines* again, before all others."""
        self._pending.extendleft(reversed(lines))

    def _skip_rest(self) -> None:
        self._is_in_long_line = False
        while rest := self._stream.readline(_LONGEST):
            if rest.endswith(b"\n"):
                return


def _decode(number: int, raw: bytes) -> InputLine:
    problem = None
    if b"\0" in raw:
        problem = "holds a NUL byte: export the file again"
    elif b"\x1a" in raw and raw.rstrip().endswith(b"\x1a"):
        problem = (
            "ends with the byte 0x1A, an end-of-file mark of old programs: "
            "remove it"
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode(errors="replace")
        problem = "holds bytes that are not UTF-8: save the file in UTF-8"
    return InputLine(number=number, raw=raw, text=text, problem=problem)
