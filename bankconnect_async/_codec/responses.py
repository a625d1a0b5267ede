"""
Decodes 2xx responses into models, with every number exactly as printed.
"""

import decimal
import json

from collections.abc import Mapping
from typing import Any, Final, NoReturn, TypeVar

from bankconnect_async._tracebacks import hide_frames
from bankconnect_async.errors import InvalidResponseError
from bankconnect_async.models._fields import (
    ObjectReader,
    Pairs,
    Reader,
    list_of,
    mapping,
)
from bankconnect_async.models._rows import Rows


T = TypeVar("T")

_TOO_LARGE: Final = "a number too large"
_TOO_DEEP: Final = "nested too deep"


def _number(text: str) -> decimal.Decimal:
    # A function of Python rather than the class: between two numbers, a
    # thread that parses lets the event loop run.
    try:
        return decimal.Decimal(text)
    except decimal.DecimalException:
        raise ValueError(_TOO_LARGE) from None


def _refuse(constant: str) -> NoReturn:
    # JSON has no NaN and no Infinity, but Python's parser accepts them.
    raise ValueError(constant)


def load(raw: bytes, *, keep_pairs: bool = False) -> Any:
    """
    Parse a JSON text; numbers with a fraction become `decimal.Decimal`.

    As a float, 1234.10 would lose its last digit and a large amount its
    paise.

    Args:
        raw: The text.
        keep_pairs: Whether to make every object a `Pairs`.

    Raises:
        ValueError: If it is not JSON.
    """
    try:
        return json.loads(
            raw.decode("utf-8-sig"),
            parse_float=_number,
            parse_constant=_refuse,
            object_pairs_hook=Pairs if keep_pairs else None,
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


@hide_frames
def decode(
    cls: type[T], raw: bytes, *, status: int = 200, keep_pairs: bool = False
) -> T:
    """
    Decode a response that is a JSON object.

    A missing key, `null` and a blank text all mean "none". Unknown fields
    stay in the `raw` of the value and of its parts.

    Args:
        cls: The model.
        raw: The body.
        status: The HTTP status of the response.
        keep_pairs: Whether to keep repeated keys.

    Raises:
        InvalidResponseError: If it is not a JSON object, or a documented
            field has a wrong type. The error names paths, never values.
    """
    value: T = _decode(ObjectReader(cls), raw, status, keep_pairs=keep_pairs)
    return value


@hide_frames
def decode_document(raw: bytes, *, status: int = 200) -> Mapping[str, Any]:
    """
    Decode a response that is a JSON object of an undocumented shape.

    Raises:
        InvalidResponseError: If it is not a JSON object.
    """
    document: Mapping[str, Any] = _decode(mapping, raw, status)
    return document


@hide_frames
def decode_rows(cls: type[T], raw: bytes, *, status: int = 200) -> Rows[T]:
    """
    Decode a response that is a JSON array of objects.

    Raises:
        InvalidResponseError: If it is not.
    """
    rows: Rows[T] = _decode(list_of(cls), raw, status)
    return rows


def _decode(
    read: Reader, raw: bytes, status: int, *, keep_pairs: bool = False
) -> Any:
    problems: list[str] = []
    value = None
    try:
        value = read(load(raw, keep_pairs=keep_pairs), "$", problems)
    except ValueError:
        problems.append("is not JSON @ $")
    if not problems:
        return value
    raise InvalidResponseError(
        f"the server answered {status} in another shape than documented: "
        f"{'; '.join(problems)}",
        problems=problems,
        status=status,
    )
