"""
What bodies say: a browser's claim, the vendor's notification.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import attrs

from bankconnect_async._codec.browser_messages import decode_event
from bankconnect_async._codec.webhooks import decode_webhook
from bankconnect_async.errors import DecodeError
from bankconnect_async.models._fields import (
    load,
    mapping,
    structure,
    text,
    wired,
)
from bankconnect_async.models.events import Event
from bankconnect_async.models.sessions import Session
from bankconnect_async.models.webhooks import UnknownWebhook, Webhook

from .http import WebResponse, plain
from .tokens import Tokens


@attrs.frozen(kw_only=True)
class BrowserReport:
    """
    What a browser says about a customer whom we know by our own signature.

    Attributes:
        event: With the `link_id` that we signed, whatever the browser said.
        session: That was created for this customer, if the browser still
            has our word for it: what `AsyncBankConnect.confirm` asks for.
    """

    event: Event
    session: Session | None


@attrs.frozen(kw_only=True)
class Notification:
    """
    A webhook that came in at the unguessable URL.

    Attributes:
        webhook: What it says; if that is not understood, an `UnknownWebhook`
            with the whole object in `raw`.
        error: Why it was not understood.
    """

    webhook: Webhook
    error: DecodeError | None = None


@attrs.frozen(kw_only=True)
class _Post:
    """
    What the listener of `iframe_html` posts.
    """

    event: Mapping[str, Any] | None = wired(mapping, required=True)
    token: str | None = wired(text, required=True)


def parse_post(body: bytes, tokens: Tokens) -> BrowserReport | WebResponse:
    """
    Read what the listener posted, and believe our token only.
    """
    document = load(body)
    if isinstance(document, str):
        return _bad(document)
    problems: list[str] = []
    post = structure(_Post, document, "$", problems)
    if post.event is None or post.token is None:
        return _bad("; ".join(problems))
    session = tokens.read(post.token)
    if session is None:
        return plain(HTTPStatus.FORBIDDEN, "the token is not good")
    try:
        event = decode_event(post.event)
    except DecodeError as error:
        return _bad(str(error))
    claimed = attrs.evolve(event, link_id=session.link_id)
    return BrowserReport(event=claimed, session=session)


def parse_notification(body: bytes) -> Notification | WebResponse:
    """
    Read what the vendor posted, and keep what is not understood.
    """
    document = load(body)
    if isinstance(document, str):
        return _bad(document)
    try:
        return Notification(webhook=decode_webhook(document))
    except DecodeError as error:
        return Notification(webhook=UnknownWebhook(raw=document), error=error)


def _bad(problem: str) -> WebResponse:
    return plain(HTTPStatus.BAD_REQUEST, problem)
