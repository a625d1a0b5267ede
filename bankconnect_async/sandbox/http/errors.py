"""
Errors of requests, and the documented bodies that describe them.

The wording is the vendor's where documented, otherwise that of Django REST
framework, to whose family the documented error shapes belong.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Self, TypeAlias

import attrs

from bankconnect_async.sandbox.messages import find_message, read_message


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


def coded_error(where: str, code: str) -> ApiError:
    """
    Make an error of shape S1 with a code of its own.

    Args:
        where: The part of the table of messages.
        code: The code.
    """
    row = read_message(where, code)
    return ApiError(
        HTTPStatus(int(row["status"])),
        body={"error": {"code": code, "message": row["text"]}},
    )


def render_coded(error: ApiError) -> JsonObject:
    """
    Render shape S1, which has room for the first problem only.
    """
    if error.problems:
        problem = error.problems[0]
        code = problem.code
        # Some texts do not depend on the parameter.
        row = find_message("coded", code)
        message = row["text"] if row else problem.text
        if code == "INVALID_REQUEST":
            message = f"{problem.field}, {message}"
    else:
        row = read_message("coded", str(error.status.value))
        code, message = row["code"], row["text"].format(error.detail)
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
    row = read_message("plain", str(error.status.value))
    return {"detail": row["text"].format(error.detail)}
