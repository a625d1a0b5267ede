"""
What endpoints share: who is let in, and the forms of good and bad answers.
"""

import types

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import attrs
import orjson

from aiohttp import web

from bankconnect_async._codec.browser_messages import Dialect
from bankconnect_async.sandbox.session_api.validation import (
    UNPAID_API_KEY,
    secrets_match,
)

from .bodies import SandboxRequest
from .errors import ApiError, JsonObject, render_coded, render_plain


Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: Does what is asked for, and returns what to answer.
JsonHandler: TypeAlias = Callable[
    [web.Request], Awaitable[JsonObject | list[JsonObject]]
]

#: Where the API is.
PREFIX: Final = "/bank-connect"
#: What is answered where there is nothing to tell.
SUCCESS: Final = types.MappingProxyType({"message": "success"})

_NOT_FOUND: Final = b"""\
<!doctype html>
<html lang="en">
<head>
  <title>Not Found</title>
</head>
<body>
  <h1>Not Found</h1><p>The requested resource was not found on this server.</p>
</body>
</html>
"""


@attrs.frozen
class ErrorFormat:
    """
    Endpoints that refuse alike.

    Attributes:
        unauthorized: What is answered without good secrets.
        write: Puts a refusal into an error body.
    """

    unauthorized: Callable[[], ApiError]
    write: Callable[[ApiError], JsonObject]


ENTITY_ERRORS: Final = ErrorFormat(
    lambda: ApiError(HTTPStatus.UNAUTHORIZED), render_plain
)
SESSION_ERRORS: Final = ErrorFormat(
    lambda: ApiError(HTTPStatus.FORBIDDEN), render_coded
)


@attrs.frozen(kw_only=True)
class Authenticator:
    """
    Lets in whoever knows the secrets.

    Attributes:
        dialect: Of `v1`. It decides which secrets are asked for, too.
        api_key, server_hash: What is let in.
    """

    dialect: Dialect
    api_key: str = attrs.field(repr=False)
    server_hash: str = attrs.field(repr=False)

    def require_key_and_hash(
        self,
        family: ErrorFormat,
        answer: JsonHandler,
        status: int = HTTPStatus.OK,
    ) -> Handler:
        """
        Ask for key and hash; in the seed, the key is enough.
        """
        # The header is eleven days younger than the seed.
        needed = self.dialect != "seed"
        return self._guarded(family, answer, status, is_hash_needed=needed)

    def require_key(
        self,
        family: ErrorFormat,
        answer: JsonHandler,
        status: int = HTTPStatus.OK,
    ) -> Handler:
        """
        Ask for the key alone.
        """
        return self._guarded(family, answer, status, is_hash_needed=False)

    def _guarded(
        self,
        family: ErrorFormat,
        answer: JsonHandler,
        status: int,
        *,
        is_hash_needed: bool,
    ) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            try:
                self._admit(request, family, is_hash_needed=is_hash_needed)
                return json_response(await answer(request), status=status)
            except ApiError as refusal:
                return error_response(family, refusal)

        return handle

    def _admit(
        self,
        request: web.Request,
        family: ErrorFormat,
        *,
        is_hash_needed: bool,
    ) -> None:
        given = request.headers.get("x-api-key")
        server_hash = request.headers.get("server-hash")
        is_unneeded = server_hash is None and not is_hash_needed
        if not (is_unneeded or secrets_match(server_hash, self.server_hash)):
            raise family.unauthorized()
        # Uploads tell by themselves who has not paid; the rest knows no 402.
        if secrets_match(given, UNPAID_API_KEY) and not is_hash_needed:
            return
        if not secrets_match(given, self.api_key):
            raise family.unauthorized()


def is_unpaid(request: web.Request) -> bool:
    """
    Tell whether the key is that of a customer whose plan is over.
    """
    return secrets_match(request.headers.get("x-api-key"), UNPAID_API_KEY)


def json_response(
    body: Mapping[str, Any] | Sequence[Any],
    *,
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """
    Answer with JSON.
    """
    return web.Response(
        status=status,
        body=orjson.dumps(body),
        content_type="application/json",
        headers=headers,
    )


def error_response(
    family: ErrorFormat,
    refusal: ApiError,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """
    Answer with an error body of *family*.
    """
    body = refusal.body
    if body is None:
        body = family.write(refusal)
    return json_response(body, status=refusal.status, headers=headers)


async def read_request(request: web.Request) -> SandboxRequest:
    """
    Take from a request what matters.
    """
    return SandboxRequest(
        method=request.method,
        content_type=request.headers.get("Content-Type", ""),
        body=await request.read(),
        header_key=request.headers.get("x-api-key"),
    )


def not_found_response() -> web.Response:
    """
    Answer for a path that does not exist, as Django would.
    """
    return web.Response(
        status=HTTPStatus.NOT_FOUND,
        body=_NOT_FOUND,
        content_type="text/html",
        charset="utf-8",
    )


def method_not_allowed_response(
    path: str, method: str, allowed: set[str]
) -> web.Response:
    """
    Answer for a path that exists, but not with this method.
    """
    is_session = "/session_data/" in path or path.endswith(
        ("/upload_session/", "/catalogue/")
    )
    return error_response(
        SESSION_ERRORS if is_session else ENTITY_ERRORS,
        ApiError(HTTPStatus.METHOD_NOT_ALLOWED, method),
        headers={"Allow": ", ".join(sorted(allowed - {"HEAD"}))},
    )
