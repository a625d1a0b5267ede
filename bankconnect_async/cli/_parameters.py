"""
Session parameters as people write them: in cells, in JSON, on a command line.
"""

import datetime
import difflib
import re

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import attrs
import orjson

from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.schema import (
    PARAMETERS,
    UNSET,
    Consent,
    Metadata,
    SessionRequest,
)


T = TypeVar("T")

EXTRA: Final = "extra."
SECRETS: Final = frozenset({"api_key", "server_hash"})

_VENDOR_DATE = re.compile(r"([0-9]{2})/([0-9]{2})/([0-9]{4})")
_ISO_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
# Python would take digits of all scripts and underscores between them too.
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_TRUE = frozenset({"true", "yes", "1"})
_FALSE = frozenset({"false", "no", "0"})


def is_parameter(name: str) -> bool:
    """Tell whether *name* may head a column or be a key."""
    return name in PARAMETERS or (
        name.startswith(EXTRA) and len(name) > len(EXTRA)
    )


def build_request(values: Mapping[str, Any]) -> SessionRequest:
    """
    Make a request of parameters, texts or JSON values.

    A *redirect_url* that is missing stays unset: the client's counts.

    Args:
        values: Parameter name to value; ``extra.NAME`` for one that this
            version does not know.

    Raises:
        InvalidRequestError: With every bad parameter in `fields`.
    """
    given: dict[str, Any] = {"link_id": "", "redirect_url": UNSET}
    problems: dict[str, tuple[str, ...]] = {}
    extra: dict[str, Any] = {}
    for name, value in values.items():
        if name.startswith(EXTRA):
            extra[name.removeprefix(EXTRA)] = value
            continue
        try:
            given[name] = _parse(name, value)
        except InvalidRequestError as error:
            problems |= _below(name, error)
        except ValueError as exc:
            problems[name] = (str(exc),)
    if extra:
        given["extra"] = extra
    return _build(SessionRequest, given, problems)


def _parse(name: str, value: Any) -> Any:
    if name in SECRETS:
        raise ValueError("is a secret, which comes from the environment only")
    if name not in PARAMETERS:
        raise ValueError(f"is unknown; {_advise(name)}")
    return _PARSERS.get(name, _as_is)(value)


def _advise(name: str) -> str:
    similar = difflib.get_close_matches(name.lower(), PARAMETERS, n=1)
    if similar:
        return f"write {similar[0]}, or {EXTRA}{name} if you mean another"
    return f"send it as {EXTRA}{name}"


def _build(
    cls: Callable[..., T],
    given: Mapping[str, Any],
    problems: Mapping[str, tuple[str, ...]],
) -> T:
    # What could not even be read is left out while the rest is judged, so
    # that all problems come together.
    readable = {
        name: value for name, value in given.items() if name not in problems
    }
    try:
        built = cls(**readable)
    except InvalidRequestError as error:
        problems = {**error.fields, **problems}
        raise InvalidRequestError(fields=problems) from None
    if problems:
        raise InvalidRequestError(fields=problems)
    return built


def _below(
    name: str, error: InvalidRequestError
) -> dict[str, tuple[str, ...]]:
    return {f"{name}.{field}": text for field, text in error.fields.items()}


def _as_is(value: Any) -> Any:
    return value


def parse_date(value: Any) -> Any:
    """
    Read ``DD/MM/YYYY`` or ISO ``YYYY-MM-DD``.

    Raises:
        ValueError: If *value* is another text, or no day of any calendar.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    parts: tuple[str, ...] = ()
    if match := _VENDOR_DATE.fullmatch(text):
        parts = match.groups()[::-1]
    elif match := _ISO_DATE.fullmatch(text):
        parts = match.groups()
    try:
        year, month, day = map(int, parts)
        return datetime.date(year, month, day)
    except ValueError:
        raise ValueError(
            f"{_short(text)} is not a date: use DD/MM/YYYY or YYYY-MM-DD"
        ) from None


def _whole(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{_short(value)} is not a whole number")
    return int(text)


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{_short(value)} is not a number")
    return float(text)


def _flag(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"{_short(value)} is neither true nor false")


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            value = None
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004
    return value


def _consents(value: Any) -> dict[str, Consent]:
    consents: dict[str, Consent] = {}
    problems: dict[str, tuple[str, ...]] = {}
    for code, entry in _mapping(value).items():
        try:
            consents[code] = _nested(Consent, _mapping(entry), parse_date)
        except InvalidRequestError as error:
            problems |= _below(code, error)
        except ValueError as exc:
            problems[code] = (str(exc),)
    if problems:
        raise InvalidRequestError(fields=problems)
    return consents


def _metadata(value: Any) -> Metadata:
    return _nested(Metadata, _mapping(value), _as_is)


def _nested(
    cls: type[T], values: Mapping[str, Any], parse: Callable[[Any], Any]
) -> T:
    known = attrs.fields_dict(cls)  # type: ignore[arg-type]
    problems: dict[str, tuple[str, ...]] = {}
    given = {}
    for name, value in values.items():
        if name not in known:
            problems[name] = ("is unknown",)
            continue
        try:
            given[name] = parse(value)
        except ValueError as exc:
            problems[name] = (str(exc),)
    return _build(cls, given, problems)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:39]}…")  # noqa: PLR2004


_PARSERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "from_date": parse_date,
    "to_date": parse_date,
    "session_expiry": _whole,
    "accept_anything": _flag,
    "is_mobile_field_editable": _flag,
    "aa_recurring_tenure_month_count": _whole,
    "aa_recurring_tenure_month": _number,
    "aa_recurring_frequency_value": _whole,
    "consents": _consents,
    "metadata": _metadata,
}
