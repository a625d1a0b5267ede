"""
Every error this package raises, with the facts a caller acts on.

::

    BankConnectError
    ├── ConfigurationError        the client was set up wrongly
    ├── InvalidRequestError       refused locally, nothing was sent
    ├── ClientClosedError         used after close, or from another loop
    ├── BatchStoppedError         not sent: the batch had to stop before it
    ├── JournalError              a journal cannot be written or read
    │   ├── JournalLockedError         another process writes to it
    │   └── JournalMismatchError      it is of other requests or another API
    ├── TransportError            no usable answer
    │   ├── ConnectError        never sent: safe to repeat
    │   │   ├── CertificateError      the server could not prove who it is
    │   │   └── ProxyAuthenticationError  the proxy wants other credentials
    │   ├── PoolTimeoutError         never sent: no free slot in time
    │   ├── RequestTimeoutError       outcome unknown once the body was begun
    │   └── ConnectionLostError       outcome unknown once the body was begun
    │       └── HeadTooLargeError         repeating will not help
    ├── ResponseError             the server answered, and refused
    │   ├── AuthenticationError       401, and 403 about the key
    │   ├── PaymentRequiredError      402
    │   ├── PermissionDeniedError           other 403
    │   ├── NotFoundError             404, 410
    │   ├── RateLimitError          429
    │   ├── ServerError          408 and 5xx: may have been processed
    │   └── BadRequestError             any other status
    │       ├── NotReadyError             processing was not asked for, or runs
    │       ├── AlreadyProcessingError     processing was asked for before
    │       ├── SessionExpiredError       the session takes no more uploads
    │       └── StatementError            the uploaded statement was refused
    │           ├── PasswordIncorrectError    of the PDF: wrong or missing
    │           ├── BankMismatchError         from another bank than named
    │           ├── BankNotDetectedError       name the bank and try again
    │           ├── UnparsableStatementError  damaged, or a scan
    │           ├── UnsupportedStatementError no layout that is known
    │           ├── DuplicateStatementError   uploaded before
    │           └── OutOfDateRangeError       nothing in the days asked for
    ├── DecodeError               bytes that break the contract
    │   ├── InvalidResponseError     created, but the answer is unusable
    │   └── ForeignMessageError       a browser message of someone else
    ├── DownloadError             a file that cannot be downloaded whole
    ├── ProcessingFailedError     statements or accounts that failed
    ├── WaitTimeoutError          processing was not over in time
    └── InvalidCallbackError      a return URL that is not ours, or too old

Facts are attributes. Nothing here needs its message parsed, and no message
holds a key, a token or a request body.
"""

import enum

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypedDict, Unpack

import attrs

from ._printable import one_line


_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_NO_FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
# Of a name in a message.
_LONGEST_NAME: Final = 60


class Delivery(enum.StrEnum):
    """
    Say whether the request can have been processed by the server.

    Attributes:
        NOT_SENT: The body never left: repeating it cannot create a twin.
        REJECTED: The server answered and refused it.
        AMBIGUOUS: The body was begun and no answer tells what became of it.
        CREATED_UNREADABLE: The server said yes, in words we cannot use.
    """

    NOT_SENT = "not-sent"
    REJECTED = "rejected"
    AMBIGUOUS = "ambiguous"
    CREATED_UNREADABLE = "created-unreadable"


class Phase(enum.StrEnum):
    """
    Name how far one attempt came.

    Attributes:
        QUEUED: It waited for a free slot of the client.
        CONNECTING: It had a slot and no byte of the body was written.
        SENT: The body was begun.
        RESPONDED: A complete status line and all headers arrived.
    """

    QUEUED = "queued"
    CONNECTING = "connecting"
    SENT = "sent"
    RESPONDED = "responded"


@attrs.frozen(kw_only=True)
class Attempt:
    """
    One try of one call, as the error's timeline tells it.

    Attributes:
        number: 1 for the first try.
        phase: How far it came.
        delivery: Whether the server can have processed it.
        reason: One short line: what went wrong.
        status: HTTP status, where the server answered.
        wait: Seconds waited after it before the next; `None` for the last.
        tokens: What was left in the client's retry budget afterwards.
        stopped: Why no further attempt was made; `None` if one was.
    """

    number: int
    phase: Phase
    delivery: Delivery
    reason: str
    status: int | None = None
    wait: float | None = None
    tokens: float | None = None
    stopped: str | None = None


class BankConnectError(Exception):
    """
    Root of all errors of this package.

    Attributes:
        delivery: Whether the request can have been processed; `None` where
            the error is about no request at all.
        attempts: The timeline of the call, oldest first; empty where nothing
            was tried.
    """

    delivery: Delivery | None = None
    attempts: tuple[Attempt, ...] = ()

    # Every subclass takes its message alone by position and its facts by
    # name with defaults. So the reduction of Exception, class and args plus
    # the instance's attributes, pickles each of them without further code.
    def __init__(self, message: str = "") -> None:
        # Names of files, columns and parameters are anybody's.
        super().__init__(one_line(message))

    @property
    def message(self) -> str:
        """The condition in one line, without the story of the attempts."""
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
                f"{one_line(str(name), _LONGEST_NAME)}: {text}"
                for name, all_ in fields.items()
                for text in all_
            )
        super().__init__(message)
        if fields:
            self.fields = dict(fields)


class ConfigurationError(_FieldsError, ValueError):
    """
    The client, or a value it was given, cannot work.

    Attributes:
        fields: Name of the setting to what is wrong with it.
    """


class InvalidRequestError(_FieldsError, ValueError):
    """
    The request was refused locally; nothing was sent.

    Attributes:
        fields: Name of each bad parameter to what is wrong with it. All
            problems of one request are there at once.
    """

    delivery: Delivery | None = Delivery.NOT_SENT


class ClientClosedError(BankConnectError):
    """
    The client was used after it was closed, or from another event loop.
    """

    delivery: Delivery | None = Delivery.NOT_SENT


class BatchStoppedError(BankConnectError):
    """
    The item was never sent, because the batch had to stop before it.

    The outcome that stopped the batch (`AuthenticationError`,
    `PaymentRequiredError` or `ProxyAuthenticationError`) is reported as an
    outcome of its own.
    """

    delivery: Delivery | None = Delivery.NOT_SENT


class JournalError(BankConnectError):
    """
    A journal cannot be written or read; the message begins with its name.

    Whole records that are in it stay.
    """


class JournalLockedError(JournalError):
    """
    Another process is writing to the journal, and has it locked.
    """


class JournalMismatchError(JournalError):
    """
    The file is no journal, or one that this batch cannot go on with.

    It is of another API, or holds a session that another request made.
    """


class TransportError(BankConnectError):
    """
    No usable answer came back; `delivery` says whether the body went out.
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
    No connection could be made: nothing was sent.
    """


class CertificateError(ConnectError):
    """
    The server's certificate was refused; repeating will not help.
    """


class ProxyAuthenticationError(ConnectError):
    """
    The proxy did not accept the user and password; repeating will not help.

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
    No slot of the client's pool became free in time: nothing was sent.
    """


class RequestTimeoutError(TransportError):
    """
    Time ran out; `delivery` says whether the body had been begun.
    """


class ConnectionLostError(TransportError):
    """
    The connection broke, or spoke no HTTP, before an answer was complete.
    """


class HeadTooLargeError(ConnectionLostError):
    """
    The head of the answer is larger than what is read of one.

    The server may have processed the request; another attempt would get the
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
    The API key was missing or refused (401; 403 where it is about the key).
    """


class PaymentRequiredError(ResponseError):
    """
    The plan or trial behind the API key is over (402).
    """


class PermissionDeniedError(ResponseError):
    """
    The key is good, but this is switched off for it (403).
    """


class NotFoundError(ResponseError):
    """
    There is no such id, or no longer (404, 410).
    """


class RateLimitError(ResponseError):
    """
    Too many requests (429); see `retry_after`.
    """


class ServerError(ResponseError):
    """
    The server failed (5xx, 408): it may have processed the request.

    A 503 with Retry-After is the exception: the server turned it away.
    """


class BadRequestError(ResponseError):
    """
    The server refused the request; repeating it will not help.

    The exceptions are 421 and 425: the server has not processed the request
    and would process another one, so it is repeated.
    """


class NotReadyError(BadRequestError):
    """
    Processing was not asked for yet, or is not over.

    Those who poll take it as "not yet" (contract, `rest-api.md` section 3).
    """


class AlreadyProcessingError(BadRequestError):
    """
    Processing of the session was asked for before, which does no harm.
    """


class SessionExpiredError(BadRequestError):
    """
    The session has expired, or never was, and takes no more uploads.
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
    The bank was not recognised: name it.
    """


class UnparsableStatementError(StatementError):
    """
    The PDF is damaged, or a scan without text.
    """


class UnsupportedStatementError(StatementError):
    """
    The statement has a layout, or columns, that the vendor cannot read.
    """


class DuplicateStatementError(StatementError):
    """
    The session has this statement already.
    """


class OutOfDateRangeError(StatementError):
    """
    The statement has no transactions in the days that were asked for.
    """


class DecodeError(BankConnectError, ValueError):
    """
    Bytes or an object that the contract does not allow.

    Attributes:
        problems: Each with its path: ``required field missing @ $.type``.
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
    The server said yes, and its answer holds no usable result.

    For a session that means: it was probably created, and cannot be opened.

    Attributes:
        status: HTTP status of the answer.
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
    A file that is too long, compressed in an unknown way, or led astray.

    Nothing of it was left behind.
    """

    delivery: Delivery | None = Delivery.REJECTED


@attrs.frozen(kw_only=True)
class Failure:
    """
    A statement or account whose processing failed, with the reason.

    Attributes:
        statement_id: Which statement; `None` if it is about an account.
        account_id: Which account, where the vendor names one.
        code: The vendor's code, where there is one (contract,
            `webhooks.md`).
        message: The vendor's text.
    """

    statement_id: str | None = None
    account_id: str | None = None
    code: str | None = None
    message: str | None = None


class ProcessingFailedError(BankConnectError):
    """
    Processing is over, and not all of it went well.

    The data of the other statements can be fetched.

    Attributes:
        failures: Each with its reason.
        response: What the server said last: a `SessionStatus` in the session
            flow, the `StatementProgress` of all statements in the entity
            flow. It does not survive pickling.
    """

    def __init__(
        self,
        message: str = "",
        *,
        failures: Iterable[Failure] = (),
        response: Any = None,
    ) -> None:
        self.failures: tuple[Failure, ...] = tuple(failures)
        self.response = response
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, {**self.__dict__, "response": None}


class WaitTimeoutError(BankConnectError, TimeoutError):
    """
    Processing was not over in time; it goes on at the vendor's.

    Attributes:
        response: What the server said last about it, if anything. It does not
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
        expired: It was signed here, and is too old.
    """

    def __init__(self, message: str = "", *, expired: bool = False) -> None:
        super().__init__(message)
        self.expired = expired
