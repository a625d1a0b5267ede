"""
Endpoints of the session flow, beside ``session/``.
"""

import functools

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import attrs

from aiohttp import web

from bankconnect_async.sandbox.banks import SandboxBank, all_banks, find_bank
from bankconnect_async.sandbox.fake_data.ledgers import Span, fake_account
from bankconnect_async.sandbox.http.bodies import parse_body
from bankconnect_async.sandbox.http.endpoints import (
    PREFIX,
    SESSION_ERRORS,
    SUCCESS,
    Authenticator,
    ErrorFormat,
    JsonHandler,
    is_unpaid,
    read_request,
)
from bankconnect_async.sandbox.http.errors import (
    NO_CREDENTIALS,
    TRIAL_OVER,
    ApiError,
    BadValueError,
    JsonObject,
    coded_error,
    render_coded,
)
from bankconnect_async.sandbox.http.storage import Storage
from bankconnect_async.sandbox.journey.journey import Journey
from bankconnect_async.sandbox.journey.session_table import SessionTable
from bankconnect_async.sandbox.session_api.dialects import rules_for
from bankconnect_async.sandbox.session_api.field_rules import as_date
from bankconnect_async.sandbox.webhooks.notifications import upload_status

from .consents import ConsentError, Consents, bank_of_consent
from .session_responses import (
    PARTS,
    SessionQuery,
    insights,
    progress,
    session_pdfs,
    session_status,
    uploaded,
)
from .statements import UploadedStatement, new_id
from .upload_forms import Content, material_of
from .uploads import BadStatementError, is_url, judge_statement


_TEXTS: Final[Mapping[str, str]] = {
    "PROCESSING_NOT_REQUESTED": "Cannot proceed as the processing has not "
    "been requested yet",
    "PROCESSING_NOT_COMPLETED": "The processing for this session is "
    "currently in progress",
    "DUPLICATE_PROCESSING_REQUEST": "Request for processing have already "
    "been initiated",
    "UNPARSABLE_STATEMENTS": "The uploaded statements are not parsable",
    "KEY_REQUIRED": "valid session_id is required",
}
_UPLOAD_TEXTS: Final[Mapping[str, str]] = {
    "SESSION_EXPIRED": "This session has expired",
    "SESSION_NOT_FOUND": "The provided Session ID is invalid",
    "SESSION_DELETED": "The provided session ID has been deleted",
    "TRIAL_PERIOD_EXPIRED": TRIAL_OVER,
    "INVALID_API_KEY": NO_CREDENTIALS,
    "MISSING_FILE_OBJECT": "No file was provided",
    "INVALID_FILE_OBJECT": "The provided file is invalid",
    "EMPTY_FILE": "The provided file is empty",
    "INVALID_FILE_URL": "The provided file URL is invalid",
    "INVALID_BASE_64": "The provided Base 64 string is invalid",
    "PASSWORD_INCORRECT": "The provided password is incorrect",
    "PDF_IS_IMAGE": "The provided PDF is an image",
    "STATEMENT_UNSUPPORTED_FORMAT": "The format of the statement is not "
    "supported",
    "STATEMENT_DUPLICATE": "The statement has been uploaded before",
    "OUT_OF_DATE_RANGE": "The statement has no transactions in the date range",
    "BANK_NAME_UNDETECTED": "The bank could not be detected",
    "BANK_NAME_MISMATCH": "The statement is of another bank",
    "INVALID_ACCOUNT_CATEGORY": "The provided account category is invalid",
    "INVALID_REQUEST": 'upload_type, "{}" is not a valid choice.',
}
# A statement that was never looked at has no id.
_BEFORE_READING: Final = {
    "EMPTY_FILE",
    "INVALID_ACCOUNT_CATEGORY",
    "INVALID_BASE_64",
    "INVALID_FILE_URL",
    "INVALID_REQUEST",
    "MISSING_FILE_OBJECT",
}
_CATEGORIES: Final = {"SAVINGS", "CURRENT", "OVERDRAFT"}
_UPLOAD_TYPES: Final = {"PDF", "BASE64"}


def _upload_refusal(
    status: HTTPStatus,
    code: str,
    *,
    session_id: str = "",
    statement_id: str = "",
    detail: str = "",
) -> ApiError:
    message = _UPLOAD_TEXTS[code].format(detail)
    return ApiError(
        status,
        body={
            "session_id": session_id,
            "statement_id": statement_id,
            "error": {"code": code, "message": message},
        },
    )


_UPLOADS: Final = ErrorFormat(
    lambda: _upload_refusal(HTTPStatus.FORBIDDEN, "INVALID_API_KEY"),
    render_coded,
)


def _early(code: str) -> ApiError:
    return coded_error(HTTPStatus.BAD_REQUEST, code, _TEXTS[code])


@attrs.frozen(kw_only=True)
class SessionDataApi:
    """
    Handlers of the session flow.

    Attributes:
        guard: Lets callers in.
        journeys: What there is.
        storage: Where files are.
        consents: Of recurring journeys.
        origin: Where browsers find the journey's page.
    """

    guard: Authenticator
    journeys: SessionTable
    storage: Storage
    consents: Consents
    origin: Callable[[], str]

    def routes(self) -> list[web.RouteDef]:
        """
        List the endpoints.
        """
        v1 = f"{PREFIX}/v1"
        # A blank id is refused by us, not by the router.
        session = f"{v1}/session_data/{{session_id:[^/]*}}"
        aggregator = f"{v1}/account_aggregator"
        told = functools.partial(
            self.guard.require_key_and_hash, SESSION_ERRORS
        )
        known = functools.partial(self.guard.require_key, SESSION_ERRORS)
        about: dict[str, JsonHandler] = {
            "session_upload_status": self._status,
            "progress": self._asked(progress, is_over=False),
            "session_status": self._asked(session_status),
            "insights": self._asked(insights),
            "get_pdfs": self._pdfs,
            **{name: self._asked(part) for name, part in PARTS.items()},
        }
        return [
            web.post(f"{v1}/session_data/update_webhook/", told(self._update)),
            web.post(
                f"{v1}/statement/upload_session/",
                self.guard.require_key(_UPLOADS, self._upload),
            ),
            web.post(
                f"{session}/initiate_processing/",
                told(self._initiate, HTTPStatus.ACCEPTED),
            ),
            web.delete(f"{session}/delete/", told(self._delete)),
            *(
                web.get(f"{session}/{name}/", told(answer))
                for name, answer in about.items()
            ),
            # The vendor's collection has no trailing slash.
            web.get(f"{v1}/banks/catalogue/", told(self._catalogue)),
            web.get(f"{v1}/banks/catalogue", told(self._catalogue)),
            web.post(
                f"{aggregator}/get_recurring_consent_details/",
                known(self._consents),
            ),
            web.post(
                f"{aggregator}/fetch_recurring_aa_data/", known(self._fetch)
            ),
        ]

    async def _update(self, request: web.Request) -> JsonObject:
        body = parse_body(await read_request(request))
        self.journeys.webhooks.update_session(body)
        return dict(SUCCESS)

    async def _status(self, request: web.Request) -> JsonObject:
        return upload_status(self._journey(request), self.journeys.now())

    async def _delete(self, request: web.Request) -> JsonObject:
        journey = self._journey(request)
        self.journeys.delete(journey.session.session_id)
        return dict(SUCCESS)

    async def _initiate(self, request: web.Request) -> JsonObject:
        journey = self._journey(request)
        if journey.processing is not None:
            raise _early("DUPLICATE_PROCESSING_REQUEST")
        if not journey.statements:
            raise _early("UNPARSABLE_STATEMENTS")
        self.journeys.start_processing(journey)
        return {"session_id": journey.session.session_id, **SUCCESS}

    def _asked(
        self,
        answer: Callable[[SessionQuery], JsonObject],
        *,
        is_over: bool = True,
    ) -> JsonHandler:
        async def tell(request: web.Request) -> JsonObject:
            inquiry = self._inquiry(request)
            processing = inquiry.journey.processing
            if processing is None:
                raise _early("PROCESSING_NOT_REQUESTED")
            if is_over and not processing.is_over(inquiry.now):
                raise _early("PROCESSING_NOT_COMPLETED")
            return answer(inquiry)

        return tell

    async def _pdfs(self, request: web.Request) -> JsonObject:
        return session_pdfs(self._inquiry(request))

    def _inquiry(self, request: web.Request) -> SessionQuery:
        return SessionQuery(
            journey=self._journey(request),
            now=self.journeys.now(),
            link=self.storage.presigned_url,
        )

    def _journey(self, request: web.Request) -> Journey:
        session_id = request.match_info["session_id"]
        if not session_id.strip():
            raise _early("KEY_REQUIRED")
        if self.journeys.is_deleted(session_id):
            raise ApiError(HTTPStatus.GONE)
        journey = self.journeys.get(session_id)
        if journey is None or journey.is_entity_flow:
            raise ApiError(HTTPStatus.NOT_FOUND)
        return journey

    async def _catalogue(self, _: web.Request) -> JsonObject:
        banks = [_catalogued(bank) for bank in all_banks()]
        return {"count": len(banks), "banks": banks}

    async def _upload(self, request: web.Request) -> JsonObject:
        body = await _form(request)
        session_id = str(body.get("session_id") or "")
        if is_unpaid(request):
            raise _upload_refusal(
                HTTPStatus.PAYMENT_REQUIRED,
                "TRIAL_PERIOD_EXPIRED",
                session_id=session_id,
            )
        journey = self._open_journey(session_id)
        statement, content = self._judge(body, journey)
        self.journeys.add_to_session(journey, statement)
        self.storage.store_upload(session_id, statement, content)
        answer = uploaded(
            journey,
            statement,
            is_long=request.query.get("identity") == "true",
        )
        if request.query.get("progress"):
            answer["progress"] = [
                {
                    "statement_id": each.statement_id,
                    "status": "completed",
                    "message": None,
                    "source": each.source,
                }
                for each in journey.statements
            ]
        return answer

    def _open_journey(self, session_id: str) -> Journey:
        if self.journeys.is_deleted(session_id):
            raise _upload_refusal(HTTPStatus.GONE, "SESSION_DELETED")
        journey = self.journeys.get(session_id)
        if journey is None:
            raise _upload_refusal(HTTPStatus.NOT_FOUND, "SESSION_NOT_FOUND")
        if journey.is_entity_flow:
            # The session flow is not for this customer (contract, U-11).
            raise ApiError(
                HTTPStatus.FORBIDDEN, body={"message": "Route not allowed"}
            )
        # Once processing has begun, it takes no more uploads either.
        if journey.processing is not None or journey.is_expired(
            self.journeys.now()
        ):
            raise _upload_refusal(
                HTTPStatus.BAD_REQUEST,
                "SESSION_EXPIRED",
                session_id=session_id,
            )
        return journey

    def _judge(
        self, body: JsonObject, journey: Journey
    ) -> tuple[UploadedStatement, Content]:
        bank = _named_bank(body)
        try:
            _check_form(body)
            material, content = material_of(
                body,
                self.storage,
                bank=bank,
                is_base64=body.get("upload_type") == "BASE64",
            )
            statement = judge_statement(
                material,
                owner=journey.session.link_id,
                asked=journey.requested_span,
                now=self.journeys.now(),
            )
            _check_place(statement, journey)
        except BadStatementError as exc:
            raise _upload_refusal(
                HTTPStatus.BAD_REQUEST,
                exc.code,
                session_id=journey.session.session_id,
                statement_id=""
                if exc.code in _BEFORE_READING
                else exc.statement_id or new_id(),
                detail=str(body.get("upload_type") or ""),
            ) from None
        return statement, content

    async def _consents(self, request: web.Request) -> JsonObject:
        # The page's own path ends in a slash after the value (U-33).
        session_id = request.query.get("session_id", "").rstrip("/")
        journey = self.journeys.get(session_id)
        if journey is None or journey.is_entity_flow:
            raise _aggregator("INVALID_SESSION_ID")
        return {"consent_details": self.consents.of(journey.session)}

    async def _fetch(self, request: web.Request) -> JsonObject:
        body = parse_body(await read_request(request))
        span = _span(body)
        try:
            session = self.consents.use(body.get("consent_id"), self.journeys)
        except ConsentError as exc:
            raise _aggregator(exc.code) from None
        parameters = {
            **{
                name: session.parameters[name]
                for name in ("link_id", "bank_name", "bank")
                if name in session.parameters
            },
            "from_date": span.start,
            "to_date": span.end,
            "accept_anything": True,
        }
        new = self.journeys.create(
            rules_for("session", "v1"), parameters, self.origin()
        )
        journey = self.journeys.get(new.session_id)
        assert journey is not None  # noqa: S101 - it was just made
        self.journeys.add_to_session(
            journey,
            UploadedStatement(
                account=fake_account(new.link_id, bank_of_consent(session)),
                span=span,
                source="aa",
                received_at=self.journeys.now(),
            ),
        )
        # There is nobody to ask for it: the caller waits for the outcome.
        self.journeys.start_processing(journey)
        return {"session_id": new.session_id}


async def _form(request: web.Request) -> JsonObject:
    call = await read_request(request)
    is_form = "json" not in call.content_type
    try:
        if is_form:
            return parse_body(call)
    except ApiError:
        pass
    raise _upload_refusal(HTTPStatus.BAD_REQUEST, "INVALID_FILE_OBJECT")


def _named_bank(body: JsonObject) -> SandboxBank | None:
    name = body.get("bank_name")
    if name is None:
        return None
    bank = find_bank(str(name))
    if bank is None:
        # The shape is not shown: S6, as everywhere in uploads (U-11).
        text = "Please use a bank of the list."
        raise ApiError(
            HTTPStatus.BAD_REQUEST, body={"bank_name": [text], "status": 0}
        )
    return bank


def _check_form(body: JsonObject) -> None:
    """
    Check what can be checked without looking at the file.

    Raises:
        BadStatementError: With the first problem.
    """
    upload_type, file = body.get("upload_type"), body.get("file")
    if upload_type not in _UPLOAD_TYPES:
        raise BadStatementError("INVALID_REQUEST")
    if body.get("account_category") not in {None, *_CATEGORIES}:
        raise BadStatementError("INVALID_ACCOUNT_CATEGORY")
    if file is None:
        if body.get("file_url") is None:
            raise BadStatementError("MISSING_FILE_OBJECT")
        if not is_url(body["file_url"]):
            raise BadStatementError("INVALID_FILE_URL")
    elif isinstance(file, bytes) is (upload_type == "BASE64"):
        raise BadStatementError("INVALID_FILE_OBJECT")


def _check_place(statement: UploadedStatement, journey: Journey) -> None:
    """
    Check that a statement belongs into a session.

    Raises:
        BadStatementError: If it does not.
    """
    for each in journey.statements:
        if each.digest == statement.digest:
            raise BadStatementError("STATEMENT_DUPLICATE", each.statement_id)
    if not statement.span.overlaps(journey.requested_span):
        raise BadStatementError("OUT_OF_DATE_RANGE")


def _aggregator(code: str) -> ApiError:
    # Status and envelope are not given (contract, U-33).
    text = code.replace("_", " ").capitalize()
    return coded_error(HTTPStatus.BAD_REQUEST, code, text)


def _span(body: Mapping[str, Any]) -> Span:
    try:
        start = as_date(body.get("date_time_range_from"))
        end = as_date(body.get("date_time_range_to"))
    except BadValueError:
        raise _aggregator("INVALID_DATE_RANGE") from None
    if start >= end:
        raise _aggregator("INVALID_DATE_RANGE")
    return Span(start=start, end=end)


def _catalogued(bank: SandboxBank) -> JsonObject:
    return {
        "name": bank.identifier,
        "full_name": bank.name,
        "npci_code": bank.npci_code,
        "logo_url": f"https://cdn.example/{bank.identifier.lower()}.png",
        "is_pdf_upload_available": "pdf" in bank.modes,
        "is_net_banking_available": "online" in bank.modes,
        "is_aa_available": bank.has_aa,
    }
