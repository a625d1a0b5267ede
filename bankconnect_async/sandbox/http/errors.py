"""
What is wrong with a request, and the documented bodies that say so.

The wording is the vendor's where documented, otherwise that of Django REST
framework, to whose family the documented error shapes belong.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import attrs


JsonObject: TypeAlias = dict[str, Any]


@attrs.frozen
class Problem:
    """
    What is wrong with one parameter.
    """

    field: str
    text: str
    code: str = "INVALID_REQUEST"


class BadValueError(ValueError):
    """
    The value of one parameter cannot be taken.

    Attributes:
        text: What the server says about it.
        code: Under which code.
    """

    def __init__(self, text: str, code: str = "INVALID_REQUEST") -> None:
        super().__init__(text, code)
        self.text = text
        self.code = code


class ApiError(Exception):
    """
    Ends the judgement of a request.

    Attributes:
        status: HTTP status of the answer.
        detail: What the text of that status mentions.
        problems: Those of single parameters, where there are some.
        body: The whole answer, where no family of endpoints shares it.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str = "",
        *,
        problems: Iterable[Problem] = (),
        body: JsonObject | None = None,
    ) -> None:
        super().__init__(status, detail)
        self.body = body
        self.status = status
        self.detail = detail
        self.problems = tuple(problems)


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

# The texts of codes that do not go by the field's own.
_CODE_TEXTS: Final[Mapping[str, str]] = {
    "INVALID_DATE_FORMAT": "Invalid format for from_date and to_date, "
    "'Supported format: DD/MM/YYYY'",
    "INVALID_LENGTH": "Field length exceeds limit",
}

NO_CREDENTIALS: Final = "Authentication credentials were not provided."
_DETAILS: Final[Mapping[int, str]] = {
    HTTPStatus.BAD_REQUEST: "{}",
    HTTPStatus.UNAUTHORIZED: NO_CREDENTIALS,
    HTTPStatus.NOT_FOUND: "Not found.",
    HTTPStatus.METHOD_NOT_ALLOWED: 'Method "{}" not allowed.',
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: 'Unsupported media type "{}" '
    "in request.",
}
TRIAL_OVER: Final = (
    "Your trial period has expired. Please request FinBox to upgrade your plan"
)


def coded_error(status: HTTPStatus, code: str, message: str) -> ApiError:
    """
    Return a refusal that is shape S1 with a code of its own.
    """
    return ApiError(status, body={"error": {"code": code, "message": message}})


def render_coded(refusal: ApiError) -> JsonObject:
    """
    Write shape S1, which has room for the first problem only.
    """
    if refusal.problems:
        code, message = _coded(refusal.problems[0])
    else:
        code, template = _CODED[refusal.status]
        message = template.format(refusal.detail)
    return {"error": {"code": code, "message": message}}


def _coded(problem: Problem) -> tuple[str, str]:
    if problem.code == "INVALID_REQUEST":
        return problem.code, f"{problem.field}, {problem.text}"
    return problem.code, _CODE_TEXTS.get(problem.code, problem.text)


def render_plain(refusal: ApiError, *, numbered: bool = False) -> JsonObject:
    """
    Write shapes S3, S4 and S6, those from before there were codes.

    Args:
        refusal: What to say.
        numbered: Whether a `status` number stands beside it.
    """
    if refusal.problems:
        body: JsonObject = {}
        for problem in refusal.problems:
            body.setdefault(problem.field, []).append(problem.text)
        return body | ({"status": 0} if numbered else {})
    # The 402 of ``session/`` is not shown. S4 is what uploads of the same flow
    # answer to the same condition.
    if refusal.status == HTTPStatus.PAYMENT_REQUIRED:
        return {"message": TRIAL_OVER} | ({"status": 2} if numbered else {})
    return {"detail": _DETAILS[refusal.status].format(refusal.detail)}
