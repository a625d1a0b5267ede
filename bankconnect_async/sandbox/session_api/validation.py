"""
The verdict on ``POST session/``, by the rules of any documented dialect.

Pure: bytes and the date of today in, an accepted request or a refusal out.
"""

import datetime
import hmac

from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any, Final

import attrs

from bankconnect_async.sandbox.http.bodies import SandboxRequest, parse_body
from bankconnect_async.sandbox.http.errors import ApiError, coded_error

from .dialects import DialectRules
from .field_rules import read_fields


#: A key that is known, of a customer whose plan is over.
UNPAID_API_KEY: Final = "sandbox-unpaid-key"
#: What `mode` may be, where nothing is switched off.
ALL_MODES: Final = ("pdf", "aa", "online")

# How many parameters are too many is not documented: twice those that are.
_MOST: Final = 50


@attrs.frozen(kw_only=True)
class Accepted:
    """
    A request the vendor would process.

    Attributes:
        parameters: Those the dialect has, by wire name, in Python's types;
            `None` is left out, and so is the key.
    """

    parameters: Mapping[str, Any] = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Refused:
    """
    A request the vendor would refuse.

    Attributes:
        status: HTTP status of the answer.
        body: The JSON object to answer with.
    """

    status: int
    body: Mapping[str, Any]


def judge(
    call: SandboxRequest,
    *,
    api: DialectRules,
    api_key: str,
    today: datetime.date,
    modes: Collection[str] = ALL_MODES,
) -> Accepted | Refused:
    """
    Decide on one request as the vendor would.

    Args:
        call: The request.
        api: Whose rules hold; see `rules_for`.
        api_key: The key that is let in, beside `UNPAID_API_KEY`.
        today: Today's date in India.
        modes: Those that are switched on for the customer.
    """
    try:
        _admit_method(call)
        body = parse_body(call)
        _admit_key(body.get("api_key"), call.header_key, api_key)
        if api.has_codes:
            _admit_count(body)
        parameters = _validated(body, api, today)
        if api.has_codes:
            _admit_mode(parameters.get("mode"), modes)
        return Accepted(parameters=parameters)
    except ApiError as refusal:
        written = refusal.body or api.write(refusal)
        return Refused(status=refusal.status, body=written)


def _admit_method(call: SandboxRequest) -> None:
    if call.method != "POST":
        raise ApiError(HTTPStatus.METHOD_NOT_ALLOWED, call.method)


def _admit_key(body_key: Any, header_key: str | None, api_key: str) -> None:
    given = header_key if body_key is None else body_key
    if secrets_match(given, UNPAID_API_KEY):
        raise ApiError(HTTPStatus.PAYMENT_REQUIRED)
    if not secrets_match(given, api_key):
        raise ApiError(HTTPStatus.UNAUTHORIZED)


def _admit_count(body: Mapping[str, Any]) -> None:
    if len(body) > _MOST:
        raise coded_error(
            HTTPStatus.BAD_REQUEST,
            "INVALID_PARAMETER_COUNT",
            "Invalid number of parameters",
        )


def _admit_mode(mode: str | None, modes: Collection[str]) -> None:
    if mode is not None and mode not in modes:
        raise coded_error(
            HTTPStatus.FORBIDDEN,
            "MODE_NOT_ENABLED",
            "Specified mode not enabled. Contact FinBox Admin.",
        )


def secrets_match(given: object, key: str) -> bool:
    """
    Compare what a caller gave with a secret, in constant time.
    """
    # aiohttp leaves lone surrogates where a header is not UTF-8.
    return isinstance(given, str) and hmac.compare_digest(
        given.encode(errors="surrogatepass"),
        key.encode(errors="surrogatepass"),
    )


def _validated(
    body: Mapping[str, Any], api: DialectRules, today: datetime.date
) -> Mapping[str, Any]:
    values, problems = read_fields(body, api.rules, required="link_id")
    if not problems:
        problems = [
            problem for check in api.checks for problem in check(values, today)
        ]
    if problems:
        raise ApiError(HTTPStatus.BAD_REQUEST, problems=problems)
    return values
