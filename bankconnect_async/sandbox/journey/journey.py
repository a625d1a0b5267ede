"""
The journey of one session: its steps and their events.

Pure: the time is an argument.
"""

import datetime
import enum
import uuid

from collections.abc import Mapping
from typing import Any, Final, Literal, Self, TypeAlias, get_args

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
from bankconnect_async.sandbox.messages import read_message
from bankconnect_async.sandbox.records import Played, SandboxSession
from bankconnect_async.sandbox.session_api.combined_rules import (
    six_months_before,
)
from bankconnect_async.sandbox.session_api.field_rules import (
    Rule,
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
#: The modes of the page: upload, net banking and Account Aggregator.
Mode: TypeAlias = Literal["pdf", "online", "aa"]

# In the contract's sample of `session_upload_status` a session expires one
# hour after its creation; no page names a default.
_DEFAULT_EXPIRY: Final = 60
_EXIT_REASON: Final = "User closed the journey"


class ConsentFailure(enum.StrEnum):
    """
    The failures of a consent (Account Aggregator).

    The vendor documents no code for them, so their events have none.
    """

    REJECTED = "CONSENT_REJECTED"
    FAILED = "CONSENT_FAILED"

    @property
    def meaning(self) -> str:
        """The meaning of the code."""
        return self.replace("_", " ").lower()


Failure: TypeAlias = ErrorType | ConsentFailure

_DEFAULT_FAILURES: Final[Mapping[Mode, Failure]] = {
    "pdf": ErrorType.PASSWORD_INCORRECT,
    "online": ErrorType.LOGIN_FAILED,
    "aa": ConsentFailure.REJECTED,
}


def failure_mode(error_type: Failure) -> Mode:
    """
    Return the mode of *error_type*, which its prefix names.
    """
    if isinstance(error_type, ConsentFailure):
        return "aa"
    return "pdf" if error_type.startswith("MU") else "online"


@attrs.frozen(kw_only=True)
class Step:
    """
    One action of the customer.

    Attributes:
        action: The action.
        mode: The mode in which statements come in, if known.
        bank: The identifier of the chosen bank.
        error_type: The kind of a failure.
    """

    action: Action
    mode: Mode | None = None
    bank: str | None = None
    error_type: Failure | None = None


def parse_step(parameters: Mapping[str, Any]) -> Step:
    """
    Parse what the page posts.

    Raises:
        ApiError: With a problem for every invalid parameter.
    """
    return Step(**parse_fields(parameters, _STEP_RULES, required="action"))


#: Every failure by its code.
FAILURES: Final[Mapping[str, Failure]] = {
    str(failure): failure for failure in (*ErrorType, *ConsentFailure)
}
_as_failure = as_choice(*FAILURES)
_STEP_RULES: Final[Mapping[str, Rule]] = {
    "action": as_choice(*get_args(Action)),
    "mode": as_choice(*get_args(Mode)),
    "bank": as_bank_name,
    "error_type": lambda value: FAILURES[_as_failure(value)],
}


class ClosedReason(enum.Enum):
    """
    The reasons why a journey is closed, as the end of a sentence.
    """

    UNKNOWN = "is not a session of this sandbox"
    EXPIRED = "has expired"
    COMPLETED = "has been completed"


@attrs.define(kw_only=True)
class Journey:
    """
    The state of one session's journey.

    Attributes:
        session: The session.
        expires_at: The time from which no step is possible.
        bank: The chosen bank's identifier, as it was written.
        entity_id: The id of the entity, from the first attempt on (entity
            flow).
        statements: The uploaded statements.
        is_complete: Whether all required statements are there.
        processing: The processing that follows (session flow).
        is_expiry_notified: Whether the webhook about the expiry was sent.
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
    def start(cls, session: SandboxSession) -> Self:
        """Start the journey of *session*."""
        minutes = session.parameters.get("session_expiry", _DEFAULT_EXPIRY)
        return cls(
            session=session,
            expires_at=session.created_at
            + datetime.timedelta(minutes=minutes),
            bank=bank_of(session.parameters),
        )

    def is_expired(self, now: datetime.datetime) -> bool:
        """Tell whether it has expired."""
        return not self.is_over and now >= self.expires_at

    def closed_reason(self, now: datetime.datetime) -> ClosedReason | None:
        """Return the reason why it is closed, if it is."""
        if self.is_over:
            return ClosedReason.COMPLETED
        return ClosedReason.EXPIRED if self.is_expired(now) else None

    @property
    def is_over(self) -> bool:
        """Whether the customer is done, or processing has started."""
        return self.is_complete or self.processing is not None

    @property
    def is_entity_flow(self) -> bool:
        """Whether its result is an entity."""
        return self.session.dialect != "session"

    @property
    def mode(self) -> Mode | None:
        """The requested mode, if the page has it."""
        mode = self.session.parameters.get("mode")
        return mode if mode in get_args(Mode) else None

    @property
    def date_range(self) -> tuple[datetime.date, datetime.date]:
        """The first and the last requested day."""
        today = self.session.created_at.date()
        parameters = self.session.parameters
        return (
            parameters.get("from_date", six_months_before(today)),
            parameters.get("to_date", today),
        )

    @property
    def requested_span(self) -> Span:
        """The requested days, without those in the future."""
        start, end = self.date_range
        today = self.session.created_at.date()
        return Span(start=start, end=max(start, min(end, today)))

    @property
    def has_all_statements(self) -> bool:
        """Whether each account has all that the acceptance rules require."""
        groups = group_by_account(self.statements)
        return bool(groups) and all(map(self.accepts, groups))

    def accepts(self, group: AccountStatements) -> bool:
        """Tell whether an account has every requested month."""
        return bool(
            self.session.parameters.get("accept_anything")
        ) or not group.missing_months(self.requested_span)

    def mode_of(self, step: Step) -> Mode:
        """Return the mode of a step."""
        if step.error_type is not None:
            return failure_mode(step.error_type)
        return step.mode or self.mode or "pdf"

    def apply(self, step: Step, now: datetime.datetime) -> Event:
        """Do a step, and return its event."""
        link_id = self.session.link_id
        match step.action:
            case "success":
                return self._succeed(step, now)
            case "failure":
                return self._fail(step)
            case "exit":
                return ExitEvent(
                    link_id=link_id, reason=_EXIT_REASON, is_failure=False
                )
            case "bank_selected":
                self.bank = step.bank
                bank = find_bank(step.bank or "")
                return InfoEvent(
                    link_id=link_id,
                    event_name=EventName.BANK_SELECTED,
                    # The name, in upper case as in the vendor's example.
                    message=bank.name.upper() if bank else step.bank,
                )
            case name:
                return InfoEvent(link_id=link_id, event_name=name)

    def _succeed(self, step: Step, now: datetime.datetime) -> Event:
        session = self.session
        self.statements.append(
            UploadedStatement(
                account=fake_account(session.link_id, self._attempt(step)),
                span=self.requested_span,
                source=self.mode_of(step),
                received_at=now,
            )
        )
        self.is_complete = True
        if self.is_entity_flow:
            return SuccessEvent(
                link_id=session.link_id, entity_id=self.entity_id
            )
        return SuccessEvent(
            link_id=session.link_id, session_id=session.session_id
        )

    def _fail(self, step: Step) -> Event:
        bank = self._attempt(step)
        failure = step.error_type or _DEFAULT_FAILURES[self.mode_of(step)]
        start, end = map(date_text, self.date_range)
        row = read_message("event", failure, self.session.dialect)
        return ErrorEvent(
            link_id=self.session.link_id,
            error_type=failure if isinstance(failure, ErrorType) else None,
            reason=row["text"].format(bank=bank, start=start, end=end),
        )

    def _attempt(self, step: Step) -> str:
        """Note an attempt, and return its bank."""
        self.bank = step.bank or self.bank
        # A failed attempt has an entity, too, which its webhook names.
        if self.is_entity_flow and self.entity_id is None:
            self.entity_id = str(uuid.uuid4())
        return (self.bank or EXAMPLE_BANK).lower()


def report(journey: Journey, event: Event) -> Played:
    """
    Encode an event in the dialect of the session.

    A failure does not redirect: the journey stays open until the customer
    leaves (contract, U-17).
    """
    session = journey.session
    is_silent = session.dialect == "seed" and isinstance(event, InfoEvent)
    url = session.parameters.get("redirect_url")
    redirect = None
    if url and isinstance(event, SuccessEvent):
        success = SuccessEvent(
            entity_id=event.entity_id, session_id=event.session_id
        )
        redirect = str(build_redirect(url, success))
    elif url and isinstance(event, ExitEvent):
        redirect = str(build_redirect(url, ExitEvent()))
    return Played(
        messages=() if is_silent else (encode_event(event, session.dialect),),
        redirect=redirect,
    )
