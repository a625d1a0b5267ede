"""
Values as dictionaries and as JSON.

A repr leaves secrets out; these conversions are asked for, and leave nothing
out but `raw`.
"""

import datetime
import decimal
import typing

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from yarl import URL

from ._rows import RAW
from .events import Event
from .sessions import UNSET, Value
from .webhooks import Webhook


#: The key under which a value of a union names its class.
TAG: Final = "type"
#: The classes that do so.
TAGGED: Final = frozenset({*typing.get_args(Event), *typing.get_args(Webhook)})


def fields_of(value: Any, cls: type[Any]) -> Iterator[tuple[str, Any]]:
    """
    Return the names and values of the attributes that *cls* has.

    A value of a union has its tag, too, and a URL is a text. `raw` and what
    is `UNSET` are left out.
    """
    if cls in TAGGED:
        yield TAG, cls.__name__
    for each in attrs.fields(cls):
        entry = getattr(value, each.name)
        if each.name != RAW and entry is not UNSET:
            name = each.alias or each.name
            yield name, str(entry) if isinstance(entry, URL) else entry


def as_dict(value: Any) -> dict[str, Any]:
    """
    Implement `Value.as_dict`.
    """
    fields = fields_of(value, value.__class__)
    return {name: _plain(entry) for name, entry in fields}


def json_default(value: object) -> Any:
    """
    Convert a value for ``json.dumps(…, default=json_default)``.

    It takes models, rows, times, URLs and `decimal.Decimal` numbers. A number
    becomes a text, as in pydantic, because readers of JSON numbers lose
    digits.

    Raises:
        TypeError: If *value* is something else.
    """
    match value:
        case Value() | tuple():
            return _plain(value)
        case decimal.Decimal() | URL():
            return str(value)
        case datetime.date():
            return value.isoformat()
    raise TypeError(f"{value.__class__.__name__} is not JSON serializable")


def _plain(value: Any) -> Any:
    match value:
        case Value():
            return value.as_dict()
        case list() | tuple():
            return list(map(_plain, value))
        case Mapping():
            return {name: _plain(entry) for name, entry in value.items()}
    return value
