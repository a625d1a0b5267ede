"""
The inline-frame workflow: the frame, its listener, and the policy for both.

The listener believes a message only if it came from the origin of the
session, from the frame itself, and is of the vendor's type. What it then
posts to the service is still a claim.
"""

import html
import json
import re

from typing import Any, Final

import attrs

from yarl import URL

from ._codec.session_requests import url_problem
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

#: What `iframe_html` styles the frame with.
STYLE: Final = """\
.bankconnect {
  box-sizing: border-box;
  margin-inline: auto;
  max-inline-size: 32rem;
  inline-size: 100%;
}
.bankconnect iframe {
  block-size: 44rem;
  border: 0;
  display: block;
  inline-size: 100%;
  max-block-size: 100vh;
  max-block-size: 100dvh;
}
.bankconnect [role="status"]:empty { display: none; }
.bankconnect [role="status"] {
  font: 1rem/1.5 system-ui, sans-serif;
  padding: 1rem;
  text-align: center;
}
.bankconnect [data-actions] {
  display: flex;
  gap: 1rem;
  justify-content: center;
  margin-block: 0 1rem;
}
.bankconnect [hidden] { display: none; }
.bankconnect button { font: 1rem/1.5 system-ui, sans-serif; }
@media (max-width: 32rem) {
  .bankconnect iframe { block-size: 100vh; block-size: 100dvh; }
}
"""

#: The listener. It reads its settings from the element around it.
LISTENER_SCRIPT: Final = """\
(() => {
  "use strict";
  const root = document.currentScript.closest("[data-bankconnect]");
  const settings = JSON.parse(root.dataset.bankconnect);
  const keys = settings.keys;
  let posts = Promise.resolve();

  const read = (data) => {
    try {
      const message = typeof data === "string" ? JSON.parse(data) : data;
      return message?.[keys.type] === settings.type ? message : null;
    } catch {
      return null;
    }
  };

  const closes = (message) => {
    const status = message[keys.status];
    const payload = message[keys.payload] ?? {};
    const failed = status === settings.mayFail && (payload[keys.errorType]
      || (payload[keys.reason] && !payload[keys.message]));
    return !failed && status !== settings.unclear
      && Object.hasOwn(settings.texts, status);
  };

  const post = async (message) => {
    try {
      const answer = await fetch(settings.postTo, {
        method: "POST",
        mode: "same-origin",
        credentials: "same-origin",
        keepalive: true,
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ event: message, token: settings.token }),
      });
      return answer.ok;
    } catch {
      return false;
    }
  };

  const one = (selector) => root.querySelector(selector);
  const statusOf = (message) => message[keys.status];
  let last = null;

  const show = (text, { again, leave }) => {
    one("[role=status]").textContent = text;
    one("[data-actions]").hidden = !again;
    one("[data-leave]").hidden = !leave;
  };

  const close = (message) => {
    one("iframe").remove();
    const again = settings.exits.includes(statusOf(message));
    show(settings.texts[statusOf(message)], { again, leave: false });
    one("[role=status]").focus();
  };

  const announce = (message, closed, delivered) => {
    root.dispatchEvent(new CustomEvent(settings.eventType, {
      bubbles: true,
      detail: { message, closed, delivered },
    }));
  };

  window.addEventListener("message", (event) => {
    const frame = one("iframe");
    if (!frame || event.origin !== settings.origin
        || event.source !== frame.contentWindow) {
      return;
    }
    const message = read(event.data);
    if (!message) {
      return;
    }
    const closed = closes(message);
    if (closed) {
      close(message);
    } else if (statusOf(message) === settings.unclear) {
      // The customer has left, or may try again in the frame: nobody can
      // tell, so the frame stays.
      show(settings.unclearText, { again: true, leave: true });
    }
    // One after the other, because a failure comes before the exit. The page
    // hears of it last, so that it may leave at once.
    posts = posts.then(async () => {
      const delivered = await post(message);
      last = { message, delivered };
      announce(message, closed, delivered);
    });
  });

  // The element's buttons are not there yet.
  root.addEventListener("click", ({ target }) => {
    if (target.closest("[data-again]")) {
      // Not a reload: that would repeat a post.
      const url = new URL(window.location.href);
      url.hash = "";
      window.location.assign(url);
    } else if (target.closest("[data-leave]")) {
      const message = { [keys.status]: settings.unclear };
      close(message);
      posts = posts.then(() => announce(last.message, true, last.delivered));
    }
  });
})();
"""


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
    What the page does with the messages of the frame.

    Each is posted as JSON, ``{"event": …, "token": …}``, and then announced
    by a DOM event whose `detail` has `message`, `closed` (the frame was) and
    `delivered` (the post was answered with a 2xx status).

    Attributes:
        post_to: Path of the service's event endpoint, on the page's own
            origin.
        token: Goes with every post. It should say for whom the page was
            made, because `post_to` must not believe the message in that.
        event_type: Name of the DOM event; it bubbles.
        success_text: What replaces the frame after a success, which is not
            confirmed then.
        exit_text: What replaces the frame after the customer left.
        unclear_text: What stands beside the frame after a message of the
            first dialect that may be a failure, such as a wrong password, or
            an exit: the customer can go on in the frame.
        again_text: On the button that opens the page again.
        leave_text: On the button that closes the frame after such a message.

    Raises:
        ConfigurationError: With the first bad setting in `fields`.
    """

    post_to: str = attrs.field(
        validator=_matches(_PATH, "must be a path, such as /bank/events")
    )
    token: str = attrs.field(repr=False, validator=_not_blank)
    event_type: str = attrs.field(
        default="bankconnect",
        validator=_matches(_EVENT_TYPE, "is no name for a DOM event"),
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

    The frame stays open on errors and steps, and makes way for a text on a
    success or an exit. After an exit the text has a button to try again.
    The first dialect reports failures as exits: there the frame stays, with
    buttons to try again and to leave beside it. Serve the page with
    `content_security_policy`.

    Args:
        session: A session created without `redirect_url`.
        listener: What to do with the frame's messages.
        nonce: Unguessable and new for every page: 16 characters or more, of
            base64.
        title: What a screen reader calls the frame.
        allow_http: Take a session of a host without TLS, as the client does
            under that name.

    Raises:
        InvalidRequestError: If the session's URL must not be opened.
        ConfigurationError: If *nonce* is none.
    """
    origin = _origin(session, allow_http=allow_http)
    _check_nonce(nonce)
    settings = json.dumps(_settings(origin, listener))
    return f"""\
<style nonce="{nonce}">
{STYLE}</style>
<div class="bankconnect" data-bankconnect="{html.escape(settings)}">
<script nonce="{nonce}">
{LISTENER_SCRIPT}</script>
<p role="status" tabindex="-1"></p>
<p data-actions hidden>
<button type="button" data-again>{html.escape(listener.again_text)}</button>
<button type="button" data-leave>{html.escape(listener.leave_text)}</button>
</p>
<iframe src="{html.escape(session.url)}"
 title="{html.escape(title)}" referrerpolicy="no-referrer"
 sandbox="{_SANDBOX}"></iframe>
</div>
"""


def content_security_policy(
    session: Session, *, nonce: str, allow_http: bool = False
) -> str:
    """
    Write the header under which `iframe_html` works, and little else.

    Nobody may frame the page, and it can talk to its own origin only.

    Args:
        session: As for `iframe_html`.
        nonce: The same as there.
        allow_http: As there.

    Raises:
        InvalidRequestError: If the session's URL must not be opened.
        ConfigurationError: If *nonce* is none.
    """
    origin = _origin(session, allow_http=allow_http)
    _check_nonce(nonce)
    directives = {
        "default-src": "'none'",
        "base-uri": "'none'",
        "connect-src": "'self'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "frame-src": origin,
        "object-src": "'none'",
        "script-src": f"'nonce-{nonce}'",
        "style-src": f"'nonce-{nonce}'",
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def _origin(session: Session, *, allow_http: bool) -> str:
    # The URL is a credential, so it is no local here: this frame may raise.
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
