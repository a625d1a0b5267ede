"""
The page that stands in for the vendor's journey.

It is one document that loads nothing, the session's `logo_url` included. It
decides nothing: each step goes to the sandbox, which answers what to post.
"""

import datetime
import functools
import math
import secrets

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import attrs

from bankconnect_async._templates import read_template, render
from bankconnect_async.models.events import ErrorType
from bankconnect_async.sandbox.banks import (
    SandboxBank,
    all_banks,
    bank_of,
    find_bank,
)

from .journey import ClosedReason, Journey, Mode, failure_mode


_render = functools.partial(render, __package__)
#: The page's name for each mode, which is that of the vendor's `info` events.
_VIEWS: Final[Mapping[Mode, str]] = {"pdf": "manual", "online": "net_banking"}


@attrs.frozen(kw_only=True)
class Page:
    """
    A document, and the headers it is served with.
    """

    text: str
    headers: Mapping[str, str]


@attrs.frozen(kw_only=True)
class Notice:
    """
    What the page says when there is no journey to go on with.

    Attributes:
        title, text: For people.
        status: HTTP status of the page.
        refusal: HTTP status of a step.
    """

    title: str
    text: str
    status: HTTPStatus
    refusal: HTTPStatus


@attrs.frozen(kw_only=True)
class _Texts:
    """
    What the page says about one mode.
    """

    title: str
    lead: str
    subject: str
    succeed: str


_TEXTS: Final[Mapping[Mode, _Texts]] = {
    "pdf": _Texts(
        title="Upload your statements",
        lead="A made-up statement is ready. Nothing is read from your device.",
        subject="made-up-statement.pdf",
        succeed="Upload and finish",
    ),
    "online": _Texts(
        title="Log in to net banking",
        lead="A made-up customer is ready. There is nothing to type.",
        subject="made-up customer",
        succeed="Log in and finish",
    ),
}

#: What to say where.
NOTICES: Final[Mapping[ClosedReason, Notice]] = {
    ClosedReason.UNKNOWN: Notice(
        title="This link opens no session",
        text="Its session id or token is not one of this sandbox. Open the"
        " URL exactly as the Session API returned it.",
        status=HTTPStatus.NOT_FOUND,
        refusal=HTTPStatus.NOT_FOUND,
    ),
    ClosedReason.EXPIRED: Notice(
        title="This session has expired",
        text="Go back to the application that brought you here, and start"
        " again.",
        status=HTTPStatus.GONE,
        refusal=HTTPStatus.GONE,
    ),
    ClosedReason.COMPLETED: Notice(
        title="Statements already submitted",
        text="There is nothing left to do here. You can close this page.",
        status=HTTPStatus.OK,
        refusal=HTTPStatus.CONFLICT,
    ),
}


def new_nonce() -> str:
    """
    Make what only this page's own script and style will carry.
    """
    return secrets.token_urlsafe(16)


def render_notice(notice: Notice, nonce: str) -> Page:
    """
    Write the page for a journey that cannot go on.
    """
    main = _render("notice.html", title=notice.title, text=notice.text)
    return _page(main, nonce)


def write_journey(
    journey: Journey, nonce: str, now: datetime.datetime
) -> Page:
    """
    Write the page of an open journey.

    Args:
        journey: Whose.
        nonce: From `new_nonce`.
        now: The time, to say how long the page is good.
    """
    asked = bank_of(journey.session.parameters) or ""
    bank = find_bank(asked)
    main = _render(
        "journey.html",
        {"banks": _bank_items(), "attempts": "\n".join(map(_attempt, _VIEWS))},
        bank=bank.identifier if bank else asked,
        bank_name=bank.name if bank else asked,
        modes=_modes(bank),
        mode=_VIEWS[journey.mode] if journey.mode else "",
        # Not a moment too early, or the page would find itself still good.
        expires_in=math.ceil((journey.expires_at - now).total_seconds()),
        link_id=journey.session.link_id,
    )
    return _page(main, nonce, script=read_template(__package__, "journey.js"))


def _page(main: str, nonce: str, *, script: str = "") -> Page:
    raw = {
        "style": read_template(__package__, "journey.css"),
        "main": main,
        "script": script,
    }
    return Page(
        text=_render("document.html", raw, nonce=nonce),
        headers={
            "Content-Security-Policy": _policy(nonce),
            # The URL opens the journey, so it goes nowhere and stays nowhere.
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _policy(nonce: str) -> str:
    directives = {
        "default-src": "'none'",
        "script-src": f"'nonce-{nonce}'",
        "style-src": f"'nonce-{nonce}'",
        # The icon, which is part of the document.
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        # As the vendor's page, it is for anyone to embed.
        "frame-ancestors": "*",
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())


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


def _modes(bank: SandboxBank | None) -> str:
    offered = [
        view for mode, view in _VIEWS.items() if not bank or mode in bank.modes
    ]
    return " ".join(offered)


@functools.cache
def _attempt(mode: Mode) -> str:
    options = "\n".join(
        _render("failure.html", code=code, meaning=code.meaning)
        for code in ErrorType
        if failure_mode(code) == mode
    )
    return _render(
        "attempt.html",
        {"options": options},
        mode=mode,
        view=_VIEWS[mode],
        **attrs.asdict(_TEXTS[mode]),
    )
