"""
Foreign text as one printable line.

What a server, a browser or a file names must not move the cursor, reverse
the reading direction or begin a second line in a terminal or a log.
"""

from typing import Final


_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_ELLIPSIS: Final = "…"


def one_line(text: str, length: int | None = None) -> str:
    """
    Replace what is not printable, and cut what is too long.

    Blanks of any kind become spaces. Control characters, bidirectional
    overrides, zero-width characters, lone surrogates and unassigned code
    points become U+FFFD.

    Args:
        text: Any text.
        length: The longest result; `None` for no limit.
    """
    if length is not None and len(text) > length:
        text = f"{text[: length - 1]}{_ELLIPSIS}"
    # Nearly all texts are, and that is known without a loop in Python.
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else " " if char.isspace() else _REPLACEMENT
        for char in text
    )
