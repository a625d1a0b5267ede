"""
Arrow schemas of models, and tables of their rows.

The schema follows from the annotations of a class alone, never from data: the
tables of an empty and of a full response can be concatenated.
"""

import datetime
import functools
import itertools
import operator
import types
import typing

from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal, DecimalException
from typing import TYPE_CHECKING, Any, Final

import attrs

from bankconnect_async._json import dump_json
from bankconnect_async.errors import ConfigurationError, DecodeError

from ._fields import is_in_utc
from ._rows import Rows, column_names


if TYPE_CHECKING:
    import pyarrow
else:
    try:
        import pyarrow
    except ImportError:  # the extra [tables]
        pyarrow = None


#: Converts the values of a column.
Converter = Callable[[Sequence[Any]], Any]

# Numbers of 15 digits fit from a thousandth up to a hundred trillion and
# beyond; twice as many digits are the most that all libraries read.
_DIGITS: Final = 38
_SCALE: Final = 18
_LAST_PLACE: Final = Decimal(1).scaleb(-_SCALE)
_ROUNDING: Final = Context(prec=_DIGITS)


def arrow_schema(row_type: type) -> "pyarrow.Schema":
    """
    Return the Arrow schema of a table of *row_type*.

    Each attribute but `raw` is a column. Numbers are `decimal128(38, 18)`,
    whole numbers `int64`, days `date32`, times `timestamp[us]`: in UTC where
    the vendor names the zone, and else without one. Arrays are lists, objects
    are structs, and objects of an undocumented shape are JSON texts.

    Args:
        row_type: A class of `bankconnect_async.models`.

    Raises:
        ConfigurationError: If pyarrow, the extra `[tables]`, is missing.
        TypeError: If values of *row_type* are no rows, such as events.
    """
    _check_pyarrow()
    return pyarrow.schema(
        [(each.name, each.type) for each in _columns(row_type)]
    )


def to_table(rows: Rows[Any]) -> "pyarrow.Table":
    """
    Implement `Rows.to_arrow`.
    """
    # Typed as it is, because mypy finds types of any unhashable.
    row_type: type = rows.row_type
    schema = arrow_schema(row_type)
    return pyarrow.Table.from_arrays(
        [
            each.convert(list(map(operator.attrgetter(each.name), rows)))
            for each in _columns(row_type)
        ],
        schema=schema,
    )


def _check_pyarrow() -> None:
    if pyarrow is None:
        raise ConfigurationError(
            'Arrow tables need the extra "tables": pip install '
            '"bankconnect-async[tables]"'
        )


@attrs.frozen
class _Column:
    """
    A column of a table, or a field of a struct.

    Attributes:
        name: The name of the column, an attribute of the row.
        type: The Arrow type.
        convert: The function that makes an array of its values.
    """

    name: str
    type: Any
    convert: Converter


@functools.cache
def _columns(row_type: type, path: str = "") -> tuple[_Column, ...]:
    hints = typing.get_type_hints(row_type)
    return tuple(
        _Column(
            name,
            *_column_type(
                hints[name], path + name, in_utc=is_in_utc(row_type, name)
            ),
        )
        for name in column_names(row_type)
    )


def _column_type(
    hint: Any, path: str, *, in_utc: bool
) -> tuple[Any, Converter]:
    if isinstance(hint, types.UnionType):
        # All columns are nullable.
        hint = functools.reduce(
            operator.or_,
            (
                each
                for each in typing.get_args(hint)
                if each is not types.NoneType
            ),
        )
    origin = typing.get_origin(hint)
    if origin is not None and issubclass(origin, tuple):
        item, convert = _column_type(
            typing.get_args(hint)[0], f"{path}[*]", in_utc=False
        )
        type_ = pyarrow.list_(item)
        return type_, functools.partial(_convert_lists, type_, convert)
    if origin is Mapping or hint is Any:
        return pyarrow.string(), functools.partial(_convert_documents, path)
    if attrs.has(hint):
        columns = _columns(hint, f"{path}.")
        type_ = pyarrow.struct([(each.name, each.type) for each in columns])
        return type_, functools.partial(_convert_structs, type_, columns)
    return _scalar_type(hint, path, in_utc=in_utc)


def _scalar_type(
    hint: type, path: str, *, in_utc: bool
) -> tuple[Any, Converter]:
    if hint is Decimal:
        return (
            pyarrow.decimal128(_DIGITS, _SCALE),
            functools.partial(_convert_numbers, path),
        )
    if hint is datetime.datetime and not in_utc:
        return pyarrow.timestamp("us"), functools.partial(_convert_times, path)
    type_ = {
        bool: pyarrow.bool_(),
        datetime.date: pyarrow.date32(),
        datetime.datetime: pyarrow.timestamp("us", "UTC"),
        int: pyarrow.int64(),
        str: pyarrow.string(),
    }.get(hint)
    if type_ is None:
        raise TypeError(f"no column can hold {path}, which is a {hint}")
    return type_, functools.partial(_convert, type_, path)


def _convert(type_: Any, path: str, values: Sequence[Any]) -> Any:
    try:
        return pyarrow.array(values, type_)
    except (ValueError, TypeError, OverflowError):
        raise DecodeError(
            problems=[f"has no place in a column of {type_} @ {path}"]
        ) from None


def _convert_numbers(path: str, values: Sequence[Decimal | None]) -> Any:
    type_ = pyarrow.decimal128(_DIGITS, _SCALE)
    # pyarrow crashes on an exponent of minus some millions.
    if any(
        isinstance(each, Decimal) and each.adjusted() < -_SCALE
        for each in values
    ):
        values = [_rounded(each) for each in values]
    try:
        return pyarrow.array(values, type_)
    except pyarrow.ArrowException:
        return _convert(type_, path, [_rounded(each) for each in values])


def _rounded(value: Decimal | None) -> Decimal | None:
    if value is None:
        return None
    try:
        return _ROUNDING.quantize(value, _LAST_PLACE)
    except (DecimalException, TypeError):
        return value


def _convert_times(
    path: str, values: Sequence[datetime.datetime | None]
) -> Any:
    # What the vendor calls midnight is to stay midnight.
    local = [
        each.replace(tzinfo=None) if each and each.tzinfo else each
        for each in values
    ]
    return _convert_repeated(pyarrow.timestamp("us"), path, local)


def _convert_repeated(type_: Any, path: str, values: Sequence[Any]) -> Any:
    try:
        places = {
            each: place for place, each in enumerate(dict.fromkeys(values))
        }
    except TypeError:
        places = {}
    if not 0 < 2 * len(places) < len(values):
        return _convert(type_, path, values)
    indices = pyarrow.array(map(places.__getitem__, values), pyarrow.int32())
    return _convert(type_, path, list(places)).take(indices)


def _convert_documents(path: str, values: Sequence[Any]) -> Any:
    texts = [
        None if each is None else dump_json(each).decode() for each in values
    ]
    return _convert(pyarrow.string(), path, texts)


def _convert_lists(
    type_: Any, convert: Converter, values: Sequence[Sequence[Any] | None]
) -> Any:
    offsets = itertools.accumulate(
        (len(each or ()) for each in values), initial=0
    )
    items = [item for each in values if each for item in each]
    return pyarrow.ListArray.from_arrays(
        pyarrow.array(offsets, pyarrow.int32()),
        convert(items),
        type=type_,
        mask=pyarrow.array([each is None for each in values], pyarrow.bool_()),
    )


def _convert_structs(
    type_: Any, columns: Sequence[_Column], values: Sequence[Any]
) -> Any:
    return pyarrow.StructArray.from_arrays(
        [
            each.convert([getattr(value, each.name, None) for value in values])
            for each in columns
        ],
        fields=list(type_),
        mask=pyarrow.array([each is None for each in values], pyarrow.bool_()),
    )
