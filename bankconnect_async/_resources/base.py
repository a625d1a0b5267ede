"""
What a client's methods and handles share: addresses, headers, calls.
"""

import functools

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar
from urllib.parse import quote

from yarl import URL

from bankconnect_async._http.attempt import MAX_RESPONSE, Response
from bankconnect_async._http.bodies import RequestBody
from bankconnect_async._http.executor import Operation, RequestExecutor
from bankconnect_async.errors import BankConnectError, InvalidRequestError
from bankconnect_async.retry import RetryPolicy


T = TypeVar("T")

#: Bytes of an answer with statement data that are read at most.
MAX_DATA: Final = 64 * 1024 * 1024

# Path segments that would lead elsewhere.
_DOTS: Final = frozenset({".", ".."})


class ChangeNotifier:
    """
    Who wants to know that something may have changed, by id.
    """

    def __init__(self) -> None:
        self._listeners: dict[str, list[Callable[[], None]]] = {}

    def give(self, id_: str) -> None:
        """Call everyone who listens for *id_*."""
        for listener in tuple(self._listeners.get(id_, ())):
            listener()

    @contextmanager
    def listening(
        self, id_: str, listener: Callable[[], None]
    ) -> Iterator[None]:
        """Have *listener* called meanwhile."""
        listeners = self._listeners.setdefault(id_, [])
        listeners.append(listener)
        try:
            yield
        finally:
            listeners.remove(listener)
            if not listeners and self._listeners.get(id_) is listeners:
                del self._listeners[id_]


class ApiClient:
    """
    Where the vendor is, and how to call there.

    Args:
        calls: Makes calls.
        base_url: Up to and including ``/bank-connect``.
        hash_header: The second secret, if there is one.
        allow_http: Whether plain http was allowed for any host.

    Attributes:
        clock: Time.
        hints: That something may have changed.
    """

    def __init__(
        self,
        *,
        calls: RequestExecutor,
        base_url: URL,
        hash_header: Mapping[str, str] | None,
        allow_http: bool,
    ) -> None:
        self.calls: Final = calls
        self.clock: Final = calls.clock
        self.base_url: Final = base_url
        self.hash_header: Final = hash_header
        self.allow_http: Final = allow_http
        self.hints: Final = ChangeNotifier()

    def url(
        self, *path: str, query: Mapping[str, str | None] | None = None
    ) -> URL:
        """
        Return the address of an endpoint.

        Args:
            path: Its segments, below the version.
            query: Parameters; those that are `None` are left out.

        Raises:
            InvalidRequestError: If a parameter cannot be sent.
        """
        # Only the Session API has a second version.
        quoted = (quote(part, safe="") for part in path)
        url = self.base_url.joinpath("v1", *quoted, "", encoded=True)
        given = {
            name: check_text(name, value)
            for name, value in (query or {}).items()
            if value is not None
        }
        return url.with_query(given) if given else url

    async def ask(  # noqa: PLR0913
        self,
        operation: str,
        url: URL,
        decode: Callable[..., T],
        *,
        method: str = "GET",
        body: RequestBody | None = None,
        hashed: bool = True,
        idempotent: bool = True,
        limit: int = MAX_RESPONSE,
        retry: RetryPolicy | None = None,
        secrets: Sequence[str] = (),
    ) -> T:
        """
        Make a call and return what *decode* makes of the answer.

        Args:
            operation: What for; no ids.
            url: Where to.
            decode: Takes the body, and its *status* by name.
            method: Of HTTP.
            body: What to send, if anything.
            hashed: Whether the call takes the second secret.
            idempotent: Whether sending it twice does no harm at all.
            limit: Bytes of the answer that are read at most.
            retry: Instead of the client's own.
            secrets: Sent with this request only; struck out of what the
                server echoes.
        """
        call = Operation(
            operation=operation,
            method=method,
            url=url,
            headers=self.hash_header if hashed else None,
            decode=functools.partial(_decoded, decode),
            idempotent=idempotent,
            limit=limit,
            secrets=secrets,
        )
        try:
            result, _ = await self.calls.execute(call, body, policy=retry)
        except BankConnectError as error:
            # Ids stand in addresses, and that of a session opens a journey:
            # the frames below hold it, which a traceback with locals would
            # print. What happened there is in the error's `attempts`.
            failure = error.with_traceback(None)
        else:
            return result
        del url, call, body
        raise failure


def _decoded(decode: Callable[..., T], answer: Response) -> T:
    return decode(answer.body, status=answer.status)


def text_problem(value: object) -> str | None:
    """
    Say why *value* cannot be sent as a text, if so.
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


def check_text(name: str, value: object) -> str:
    """
    Check that *value* can be sent as a text.

    Raises:
        InvalidRequestError: Naming *name*.
    """
    problem = text_problem(value)
    if problem is None:
        return str(value)
    # It may be an id, which a traceback with locals would print.
    del value
    raise InvalidRequestError(fields={name: (problem,)})


def check_id(name: str, value: object) -> str:
    """
    Check that *value* can be an id in a path.

    Raises:
        InvalidRequestError: Naming *name*.
    """
    if value in _DOTS:
        raise InvalidRequestError(fields={name: ("is no id",)})
    return check_text(name, value)
