"""
Prepare, send and decode the requests that create sessions.
"""

import copy
import functools

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Self

import attrs

from yarl import URL

from bankconnect_async._codec.session_requests import (
    CONTENT_TYPES,
    Encoding,
    SessionWriter,
    decode_session,
)
from bankconnect_async._http.bodies import BytesBody
from bankconnect_async._http.executor import RequestExecutor
from bankconnect_async._http.operation import CallOptions, Operation
from bankconnect_async.config import Service
from bankconnect_async.errors import ConfigurationError, InvalidRequestError
from bankconnect_async.models.sessions import (
    UNSET,
    Session,
    SessionRequest,
    SessionResponse,
    Unset,
    check_link_id,
)
from bankconnect_async.retry import RetryPolicy


if TYPE_CHECKING:
    from bankconnect_async._codec.return_urls import ReturnURL
    from bankconnect_async._http.throttling import Throttle


class RequestPreparer:
    """
    Completes requests with the client's redirect URL.

    All bare link ids share one request, which is validated and encoded once.
    Its own `link_id` is a placeholder.

    Args:
        redirect_url: The redirect URL of requests that name none.

    Attributes:
        usual: The request that all bare link ids share; `None` if each has a
            redirect URL of its own, or none is known.

    Raises:
        ConfigurationError: If *redirect_url* is invalid.
    """

    def __init__(
        self, redirect_url: "str | URL | ReturnURL | None | Unset"
    ) -> None:
        usual, returns = _read_redirect_url(redirect_url)
        self.usual: SessionRequest | None = usual
        self._returns = returns

    @property
    def redirect_url(self) -> "str | ReturnURL | None | Unset":
        """The redirect URL of requests that name none."""
        if self.usual is not None:
            return self.usual.redirect_url
        return UNSET if self._returns is None else self._returns

    def prepare(
        self, item: SessionRequest | str
    ) -> tuple[str, SessionRequest]:
        """
        Return the `link_id` of *item* and its complete request.

        Raises:
            InvalidRequestError: If neither the request nor the client has a
                *redirect_url*, or *item* is not a request.
        """
        if isinstance(item, str):
            if self.usual is not None:
                check_link_id(item)
                return item, self.usual
            return item, SessionRequest(
                link_id=item, redirect_url=self._redirect_url(item)
            )
        if not isinstance(item, SessionRequest):
            raise InvalidRequestError(
                f"give a SessionRequest or a link_id, which is a text, not "
                f"{type(item).__name__}"
            )
        if item.redirect_url is UNSET:
            item = attrs.evolve(
                item, redirect_url=self._redirect_url(item.link_id)
            )
        return item.link_id, item

    def resolve(self, item: SessionRequest | str) -> SessionRequest:
        """
        Return a request for *item* that it does not share.
        """
        link_id, request = self.prepare(item)
        if request is self.usual:
            return request.with_link_id(link_id)
        return request

    def _redirect_url(self, link_id: str) -> str | None | Unset:
        if self.usual is not None:
            return self.usual.redirect_url
        if self._returns is not None:
            return str(self._returns.build(link_id))
        raise InvalidRequestError(
            fields={
                "redirect_url": (
                    "is given neither in the request nor to the client; "
                    "None means the inline-frame workflow",
                )
            }
        )


class SessionCreator(RequestPreparer):
    """
    Prepares and sends the requests that create sessions.

    Args:
        executor: The executor of requests.
        service: The address of the API.
        api_key: The key, which goes into each body.
        encoding: The encoding of the bodies.
        redirect_url: The redirect URL of requests that name none.

    Attributes:
        complete: None: a session is complete as it comes.

    Raises:
        ConfigurationError: If *encoding* or *redirect_url* is invalid.
    """

    complete: None = None

    def __init__(
        self,
        executor: RequestExecutor,
        *,
        service: Service,
        api_key: str,
        encoding: Encoding,
        redirect_url: "str | URL | ReturnURL | None | Unset",
    ) -> None:
        if encoding not in CONTENT_TYPES:
            raise ConfigurationError(
                fields={"encoding": ("must be json or form",)}
            )
        super().__init__(redirect_url)
        self._executor = executor
        self._retry: RetryPolicy | None = None
        self._content_type = CONTENT_TYPES[encoding]
        self._writer = SessionWriter(
            api_key, encoding=encoding, usual=self.usual
        )
        self._operation = self._plain = Operation(
            name="POST session",
            method="POST",
            url=service.session_url(),
            template=f"/{service.version}/session/",
            decode=functools.partial(
                decode_session, allow_http=service.allow_http
            ),
            idempotent=False,
        )

    def with_options(
        self, options: CallOptions, *, retry: RetryPolicy | None
    ) -> Self:
        """
        Return a creator that sends with *options*.

        Args:
            options: The options of all requests.
            retry: The retry policy, instead of this creator's.
        """
        creator = copy.copy(self)
        vars(creator).update(
            _operation=options.apply(self._plain),
            _retry=retry or self._retry,
        )
        return creator

    def send(
        self,
        link_id: str,
        request: SessionRequest,
        retry: RetryPolicy | None = None,
        throttle: "Throttle | None" = None,
    ) -> Awaitable[tuple[SessionResponse, int]]:
        """
        Send a request that `prepare` returned, with retries.

        Args:
            link_id: The customer.
            request: The other parameters.
            retry: The retry policy; by default the client's.
            throttle: Where to wait for further attempts, in a batch.

        Returns:
            An awaitable of the response and the number of attempts.
        """
        body = BytesBody(
            self._writer.write(link_id, request),
            content_type=self._content_type,
        )
        return self._executor.execute(
            self._operation,
            body,
            policy=retry or self._retry,
            throttle=throttle,
        )

    def build(
        self, link_id: str, answer: SessionResponse, attempts: int
    ) -> Session:
        """
        Build a session from a response.
        """
        return Session(
            link_id=link_id,
            redirect_url=answer.redirect_url,
            session_id=answer.session_id,
            attempts=attempts,
        )


def _read_redirect_url(
    value: "str | URL | ReturnURL | None | Unset",
) -> "tuple[SessionRequest | None, ReturnURL | None]":
    if isinstance(value, Unset):
        return None, None
    if not isinstance(value, str | URL | None):
        # Most clients have none.
        from bankconnect_async._codec.return_urls import ReturnURL  # noqa: PLC0415

        if isinstance(value, ReturnURL):
            return None, value
    try:
        # The request's own rule says what is wrong.
        return SessionRequest(link_id="-", redirect_url=value), None
    except InvalidRequestError as error:
        raise ConfigurationError(fields=error.fields) from None
