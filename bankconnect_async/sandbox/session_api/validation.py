"""
Validation of ``POST session/`` by the rules of any documented dialect.

Pure: bytes and the date of today in, parameters or an error out.
"""

import datetime

from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any, Final

import attrs

from bankconnect_async.sandbox.http.bodies import parse_body
from bankconnect_async.sandbox.http.endpoints import (
    UNPAID_API_KEY,
    secrets_match,
)
from bankconnect_async.sandbox.http.errors import ApiError, coded_error

from .dialects import DialectRules
from .field_rules import parse_fields


# The limit is not documented: twice as many as there are.
_MAX_PARAMETERS: Final = 50


@attrs.frozen(kw_only=True)
class SandboxRequest:
    """
    A request to create a session.

    Attributes:
        method: The HTTP method, in upper case.
        content_type: The Content-Type header, blank if there is none.
        body: The whole body.
        header_key: The header `x-api-key`.
    """

    method: str
    content_type: str
    body: bytes = attrs.field(repr=False)
    header_key: str | None = attrs.field(default=None, repr=False)


def validate_request(
    request: SandboxRequest,
    *,
    rules: DialectRules,
    api_key: str,
    today: datetime.date,
    modes: Collection[str],
) -> Mapping[str, Any]:
    """
    Return the parameters of a request, or raise the error of the vendor.

    Args:
        request: The request.
        rules: The rules of the dialect; see `rules_for`.
        api_key: The key that is accepted, beside `UNPAID_API_KEY`.
        today: Today's date in India.
        modes: The modes that are enabled for the customer.

    Returns:
        The dialect's parameters by wire name, as Python values, without
        those that are `None` and without the key.

    Raises:
        ApiError: If the vendor would refuse the request.
    """
    if request.method != "POST":
        raise ApiError(
            HTTPStatus.METHOD_NOT_ALLOWED,
            request.method,
            headers={"Allow": "POST"},
        )
    body = parse_body(request.content_type, request.body)
    key = body.get("api_key")
    key = request.header_key if key is None else key
    if secrets_match(key, UNPAID_API_KEY):
        raise ApiError(HTTPStatus.PAYMENT_REQUIRED)
    if not secrets_match(key, api_key):
        raise ApiError(HTTPStatus.UNAUTHORIZED)
    if rules.has_codes and len(body) > _MAX_PARAMETERS:
        raise coded_error("coded", "INVALID_PARAMETER_COUNT")
    parameters = parse_fields(body, rules.fields, required="link_id")
    problems = [
        problem
        for check in rules.checks
        for problem in check(parameters, today)
    ]
    if problems:
        raise ApiError(HTTPStatus.BAD_REQUEST, problems=problems)
    if rules.has_codes and parameters.get("mode") not in {None, *modes}:
        raise coded_error("coded", "MODE_NOT_ENABLED")
    return parameters
