"""
The bodies of browser events and webhooks.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import attrs

from bankconnect_async._codec.browser_messages import decode_event
from bankconnect_async._codec.webhooks import decode_webhook
from bankconnect_async.errors import DecodeError
from bankconnect_async.models._fields import (
    field,
    load,
    mapping,
    structure,
    text,
)
from bankconnect_async.models.events import Event
from bankconnect_async.models.sessions import Session
from bankconnect_async.models.webhooks import UnknownWebhook, Webhook

from .http import WebResponse, plain
from .tokens import TokenSigner


@attrs.frozen(kw_only=True)
class BrowserReport:
    """
    An event that a browser reports for an authenticated customer.

    Attributes:
        event: The event, with the `link_id` of the signed token.
        session: The session of the signed token, if there is one, as an
            argument for `AsyncBankConnect.confirm`.
        reference: The end of the entry's id in the store, of a return.
        retry_path: The path at which another journey begins, if it is not
            the usual one.
    """

    event: Event
    session: Session | None
    reference: str | None = None
    retry_path: str | None = None


@attrs.frozen(kw_only=True)
class Notification:
    """
    A webhook that arrived at the secret URL.

    Attributes:
        webhook: The webhook; if it cannot be decoded, an `UnknownWebhook`
            with the whole object in `raw`.
        error: The reason why it cannot be decoded.
    """

    webhook: Webhook
    error: DecodeError | None = None


@attrs.frozen(kw_only=True)
class _EventPost:
    """
    The body that the listener of `iframe_html` posts.
    """

    event: Mapping[str, Any] | None = field(mapping, required=True)
    token: str | None = field(text, required=True)


def parse_post(
    body: bytes, tokens: TokenSigner
) -> BrowserReport | WebResponse:
    """
    Parse the body of an event; its customer comes from the token alone.
    """
    try:
        document = load(body)
    except DecodeError as error:
        return _bad_request(str(error))
    problems: list[str] = []
    post = structure(_EventPost, document, "$", problems)
    if post.event is None or post.token is None:
        return _bad_request("; ".join(problems))
    signed = tokens.verify(post.token)
    if signed is None:
        return plain(HTTPStatus.FORBIDDEN, "the token is not valid")
    try:
        event = decode_event(post.event)
    except DecodeError as error:
        return _bad_request(str(error))
    event = attrs.evolve(event, link_id=signed.session.link_id)
    return BrowserReport(event=event, session=signed.session)


def parse_notification(body: bytes) -> Notification | WebResponse:
    """
    Parse the body of a webhook; keep one that cannot be decoded.
    """
    try:
        document = load(body)
    except DecodeError as error:
        return _bad_request(str(error))
    try:
        return Notification(webhook=decode_webhook(document))
    except DecodeError as error:
        return Notification(webhook=UnknownWebhook(raw=document), error=error)


def _bad_request(problem: str) -> WebResponse:
    return plain(HTTPStatus.BAD_REQUEST, problem)
