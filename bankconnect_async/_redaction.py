"""
Redaction of secrets that a server echoes, in any encoding.
"""

import base64
import bisect
import functools
import json
import re
import sys

from collections.abc import Iterable, Iterator, Sequence
from html.entities import html5
from typing import Final, TypeAlias
from urllib.parse import quote


_REDACTED: Final = "***"
# A shorter secret occurs in many ordinary words.
_SHORTEST: Final = 4
# Servers cut what they echo: this much of a secret is redacted as well.
_SHORTEST_PART: Final = 8
# The most encodings on top of each other.
_LAYERS: Final = 6

# Escapes of URLs, JSON, JavaScript and HTML, each of which stands for one
# character; and line ends, NUL bytes (of UTF-16) and backslashes, which
# encodings put between characters. All begin with a literal, so that `re`
# skips other text quickly.
_ESCAPES: Final = (
    r"%(?P<url>[0-9A-Fa-f]{2})|%[uU](?P<iis>[0-9A-Fa-f]{4})"
    r"|\\\\*(?:u(?P<json>[0-9A-Fa-f]{4})|u\{(?P<js>[0-9A-Fa-f]{1,6})\}"
    r"|x(?P<hex>[0-9A-Fa-f]{2})|[rn])?"
    r"|&\#[xX]0*(?P<entity>[0-9A-Fa-f]{1,6});?"
    r"|&\#0*(?P<decimal>[0-9]{1,7});?|&(?P<name>[A-Za-z]{2,16});?"
    r"|\r|\n|\0"
)
# Mail's `=3D`, which would take the first two characters of a secret behind
# an equals sign: it is looked for by itself.
_MAIL_ESCAPES: Final = r"=(?P<mail>[0-9A-Fa-f]{2})|=(?=\r|\n|\\+[rn])"
_PLAIN: Final = re.compile(_ESCAPES)
_MAIL: Final = re.compile(f"{_ESCAPES}|{_MAIL_ESCAPES}")
_IN_MAIL: Final = re.compile(_MAIL_ESCAPES)


_Span: TypeAlias = tuple[int, int]
# The start and the end, and the length of the unescaped text.
_Escape: TypeAlias = tuple[int, int, int]


class Redactor:
    """
    Replaces secrets in texts by asterisks.

    It finds them as they are, in any case; percent-encoded, or escaped for
    JSON, JavaScript, HTML or mail, several times over; in hexadecimal; and in
    base64, at any offset of the encoded text. Half of a secret, at its start
    or its end, is replaced like a whole one, because servers cut what they
    echo.

    Args:
        secrets: The secrets. Those of three characters or fewer are ignored.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        needles = {
            needle
            for secret in secrets
            if len(secret) >= _SHORTEST
            for needle in _needles(secret)
            # An unescaped secret can be short or empty.
            if len(needle) >= _SHORTEST
        }
        # The text before a half, the half, and the text after it.
        self._halves: Final = {
            half for needle in needles for half in _halve(needle)
        }

    def redact(self, text: str) -> str:
        """
        Replace every secret in *text* by asterisks.
        """
        spans = sorted(self._find(text))
        pieces: list[str] = []
        last = 0
        for start, end in spans:
            if start >= last:
                pieces += text[last:start], _REDACTED
            last = max(last, end)
        return "".join([*pieces, text[last:]])

    def redact_bytes(self, raw: bytes) -> bytes:
        """
        Replace every secret in *raw* by asterisks, whatever its encoding.
        """
        # Latin-1 has one character for each byte, so no byte is lost.
        return self.redact(raw.decode("latin-1")).encode("latin-1")

    def _find(self, text: str) -> Iterator[_Span]:
        if not self._halves:
            return
        yield from self._find_in(_fold(text), [])
        patterns = [_PLAIN, _MAIL] if _IN_MAIL.search(text) else [_PLAIN]
        for pattern in patterns:
            layers: list[_Layer] = []
            plain = text
            while len(layers) < _LAYERS:
                plain, escapes = _unescape_once(plain, pattern)
                if not escapes:
                    break
                layers.append(_Layer(escapes))
                yield from self._find_in(_fold(plain), layers)

    def _find_in(
        self, plain: str, layers: Sequence["_Layer"]
    ) -> Iterator[_Span]:
        for before, half, after in self._halves:
            found = plain.find(half)
            while found >= 0:
                last = found + len(half)
                left = plain[max(0, found - len(before)) : found]
                right = plain[last : last + len(after)]
                first = found - _common(before[::-1], left[::-1])
                last += _common(after, right)
                yield _trace(first, last, layers)
                found = plain.find(half, last)


@functools.lru_cache(maxsize=16)
def redactor(secrets: tuple[str, ...]) -> Redactor:
    """
    Return the redactor of *secrets*; building one takes a moment.
    """
    return Redactor(secrets)


def _halve(needle: str) -> Iterator[tuple[str, str, str]]:
    length = max(_SHORTEST_PART, (len(needle) + 1) // 2)
    yield "", needle[:length], needle[length:]
    if length < len(needle):
        yield needle[:-length], needle[-length:], ""


def _common(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    shorter = min(len(one), len(other))
    return next((at for at, (a, b) in pairs if a != b), shorter)


def _needles(secret: str) -> Iterator[str]:
    raw = secret.encode(errors="replace")
    # As a text, and as bytes that are read as one character each.
    for text in {secret, raw.decode("latin-1")}:
        yield _fold(text)
        # A part that looks like an escape is unescaped in an echo, too.
        for pattern in (_PLAIN, _MAIL):
            yield _fold(_unescape(text, pattern))
    escaped = quote(secret, safe="", errors="replace")
    for form in {raw, escaped.encode(), json.dumps(secret)[1:-1].encode()}:
        yield form.hex()
        yield form.hex(" ")
        yield form.hex(":")
        for once in _in_base64(form):
            yield _fold(once)
            yield from map(_fold, _in_base64(once.encode()))


def _in_base64(raw: bytes) -> Iterator[str]:
    # The bytes before a secret shift it by 0, 2 or 4 bits; characters that
    # hold bits of its neighbours are left out.
    for shift in range(3):
        first = (shift * 8 + 5) // 6
        last = (shift + len(raw)) * 8 // 6
        text = base64.b64encode(b"\0" * shift + raw).decode()[first:last]
        yield text
        yield text.replace("+", "-").replace("/", "_")


def _fold(text: str) -> str:
    # A form encodes a blank as a plus sign, and a server may confuse them.
    # Positions must stay, so a letter with a longer lower case keeps its case.
    lower = text.lower()
    if len(lower) != len(text):
        lower = "".join(
            small if len(small := char.lower()) == 1 else char for char in text
        )
    return lower.replace("+", " ")


def _unescape(text: str, pattern: "re.Pattern[str]") -> str:
    for _ in range(_LAYERS):
        text, _escapes = _unescape_once(text, pattern)
    return text


def _unescape_once(
    text: str, pattern: "re.Pattern[str]"
) -> tuple[str, list[_Escape]]:
    escapes: list[_Escape] = []

    def replace(match: "re.Match[str]") -> str:
        char = "" if match.lastgroup is None else _char(match)
        if char is None:
            return match[0]
        escapes.append((*match.span(), len(char)))
        return char

    return pattern.sub(replace, text), escapes


def _char(match: "re.Match[str]") -> str | None:
    kind = str(match.lastgroup)
    digits = match[kind]
    if kind == "name":
        names = f"{digits};", f"{digits.lower()};"
        return next((html5[name] for name in names if name in html5), None)
    code = int(digits, 10 if kind == "decimal" else 16)
    return chr(code) if code <= sys.maxunicode else None


class _Layer:
    """
    Maps positions in an unescaped text to positions before unescaping.

    Args:
        escapes: The escapes, in order.
    """

    def __init__(self, escapes: Sequence[_Escape]) -> None:
        self._escapes = escapes
        # The start of each escape in the unescaped text, and the shift of the
        # text behind it.
        self._starts: list[int] = []
        self._shifts: list[int] = []
        shift = 0
        for start, end, width in escapes:
            self._starts.append(start - shift)
            shift += end - start - width
            self._shifts.append(shift)

    def origin(self, index: int) -> _Span:
        """Return the span from which the character at *index* comes."""
        at = bisect.bisect_right(self._starts, index) - 1
        if at < 0:
            return index, index + 1
        start, end, width = self._escapes[at]
        if index < self._starts[at] + width:
            return start, end
        return index + self._shifts[at], index + self._shifts[at] + 1


def _trace(start: int, end: int, layers: Sequence[_Layer]) -> _Span:
    for layer in reversed(layers):
        start, end = layer.origin(start)[0], layer.origin(end - 1)[1]
    return start, end
