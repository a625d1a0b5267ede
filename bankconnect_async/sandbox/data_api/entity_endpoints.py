"""
Endpoints of the entity flow.
"""

import functools

from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

import attrs

from aiohttp import web

from bankconnect_async.sandbox.banks import SandboxBank, all_banks, find_bank
from bankconnect_async.sandbox.fake_data.ledgers import Span
from bankconnect_async.sandbox.http.bodies import parse_body
from bankconnect_async.sandbox.http.endpoints import (
    ENTITY_ERRORS,
    PREFIX,
    SUCCESS,
    Authenticator,
    ErrorFormat,
    is_unpaid,
    read_request,
)
from bankconnect_async.sandbox.http.errors import (
    ApiError,
    JsonObject,
    Problem,
    render_plain,
)
from bankconnect_async.sandbox.http.storage import Storage
from bankconnect_async.sandbox.journey.session_table import SessionTable
from bankconnect_async.sandbox.records import SandboxEntity
from bankconnect_async.sandbox.session_api.combined_rules import (
    six_months_before,
)
from bankconnect_async.sandbox.session_api.field_rules import (
    Rule,
    as_boolean,
    as_text,
    parse_fields,
)

from .entity_responses import (
    BY_ACCOUNT,
    CURRENT_ANSWERS,
    SEED_ANSWERS,
    Answerer,
    EntityQuery,
    identity,
    stored_pdfs,
    utc,
)
from .entity_table import EntityState
from .statements import UploadedStatement
from .upload_forms import WRONG_FILE, Content, material_of
from .uploads import BadStatementError, is_url, judge_statement


_PAGE: Final = 10
_NEEDED: Final = "This field is required."
_FORM_NEEDED: Final = (
    "This field must be present as a form field. Send request with content "
    "type x-www-form-urlencoded or form-data"
)
_ENTITY_RULES: Final[Mapping[str, Rule]] = {
    "link_id": as_text(max_length=500),
    "is_single_account": as_boolean,
    "meta_data": as_text(),
}
# What a statement was not taken for: number and text (contract, section 5).
_BAD_STATEMENTS: Final[Mapping[str, tuple[int, str]]] = {
    "PASSWORD_INCORRECT": (3, "Password incorrect"),
    "BANK_NAME_MISMATCH": (4, "Not {bank} statement"),
    "BANK_NAME_UNDETECTED": (
        5,
        "Unable to detect bank. Please provide BANK NAME.",
    ),
    "INVALID_FILE_OBJECT": (6, "PDF is not parsable"),
    "PDF_IS_IMAGE": (6, "PDF is not parsable"),
    "STATEMENT_UNSUPPORTED_FORMAT": (
        7,
        "Unsupported Bank Statement Format. It should have balance, date and "
        "amount columns.",
    ),
}
# What is wrong with a field rather than with the statement in it.
_BAD_FIELDS: Final[Mapping[str, tuple[str, str]]] = {
    "EMPTY_FILE": ("file", "The submitted file is empty."),
    "INVALID_BASE_64": ("file", "Invalid Base 64 string"),
    "INVALID_FILE_URL": ("file_url", "The file could not be downloaded."),
}


@attrs.frozen(kw_only=True)
class EntityApi:
    """
    Handlers of the entity flow.

    Attributes:
        guard: Lets callers in.
        journeys: What there is.
        storage: Where files are.
        origin: Where the API is found.
    """

    guard: Authenticator
    journeys: SessionTable
    storage: Storage
    origin: Callable[[], str]

    def routes(self) -> list[web.RouteDef]:
        """
        List the endpoints that the dialect has.
        """
        entity = f"{PREFIX}/v1/entity"
        one = f"{entity}/{{entity_id}}"
        numbered = not self._is_seed
        uploads = ErrorFormat(
            ENTITY_ERRORS.unauthorized,
            functools.partial(render_plain, numbered=numbered),
        )
        asked = functools.partial(
            self.guard.require_key_and_hash, ENTITY_ERRORS
        )
        answers = SEED_ANSWERS if self._is_seed else CURRENT_ANSWERS
        return [
            web.post(
                f"{entity}/",
                self.guard.require_key(
                    ENTITY_ERRORS, self._create, HTTPStatus.CREATED
                ),
            ),
            web.get(f"{entity}/", asked(self._list)),
            web.get(f"{entity}/webhook_payloads/", asked(self._payloads)),
            web.post(f"{entity}/update_webhook/", asked(self._update)),
            web.get(f"{one}/", asked(self._entity)),
            *(
                web.post(
                    f"{PREFIX}/v1/statement/{path}/",
                    self.guard.require_key(
                        uploads,
                        functools.partial(self._upload, kind),
                    ),
                )
                for path, kind in _UPLOADS.items()
            ),
            *(
                web.get(
                    f"{one}/{name}/",
                    asked(
                        functools.partial(self._about, answer)
                        if name in BY_ACCOUNT and not self._is_seed
                        else functools.partial(self._about_all, answer)
                    ),
                )
                for name, answer in answers.items()
            ),
            *([] if self._is_seed else self._later_routes(one)),
        ]

    def _later_routes(self, one: str) -> list[web.RouteDef]:
        return [
            web.get(
                f"{one}/get_pdfs/",
                self.guard.require_key_and_hash(ENTITY_ERRORS, self._pdfs),
            ),
            web.get(
                f"{PREFIX}/v1/net_banking_health/",
                self.guard.require_key(ENTITY_ERRORS, self._health),
            ),
        ]

    @property
    def _is_seed(self) -> bool:
        return self.guard.dialect == "seed"

    async def _create(self, request: web.Request) -> JsonObject:
        body = await _form(request, "link_id")
        values = parse_fields(body, _ENTITY_RULES, required="")
        return _shown(
            self.journeys.entities.add(**{"link_id": None, **values})
        )

    async def _list(self, request: web.Request) -> JsonObject:
        link_id = request.query.get("link_id") or None
        number = _page_number(request.query.get("page", "1"))
        count, found = self.journeys.entities.page(
            link_id, (number - 1) * _PAGE, _PAGE
        )
        if not found and number > 1:
            raise ApiError(
                HTTPStatus.NOT_FOUND, body={"detail": "Invalid page."}
            )

        def page(other: int) -> str:
            query = {"page": other} | ({"link_id": link_id} if link_id else {})
            return f"{self.origin()}{PREFIX}/v1/entity/?{urlencode(query)}"

        return {
            "count": count,
            "next": page(number + 1) if count > number * _PAGE else None,
            "previous": page(number - 1) if number > 1 else None,
            "results": [_shown(record) for record in found],
        }

    async def _entity(self, request: web.Request) -> JsonObject:
        return _shown(self._file(request).record)

    async def _payloads(self, request: web.Request) -> JsonObject:
        link_id = request.query.get("link_id")
        if link_id is None:
            problem = Problem("link_id", _NEEDED)
            raise ApiError(HTTPStatus.BAD_REQUEST, problems=[problem])
        return {"payloads": self.journeys.webhooks.payloads(link_id)}

    async def _update(self, request: web.Request) -> JsonObject:
        body = parse_body(await read_request(request))
        self.journeys.webhooks.update_entity(body)
        return dict(SUCCESS)

    async def _about(
        self, answer: Answerer, request: web.Request
    ) -> JsonObject:
        return answer(
            self._question(request, request.query.get("account_id") or None)
        )

    async def _about_all(
        self, answer: Answerer, request: web.Request
    ) -> JsonObject:
        return answer(self._question(request, None))

    def _question(
        self, request: web.Request, account_id: str | None
    ) -> EntityQuery:
        return EntityQuery(
            file=self._file(request),
            now=self.journeys.now(),
            is_seed=self._is_seed,
            account_id=account_id,
            link=self.storage.presigned_url,
        )

    async def _pdfs(self, request: web.Request) -> JsonObject:
        file = self._file(request)
        return {
            "statements": stored_pdfs(
                [statement for statement, _ in file.statements],
                file.record.entity_id,
                self.journeys.now(),
                self.storage.presigned_url,
            )
        }

    async def _health(self, _: web.Request) -> list[JsonObject]:
        now = self.journeys.now()
        return [
            _bank_health(bank, f"{utc(now):%Y-%m-%d %H:%M:%S}")
            for bank in all_banks()
            if "online" in bank.modes
        ]

    def _file(self, request: web.Request) -> EntityState:
        file = self.journeys.entities.get(request.match_info["entity_id"])
        if file is None:
            raise ApiError(HTTPStatus.NOT_FOUND)
        self.journeys.notify_statements(file)
        return file

    async def _upload(self, kind: "_Kind", request: web.Request) -> JsonObject:
        if is_unpaid(request):
            raise ApiError(HTTPStatus.PAYMENT_REQUIRED)
        body = await _form(request, "file")
        form = _UploadForm(body=body, kind=kind)
        problems = list(form.problems(is_seed=self._is_seed))
        if problems:
            raise ApiError(HTTPStatus.BAD_REQUEST, problems=problems)
        file = self._upload_file(body)
        try:
            statement, content = self._judge(form, file)
        except BadStatementError as exc:
            raise self._bad(exc.code, form, file) from None
        self.journeys.add_to_entity(file, statement)
        self.storage.store_upload(file.record.entity_id, statement, content)
        return self._uploaded(request, file, statement)

    def _upload_file(self, body: JsonObject) -> EntityState:
        entities = self.journeys.entities
        entity_id, link_id = body.get("entity_id"), body.get("link_id") or None
        if entity_id is not None:
            file = entities.get(entity_id)
            if file is None:
                raise ApiError(HTTPStatus.NOT_FOUND)
            return file
        record = entities.latest(link_id) if link_id else None
        record = record or entities.add(link_id)
        file = entities.get(record.entity_id)
        assert file is not None  # noqa: S101 - it is there now
        return file

    def _judge(
        self, form: "_UploadForm", file: EntityState
    ) -> tuple[UploadedStatement, Content]:
        now = self.journeys.now()
        today = now.date()
        material, content = material_of(
            form.body,
            self.storage,
            bank=form.bank,
            is_base64=form.kind.is_base64,
        )
        statement = judge_statement(
            material,
            owner=file.owner,
            asked=Span(start=six_months_before(today), end=today),
            now=now,
        )
        if file.refuses(statement.account):
            problem = Problem("file", "Statement is of another account.")
            raise ApiError(HTTPStatus.BAD_REQUEST, problems=[problem])
        return statement, content

    def _bad(
        self, code: str, form: "_UploadForm", file: EntityState
    ) -> ApiError:
        if code in _BAD_FIELDS:
            field, text = _BAD_FIELDS[code]
            return ApiError(
                HTTPStatus.BAD_REQUEST, problems=[Problem(field, text)]
            )
        number, text = _BAD_STATEMENTS[code]
        bank = form.body.get("bank_name") or ""
        body: JsonObject = {
            "entity_id": file.record.entity_id,
            "message": text.format(bank=bank.lower()),
        }
        if not self._is_seed:
            body["status"] = number
        return ApiError(HTTPStatus.BAD_REQUEST, body=body)

    def _uploaded(
        self,
        request: web.Request,
        file: EntityState,
        statement: UploadedStatement,
    ) -> JsonObject:
        account, span = statement.account, statement.span
        answer: JsonObject = {
            "entity_id": file.record.entity_id,
            "statement_id": statement.statement_id,
            "bank_name": account.bank,
        }
        if request.query.get("identity") != "true":
            return answer
        is_known = statement.has_details
        answer |= {
            "identity": identity(account, is_seed=self._is_seed)
            if is_known
            else None,
            "date_range": {
                "from_date": span.start.isoformat() if is_known else None,
                "to_date": span.end.isoformat() if is_known else None,
            },
            "is_fraud": statement.fraud_type is not None,
            "fraud_type": statement.fraud_type,
        }
        return answer if self._is_seed else {**answer, "status": 1}


@attrs.frozen(kw_only=True)
class _Kind:
    """
    One of the four uploads.

    Attributes:
        is_base64: The file is a text.
        is_bankless: The bank is to be detected.
    """

    is_base64: bool = False
    is_bankless: bool = False


_UPLOADS: Final[Mapping[str, _Kind]] = {
    "upload": _Kind(),
    "bankless_upload": _Kind(is_bankless=True),
    "upload_base64": _Kind(is_base64=True),
    "bankless_upload_base64": _Kind(is_base64=True, is_bankless=True),
}


@attrs.frozen(kw_only=True)
class _UploadForm:
    """
    A filled form.

    Attributes:
        body: The fields.
        kind: Of which upload.
    """

    body: JsonObject
    kind: _Kind

    def problems(self, *, is_seed: bool) -> list[Problem]:
        """
        Return what is wrong with the fields.
        """
        body = self.body
        problems = list(self._file_problems(body))
        if not self.kind.is_bankless:
            problems += _bank_problems(body.get("bank_name"))
        # Required since 2020, though `entity_id` wins (contract, U-19).
        if not (is_seed or body.get("link_id") or body.get("entity_id")):
            problems.append(Problem("link_id", _NEEDED))
        return problems

    def _file_problems(self, body: JsonObject) -> Iterator[Problem]:
        file, url = body.get("file"), body.get("file_url")
        if file is not None:
            if isinstance(file, bytes) is self.kind.is_base64:
                yield Problem("file", WRONG_FILE[self.kind.is_base64])
        elif self.kind.is_base64 or url is None:
            yield Problem("file", _NEEDED)
        elif not is_url(url):
            yield Problem("file_url", "Enter a valid URL.")

    @property
    def bank(self) -> SandboxBank | None:
        """The bank that was named."""
        if self.kind.is_bankless:
            return None
        return find_bank(self.body["bank_name"])


def _bank_problems(value: Any) -> list[Problem]:
    if value is None:
        return [Problem("bank_name", _NEEDED)]
    if not isinstance(value, str) or find_bank(value) is None:
        known = ", ".join(bank.identifier.lower() for bank in all_banks())
        text = f"Please use following bank strings: [{known}]"
        return [Problem("bank_name", text)]
    return []


async def _form(request: web.Request, field: str) -> JsonObject:
    call = await read_request(request)
    if "json" in call.content_type:
        problem = Problem(field, _FORM_NEEDED)
        raise ApiError(HTTPStatus.BAD_REQUEST, problems=[problem])
    return parse_body(call)


def _page_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:9])):
        raise ApiError(HTTPStatus.NOT_FOUND, body={"detail": "Invalid page."})
    return int(text[:9])


def _shown(record: SandboxEntity) -> JsonObject:
    return {
        "entity_id": record.entity_id,
        "link_id": record.link_id,
        "meta_data": record.meta_data,
    }


def _bank_health(bank: SandboxBank, updated_at: str) -> JsonObject:
    # One bank that is down, so that clients see what that looks like.
    is_up = bank.identifier != _DOWN
    return {
        "bank": bank.identifier,
        "updated_at": updated_at,
        "health_up": is_up,
        "issue_details": None if is_up else "Captcha failures seen",
    }


_DOWN: Final = "HDFC"
