"""
Parsing of request bodies, in each encoding that the vendor may accept.
"""

import re

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from .errors import ApiError, JsonObject


_DISPOSITION: Final = re.compile(
    rb"^content-disposition:(.*)$", re.IGNORECASE | re.MULTILINE
)
_ATTRIBUTE: Final = re.compile(
    r';\s*(boundary|filename|name)=(?:"([^"]*)"|([^\s;"]+))', re.IGNORECASE
)
_MAX_FIELDS: Final = 1000


def parse_body(content_type: str, body: bytes) -> JsonObject:
    """
    Parse the parameters in a body; an empty body has none.

    Args:
        content_type: The Content-Type header, blank if there is none.
        body: The whole body.

    Raises:
        ApiError: If the encoding is unknown or broken.
    """
    # Django REST framework chooses no parser where there is nothing to parse.
    if not body:
        return {}
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in _PARSERS:
        shown = media_type.encode("ascii", "replace").decode()
        raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, shown)
    name, parse = _PARSERS[media_type]
    try:
        parameters = parse(content_type, body)
    except ValueError as exc:
        raise ApiError(
            HTTPStatus.BAD_REQUEST, f"{name} parse error - {exc}"
        ) from exc
    if not isinstance(parameters, dict):
        kind = type(parameters).__name__
        text = f"Invalid data. Expected a dictionary, but got {kind}."
        raise ApiError.of_field("non_field_errors", text)
    return parameters


def _parse_json(_: str, body: bytes) -> Any:
    return orjson.loads(body)


def _parse_form(_: str, body: bytes) -> JsonObject:
    fields = parse_qsl(
        body.decode(),
        keep_blank_values=True,
        errors="strict",
        max_num_fields=_MAX_FIELDS,
    )
    return _blanks_as_null(fields)


def _parse_multipart(content_type: str, body: bytes) -> JsonObject:
    boundary = _attributes(content_type).get("boundary")
    if not boundary:
        raise ValueError("Invalid boundary in multipart: None")
    delimiter = b"\r\n--" + boundary.encode()
    _, *parts = (b"\r\n" + body).split(delimiter, _MAX_FIELDS)
    if not parts or not parts[-1].startswith(b"--"):
        raise ValueError("Invalid multipart body")
    return _blanks_as_null(map(_parse_part, parts[:-1]))


def _parse_part(part: bytes) -> tuple[str, Any]:
    head, _, content = part.partition(b"\r\n\r\n")
    disposition = _DISPOSITION.search(head)
    attributes = _attributes(disposition[1].decode() if disposition else "")
    # A file stays bytes, which no parameter accepts.
    value = content if "filename" in attributes else content.decode()
    return attributes.get("name", ""), value


def _attributes(header: str) -> dict[str, str]:
    return {
        name.lower(): quoted or bare
        for name, quoted, bare in _ATTRIBUTE.findall(header)
    }


def _blanks_as_null(fields: Iterable[tuple[str, Any]]) -> JsonObject:
    # A form has no null: a blank optional field stands for it. An empty file
    # is a value.
    return {
        name: value if value != "" or name == "link_id" else None
        for name, value in fields
    }


_PARSERS: Final[Mapping[str, tuple[str, Callable[[str, bytes], Any]]]] = {
    "application/json": ("JSON", _parse_json),
    "application/x-www-form-urlencoded": ("Form", _parse_form),
    "multipart/form-data": ("Multipart form", _parse_multipart),
}
