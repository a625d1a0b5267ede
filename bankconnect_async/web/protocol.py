"""
What every request means, decided from its bytes alone.

No socket, no event loop, no request of the vendor: that is for `service`.
"""

import datetime
import re
import secrets

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

import attrs

from yarl import URL

from bankconnect_async._codec.redirects import Secrets
from bankconnect_async.embed import (
    Listener,
    content_security_policy,
    iframe_html,
)
from bankconnect_async.errors import (
    ConfigurationError,
    DecodeError,
    InvalidCallbackError,
)
from bankconnect_async.models.events import Event, SuccessEvent
from bankconnect_async.models.sessions import Session

from .guards import (
    VISIT_CHECKS,
    Check,
    event_checks,
    is_cross_site,
    origin_check,
    refusal,
    webhook_checks,
)
from .http import HEADERS, WebRequest, WebResponse, plain
from .pages import (
    PageTexts,
    render_connect_page,
    render_notice,
    render_start_page,
)
from .reports import (
    BrowserReport,
    Notification,
    parse_notification,
    parse_post,
)
from .tokens import Keys, make_keys


#: Where each endpoint is, below the base.
CONNECT: Final = "connect"
REDIRECT: Final = "redirect"
RETURN: Final = "return"
EVENTS: Final = "events"
WEBHOOK: Final = "webhook"

_COOKIE: Final = "bankconnect"
_ONWARD: Final = re.compile(
    r"(?:/(?![/\\])|https?://[^\s\\/?#]+)[^\x00-\x20\x7f\\]*"
)


@attrs.frozen(eq=False, init=False)
class CallbackProtocol:
    """
    The settings of the endpoints, and what each makes of a request.

    A method that reads returns a `WebResponse` if the request is refused.
    Otherwise the service acts on the result, and another method writes the
    response.

    Attributes:
        base: Below which the endpoints are, as browsers see it.
        next_url: Where customers go on.
        texts: What the pages say.
        allow_http: As for `AsyncBankConnect`.
    """

    base: URL
    next_url: str | None
    texts: PageTexts
    allow_http: bool
    _keys: Keys
    _post_check: Check = attrs.field(repr=False)
    _event_checks: tuple[Check, ...] = attrs.field(repr=False)
    _webhook_checks: tuple[Check, ...] = attrs.field(repr=False)

    def __init__(  # noqa: PLR0913
        self,
        base: str | URL,
        *,
        secret: Secrets,
        webhook_secret: str | None = None,
        require_webhook_secret: bool = True,
        next_url: str | None = None,
        max_age: datetime.timedelta = datetime.timedelta(days=30),
        texts: PageTexts = PageTexts(),  # noqa: B008 - frozen
        allow_http: bool = False,
        now: Callable[[], float] | None = None,
    ) -> None:
        """
        Check the settings.

        Args:
            base: Such as ``https://lender.example/bank``: scheme, host and
                path that browsers see, whatever proxies are in between.
            secret: At least 32 bytes that nobody else knows; or several, the
                newest first: it signs, and all of them verify.
            webhook_secret: What the vendor was told to send as
                `x-secret-key`.
            require_webhook_secret: Whether a webhook without that header is
                refused. One with a wrong value always is.
            next_url: A path or URL of the service, to which browsers go
                as soon as it has heard of the end. What the end was is not
                in it: the service knows, and nobody can forge that.
            max_age: How long a journey may take from its first page to its
                end.
            texts: What the pages say.
            allow_http: As for `AsyncBankConnect`.
            now: Seconds since 1970; the system's clock by default.

        Raises:
            ConfigurationError: Naming the bad settings in `fields`.
        """
        root = str(base).rstrip("/")
        keys = make_keys(f"{root}/{RETURN}", secret, max_age=max_age, now=now)
        if isinstance(keys, Keys) and not _is_onward(next_url):
            problem = ("is no path and no http(s) URL",)
            keys = ConfigurationError(fields={"next_url": problem})
        if isinstance(keys, ConfigurationError):
            # Secrets must not be locals of a frame that raises.
            del secret, webhook_secret
            raise keys
        base = keys.return_url.base.parent
        folder = f"{base.raw_path.rstrip('/')}/{WEBHOOK}/"
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue]
            base=base,
            next_url=next_url,
            texts=texts,
            allow_http=allow_http,
            keys=keys,
            post_check=origin_check(base),
            event_checks=event_checks(base),
            webhook_checks=webhook_checks(
                [folder + name for name in keys.webhook_names],
                webhook_secret,
                is_required=require_webhook_secret,
            ),
        )

    @property
    def webhook_url(self) -> str:
        """
        What to tell `AsyncBankConnect.update_webhook`.

        Nobody can guess it, and whoever learns of it can post webhooks.
        """
        return self._url(WEBHOOK, self._keys.webhook_names[0])

    def return_url(self, link_id: str) -> str:
        """
        Make the `redirect_url` of one session; see `ReturnURL.build`.
        """
        return str(self._keys.return_url.build(link_id))

    def _url(self, *path: str) -> str:
        return "/".join((str(self.base).rstrip("/"), *path))

    def check_visit(self, request: WebRequest) -> WebResponse | None:
        """
        Refuse what is no visit of a person to a page that creates a session.

        Whom another site has sent here is asked first, on a page with one
        button. It posts to the same address, and a post of our own page is
        as good as a visit.
        """
        if request.method == "POST":
            return refusal(request, (*VISIT_CHECKS, self._post_check))
        refused = refusal(request, VISIT_CHECKS)
        if refused is None and is_cross_site(request):
            return render_start_page(
                texts=self.texts, nonce=secrets.token_urlsafe(16)
            )
        return refused

    def listener(self, session: Session) -> Listener:
        """
        Make the listener for a page of your own around `iframe_html`.
        """
        return Listener(
            post_to=URL(self._url(EVENTS)).raw_path,
            token=self._keys.events.sign(session),
            success_text=self.texts.success,
            exit_text=self.texts.exit,
            unclear_text=self.texts.unclear,
            again_text=self.texts.again,
            leave_text=self.texts.leave,
        )

    def render_connect_page(self, session: Session) -> WebResponse:
        """
        Write the page that has the journey in a frame.

        Raises:
            InvalidRequestError: If the session's URL must not be opened.
        """
        nonce = secrets.token_urlsafe(16)
        listener = self.listener(session)
        return render_connect_page(
            iframe_html(
                session,
                listener=listener,
                nonce=nonce,
                title=self.texts.title,
                allow_http=self.allow_http,
            ),
            texts=self.texts,
            nonce=nonce,
            policy=content_security_policy(
                session, nonce=nonce, allow_http=self.allow_http
            ),
            event_type=listener.event_type,
            next_url=self.next_url,
        )

    def start_redirect(self, session: Session) -> WebResponse:
        """
        Send the browser to the journey, with a cookie for its return.

        The cookie says which session was created for whom. It is `Lax`: the
        journey is another site, and the way back begins there.
        """
        way_back = self._keys.return_url
        parts = (
            f"{_COOKIE}={self._keys.cookies.sign(session)}",
            f"Path={way_back.base.raw_path}",
            f"Max-Age={way_back.max_age.total_seconds():.0f}",
            "SameSite=Lax",
            "HttpOnly",
            *(["Secure"] if self.base.scheme == "https" else []),
        )
        return _see_other(
            str(session.redirect_url), {"Set-Cookie": "; ".join(parts)}
        )

    def parse_event(self, request: WebRequest) -> BrowserReport | WebResponse:
        """
        Read what the page around a frame posts.

        413, 415: The body is too large, not JSON, or compressed.
        403: It comes from another site, or with no token of ours.
        400: It holds no message of the vendor's.
        """
        return refusal(request, self._event_checks) or parse_post(
            request.body, self._keys.events
        )

    def parse_return(self, request: WebRequest) -> BrowserReport | WebResponse:
        """
        Read the URL by which a journey returned.

        403: The URL is forged or expired.
        400: It carries no outcome.
        """
        try:
            event = self._keys.return_url.decode(request.path)
        except InvalidCallbackError:
            return self._notice(
                HTTPStatus.FORBIDDEN, self.texts.unknown, self._again_at
            )
        except DecodeError:
            return self._notice(
                HTTPStatus.BAD_REQUEST, self.texts.unknown, self._again_at
            )
        session = self._keys.cookies.read(request.cookie(_COOKIE) or "")
        if session is not None and session.link_id != event.link_id:
            session = None
        return BrowserReport(event=event, session=session)

    def parse_webhook(self, request: WebRequest) -> Notification | WebResponse:
        """
        Read what the vendor posts.

        404: The URL is not the one that nobody can guess.
        403: The secret is wrong, or missing where it is required.
        413, 415: The body is too large, not JSON, or compressed.
        400: It is no JSON object. One that is, but is not understood, is a
        notification: it came to the secret URL, so it is not to be lost.
        """
        return refusal(request, self._webhook_checks) or parse_notification(
            request.body
        )

    def respond_to_event(self, status: HTTPStatus) -> WebResponse:
        """
        Tell the page whether its event was taken.
        """
        return plain(status, "" if _is_good(status) else status.phrase)

    def respond_to_return(
        self, status: HTTPStatus, event: Event
    ) -> WebResponse:
        """
        Send the customer on, or say how it ended.
        """
        if _is_good(status) and self.next_url is not None:
            return _see_other(self.next_url)
        if _is_good(status) and isinstance(event, SuccessEvent):
            return self._notice(status, self.texts.success)
        sentence = (
            self.texts.exit if _is_good(status) else self._problem(status)
        )
        return self._notice(status, sentence, again_at=self._again_at)

    def render_failure(self, status: HTTPStatus) -> WebResponse:
        """
        Write the page for a journey that could not begin.
        """
        # To the page itself.
        return self._notice(status, self._problem(status), again_at="")

    @property
    def _again_at(self) -> str:
        return URL(self._url(REDIRECT)).raw_path

    def _problem(self, status: HTTPStatus) -> str:
        texts: Mapping[HTTPStatus, str] = {
            HTTPStatus.FORBIDDEN: self.texts.unconfirmed,
            HTTPStatus.TOO_MANY_REQUESTS: self.texts.unavailable,
            HTTPStatus.BAD_GATEWAY: self.texts.unavailable,
            HTTPStatus.SERVICE_UNAVAILABLE: self.texts.unavailable,
        }
        return texts.get(status, self.texts.broken)

    def _notice(
        self, status: HTTPStatus, sentence: str, again_at: str | None = None
    ) -> WebResponse:
        # No content is what a program would be told.
        shown = HTTPStatus.OK if _is_good(status) else status
        return render_notice(
            sentence,
            texts=self.texts,
            nonce=secrets.token_urlsafe(16),
            status=shown,
            next_url=self.next_url,
            again_at=again_at,
        )


def _see_other(
    url: str, headers: Mapping[str, str] | None = None
) -> WebResponse:
    return WebResponse(
        status=HTTPStatus.SEE_OTHER,
        headers={**HEADERS, **(headers or {}), "Location": url},
    )


def _is_onward(next_url: str | None) -> bool:
    return next_url is None or bool(_ONWARD.fullmatch(next_url))


def _is_good(status: HTTPStatus) -> bool:
    return status < HTTPStatus.BAD_REQUEST
