"""
What the value of one parameter must be, whatever the others are.
"""

import datetime
import re

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import attrs

from bankconnect_async.models.sessions import Consent, Metadata
from bankconnect_async.sandbox.banks import find_bank
from bankconnect_async.sandbox.http.errors import (
    ApiError,
    BadValueError,
    JsonObject,
    Problem,
)


Rule: TypeAlias = Callable[[object], Any]
TextRule: TypeAlias = Callable[[object], str]

_URL = re.compile(
    r"https?://"
    r"(?:[^\x00-\x20/?#@\\]*@)?"
    r"(?:\[[0-9a-f:.]+\]|[^\x00-\x20/?#@:\[\]\\]+)"
    r"(?::[0-9]{1,5})?"
    r"(?:[/?#][^\x00-\x20]*)?",
    re.IGNORECASE,
)
_DATE = re.compile(r"([0-9]{2})/([0-9]{2})/([0-9]{4})")
_WHOLE = re.compile(r"\s*([+-]?[0-9]{1,18})(?:\.0*)?\s*")
_MOBILE_NUMBER = re.compile(r"[0-9]{10}")

# Longer tenures are taken and cut (contract, U-06).
_LONGEST_TENURE = 60
_BOOLEANS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
#: The text about two dates in the wrong order.
NOT_BEFORE: Final = "`from_date` cannot be greater or equal to `to_date`."


def read_fields(
    body: Mapping[str, Any],
    rules: Mapping[str, Rule],
    *,
    required: str,
) -> tuple[JsonObject, list[Problem]]:
    """
    Read every parameter that has a rule, and say what is wrong with it.

    Args:
        body: The request's parameters by wire name.
        rules: Wire name to rule; other parameters are ignored.
        required: The one parameter that must be there.

    Returns:
        Values and problems; `null` of an optional parameter is neither.
    """
    values = {}
    problems = []
    for name, rule in rules.items():
        try:
            value = _read_field(rule, name, body, required)
        except BadValueError as exc:
            problems.append(Problem(name, exc.text, exc.code))
        else:
            if value is not None:
                values[name] = value
    return values, problems


def parse_fields(
    body: Mapping[str, Any],
    rules: Mapping[str, Rule],
    *,
    required: str,
) -> JsonObject:
    """
    Read every parameter that has a rule, as `read_fields` does.

    Raises:
        ApiError: With a problem for every bad parameter.
    """
    values, problems = read_fields(body, rules, required=required)
    if problems:
        raise ApiError(HTTPStatus.BAD_REQUEST, problems=problems)
    return values


def _read_field(
    rule: Rule, name: str, body: Mapping[str, Any], required: str
) -> Any:
    if (value := body.get(name)) is not None:
        return rule(value)
    if name != required:
        return None
    if name in body:
        raise BadValueError("This field may not be null.")
    raise BadValueError("This field is required.")


def _written(value: object) -> str | None:
    """
    Write a scalar as a form would; a nested value has no such writing.
    """
    return str(value) if isinstance(value, str | int | float) else None


def as_text(
    *, max_length: int | None = None, too_long: str = "INVALID_LENGTH"
) -> TextRule:
    """
    Take a text or a number, as a text that is not blank.
    """

    def rule(value: object) -> str:
        text = _written(value)
        if text is None or isinstance(value, bool):
            raise BadValueError("Not a valid string.")
        if not text.strip():
            raise BadValueError("This field may not be blank.")
        if "\x00" in text:
            raise BadValueError("Null characters are not allowed.")
        if max_length is not None and len(text) > max_length:
            raise BadValueError(
                f"Ensure this field has no more than {max_length} characters.",
                too_long,
            )
        return text

    return rule


def as_url(*, max_length: int | None = None) -> TextRule:
    """
    Take an absolute http or https URL.
    """
    text = as_text(max_length=max_length)

    def rule(value: object) -> str:
        url = text(value)
        if not _URL.fullmatch(url):
            raise BadValueError("Enter a valid URL.", "INVALID_URL")
        return url

    return rule


as_bank_name = as_text(max_length=50)


def as_date(value: object) -> datetime.date:
    """
    Take `DD/MM/YYYY`.
    """
    if isinstance(value, str) and (match := _DATE.fullmatch(value)):
        day, month, year = map(int, match.groups())
        try:
            return datetime.date(year, month, day)
        except ValueError:
            pass
    raise BadValueError(
        "Date has wrong format. Use one of these formats instead: DD/MM/YYYY.",
        "INVALID_DATE_FORMAT",
    )


def as_choice(*choices: str, code: str = "INVALID_REQUEST") -> Rule:
    """
    Take one of *choices*.
    """

    def rule(value: object) -> str:
        text = _written(value)
        if text not in choices:
            raise BadValueError(f'"{text or ""}" is not a valid choice.', code)
        return text

    return rule


def as_whole(value: object) -> int:
    """
    Take a whole number, also written as a text.
    """
    if match := _WHOLE.fullmatch(_written(value) or ""):
        return int(match[1])
    raise BadValueError("A valid integer is required.")


def as_aa_number(name: str, maximum: int) -> Callable[[object], int]:
    """
    Take a whole number from 1 to *maximum*; *name* is for the refusal.
    """

    def rule(value: object) -> int:
        number = as_whole(value)
        if not 1 <= number <= maximum:
            raise BadValueError(
                f"{name} must be between 1 and {maximum}",
                "INVALID_AA_PARAMETER",
            )
        return number

    return rule


def as_tenure(maximum: int) -> Rule:
    """
    Take months from 1 to *maximum*, and cut them as the vendor does.
    """
    months = as_aa_number("Tenure", maximum)
    return lambda value: min(months(value), _LONGEST_TENURE)


def as_session_expiry(value: object) -> int:
    """
    Take minutes from 5 to 43200.
    """
    match = _WHOLE.fullmatch(_written(value) or "")
    if match and 5 <= (minutes := int(match[1])) <= 43200:  # noqa: PLR2004
        return minutes
    raise BadValueError(
        "Session expiry should be int, "
        "Min value is 5 and Max is 43200 in minutes",
        "INVALID_SESSION_EXPIRY",
    )


def as_boolean(value: object) -> bool:
    """
    Take a boolean, also in the words of a form.
    """
    try:
        return _BOOLEANS[(_written(value) or "").lower()]
    except KeyError:
        raise BadValueError("Must be a valid boolean.") from None


def as_mobile_number(value: object) -> str:
    """
    Take ten digits.
    """
    text = _written(value) or ""
    if _MOBILE_NUMBER.fullmatch(text):
        return text
    raise BadValueError("Invalid mobile number.", "INVALID_MOBILE_NUMBER")


def as_known_bank(value: object) -> str:
    """
    Take the identifier of a documented bank.
    """
    name = as_bank_name(value)
    if find_bank(name) is None:
        raise BadValueError("Invalid bank identifier.", "INVALID_BANK_NAME")
    return name


def as_consents(value: object) -> JsonObject:
    """
    Take consents by their code.
    """
    if not isinstance(value, dict):
        raise BadValueError(_expected("a dictionary of items", value))
    return {code: _consent(consent) for code, consent in value.items()}


def _consent(value: object) -> JsonObject:
    if not isinstance(value, dict):
        raise BadValueError(_expected("a dictionary of items", value))
    try:
        dates = {
            name: as_date(value[name])
            for name in attrs.fields_dict(Consent)
            if value.get(name) is not None
        }
    except BadValueError as exc:
        raise BadValueError(exc.args[0], "INVALID_AA_PARAMETER") from exc
    start = dates.get("from_date", datetime.date.min)
    if start >= dates.get("to_date", datetime.date.max):
        raise BadValueError(NOT_BEFORE, "INVALID_AA_PARAMETER")
    return dates


def as_metadata(value: object) -> JsonObject:
    """
    Take lists of names.
    """
    if not isinstance(value, dict):
        raise BadValueError(_expected("a dictionary of items", value))
    return {
        name: _texts(value[name])
        for name in attrs.fields_dict(Metadata)
        if value.get(name) is not None
    }


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        raise BadValueError(_expected("a list of items", value))
    if not all(isinstance(text, str) for text in value):
        raise BadValueError("Not a valid string.")
    return value


def _expected(what: str, value: object) -> str:
    return f'Expected {what} but got type "{type(value).__name__}".'
