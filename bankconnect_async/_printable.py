"""
Foreign text as one printable line.

Text from a server, a browser or a file must not move the cursor, reverse the
reading direction or start a second line in a terminal or a log.
"""

import re

from typing import Final
from urllib.parse import quote


_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_ELLIPSIS: Final = "…"
_DELETE: Final = 0x7F
# All characters except printable ASCII and the line feed.
_RARE: Final = r"[^\n\x20-\x7e]"


def one_line(text: str, length: int | None = None) -> str:
    """
    Replace characters that are not printable, and cut a text that is too long.

    Blanks of any kind become spaces. Control characters, bidirectional
    overrides, zero-width characters, lone surrogates and unassigned code
    points become U+FFFD.

    Args:
        text: The text.
        length: The greatest length of the result; `None` for no limit.
    """
    if length is not None and len(text) > length:
        text = f"{text[: length - 1]}{_ELLIPSIS}"
    # Nearly all texts are, and the check needs no loop in Python.
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else " " if char.isspace() else _REPLACEMENT
        for char in text
    )


def printable_url(url: str) -> str:
    """
    Percent-encode characters that are not printable, as browsers do.
    """
    if url.isprintable():
        return url
    return "".join(
        char if char.isprintable() else quote(char, errors="replace")
        for char in url
    )


def printable_json(raw: bytes) -> bytes:
    """
    Escape characters that are not printable in a JSON text, which keeps its
    meaning.
    """
    # Looking for the number of a byte is eight times faster than for the byte.
    if raw.isascii() and _DELETE not in raw:
        return raw
    return re.sub(_RARE, _escape, raw.decode()).encode()


def _escape(match: "re.Match[str]") -> str:
    char = match[0]
    if char.isprintable():
        return char
    units = char.encode("utf-16-be").hex()
    return "".join(
        f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)
    )
