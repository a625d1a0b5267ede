"""
Webhook bodies of both flows and all versions to webhooks.

Webhooks are not signed: each is a hint to ask the server. The rules are those
of the contract's page on webhooks.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from bankconnect_async._tracebacks import hide_frames
from bankconnect_async.errors import DecodeError, InvalidRequestError
from bankconnect_async.models._fields import (
    is_present,
    load,
    structure,
    wire_keys,
)
from bankconnect_async.models.webhooks import (
    EnrichmentWebhook,
    ExpiryWebhook,
    ExtractionWebhook,
    UnknownWebhook,
    UploadWebhook,
    Webhook,
    WebhookName,
)

from .session_requests import read_url


_FAMILY: Final[Mapping[str, type[Webhook]]] = {
    WebhookName.UPLOADED: UploadWebhook,
    WebhookName.UPLOADED_2024: UploadWebhook,
    WebhookName.EXPIRED: ExpiryWebhook,
    WebhookName.ENRICHED: EnrichmentWebhook,
}
(_EVENT_NAME,) = wire_keys(UnknownWebhook)["event_name"]
(_PROGRESS,) = wire_keys(ExtractionWebhook)["progress"]
#: The keys of which a webhook has one, and a browser message none.
WEBHOOK_KEYS: Final = (_EVENT_NAME, _PROGRESS)


@hide_frames
def decode_webhook(raw: bytes | str | Mapping[str, Any]) -> Webhook:
    """
    Decode the body of a webhook.

    A missing key, `null` and a blank text all become `None`, and so does a
    date that cannot be read. The object as received stays in `raw`.

    Args:
        raw: The body; or one entry of `payloads`, for recovered webhooks of
            the entity flow.

    Raises:
        DecodeError: If it is not a JSON object with `event_name` or
            `progress`, or a documented field has a wrong type.
    """
    document = load(raw)
    problems: list[str] = []
    webhook = structure(
        _class(document), document, "$", problems, raw=document
    )
    if not any(is_present(document.get(key)) for key in WEBHOOK_KEYS):
        problems.append(f"neither {_EVENT_NAME} nor {_PROGRESS} @ $")
    if problems:
        raise DecodeError(problems=problems)
    return webhook


def _class(document: Mapping[str, Any]) -> type[Webhook]:
    match document.get(_EVENT_NAME):
        case name if not is_present(name):
            return ExtractionWebhook
        case str(name):
            return _FAMILY.get(name, UnknownWebhook)
        case _:
            return UnknownWebhook


def encode_webhook_update(url: str, mode: int | Sequence[str]) -> bytes:
    """
    Encode the body of `POST …/update_webhook/`.

    The mode is always sent: the entity flow resets it with every update that
    leaves it out.

    Args:
        url: The URL of the webhook endpoint.
        mode: A number, or event names where the session flow accepts them.

    Raises:
        InvalidRequestError: If either cannot be sent.
    """
    fields: dict[str, tuple[str, ...]] = {}
    parts = read_url(url)
    if (
        parts is None
        or parts.scheme not in {"http", "https"}
        or not parts.host
    ):
        fields["url"] = ("must be an absolute http or https URL",)
    if isinstance(mode, str) or not (
        type(mode) is int
        or (
            isinstance(mode, Sequence)
            and all(isinstance(name, str) for name in mode)
        )
    ):
        fields["mode"] = ("must be a number or a list of event names",)
    if fields:
        raise InvalidRequestError(fields=fields)
    modes = mode if isinstance(mode, int) else list(mode)
    return orjson.dumps({"webhook_url": url, "webhook_mode": modes})
