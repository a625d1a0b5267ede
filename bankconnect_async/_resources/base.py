"""
The connection of clients and handles to the vendor's endpoints.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar
from urllib.parse import quote

import attrs

from yarl import URL

from bankconnect_async._http.bodies import RequestBody
from bankconnect_async._http.executor import RequestExecutor
from bankconnect_async._http.operation import (
    MAX_RESPONSE,
    CallOptions,
    Operation,
)
from bankconnect_async._tracebacks import hide_frames
from bankconnect_async.errors import AuthenticationError, InvalidRequestError
from bankconnect_async.retry import RetryPolicy


T = TypeVar("T")

#: The largest accepted response with statement data, in bytes.
MAX_DATA: Final = 64 * 1024 * 1024

# Path segments that change the path.
_DOTS: Final = frozenset({".", ".."})
_NO_HASH: Final = "the client has no server_hash (BANKCONNECT_SERVER_HASH)"


class ChangeNotifier:
    """
    Notifies subscribers that a session or entity may have changed.
    """

    def __init__(self) -> None:
        self._listeners: dict[str, list[Callable[[], None]]] = {}

    def notify(self, id_: str) -> None:
        """Call the listeners of *id_*."""
        for listener in tuple(self._listeners.get(id_, ())):
            listener()

    @contextmanager
    def subscribe(
        self, id_: str, listener: Callable[[], None]
    ) -> Iterator[None]:
        """Call *listener* on each notification within the context."""
        listeners = self._listeners.setdefault(id_, [])
        listeners.append(listener)
        try:
            yield
        finally:
            listeners.remove(listener)
            if not listeners and self._listeners.get(id_) is listeners:
                del self._listeners[id_]


# No repr: a URL may hold ids.
@attrs.frozen(kw_only=True, eq=False, repr=False)
class Endpoint:
    """
    The address of one request.

    Attributes:
        url: The address.
        template: Its path below the base URL, with names in the place of
            ids, such as ``/v1/entity/{entity_id}/``.
    """

    url: URL
    template: str


class ApiClient:
    """
    Sends requests to the vendor's endpoints.

    Args:
        executor: The executor of requests.
        base_url: The URL up to and including ``/bank-connect``.
        hash_header: The header with the server hash, if there is one.
        allow_http: Whether plain http is allowed for any host.
        changes: The notifier of another client, to share it.

    Attributes:
        clock: The clock of the executor.
        retry: The retry policy of calls that have none of their own.
        changes: The notifier of changed sessions and entities.
        options: The options of all calls, in a view of a client.
    """

    def __init__(
        self,
        *,
        executor: RequestExecutor,
        base_url: URL,
        hash_header: Mapping[str, str] | None,
        allow_http: bool,
        changes: ChangeNotifier | None = None,
    ) -> None:
        self.executor: Final = executor
        self.clock: Final = executor.clock
        self.retry: RetryPolicy = executor.retry
        self.base_url: Final = base_url
        self.hash_header: Final = hash_header
        self.allow_http: Final = allow_http
        self.changes: Final = changes or ChangeNotifier()
        self.options: CallOptions | None = None

    def endpoint(
        self,
        path: str,
        /,
        *,
        query: Mapping[str, str | None] | None = None,
        **ids: str,
    ) -> Endpoint:
        """
        Return the address of an endpoint.

        Args:
            path: The path below the version, such as ``entity/{entity_id}``.
            query: The query parameters; those that are `None` are left out.
            **ids: The ids that *path* names.

        Raises:
            InvalidRequestError: If a parameter cannot be sent.
        """
        # Only the Session API has a second version.
        filled = path.format(
            **{name: quote(id_, safe="") for name, id_ in ids.items()}
        )
        url = self.base_url.joinpath("v1", filled, "", encoded=True)
        given = {
            name: check_text(name, value)
            for name, value in (query or {}).items()
            if value is not None
        }
        return Endpoint(
            url=url.with_query(given) if given else url,
            template=f"/v1/{path}/",
        )

    @hide_frames
    async def request(  # noqa: PLR0913
        self,
        operation: str,
        endpoint: Endpoint,
        decode: Callable[..., T],
        *,
        method: str = "GET",
        body: RequestBody | None = None,
        with_hash: bool = True,
        idempotent: bool = True,
        limit: int = MAX_RESPONSE,
        retry: RetryPolicy | None = None,
        secrets: Sequence[str] = (),
    ) -> T:
        """
        Send a request and return the decoded response.

        Args:
            operation: The name of the operation, without ids.
            endpoint: The address.
            decode: The decoder; takes the body, and *status* by name.
            method: The HTTP method.
            body: The request body, if any.
            with_hash: Whether to send the server hash.
            idempotent: Whether sending it twice does no harm.
            limit: The largest accepted response body, in bytes.
            retry: The retry policy; by default the `retry` of this object.
            secrets: Secrets of this request alone, to be redacted from
                messages.
        """
        call = Operation(
            name=operation,
            method=method,
            url=endpoint.url,
            template=endpoint.template,
            headers=self.hash_header if with_hash else None,
            decode=decode,
            idempotent=idempotent,
            limit=limit,
            secrets=secrets,
        )
        if self.options is not None:
            call = self.options.apply(call)
        try:
            return await self._execute(call, body, retry or self.retry)
        except AuthenticationError as error:
            if with_hash and self.hash_header is None:
                error.args = (f"{error.message}; {_NO_HASH}",)
            raise

    async def _execute(
        self,
        operation: Operation[T],
        body: RequestBody | None,
        retry: RetryPolicy,
    ) -> T:
        result, _ = await self.executor.execute(operation, body, policy=retry)
        return result


class ApiView(ApiClient):
    """
    Sends requests to the endpoints of another client, in a way of its own.

    Args:
        api: The other client.
        options: The options of all calls, instead of the other's.
        retry: The retry policy, instead of the other's.
    """

    def __init__(
        self,
        api: ApiClient,
        options: CallOptions | None = None,
        *,
        retry: RetryPolicy | None = None,
    ) -> None:
        super().__init__(
            executor=api.executor,
            base_url=api.base_url,
            hash_header=api.hash_header,
            allow_http=api.allow_http,
            changes=api.changes,
        )
        self.options = options or api.options
        self.retry = retry or api.retry


def text_problem(value: object) -> str | None:
    """
    Return the reason why *value* cannot be sent as a text, else `None`.
    """
    if not isinstance(value, str):
        return f"must be a text, not {type(value).__name__}"
    if not value.strip():
        return "must not be blank"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "is not Unicode"
    return None


@hide_frames
def check_text(name: str, value: object) -> str:
    """
    Check that *value* can be sent as a text.

    Raises:
        InvalidRequestError: If it cannot; the problem is in `fields` under
            *name*.
    """
    if problem := text_problem(value):
        raise InvalidRequestError(fields={name: (problem,)})
    return str(value)


@hide_frames
def check_id(name: str, value: object) -> str:
    """
    Check that *value* can be an id in a path.

    Raises:
        InvalidRequestError: If it cannot; the problem is in `fields` under
            *name*.
    """
    if value in _DOTS:
        raise InvalidRequestError(fields={name: ("is not an id",)})
    return check_text(name, value)
