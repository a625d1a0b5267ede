"""
The page that stands in for the vendor's journey.

It is one document that loads nothing, the session's `logo_url` included. It
decides nothing: each step goes to the sandbox, which returns what to post.
"""

import datetime
import functools
import math
import secrets

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import attrs

from bankconnect_async._codec.browser_messages import Dialect
from bankconnect_async._templates import read_template, render
from bankconnect_async.sandbox.banks import (
    SandboxBank,
    all_banks,
    bank_of,
    find_bank,
)

from .journey import FAILURES, ClosedReason, Journey, Mode, failure_mode


_render = functools.partial(render, str(__package__))
#: The page's name for each mode, as in the vendor's `info` events.
_VIEWS: Final[Mapping[Mode, str]] = {
    "pdf": "manual",
    "online": "net_banking",
    "aa": "account_aggregator",
}


@attrs.frozen(kw_only=True)
class Page:
    """
    A document with its HTTP headers.
    """

    text: str
    headers: Mapping[str, str]


@attrs.frozen(kw_only=True)
class Notice:
    """
    The page of a journey that is closed.

    Attributes:
        title, text: The visible text.
        status: The HTTP status of the page.
        step_status: The HTTP status of the response to a step.
    """

    title: str
    text: str
    status: HTTPStatus
    step_status: HTTPStatus


_TEXTS: Final[Mapping[Mode, Mapping[str, str]]] = {
    "online": {
        "choice": "Net banking",
        "hint": "Log in, and they are fetched for you",
        "title": "Log in to net banking",
        "lead": "A made-up customer is ready. There is nothing to type.",
        "subject": "made-up customer",
        "succeed": "Log in and finish",
    },
    "pdf": {
        "choice": "Upload PDF",
        "hint": "Send the statements you have",
        "title": "Upload your statements",
        "lead": "A made-up statement is ready. "
        "Nothing is read from your device.",
        "subject": "made-up-statement.pdf",
        "succeed": "Upload and finish",
    },
    "aa": {
        "choice": "Account Aggregator",
        "hint": "Approve a request, and your bank sends them",
        "title": "Share by Account Aggregator",
        "lead": "A made-up consent is ready. There is nothing to type.",
        "subject": "made-up consent",
        "succeed": "Approve and finish",
    },
}

#: The page of each reason.
NOTICES: Final[Mapping[ClosedReason, Notice]] = {
    ClosedReason.UNKNOWN: Notice(
        title="This link opens no session",
        text="Its session id or token is not one of this sandbox. Open the"
        " URL exactly as the Session API returned it.",
        status=HTTPStatus.NOT_FOUND,
        step_status=HTTPStatus.NOT_FOUND,
    ),
    ClosedReason.EXPIRED: Notice(
        title="This session has expired",
        text="Go back to the application that brought you here, and start"
        " again.",
        status=HTTPStatus.GONE,
        step_status=HTTPStatus.GONE,
    ),
    ClosedReason.COMPLETED: Notice(
        title="Statements already submitted",
        text="There is nothing left to do here. You can close this page.",
        status=HTTPStatus.OK,
        step_status=HTTPStatus.CONFLICT,
    ),
}


def render_notice(notice: Notice) -> Page:
    """
    Render the page of a closed journey.
    """
    main = _render("notice.html", title=notice.title, text=notice.text)
    return _page(main)


def render_journey(journey: Journey, now: datetime.datetime) -> Page:
    """
    Render the page of an open journey.

    Args:
        journey: The journey.
        now: The time, from which the page counts to its expiry.
    """
    requested = bank_of(journey.session.parameters) or ""
    bank = find_bank(requested)
    main = _render(
        "journey.html",
        {
            "banks": _bank_items(),
            "choices": _choices(journey.session.dialect),
            "attempts": "\n".join(map(_attempt, _VIEWS)),
        },
        bank=bank.identifier if bank else requested,
        bank_name=bank.name if bank else requested,
        modes=_modes(bank),
        mode=_VIEWS[journey.mode] if journey.mode else "",
        # Rounded up: the page must not reload before the journey expires.
        expires_in=math.ceil((journey.expires_at - now).total_seconds()),
        link_id=journey.session.link_id,
    )
    return _page(main, read_template(__package__, "journey.js"))


def _page(main: str, script: str = "") -> Page:
    nonce = secrets.token_urlsafe(16)
    style = read_template(__package__, "journey.css")
    directives = {
        "default-src": "'none'",
        "script-src": f"'nonce-{nonce}'",
        "style-src": f"'nonce-{nonce}'",
        # The icon, which is part of the document.
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        # Like the vendor's page, it may be embedded anywhere.
        "frame-ancestors": "*",
    }
    return Page(
        text=_render(
            "document.html",
            {"style": style, "main": main, "script": script},
            nonce=nonce,
        ),
        headers={
            "Content-Security-Policy": "; ".join(
                f"{name} {value}" for name, value in directives.items()
            ),
            # Whoever has the URL can use the journey.
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        },
    )


@functools.cache
def _bank_items() -> str:
    return "\n".join(
        _render(
            "bank.html",
            identifier=bank.identifier,
            name=bank.name,
            modes=_modes(bank),
        )
        for bank in all_banks()
    )


def _choices(dialect: Dialect) -> str:
    return "\n".join(
        _render("choice.html", view=_VIEWS[mode], **texts)
        for mode, texts in _TEXTS.items()
        # The seed is older than Account Aggregators.
        if (mode, dialect) != ("aa", "seed")
    )


def _modes(bank: SandboxBank | None) -> str:
    offered = set(_VIEWS) if bank is None else set(bank.modes)
    # For most banks it is unknown, and the page offers what surely works.
    if bank is not None and not bank.has_aa:
        offered.discard("aa")
    return " ".join(view for mode, view in _VIEWS.items() if mode in offered)


@functools.cache
def _attempt(mode: Mode) -> str:
    options = "\n".join(
        _render("failure.html", code=code, meaning=code.meaning)
        for code in FAILURES.values()
        if failure_mode(code) == mode
    )
    return _render(
        "attempt.html",
        {"options": options},
        mode=mode,
        view=_VIEWS[mode],
        **_TEXTS[mode],
    )
