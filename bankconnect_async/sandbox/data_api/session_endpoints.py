"""
The endpoints of the session flow, without ``session/`` itself.
"""

import contextlib
import functools

from http import HTTPStatus
from typing import Final

import attrs

from aiohttp import web

from bankconnect_async.sandbox.banks import SandboxBank, all_banks, find_bank
from bankconnect_async.sandbox.fake_data.ledgers import Span, fake_account
from bankconnect_async.sandbox.http.endpoints import (
    SESSION_ERRORS,
    SUCCESS,
    ErrorFormat,
    JsonHandler,
    is_unpaid,
    read_parameters,
)
from bankconnect_async.sandbox.http.errors import (
    ApiError,
    BadValueError,
    JsonObject,
    coded_error,
    render_coded,
)
from bankconnect_async.sandbox.journey.journey import Journey
from bankconnect_async.sandbox.messages import read_message
from bankconnect_async.sandbox.session_api.dialects import rules_for
from bankconnect_async.sandbox.session_api.field_rules import as_date

from .consents import Consents, consent_bank
from .endpoints import DataApi, make_routes, webhook_update
from .session_responses import (
    PROCESSED_RESPONSES,
    Responder,
    SessionQuery,
    progress,
    session_pdfs,
    upload_response,
    upload_status,
)
from .statements import UploadedStatement, new_id
from .uploads import (
    BadStatementError,
    StatementForm,
    is_url,
    read_statement,
    unknown_bank_text,
)


_CATEGORIES: Final = {"SAVINGS", "CURRENT", "OVERDRAFT"}
_UPLOAD_TYPES: Final = {"PDF", "BASE64"}


def _upload_error(
    code: str,
    form: JsonObject | None = None,
    statement_id: str = "",
    *,
    case: str | None = None,
) -> ApiError:
    row = read_message("session_upload", case or code)
    if form is None:
        form = {}
    elif row["has_statement"]:
        statement_id = statement_id or new_id()
    message = row["text"].format(
        upload_type=form.get("upload_type") or "",
        bank=str(form.get("bank_name")).lower(),
    )
    return ApiError(
        HTTPStatus(int(row["status"])),
        body={
            "session_id": str(form.get("session_id") or ""),
            "statement_id": statement_id,
            "error": {"code": code, "message": message},
        },
    )


_UPLOAD_ERRORS: Final = ErrorFormat(
    lambda: _upload_error("INVALID_API_KEY"), render_coded
)


@attrs.frozen(kw_only=True)
class SessionDataApi(DataApi):
    """
    Handlers of the session flow.

    Attributes:
        consents: The consents of recurring journeys.
    """

    consents: Consents

    def routes(self) -> list[web.RouteDef]:
        """
        Return the endpoints.
        """
        key = functools.partial(self.guard.require_key, SESSION_ERRORS)
        both = functools.partial(
            self.guard.require_key_and_hash, SESSION_ERRORS
        )
        # Blank ids match, because the API has an error of its own for them.
        session = "session_data/{session_id:[^/]*}"
        consents = "account_aggregator/get_recurring_consent_details/"
        update = webhook_update(self.journeys.webhooks.update_session)
        responses = {
            "session_upload_status": self._responding(upload_status),
            "progress": self._responding(progress, after="request"),
            "get_pdfs": self._responding(session_pdfs),
        }
        for name, responder in PROCESSED_RESPONSES.items():
            responses[name] = self._responding(responder, after="processing")
        return make_routes(
            {
                "POST session_data/update_webhook/": both(update),
                "POST statement/upload_session/": self.guard.require_key(
                    _UPLOAD_ERRORS, self._upload
                ),
                f"POST {session}/initiate_processing/": both(
                    self._initiate, HTTPStatus.ACCEPTED
                ),
                f"DELETE {session}/delete/": both(self._delete),
                **{
                    f"GET {session}/{name}/": both(handler)
                    for name, handler in responses.items()
                },
                # The vendor's collection has no trailing slash.
                "GET banks/catalogue/": both(self._catalogue),
                "GET banks/catalogue": both(self._catalogue),
                f"POST {consents}": key(self._consents),
                "POST account_aggregator/fetch_recurring_aa_data/": key(
                    self._fetch
                ),
            }
        )

    async def _delete(self, request: web.Request) -> JsonObject:
        journey = self._journey(request)
        self.journeys.delete(journey.session.session_id)
        return dict(SUCCESS)

    async def _initiate(self, request: web.Request) -> JsonObject:
        journey = self._journey(request)
        if journey.processing is not None:
            raise coded_error("session_data", "DUPLICATE_PROCESSING_REQUEST")
        if not journey.statements:
            raise coded_error("session_data", "UNPARSABLE_STATEMENTS")
        self.journeys.start_processing(journey)
        return {"session_id": journey.session.session_id, **SUCCESS}

    def _responding(
        self, responder: Responder, after: str = ""
    ) -> JsonHandler:
        async def respond(request: web.Request) -> JsonObject:
            journey = self._journey(request)
            query = SessionQuery(
                journey=journey,
                now=self.journeys.now(),
                url_of=self.url_maker(journey.session.session_id),
            )
            if after and not query.status:
                raise coded_error("session_data", "PROCESSING_NOT_REQUESTED")
            if after == "processing" == query.status:
                raise coded_error("session_data", "PROCESSING_NOT_COMPLETED")
            return responder(query)

        return respond

    def _journey(self, request: web.Request) -> Journey:
        session_id = request.match_info["session_id"]
        if not session_id.strip():
            raise coded_error("session_data", "KEY_REQUIRED")
        if self.journeys.is_deleted(session_id):
            raise ApiError(HTTPStatus.GONE)
        journey = self.journeys.get(session_id)
        if journey is None or journey.is_entity_flow:
            raise ApiError(HTTPStatus.NOT_FOUND)
        return journey

    async def _catalogue(self, _: web.Request) -> JsonObject:
        banks = list(map(_catalogue_entry, all_banks()))
        return {"count": len(banks), "banks": banks}

    async def _upload(self, request: web.Request) -> JsonObject:
        form = await _read_form(request)
        if is_unpaid(request):
            raise _upload_error("TRIAL_PERIOD_EXPIRED", form)
        journey = self._open_journey(form)
        bank = _named_bank(form)
        try:
            statement = self._store_statement(form, bank, journey)
        except BadStatementError as exc:
            raise _upload_error(exc.code, form, exc.statement_id) from None
        response = upload_response(
            journey,
            statement,
            is_long=request.query.get("identity") == "true",
        )
        if request.query.get("progress"):
            response["progress"] = [
                {
                    "statement_id": each.statement_id,
                    "status": "completed",
                    "message": None,
                    "source": each.source,
                }
                for each in journey.statements
            ]
        return response

    def _open_journey(self, form: JsonObject) -> Journey:
        session_id = str(form.get("session_id") or "")
        if self.journeys.is_deleted(session_id):
            raise _upload_error("SESSION_DELETED")
        journey = self.journeys.get(session_id)
        if journey is None:
            raise _upload_error("SESSION_NOT_FOUND")
        if journey.is_entity_flow:
            # This customer may not use the session flow (contract, U-11).
            raise ApiError(
                HTTPStatus.FORBIDDEN, body={"message": "Route not allowed"}
            )
        # A session takes no more uploads once processing has started.
        is_expired = journey.is_expired(self.journeys.now())
        if is_expired or journey.processing is not None:
            raise _upload_error("SESSION_EXPIRED", form)
        return journey

    def _store_statement(
        self, form: JsonObject, bank: SandboxBank | None, journey: Journey
    ) -> UploadedStatement:
        _check_form(form)
        statement, content = read_statement(
            StatementForm(fields=form, bank=bank),
            self.storage,
            owner=journey.session.link_id,
            requested=journey.requested_span,
            now=self.journeys.now(),
        )
        for each in journey.statements:
            if each.digest == statement.digest:
                raise BadStatementError(
                    "STATEMENT_DUPLICATE", each.statement_id
                )
        if not statement.span.overlaps(journey.requested_span):
            raise BadStatementError("OUT_OF_DATE_RANGE")
        self.journeys.add_to_session(journey, statement)
        self.storage.store_upload(
            journey.session.session_id, statement, content
        )
        return statement

    async def _consents(self, request: web.Request) -> JsonObject:
        # The documented path ends in a slash after the value (U-33).
        session_id = request.query.get("session_id", "").rstrip("/")
        journey = self._consent_journey(session_id)
        return {"consent_details": self.consents.listed(journey)}

    def _consent_journey(self, session_id: str) -> Journey:
        journey = self.journeys.get(session_id)
        if journey is None or journey.is_entity_flow:
            raise coded_error("consent", "INVALID_SESSION_ID")
        return journey

    async def _fetch(self, request: web.Request) -> JsonObject:
        body = await read_parameters(request)
        try:
            start = as_date(body.get("date_time_range_from"))
            end = as_date(body.get("date_time_range_to"))
        except BadValueError:
            raise coded_error("consent", "INVALID_DATE_RANGE") from None
        if start >= end:
            raise coded_error("consent", "INVALID_DATE_RANGE")
        session = self.consents.use(body.get("consent_id"), self.journeys)
        parameters = {
            name: value
            for name, value in session.parameters.items()
            if name in {"link_id", "bank_name", "bank"}
        }
        parameters |= {
            "from_date": start,
            "to_date": end,
            "accept_anything": True,
        }
        new = self.journeys.create(
            rules_for("session", "v1"), parameters, self.origin()
        )
        journey = self._consent_journey(new.session_id)
        statement = UploadedStatement(
            account=fake_account(new.link_id, consent_bank(session)),
            span=Span(start=start, end=end),
            source="aa",
            received_at=self.journeys.now(),
        )
        self.journeys.add_to_session(journey, statement)
        # No customer is there to ask for it; the caller waits for the result.
        self.journeys.start_processing(journey)
        return {"session_id": new.session_id}


async def _read_form(request: web.Request) -> JsonObject:
    if "json" not in request.content_type:
        with contextlib.suppress(ApiError):
            return await read_parameters(request)
    raise _upload_error("INVALID_FILE_OBJECT", case="NOT_A_FORM")


def _named_bank(form: JsonObject) -> SandboxBank | None:
    name = form.get("bank_name")
    if name is None:
        return None
    bank = find_bank(str(name))
    if bank is None:
        # The shape is not documented: S6, as in other uploads (U-11).
        raise ApiError(
            HTTPStatus.BAD_REQUEST,
            body={"bank_name": [unknown_bank_text()], "status": 0},
        )
    return bank


def _check_form(form: JsonObject) -> None:
    """
    Check the form without looking into the file.

    Raises:
        BadStatementError: With the first problem.
    """
    upload_type, file = form.get("upload_type"), form.get("file")
    if upload_type not in _UPLOAD_TYPES:
        raise BadStatementError("INVALID_REQUEST")
    if form.get("account_category") not in {None, *_CATEGORIES}:
        raise BadStatementError("INVALID_ACCOUNT_CATEGORY")
    if file is None:
        if form.get("file_url") is None:
            raise BadStatementError("MISSING_FILE_OBJECT")
        if not is_url(form["file_url"]):
            raise BadStatementError("INVALID_FILE_URL")
    elif isinstance(file, bytes) is (upload_type == "BASE64"):
        raise BadStatementError("INVALID_FILE_OBJECT")


def _catalogue_entry(bank: SandboxBank) -> JsonObject:
    return {
        "name": bank.identifier,
        "full_name": bank.name,
        "npci_code": bank.npci_code,
        "logo_url": f"https://cdn.example/{bank.identifier.lower()}.png",
        "is_pdf_upload_available": "pdf" in bank.modes,
        "is_net_banking_available": "online" in bank.modes,
        "is_aa_available": bank.has_aa,
    }
