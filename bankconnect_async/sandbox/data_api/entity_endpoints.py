"""
The endpoints of the entity flow.
"""

import functools
import uuid

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from bankconnect_async.sandbox.banks import all_banks, find_bank
from bankconnect_async.sandbox.fake_data.ledgers import Span
from bankconnect_async.sandbox.http.endpoints import (
    ENTITY_ERRORS,
    PREFIX,
    ErrorFormat,
    is_unpaid,
    read_parameters,
)
from bankconnect_async.sandbox.http.errors import (
    ApiError,
    JsonObject,
    Problem,
    render_plain,
)
from bankconnect_async.sandbox.messages import read_message
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

from . import fields
from .endpoints import DataApi, make_routes, webhook_update
from .entity_responses import (
    BY_ACCOUNT,
    CURRENT_RESPONSES,
    SEED_RESPONSES,
    EntityQuery,
    Responder,
    identity,
)
from .entity_table import EntityState
from .statements import UploadedStatement
from .uploads import (
    BadStatementError,
    StatementForm,
    is_url,
    read_statement,
    unknown_bank_text,
)


_PAGE_SIZE: Final = 10
_REQUIRED: Final = "This field is required."
_ENTITY_RULES: Final[Mapping[str, Rule]] = {
    "link_id": as_text(max_length=500),
    "is_single_account": as_boolean,
    "meta_data": as_text(),
}
_UPLOADS: Final = (
    "upload",
    "bankless_upload",
    "upload_base64",
    "bankless_upload_base64",
)
# One bank is down, so that clients see what that looks like.
_BANK_DOWN: Final = "HDFC"


class EntityApi(DataApi):
    """
    Handlers of the entity flow.
    """

    def routes(self) -> list[web.RouteDef]:
        """
        Return the endpoints that the dialect has.
        """
        key = functools.partial(self.guard.require_key, ENTITY_ERRORS)
        both = functools.partial(
            self.guard.require_key_and_hash, ENTITY_ERRORS
        )
        upload_errors = ErrorFormat(
            ENTITY_ERRORS.unauthorized,
            functools.partial(render_plain, numbered=not self._is_seed),
        )
        update = webhook_update(self.journeys.webhooks.update_entity)
        handlers = {
            "POST entity/": key(self._create, HTTPStatus.CREATED),
            "GET entity/": both(self._list),
            "GET entity/webhook_payloads/": both(self._payloads),
            "POST entity/update_webhook/": both(update),
            "GET entity/{entity_id}/": both(self._show),
        }
        for kind in _UPLOADS:
            upload = functools.partial(self._upload, kind)
            handlers[f"POST statement/{kind}/"] = self.guard.require_key(
                upload_errors, upload
            )
        for name in self._responders:
            respond = functools.partial(self._respond, name)
            handlers[f"GET entity/{{entity_id}}/{name}/"] = both(respond)
        if not self._is_seed:
            handlers["GET net_banking_health/"] = key(self._health)
        return make_routes(handlers)

    @property
    def _is_seed(self) -> bool:
        return self.guard.dialect == "seed"

    @property
    def _responders(self) -> Mapping[str, Responder]:
        return SEED_RESPONSES if self._is_seed else CURRENT_RESPONSES

    async def _create(self, request: web.Request) -> JsonObject:
        body = await _read_form(request, "link_id")
        values = parse_fields(body, _ENTITY_RULES, required="")
        entity = self._add(**{"link_id": None, **values})
        return _render_entity(entity.record)

    def _add(self, **fields: Any) -> EntityState:
        record = SandboxEntity(entity_id=str(uuid.uuid4()), **fields)
        return self.journeys.entities.add(record)

    async def _list(self, request: web.Request) -> JsonObject:
        link_id = request.query.get("link_id") or None
        number = _page_number(request.query.get("page", "1"))
        records = [
            record
            for record in self.journeys.entities.records.values()
            if link_id in {None, record.link_id}
        ]
        first, end = (number - 1) * _PAGE_SIZE, number * _PAGE_SIZE
        if number > 1 and first >= len(records):
            raise _invalid_page()

        def page(other: int) -> str:
            query = {"page": other} | ({"link_id": link_id} if link_id else {})
            return f"{self.origin()}{PREFIX}/v1/entity/?{urlencode(query)}"

        return {
            "count": len(records),
            "next": page(number + 1) if end < len(records) else None,
            "previous": page(number - 1) if number > 1 else None,
            "results": list(map(_render_entity, records[first:end])),
        }

    async def _show(self, request: web.Request) -> JsonObject:
        return _render_entity(self._entity(request).record)

    async def _payloads(self, request: web.Request) -> JsonObject:
        link_id = request.query.get("link_id")
        if link_id is None:
            raise ApiError.of_field("link_id", _REQUIRED)
        return {"payloads": self.journeys.webhooks.payloads(link_id)}

    async def _respond(self, name: str, request: web.Request) -> JsonObject:
        is_by_account = name in BY_ACCOUNT and not self._is_seed
        account_id = request.query.get("account_id") or None
        entity = self._entity(request)
        query = EntityQuery(
            entity=entity,
            now=self.journeys.now(),
            is_seed=self._is_seed,
            account_id=account_id if is_by_account else None,
            url_of=self.url_maker(entity.record.entity_id),
        )
        return self._responders[name](query)

    async def _health(self, _: web.Request) -> list[JsonObject]:
        now = fields.utc_seconds(self.journeys.now())
        return [
            {
                "bank": bank.identifier,
                "updated_at": now,
                "health_up": bank.identifier != _BANK_DOWN,
                "issue_details": "Captcha failures seen"
                if bank.identifier == _BANK_DOWN
                else None,
            }
            for bank in all_banks()
            if "online" in bank.modes
        ]

    def _entity(self, request: web.Request) -> EntityState:
        entity = self.journeys.entities.get(request.match_info["entity_id"])
        if entity is None:
            raise ApiError(HTTPStatus.NOT_FOUND)
        self.journeys.notify_statements(entity)
        return entity

    async def _upload(self, kind: str, request: web.Request) -> JsonObject:
        if is_unpaid(request):
            raise ApiError(HTTPStatus.PAYMENT_REQUIRED)
        form = await _read_form(request, "file")
        problems = [
            *_file_problems(kind, form),
            *_bank_problems(kind, form),
        ]
        if problems:
            raise ApiError(HTTPStatus.BAD_REQUEST, problems=problems)
        entity = self._upload_entity(form)
        try:
            statement = self._store_statement(kind, form, entity)
        except BadStatementError as exc:
            raise self._statement_error(exc.code, form, entity) from None
        return self._render_upload(request, entity, statement)

    def _upload_entity(self, form: JsonObject) -> EntityState:
        entities = self.journeys.entities
        entity_id, link_id = form.get("entity_id"), form.get("link_id")
        if entity_id is None:
            entity = entities.latest(link_id) if link_id else None
            return entity or self._add(link_id=link_id or None)
        entity = entities.get(entity_id)
        if entity is None:
            raise ApiError(HTTPStatus.NOT_FOUND)
        return entity

    def _store_statement(
        self, kind: str, form: JsonObject, entity: EntityState
    ) -> UploadedStatement:
        now = self.journeys.now()
        today = now.date()
        statement, content = read_statement(
            StatementForm(
                fields=form,
                bank=None
                if kind.startswith("bankless")
                else find_bank(form["bank_name"]),
            ),
            self.storage,
            owner=entity.owner,
            requested=Span(start=six_months_before(today), end=today),
            now=now,
        )
        if not entity.accepts(statement.account):
            raise BadStatementError("OTHER_ACCOUNT")
        self.journeys.add_to_entity(entity, statement)
        self.storage.store_upload(entity.record.entity_id, statement, content)
        return statement

    def _statement_error(
        self, code: str, form: JsonObject, entity: EntityState
    ) -> ApiError:
        row = read_message("entity_upload", code)
        if row["field"]:
            return ApiError.of_field(row["field"], row["text"])
        bank = (form.get("bank_name") or "").lower()
        body: JsonObject = {
            "entity_id": entity.record.entity_id,
            "message": row["text"].format(bank=bank),
        }
        if not self._is_seed:
            body["status"] = int(row["number"])
        return ApiError(HTTPStatus.BAD_REQUEST, body=body)

    def _render_upload(
        self,
        request: web.Request,
        entity: EntityState,
        statement: UploadedStatement,
    ) -> JsonObject:
        body: JsonObject = {
            "entity_id": entity.record.entity_id,
            **fields.statement(statement, "statement_id bank_name"),
        }
        if request.query.get("identity") != "true":
            return body
        dates = fields.iso_range(statement.span)
        is_known = statement.has_details
        body |= {
            "identity": identity(statement.account, is_seed=self._is_seed)
            if is_known
            else None,
            "date_range": dates if is_known else dict.fromkeys(dates),
            **fields.statement(statement, "is_fraud fraud_type"),
        }
        return body if self._is_seed else {**body, "status": 1}


def _file_problems(kind: str, form: JsonObject) -> Iterator[Problem]:
    file, url = form.get("file"), form.get("file_url")
    is_base64 = kind.endswith("base64")
    if isinstance(file, bytes) and is_base64:
        yield Problem("file", "Not a valid string.")
    elif isinstance(file, str) and not is_base64:
        yield Problem("file", "The submitted data was not a file.")
    elif file is None and (is_base64 or url is None):
        yield Problem("file", _REQUIRED)
    elif file is None and not is_url(url):
        yield Problem("file_url", "Enter a valid URL.")


def _bank_problems(kind: str, form: JsonObject) -> Iterator[Problem]:
    name = form.get("bank_name")
    if kind.startswith("bankless"):
        return
    if name is None:
        yield Problem("bank_name", _REQUIRED)
    elif not isinstance(name, str) or find_bank(name) is None:
        yield Problem("bank_name", unknown_bank_text())


async def _read_form(request: web.Request, field: str) -> JsonObject:
    if "json" in request.content_type:
        raise ApiError.of_field(
            field,
            "This field must be present as a form field. Send request with "
            "content type x-www-form-urlencoded or form-data",
        )
    return await read_parameters(request)


def _page_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:9])):
        raise _invalid_page()
    return int(text[:9])


def _invalid_page() -> ApiError:
    return ApiError(HTTPStatus.NOT_FOUND, body={"detail": "Invalid page."})


def _render_entity(record: SandboxEntity) -> JsonObject:
    return {
        "entity_id": record.entity_id,
        "link_id": record.link_id,
        "meta_data": record.meta_data,
    }
