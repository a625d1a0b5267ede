"""
Keys of events and webhooks: one for each outcome, however often it is told.

The vendor sends no event id, so a key is a digest of the facts.
"""

import hashlib

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import attrs
import orjson

from bankconnect_async.models.events import (
    ErrorEvent,
    Event,
    ExitEvent,
    InfoEvent,
    SuccessEvent,
    UnknownEvent,
)
from bankconnect_async.models.webhooks import (
    EnrichmentWebhook,
    ExpiryWebhook,
    ExtractionWebhook,
    UploadWebhook,
    Webhook,
)


_FAILED: Final = "failed"
_LENGTH: Final = 40


def event_key(
    event: Event | Webhook, api_id: str = "", *, session_id: str | None = None
) -> str:
    """
    Return a key that is equal for every report of one outcome.

    A webhook that is sent again has the key of the first, and one that was
    missed has the key of what the server says later: texts and accounts make
    no difference. In the session flow the key stands for the session, the
    kind and the result; in the entity flow for the statement, the progress
    and its reason. A webhook of another kind has a key for its whole body.
    The key holds nothing that can be read.

    Args:
        event: The event or webhook.
        api_id: The API and the account, such as
            `AsyncBankConnect.store_api_id`.
        session_id: The session of an event that names none.
    """
    return digest([api_id, type(event).__name__, *_facts(event, session_id)])


def _facts(event: Event | Webhook, session_id: str | None) -> list[Any]:
    match event:
        case ExtractionWebhook():
            return [
                event.entity_id,
                event.statement_id,
                event.link_id,
                event.progress,
                event.reason,
            ]
        case UploadWebhook(session_id=str()) | ExpiryWebhook(session_id=str()):
            return [event.session_id]
        case EnrichmentWebhook(session_id=str()):
            return [event.session_id, enrichment_result(event)]
        case SuccessEvent():
            # The session flow has sent its id under either name.
            id_ = event.entity_id or event.session_id or session_id
            return [event.link_id, id_]
        case ExitEvent():
            told: list[Any] = [event.reason]
        case ErrorEvent():
            told = [event.error_type, event.reason]
        case InfoEvent():
            told = [event.event_name, event.message]
        case UnknownEvent():
            told = [event.status, event.raw]
        case _:
            return [event.raw or attrs.asdict(event, filter=_is_fact)]
    return [event.link_id, session_id, *told]


def _is_fact(attribute: "attrs.Attribute[Any]", _: object) -> bool:
    return bool(attribute.eq)


def enrichment_result(webhook: EnrichmentWebhook) -> str:
    """
    Return what came of processing: `completed` or `failed`.
    """
    return _FAILED if webhook.is_failed else "completed"


def digest(facts: Any) -> str:
    """
    Return a digest of *facts*, whatever JSON values they are.
    """
    parts: Iterable[bytes]
    try:
        parts = [orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)]
    # Nested deeply, or with values that JSON allows and orjson does not.
    except TypeError:
        parts = _tokens(facts)
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part)
    return hashed.hexdigest()[:_LENGTH]


def _tokens(facts: object) -> Iterator[bytes]:
    # Not recursive, because the sender decides how deep it goes.
    todo = [facts]
    while todo:
        value = todo.pop()
        if isinstance(value, Mapping):
            yield b"{%d" % len(value)
            for key in sorted(value, key=str):
                todo += (value[key], key)
        elif isinstance(value, list | tuple):
            yield b"[%d" % len(value)
            todo += value
        else:
            # A decimal text of a huge number is refused by Python.
            text = hex(value) if isinstance(value, int) else str(value)
            content = text.encode(errors="surrogatepass")
            kind = type(value).__name__.encode()
            yield b"%b %d %b" % (kind, len(content), content)
