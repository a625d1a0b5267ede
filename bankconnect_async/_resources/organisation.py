"""
Operations of the organisation, beyond one entity or session.

Each function implements the method of `AsyncBankConnect` of its name.
"""

import datetime
import functools

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from bankconnect_async import models
from bankconnect_async._codec import responses, webhooks
from bankconnect_async._codec.session_requests import CONTENT_TYPES, date_text
from bankconnect_async._http.bodies import BytesBody
from bankconnect_async.config import hide
from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.models.webhooks import ExtractionWebhook
from bankconnect_async.retry import RetryPolicy

from .base import ApiClient, check_text, text_problem
from .sessions import SessionHandle


# The path of each flow of the vendor.
_FLOWS: Final = {"entity": "entity", "session": "session_data"}


async def banks(api: ApiClient) -> models.Rows[models.Bank]:
    """
    List the banks.
    """
    found = await api.request(
        "GET banks_catalogue",
        api.endpoint("banks/catalogue"),
        functools.partial(responses.decode, models.BankCatalogue),
    )
    return found.banks


async def net_banking_health(api: ApiClient) -> models.Rows[models.BankHealth]:
    """
    List where net banking works.
    """
    return await api.request(
        "GET net_banking_health",
        api.endpoint("net_banking_health"),
        functools.partial(responses.decode_rows, models.BankHealth),
        with_hash=False,
    )


async def create_entity(
    api: ApiClient,
    link_id: str | None,
    *,
    is_single_account: bool,
    meta_data: str | Mapping[str, Any] | None,
    retry: RetryPolicy | None,
) -> models.Entity:
    """Create an entity."""
    fields = encode_entity(
        link_id, is_single_account=is_single_account, meta_data=meta_data
    )
    return await api.request(
        "POST entity",
        api.endpoint("entity"),
        functools.partial(responses.decode, models.Entity),
        method="POST",
        body=BytesBody(
            urlencode(fields).encode(), content_type=CONTENT_TYPES["form"]
        ),
        with_hash=False,
        idempotent=False,
        retry=retry,
    )


def encode_entity(
    link_id: str | None,
    *,
    is_single_account: bool,
    meta_data: str | Mapping[str, Any] | None,
) -> dict[str, str]:
    """
    Return the form fields of ``POST entity/``.

    Raises:
        InvalidRequestError: If one cannot be sent.
    """
    if link_id is not None:
        check_text("link_id", link_id)
    fields = {"is_single_account": "true" if is_single_account else "false"}
    if link_id is not None:
        fields["link_id"] = link_id
    if isinstance(meta_data, str):
        fields["meta_data"] = meta_data
    elif meta_data is not None:
        try:
            fields["meta_data"] = orjson.dumps(meta_data).decode()
        except TypeError as exc:
            raise InvalidRequestError(
                fields={"meta_data": (f"cannot be written as JSON: {exc}",)}
            ) from exc
    return fields


async def fetch_recurring_aa_data(
    api: ApiClient,
    consent_id: str,
    *,
    from_date: datetime.date,
    to_date: datetime.date,
    retry: RetryPolicy | None,
) -> SessionHandle:
    """
    Fetch data under a consent.
    """
    content = encode_recurring_fetch(
        consent_id, from_date=from_date, to_date=to_date
    )
    made = await api.request(
        "POST fetch_recurring_aa_data",
        api.endpoint("account_aggregator/fetch_recurring_aa_data"),
        functools.partial(responses.decode, models.NewSession),
        method="POST",
        body=BytesBody(content, content_type=CONTENT_TYPES["json"]),
        idempotent=False,
        retry=retry,
    )
    return SessionHandle(api, made.session_id)


def encode_recurring_fetch(
    consent_id: str, *, from_date: datetime.date, to_date: datetime.date
) -> bytes:
    """
    Encode the body of ``POST account_aggregator/fetch_recurring_aa_data/``.

    Raises:
        InvalidRequestError: If it cannot be sent, with every problem.
    """
    fields: dict[str, tuple[str, ...]] = {}
    if problem := text_problem(consent_id):
        fields["consent_id"] = (problem,)
    for name, day in (("from_date", from_date), ("to_date", to_date)):
        if type(day) is not datetime.date:
            fields[name] = ("must be a datetime.date",)
    if not fields and from_date > to_date:
        fields["from_date"] = ("must not be after to_date",)
    if fields:
        raise InvalidRequestError(fields=fields)
    return orjson.dumps(
        {
            "consent_id": consent_id,
            "date_time_range_from": date_text(from_date),
            "date_time_range_to": date_text(to_date),
        }
    )


async def update_webhook(
    api: ApiClient, url: str, *, flow: str, mode: int | Sequence[str]
) -> None:
    """
    Set the webhook endpoint.
    """
    if flow not in _FLOWS:
        raise InvalidRequestError(
            fields={"flow": ("must be entity or session",)}
        )
    # Its path may be all that proves a webhook to be the vendor's.
    url = hide(url)
    body = BytesBody(
        webhooks.encode_webhook_update(url, mode),
        content_type=CONTENT_TYPES["json"],
    )
    await api.request(
        "POST update_webhook",
        api.endpoint(f"{_FLOWS[flow]}/update_webhook"),
        lambda _, **__: None,
        method="POST",
        body=body,
        secrets=[hide(url.partition("://")[2].partition("/")[2])],
    )


async def webhook_payloads(
    api: ApiClient, link_id: str
) -> models.Rows[ExtractionWebhook]:
    """
    Recover missed webhooks.
    """
    found = await api.request(
        "GET webhook_payloads",
        api.endpoint(
            "entity/webhook_payloads",
            query={"link_id": check_text("link_id", link_id)},
        ),
        functools.partial(responses.decode, models.MissedWebhooks),
    )
    return found.payloads
