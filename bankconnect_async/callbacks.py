"""
The schema of what comes back: browser events, redirects and webhooks.

As in `schema`, a name on the wire is written once: as the name of an
attribute, or where the vendor spells it otherwise, as a constant here.
Sections named are those of the contract's page on callbacks.
"""

import datetime
import enum

from collections.abc import Callable, Mapping
from typing import Any, Final, Self, TypeAlias, TypeVar

import attrs

from ._reading import (
    day,
    flag,
    identifier,
    is_given,
    label,
    many,
    masked,
    message,
    moment,
    one,
    text,
    wired,
)


E = TypeVar("E", bound=enum.StrEnum)

#: The `type` of every browser message that is the vendor's (section 2).
MESSAGE_TYPE: Final = "finbox-bankconnect"

LINK_ID: Final = "linkId"
ENTITY_ID: Final = "entityId"
SESSION_ID: Final = "sessionId"
ERROR_TYPE: Final = "error_type"
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
        FB_SUCCESS, FB_EXIT: Of the first documentation (dialect A).
        SUCCESS, EXIT, ERROR, INFO: Of every later one.
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
    return value if is_given(value) else None


def _known(vocabulary: type[E]) -> Callable[[str | None], E | str | None]:
    def convert(value: str | None) -> E | str | None:
        try:
            return vocabulary(value or "")
        except ValueError:
            return _given(value)

    return convert


def _raw() -> Any:
    # It may hold what no log should show.
    return attrs.field(factory=dict, converter=dict, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class _Event:
    link_id: str | None = wired(
        _link_id, LINK_ID, "linkID", "link_id", converter=_given
    )
    confirmed: bool | None = attrs.field(default=None, eq=False)
    raw: Mapping[str, Any] = _raw()


@attrs.frozen(kw_only=True)
class SuccessEvent(_Event):
    """
    The uploads are complete. That is a claim until it is confirmed.

    The session flow has put its session id under either name, so look at
    both.

    Attributes:
        entity_id: Id under which the entity flow keeps the data.
        session_id: Id under which the session flow does.
        link_id: Your id of the customer, if the message named one.
        confirmed: What the server said about it; `None` until asked.
        raw: What was delivered.
    """

    entity_id: str | None = wired(_id, ENTITY_ID, converter=_given)
    session_id: str | None = wired(_id, SESSION_ID, converter=_given)


@attrs.frozen(kw_only=True)
class ExitEvent(_Event):
    """
    The customer left, or in the first dialect: something failed.

    Attributes:
        reason: The vendor's text, if it gave one.
        is_failure: `None` where leaving and failing look the same: in
            `fb-exit`, in a redirect and in results of some client SDKs.
        link_id: Your id of the customer, if the message named one.
        confirmed: What the server said about it; `None` until asked.
        raw: What was delivered.
    """

    reason: str | None = wired(text, REASON, MESSAGE, converter=_given)
    is_failure: bool | None = None


@attrs.frozen(kw_only=True)
class ErrorEvent(_Event):
    """
    Something failed inside the journey, which stays open.

    Attributes:
        error_type: An `ErrorType`, the text of a code that is new, or
            `None`: early versions gave no code.
        reason: The vendor's text, if it gave one.
        link_id: Your id of the customer, if the message named one.
        confirmed: What the server said about it; `None` until asked.
        raw: What was delivered.
    """

    error_type: ErrorType | str | None = wired(
        text, ERROR_TYPE, converter=_known(ErrorType)
    )
    reason: str | None = wired(text, REASON, MESSAGE, converter=_given)


@attrs.frozen(kw_only=True)
class InfoEvent(_Event):
    """
    A step inside the journey, for analytics.

    Attributes:
        event_name: An `EventName`, or the text of a name that is new.
        message: Such as the name of the chosen bank.
        link_id: Your id of the customer, if the message named one.
        confirmed: What the server said about it; `None` until asked.
        raw: What was delivered.
    """

    event_name: EventName | str | None = wired(
        text, EVENT_NAME, converter=_known(EventName)
    )
    message: str | None = wired(text, MESSAGE, REASON, converter=_given)


@attrs.frozen(kw_only=True)
class UnknownEvent(_Event):
    """
    An event that this version does not know.

    Attributes:
        status: Its name on the wire.
        link_id: Your id of the customer, if the message named one.
        confirmed: What the server said about it; `None` until asked.
        raw: What was delivered.
    """

    status: str | None = None


Event: TypeAlias = (
    SuccessEvent | ExitEvent | ErrorEvent | InfoEvent | UnknownEvent
)


@attrs.frozen(kw_only=True)
class Envelope:
    """
    A browser message as it travels (section 2).
    """

    type: str | None = wired(text, required=True)
    status: str | None = wired(text, required=True)
    payload: Mapping[str, Any] | None = wired(message, required=True)


@attrs.frozen(kw_only=True)
class FlatMessage:
    """
    A browser message of 2021 without an envelope (section 5).
    """

    status: str | None = wired(text, required=True)
    data: str | None = wired(text)


@attrs.frozen(kw_only=True)
class LibraryCallback:
    """
    What the script-tag library of 2019 called back with (section 7).
    """

    status: str | None = wired(text, required=True)
    request_id: str | None = wired(_id)
    message: str | None = wired(text)


@attrs.frozen(kw_only=True)
class ReturnQuery:
    """
    What the journey appends to the redirect URL, in its order (section 1).
    """

    success: str | None = wired(text)
    entity_id: str | None = wired(_id)
    session_id: str | None = wired(_id)


class WebhookName(enum.StrEnum):
    """
    The `event_name` of the session flow's webhooks, in all versions.
    """

    UPLOADED = "SESSION_REQUIREMENT_COMPLETION_NOTIFICATION"
    UPLOADED_2024 = "SESSION_COMPLETION_NOTIFICATION"
    EXPIRED = "SESSION_EXPIRY_NOTIFICATION"
    ENRICHED = "ENRICHMENT_NOTIFICATION"


@attrs.frozen(kw_only=True)
class DateRange:
    """
    First and last day of something; `None` where the vendor gave none.
    """

    from_date: datetime.date | None = wired(day)
    to_date: datetime.date | None = wired(day)
    raw: Mapping[str, Any] = _raw()


@attrs.frozen(kw_only=True)
class WebhookStatement:
    """
    One statement of an account, as the session flow's webhooks have it.

    Attributes:
        statement_id: Its id.
        statement_status: Such as `completed`, `failed`.
        error_code: What is wrong with it; `None` if nothing.
        error_message: The vendor's text about that.
        source: Such as `pdf`.
        created_at: When it was uploaded, with the time zone.
        upload_file_name: Name of the file.
        statement_date_range: Days it covers.
        raw: What was delivered.
    """

    statement_id: str | None = wired(_id)
    statement_status: str | None = wired(text)
    error_code: str | None = wired(text)
    error_message: str | None = wired(text)
    source: str | None = wired(text)
    created_at: datetime.datetime | None = wired(moment)
    upload_file_name: str | None = wired(text, repr=False)
    statement_date_range: DateRange | None = wired(one(DateRange))
    raw: Mapping[str, Any] = _raw()


@attrs.frozen(kw_only=True)
class WebhookAccount:
    """
    One account, as the session flow's webhooks have it at different dates.

    Attributes:
        account_id: Its id.
        account_number: In clear or masked, depending on the date; the repr
            shows the last four digits at most.
        account_status: `completed`, `failed`, `PARTIAL`, `COMPLETED`.
        account_category: Such as `individual`.
        bank_name: Bank identifier.
        name: Of the account's holder.
        error_code: What is wrong with it; `None` if nothing.
        error_message: The vendor's text about that.
        attempt_types: Such as `PDF`.
        created_at, last_updated_at: Without time zone: the vendor names
            none.
        months: Months with data, as `YYYY-MM`.
        missing_data: Gaps.
        statements: What was uploaded.
        raw: What was delivered.
    """

    account_id: str | None = wired(_id)
    account_number: str | None = wired(label, repr=masked)
    account_status: str | None = wired(text)
    account_category: str | None = wired(text)
    bank_name: str | None = wired(text)
    name: str | None = wired(text, repr=False)
    error_code: str | None = wired(text)
    error_message: str | None = wired(text)
    attempt_types: tuple[str, ...] = wired(many(text), default=())
    created_at: datetime.datetime | None = wired(moment)
    last_updated_at: datetime.datetime | None = wired(moment)
    months: tuple[str, ...] = wired(many(text), default=())
    missing_data: tuple[DateRange, ...] = wired(
        many(one(DateRange)), default=()
    )
    statements: tuple[WebhookStatement, ...] = wired(
        many(one(WebhookStatement)), default=()
    )
    raw: Mapping[str, Any] = _raw()


@attrs.frozen(kw_only=True)
class ExtractionWebhook:
    """
    Extraction of one statement ended (entity flow).

    Attributes:
        entity_id: Id under which the data is kept.
        statement_id: Id of the statement; `None` if none was uploaded.
        link_id: Your id of the customer; `None` if the upload named none.
        progress: `completed` or `failed`.
        reason: The vendor's text about a failure.
        date_time: When the webhook was due, in recovered ones; no time zone.
        raw: What was delivered.
    """

    entity_id: str | None = wired(_id)
    statement_id: str | None = wired(_id)
    link_id: str | None = wired(_link_id)
    progress: str | None = wired(text)
    reason: str | None = wired(text)
    date_time: datetime.datetime | None = wired(moment)
    raw: Mapping[str, Any] = _raw()


@attrs.frozen(kw_only=True)
class _SessionWebhook:
    session_id: str | None = wired(_id)
    event_name: str | None = wired(text)
    raw: Mapping[str, Any] = _raw()


@attrs.frozen(kw_only=True)
class UploadWebhook(_SessionWebhook):
    """
    The customer completed the uploads asked for (session flow).

    Attributes:
        session_id: Id of the session.
        event_name: Which of the two names it had.
        message: Such as `Upload Completed`.
        session_date_range: Days the session asks for.
        accounts: What was uploaded.
        raw: What was delivered.
    """

    message: str | None = wired(text)
    session_date_range: DateRange | None = wired(one(DateRange))
    accounts: tuple[WebhookAccount, ...] = wired(
        many(one(WebhookAccount)), default=()
    )


@attrs.frozen(kw_only=True)
class ExpiryWebhook(_SessionWebhook):
    """
    The session ran out and takes no more uploads (session flow).

    Attributes:
        session_id: Id of the session.
        event_name: Its name on the wire.
        message: Such as `Session expired`.
        session_date_range: Days the session asked for.
        accounts: What was uploaded until then.
        raw: What was delivered.
    """

    message: str | None = wired(text)
    session_date_range: DateRange | None = wired(one(DateRange))
    accounts: tuple[WebhookAccount, ...] = wired(
        many(one(WebhookAccount)), default=()
    )


@attrs.frozen(kw_only=True)
class EnrichmentWebhook(_SessionWebhook):
    """
    Processing ended, well or badly (session flow).

    Attributes:
        session_id: Id of the session.
        event_name: Its name on the wire.
        insights_available: Whether there is something to fetch; `None` in
            versions that do not say.
        accounts: What was processed.
        raw: What was delivered.
    """

    insights_available: bool | None = wired(flag)
    accounts: tuple[WebhookAccount, ...] = wired(
        many(one(WebhookAccount)), default=()
    )


@attrs.frozen(kw_only=True)
class UnknownWebhook(_SessionWebhook):
    """
    A webhook whose `event_name` this version does not know.

    Attributes:
        session_id: Id of the session, if it named one.
        event_name: Its name on the wire.
        raw: What was delivered.
    """


Webhook: TypeAlias = (
    ExtractionWebhook
    | UploadWebhook
    | ExpiryWebhook
    | EnrichmentWebhook
    | UnknownWebhook
)
