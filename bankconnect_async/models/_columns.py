"""
Columns of JSON objects: the values of one key in many objects, read at once.

To call a reader for each value of thousands of rows takes ten times as long.
Here, functions in C see that most columns can stay as they are. Where a reader
would find a problem, `IrregularError` is raised, and the caller reads these
objects one by one.
"""

import functools
import itertools

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import attrs


#: Reads one value, or raises `IrregularError`.
ValueReader: TypeAlias = Callable[[Any], Any]
#: Reads the values of a column, or raises `IrregularError`.
ColumnReader: TypeAlias = Callable[[Sequence[Any]], Iterable[Any]]


class IrregularError(Exception):
    """
    Objects that have to be read one by one.
    """


def texts(read: ValueReader) -> ColumnReader:
    """
    Return a reader of texts, which *read* returns as they are.
    """

    def read_column(values: Sequence[Any]) -> Iterable[Any]:
        try:
            # Lone surrogates cannot be encoded.
            "".join(values).encode()
            if all(map(str.strip, values)):
                return values
        except (TypeError, UnicodeEncodeError):
            pass
        return [
            None
            if value is None or value == ""
            else value
            if value.__class__ is str and value.isascii() and value.strip()
            else read(value)
            for value in values
        ]

    return read_column


def numbers(read: ValueReader) -> ColumnReader:
    """
    Return a reader of numbers, of which *read* makes `decimal.Decimal`.
    """

    def read_column(values: Sequence[Any]) -> Iterable[Any]:
        if set(map(type, values)) == {Decimal}:
            return values
        return [
            value if value.__class__ is Decimal else read(value)
            for value in values
        ]

    return read_column


class _Known(dict[Any, Any]):
    __slots__ = ("_read",)

    def __init__(self, read: ValueReader) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, value: Any) -> Any:
        found = self[value] = self._read(value)
        return found


def repeated_texts(read: ValueReader) -> ColumnReader:
    """
    Return a reader of texts of which many are the same.

    Only for a *read* that objects to all but texts: others are kept by value,
    and 1 equals `True`.
    """
    get = _Known(read).__getitem__

    def read_column(values: Sequence[Any]) -> Iterable[Any]:
        try:
            return list(map(get, values))
        except TypeError:
            # An array or an object, which has no hash.
            raise IrregularError from None

    return read_column


def columns_of(
    documents: Sequence[Any], keys: Iterable[str], nested: str | None
) -> Mapping[str, Sequence[Any]]:
    """
    Return the columns of JSON objects, at least those of *keys* that occur.

    Args:
        documents: The objects.
        keys: The keys.
        nested: The key of an object in each that has more keys. A key of the
            outer object goes before the same key of the inner one.

    Raises:
        IrregularError: If one is no object.
    """
    try:
        columns = _columns_of_like(documents)
        if nested is not None and nested in columns:
            columns = _columns_of_like(columns[nested]) | columns
    except KeyError:
        flat = [_flatten(each, nested) for each in documents]
        return {key: [each.get(key) for each in flat] for key in keys}
    return columns


def _columns_of_like(documents: Sequence[Any]) -> dict[str, Sequence[Any]]:
    first = documents[0]
    if set(map(type, documents)) != {dict} or (
        set(map(len, documents)) != {len(first)}
    ):
        raise KeyError
    # With as many keys, and all keys of the first, they have the same keys.
    return {key: [each[key] for each in documents] for key in first}


def _flatten(document: Any, nested: str | None) -> dict[str, Any]:
    if document.__class__ is not dict:
        raise IrregularError
    below = document.get(nested)
    if below is None:
        return document
    if below.__class__ is not dict:
        raise IrregularError
    return {**below, **document}


def build(cls: type, *columns: Iterable[Any]) -> list[Any]:
    """
    Build objects of a frozen class of attrs.

    Args:
        cls: The class.
        columns: The values of each attribute, in the order of attributes; the
            shortest column has one for each object.
    """
    cells = zip(*columns, strict=False)
    rows = list(itertools.starmap(_mutable(cls), cells))
    for row in rows:
        row.__class__ = cls
    return rows


@functools.cache
def _mutable(cls: type) -> type:
    """
    Return a class with the slots of *cls* whose instances can be changed.

    Its constructor takes half the time of a frozen one, which has to go round
    its own `__setattr__`.
    """
    twin: type = attrs.make_class(
        cls.__name__,
        {each.name: attrs.field() for each in attrs.fields(cls)},
        bases=cls.__bases__,
        class_body={
            "__setattr__": object.__setattr__,
            "__delattr__": object.__delattr__,
        },
        slots=True,
        eq=False,
        repr=False,
    )
    return twin
