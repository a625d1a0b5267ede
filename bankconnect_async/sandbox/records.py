"""
What a sandbox tells about itself.
"""

import datetime

from collections.abc import Mapping
from typing import Any

import attrs

from bankconnect_async._codec.browser_messages import Dialect


@attrs.frozen(kw_only=True)
class SandboxSession:
    """
    A session the sandbox created.

    Attributes:
        session_id: A UUID in the session flow and v2, else 18 hex digits.
        link_id: Whose it is.
        dialect: In which its journey reports; `session` for those of v2.
        parameters: What was asked for, by wire name, without the key.
        redirect_url: The journey's URL as it was answered.
        token: What the URL of a v2 session carries.
        created_at: When, in Indian time.
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
        link_id: Whose it is, if that was said.
        meta_data: What was given with ``POST entity/``.
        is_single_account: Whether it takes statements of one account only.
    """

    entity_id: str
    link_id: str | None
    meta_data: str | None = attrs.field(default=None, repr=False)
    is_single_account: bool = False


@attrs.frozen(kw_only=True)
class Played:
    """
    What one step of a journey brings about in the browser.

    Attributes:
        messages: What the page posts to the page around it, in order. There
            is none where the dialect has no word for the step.
        redirect: Where the page sends the browser if it is not framed;
            `None` if it stays, or the session has no `redirect_url`.
    """

    messages: tuple[Mapping[str, Any], ...]
    redirect: str | None


@attrs.frozen(kw_only=True)
class SentWebhook:
    """
    A webhook that was due, and what became of it.

    Attributes:
        url: Where it was to go; it may hold a secret.
        body: What it says.
        status: HTTP status of the answer, if there was one.
        problem: Why there was none.
    """

    url: str = attrs.field(repr=False)
    body: Mapping[str, Any] = attrs.field(repr=False)
    status: int | None = None
    problem: str | None = None
