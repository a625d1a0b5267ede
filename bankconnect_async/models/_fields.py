"""
JSON objects to schema classes, with every mismatch reported and its path.

An attribute's metadata says under which keys it is found and who reads it.
`null`, a blank text and a missing key all mean "none" to the vendor, and so
they do here.
"""

import codecs
import datetime
import decimal
import functools
import re

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import orjson


T = TypeVar("T")

#: Takes what stands at a path; notes what is wrong and returns `None`.
Reader: TypeAlias = Callable[[Any, str, list[str]], Any]

_MAX_PROBLEMS = 20
# How often a text may be JSON within JSON.
_WRAPPINGS = 3
_DATE = re.compile(
    r"(?P<d>[0-9]{2})/(?P<m>[0-9]{2})/(?P<y>[0-9]{4})"
    r"|(?P<Y>[0-9]{4})-(?P<M>[0-9]{2})-(?P<D>[0-9]{2})"
)
# As statements print days: `14-Jan-26`.
_SHORT_DAY = re.compile(r"([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4}|[0-9]{2})")
# Not strptime, which would go by the process's locale.
_MONTHS: Final = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
_CENTURY = 2000
_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?")
# Digits of the largest whole number that is taken for a count.
_MAX_DIGITS = 18
_SHOWN_DIGITS = 4
# Python refuses to write numbers with thousands of digits.
_NO_LABEL = 10**100
# What no UTF-8 stands for.
_SURROGATE = re.compile("[\ud800-\udfff]")
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})?"
)


@attrs.frozen
class _Wire:
    read: Reader
    keys: tuple[str, ...]
    required: bool


_WIRE: Final = "wire"


def wired(
    read: Reader,
    *keys: str,
    default: Any = None,
    required: bool = False,
    **kwargs: Any,
) -> Any:
    """
    Make an attribute that `structure` fills.

    Args:
        read: Turns what stands on the wire into the value.
        keys: Where it may stand, the first being the one to write. Without
            any, the name of the attribute.
        default: What "none" is here.
        required: Whether "none" is a problem.
        kwargs: For `attrs.field`; a `factory` goes before *default*.
    """
    if "factory" not in kwargs:
        kwargs["default"] = default
    return attrs.field(
        metadata={_WIRE: _Wire(read, keys, required)},
        **kwargs,
    )


@functools.cache
def _wires(cls: type) -> Mapping[str, _Wire]:
    return {
        field.name: attrs.evolve(wire, keys=wire.keys or (field.name,))
        for field in attrs.fields(cls)
        if (wire := field.metadata.get(_WIRE)) is not None
    }


def wire_keys(cls: type) -> Mapping[str, tuple[str, ...]]:
    """
    Tell under which keys each attribute of *cls* may stand on the wire.
    """
    return {name: wire.keys for name, wire in _wires(cls).items()}


def load(raw: object) -> Mapping[str, Any] | str:
    """
    Return the JSON object in *raw*, or what is wrong with it.

    A JSON text that is itself the content of a JSON text is taken out, as
    pages that call `JSON.stringify` twice make it.
    """
    for _ in range(_WRAPPINGS):
        if not isinstance(raw, str | bytes | bytearray | memoryview):
            break
        try:
            raw = orjson.loads(_without_mark(raw))
        except ValueError:
            return "is not JSON @ $"
    return raw if isinstance(raw, Mapping) else "is not a JSON object @ $"


def _without_mark(raw: str | bytes | bytearray | memoryview) -> str | bytes:
    if isinstance(raw, str):
        return raw.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    return bytes(raw).removeprefix(codecs.BOM_UTF8)


def is_present(value: object) -> bool:
    """
    Tell a value from the vendor's ways to say "none".
    """
    return value is not None and not (
        isinstance(value, str) and (not value or value.isspace())
    )


def structure(
    cls: type[T],
    document: Mapping[str, Any],
    path: str,
    problems: list[str],
    **given: Any,
) -> T:
    """
    Build a *cls* from what *document* says.

    Args:
        cls: A class with attributes made by `wired`.
        document: The JSON object.
        path: Where it stands in the message.
        problems: Takes what is wrong; the result is no use if anything is.
        given: Attributes that do not come from the document.
    """
    values: dict[str, Any] = {}
    # Typed as it is, because mypy finds classes of attrs unhashable.
    plain: type = cls
    for name, wire in _wires(plain).items():
        value = _value(wire, document, path, problems)
        if value is not None:
            values[name] = value
    return cls(**values, **given)


def _value(
    wire: _Wire, document: Mapping[str, Any], path: str, problems: list[str]
) -> Any:
    for key in wire.keys:
        if is_present(value := document.get(key)):
            return wire.read(value, f"{path}.{key}", problems)
    if wire.required:
        note(problems, f"required field missing @ {path}.{wire.keys[0]}")
    return None


def note(problems: list[str], problem: str) -> None:
    """
    Add *problem*, unless there are enough to make the point.
    """
    if len(problems) < _MAX_PROBLEMS:
        problems.append(problem)


def text(value: object, path: str, problems: list[str]) -> str | None:
    """
    Read a text.
    """
    if not isinstance(value, str):
        _note_type(problems, "a text", value, path)
        return None
    # Most texts are ASCII, and that is known without looking at them.
    if not value.isascii() and _SURROGATE.search(value):
        note(problems, f"is not Unicode @ {path}")
        return None
    return value


def label(value: object, path: str, problems: list[str]) -> str | None:
    """
    Read a text that some versions write as a number.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) < _NO_LABEL:
            return str(value)
        note(problems, f"is a number too large @ {path}")
        return None
    return text(value, path, problems)


def identifier(longest: int) -> Reader:
    """
    Read an id of at most *longest* characters.
    """

    def read(value: object, path: str, problems: list[str]) -> str | None:
        found = label(value, path, problems)
        if found is None or len(found) <= longest:
            return found
        note(
            problems,
            f"has {len(found)} characters, at most {longest} are taken"
            f" @ {path}",
        )
        return None

    return read


def word(value: object, path: str, problems: list[str]) -> str | None:
    """
    Read one of a few words, in lower case.
    """
    found = text(value, path, problems)
    return None if found is None else found.strip().lower()


def number(
    value: object, path: str, problems: list[str]
) -> decimal.Decimal | None:
    """
    Read a number, exactly; a text that is none gives `None`.

    A float has lost what was printed, so documents with money are to be
    loaded without one.
    """
    if isinstance(value, str):
        value = value.strip()
        return decimal.Decimal(value) if _NUMBER.fullmatch(value) else None
    if isinstance(value, decimal.Decimal):
        return value
    if isinstance(value, float):
        return decimal.Decimal(str(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return decimal.Decimal(value)
    _note_type(problems, "a number", value, path)
    return None


def count(value: object, path: str, problems: list[str]) -> int | None:
    """
    Read a whole number; another number, or a text, gives `None`.
    """
    if type(value) is int:
        return value
    found = number(value, path, problems)
    if found is None or not found.is_finite():
        return None
    # int() of a number with a huge exponent would never end.
    if found.adjusted() > _MAX_DIGITS or found != found.to_integral_value():
        return None
    return int(found)


def flag(value: object, path: str, problems: list[str]) -> bool | None:
    """
    Read a JSON boolean.
    """
    if isinstance(value, bool):
        return value
    _note_type(problems, "true or false", value, path)
    return None


def mapping(
    value: object, path: str, problems: list[str]
) -> Mapping[str, Any] | None:
    """
    Read a JSON object as it is.
    """
    if isinstance(value, Mapping):
        return value
    _note_type(problems, "an object", value, path)
    return None


def message(
    value: object, path: str, problems: list[str]
) -> Mapping[str, Any] | None:
    """
    Read a JSON object, or the text of one.
    """
    if isinstance(value, str):
        value = load(value)
        if isinstance(value, str):
            note(problems, f"must be an object, not a text @ {path}")
            return None
    return mapping(value, path, problems)


def day(value: object, path: str, problems: list[str]) -> datetime.date | None:
    """
    Read a date; a text that is none gives `None`.
    """
    match = _DATE.fullmatch(text(value, path, problems) or "")
    if match is None:
        return None
    year, month, date = (
        int(match[short] or match[short.upper()]) for short in "ymd"
    )
    try:
        return datetime.date(year, month, date)
    except ValueError:
        return None


def moment(
    value: object, path: str, problems: list[str]
) -> datetime.datetime | None:
    """
    Read a timestamp; a text that is none gives `None`.
    """
    stamp = text(value, path, problems) or ""
    if not _TIMESTAMP.fullmatch(stamp):
        return None
    try:
        return datetime.datetime.fromisoformat(stamp)
    except ValueError:
        return None


def instant(
    value: object, path: str, problems: list[str]
) -> datetime.datetime | None:
    """
    Read a timestamp or a day, of which it is the beginning.
    """
    stamp = text(value, path, problems) or ""
    if _TIMESTAMP.fullmatch(stamp):
        return moment(stamp, path, problems)
    short = _SHORT_DAY.fullmatch(stamp)
    date = _short_day(*short.groups()) if short else day(stamp, path, problems)
    if date is None:
        return None
    return datetime.datetime.combine(date, datetime.time())


def _short_day(date: str, month: str, year: str) -> datetime.date | None:
    try:
        return datetime.date(
            int(year) + _CENTURY * (len(year) == 2),  # noqa: PLR2004
            _MONTHS.index(month.lower()) + 1,
            int(date),
        )
    except ValueError:
        return None


def masked(number: str | None) -> str:
    """
    Write an account number as a repr may show it, its last four digits.
    """
    if number is None:
        return "None"
    # What is short would be shown by half.
    shown = number[-_SHOWN_DIGITS:] if len(number) >= 2 * _SHOWN_DIGITS else ""
    return f"'XXXXXX{shown}'"


def hidden(value: object) -> str:
    """
    Say in a repr whether there is something, and not what.
    """
    return "'***'" if value else repr(value)


def one(cls: type) -> Reader:
    """
    Read an object as a *cls*, which keeps it as its `raw`.
    """

    def read(value: object, path: str, problems: list[str]) -> Any:
        document = mapping(value, path, problems)
        if document is None:
            return None
        return structure(cls, document, path, problems, raw=document)

    return read


def many(reader: Reader) -> Reader:
    """
    Read an array, each entry but `null` with *reader*, as a tuple.
    """

    def read(value: object, path: str, problems: list[str]) -> Any:
        if isinstance(value, list | tuple):
            return tuple(
                reader(entry, f"{path}[{index}]", problems)
                for index, entry in enumerate(value)
                if entry is not None
            )
        _note_type(problems, "an array", value, path)
        return None

    return read


def _note_type(
    problems: list[str], wanted: str, value: object, path: str
) -> None:
    kind = type(value).__name__
    note(problems, f"must be {wanted}, not {kind} @ {path}")


#: Where lists of entries that repeat a key keep all of them.
PAIRS: Final = "pairs"


def raw() -> Any:
    """
    Make the attribute that keeps an object as received.

    It may hold what no log should show.
    """
    return attrs.field(factory=dict, repr=False, eq=False, hash=False)


def plain(*keys: str) -> Any:
    """
    Make an attribute for an object that is handed on as it is.
    """
    return wired(mapping, *keys, factory=dict, repr=False, hash=False)


class Pairs(dict[str, Any]):
    """
    A JSON object that remembers keys that came more than once.
    """

    __slots__ = (PAIRS,)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs
