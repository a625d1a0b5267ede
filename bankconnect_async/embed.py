"""
The inline-frame workflow: the frame, its listener, and the policy for both.

The listener accepts a message only if it comes from the session's origin and
from the frame itself, and has the vendor's type. The message that it posts to
the service is still a claim.
"""

import json
import re

from typing import Any

import attrs

from yarl import URL

from ._codec.session_requests import url_problem
from ._templates import read_template, render
from .errors import ConfigurationError, InvalidRequestError
from .models.events import (
    ERROR_TYPE,
    MESSAGE,
    MESSAGE_TYPE,
    REASON,
    Envelope,
    Status,
)
from .models.sessions import Session


_NONCE = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
# One slash only: two name another host. Browsers read a backslash as a slash.
_PATH = re.compile(r"/(?![/\\])[^\x00-\x20\x7f\\#]*")
_EVENT_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9:._-]*")

# Without allow-same-origin the journey would have no origin to pin; without
# allow-top-navigation it cannot take our page away. Net banking opens popups.
_SANDBOX = (
    "allow-downloads allow-forms allow-modals allow-popups"
    " allow-popups-to-escape-sandbox allow-same-origin allow-scripts"
)


def _not_blank(_: Any, attribute: "attrs.Attribute[Any]", value: str) -> None:
    if not isinstance(value, str) or not value.strip():
        _refuse(attribute.name, "must be a text that is not blank")


def _matches(pattern: re.Pattern[str], problem: str) -> Any:
    def validate(
        _: Any, attribute: "attrs.Attribute[Any]", value: object
    ) -> None:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            _refuse(attribute.name, problem)

    return validate


def _refuse(name: str, problem: str) -> None:
    raise ConfigurationError(fields={name: (problem,)})


@attrs.frozen(kw_only=True)
class Listener:
    """
    Settings of the script that listens to the frame's messages.

    The page posts each message as JSON, ``{"event": …, "token": …}``. Then it
    dispatches a DOM event whose `detail` has `message`, `closed` (whether the
    frame was closed) and `delivered` (whether the post got a 2xx response).

    Attributes:
        post_to: The path of the service's event endpoint, on the page's own
            origin.
        token: The token that goes with every post. It should name the
            customer of the page, because `post_to` must not believe what the
            message says about that.
        event_type: The name of the DOM event, which bubbles.
        success_text: The text that replaces the frame after a success, which
            is not confirmed yet.
        exit_text: The text that replaces the frame after an exit.
        unclear_text: The text beside the frame after a message of the first
            dialect that may report a failure, such as a wrong password, or
            an exit. The customer can continue in the frame.
        again_text: The label of the button that opens the page again.
        leave_text: The label of the button that closes the frame after such a
            message.

    Raises:
        ConfigurationError: If a setting is bad; the first one is in `fields`.
    """

    post_to: str = attrs.field(
        validator=_matches(_PATH, "must be a path, such as /bank/events")
    )
    token: str = attrs.field(repr=False, validator=_not_blank)
    event_type: str = attrs.field(
        default="bankconnect",
        validator=_matches(_EVENT_TYPE, "is not a name for a DOM event"),
    )
    success_text: str = attrs.field(
        default="Thank you. Your statements are being checked.",
        validator=_not_blank,
    )
    exit_text: str = attrs.field(
        default="You have left the bank connection.", validator=_not_blank
    )
    unclear_text: str = attrs.field(
        default="The bank connection is not complete yet.",
        validator=_not_blank,
    )
    again_text: str = attrs.field(default="Try again", validator=_not_blank)
    leave_text: str = attrs.field(default="Leave", validator=_not_blank)


def iframe_html(
    session: Session,
    *,
    listener: Listener,
    nonce: str,
    title: str = "Connect your bank",
    allow_http: bool = False,
) -> str:
    """
    Write the frame that shows the journey, with its listener and style.

    The frame stays open on errors and steps. A text replaces it on a success
    or an exit; after an exit there is a button to try again. The first
    dialect reports failures as exits: there the frame stays, with buttons to
    try again and to leave beside it. Serve the page with
    `content_security_policy`.

    Args:
        session: A session created without `redirect_url`.
        listener: The settings of the listener.
        nonce: An unguessable text of 16 or more base64 characters, another
            one for every page.
        title: The name of the frame for screen readers.
        allow_http: Whether a session of a host without TLS is accepted, as
            with the client's option of that name.

    Raises:
        InvalidRequestError: If the session's URL must not be opened.
        ConfigurationError: If *nonce* is not usable.
    """
    origin = _origin(session, allow_http=allow_http)
    _check_nonce(nonce)
    return render(
        str(__package__),
        "frame.html",
        {
            "style": read_template(__package__, "frame.css"),
            "script": read_template(__package__, "listener.js"),
        },
        nonce=nonce,
        settings=json.dumps(_settings(origin, listener)),
        again=listener.again_text,
        leave=listener.leave_text,
        src=session.url,
        title=title,
        sandbox=_SANDBOX,
    )


def content_security_policy(
    session: Session,
    *,
    nonce: str,
    allow_http: bool = False,
    has_form: bool = False,
) -> str:
    """
    Write the header that permits what `iframe_html` needs, and no more.

    Nobody may frame the page, and it can connect to its own origin only.

    Args:
        session: The session of `iframe_html`.
        nonce: The nonce of `iframe_html`.
        allow_http: Whether a session of a host without TLS is accepted.
        has_form: Whether the page has a form that posts to its own origin.

    Raises:
        InvalidRequestError: If the session's URL must not be opened.
        ConfigurationError: If *nonce* is not usable.
    """
    origin = _origin(session, allow_http=allow_http)
    _check_nonce(nonce)
    directives = {
        "default-src": "'none'",
        "base-uri": "'none'",
        "connect-src": "'self'",
        "form-action": "'self'" if has_form else "'none'",
        "frame-ancestors": "'none'",
        "frame-src": origin,
        "object-src": "'none'",
        "script-src": f"'nonce-{nonce}'",
        "style-src": f"'nonce-{nonce}'",
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def _origin(session: Session, *, allow_http: bool) -> str:
    # This frame may raise, so the URL, a credential, must not be a local.
    if problem := url_problem(session.url, allow_http=allow_http):
        raise InvalidRequestError(fields={"redirect_url": (problem,)})
    # As browsers write it: in lower case, and without a default port.
    return str(URL(session.url.lower()).origin())


def _check_nonce(nonce: str) -> None:
    if not _NONCE.fullmatch(nonce):
        _refuse("nonce", "must be 16 or more characters of base64")


def _settings(origin: str, listener: Listener) -> dict[str, Any]:
    envelope = attrs.fields(Envelope)
    success = dict.fromkeys(
        (Status.FB_SUCCESS.value, Status.SUCCESS.value), listener.success_text
    )
    left = dict.fromkeys(
        (Status.FB_EXIT.value, Status.EXIT.value), listener.exit_text
    )
    return {
        "origin": origin,
        "type": MESSAGE_TYPE,
        "keys": {
            "type": envelope.type.name,
            "status": envelope.status.name,
            "payload": envelope.payload.name,
            "errorType": ERROR_TYPE,
            "reason": REASON,
            "message": MESSAGE,
        },
        "mayFail": Status.EXIT.value,
        "unclear": Status.FB_EXIT.value,
        "unclearText": listener.unclear_text,
        "exits": list(left),
        "texts": success | left,
        "postTo": listener.post_to,
        "token": listener.token,
        "eventType": listener.event_type,
    }
