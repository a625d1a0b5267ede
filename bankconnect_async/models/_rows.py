"""
Rows of responses: tuples that convert to Arrow tables.
"""

import functools

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from bankconnect_async import models


if TYPE_CHECKING:
    import pyarrow


T = TypeVar("T")

#: The attribute that holds an object as received; no column of a table.
RAW = "raw"


class Rows(tuple[T, ...]):  # noqa: SLOT001 - tuples take no slots
    """
    A tuple of values of one class, which converts to an Arrow table.

    It equals a plain tuple of the same values. The lists in responses are such
    tuples; to convert a part of one, make another: ``Rows(Transaction,
    [row for row in transactions if row.category == "Salary"])``.

    Args:
        row_type: The class of the values, one of `bankconnect_async.models`.
        rows: The values.

    Attributes:
        row_type: The class of the values.
    """

    row_type: type[T]

    def __new__(cls, row_type: type[T], rows: Iterable[T] = ()) -> "Rows[T]":
        """Make rows of *row_type*."""
        self = super().__new__(cls, rows)
        self.row_type = row_type
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.row_type, tuple(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return models.core_schemas.rows_schema(source, handler)

    def to_arrow(self) -> "pyarrow.Table":
        """
        Convert to an Arrow table with the schema `arrow_schema(row_type)`.

        Values are exact: a number differs from the JSON text only after 18
        digits behind the point.

        Raises:
            ConfigurationError: If pyarrow, the extra `[tables]`, is missing.
            DecodeError: If a value has no place in its column, such as a
                number of more than 20 digits before the point.
        """
        return models.arrow.to_table(self)


def rows_of(row_type: type[T]) -> Callable[[Iterable[T]], Rows[T]]:
    """
    Return a function that makes rows of *row_type*.
    """
    return functools.partial(Rows, row_type)


def column_names(row_type: type) -> tuple[str, ...]:
    """
    Return the columns of a table of *row_type*: its attributes, but `raw`.
    """
    return tuple(
        each.name for each in attrs.fields(row_type) if each.name != RAW
    )
