"""
API operations: where to send them and how to decode their responses.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import attrs

from yarl import URL


if TYPE_CHECKING:
    from bankconnect_async.stats import ResponseHead


T = TypeVar("T")

#: The largest body that is read, in bytes, unless an operation allows more.
MAX_RESPONSE: Final = 1024 * 1024

#: The statuses of success.
OK: Final = range(200, 300)


# No repr: headers may hold secrets.
@attrs.frozen(kw_only=True, repr=False)
class CallOptions:
    """
    The options of all calls of a view of a client.

    Attributes:
        headers: The headers beside those of the client.
        on_response: The hook that is called with the head of each response.
    """

    headers: Mapping[str, str] = attrs.Factory(dict)
    on_response: "Callable[[ResponseHead], object] | None" = None

    def apply(self, operation: "Operation[T]") -> "Operation[T]":
        """Return *operation* with the headers and the hook."""
        return attrs.evolve(
            operation,
            headers={**self.headers, **(operation.headers or {})},
            secrets=[*operation.secrets, *self.headers.values()],
            on_response=self.on_response,
        )


# No repr: a URL may hold ids, and tracebacks may show locals.
@attrs.frozen(kw_only=True, eq=False, repr=False)
class Operation(Generic[T]):
    """
    One API operation: where to send it and how to decode its 2xx response.

    Attributes:
        name: The name in the log, such as ``POST session``; no ids.
        url: The address.
        template: The path of the address below the base URL, with names in
            the place of ids.
        decode: The function that makes the result of a 2xx response; it
            takes the body, and *status* by name.
        method: The HTTP method.
        headers: The headers beside those of every request.
        idempotent: Whether sending it twice does no harm at all.
        limit: The largest body of a response that is read, in bytes.
        secrets: Secrets of this request, to be redacted from its response.
        on_response: The hook that is called with the head of each response.
    """

    name: str
    url: URL
    template: str
    decode: Callable[..., T]
    method: str = "GET"
    headers: Mapping[str, str] | None = None
    idempotent: bool = True
    limit: int = MAX_RESPONSE
    secrets: Sequence[str] = ()
    on_response: "Callable[[ResponseHead], object] | None" = None
