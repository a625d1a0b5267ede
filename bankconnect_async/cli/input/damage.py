"""
Detection of values that spreadsheets, data frames and typing damage.

A damaged link id would create a session for a customer who does not exist.
Nothing is repaired here, because only the source has the right value.
"""

import re
import unicodedata

from collections.abc import Mapping
from typing import Final


_LONGEST_QUOTE: Final = 40

# Unicode calls these letters or symbols, but they are invisible.
_FILLERS: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe00\ufe0e\ufe0f\uffa0"
)
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f]")
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
# Scripts such as Devanagari and Persian need these between letters.
_JOINERS: Final = "\u200c\u200d"
# Visible format characters: marks above Arabic and Syriac numbers.
_DRAWN = re.compile("[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2]")
# `str.isprintable` accepts these.
_ODD = re.compile(f"[\ufffd{''.join(_FILLERS)}]")
_LOST: Final = "\ufffd"

_QUOTES: Final = (
    "\"'`\u00b4\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f"
    "\u00ab\u00bb\u2039\u203a\u2032\u2033\uff02\uff07"
)
_MONTHS: Final = (
    "Jan|Feb|Mar|Mär|Mrz|Apr|May|Mai|Jun|Jul|Aug|Sep|Sept|Oct|Okt|Nov|Dec|Dez"
)
_AS_TEXT: Final = "format the column as text, and export it again"

# The pattern and the message for each kind of damage.
_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "blank": (" .*|.* ", "begins or ends with a blank: remove that"),
    "formula": (
        # An = at the end is base64 padding.
        "[=\uff1d].*",
        'begins with =, as a formula or ="00123" does: export the value alone',
    ),
    "quoted": (
        f"[{_QUOTES}].*|.*[{_QUOTES}]",
        "begins or ends with a quote: write it without",
    ),
    "scientific": (
        # Java and its libraries leave out the plus.
        r"[+-]?[0-9]+(?:[.,][0-9]+[eE][+-]?|[eE][+-])[0-9]{1,3}",
        f"looks like a number that has lost digits: {_AS_TEXT}",
    ),
    "decimal": (
        r"[+-]?[0-9]+[.,]0+",
        f"looks like a number with decimals added: {_AS_TEXT} (pandas: "
        f"dtype=str)",
    ),
    "grouped": (
        r"[+-]?[0-9]{1,3}(?:,[0-9]{2,3})*,[0-9]{3}(?:\.[0-9]*)?",
        f"looks like a number with its digits in groups: {_AS_TEXT}",
    ),
    "date": (
        rf"[0-9]{{1,2}}(?:-|\. ?)(?:{_MONTHS})(?:[- ][0-9]{{2,4}})?"
        rf"|(?:{_MONTHS})[- ][0-9]{{2,4}}"
        r"|[0-9]{4}-[0-9]{2}-[0-9]{2}[ T]00:00:00",
        f"looks like a date made by a spreadsheet or data frame: {_AS_TEXT}",
    ),
    "error": (
        # Also in other languages, such as #NV and #WERT!; LibreOffice: Err.
        r"#(?i:N/A(?: N/A)?|NA|NV|[^\W_][\w/]*[!?])|Err:[0-9]{3}",
        "is the error of a formula in a spreadsheet: correct it there",
    ),
    "narrow": (
        "#+",
        "is what a spreadsheet shows in too narrow a column: widen it, and "
        "export it again",
    ),
    "unreadable": (
        r"[\W_]+",
        "has no letter and no digit, as when characters were lost: write the "
        "value that was meant",
    ),
    "null": (
        # Data frames, databases and languages write these words.
        r"(?i:[<(\[]?(?:na|nil|null)[>)\]]?|\[object object\]|none|undefined"
        r"|nat|-?(?:inf|infinity|nan)|n\.a\.|n/a|\\n|-?1\.#(?:ind|qnan))",
        "is {}, which stands for no value: write the value, or leave it out",
    ),
}
_DAMAGE = re.compile(
    "|".join(f"(?P<{kind}>{look})" for kind, (look, _) in _KINDS.items()),
    re.DOTALL,
)


def trim(text: str) -> str:
    """
    Remove blanks and invisible characters at both ends.
    """
    trimmed = text.strip()
    if trimmed.isascii() and trimmed.isprintable():
        return trimmed
    start, end = 0, len(trimmed)
    while start < end and is_invisible(trimmed[start]):
        start += 1
    while start < end and is_invisible(trimmed[end - 1]):
        end -= 1
    return trimmed[start:end]


def quote(text: str) -> str:
    """
    Quote the beginning of a text for a message.
    """
    if len(text) > _LONGEST_QUOTE:
        text = f"{text[: _LONGEST_QUOTE - 1]}…"
    return repr(text)


def is_invisible(char: str) -> bool:
    """
    Tell whether a character is invisible or a blank.
    """
    return (
        unicodedata.category(char) in _INVISIBLE and not _DRAWN.match(char)
    ) or char in _FILLERS


def name_of(char: str) -> str:
    """
    Return the name of an invisible character.
    """
    if char == " ":
        return "a blank"
    name = unicodedata.name(char, "")
    return f"U+{ord(char):04X}" + (f" ({name.lower()})" if name else "")


def find_damage(text: str) -> str | None:
    """
    Return what damaged a text, and how to correct it.

    Args:
        text: A link id, or another identifier.
    """
    if not text:
        return None
    is_plain = text.isprintable() and (text.isascii() or not _ODD.search(text))
    if not is_plain and (problem := _find_invisible(text)):
        return problem
    if match := _DAMAGE.fullmatch(text):
        return _KINDS[str(match.lastgroup)][1].format(quote(text))
    return None


def is_formula_error(text: str) -> bool:
    """
    Tell whether a text is the error of a spreadsheet formula.
    """
    match = _DAMAGE.fullmatch(text)
    return match is not None and match.lastgroup == "error"


def _find_invisible(text: str) -> str | None:
    if match := _CONTROL.search(text):
        return f"holds the control character {name_of(match[0])}: remove it"
    for char in (text[0], text[-1]):
        if is_invisible(char):
            return f"begins or ends with {name_of(char)}: remove that"
    if _LOST in text:
        return (
            "holds U+FFFD, where characters were lost: export it again in "
            "UTF-8"
        )
    for before, char, after in zip(text, text[1:], text[2:], strict=False):
        joins = char in _JOINERS and not (before + after).isascii()
        if char != " " and is_invisible(char) and not joins:
            return f"holds the invisible character {name_of(char)}: remove it"
    return None
