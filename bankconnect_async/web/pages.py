"""
Pages that customers see: one around the frame, and short notices.
"""

import functools
import html
import secrets

from http import HTTPStatus
from typing import Final

import attrs

from bankconnect_async import _templates

from .http import HEADERS, WebResponse, status_headers


_ICON_POLICY: Final = "img-src data:"
_render = functools.partial(_templates.render, str(__package__))


@attrs.frozen(kw_only=True)
class PageTexts:
    """
    The texts of the pages, in one language.

    Attributes:
        language: The language tag, as in HTML.
        title: The title of every page.
        success: The text after a success that the server confirmed.
        exit: The text after the customer left.
        unclear: The text after a message that may be a failure or an exit.
        again: The label of the link to another journey.
        started: The text before a journey that the customer has begun
            already.
        start_again: The label of the button that begins a new one instead.
        leave: The label of the button that ends a journey that may have
            failed.
        unconfirmed: The text after a success that the server does not know.
        unknown: The text for a return URL that is forged or expired.
        unavailable: The text while the vendor cannot be reached.
        broken: The text when the service itself failed, or the vendor refused
            what it sent.
        ask: The text before a journey to which another site has linked.
        invitation: The text of an invitation, before the journey.
        invitation_used: The text after its statements were submitted.
        invitation_expired: The text once its link has expired.
        invitation_unknown: The text for a link that is not one of ours.
        needs_script: The text where scripts are switched off.
        proceed: The label of the link to `CallbackProtocol.next_url`, and of
            the button below *ask*, *started* and *invitation*.
    """

    language: str = "en"
    title: str = "Connect your bank"
    success: str = "Thank you. Your statements are being checked."
    exit: str = "You have left the bank connection."
    unclear: str = "The bank connection is not complete yet."
    again: str = "Try again"
    started: str = "You have already begun to connect your bank."
    start_again: str = "Start again"
    leave: str = "Leave"
    unconfirmed: str = "Your bank could not confirm this yet."
    unknown: str = "This link is not valid, or has expired."
    unavailable: str = (
        "The bank connection cannot be reached at the moment. Please try"
        " again in a minute."
    )
    broken: str = "Something went wrong on our side. Please try again later."
    ask: str = "Continue to connect your bank."
    invitation: str = (
        "You are invited to connect your bank and to share your statements."
        " It takes a few minutes."
    )
    invitation_used: str = (
        "Your statements were already submitted with this invitation. There"
        " is nothing more to do: we will contact you if something is missing."
    )
    invitation_expired: str = (
        "This invitation has expired. Please ask us for a new one."
    )
    invitation_unknown: str = (
        "This link is not valid. Please open the whole link from our message,"
        " or ask us for a new one."
    )
    needs_script: str = "This page needs JavaScript."
    proceed: str = "Continue"


@attrs.frozen(kw_only=True)
class PageRenderer:
    """
    Renders the pages as responses.

    Attributes:
        texts: The texts.
        next_url: The address of the service to which customers go next.
    """

    texts: PageTexts
    next_url: str | None

    def render_connect_page(
        self,
        snippet: str,
        *,
        nonce: str,
        policy: str,
        event_type: str,
        start_again_url: str | None = None,
    ) -> WebResponse:
        """
        Render the page around the frame.

        Args:
            snippet: The result of `iframe_html`.
            nonce: The nonce of *snippet*.
            policy: The result of `content_security_policy`.
            event_type: The name of the DOM event at the end of a journey.
            start_again_url: The address to which a button posts that begins
                another journey.
        """
        script = self.next_url and _render(
            "next.html", nonce=nonce, url=self.next_url, event_type=event_type
        )
        main = _render(
            "connect.html",
            {
                "snippet": snippet,
                "script": script or "",
                "start_again": self._start_again_button(start_again_url),
            },
            title=self.texts.title,
            needs_script=self.texts.needs_script,
        )
        page = self._respond(main, nonce, f"{policy}; {_ICON_POLICY}")
        return page if start_again_url is None else _with_origin(page)

    def _start_again_button(self, url: str | None) -> str:
        return (
            ""
            if url is None
            else _render(
                "start_again.html", url=url, text=self.texts.start_again
            )
        )

    def render_notice(
        self,
        text: str,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        retry_url: str | None = None,
    ) -> WebResponse:
        """
        Render a page of one sentence and its links.

        Args:
            text: The sentence.
            status: The status of the response.
            retry_url: The address at which another journey begins.
        """
        links = (
            (retry_url, self.texts.again),
            (self.next_url, self.texts.proceed),
        )
        action = "".join(
            f'<a href="{html.escape(url)}">{html.escape(label)}</a>\n'
            for url, label in links
            if url is not None
        )
        return self._notice(text, action, status, "form-action 'none'")

    def render_start_page(
        self, text: str, *, start_again_url: str | None = None
    ) -> WebResponse:
        """
        Render a page whose button posts to the page's own address.

        Args:
            text: The sentence above the button.
            start_again_url: The address to which a second button posts, if
                there is one.
        """
        buttons = _render(
            "button.html", text=self.texts.proceed
        ) + self._start_again_button(start_again_url)
        # No form-action: Chromium applies it to the redirect to the vendor
        # that answers the post, too.
        return _with_origin(self._notice(text, buttons, HTTPStatus.OK))

    def _notice(
        self, text: str, action: str, status: HTTPStatus, *directives: str
    ) -> WebResponse:
        nonce = secrets.token_urlsafe(16)
        main = _render(
            "notice.html",
            {"action": action},
            title=self.texts.title,
            text=text,
        )
        policy = (
            "default-src 'none'",
            "base-uri 'none'",
            *directives,
            "frame-ancestors 'none'",
            f"style-src 'nonce-{nonce}'",
            _ICON_POLICY,
        )
        return self._respond(main, nonce, "; ".join(policy), status)

    def _respond(
        self,
        main: str,
        nonce: str,
        policy: str,
        status: HTTPStatus = HTTPStatus.OK,
    ) -> WebResponse:
        style = _templates.read_template(__package__, "pages.css")
        text = _render(
            "document.html",
            {"main": main, "style": style},
            language=self.texts.language,
            title=self.texts.title,
            nonce=nonce,
        )
        headers = {
            **HEADERS,
            **status_headers(status),
            "Content-Security-Policy": policy,
            "Content-Type": "text/html; charset=utf-8",
        }
        return WebResponse(status=status, headers=headers, body=text.encode())


def _with_origin(page: WebResponse) -> WebResponse:
    # With no referrer at all, browsers post without an origin.
    headers = {**page.headers, "Referrer-Policy": "same-origin"}
    return attrs.evolve(page, headers=headers)
