"""
Pages that customers see: one around the frame, and one for every end.
"""

import html
import string

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import attrs

from .http import HEADERS, WebResponse, retry_header


_STYLE: Final = """\
:root {
  color-scheme: light dark;
  --ground: #f4f6f5; --card: #fff; --text: #14211e; --line: #d4ddd9;
  --accent: #0b6353; --on-accent: #fff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0d1513; --card: #16211e; --text: #e8f1ee; --line: #33443f;
    --accent: #6fd6c0; --on-accent: #06201a;
  }
}
* { box-sizing: border-box; }
body {
  background: var(--ground);
  color: var(--text);
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, sans-serif;
  margin: 0;
  overflow-wrap: anywhere;
}
main { margin-inline: auto; max-inline-size: 36rem; padding: 1rem; }
h1 { font-size: 1.35rem; line-height: 1.25; margin: .5rem 0 1rem; }
/* As wide as the frame. */
.around { max-inline-size: 34rem; }
.card {
  background: var(--card);
  border: 1px solid var(--line);
  border-radius: 1rem;
  margin-block-start: 15vh;
  padding: 1.5rem;
}
a, button {
  background: var(--accent);
  border: 0;
  border-radius: .6rem;
  color: var(--on-accent);
  cursor: pointer;
  display: block;
  font: inherit;
  font-weight: 600;
  inline-size: 100%;
  padding: .75rem 1rem;
  text-align: center;
  text-decoration: none;
}
a + a { margin-block-start: .75rem; }
a:focus-visible, button:focus-visible, iframe:focus-visible {
  outline: 3px solid var(--accent);
  outline-offset: 2px;
}
@media (max-width: 32rem) {
  .around { padding: 0; }
  .around h1 { margin: .75rem 1rem; }
}
"""
_ICON: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' "
    "viewBox='0 0 16 16'%3E%3Crect width='16' height='16' rx='4' "
    "fill='%230b6353'/%3E%3Cpath d='M4 8l3 3 5-6' stroke='%23fff' "
    "stroke-width='2' fill='none'/%3E%3C/svg%3E"
)
_DOCUMENT: Final = string.Template("""\
<!doctype html>
<html lang="$language">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>$title</title>
<link rel="icon" href="$icon">
<style nonce="$nonce">
$style</style>
</head>
<body>
$main</body>
</html>
""")
_AROUND: Final = string.Template("""\
<main class="around">
<h1>$title</h1>
<noscript><p>$needs_script</p></noscript>
$snippet$onward</main>
""")
# The listener tells of the end when the service has heard of it.
_ONWARD: Final = string.Template("""\
<script nonce="$nonce" data-url="$url">
(() => {
  const { url } = document.currentScript.dataset;
  window.addEventListener("$event_type", (event) => {
    if (event.detail.closed) {
      window.location.assign(url);
    }
  });
})();
</script>
""")
_NOTICE: Final = string.Template("""\
<main>
<div class="card">
<h1>$title</h1>
<p>$text</p>
$link</div>
</main>
""")
_BUTTON: Final = string.Template("""\
<form method="post">
<button>$text</button>
</form>
""")
_ICON_POLICY: Final = "img-src data:"


@attrs.frozen(kw_only=True)
class PageTexts:
    """
    What the pages say, in one language.

    Attributes:
        language: Of all that follows, as HTML has it.
        title: Of every page.
        success: After a success that the server confirmed.
        exit: After the customer left.
        unclear: After a message that may be a failure or an exit.
        again: On what leads to another journey.
        leave: On what ends a journey that may have failed.
        unconfirmed: After a success that the server does not know.
        unknown: Behind a return URL that is not ours, or too old.
        unavailable: While the vendor cannot be asked.
        broken: When the service itself failed.
        ask: For whom another site has sent here, before anything begins.
        needs_script: Where scripts are switched off.
        onward: On the link to `CallbackProtocol.next_url`, and on the button
            below
            *ask*.
    """

    language: str = "en"
    title: str = "Connect your bank"
    success: str = "Thank you. Your statements are being checked."
    exit: str = "You have left the bank connection."
    unclear: str = "The bank connection is not complete yet."
    again: str = "Try again"
    leave: str = "Leave"
    unconfirmed: str = "Your bank could not confirm this yet."
    unknown: str = "This link is not valid, or no longer."
    unavailable: str = (
        "The bank connection cannot be reached at the moment. Please try"
        " again in a minute."
    )
    broken: str = "Something went wrong on our side. Please try again later."
    ask: str = "The connection to your bank begins when you go on."
    needs_script: str = "This page needs JavaScript."
    onward: str = "Go on"


def render_connect_page(  # noqa: PLR0913
    snippet: str,
    *,
    texts: PageTexts,
    nonce: str,
    policy: str,
    event_type: str,
    next_url: str | None,
) -> WebResponse:
    """
    Write the page around the frame.

    Args:
        snippet: From `iframe_html`.
        texts: What it says.
        nonce: That of *snippet*.
        policy: From `content_security_policy`.
        event_type: Of the DOM event that tells of the end.
        next_url: Where to go then.
    """
    onward = next_url and _fill(
        _ONWARD, nonce=nonce, url=next_url, event_type=event_type
    )
    main = _fill(
        _AROUND,
        {"snippet": snippet, "onward": onward or ""},
        title=texts.title,
        needs_script=texts.needs_script,
    )
    return _page(main, texts, nonce, f"{policy}; {_ICON_POLICY}")


def render_notice(  # noqa: PLR0913
    text: str,
    *,
    texts: PageTexts,
    nonce: str,
    status: HTTPStatus = HTTPStatus.OK,
    next_url: str | None = None,
    again_at: str | None = None,
) -> WebResponse:
    """
    Write a page of one sentence, and of links.

    Args:
        text: The sentence.
        texts: What the links say.
        nonce: New for every page.
        status: Of the reply.
        next_url: Where the service goes on.
        again_at: Where another journey begins.
    """
    links = ((again_at, texts.again), (next_url, texts.onward))
    written = "".join(
        f'<a href="{html.escape(url)}">{html.escape(label)}</a>\n'
        for url, label in links
        if url is not None
    )
    return _notice(text, written, texts, nonce, status)


def render_start_page(*, texts: PageTexts, nonce: str) -> WebResponse:
    """
    Write a page whose button posts to the page's own address.
    """
    button = _fill(_BUTTON, text=texts.onward)
    page = _notice(texts.ask, button, texts, nonce, can_post=True)
    # With no referrer at all, browsers post without an origin.
    headers = {**page.headers, "Referrer-Policy": "same-origin"}
    return attrs.evolve(page, headers=headers)


def _notice(  # noqa: PLR0913
    text: str,
    link: str,
    texts: PageTexts,
    nonce: str,
    status: HTTPStatus = HTTPStatus.OK,
    *,
    can_post: bool = False,
) -> WebResponse:
    main = _fill(_NOTICE, {"link": link}, title=texts.title, text=text)
    policy = "; ".join(
        (
            "default-src 'none'",
            "base-uri 'none'",
            # A post may be answered with the way to the vendor's page, and
            # Chromium looks there, too.
            *([] if can_post else ["form-action 'none'"]),
            "frame-ancestors 'none'",
            f"style-src 'nonce-{nonce}'",
            _ICON_POLICY,
        )
    )
    return _page(main, texts, nonce, policy, status)


def _page(
    main: str,
    texts: PageTexts,
    nonce: str,
    policy: str,
    status: HTTPStatus = HTTPStatus.OK,
) -> WebResponse:
    text = _fill(
        _DOCUMENT,
        {"main": main, "style": _STYLE, "icon": _ICON},
        language=texts.language,
        title=texts.title,
        nonce=nonce,
    )
    headers = {
        **HEADERS,
        **retry_header(status),
        "Content-Security-Policy": policy,
        "Content-Type": "text/html; charset=utf-8",
    }
    return WebResponse(status=status, headers=headers, body=text.encode())


def _fill(
    template: string.Template, raw: Mapping[str, str] = {}, /, **values: str
) -> str:
    escaped = {name: html.escape(text) for name, text in values.items()}
    return template.substitute(raw, **escaped)
