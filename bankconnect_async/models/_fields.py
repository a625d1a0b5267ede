"""
Declarative fields: JSON objects to models, every mismatch with its path.

The metadata of an attribute says under which keys the vendor sends it and
which reader decodes it. A reader takes a value, its path and the list of
problems; it adds what is wrong to the list and returns `None`. `null`, a blank
text and a missing key all mean "none".
"""

import codecs
import datetime
import decimal
import functools
import itertools
import re

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import orjson

from bankconnect_async.errors import DecodeError

from . import _columns
from ._rows import RAW, rows_of
from .sessions import Value


T = TypeVar("T")

#: Decodes a value at a path; adds problems to a list and returns `None`.
Reader: TypeAlias = Callable[[Any, str, list[str]], Any]

_MAX_PROBLEMS: Final = 20
# The most layers of JSON texts within JSON texts.
_MAX_LAYERS: Final = 3
_DATE: Final = re.compile(
    r"(?P<d>[0-9]{2})/(?P<m>[0-9]{2})/(?P<y>[0-9]{4})"
    r"|(?P<Y>[0-9]{4})-(?P<M>[0-9]{2})-(?P<D>[0-9]{2})"
)
# A day as statements print it: `14-Jan-26` or `14-Jan-2026`.
_SHORT_DAY: Final = re.compile(
    r"([0-9]{1,2})-([A-Za-z]{3})-((?:[0-9]{2})?[0-9]{2})"
)
# Not strptime, which follows the locale of the process.
_MONTHS: Final = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?")
# The most digits of a count.
_MAX_DIGITS: Final = 18
_SHOWN_DIGITS: Final = 4
# Python does not print integers of thousands of digits.
_MAX_LABEL: Final = 10**100
# Lone surrogates have no UTF-8 form.
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_TIMESTAMP: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})?"
)


@attrs.frozen(kw_only=True)
class Model(Value):
    """
    An object that the vendor sent.

    Attributes:
        raw: The object as received. It may hold data that no log should show.
    """

    raw: Mapping[str, Any] = attrs.field(
        factory=dict, repr=False, eq=False, hash=False
    )


@attrs.frozen
class _Wire:
    read: Reader
    keys: tuple[str, ...]
    required: bool


_WIRE: Final = "wire"


def field(
    read: Reader | type,
    *keys: str,
    default: Any = None,
    required: bool = False,
    **kwargs: Any,
) -> Any:
    """
    Declare an attribute that `structure` fills.

    Args:
        read: The reader of the value; a model reads an object.
        keys: The keys under which the vendor sends it, the one to write
            first; by default the name of the attribute.
        default: The value if the vendor sends none.
        required: Whether it is a problem if the vendor sends none.
        kwargs: Arguments of `attrs.field`; a *factory* replaces *default*.
    """
    if "factory" not in kwargs:
        kwargs["default"] = default
    wire = _Wire(_reader(read), keys, required)
    return attrs.field(metadata={_WIRE: wire}, **kwargs)


def list_field(read: Reader | type, *keys: str) -> Any:
    """
    Declare an attribute for an array, a tuple; empty if there is none.

    A model makes `Rows` of it.
    """
    if isinstance(read, type):
        return rows_field(read, ObjectReader(read), *keys)
    return field(list_of(read), *keys, default=())


def rows_field(row_type: type, read: Reader, *keys: str) -> Any:
    """
    Declare an attribute for an array of objects, which are `Rows`.

    Args:
        row_type: The model.
        read: The reader of an object.
        keys: The keys, as for `field`.
    """
    return field(list_of(read), *keys, default=(), converter=rows_of(row_type))


def object_field(*keys: str) -> Any:
    """
    Declare an attribute for an object that stays as received.
    """
    return field(mapping, *keys, factory=dict, repr=False, hash=False)


def _reader(read: Reader | type) -> Reader:
    return ObjectReader(read) if isinstance(read, type) else read


@functools.cache
def _wires(cls: type) -> Mapping[str, _Wire]:
    return {
        each.name: attrs.evolve(wire, keys=wire.keys or (each.name,))
        for each in attrs.fields(cls)
        if (wire := each.metadata.get(_WIRE)) is not None
    }


def wire_keys(cls: type) -> Mapping[str, tuple[str, ...]]:
    """
    Return the keys of each attribute of *cls* on the wire.
    """
    return {name: wire.keys for name, wire in _wires(cls).items()}


def is_in_utc(cls: type, name: str) -> bool:
    """
    Return whether the attribute *name* of *cls* is a time with a time zone.
    """
    wire = _wires(cls).get(name)
    return wire is not None and wire.read is utc_timestamp


def load(raw: object) -> Mapping[str, Any]:
    """
    Return the JSON object in *raw*.

    A JSON text within a JSON text is unpacked: some pages call
    `JSON.stringify` twice.

    Raises:
        DecodeError: If it is no JSON object.
    """
    for _ in range(_MAX_LAYERS):
        if not isinstance(raw, str | bytes | bytearray | memoryview):
            break
        try:
            raw = orjson.loads(_without_mark(raw))
        except ValueError:
            raise DecodeError(problems=["is not JSON @ $"]) from None
    if isinstance(raw, Mapping):
        return raw
    raise DecodeError(problems=["is not a JSON object @ $"])


def _without_mark(raw: str | bytes | bytearray | memoryview) -> str | bytes:
    if isinstance(raw, str):
        return raw.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    return bytes(raw).removeprefix(codecs.BOM_UTF8)


def is_present(value: object) -> bool:
    """
    Return whether *value* is something else than `None` or blank.
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
    Build a *cls* from a JSON object.

    Args:
        cls: A class with attributes that `field` declares.
        document: The JSON object.
        path: The path of the object in the message.
        problems: The list to which problems are added. If there is any, the
            result must not be used.
        given: The attributes that do not come from the document.
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
        add_problem(
            problems, f"required field missing @ {path}.{wire.keys[0]}"
        )
    return None


def add_problem(problems: list[str], problem: str) -> None:
    """
    Add *problem*, unless there are many already.
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
    # Most texts are ASCII, which CPython knows without a search.
    if not value.isascii() and _SURROGATE.search(value):
        add_problem(problems, f"is not Unicode @ {path}")
        return None
    return value


def label(value: object, path: str, problems: list[str]) -> str | None:
    """
    Read a text that some versions send as a number.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) < _MAX_LABEL:
            return str(value)
        add_problem(problems, f"is a number too large @ {path}")
        return None
    return text(value, path, problems)


def identifier(max_length: int) -> Reader:
    """
    Read an id of at most *max_length* characters.
    """

    def read(value: object, path: str, problems: list[str]) -> str | None:
        found = label(value, path, problems)
        if found is None or len(found) <= max_length:
            return found
        add_problem(
            problems,
            f"has {len(found)} characters, at most {max_length} are taken"
            f" @ {path}",
        )
        return None

    return read


def lower_text(value: object, path: str, problems: list[str]) -> str | None:
    """
    Read a text in lower case.
    """
    found = text(value, path, problems)
    return None if found is None else found.strip().lower()


def number(
    value: object, path: str, problems: list[str]
) -> decimal.Decimal | None:
    """
    Read an exact number; a text that is no number gives `None`.

    A float no longer has the digits that the vendor printed, so documents
    with money must be loaded without floats.
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
    Read a whole number; any other number or text gives `None`.
    """
    if type(value) is int:
        return value
    found = number(value, path, problems)
    if found is None or not found.is_finite():
        return None
    # int() of a number with a huge exponent does not end.
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
    Read a JSON object, unchanged.
    """
    if isinstance(value, Mapping):
        return value
    _note_type(problems, "an object", value, path)
    return None


def object_or_text(
    value: object, path: str, problems: list[str]
) -> Mapping[str, Any] | None:
    """
    Read a JSON object, or a text that holds one.
    """
    if isinstance(value, str):
        try:
            return load(value)
        except DecodeError:
            add_problem(problems, f"must be an object, not a text @ {path}")
            return None
    return mapping(value, path, problems)


def day(value: object, path: str, problems: list[str]) -> datetime.date | None:
    """
    Read a date; a text that is no date gives `None`.
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


def timestamp(
    value: object, path: str, problems: list[str]
) -> datetime.datetime | None:
    """
    Read a timestamp; a text that is no timestamp gives `None`.
    """
    return _timestamp(text(value, path, problems) or "")


def _timestamp(stamp: str) -> datetime.datetime | None:
    if not _TIMESTAMP.fullmatch(stamp):
        return None
    try:
        return datetime.datetime.fromisoformat(stamp)
    except ValueError:
        return None


def utc_timestamp(
    value: object, path: str, problems: list[str]
) -> datetime.datetime | None:
    """
    Read a timestamp, in UTC if it names no time zone.
    """
    stamp = timestamp(value, path, problems)
    if stamp is None or stamp.tzinfo is not None:
        return stamp
    return stamp.replace(tzinfo=datetime.UTC)


def timestamp_or_day(
    value: object, path: str, problems: list[str]
) -> datetime.datetime | None:
    """
    Read a timestamp, or a day as the timestamp of its midnight.
    """
    stamp = text(value, path, problems) or ""
    if (found := _timestamp(stamp)) is not None:
        return found
    short = _SHORT_DAY.fullmatch(stamp)
    date = _short_day(*short.groups()) if short else day(stamp, path, problems)
    if date is None:
        return None
    return datetime.datetime.combine(date, datetime.time())


def _short_day(date: str, month: str, year: str) -> datetime.date | None:
    try:
        return datetime.date(
            int(f"20{year}"[-4:]),
            _MONTHS.index(month.lower()) + 1,
            int(date),
        )
    except ValueError:
        return None


def masked(number: str | None) -> str:
    """
    Return the repr of an account number, which shows its last four digits.
    """
    if number is None:
        return "None"
    # Four digits of a short number would be half of it.
    shown = number[-_SHOWN_DIGITS:] if len(number) >= 2 * _SHOWN_DIGITS else ""
    return f"'XXXXXX{shown}'"


def hidden(value: object) -> str:
    """
    Return a repr that shows whether there is a value, but not the value.
    """
    return "'***'" if value else repr(value)


# The readers of columns, by the reader of a value.
_COLUMNS: Final[
    Mapping[Reader, Callable[[_columns.ValueReader], _columns.ColumnReader]]
] = {
    text: _columns.texts,
    label: _columns.texts,
    lower_text: _columns.repeated_texts,
    number: _columns.numbers,
    timestamp_or_day: _columns.repeated_texts,
}
# The most rows that are read at once. So columns stay in the processor's
# cache, and a thread that reads lets the event loop run.
_CHUNK: Final = 256
# The most rows that are read faster one by one.
_FEW: Final = 3


@attrs.frozen
class ObjectReader:
    """
    A reader of objects.

    Attributes:
        cls: The model that is made of each.
        nested: The key of an object in each that has a part of the fields.
    """

    cls: type
    nested: str | None = None

    def __call__(self, value: object, path: str, problems: list[str]) -> Any:
        """Read one object, as a `Reader` does."""
        document = mapping(value, path, problems)
        if document is None:
            return None
        flat = document
        if self.nested is not None and is_present(
            below := document.get(self.nested)
        ):
            more = mapping(below, f"{path}.{self.nested}", problems)
            flat = {**(more or {}), **document}
        return structure(self.cls, flat, path, problems, raw=document)

    def read_all(
        self, values: Sequence[Any], path: str, problems: list[str]
    ) -> list[Any]:
        """
        Read the objects of an array, without `null`.

        They are read by columns, or one by one where that cannot be done, or
        is not worth it for a few.
        """
        wires = _column_wires(self.cls)
        if not wires or len(values) <= _FEW:
            return list(_read_each(self, values, path, problems))
        readers = {
            wire.keys[0]: _COLUMNS[wire.read](_value_reader(wire.read))
            for wire in wires
        }
        found: list[Any] = []
        for start in range(0, len(values), _CHUNK):
            chunk = values[start : start + _CHUNK]
            try:
                found += self._read_columns(chunk, readers)
            except _columns.IrregularError:
                found += _read_each(self, chunk, path, problems, start)
        return found

    def _read_columns(
        self,
        values: Sequence[Any],
        readers: Mapping[str, _columns.ColumnReader],
    ) -> list[Any]:
        columns = _columns.columns_of(values, readers, self.nested)
        return _columns.build(
            self.cls,
            values,
            *(
                read(columns[key])
                if key in columns
                else itertools.repeat(None)
                for key, read in readers.items()
            ),
        )


@functools.cache
def _column_wires(cls: type) -> Sequence[_Wire]:
    """
    Return the fields of a class that is read by columns, else nothing.
    """
    raw, *fields = attrs.fields(cls)
    wires = _wires(cls)
    if raw.name == RAW and all(
        each.default is None
        and each.converter is None
        and (wire := wires.get(each.name)) is not None
        and not wire.required
        and len(wire.keys) == 1
        and wire.read in _COLUMNS
        for each in fields
    ):
        return tuple(wires.values())
    return ()


def _value_reader(read: Reader) -> _columns.ValueReader:
    problems: list[str] = []

    def read_value(value: object) -> Any:
        if not is_present(value):
            return None
        found = read(value, "$", problems)
        if problems:
            problems.clear()
            raise _columns.IrregularError
        return found

    return read_value


def list_of(read: Reader | type) -> Reader:
    """
    Return a reader of arrays that makes each a tuple, without `null`.

    Args:
        read: The reader of an entry; a model reads an object, and makes `Rows`
            of the array.
    """
    read_entry = _reader(read)
    make: Callable[[Iterable[Any]], tuple[Any, ...]] = (
        rows_of(read) if isinstance(read, type) else tuple
    )

    def read_list(value: object, path: str, problems: list[str]) -> Any:
        if not isinstance(value, list | tuple):
            _note_type(problems, "an array", value, path)
            return None
        if isinstance(read_entry, ObjectReader):
            return make(read_entry.read_all(value, path, problems))
        return make(_read_each(read_entry, value, path, problems))

    return read_list


def _read_each(
    read: Reader,
    values: Iterable[Any],
    path: str,
    problems: list[str],
    start: int = 0,
) -> Iterator[Any]:
    for index, value in enumerate(values, start):
        if value is not None:
            yield read(value, f"{path}[{index}]", problems)


def _note_type(
    problems: list[str], wanted: str, value: object, path: str
) -> None:
    kind = type(value).__name__
    add_problem(problems, f"must be {wanted}, not {kind} @ {path}")


#: The attribute of `Pairs` that keeps repeated keys.
PAIRS: Final = "pairs"


class Pairs(dict[str, Any]):
    """
    A JSON object that keeps repeated keys.
    """

    __slots__ = (PAIRS,)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs
