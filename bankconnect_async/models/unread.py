"""
Rows of large responses: checked when they arrive, and read on access.

msgspec checks the types of each row while it parses it, which takes a fraction
of the time that the readers of `_fields` take. What msgspec refuses is left to
them: they know which odd values are allowed, and what is wrong with others.
"""

import functools
import itertools
import operator

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal, DecimalException
from types import NoneType
from typing import Any, Final, TypeAlias

import attrs
import msgspec

from msgspec import UNSET, Raw, UnsetType

from bankconnect_async._json import load_json

from ._fields import (
    ListReader,
    ObjectReader,
    Reader,
    Unparsed,
    Unread,
    count,
    day,
    flag,
    is_present,
    label,
    list_of,
    lower_text,
    number,
    structure,
    text,
    timestamp,
    timestamp_or_day,
    utc_timestamp,
    wires,
)
from ._rows import RAW, Rows, column_names


#: The unknown keys of an object, and of the nested one.
_Extras: TypeAlias = tuple[frozenset[str], frozenset[str]]

# The types that each reader of a row takes without a problem.
_TYPES: Final[Mapping[Reader, Any]] = {
    **dict.fromkeys([count, number], Any),
    **dict.fromkeys([day, lower_text, text], str | None),
    **dict.fromkeys([timestamp, timestamp_or_day, utc_timestamp], str | None),
    flag: bool | None,
    label: int | str | None,
    list_of(text): list[str | None] | None,
}
# msgspec has no type for numbers with all their digits. Until they are read,
# those with a fraction are bytes.
_NUMBERS: Final = frozenset({Decimal, int, str, NoneType, UnsetType})
# What JSON of another shape, or a number that is too large, raises.
_REFUSALS: Final = (
    *(msgspec.DecodeError, ValueError),
    *(DecimalException, RecursionError),
)
# The most unknown keys of rows that msgspec checks.
_MAX_EXTRAS: Final = 64
# The most characters of a number that cannot be too large for `Decimal`.
_MAX_SHORT: Final = 18
# The number of rows that are parsed before the event loop can run.
_CHUNK: Final = 256
# The field of a struct that has the nested object.
_INNER: Final = "inner_"

_set_values = Unparsed.__dict__["_values"].__set__
_set_document = Unparsed.__dict__["_document"].__set__
_get_document = operator.attrgetter("_document")
_get_values = operator.attrgetter("_values")


def read(reader: Reader, raw: bytes, path: str, problems: list[str]) -> Any:
    """
    Read a JSON text, as *reader* reads the value in it.

    Args:
        reader: The reader.
        raw: The text.
        path: The path of the value in the response.
        problems: The list to which problems are added.

    Raises:
        ValueError: If it is not JSON.
    """
    if isinstance(reader, ObjectReader):
        parser = _Parser(reader)
        return _read_object(reader, parser, Raw(raw), path, problems)
    return reader(load_json(raw), path, problems)


def read_entries(
    reader: ObjectReader,
    entries: Sequence[Raw],
    path: str,
    problems: list[str],
) -> list[Any]:
    """
    Read the entries of an array of objects, without `null`.

    Args:
        reader: The reader of an entry.
        entries: The entries.
        path: The path of the array in the response.
        problems: The list to which problems are added.

    Raises:
        ValueError: If an entry is not JSON.
    """
    parser = _Parser(reader)
    is_row = _is_row(reader.cls)
    found: list[Any] = []
    for start in range(0, len(entries), _CHUNK):
        chunk = entries[start : start + _CHUNK]
        if is_row:
            try:
                values = parser.parse(chunk)
            except _REFUSALS:
                # Below, each row is tried alone.
                pass
            else:
                found += _make_rows(reader.cls, values, chunk)
                continue
        found += (
            _read_object(
                reader, parser, raw.copy(), f"{path}[{index}]", problems
            )
            for index, raw in enumerate(chunk, start)
            if bytes(raw) != b"null"
        )
    return found


def _make_rows(
    cls: type, values: Sequence[Any], texts: Iterable[Raw]
) -> list[Any]:
    # Loops of C; to set an attribute takes as long as to run a loop of Python.
    rows: list[Any] = list(
        map(object.__new__, itertools.repeat(cls, len(values)))
    )
    deque(map(_set_values, rows, values), maxlen=0)
    # Copies, because a row may outlive the response.
    deque(map(_set_document, rows, map(Raw.copy, texts)), maxlen=0)
    return rows


def _read_object(
    reader: ObjectReader,
    parser: "_Parser",
    raw: Raw,
    path: str,
    problems: list[str],
) -> Any:
    try:
        (values,) = parser.parse_any(raw)
    except _REFUSALS:
        # The reader says what is wrong, if anything is.
        return reader(load_json(bytes(raw)), path, problems)
    if _is_row(reader.cls):
        (row,) = _make_rows(reader.cls, [values], [raw])
        return row
    model = _structure(reader, values, path, problems)
    # It is read on access, like the attributes of rows.
    object.__delattr__(model, RAW)
    _set_document(model, raw)
    return model


def column_reader(rows: Rows[Any]) -> Callable[[str], list[Any]]:
    """
    Return a function that takes the name of an attribute, and returns its
    value in each row.

    All numbers of a column may be their digits, as bytes.
    """
    try:
        found = list(map(_get_values, rows))
    except AttributeError:
        # A row that was made, or read by a reader.
        return lambda name: list(map(operator.attrgetter(name), rows))
    # Typed as it is, because mypy finds types of any unhashable.
    row_type: type = rows.row_type
    return lambda name: _attributes(row_type)[name].read_column(found)


@attrs.frozen
class _Attribute:
    """
    An attribute of a row.

    Attributes:
        key: The key under which the vendor sends it.
        reader: The reader of the value.
        default: The value if the vendor sends none.
        keep: The function that sets the attribute of a row.
    """

    key: str
    reader: Reader
    default: Any
    keep: Callable[[Any, Any], None]

    def find(self, values: Any) -> Any:
        """Return the value on the wire, `UNSET` if there is none."""
        value = getattr(values, self.key)
        if value is UNSET:
            inner = getattr(values, _INNER, None)
            return getattr(inner, self.key, UNSET)
        return value

    def convert(self, value: Any) -> Any:
        """Convert a value on the wire."""
        if value.__class__ is bytes:
            value = Decimal(value.decode())
            if self.reader is number:
                return value
        elif value is UNSET or not is_present(value):
            return self.default
        # msgspec found no problem.
        found = self.reader(value, self.key, [])
        return self.default if found is None else found

    def read(self, row: Any) -> Any:
        """Read the attribute of a row, and keep it."""
        value = self.convert(self.find(_get_values(row)))
        self.keep(row, value)
        return value

    def read_column(self, rows: list[Any]) -> list[Any]:
        """Return the values of all rows."""
        found = list(map(operator.attrgetter(self.key), rows))
        types = set(map(type, found))
        if UnsetType in types:
            found = self._find_all(rows, found, types)
            types = set(map(type, found))
        if types <= {UnsetType, NoneType}:
            return [self.default] * len(found)
        if types <= {bytes, NoneType} and self.reader is number:
            return found
        if self.reader is text:
            return [
                each if each and not each.isspace() else None for each in found
            ]
        try:
            known = {each: self.convert(each) for each in set(found)}
        except TypeError:
            # Lists are not hashable.
            return list(map(self.convert, found))
        return [known[each] for each in found]

    def _find_all(
        self, rows: list[Any], found: list[Any], types: set[type]
    ) -> list[Any]:
        try:
            get = operator.attrgetter(f"{_INNER}.{self.key}")
            nested = list(map(get, rows))
        except AttributeError:
            # A row without the nested object.
            return list(map(self.find, rows))
        if types == {UnsetType}:
            return nested
        return [
            inner if outer is UNSET else outer
            for outer, inner in zip(found, nested, strict=True)
        ]


@functools.cache
def _attributes(cls: type) -> dict[str, _Attribute]:
    return {
        name: _Attribute(
            key=wire.keys[0],
            reader=wire.read,
            default=attrs.fields_dict(cls)[name].default,
            # Rows are frozen, but for the members of their slots.
            keep=getattr(cls, name).__set__,
        )
        for name, wire in wires(cls).items()
    }


def _read_raw(model: Any) -> Any:
    value = load_json(bytes(_get_document(model)))
    object.__setattr__(model, RAW, value)
    return value


@functools.cache
def _prepare(cls: type) -> None:
    """
    Give a class the functions that read its attributes.
    """
    found = _attributes(cls) if _is_row(cls) else {}
    reads = {name: attribute.read for name, attribute in found.items()}
    type.__setattr__(cls, "_unread", {RAW: _read_raw, **reads})


@functools.cache
def _is_row(cls: type) -> bool:
    # Readers of other kinds have to look at each value.
    known = wires(cls)
    return known.keys() == {*column_names(cls)} and not any(
        wire.required or len(wire.keys) > 1 or wire.read not in _TYPES
        for wire in known.values()
    )


def _structure(
    reader: ObjectReader, values: Any, path: str, problems: list[str]
) -> Any:
    document = _given(values, reader)
    if reader.inner is not None:
        path = f"{path}.{reader.inner}"
        outer = {key: document.get(key) for key in reader.outer or ()}
        document = {**_given(getattr(values, _INNER), reader), **outer}
    return structure(reader.cls, document, path, problems)


def _given(values: Any, reader: ObjectReader) -> dict[str, Any]:
    readers = _entry_readers(reader.cls)
    return {
        key: Unread(value, readers[key]) if key in readers and value else value
        for key in _types(reader.cls)
        if (value := getattr(values, key, UNSET)) is not UNSET
    }


@functools.cache
def _types(cls: type) -> dict[str, Any]:
    """
    Return the type of each key: one that msgspec checks, or any.
    """
    known = wires(cls).values()
    if _is_row(cls):
        return {wire.keys[0]: _TYPES[wire.read] for wire in known}
    types = dict.fromkeys((key for wire in known for key in wire.keys), Any)
    return types | dict.fromkeys(_entry_readers(cls), list[Raw] | None)


@functools.cache
def _entry_readers(cls: type) -> dict[str, ObjectReader]:
    """
    Return the readers of entries of arrays that are left unread, by key.
    """
    return {
        key: entry
        for wire in wires(cls).values()
        for key in wire.keys
        if isinstance(wire.read, ListReader)
        and isinstance(entry := wire.read.read_entry, ObjectReader)
        and (entry.outer is not None or _is_row(entry.cls))
    }


class _Parser:
    """
    Parses objects that a reader reads.

    Unknown keys are checked, too: `raw` has them, and must be JSON. So a
    struct that msgspec parses has no others than it declares, and an object
    with more makes the parser take a wider one.
    """

    def __init__(self, reader: ObjectReader) -> None:
        _prepare(reader.cls)
        self._reader = reader
        self._known = frozenset(_types(reader.cls))
        self._numbers = [
            operator.attrgetter(key)
            for key, type_ in _types(reader.cls).items()
            if type_ is Any and _is_row(reader.cls)
        ]
        self._use((frozenset(), frozenset()))

    def _use(self, extras: _Extras) -> None:
        self._extras = extras
        self._decode = _decoder(self._reader, extras).decode

    def parse(self, texts: Sequence[Raw]) -> list[Any]:
        """
        Parse JSON texts.

        Raises:
            DecodeError: If one is not JSON, or may be a problem.
            ValueError: If a number may be one.
            DecimalException: If a number is too large.
            RecursionError: If one is nested too deep.
        """
        found = list(map(self._decode, texts))
        for get in self._numbers:
            for value in map(get, found):
                if value.__class__ is not bytes or len(value) > _MAX_SHORT:
                    _check_number(value)
        return found

    def parse_any(self, raw: Raw) -> list[Any]:
        """
        Parse a JSON text, as `parse` does, even if it has unknown keys.
        """
        try:
            return self.parse([raw])
        except msgspec.ValidationError:
            if not self._widen(raw):
                raise
        return self.parse([raw])

    def _widen(self, raw: Raw) -> bool:
        outer: dict[str, Raw] = _OBJECT.decode(raw)
        inner: dict[str, Raw] = {}
        known = self._known
        if (key := self._reader.inner) is not None:
            inner = _OBJECT.decode(outer.pop(key, b"{}"))
        if self._reader.outer is not None:
            known = frozenset(self._reader.outer)
        extras = (
            self._extras[0] | (outer.keys() - known),
            self._extras[1] | (inner.keys() - self._known),
        )
        if extras == self._extras or max(map(len, extras)) > _MAX_EXTRAS:
            return False
        self._use(extras)
        return True


_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])


def _check_number(value: Any) -> None:
    if value.__class__ is bytes:
        # Its exponent may be too large.
        Decimal(value.decode())
    elif value.__class__ not in _NUMBERS:
        raise ValueError


@functools.lru_cache(maxsize=128)
def _decoder(
    reader: ObjectReader, extras: _Extras
) -> "msgspec.json.Decoder[Any]":
    types = _types(reader.cls)
    outer = {key: types[key] for key in reader.outer or types}
    renamed = {}
    if reader.inner is not None:
        inner = types
        if _is_row(reader.cls):
            # The numbers of a nested object would have to be checked.
            inner = {k: t for k, t in types.items() if t is not Any}
        outer[_INNER] = _struct(inner, extras[1], {}) | None
        renamed[_INNER] = reader.inner
    # The digits are enough until a number is read. Unknown fields can hold
    # numbers in any place.
    is_plain = _is_row(reader.cls) and not any(extras)
    return msgspec.json.Decoder(
        _struct(outer, extras[0], renamed),
        float_hook=str.encode if is_plain else Decimal,
    )


def _struct(
    types: Mapping[str, Any], extras: frozenset[str], renamed: dict[str, str]
) -> Any:
    # Keys need not be names of Python.
    more = {f"extra{number}_": key for number, key in enumerate(extras)}
    fields = {**types, **dict.fromkeys(more, Any)}
    return msgspec.defstruct(
        "Values",
        [
            (name, type_ if type_ is Any else type_ | UnsetType, UNSET)
            for name, type_ in fields.items()
        ],
        rename=renamed | more,
        forbid_unknown_fields=True,
        gc=False,
    )
