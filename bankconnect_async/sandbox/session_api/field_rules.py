"""
Rules for the value of one parameter.
"""

import datetime
import re

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import attrs

from bankconnect_async.models import Consent, Metadata
from bankconnect_async.sandbox.banks import find_bank
from bankconnect_async.sandbox.http.errors import (
    ApiError,
    BadValueError,
    JsonObject,
    Problem,
)


Rule: TypeAlias = Callable[[object], Any]
TextRule: TypeAlias = Callable[[object], str]

_URL: Final = re.compile(
    r"https?://"
    r"(?:[^\x00-\x20/?#@\\]*@)?"
    r"(?:\[[0-9a-f:.]+\]|[^\x00-\x20/?#@:\[\]\\]+)"
    r"(?::[0-9]{1,5})?"
    r"(?:[/?#][^\x00-\x20]*)?",
    re.IGNORECASE,
)
_DATE: Final = re.compile(r"([0-9]{2})/([0-9]{2})/([0-9]{4})")
_WHOLE: Final = re.compile(r"\s*([+-]?[0-9]{1,18})(?:\.0*)?\s*")
_MOBILE_NUMBER: Final = re.compile(r"[0-9]{10}")

_EXPIRY_MINUTES: Final = range(5, 43200 + 1)
# Longer tenures are accepted and cut (contract, U-06).
_LONGEST_TENURE: Final = 60
_BOOLEANS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
#: The text about two dates in the wrong order.
NOT_BEFORE: Final = "`from_date` cannot be greater or equal to `to_date`."


def parse_fields(
    body: Mapping[str, Any],
    rules: Mapping[str, Rule],
    *,
    required: str,
) -> JsonObject:
    """
    Return the value of every parameter that has a rule.

    Args:
        body: The request's parameters by wire name.
        rules: The rule of each parameter by wire name; other parameters are
            ignored.
        required: The only required parameter; a `null` of another is left
            out.

    Raises:
        ApiError: With a problem for every invalid parameter.
    """
    values = {}
    problems = []
    for name, rule in rules.items():
        value = body.get(name)
        if value is None:
            if name == required:
                what = "may not be null" if name in body else "is required"
                problems.append(Problem(name, f"This field {what}."))
            continue
        try:
            values[name] = rule(value)
        except BadValueError as exc:
            problems.append(Problem(name, exc.text, exc.code))
    if problems:
        raise ApiError(HTTPStatus.BAD_REQUEST, problems=problems)
    return values


def _form_text(value: object) -> str:
    """
    Return a scalar as a form has it; a nested value is blank.
    """
    return str(value) if isinstance(value, str | int | float) else ""


def as_text(
    *, max_length: int | None = None, too_long: str = "INVALID_LENGTH"
) -> TextRule:
    """
    Accept a text or a number, as a text that is not blank.
    """

    def rule(value: object) -> str:
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise BadValueError("Not a valid string.")
        text = str(value)
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
    Accept an absolute http or https URL.
    """
    text = as_text(max_length=max_length)

    def rule(value: object) -> str:
        url = text(value)
        if not _URL.fullmatch(url):
            raise BadValueError("Enter a valid URL.", "INVALID_URL")
        return url

    return rule


as_bank_name: Final = as_text(max_length=50)


def as_date(value: object) -> datetime.date:
    """
    Accept `DD/MM/YYYY`.
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
    Accept one of *choices*.
    """

    def rule(value: object) -> str:
        text = _form_text(value)
        if text not in choices:
            raise BadValueError(f'"{text}" is not a valid choice.', code)
        return text

    return rule


def as_whole(value: object) -> int:
    """
    Accept a whole number, also written as a text.
    """
    if match := _WHOLE.fullmatch(_form_text(value)):
        return int(match[1])
    raise BadValueError("A valid integer is required.")


def as_aa_number(name: str, maximum: int) -> Callable[[object], int]:
    """
    Accept a whole number from 1 to *maximum*; *name* is for the refusal.
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
    Accept months from 1 to *maximum*, and cut long ones as the vendor does.
    """
    months = as_aa_number("Tenure", maximum)
    return lambda value: min(months(value), _LONGEST_TENURE)


def as_session_expiry(value: object) -> int:
    """
    Accept minutes from 5 to 43200.
    """
    match = _WHOLE.fullmatch(_form_text(value))
    if match and int(match[1]) in _EXPIRY_MINUTES:
        return int(match[1])
    raise BadValueError(
        "Session expiry should be int, "
        "Min value is 5 and Max is 43200 in minutes",
        "INVALID_SESSION_EXPIRY",
    )


def as_boolean(value: object) -> bool:
    """
    Accept a boolean, also in the words of a form.
    """
    try:
        return _BOOLEANS[_form_text(value).lower()]
    except KeyError:
        raise BadValueError("Must be a valid boolean.") from None


def as_mobile_number(value: object) -> str:
    """
    Accept ten digits.
    """
    text = _form_text(value)
    if _MOBILE_NUMBER.fullmatch(text):
        return text
    raise BadValueError("Invalid mobile number.", "INVALID_MOBILE_NUMBER")


def as_known_bank(value: object) -> str:
    """
    Accept the identifier of a documented bank.
    """
    name = as_bank_name(value)
    if find_bank(name) is None:
        raise BadValueError("Invalid bank identifier.", "INVALID_BANK_NAME")
    return name


def as_consents(value: object) -> JsonObject:
    """
    Accept consents by their code, each with its dates or as a text.
    """
    return {
        code: each if isinstance(each, str) else _consent(_dictionary(each))
        for code, each in _dictionary(value).items()
    }


def _consent(value: JsonObject) -> JsonObject:
    try:
        dates = {
            name: as_date(value[name])
            for name in attrs.fields_dict(Consent)
            if value.get(name) is not None
        }
    except BadValueError as exc:
        raise BadValueError(exc.text, "INVALID_AA_PARAMETER") from exc
    start = dates.get("from_date", datetime.date.min)
    if start >= dates.get("to_date", datetime.date.max):
        raise BadValueError(NOT_BEFORE, "INVALID_AA_PARAMETER")
    return dates


def as_metadata(value: object) -> JsonObject:
    """
    Accept lists of names.
    """
    given = _dictionary(value)
    lists = {
        name: given[name]
        for name in attrs.fields_dict(Metadata)
        if given.get(name) is not None
    }
    for names in lists.values():
        if not isinstance(names, list):
            raise _unexpected("a list of items", names)
        if not all(isinstance(name, str) for name in names):
            raise BadValueError("Not a valid string.")
    return lists


def _dictionary(value: object) -> JsonObject:
    if not isinstance(value, dict):
        raise _unexpected("a dictionary of items", value)
    return value


def _unexpected(expected: str, value: object) -> BadValueError:
    kind = type(value).__name__
    return BadValueError(f'Expected {expected} but got type "{kind}".')
