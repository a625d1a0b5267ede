"""
Decodes 2xx responses into models, with every number exactly as printed.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from bankconnect_async import models
from bankconnect_async._json import load_json
from bankconnect_async._tracebacks import hide_frames
from bankconnect_async.errors import InvalidResponseError
from bankconnect_async.models._fields import (
    Pairs,
    Reader,
    list_of,
    mapping,
    object_of,
)
from bankconnect_async.models._rows import Rows


T = TypeVar("T")

# A response of this size takes milliseconds to decode.
_LARGE: Final = 128 * 1024


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
    value: T = _decode(object_of(cls), raw, status, keep_pairs=keep_pairs)
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
        if len(raw) > _LARGE and not keep_pairs:
            value = models.unread.read(read, raw, "$", problems)
        else:
            pairs = Pairs if keep_pairs else None
            document = load_json(raw, object_pairs_hook=pairs)
            value = read(document, "$", problems)
    except ValueError:
        # What follows the problems so far is not JSON.
        problems = ["is not JSON @ $"]
    if not problems:
        return value
    raise InvalidResponseError(
        f"the server answered {status} in another shape than documented: "
        f"{'; '.join(problems)}",
        problems=problems,
        status=status,
    )
