"""
Session parameters in cells, in JSON and on the command line.
"""

import difflib
import functools
import re

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

import attrs
import orjson

from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.models.sessions import (
    PARAMETERS,
    UNSET,
    Consent,
    Metadata,
    SessionRequest,
    check_link_id,
)
from bankconnect_async.sandbox.banks import find_bank

from .damage import find_damage, is_formula_error, quote, trim
from .dates import has_no_month, parse_date


T = TypeVar("T")

EXTRA: Final = "extra."
SECRETS: Final = frozenset({"api_key", "server_hash"})

# `int` accepts digits of all scripts, and underscores. Spreadsheets and data
# frames add decimals to whole numbers.
_WHOLE = re.compile(r"([+-]?[0-9]{1,18})(?:\.0{1,18})?")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?")
# Spreadsheets write booleans in the user's language; data frames write them
# as numbers where some are missing.
_TRUE = frozenset({"true", "yes", "1", "1.0", "wahr"})
_FALSE = frozenset({"false", "no", "0", "0.0", "falsch"})
#: The parameters that are dates.
DATES: Final = "from_date", "to_date", "max_from_date", "max_to_date"


def is_parameter(name: str) -> bool:
    """Tell whether *name* is valid for a column or a key."""
    return name in PARAMETERS or (
        name.startswith(EXTRA) and len(name) > len(EXTRA)
    )


def build_request(
    values: Mapping[str, Any], *, allow_any_link_id: bool = False
) -> SessionRequest:
    """
    Build a request from parameters, texts or JSON values.

    Without a *redirect_url* the client's own applies.

    Args:
        values: The values by parameter name; ``extra.NAME`` is an
            undocumented parameter.
        allow_any_link_id: Whether link ids that look damaged are accepted.

    Raises:
        InvalidRequestError: With every bad parameter in `fields`.
    """
    given: dict[str, Any] = {"link_id": "", "redirect_url": UNSET}
    problems: dict[str, tuple[str, ...]] = {}
    extra: dict[str, Any] = {}
    for name, value in values.items():
        try:
            if name == "link_id":
                given[name] = value
                if not allow_any_link_id:
                    _refuse_damaged_link_id(value)
            elif name.startswith(EXTRA):
                extra[name.removeprefix(EXTRA)] = _extra(value)
            else:
                given[name] = _parse(name, value)
        except InvalidRequestError as error:
            problems |= _prefix_fields(name, error)
        except ValueError as exc:
            problems[name] = (str(exc),)
    if extra:
        given["extra"] = extra
    return _build(SessionRequest, given, problems)


def _parse(name: str, value: Any) -> Any:
    if name in SECRETS:
        raise ValueError("is a secret, which comes from the environment only")
    if name not in PARAMETERS:
        raise ValueError(f"is unknown; {_suggest_name(name)}")
    return _PARSERS.get(name, _as_is)(value)


def _suggest_name(name: str) -> str:
    similar = difflib.get_close_matches(name.lower(), PARAMETERS, n=1)
    if similar:
        return f"write {similar[0]}, or {EXTRA}{name} if you mean another"
    return f"send it as {EXTRA}{name}"


def _build(
    cls: Callable[..., T],
    given: Mapping[str, Any],
    problems: Mapping[str, tuple[str, ...]],
) -> T:
    # The readable values are checked too, so that all problems are reported
    # together. A request needs some link id.
    readable = given
    if problems:
        readable = {
            name: value
            for name, value in given.items()
            if name not in problems or name == "link_id"
        }
    try:
        built = cls(**readable)
    except InvalidRequestError as error:
        problems = {**error.fields, **problems}
        raise InvalidRequestError(fields=problems) from None
    if problems:
        raise InvalidRequestError(fields=problems)
    return built


def _prefix_fields(
    name: str, error: InvalidRequestError
) -> dict[str, tuple[str, ...]]:
    return {f"{name}.{field}": text for field, text in error.fields.items()}


def _as_is(value: Any) -> Any:
    return value


def _extra(value: Any) -> Any:
    # Any other value may be valid to the vendor.
    if isinstance(value, str) and is_formula_error(value):
        raise ValueError(find_damage(value))
    return value


def _refuse_damaged_link_id(value: Any) -> None:
    problem: str | None = None
    match value:
        case str() if value.lower() == "link_id":
            problem = (
                "is the name of its own column: remove this repeated header"
            )
        case str():
            problem = find_damage(value)
        case _:
            raise ValueError(
                f"must be a text, not {type(value).__name__}: put it in quotes"
            )
    if problem is None:
        return
    # The request itself reports a text that no option makes a link id.
    with suppress(InvalidRequestError):
        check_link_id(value)
        raise ValueError(f"{problem}; --allow-any-link-id accepts it")


def find_month_first(values: Mapping[str, Any]) -> tuple[str, str] | None:
    """
    Find a date that was written month first beyond doubt.

    Args:
        values: The values by parameter name, as for `build_request`.

    Returns:
        The parameter's name and the date, if there is one.
    """
    for name in DATES:
        text = values.get(name)
        if isinstance(text, str) and has_no_month(text):
            return name, text
    for code, consent in _mapping_or_empty(values.get("consents")).items():
        for name, text in _mapping_or_empty(consent).items():
            if isinstance(text, str) and has_no_month(text):
                return f"consents.{code}.{name}", text
    return None


def _mapping_or_empty(value: Any) -> Mapping[str, Any]:
    try:
        return _mapping(value)
    except ValueError:
        return {}


def _date(value: Any) -> Any:
    return parse_date(value) if isinstance(value, str) else value


def _name(
    *known: str, read: Callable[[str], str] | None = None
) -> Callable[[Any], Any]:
    """Make a parser of documented words, in any case."""
    forms = {word.lower(): word for word in known}

    # Most rows of a file repeat the same words.
    @functools.lru_cache(maxsize=256)
    def parse_text(value: str) -> str:
        text = trim(value)
        if problem := find_damage(text):
            raise ValueError(problem)
        if read is not None:
            return read(text)
        return forms.get(text.lower(), text)

    def parse(value: Any) -> Any:
        return parse_text(value) if isinstance(value, str) else value

    return parse


def _bank(text: str) -> str:
    # The documents use identifiers in upper and lower case, so both are
    # sent unchanged.
    if text in {text.lower(), text.upper()}:
        return text
    bank = find_bank(text)
    return text if bank is None else bank.identifier


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    match = _WHOLE.fullmatch(trim(value))
    if match is None:
        raise ValueError(
            f"{quote(value)} is not a whole number: write digits alone"
        )
    return int(match[1])


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = trim(value)
    if not _NUMBER.fullmatch(text):
        raise ValueError(
            f"{quote(value)} is not a number: write digits and at most one "
            f"decimal point"
        )
    return float(text)


def _flag(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = trim(value).lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"{quote(value)} is neither true nor false")


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            value = None
    if isinstance(value, dict):
        return value
    raise ValueError("must be a JSON object")


def _consents(value: Any) -> dict[str, Consent | str]:
    consents: dict[str, Consent | str] = {}
    problems: dict[str, tuple[str, ...]] = {}
    for code, entry in _mapping(value).items():
        try:
            consents[code] = (
                entry
                if isinstance(entry, str)
                else _nested(Consent, _mapping(entry), _date)
            )
        except InvalidRequestError as error:
            problems |= _prefix_fields(code, error)
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


_PARSERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(DATES, _date),
    "bank_name": _name(read=_bank),
    "bank": _name(read=_bank),
    "mode": _name("pdf", "aa", "online"),
    "mobile_number": _name(),
    "journey_mode": _name("multi_pdf", "multi_banking", "aa_multi_banking"),
    "aa_journey_mode": _name(
        "only_once", "only_recurring", "once_with_recurring"
    ),
    "aa_recurring_frequency_unit": _name("year", "month", "day", "hour"),
    "aa_journey_code": _name("BCAA001", "BCAA002", "BCAA003", "BCAA004"),
    "session_expiry": _whole,
    "accept_anything": _flag,
    "is_mobile_field_editable": _flag,
    "aa_recurring_tenure_month_count": _whole,
    "aa_recurring_tenure_month": _number,
    "aa_recurring_frequency_value": _whole,
    "consents": _consents,
    "metadata": _metadata,
}
