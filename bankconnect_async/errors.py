"""
Every error that this package raises.

::

    BankConnectError
    ├── ConfigurationError            the client was set up wrongly
    ├── InvalidRequestError           refused locally; nothing was sent
    ├── ClientClosedError             used after close, or from another loop
    ├── BatchStoppedError             not sent: the batch stopped before it
    ├── JournalError                  a journal cannot be written or read
    │   ├── JournalLockedError        another process writes to it
    │   └── JournalMismatchError      it is of other requests or another API
    ├── StoreError                    a store of sessions failed
    ├── TransportError                no usable response
    │   ├── ConnectError              never sent: safe to repeat
    │   │   ├── CertificateError      the server's certificate is not valid
    │   │   └── ProxyAuthenticationError  the proxy refused the credentials
    │   ├── PoolTimeoutError          never sent: no free slot in time
    │   ├── RequestTimeoutError       ambiguous once the body was begun
    │   └── ConnectionLostError       ambiguous once the body was begun
    │       └── HeadTooLargeError     repeating will not help
    ├── ResponseError                 the server refused the request
    │   ├── AuthenticationError       401, and 403 about the key
    │   ├── PaymentRequiredError      402
    │   ├── PermissionDeniedError     other 403
    │   ├── NotFoundError             404, 410
    │   ├── RateLimitError            429
    │   ├── ServerError               408 and 5xx: may have been processed
    │   └── BadRequestError           any other status
    │       ├── NotReadyError         processing was not requested, or runs
    │       ├── AlreadyProcessingError    processing was requested before
    │       ├── SessionExpiredError   the session accepts no more uploads
    │       └── StatementError        the uploaded statement was refused
    │           ├── PasswordIncorrectError     wrong or missing
    │           ├── BankMismatchError          from another bank than named
    │           ├── BankNotDetectedError       name the bank and try again
    │           ├── UnparsableStatementError   damaged, or a scan
    │           ├── UnsupportedStatementError  an unknown layout
    │           ├── DuplicateStatementError    uploaded before
    │           └── OutOfDateRangeError        no transactions in the range
    ├── DecodeError                   bytes that break the contract
    │   ├── InvalidResponseError      processed, but the response is unusable
    │   └── ForeignMessageError       a browser message of another sender
    ├── DownloadError                 a file that cannot be downloaded whole
    ├── ProcessingFailedError         statements or accounts that failed
    ├── WaitTimeoutError              processing did not end in time
    └── InvalidCallbackError          a return URL that is forged or expired

Facts are attributes, so no message has to be parsed. No message holds a
key, a token or a request body.
"""

import enum

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

from ._printable import one_line


if TYPE_CHECKING:
    from .error_details import Attempt, Failure


_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_NO_FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
# The most characters of a name in a message.
_MAX_NAME: Final = 60


class Delivery(enum.StrEnum):
    """
    Whether the server can have processed the request.

    Attributes:
        NOT_SENT: The body was not sent: repeating it cannot create a twin.
        REJECTED: The server refused it.
        AMBIGUOUS: The body was begun, and no response tells the outcome.
        CREATED_UNREADABLE: The server sent a 2xx response that is not usable.
    """

    NOT_SENT = "not-sent"
    REJECTED = "rejected"
    AMBIGUOUS = "ambiguous"
    CREATED_UNREADABLE = "created-unreadable"


#: After such a failure, the server may have processed the request.
UNCERTAIN: Final = frozenset({Delivery.AMBIGUOUS, Delivery.CREATED_UNREADABLE})


class Phase(enum.StrEnum):
    """
    The phase of an attempt when it ended.

    Attributes:
        QUEUED: It waited for a free slot of the client.
        CONNECTING: It had a slot, and no byte of the body was written.
        SENT: The body was begun.
        RESPONDED: A complete status line and all headers arrived.
    """

    QUEUED = "queued"
    CONNECTING = "connecting"
    SENT = "sent"
    RESPONDED = "responded"


class BankConnectError(Exception):
    """
    The root of all errors of this package.

    Attributes:
        delivery: Whether the request can have been processed; `None` if the
            error is not about a request.
        attempts: The timeline of the operation, oldest first; empty if nothing
            was attempted.
    """

    delivery: Delivery | None = None
    attempts: "tuple[Attempt, ...]" = ()

    # Every subclass takes its message by position and its facts by name, with
    # defaults. So the default reduction, class and args plus attributes,
    # pickles each of them.
    def __init__(self, message: str = "") -> None:
        # Names of files, columns and parameters are foreign text.
        super().__init__(one_line(message))

    @property
    def message(self) -> str:
        """The message in one line, without the attempts."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        if not self.attempts:
            return self.message
        last = self.attempts[-1]
        tries = f"{last.number} attempt" + "s" * (last.number > 1)
        stopped = f"; {last.stopped}" if last.stopped else ""
        return f"{self.message} ({tries}{stopped})"


class _FieldsError(BankConnectError):
    fields: Mapping[str, tuple[str, ...]] = _NO_FIELDS

    def __init__(
        self,
        message: str = "",
        *,
        fields: Mapping[str, tuple[str, ...]] = _NO_FIELDS,
    ) -> None:
        if not message:
            message = "; ".join(
                f"{one_line(str(name), _MAX_NAME)}: {text}"
                for name, all_ in fields.items()
                for text in all_
            )
        super().__init__(message)
        if fields:
            self.fields = dict(fields)


class ConfigurationError(_FieldsError, ValueError):
    """
    The client, or a value that it was given, cannot work.

    Attributes:
        fields: The problems of each setting, by its name.
    """


class InvalidRequestError(_FieldsError, ValueError):
    """
    The request was refused locally; nothing was sent.

    Attributes:
        fields: The problems of each parameter, by its name. All problems of a
            request are reported together.
    """

    delivery: Delivery | None = Delivery.NOT_SENT


class ClientClosedError(BankConnectError):
    """
    The client was used after it was closed, or from another event loop.
    """

    delivery: Delivery | None = Delivery.NOT_SENT


class BatchStoppedError(BankConnectError):
    """
    The item was not sent, because the batch stopped before it.

    The outcome that stopped the batch (`AuthenticationError`,
    `PaymentRequiredError` or `ProxyAuthenticationError`) is reported as an
    outcome of its own.
    """

    delivery: Delivery | None = Delivery.NOT_SENT


class JournalError(BankConnectError):
    """
    A journal cannot be written or read; the message begins with its name.

    Complete records in it stay.
    """


class JournalLockedError(JournalError):
    """
    Another process has locked the journal, and writes to it.
    """


class JournalMismatchError(JournalError):
    """
    The file is not a journal, or not one that this batch can continue.

    It is of another API, or holds a session that another request created.
    """


class StoreError(BankConnectError):
    """
    A store of sessions cannot be read or written.

    Attributes:
        session: The `Session` that was created and could not be stored, or
            `None`. It is kept nowhere else; *delivery* is then
            `CREATED_UNREADABLE`.
    """

    session: Any = None


class TransportError(BankConnectError):
    """
    No usable response came; `delivery` says whether the body was sent.
    """

    def __init__(
        self,
        message: str = "",
        *,
        delivery: Delivery | None = None,
        phase: Phase | None = None,
    ) -> None:
        super().__init__(message)
        self.delivery = delivery
        self.phase = phase


class ConnectError(TransportError):
    """
    No connection could be made; nothing was sent.
    """


class CertificateError(ConnectError):
    """
    The server's certificate is not valid; repeating will not help.
    """


class ProxyAuthenticationError(ConnectError):
    """
    The proxy refused the user and password; repeating will not help.

    Nothing reached the server. Where the request went to the proxy itself
    (plain HTTP), `delivery` is `REJECTED`.

    Attributes:
        status: The HTTP status of the proxy's response, 407 or 401.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int = 407,
        delivery: Delivery | None = None,
        phase: Phase | None = None,
    ) -> None:
        super().__init__(message, delivery=delivery, phase=phase)
        self.status = status


class PoolTimeoutError(TransportError):
    """
    No slot of the client's pool became free in time; nothing was sent.
    """


class RequestTimeoutError(TransportError):
    """
    The time ran out; `delivery` says whether the body had been begun.
    """


class ConnectionLostError(TransportError):
    """
    The connection broke, or carried no HTTP, before the response was complete.
    """


class HeadTooLargeError(ConnectionLostError):
    """
    The head of the response is larger than the limit.

    The server may have processed the request. Another attempt would get the
    same head, so there is none.
    """


class _ResponseFacts(TypedDict, total=False):
    """
    The facts of a `ResponseError`, which become its attributes.
    """

    status: int
    code: str | None
    fields: Mapping[str, tuple[str, ...]]
    retry_after: float | None
    entity_status: int | None
    session_id: str | None
    statement_id: str | None
    entity_id: str | None
    headers: Mapping[str, str]
    body: bytes
    delivery: Delivery | None


class ResponseError(BankConnectError):
    """
    The server refused the request.

    Attributes:
        status: The HTTP status.
        code: The vendor's error code (`INVALID_BANK_NAME`), if there is one.
        fields: The server's texts about each parameter, by its name.
        retry_after: The seconds that the server asked to wait, if it did.
        entity_status: The vendor's `status` number of entity-flow uploads.
        session_id, statement_id, entity_id: The ids in the error body.
        headers: The headers of the response, names in lower case.
        body: The body of the response, at most 1 MiB, without our own
            secrets. It is never printed and does not survive pickling.
    """

    status: int = 0
    code: str | None = None
    fields: Mapping[str, tuple[str, ...]] = _NO_FIELDS
    retry_after: float | None = None
    entity_status: int | None = None
    session_id: str | None = None
    statement_id: str | None = None
    entity_id: str | None = None
    headers: Mapping[str, str] = _NO_HEADERS
    body: bytes = b""
    delivery: Delivery | None = Delivery.REJECTED

    def __init__(
        self, message: str = "", **facts: Unpack[_ResponseFacts]
    ) -> None:
        super().__init__(message)
        vars(self).update(facts)

    def __reduce__(self) -> tuple[Any, ...]:
        state = {**self.__dict__, "headers": {}, "body": b""}
        return type(self), self.args, state


class AuthenticationError(ResponseError):
    """
    The API key was missing or refused (401; 403 if it is about the key).
    """


class PaymentRequiredError(ResponseError):
    """
    The plan or trial behind the API key is over (402).
    """


class PermissionDeniedError(ResponseError):
    """
    The key is valid, but the operation is disabled for it (403).
    """


class NotFoundError(ResponseError):
    """
    The id does not exist, or no longer (404, 410).
    """


class RateLimitError(ResponseError):
    """
    Too many requests (429); see `retry_after`.
    """


class ServerError(ResponseError):
    """
    The server failed (5xx, 408); it may have processed the request.

    A 503 with Retry-After is the exception: the server did not process the
    request.
    """


class BadRequestError(ResponseError):
    """
    The server refused the request; repeating it will not help.

    The exceptions are 421 and 425: the server has not processed the request
    and would process another one, so it is repeated.
    """


class NotReadyError(BadRequestError):
    """
    Processing was not requested yet, or has not ended.

    Pollers treat it as "not yet" (contract, `rest-api.md` section 3).
    """


class AlreadyProcessingError(BadRequestError):
    """
    Processing of the session was requested before; that does no harm.
    """


class SessionExpiredError(BadRequestError):
    """
    The session has expired or never existed, and accepts no more uploads.
    """


class StatementError(BadRequestError):
    """
    The uploaded statement was refused.

    A refused upload may still have created the entity: see `entity_id`.
    """


class PasswordIncorrectError(StatementError):
    """
    The password of the PDF is wrong, or was not given.
    """


class BankMismatchError(StatementError):
    """
    The statement is from another bank than the one named.
    """


class BankNotDetectedError(StatementError):
    """
    The bank was not recognised; name it.
    """


class UnparsableStatementError(StatementError):
    """
    The PDF is damaged, or a scan without text.
    """


class UnsupportedStatementError(StatementError):
    """
    The vendor cannot read the layout or the columns of the statement.
    """


class DuplicateStatementError(StatementError):
    """
    The session has this statement already.
    """


class OutOfDateRangeError(StatementError):
    """
    The statement has no transactions in the requested days.
    """


class DecodeError(BankConnectError, ValueError):
    """
    Bytes or an object that the contract does not allow.

    Attributes:
        problems: The problems, each with its path: ``required field missing @
            $.type``.
    """

    def __init__(
        self, message: str = "", *, problems: Iterable[str] = ()
    ) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        if self.problems and not message:
            message = "; ".join(self.problems)
        super().__init__(message)


class InvalidResponseError(DecodeError):
    """
    The server sent a 2xx response without a usable result.

    A session was probably created, but cannot be opened.

    Attributes:
        status: The HTTP status of the response.
    """

    def __init__(
        self,
        message: str = "",
        *,
        problems: Iterable[str] = (),
        status: int = 200,
    ) -> None:
        super().__init__(message, problems=problems)
        self.status = status
        self.delivery: Delivery | None = Delivery.CREATED_UNREADABLE


class ForeignMessageError(DecodeError):
    """
    A browser message of another `type`: not the vendor's, so ignore it.
    """


class DownloadError(BankConnectError):
    """
    A file that is too long, compressed in an unknown way, or redirected
    wrongly.

    Nothing of it is left on the disk.
    """

    delivery: Delivery | None = Delivery.REJECTED


class ProcessingFailedError(BankConnectError):
    """
    Processing ended, and a part of it failed.

    The data of the other statements can be fetched.

    Attributes:
        failures: The failures.
        response: The last response: a `SessionStatus` in the session flow, the
            `StatementProgress` of all statements in the entity flow. It does
            not survive pickling.
    """

    def __init__(
        self,
        message: str = "",
        *,
        failures: "Iterable[Failure]" = (),
        response: Any = None,
    ) -> None:
        self.failures: tuple[Failure, ...] = tuple(failures)
        self.response = response
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, {**self.__dict__, "response": None}


class WaitTimeoutError(BankConnectError, TimeoutError):
    """
    Processing did not end in time; the vendor continues it.

    Attributes:
        response: The last response about it, if there was one. It does not
            survive pickling.
    """

    def __init__(self, message: str = "", *, response: Any = None) -> None:
        self.response = response
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, {**self.__dict__, "response": None}


class InvalidCallbackError(BankConnectError):
    """
    A return URL that was not signed here, or too long ago.

    Attributes:
        expired: Whether it was signed here, but is too old.
    """

    def __init__(self, message: str = "", *, expired: bool = False) -> None:
        super().__init__(message)
        self.expired = expired
