"""
Writes JSON with every number as the vendor sent it.
"""

import itertools
import json

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import orjson


def dump_json(document: Any, *, indent: bool = False) -> bytes:
    """
    Return a document as JSON.

    Args:
        document: A JSON value; numbers may be `decimal.Decimal`, and keep all
            their digits.
        indent: Whether to start a line for each entry, and to end the last
            one.
    """
    option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE if indent else 0
    try:
        return orjson.dumps(document, default=_exact, option=option)
    except TypeError:
        # Deep nesting, a number above 64 bits, or half of a surrogate pair.
        return b"".join(_pieces(document, indent=indent))


def _exact(value: Any) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value))
    raise TypeError


def _pieces(document: Any, *, indent: bool) -> Iterator[bytes]:
    # Recursion would fail on a deeply nested document.
    open_: list[tuple[Iterator[Any], bytes]] = []
    entries, end = iter([(b"", document)]), b"\n" if indent else b""
    while True:
        for name, value in entries:
            yield name
            if isinstance(value, Mapping | list | tuple) and value:
                open_.append((entries, end))
                entries, begin, end = _entries(
                    value, len(open_) if indent else None
                )
                yield begin
                break
            yield _scalar(value)
        else:
            yield end
            if not open_:
                return
            entries, end = open_.pop()


def _entries(
    value: Mapping[Any, Any] | Sequence[Any], depth: int | None
) -> tuple[Iterator[tuple[bytes, Any]], bytes, bytes]:
    inside = outside = b""
    if depth is not None:
        inside, outside = b"\n" + b"  " * depth, b"\n" + b"  " * (depth - 1)
    seps = itertools.chain([inside], itertools.repeat(b"," + inside))
    if isinstance(value, Mapping):
        colon = b":" if depth is None else b": "
        named = (
            (sep + _scalar(name) + colon, entry)
            for sep, (name, entry) in zip(seps, value.items(), strict=False)
        )
        return named, b"{", outside + b"}"
    return zip(seps, value, strict=False), b"[", outside + b"]"


def _scalar(value: Any) -> bytes:
    if isinstance(value, Decimal):
        return str(value).encode()
    return json.dumps(value).encode()
