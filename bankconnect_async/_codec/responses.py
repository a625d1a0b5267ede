"""
Bodies of good answers to values, with every number exactly as printed.
"""

import decimal
import json

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, TypeVar

from bankconnect_async.errors import InvalidResponseError
from bankconnect_async.models._fields import (
    Pairs,
    list_of,
    mapping,
    structure,
)


T = TypeVar("T")


def _number(text: str) -> decimal.Decimal:
    # A function of Python rather than the class: between two numbers, a
    # thread that parses lets the event loop run.
    try:
        return decimal.Decimal(text)
    except decimal.DecimalException:
        raise ValueError(_TOO_LARGE) from None


_TOO_LARGE: Final = "a number too large"


def _refuse(constant: str) -> NoReturn:
    # Python alone takes NaN and Infinity for JSON.
    raise ValueError(constant)


def load(raw: bytes, *, keep_pairs: bool = False) -> Any:
    """
    Read a JSON text; numbers with a fraction become `decimal.Decimal`.

    As a float, 1234.10 would lose its last digit and a large amount its
    paise.

    Args:
        raw: The text.
        keep_pairs: Make every object a `Pairs`.

    Raises:
        ValueError: If it is no JSON.
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


_TOO_DEEP: Final = "nested too deep"


def decode(
    cls: type[T], raw: bytes, *, status: int = 200, keep_pairs: bool = False
) -> T:
    """
    Read an answer that is a JSON object, as a *cls*.

    A missing key, `null` and a blank text all mean "none". What is not known
    here is in the `raw` of the value and of its parts.

    Args:
        cls: Which kind of answer.
        raw: The body.
        status: HTTP status it came with.
        keep_pairs: Keep keys that come more than once.

    Raises:
        InvalidResponseError: If it is no such object, or a documented field
            has a wrong type. It names paths, never values.
    """

    def read(document: Any, problems: list[str]) -> T | None:
        if not isinstance(document, Mapping):
            problems.append("is not a JSON object @ $")
            return None
        return structure(cls, document, "$", problems, raw=document)

    return _decode(read, raw, status, keep_pairs=keep_pairs)


def decode_document(raw: bytes, *, status: int = 200) -> Mapping[str, Any]:
    """
    Read an answer that is a JSON object whose shape is not documented.

    Raises:
        InvalidResponseError: If it is none.
    """

    def read(document: Any, problems: list[str]) -> Mapping[str, Any] | None:
        return mapping(document, "$", problems)

    return _decode(read, raw, status)


def decode_rows(
    cls: type[T], raw: bytes, *, status: int = 200
) -> tuple[T, ...]:
    """
    Read an answer that is a JSON array of objects.

    Raises:
        InvalidResponseError: If it is none.
    """

    def read(document: Any, problems: list[str]) -> tuple[T, ...] | None:
        rows: tuple[T, ...] | None = list_of(cls)(document, "$", problems)
        return rows

    return _decode(read, raw, status)


def _decode(
    read: Callable[[Any, list[str]], T | None],
    raw: bytes,
    status: int,
    *,
    keep_pairs: bool = False,
) -> T:
    # A frame that raises must not hold the answer.
    value, problems = _read(read, raw, keep_pairs=keep_pairs)
    del raw
    if not problems and value is not None:
        return value
    del value
    raise InvalidResponseError(
        f"the server answered {status} in another shape than documented: "
        f"{'; '.join(problems)}",
        problems=problems,
        status=status,
    )


def _read(
    read: Callable[[Any, list[str]], T | None],
    raw: bytes,
    *,
    keep_pairs: bool,
) -> tuple[T | None, list[str]]:
    problems: list[str] = []
    try:
        document = load(raw, keep_pairs=keep_pairs)
    except ValueError:
        return None, ["is not JSON @ $"]
    return read(document, problems), problems
