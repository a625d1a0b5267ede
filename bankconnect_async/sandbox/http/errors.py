"""
Errors of requests, and the documented bodies that describe them.

The wording is the vendor's where documented, otherwise that of Django REST
framework, to whose family the documented error shapes belong.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, Self, TypeAlias

import attrs

from bankconnect_async.sandbox.messages import read_message


JsonObject: TypeAlias = dict[str, Any]


@attrs.frozen
class Problem:
    """
    One parameter's problem.
    """

    field: str
    text: str
    code: str = "INVALID_REQUEST"


class BadValueError(ValueError):
    """
    A parameter's value is invalid.

    Attributes:
        text: The server's text about it.
        code: The server's code.
    """

    def __init__(self, text: str, code: str = "INVALID_REQUEST") -> None:
        super().__init__(text, code)
        self.text = text
        self.code = code


class ApiError(Exception):
    """
    The vendor would answer a request with an error.

    Attributes:
        status: The HTTP status of the response.
        detail: What the text of that status mentions.
        problems: The problems of single parameters.
        body: The whole body, where no group of endpoints shares it.
        headers: The headers of the response.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str = "",
        *,
        problems: Iterable[Problem] = (),
        body: JsonObject | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.problems: tuple[Problem, ...] = tuple(problems)
        self.body = body
        self.headers = headers

    @classmethod
    def of_field(cls, field: str, text: str) -> Self:
        """Make the error of a single parameter."""
        return cls(HTTPStatus.BAD_REQUEST, problems=[Problem(field, text)])


_CODED: Final[Mapping[int, tuple[str, str]]] = {
    HTTPStatus.BAD_REQUEST: ("INVALID_REQUEST", "Something went wrong"),
    HTTPStatus.UNAUTHORIZED: (
        "AUTHENTICATION_CREDENTIALS_NOT_PROVIDED",
        "Authentication credentials were not provided",
    ),
    HTTPStatus.PAYMENT_REQUIRED: ("PAYMENT_REQUIRED", "Payment required"),
    HTTPStatus.METHOD_NOT_ALLOWED: (
        "METHOD_NOT_ALLOWED",
        "Method {} not allowed.",
    ),
    HTTPStatus.FORBIDDEN: (
        "ACCESS_DENIED",
        "Authentication credentials were not provided",
    ),
    HTTPStatus.NOT_FOUND: (
        "SESSION_NOT_FOUND",
        "The provided session ID is invalid",
    ),
    HTTPStatus.GONE: (
        "SESSION_DELETED",
        "The provided session ID has been deleted",
    ),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: (
        "UNSUPPORTED_MEDIA_TYPE",
        "Unsupported media type `{}`",
    ),
}

# The texts of codes that do not depend on the parameter.
_CODE_TEXTS: Final[Mapping[str, str]] = {
    "INVALID_DATE_FORMAT": "Invalid format for from_date and to_date, "
    "'Supported format: DD/MM/YYYY'",
    "INVALID_LENGTH": "Field length exceeds limit",
}

_DETAILS: Final[Mapping[int, str]] = {
    HTTPStatus.BAD_REQUEST: "{}",
    HTTPStatus.UNAUTHORIZED: "Authentication credentials were not provided.",
    HTTPStatus.NOT_FOUND: "Not found.",
    HTTPStatus.METHOD_NOT_ALLOWED: 'Method "{}" not allowed.',
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: 'Unsupported media type "{}" '
    "in request.",
}


def coded_error(status: HTTPStatus, code: str, message: str) -> ApiError:
    """
    Make an error of shape S1 with a code of its own.
    """
    return ApiError(status, body={"error": {"code": code, "message": message}})


def render_coded(error: ApiError) -> JsonObject:
    """
    Render shape S1, which has room for the first problem only.
    """
    if error.problems:
        problem = error.problems[0]
        code = problem.code
        message = _CODE_TEXTS.get(code, problem.text)
        if code == "INVALID_REQUEST":
            message = f"{problem.field}, {message}"
    else:
        code, template = _CODED[error.status]
        message = template.format(error.detail)
    return {"error": {"code": code, "message": message}}


def render_plain(error: ApiError, *, numbered: bool = False) -> JsonObject:
    """
    Render shapes S3, S4 and S6, which are older than the codes.

    Args:
        error: The error.
        numbered: Whether the body has a `status` number, too.
    """
    if error.problems:
        body: JsonObject = {}
        for problem in error.problems:
            body.setdefault(problem.field, []).append(problem.text)
        return body | ({"status": 0} if numbered else {})
    # The contract shows no 402 of ``session/``. Uploads of the same flow
    # answer the same condition with S4.
    if error.status == HTTPStatus.PAYMENT_REQUIRED:
        row = read_message("entity_upload", "TRIAL_PERIOD_EXPIRED")
        number = {"status": int(row["number"])} if numbered else {}
        return {"message": row["text"], **number}
    return {"detail": _DETAILS[error.status].format(error.detail)}
