"""
One journey: what the customer can do, and which event each step is.

Pure: the time comes in as an argument.
"""

import datetime
import enum
import uuid

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

import attrs

from bankconnect_async._codec.browser_messages import encode_event
from bankconnect_async._codec.redirects import build_redirect
from bankconnect_async._codec.session_requests import date_text
from bankconnect_async.models.events import (
    ErrorEvent,
    ErrorType,
    Event,
    EventName,
    ExitEvent,
    InfoEvent,
    SuccessEvent,
)
from bankconnect_async.sandbox.banks import EXAMPLE_BANK, bank_of, find_bank
from bankconnect_async.sandbox.data_api.statements import (
    AccountStatements,
    Processing,
    UploadedStatement,
    group_by_account,
)
from bankconnect_async.sandbox.fake_data.ledgers import Span, fake_account
from bankconnect_async.sandbox.records import Played, SandboxSession
from bankconnect_async.sandbox.session_api.combined_rules import (
    six_months_before,
)
from bankconnect_async.sandbox.session_api.field_rules import (
    as_bank_name,
    as_choice,
    parse_fields,
)


Action: TypeAlias = Literal[
    "bank_selected",
    "manual",
    "manual_upload_back",
    "net_banking_back",
    "success",
    "failure",
    "exit",
]
#: How statements come in, in the words of `mode`: by upload or net banking.
Mode: TypeAlias = Literal["pdf", "online"]

# In the contract's sample of `session_upload_status` a session expires one
# hour after its creation; no page names a default.
_DEFAULT_EXPIRY: Final = 60
_EXIT_REASON: Final = "User closed the journey"

#: What the vendor gives as the reason of each failure (contract, section 3),
#: and where its page says "free text" or describes the text, a made-up one.
REASONS: Final[Mapping[ErrorType, str]] = {
    ErrorType.TRIAL_OVER: "Trial Expired for Dev Credentials",
    ErrorType.PASSWORD_INCORRECT: "Password Incorrect",
    ErrorType.BANK_MISMATCH: "Not {bank} statement",
    ErrorType.PDF_UNREADABLE: "",
    ErrorType.NOT_A_STATEMENT: "Not a valid statement or bank is not "
    "supported",
    ErrorType.OUT_OF_DATE_RANGE: "Statement is not within {start} to {end}",
    ErrorType.NET_BANKING_FAILED: "Net banking failed",
    ErrorType.LOGIN_FAILED: "Net banking login failed",
    ErrorType.CAPTCHA_WRONG: "Invalid Captcha",
    ErrorType.SECURITY_ERROR: "Security error",
}
_DEFAULT_FAILURES: Final[Mapping[Mode, ErrorType]] = {
    "pdf": ErrorType.PASSWORD_INCORRECT,
    "online": ErrorType.LOGIN_FAILED,
}


def failure_mode(error_type: ErrorType) -> Mode:
    """
    Tell in which mode *error_type* happens, as its prefix does.
    """
    return "pdf" if error_type.startswith("MU") else "online"


@attrs.frozen(kw_only=True)
class Step:
    """
    One thing the customer does.

    Attributes:
        action: What.
        mode: How statements come in, where that is known.
        bank: Which bank was chosen, by identifier.
        error_type: How a failure fails.
    """

    action: Action
    mode: Mode | None = None
    bank: str | None = None
    error_type: ErrorType | None = None


def parse_step(parameters: Mapping[str, Any]) -> Step:
    """
    Read what the page posts.

    Raises:
        ApiError: With a problem for every bad parameter.
    """
    return Step(**parse_fields(parameters, _STEP_RULES, required="action"))


_is_error_type = as_choice(*ErrorType)
_ERROR_TYPES: Final[Mapping[str, ErrorType]] = {
    error_type.value: error_type for error_type in ErrorType
}

_STEP_RULES: Final[Mapping[str, Callable[[object], Any]]] = {
    "action": as_choice(*get_args(Action)),
    "mode": as_choice(*get_args(Mode)),
    "bank": as_bank_name,
    "error_type": lambda value: _ERROR_TYPES[_is_error_type(value)],
}


class ClosedReason(enum.Enum):
    """
    Why there is no going on with a journey, in words.
    """

    UNKNOWN = "is not a session of this sandbox"
    EXPIRED = "has expired"
    COMPLETED = "has been completed"


@attrs.define(kw_only=True)
class Journey:
    """
    Where one session stands.

    Attributes:
        session: Whose journey it is.
        expires_at: From when on nothing goes any more.
        bank: The chosen bank's identifier, as it was written.
        entity_id: Id of the entity, from the first attempt on (entity flow).
        statements: What came in.
        is_complete: Whether that is all that was asked for.
        processing: What was asked for after that (session flow).
        is_expiry_notified: Whether the webhook about the expiry is out.
    """

    session: SandboxSession
    expires_at: datetime.datetime
    bank: str | None
    entity_id: str | None = None
    statements: list[UploadedStatement] = attrs.Factory(list)
    is_complete: bool = False
    processing: Processing | None = None
    is_expiry_notified: bool = False

    @classmethod
    def start(cls, session: SandboxSession) -> "Journey":
        """Begin the journey of *session*."""
        minutes = session.parameters.get("session_expiry", _DEFAULT_EXPIRY)
        return cls(
            session=session,
            expires_at=session.created_at
            + datetime.timedelta(minutes=minutes),
            bank=bank_of(session.parameters),
        )

    def is_expired(self, now: datetime.datetime) -> bool:
        """Tell whether it is too late for this journey."""
        return not self.is_over and now >= self.expires_at

    def closed_reason(self, now: datetime.datetime) -> ClosedReason | None:
        """Say why it does not go on, if it does not."""
        if self.is_over:
            return ClosedReason.COMPLETED
        return ClosedReason.EXPIRED if self.is_expired(now) else None

    @property
    def is_over(self) -> bool:
        """Whether the customer is done, or processing has begun."""
        return self.is_complete or self.processing is not None

    @property
    def is_entity_flow(self) -> bool:
        """Whether its result is an entity."""
        return self.session.dialect != "session"

    @property
    def mode(self) -> Mode | None:
        """The mode that the session was asked for, if the page has it."""
        mode = self.session.parameters.get("mode")
        return mode if mode in get_args(Mode) else None

    @property
    def date_range(self) -> tuple[datetime.date, datetime.date]:
        """First and last day of the statements asked for."""
        today = self.session.created_at.date()
        asked = self.session.parameters
        return (
            asked.get("from_date", six_months_before(today)),
            asked.get("to_date", today),
        )

    @property
    def requested_span(self) -> Span:
        """The days asked for, the future left out."""
        start, end = self.date_range
        today = self.session.created_at.date()
        return Span(start=start, end=max(start, min(end, today)))

    @property
    def takes_anything(self) -> bool:
        """Whether the session was asked for without acceptance rules."""
        return bool(self.session.parameters.get("accept_anything"))

    @property
    def has_all_statements(self) -> bool:
        """
        Whether the acceptance rules are met: all months, by default.
        """
        held = group_by_account(self.statements)
        return bool(held) and all(self.accepts(group) for group in held)

    def accepts(self, group: AccountStatements) -> bool:
        """Tell whether an account has all that is asked for."""
        return self.takes_anything or not group.missing_months(
            self.requested_span
        )

    def apply(self, step: Step, now: datetime.datetime) -> Event:
        """Do *step*, and return the event that it is."""
        return _STEPS[step.action](self, step, now)

    def mode_of(self, step: Step) -> Mode:
        """Tell in which mode *step* happens."""
        if step.error_type is not None:
            return failure_mode(step.error_type)
        return step.mode or self.mode or "pdf"


def report(journey: Journey, event: Event) -> Played:
    """
    Say in the words of the session's dialect what *event* is.

    A failure does not redirect: the journey stays open until the customer
    leaves (contract, U-17).
    """
    dialect = journey.session.dialect
    is_silent = dialect == "seed" and isinstance(event, InfoEvent)
    messages = () if is_silent else (encode_event(event, dialect),)
    return Played(messages=messages, redirect=_redirect(journey, event))


def _redirect(journey: Journey, event: Event) -> str | None:
    url = journey.session.parameters.get("redirect_url")
    match event:
        case SuccessEvent(entity_id=entity_id, session_id=session_id) if url:
            told = SuccessEvent(entity_id=entity_id, session_id=session_id)
            return str(build_redirect(url, told))
        case ExitEvent() if url:
            return str(build_redirect(url, ExitEvent()))
        case _:
            return None


def _select_bank(journey: Journey, step: Step, _: datetime.datetime) -> Event:
    journey.bank = step.bank
    bank = find_bank(step.bank or "")
    return InfoEvent(
        link_id=journey.session.link_id,
        event_name=EventName.BANK_SELECTED,
        # A name, not an identifier, and in the example in upper case.
        message=bank.name.upper() if bank else step.bank,
    )


def _succeed(journey: Journey, step: Step, now: datetime.datetime) -> Event:
    _note_attempt(journey, step)
    journey.statements.append(
        UploadedStatement(
            account=fake_account(journey.session.link_id, _bank(journey)),
            span=journey.requested_span,
            source=journey.mode_of(step),
            received_at=now,
        )
    )
    journey.is_complete = True
    session = journey.session
    if journey.is_entity_flow:
        return SuccessEvent(
            link_id=session.link_id, entity_id=journey.entity_id
        )
    return SuccessEvent(link_id=session.link_id, session_id=session.session_id)


def _fail(journey: Journey, step: Step, _: datetime.datetime) -> Event:
    _note_attempt(journey, step)
    error_type = step.error_type or _DEFAULT_FAILURES[journey.mode_of(step)]
    start, end = map(date_text, journey.date_range)
    reason = REASONS[error_type].format(
        bank=_bank(journey), start=start, end=end
    )
    return ErrorEvent(
        link_id=journey.session.link_id, error_type=error_type, reason=reason
    )


def _leave(journey: Journey, _: Step, __: datetime.datetime) -> Event:
    return ExitEvent(
        link_id=journey.session.link_id,
        reason=_EXIT_REASON,
        is_failure=False,
    )


def _tell(name: EventName) -> "_Taker":
    def tell(journey: Journey, _: Step, __: datetime.datetime) -> Event:
        return InfoEvent(link_id=journey.session.link_id, event_name=name)

    return tell


def _note_attempt(journey: Journey, step: Step) -> None:
    journey.bank = step.bank or journey.bank
    # An attempt that failed has an entity, too: webhooks about it name one.
    if journey.is_entity_flow and journey.entity_id is None:
        journey.entity_id = str(uuid.uuid4())


def _bank(journey: Journey) -> str:
    return (journey.bank or EXAMPLE_BANK).lower()


_Taker: TypeAlias = Callable[[Journey, Step, datetime.datetime], Event]

_STEPS: Final[Mapping[Action, _Taker]] = {
    "bank_selected": _select_bank,
    "manual": _tell(EventName.MANUAL),
    "manual_upload_back": _tell(EventName.MANUAL_UPLOAD_BACK),
    "net_banking_back": _tell(EventName.NET_BANKING_BACK),
    "success": _succeed,
    "failure": _fail,
    "exit": _leave,
}
