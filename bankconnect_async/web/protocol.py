"""
The endpoints without I/O: parse requests and render responses.
"""

import datetime
import re
import secrets

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

import attrs

from yarl import URL

from bankconnect_async._codec.return_urls import Secrets
from bankconnect_async._codec.session_requests import is_plain_http
from bankconnect_async._tracebacks import hide_frames
from bankconnect_async.clock import SYSTEM_CLOCK
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
from bankconnect_async.models.events import SuccessEvent
from bankconnect_async.models.sessions import Session

from .guards import (
    VISIT_CHECKS,
    Check,
    apply_checks,
    event_checks,
    is_cross_site,
    origin_check,
    webhook_checks,
)
from .http import HEADERS, WebRequest, WebResponse, plain
from .invitations import Invitation, InvitationLinks, InvitationParameters
from .pages import PageRenderer, PageTexts
from .reports import (
    BrowserReport,
    Notification,
    parse_notification,
    parse_post,
)
from .tokens import SigningKeys, derive_keys


#: The path of each endpoint, below the base.
CONNECT: Final = "connect"
REDIRECT: Final = "redirect"
RETURN: Final = "return"
EVENTS: Final = "events"
WEBHOOK: Final = "webhook"
INVITATION: Final = "invitation"

_COOKIE: Final = "bankconnect"
_AFTER: Final = "bankconnect_after"
_AFTER_PART: Final = re.compile(rf"[?&]{_AFTER}=([0-9]{{1,16}})(?:&|$)")
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)
# As long as the reference of a return URL.
_REFERENCE: Final = re.compile(r"[0-9a-f]{8}\Z")
_DEFAULT_TEXTS: Final = PageTexts()
_FORTNIGHT: Final = datetime.timedelta(days=14)
#: The reason why a URL without TLS is refused.
PLAIN_HTTP: Final = (
    "uses plain http, which would show customers' data and the path of "
    "webhooks; use https, even if a proxy ends TLS, or allow_http=True for a "
    "sandbox on a private network"
)
_NEXT_URL: Final = re.compile(
    r"(?:/(?![/\\])|https?://[^\s\\/?#]+)[^\x00-\x20\x7f\\]*"
)


@attrs.frozen(eq=False, init=False)
class CallbackProtocol:
    """
    The settings of the endpoints, their parsers and their responses.

    A method that parses returns a `WebResponse` if it refuses the request.
    Otherwise the service acts on the result, and another method makes the
    response.

    Attributes:
        base: The URL below which the endpoints are, as browsers see it.
        next_url: The address of the service to which customers go next.
        texts: The texts of the pages.
        allow_http: Whether the base and journeys may be without TLS.
        invitation_frame: Whether the journeys of invitations are in a frame.
    """

    base: URL
    next_url: str | None
    texts: PageTexts = attrs.field(repr=False)
    allow_http: bool
    invitation_frame: bool
    _now: Callable[[], float] = attrs.field(repr=False)
    _keys: SigningKeys = attrs.field(repr=False)
    _pages: PageRenderer = attrs.field(repr=False)
    _post_check: Check = attrs.field(repr=False)
    _event_checks: tuple[Check, ...] = attrs.field(repr=False)
    _webhook_checks: tuple[Check, ...] = attrs.field(repr=False)

    @hide_frames
    def __init__(  # noqa: PLR0913
        self,
        base: str | URL,
        *,
        secret: Secrets,
        webhook_secret: str | None = None,
        require_webhook_secret: bool = True,
        next_url: str | None = None,
        max_age: datetime.timedelta = datetime.timedelta(days=30),
        texts: PageTexts = _DEFAULT_TEXTS,
        allow_http: bool = False,
        invitation_frame: bool = False,
        now: Callable[[], float] | None = None,
    ) -> None:
        """
        Check the settings.

        Args:
            base: A URL such as ``https://lender.example/bank``, with the
                scheme, host and path that browsers see in front of any
                proxies.
            secret: At least 32 secret bytes, or several such keys, newest
                first: the newest one signs, and all of them verify.
            webhook_secret: The value of `x-secret-key` that the vendor was
                told to send.
            require_webhook_secret: Whether a webhook without that header is
                refused. A wrong value always is.
            next_url: A path or URL of the service to which browsers go once
                the service has handled the outcome: from the frame after
                every end, by redirect after a success. It does not contain
                the outcome, because a browser could forge that.
            max_age: The longest time from the first page of a journey to
                its end.
            texts: The texts of the pages.
            allow_http: Whether *base*, and the URLs of journeys in a frame,
                may be of a host without TLS other than this machine, such as
                a container.
            invitation_frame: Whether the journeys of invitations are in a
                frame, rather than behind a redirect.
            now: A function that returns the seconds since 1970; the
                system's clock by default.

        Raises:
            ConfigurationError: With the bad settings in `fields`.
        """
        root = str(base).rstrip("/")
        keys = derive_keys(
            f"{root}/{RETURN}", secret, max_age=max_age, now=now
        )
        if not _is_next_url(next_url):
            problem = ("must be a path or an http(s) URL",)
            raise ConfigurationError(fields={"next_url": problem})
        base = keys.return_url.base.parent
        if is_plain_http(base) and not allow_http:
            raise ConfigurationError(fields={"base": (PLAIN_HTTP,)})
        folder = f"{base.raw_path.rstrip('/')}/{WEBHOOK}/"
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue]
            base=base,
            next_url=next_url,
            texts=texts,
            allow_http=allow_http,
            invitation_frame=invitation_frame,
            now=SYSTEM_CLOCK.time if now is None else now,
            keys=keys,
            pages=PageRenderer(texts=texts, next_url=next_url),
            post_check=origin_check(base),
            event_checks=event_checks(base),
            webhook_checks=webhook_checks(
                [folder + path for path in keys.webhook_paths],
                webhook_secret,
                is_required=require_webhook_secret,
            ),
        )

    def now(self) -> datetime.datetime:
        """
        Return the time.
        """
        return datetime.datetime.fromtimestamp(self._now(), datetime.UTC)

    @property
    def webhook_url(self) -> str:
        """
        The URL to pass to `AsyncBankConnect.update_webhook`.

        It is a secret: anyone who knows it can post webhooks.
        """
        return self._url(WEBHOOK, self._keys.webhook_paths[0])

    def return_url(self, link_id: str, entry_id: str | None = None) -> str:
        """
        Make the `redirect_url` of one session; see `ReturnURL.build`.

        Args:
            link_id: Your id of the customer.
            entry_id: The id of the session's entry in the store, by which a
                return finds it.
        """
        reference = _reference(entry_id)
        return str(self._keys.return_url.build(link_id, reference=reference))

    def invitation_url(
        self,
        link_id: str,
        *,
        invitation_id: str,
        max_age: datetime.timedelta = _FORTNIGHT,
        parameters: InvitationParameters | None = None,
    ) -> str:
        """
        Make a link for mail or SMS, whose tap begins a journey.

        No session is created before, so a link costs nothing. It is signed,
        not encrypted: it shows everything that it is made from.

        Args:
            link_id: Your id of the customer.
            invitation_id: Your id of the campaign or the loan: one customer
                can submit statements once for each.
            max_age: The lifetime of the link.
            parameters: The session's parameters; only dates, *bank_name* and
                *mode*.

        Raises:
            InvalidRequestError: If an argument cannot be in a link, or the
                link, or the return URL of its session, is too long.
        """
        if not self.invitation_frame:
            # It would fail when the customer taps.
            self.return_url(link_id)
        return self._invitations.build(
            link_id,
            invitation_id=invitation_id,
            max_age=max_age,
            parameters={} if parameters is None else parameters,
        )

    @property
    def _invitations(self) -> InvitationLinks:
        return InvitationLinks(
            URL(self._url(INVITATION)), self._keys.invitations
        )

    def _url(self, *path: str) -> str:
        return "/".join((str(self.base).rstrip("/"), *path))

    def check_visit(self, request: WebRequest) -> WebResponse | None:
        """
        Refuse a request for a session that no person made.

        A visitor from another site gets a page whose button posts to the
        same address. Such a post counts as a visit.

        405: It is neither a GET nor a POST.
        403: Another site embeds, fetches or posts it, or it is a prefetch.
        """
        if request.method == "POST":
            return apply_checks(request, (*VISIT_CHECKS, self._post_check))
        refused = apply_checks(request, VISIT_CHECKS)
        if refused is None and is_cross_site(request):
            return self._pages.render_start_page(self.texts.ask)
        return refused

    def listener(self, session: Session) -> Listener:
        """
        Return the listener for your own page around `iframe_html`.
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

    def start_again_url(
        self, request: WebRequest, created_at: datetime.datetime
    ) -> str:
        """
        Make the address to which a button posts for another session.

        `parse_start_again` reads it. So two taps at once, or a reload, give
        one new session.

        Args:
            request: The request for the page.
            created_at: When the session was created that the page continues.
        """
        path, _, query = request.path.partition("?")
        others = [
            part
            for part in query.split("&")
            if part and not part.startswith(f"{_AFTER}=")
        ]
        mark = f"{_AFTER}={(created_at - _EPOCH) // _MICROSECOND}"
        return f"{path}?{'&'.join([*others, mark])}"

    def parse_start_again(
        self, request: WebRequest
    ) -> datetime.datetime | None:
        """
        Return the time of the session that the customer starts again.

        It is `None` if the customer does not start again. A session that was
        created until then is not continued.
        """
        found = _AFTER_PART.search(request.path)
        if found is None or request.method != "POST":
            return None
        return _EPOCH + int(found[1]) * _MICROSECOND

    def render_continue_page(self, start_again_url: str) -> WebResponse:
        """
        Ask whether to continue the journey or to begin another one.
        """
        return self._pages.render_start_page(
            self.texts.started, start_again_url=start_again_url
        )

    def render_connect_page(
        self, session: Session, *, start_again_url: str | None = None
    ) -> WebResponse:
        """
        Render the page with the journey in a frame.

        Args:
            session: The session.
            start_again_url: The address to which a button posts that begins
                another journey; `None` for no button.

        Raises:
            InvalidRequestError: If the session's URL must not be opened.
        """
        nonce = secrets.token_urlsafe(16)
        listener = self.listener(session)
        return self._pages.render_connect_page(
            iframe_html(
                session,
                listener=listener,
                nonce=nonce,
                title=self.texts.title,
                allow_http=self.allow_http,
            ),
            nonce=nonce,
            policy=content_security_policy(
                session,
                nonce=nonce,
                allow_http=self.allow_http,
                has_form=start_again_url is not None,
            ),
            event_type=listener.event_type,
            start_again_url=start_again_url,
        )

    def start_redirect(
        self,
        session: Session,
        *,
        entry_id: str | None = None,
        retry_path: str | None = None,
    ) -> WebResponse:
        """
        Redirect the browser to the journey, with a cookie for its return.

        The cookie names the customer and the session. It is `Lax`, because
        the browser returns from another site.

        Args:
            session: The session.
            entry_id: The *entry_id* of its return URL: the cookie is then for
                this journey alone.
            retry_path: The path at which another journey begins; by default
                that of the redirect.
        """
        # Long ids leave no room for the journey in a return URL.
        way_back = URL(self.return_url(session.link_id, entry_id))
        max_age = self._keys.return_url.max_age
        parts = (
            f"{_COOKIE}={self._keys.cookies.sign(session, retry_path)}",
            f"Path={way_back.raw_path.rpartition('/')[0]}",
            f"Max-Age={max_age.total_seconds():.0f}",
            "SameSite=Lax",
            "HttpOnly",
            *(["Secure"] if self.base.scheme == "https" else []),
        )
        return _see_other(
            str(session.redirect_url), {"Set-Cookie": "; ".join(parts)}
        )

    def parse_event(self, request: WebRequest) -> BrowserReport | WebResponse:
        """
        Parse an event that the page around a frame posts.

        413, 415: The body is too large, not JSON, or compressed.
        403: It comes from another site, or its token is not valid.
        400: It holds no message of the vendor's.
        """
        return apply_checks(request, self._event_checks) or parse_post(
            request.body, self._keys.events
        )

    def parse_return(self, request: WebRequest) -> BrowserReport | WebResponse:
        """
        Parse the URL by which a journey returned.

        403: The URL is forged or expired.
        400: It carries no outcome.
        """
        try:
            event, reference = self._keys.return_url.decode_journey(
                request.path
            )
        except InvalidCallbackError:
            return self._notice(
                HTTPStatus.FORBIDDEN, self.texts.unknown, self._retry_url
            )
        except DecodeError:
            return self._notice(
                HTTPStatus.BAD_REQUEST, self.texts.unknown, self._retry_url
            )
        signed = self._keys.cookies.verify(request.cookie(_COOKIE) or "")
        if signed is None or signed.session.link_id != event.link_id:
            return BrowserReport(
                event=event, session=None, reference=reference
            )
        return BrowserReport(
            event=event,
            session=signed.session,
            reference=reference,
            retry_path=signed.retry_path,
        )

    def parse_invitation(
        self, request: WebRequest
    ) -> Invitation | WebResponse:
        """
        Parse the link of an invitation, which a GET opens and a POST taps.

        403: The link is forged, or another site posts.
        410: It has expired.
        """
        try:
            invitation = self._invitations.verify(request.path)
        except InvalidCallbackError as error:
            status, text = (
                (HTTPStatus.GONE, self.texts.invitation_expired)
                if error.expired
                else (HTTPStatus.FORBIDDEN, self.texts.invitation_unknown)
            )
            return self._pages.render_notice(text, status=status)
        if request.method != "POST":
            return invitation
        return self.check_visit(request) or invitation

    def render_invitation(self) -> WebResponse:
        """
        Render the page whose button begins the journey.
        """
        return self._pages.render_start_page(self.texts.invitation)

    def render_used_invitation(self) -> WebResponse:
        """
        Render the page for an invitation whose statements were submitted.
        """
        return self._pages.render_notice(self.texts.invitation_used)

    def parse_webhook(self, request: WebRequest) -> Notification | WebResponse:
        """
        Parse a webhook.

        404: The URL is not the secret one.
        403: The secret is wrong, or missing where it is required.
        413, 415: The body is too large, not JSON, or compressed.
        400: It is not a JSON object. An object that cannot be decoded is
        still a notification: it came to the secret URL, so it must not be
        lost.
        """
        return apply_checks(
            request, self._webhook_checks
        ) or parse_notification(request.body)

    def respond_to_event(self, status: HTTPStatus) -> WebResponse:
        """
        Make the response to an event.
        """
        return plain(status, "" if _is_good(status) else status.phrase)

    def respond_to_return(
        self, status: HTTPStatus, report: BrowserReport
    ) -> WebResponse:
        """
        Redirect the customer to `next_url`, or render the outcome.

        After anything but a success there is a page that offers to try again,
        because a redirect does not tell an exit from a failure (contract,
        U-17).
        """
        retry_url = report.retry_path or self._retry_url
        if not _is_good(status):
            return self._notice(status, self._problem(status), retry_url)
        if not isinstance(report.event, SuccessEvent):
            return self._notice(status, self.texts.unclear, retry_url)
        if self.next_url is not None:
            return _see_other(self.next_url)
        return self._notice(status, self.texts.success)

    def render_failure(self, status: HTTPStatus) -> WebResponse:
        """
        Render the page for a journey that could not begin.
        """
        # An empty link leads to the page itself.
        return self._notice(status, self._problem(status), retry_url="")

    @property
    def _retry_url(self) -> str:
        return URL(self._url(REDIRECT)).raw_path

    def _problem(self, status: HTTPStatus) -> str:
        texts: Mapping[HTTPStatus, str] = {
            HTTPStatus.FORBIDDEN: self.texts.unconfirmed,
            HTTPStatus.TOO_MANY_REQUESTS: self.texts.unavailable,
            HTTPStatus.SERVICE_UNAVAILABLE: self.texts.unavailable,
        }
        return texts.get(status, self.texts.broken)

    def _notice(
        self, status: HTTPStatus, sentence: str, retry_url: str | None = None
    ) -> WebResponse:
        # A status of 204 has no page.
        shown = HTTPStatus.OK if _is_good(status) else status
        return self._pages.render_notice(
            sentence, status=shown, retry_url=retry_url
        )


def _reference(entry_id: str | None) -> str | None:
    # The end of the id, because its beginning is the time.
    found = _REFERENCE.search(entry_id or "")
    return found and found[0]


def _see_other(
    url: str, headers: Mapping[str, str] | None = None
) -> WebResponse:
    return WebResponse(
        status=HTTPStatus.SEE_OTHER,
        headers={**HEADERS, **(headers or {}), "Location": url},
    )


def _is_next_url(next_url: str | None) -> bool:
    return next_url is None or bool(_NEXT_URL.fullmatch(next_url))


def _is_good(status: HTTPStatus) -> bool:
    return status < HTTPStatus.BAD_REQUEST
