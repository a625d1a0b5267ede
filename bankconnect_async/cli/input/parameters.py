"""
Session parameters in cells, in JSON and on the command line.
"""

import functools
import re

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import orjson

from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.models import Consent, Metadata
from bankconnect_async.models.sessions import (
    PARAMETERS,
    UNSET,
    SessionRequest,
    check_link_id,
)
from bankconnect_async.models.suggestions import similar_parameter
from bankconnect_async.sandbox.banks import find_bank

from .damage import find_damage, is_formula_error, quote, trim
from .dates import has_no_month, parse_date


T = TypeVar("T")

_Problems: TypeAlias = dict[str, tuple[str, ...]]

EXTRA: Final = "extra."
SECRETS: Final = frozenset({"api_key", "server_hash"})

# `int` accepts digits of all scripts, and underscores. Spreadsheets and data
# frames add decimals to whole numbers.
_WHOLE = re.compile(r"([+-]?[0-9]{1,18})(?:\.0{1,18})?")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?")
# Spreadsheets write booleans in the user's language; data frames write them
# as numbers where some are missing.
_FLAGS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "yes", "1", "1.0", "wahr"), True),
    **dict.fromkeys(("false", "no", "0", "0.0", "falsch"), False),
}
#: The parameters that are dates.
DATES: Final = "from_date", "to_date", "max_from_date", "max_to_date"


def is_parameter(name: str) -> bool:
    """Tell whether *name* is valid for a column or a key."""
    return name in PARAMETERS or is_extra(name)


def is_extra(name: str) -> bool:
    """Tell whether *name* is that of a column `extra.NAME`."""
    return name.startswith(EXTRA) and len(name) > len(EXTRA)


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

    def parse(name: str, value: Any) -> Any:
        if name == "link_id":
            return value if allow_any_link_id else _undamaged_link_id(value)
        return _parse(name, value)

    parsed, problems = _parse_all(values, parse)
    given = {"redirect_url": UNSET, "link_id": values.get("link_id", "")}
    extra: dict[str, Any] = {}
    for name, value in parsed.items():
        if name.startswith(EXTRA):
            extra[name.removeprefix(EXTRA)] = value
        else:
            given[name] = value
    if extra:
        given["extra"] = extra
    return _build(SessionRequest, given, problems)


def check_defaults(values: Mapping[str, str]) -> None:
    """
    Check parameters that all rows have, each on its own.

    Raises:
        InvalidRequestError: With every bad parameter in `fields`.
    """

    def parse(name: str, value: Any) -> Any:
        if name == "link_id":
            raise ValueError("comes from the rows")
        return _parse(name, value)

    _, problems = _parse_all(values, parse)
    if problems:
        raise InvalidRequestError(fields=problems)


def _parse(name: str, value: Any) -> Any:
    if name.startswith(EXTRA):
        return _extra(value)
    if name in SECRETS:
        raise ValueError("is a secret, which comes from the environment only")
    if name not in PARAMETERS:
        raise ValueError(f"is unknown; {_suggest(name)}")
    return _PARSERS.get(name, _as_is)(value)


def _suggest(name: str) -> str:
    similar = similar_parameter(name)
    if similar is not None:
        return f"write {similar}, or {EXTRA}{name} if you mean another"
    return f"send it as {EXTRA}{name}"


def _parse_all(
    values: Mapping[str, Any], parse: Callable[[str, Any], Any]
) -> tuple[dict[str, Any], _Problems]:
    """Parse all values, and return the parsed ones and all problems."""
    parsed: dict[str, Any] = {}
    problems: _Problems = {}
    for name, value in values.items():
        try:
            parsed[name] = parse(name, value)
        except InvalidRequestError as error:
            for field, texts in error.fields.items():
                problems[f"{name}.{field}"] = texts
        except ValueError as exc:
            problems[name] = (str(exc),)
    return parsed, problems


def _build(
    cls: Callable[..., T], parsed: Mapping[str, Any], problems: _Problems
) -> T:
    # The parsed values are validated too, so that one error reports all
    # problems.
    try:
        built = cls(**parsed)
    except InvalidRequestError as error:
        raise InvalidRequestError(
            fields={**error.fields, **problems}
        ) from None
    if problems:
        raise InvalidRequestError(fields=problems)
    return built


def _undamaged_link_id(value: Any) -> Any:
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
    if problem is not None:
        # The request itself reports a text that no option makes a link id.
        with suppress(InvalidRequestError):
            check_link_id(value)
            raise ValueError(f"{problem}; --allow-any-link-id accepts it")
    return value


def _extra(value: Any) -> Any:
    # Any other value may be valid to the vendor.
    if isinstance(value, str) and is_formula_error(value):
        raise ValueError(find_damage(value))
    return value


def find_month_first(values: Mapping[str, Any]) -> tuple[str, str] | None:
    """
    Find a date that was written month first beyond doubt.

    Args:
        values: The values by parameter name, as for `build_request`.

    Returns:
        The parameter's name and the date, if there is one.
    """
    for name, text in _find_dates(values):
        if isinstance(text, str) and has_no_month(text):
            return name, text
    return None


def _find_dates(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in DATES:
        yield name, values.get(name)
    for code, consent in _mapping_or_empty(values.get("consents")).items():
        for name, text in _mapping_or_empty(consent).items():
            yield f"consents.{code}.{name}", text


def _mapping_or_empty(value: Any) -> Mapping[str, Any]:
    try:
        return _mapping(value)
    except ValueError:
        return {}


def _as_is(value: Any) -> Any:
    return value


def _if_text(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Make a parser that leaves JSON values other than texts as they are."""

    @functools.wraps(parse)
    def parse_value(value: Any) -> Any:
        return parse(value) if isinstance(value, str) else value

    return parse_value


def _word(*known: str) -> Callable[[Any], Any]:
    """Make a parser of documented words, in any case."""
    forms = {word.lower(): word for word in known}
    return _name(lambda text: forms.get(text.lower(), text))


def _name(parse: Callable[[str], str]) -> Callable[[Any], Any]:
    """Make a parser of names, which may be damaged."""

    # Most rows of a file repeat the same names.
    @functools.lru_cache(maxsize=256)
    def parse_text(value: str) -> str:
        text = trim(value)
        if problem := find_damage(text):
            raise ValueError(problem)
        return parse(text)

    return _if_text(parse_text)


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
    return _whole_text(value)


@_if_text
def _whole_text(value: str) -> int:
    if match := _WHOLE.fullmatch(trim(value)):
        return int(match[1])
    raise ValueError(
        f"{quote(value)} is not a whole number: write only digits"
    )


@_if_text
def _number(value: str) -> float:
    if match := _NUMBER.fullmatch(trim(value)):
        return float(match[0])
    raise ValueError(
        f"{quote(value)} is not a number: write digits and at most one "
        f"decimal point"
    )


@_if_text
def _flag(value: str) -> bool:
    try:
        return _FLAGS[trim(value).lower()]
    except KeyError:
        raise ValueError(f"{quote(value)} is neither true nor false") from None


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        with suppress(orjson.JSONDecodeError):
            value = orjson.loads(value)
    if isinstance(value, dict):
        return value
    raise ValueError("must be a JSON object")


def _consents(value: Any) -> dict[str, Consent | str]:
    known = attrs.fields_dict(Consent)

    def parse(code: str, consent: Any) -> Consent | str:
        # A text may hold the JSON of an object.
        if isinstance(consent, str) and not consent.lstrip().startswith("{"):
            if code in known or not consent.strip():
                raise ValueError("must be a JSON object or a text")
            return consent
        return _object(Consent, consent, _if_text(parse_date))

    return _build(dict, *_parse_all(_mapping(value), parse))


def _metadata(value: Any) -> Metadata:
    return _object(Metadata, value, _as_is)


def _object(cls: type[T], value: Any, parse: Callable[[Any], Any]) -> T:
    known = attrs.fields_dict(cls)  # type: ignore[arg-type]

    def parse_field(name: str, field: Any) -> Any:
        if name not in known:
            raise ValueError("is unknown")
        return parse(field)

    return _build(cls, *_parse_all(_mapping(value), parse_field))


_PARSERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(DATES, _if_text(parse_date)),
    "bank_name": _name(_bank),
    "bank": _name(_bank),
    "mode": _word("pdf", "aa", "online"),
    "mobile_number": _word(),
    "journey_mode": _word("multi_pdf", "multi_banking", "aa_multi_banking"),
    "aa_journey_mode": _word(
        "only_once", "only_recurring", "once_with_recurring"
    ),
    "aa_recurring_frequency_unit": _word("year", "month", "day", "hour"),
    "aa_journey_code": _word("BCAA001", "BCAA002", "BCAA003", "BCAA004"),
    "session_expiry": _whole,
    "accept_anything": _flag,
    "is_mobile_field_editable": _flag,
    "aa_recurring_tenure_month_count": _whole,
    "aa_recurring_tenure_month": _number,
    "aa_recurring_frequency_value": _whole,
    "consents": _consents,
    "metadata": _metadata,
}
