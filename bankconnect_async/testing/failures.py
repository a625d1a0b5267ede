"""
Every documented failure of a create, and what the client makes of it.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from bankconnect_async.errors import (
    AuthenticationError,
    BadRequestError,
    BankConnectError,
    ConnectError,
    ConnectionLostError,
    Delivery,
    InvalidResponseError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
)
from bankconnect_async.sandbox import Fault


@attrs.frozen(kw_only=True)
class DocumentedFailure:
    """
    One way in which creating a session fails.

    Attributes:
        name: The name, which is that of the test's case.
        fault: The fault of the sandbox; `None` if nothing listens at its
            port.
        error: The class of the error that the client raises.
        delivery: Whether the last request can have reached the server.
    """

    name: str
    fault: Fault | None = attrs.field(repr=False)
    error: type[BankConnectError]
    delivery: Delivery


# The codes of the Session API (contract, `session-api.md`), by their status.
_CODES: Final[Mapping[int, tuple[type[BankConnectError], str]]] = {
    400: (
        BadRequestError,
        "INVALID_AA_PARAMETER INVALID_BANK_NAME INVALID_DATE_FORMAT "
        "INVALID_DATE_RANGE INVALID_LENGTH INVALID_MOBILE_NUMBER "
        "INVALID_PARAMETER_COUNT INVALID_REQUEST INVALID_SESSION_EXPIRY "
        "INVALID_URL MISSING_AA_PARAMETER MISSING_BANK_NAME "
        "MISSING_DATE_FIELD MODE_NOT_AVAILABLE",
    ),
    401: (AuthenticationError, "AUTHENTICATION_CREDENTIALS_NOT_PROVIDED"),
    402: (PaymentRequiredError, "PAYMENT_REQUIRED"),
    403: (PermissionDeniedError, "MODE_NOT_ENABLED"),
    405: (BadRequestError, "METHOD_NOT_ALLOWED"),
    415: (BadRequestError, "UNSUPPORTED_MEDIA_TYPE"),
}
# Errors of gateways: the status, the seconds of Retry-After, the class, and
# whether a server behind the gateway can have had the request.
_STATUSES: Final = (
    (404, None, NotFoundError, Delivery.REJECTED),
    (408, None, ServerError, Delivery.AMBIGUOUS),
    (410, None, NotFoundError, Delivery.REJECTED),
    (429, None, RateLimitError, Delivery.REJECTED),
    (429, 1, RateLimitError, Delivery.REJECTED),
    (500, None, ServerError, Delivery.AMBIGUOUS),
    (502, None, ServerError, Delivery.AMBIGUOUS),
    (503, None, ServerError, Delivery.AMBIGUOUS),
    (503, 1, ServerError, Delivery.REJECTED),
    (504, None, ServerError, Delivery.AMBIGUOUS),
)
# Failures of the connection, and responses that say nothing. Those that are
# "after" have created a session.
_FAULTS: Final = (
    ("reset", Fault.reset(), ConnectionLostError),
    ("reset-after", Fault.reset(after=True), ConnectionLostError),
    ("closed", Fault.eof(), ConnectionLostError),
    ("closed-after", Fault.eof(after=True), ConnectionLostError),
    ("half-a-head", Fault.truncate(within="head"), ConnectionLostError),
    ("half-a-body", Fault.truncate(after=True), InvalidResponseError),
    ("garbage", Fault.garbage(), ConnectionLostError),
    ("html", Fault.html(), InvalidResponseError),
    ("empty", Fault.empty(), InvalidResponseError),
    ("timeout", Fault.stall(), RequestTimeoutError),
    ("timeout-after", Fault.stall(after=True), RequestTimeoutError),
)


def _failures() -> Iterator[DocumentedFailure]:
    for status, (error, codes) in _CODES.items():
        for code in codes.split():
            yield DocumentedFailure(
                name=code,
                fault=Fault.error(code, status=status),
                error=error,
                delivery=Delivery.REJECTED,
            )
    for status, retry_after, error, delivery in _STATUSES:
        yield DocumentedFailure(
            name=f"{status}-retry-after" if retry_after else f"{status}",
            fault=Fault.status(status, retry_after=retry_after),
            error=error,
            delivery=delivery,
        )
    yield DocumentedFailure(
        name="redirect",
        fault=Fault.redirect(),
        error=BadRequestError,
        delivery=Delivery.REJECTED,
    )
    yield DocumentedFailure(
        name="refused",
        fault=None,
        error=ConnectError,
        delivery=Delivery.NOT_SENT,
    )
    for name, fault, error in _FAULTS:
        yield DocumentedFailure(
            name=name,
            fault=fault,
            error=error,
            delivery=Delivery.CREATED_UNREADABLE
            if error is InvalidResponseError
            else Delivery.AMBIGUOUS,
        )


#: Every documented failure, the vendor's errors first.
FAILURES: Final = tuple(_failures())
