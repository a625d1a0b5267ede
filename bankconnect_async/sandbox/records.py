"""
Public records of a sandbox.
"""

import datetime

from collections.abc import Mapping
from typing import Any

import attrs

from bankconnect_async._codec.browser_messages import Dialect


@attrs.frozen(kw_only=True)
class SandboxSession:
    """
    A session that the sandbox created.

    Attributes:
        session_id: A UUID in the session flow and v2, else 18 hex digits.
        link_id: The customer's link id.
        dialect: The dialect of its events; `session` for those of v2.
        parameters: The request's parameters by wire name, without the key.
        redirect_url: The journey's URL, as it was returned.
        token: The token in the URL of a v2 session.
        created_at: The time of its creation, in India.
    """

    session_id: str = attrs.field(repr=False)
    link_id: str
    dialect: Dialect
    parameters: Mapping[str, Any] = attrs.field(repr=False)
    redirect_url: str = attrs.field(repr=False)
    token: str | None = attrs.field(default=None, repr=False)
    created_at: datetime.datetime


@attrs.frozen(kw_only=True)
class SandboxEntity:
    """
    An entity that a journey or a call of the entity flow created.

    Attributes:
        entity_id: A UUID.
        link_id: The link id of the customer, if it was given.
        meta_data: The `meta_data` of ``POST entity/``.
        is_single_account: Whether it takes statements of one account only.
    """

    entity_id: str
    link_id: str | None
    meta_data: str | None = attrs.field(default=None, repr=False)
    is_single_account: bool = False


@attrs.frozen(kw_only=True)
class Played:
    """
    The effect of one step of a journey in the browser.

    Attributes:
        messages: The messages that the page posts to the embedding page, in
            order; none where the dialect has no event for the step.
        redirect: The URL to which the page redirects unless it is framed;
            `None` if it stays, or the session has no `redirect_url`.
    """

    messages: tuple[Mapping[str, Any], ...]
    redirect: str | None


@attrs.define(kw_only=True)
class ReceivedRequest:
    """
    A request of the API that the sandbox received.

    Attributes:
        method: The HTTP method.
        path: The path.
        parameters: The parameters of its query and body, without keys,
            passwords and files.
        link_id: The link id that it is about; blank if there is none.
        status: The HTTP status of the response; `None` if it was not
            processed, because of a fault.
    """

    method: str
    path: str
    parameters: Mapping[str, Any] = attrs.field(repr=False)
    link_id: str
    status: int | None = None


@attrs.frozen(kw_only=True)
class SentWebhook:
    """
    A webhook with its result.

    Attributes:
        url: The URL to post it to; it may contain a secret.
        body: The JSON body.
        status: The HTTP status of the response, if there was one.
        problem: The reason why there was none.
    """

    url: str = attrs.field(repr=False)
    body: Mapping[str, Any] = attrs.field(repr=False)
    status: int | None = None
    problem: str | None = None
