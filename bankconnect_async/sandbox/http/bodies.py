"""
Bodies of requests, in each of the encodings that the vendor may take.
"""

import re

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

import attrs
import orjson

from .errors import ApiError, JsonObject, Problem


_DISPOSITION = re.compile(
    rb"^content-disposition:(.*)$", re.IGNORECASE | re.MULTILINE
)
_ATTRIBUTE = re.compile(
    r';\s*(boundary|filename|name)=(?:"([^"]*)"|([^\s;"]+))', re.IGNORECASE
)
_MAX_FIELDS = 1000


@attrs.frozen(kw_only=True)
class SandboxRequest:
    """
    What of an HTTP request matters.

    Attributes:
        method: In upper case.
        content_type: The header as it came, blank if there was none.
        body: The whole body.
        header_key: The header `x-api-key`.
    """

    method: str
    content_type: str
    body: bytes = attrs.field(repr=False)
    header_key: str | None = attrs.field(default=None, repr=False)


def parse_body(call: SandboxRequest) -> JsonObject:
    """
    Read the parameters in a body; none has none.

    Raises:
        ApiError: If its encoding is unknown or broken.
    """
    # The framework does not look for a parser if there is nothing to parse.
    if not call.body:
        return {}
    media_type = call.content_type.partition(";")[0].strip().lower()
    if media_type not in _READERS:
        shown = media_type.encode("ascii", "replace").decode()
        raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, shown)
    name, read = _READERS[media_type]
    try:
        body = read(call)
    except ValueError as exc:
        raise ApiError(
            HTTPStatus.BAD_REQUEST, f"{name} parse error - {exc}"
        ) from exc
    if not isinstance(body, dict):
        kind = type(body).__name__
        text = f"Invalid data. Expected a dictionary, but got {kind}."
        raise ApiError(
            HTTPStatus.BAD_REQUEST,
            problems=[Problem("non_field_errors", text)],
        )
    return body


def _read_json(call: SandboxRequest) -> Any:
    return orjson.loads(call.body)


def _read_form(call: SandboxRequest) -> JsonObject:
    fields = parse_qsl(
        call.body.decode(),
        keep_blank_values=True,
        errors="strict",
        max_num_fields=_MAX_FIELDS,
    )
    return _without_blanks(fields)


def _read_multipart(call: SandboxRequest) -> JsonObject:
    boundary = _attributes(call.content_type).get("boundary")
    if not boundary:
        raise ValueError("Invalid boundary in multipart: None")
    delimiter = b"\r\n--" + boundary.encode()
    _, *parts = (b"\r\n" + call.body).split(delimiter, _MAX_FIELDS)
    if not parts or not parts[-1].startswith(b"--"):
        raise ValueError("Invalid multipart body")
    return _without_blanks(_read_part(part) for part in parts[:-1])


def _read_part(part: bytes) -> tuple[str, Any]:
    head, _, content = part.partition(b"\r\n\r\n")
    disposition = _DISPOSITION.search(head)
    attributes = _attributes(disposition[1].decode() if disposition else "")
    # A file stays bytes, which no parameter can be.
    value = content if "filename" in attributes else content.decode()
    return attributes.get("name", ""), value


def _attributes(header: str) -> dict[str, str]:
    return {
        name.lower(): quoted or bare
        for name, quoted, bare in _ATTRIBUTE.findall(header)
    }


def _without_blanks(fields: Iterable[tuple[str, Any]]) -> JsonObject:
    # A form cannot say null: a blank stands for it in what is optional. An
    # empty file is there nevertheless.
    return {
        name: value if value != "" or name == "link_id" else None
        for name, value in fields
    }


_READERS: Final[Mapping[str, tuple[str, Callable[[SandboxRequest], Any]]]] = {
    "application/json": ("JSON", _read_json),
    "application/x-www-form-urlencoded": ("Form", _read_form),
    "multipart/form-data": ("Multipart form", _read_multipart),
}
