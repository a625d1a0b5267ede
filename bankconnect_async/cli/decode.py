"""
The command ``decode``.
"""

import datetime
import os
import sys

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import click
import orjson

from bankconnect_async._codec.browser_messages import Channel, decode_event
from bankconnect_async._codec.redirects import decode_redirect
from bankconnect_async._codec.return_urls import ReturnURL
from bankconnect_async._codec.webhooks import WEBHOOK_KEYS, decode_webhook
from bankconnect_async._printable import one_line
from bankconnect_async.config import read_environment, split_keys
from bankconnect_async.errors import InvalidCallbackError
from bankconnect_async.models._fields import load
from bankconnect_async.models.events import (
    ErrorEvent,
    ErrorType,
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
    UnknownWebhook,
    UploadWebhook,
    Webhook,
)

from .messages import VARIABLES, renamed_settings
from .options import json_option
from .output import write_json, write_output


_MAX_INPUT: Final = 2**20
_VARIABLES: Final = {
    "redirect_url": "BANKCONNECT_REDIRECT_URL",
    "signing_key": "BANKCONNECT_SIGNING_KEY",
}
_KINDS: Final[Mapping[type, str]] = {
    SuccessEvent: "success",
    ExitEvent: "exit",
    ErrorEvent: "error",
    InfoEvent: "info",
    UnknownEvent: "unknown event",
    ExtractionWebhook: "extraction ended",
    UploadWebhook: "uploads completed",
    ExpiryWebhook: "session expired",
    EnrichmentWebhook: "processing ended",
    UnknownWebhook: "unknown webhook",
}
# What a message itself cannot say, or says elsewhere in the output.
_LEFT_OUT: Final = frozenset({"raw", "key", "confirmed"})


@click.command()
@click.argument("text", metavar="TEXT", default="-")
@click.option(
    "--channel",
    type=click.Choice([channel.value for channel in Channel]),
    help="The callback of a WebView or of a client SDK that got the message, "
    "where the message itself does not name it.",
)
@click.option(
    "--show-secrets",
    is_flag=True,
    help="Print names, account numbers and file names, too.",
)
@json_option("Print a JSON object.")
def decode(
    *, text: str, channel: str | None, show_secrets: bool, as_json: bool
) -> None:
    """
    Decode a browser message, a return URL or the body of a webhook.

    TEXT is one of them, or - for stdin, which is the default and leaves
    nothing in the shell's history. The output names the dialect. It hides
    names, account numbers and file names, and never prints a signed state.

    With BANKCONNECT_REDIRECT_URL and BANKCONNECT_SIGNING_KEY, the signature
    of a return URL is checked.
    """
    if text == "-":
        text = _read_stdin()
    text = text.strip()
    if not text:
        raise click.UsageError("there is nothing to decode")
    facts = _decode(text, channel, show_secrets=show_secrets)
    if as_json:
        write_json(facts)
        return
    lines = "".join(
        f"{one_line(name):<20} {one_line(_words(value))}\n"
        for name, value in facts.items()
    )
    write_output(lines.encode())


def _read_stdin() -> str:
    raw = b"" if sys.stdin is None else sys.stdin.buffer.read(_MAX_INPUT)
    # What is not UTF-8 is as in arguments.
    return raw.decode("utf-8-sig", "surrogateescape")


def _decode(
    text: str, channel: str | None, *, show_secrets: bool
) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    decoded: Event | Webhook
    if channel is not None:
        decoded = decode_event(text, channel=Channel(channel))
        form, dialect = "browser message", f"payload of {channel}"
    elif not text.startswith(("{", '"')):
        if "=" not in text:
            raise click.UsageError("TEXT is neither JSON nor a return URL")
        decoded, signature = _decode_return(text)
        form, dialect = "return URL", _dialect_of_return(decoded)
        facts["signature"] = signature
    elif (message := load(text)).keys() & WEBHOOK_KEYS:
        decoded = decode_webhook(message)
        form, dialect = "webhook", _dialect_of_webhook(decoded)
    else:
        decoded = decode_event(message)
        form, dialect = "browser message", _dialect_of_event(message, decoded)
    facts = {
        "form": form,
        "dialect": dialect,
        "kind": _KINDS[type(decoded)],
        **_facts(decoded, show_secrets=show_secrets),
        **facts,
    }
    if isinstance(decoded, ErrorEvent) and isinstance(
        decoded.error_type, ErrorType
    ):
        facts["meaning"] = decoded.error_type.meaning
    return facts


def _decode_return(text: str) -> tuple[SuccessEvent | ExitEvent, str]:
    found = read_environment(os.environ, _VARIABLES)
    if _VARIABLES.keys() - found.keys():
        missing = " and ".join(_VARIABLES.values())
        return decode_redirect(text), f"not checked: set {missing}"
    with renamed_settings(VARIABLES):
        return_url = ReturnURL(
            found["redirect_url"], secret=split_keys(found["signing_key"])
        )
    try:
        return return_url.decode(text), "valid"
    except InvalidCallbackError as error:
        return decode_redirect(text), f"refused: {error}"


def _dialect_of_return(event: Event) -> str:
    match event:
        case SuccessEvent(session_id=str()):
            return "session flow"
        case SuccessEvent():
            return "entity flow or first documentation"
        case _:
            return "any"


def _dialect_of_webhook(webhook: Webhook) -> str:
    is_entity = isinstance(webhook, ExtractionWebhook)
    return "entity flow" if is_entity else "session flow"


def _dialect_of_event(message: Mapping[str, Any], event: Event) -> str:
    status = str(message.get("status", "")).lower()
    match event:
        case _ if "type" not in message:
            return "flat form of 2021"
        case _ if status.startswith("fb-"):
            return "first documentation"
        case SuccessEvent(session_id=str(), entity_id=None):
            return "session flow"
        case SuccessEvent():
            return "entity flow"
        case _:
            return "entity or session flow"


def _facts(value: Any, *, show_secrets: bool) -> dict[str, Any]:
    facts = {
        field.name: _plain(
            field.repr(found)
            if callable(field.repr) and not show_secrets
            else found,
            show_secrets=show_secrets,
        )
        for field in attrs.fields(type(value))
        if field.name not in _LEFT_OUT
        and (field.repr or show_secrets)
        and (found := getattr(value, field.name)) is not None
    }
    return {name: found for name, found in facts.items() if found != []}


def _plain(value: Any, *, show_secrets: bool) -> Any:
    match value:
        case datetime.date():
            return value.isoformat()
        case str() | bool() | int():
            return value
        case Sequence():
            return [_plain(each, show_secrets=show_secrets) for each in value]
        case _ if attrs.has(type(value)):
            return _facts(value, show_secrets=show_secrets)
        case _:
            return str(value)


def _words(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
