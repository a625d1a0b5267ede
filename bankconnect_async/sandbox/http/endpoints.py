"""
Parts that all endpoints share: authentication and responses.
"""

import hmac
import types

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import attrs
import orjson

from aiohttp import web

from bankconnect_async._codec.browser_messages import Dialect

from .bodies import parse_body
from .errors import ApiError, JsonObject, render_coded, render_plain


Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: Handles a request and returns the JSON of a good response.
JsonHandler: TypeAlias = Callable[
    [web.Request], Awaitable[JsonObject | list[JsonObject]]
]
ErrorRenderer: TypeAlias = Callable[[ApiError], JsonObject]

#: The path of the API.
PREFIX: Final = "/bank-connect"
#: A known key of a customer whose plan has ended.
UNPAID_API_KEY: Final = "sandbox-unpaid-key"
#: The body of a response that has nothing else to say.
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
    The errors of a group of endpoints.

    Attributes:
        unauthorized: Makes the error of missing or wrong credentials.
        render: Renders the body of an error.
    """

    unauthorized: Callable[[], ApiError]
    render: ErrorRenderer


ENTITY_ERRORS: Final = ErrorFormat(
    lambda: ApiError(HTTPStatus.UNAUTHORIZED), render_plain
)
SESSION_ERRORS: Final = ErrorFormat(
    lambda: ApiError(HTTPStatus.FORBIDDEN), render_coded
)


@attrs.frozen(kw_only=True)
class Authenticator:
    """
    Checks the credentials of requests.

    Attributes:
        dialect: The dialect of `v1`, which decides what is required.
        api_key, server_hash: The accepted credentials.
    """

    dialect: Dialect
    api_key: str = attrs.field(repr=False)
    server_hash: str = attrs.field(repr=False)

    def require_key_and_hash(
        self,
        errors: ErrorFormat,
        handler: JsonHandler,
        status: int = HTTPStatus.OK,
    ) -> Handler:
        """
        Require key and hash; in the seed, the key alone.
        """
        # The header is eleven days younger than the seed.
        required = self.dialect != "seed"
        return self._wrap(errors, handler, status, is_hash_required=required)

    def require_key(
        self,
        errors: ErrorFormat,
        handler: JsonHandler,
        status: int = HTTPStatus.OK,
    ) -> Handler:
        """
        Require the key alone.
        """
        return self._wrap(errors, handler, status, is_hash_required=False)

    def _wrap(
        self,
        errors: ErrorFormat,
        handler: JsonHandler,
        status: int,
        *,
        is_hash_required: bool,
    ) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            try:
                if not self._is_authorized(
                    request.headers, is_hash_required=is_hash_required
                ):
                    raise errors.unauthorized()
                return json_response(await handler(request), status=status)
            except ApiError as error:
                return error_response(error, errors.render)

        return handle

    def _is_authorized(
        self, headers: Mapping[str, str], *, is_hash_required: bool
    ) -> bool:
        key, server_hash = headers.get("x-api-key"), headers.get("server-hash")
        if (server_hash is not None or is_hash_required) and (
            not secrets_match(server_hash, self.server_hash)
        ):
            return False
        # Uploads answer an unpaid key with 402, other endpoints with 401.
        is_unpaid = secrets_match(key, UNPAID_API_KEY) and not is_hash_required
        return is_unpaid or secrets_match(key, self.api_key)


def is_unpaid(request: web.Request) -> bool:
    """
    Tell whether the key is that of a customer whose plan has ended.
    """
    return secrets_match(request.headers.get("x-api-key"), UNPAID_API_KEY)


def secrets_match(given: object, secret: str) -> bool:
    """
    Compare a caller's value with a secret, in constant time.
    """
    # aiohttp leaves lone surrogates where a header is not UTF-8.
    return isinstance(given, str) and hmac.compare_digest(
        given.encode(errors="surrogatepass"),
        secret.encode(errors="surrogatepass"),
    )


async def read_parameters(request: web.Request) -> JsonObject:
    """
    Read the parameters in a request's body.

    Raises:
        ApiError: If its encoding is unknown or broken.
    """
    content_type = request.headers.get("Content-Type", "")
    return parse_body(content_type, await request.read())


def json_response(
    body: Mapping[str, Any] | Sequence[Any],
    *,
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """
    Make a JSON response.
    """
    return web.Response(
        status=status,
        body=orjson.dumps(body),
        content_type="application/json",
        headers=headers,
    )


def error_response(error: ApiError, render: ErrorRenderer) -> web.Response:
    """
    Make the response of an error.
    """
    body = render(error) if error.body is None else error.body
    return json_response(body, status=error.status, headers=error.headers)


def not_found_response() -> web.Response:
    """
    Make the response of an unknown path, as Django does.
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
    Make the response of a known path that does not allow the method.
    """
    is_session = "/session_data/" in path or path.endswith(
        ("/upload_session/", "/catalogue/")
    )
    error = ApiError(
        HTTPStatus.METHOD_NOT_ALLOWED,
        method,
        headers={"Allow": ", ".join(sorted(allowed - {"HEAD"}))},
    )
    return error_response(error, render_coded if is_session else render_plain)
