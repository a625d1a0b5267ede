"""
Events and redirects, which come back through the browser.

As in `sessions`, a name on the wire is written once: as the name of an
attribute, or as a constant here where the vendor spells it otherwise. Section
numbers are those of the contract's page on callbacks.
"""

import enum

from collections.abc import Callable, Mapping
from typing import Any, Final, Self, TypeAlias, TypeVar

import attrs

from ._fields import (
    Model,
    field,
    identifier,
    is_present,
    object_or_text,
    text,
)


E = TypeVar("E", bound=enum.StrEnum)

#: The `type` of every browser message that is the vendor's (section 2).
MESSAGE_TYPE: Final = "finbox-bankconnect"

LINK_ID: Final = "linkId"
ENTITY_ID: Final = "entityId"
SESSION_ID: Final = "sessionId"
ERROR_TYPE: Final = "error_type"
#: The keys of an error's code; a Flutter sample has the second one.
ERROR_TYPES: Final = (ERROR_TYPE, "errorType")
EVENT_NAME: Final = "event_name"
REASON: Final = "reason"
MESSAGE: Final = "message"

#: Characters of an id of the vendor's. The longest documented one has 36.
MAX_ID: Final = 200
#: Characters of a link id, as the Session API takes them.
MAX_LINK_ID: Final = 500

_id = identifier(MAX_ID)
_link_id = identifier(MAX_LINK_ID)


class Status(enum.StrEnum):
    """
    The `status` of a browser message, in all dialects (section 2).

    Attributes:
        FB_SUCCESS, FB_EXIT: The words of the first documentation (dialect A).
        SUCCESS, EXIT, ERROR, INFO: The words of every later one.
    """

    FB_SUCCESS = "fb-success"
    FB_EXIT = "fb-exit"
    SUCCESS = "success"
    EXIT = "exit"
    ERROR = "error"
    INFO = "info"


class LibraryStatus(enum.StrEnum):
    """
    The `status` of the script-tag library of 2019 (section 7).
    """

    DONE = "BSM200"
    FAILED = "BSM500"
    LEFT = "BSM101"


class _Meaning(enum.StrEnum):
    meaning: str

    def __new__(cls, code: str, meaning: str) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member


class ErrorType(_Meaning):
    """
    The codes of `ErrorEvent.error_type`, each with its `meaning` (section 3).

    Codes that begin with `MU` are about manual upload, with `NB` about net
    banking. A code that is not here stays a plain text.
    """

    TRIAL_OVER = "MU002", "the trial of the DEV credentials is over"
    PASSWORD_INCORRECT = "MU003", "the password of the PDF is wrong"
    BANK_MISMATCH = "MU004", "the statement is from another bank"
    PDF_UNREADABLE = "MU006", "the PDF is damaged or a scan without text"
    NOT_A_STATEMENT = "MU020", "no statement, or an unsupported bank"
    OUT_OF_DATE_RANGE = "MU021", "the dates are outside the range asked for"
    NET_BANKING_FAILED = "NB000", "net banking failed"
    LOGIN_FAILED = "NB003", "the login to net banking failed"
    CAPTCHA_WRONG = "NB004", "the captcha was wrong"
    SECURITY_ERROR = "NB005", "net banking refused for security"


class EventName(_Meaning):
    """
    The names of `InfoEvent.event_name`, each with its `meaning` (section 4).

    A name that is not here stays a plain text.
    """

    BANK_SELECTED = "bank_selected", "a bank was chosen"
    MANUAL = "manual", "the manual upload was opened"
    OPEN_MANUAL_UPLOAD = "open_manual_upload", "an early name of `manual`"
    MANUAL_UPLOAD_BACK = "manual_upload_back", "left the manual upload"
    NET_BANKING_BACK = "net_banking_back", "left net banking"


def _given(value: str | None) -> str | None:
    return value if is_present(value) else None


def _known(vocabulary: type[E]) -> Callable[[str | None], E | str | None]:
    def convert(value: str | None) -> E | str | None:
        try:
            return vocabulary(value or "")
        except ValueError:
            return _given(value)

    return convert


@attrs.frozen(kw_only=True)
class _Event(Model):
    link_id: str | None = field(
        _link_id, LINK_ID, "linkID", "link_id", converter=_given
    )
    confirmed: bool | None = attrs.field(default=None, eq=False)
    key: str = attrs.field(default="", eq=False)


@attrs.frozen(kw_only=True)
class SuccessEvent(_Event):
    """
    The uploads are complete; a claim until it is confirmed.

    The session flow has sent its session id under either name, so look at
    both.

    Attributes:
        entity_id: The id under which the entity flow keeps the data.
        session_id: The id under which the session flow keeps the data.
        link_id: Your id of the customer, if the message named one.
        confirmed: Whether the server confirmed it; `None` until it was asked.
        key: The key of the outcome, from a `CallbackService`; see `event_key`.
        raw: The message as received.
    """

    entity_id: str | None = field(_id, ENTITY_ID, converter=_given)
    session_id: str | None = field(_id, SESSION_ID, converter=_given)


@attrs.frozen(kw_only=True)
class ExitEvent(_Event):
    """
    The customer left, or in the first dialect: something failed.

    Attributes:
        reason: The vendor's text, if it gave one.
        is_failure: Whether something failed. `None` where an exit and a
            failure look the same: in `fb-exit`, in a redirect and in results
            of some client SDKs.
        link_id: Your id of the customer, if the message named one.
        confirmed: Whether the server confirmed it; `None` until it was asked.
        key: The key of the outcome, from a `CallbackService`; see `event_key`.
        raw: The message as received.
    """

    reason: str | None = field(text, REASON, MESSAGE, converter=_given)
    is_failure: bool | None = None


@attrs.frozen(kw_only=True)
class ErrorEvent(_Event):
    """
    Something failed inside the journey, which stays open.

    Attributes:
        error_type: The code: an `ErrorType`, the text of an unknown code, or
            `None`, because early versions gave no code.
        reason: The vendor's text, if it gave one.
        link_id: Your id of the customer, if the message named one.
        confirmed: Whether the server confirmed it; `None` until it was asked.
        key: The key of the outcome, from a `CallbackService`; see `event_key`.
        raw: The message as received.
    """

    error_type: ErrorType | str | None = field(
        text, *ERROR_TYPES, converter=_known(ErrorType)
    )
    reason: str | None = field(text, REASON, MESSAGE, converter=_given)


@attrs.frozen(kw_only=True)
class InfoEvent(_Event):
    """
    A step inside the journey, for analytics.

    Attributes:
        event_name: The name: an `EventName`, or the text of an unknown name.
        message: The details, such as the name of the chosen bank.
        link_id: Your id of the customer, if the message named one.
        confirmed: Whether the server confirmed it; `None` until it was asked.
        key: The key of the outcome, from a `CallbackService`; see `event_key`.
        raw: The message as received.
    """

    event_name: EventName | str | None = field(
        text, EVENT_NAME, converter=_known(EventName)
    )
    message: str | None = field(text, MESSAGE, REASON, converter=_given)


@attrs.frozen(kw_only=True)
class UnknownEvent(_Event):
    """
    An event that this version does not know.

    Attributes:
        status: The name of the event on the wire.
        link_id: Your id of the customer, if the message named one.
        confirmed: Whether the server confirmed it; `None` until it was asked.
        key: The key of the outcome, from a `CallbackService`; see `event_key`.
        raw: The message as received.
    """

    status: str | None = None


Event: TypeAlias = (
    SuccessEvent | ExitEvent | ErrorEvent | InfoEvent | UnknownEvent
)


@attrs.frozen(kw_only=True)
class Envelope:
    """
    A browser message on the wire (section 2).
    """

    type: str | None = field(text, required=True)
    status: str | None = field(text, required=True)
    payload: Mapping[str, Any] | None = field(object_or_text, required=True)


@attrs.frozen(kw_only=True)
class FlatMessage:
    """
    A browser message of 2021 without an envelope (section 5).
    """

    status: str | None = field(text, required=True)
    data: str | None = field(text)


@attrs.frozen(kw_only=True)
class LibraryCallback:
    """
    The argument of the script-tag library's callback of 2019 (section 7).
    """

    status: str | None = field(text, required=True)
    request_id: str | None = field(_id)
    message: str | None = field(text)


@attrs.frozen(kw_only=True)
class ReturnQuery:
    """
    The parameters that the journey appends to the redirect URL (section 1).
    """

    success: str | None = field(text)
    entity_id: str | None = field(_id)
    session_id: str | None = field(_id)
