"""
The redirect workflow: what the browser brings back, and where it comes to.

The browser carries all of this, so what it says is a claim. A `ReturnURL`
proves one thing only: for which `link_id` the session was created.
"""

import base64
import datetime
import hashlib
import re

from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, TypeAlias
from urllib.parse import unquote_plus, urlencode

import attrs

from yarl import URL

from bankconnect_async.errors import (
    ConfigurationError,
    DecodeError,
    InvalidCallbackError,
    InvalidRequestError,
)
from bankconnect_async.models._fields import structure
from bankconnect_async.models.events import (
    MAX_ID,
    Event,
    ExitEvent,
    ReturnQuery,
    SuccessEvent,
)


Secrets: TypeAlias = str | bytes | Sequence[str | bytes]

#: What the Session API takes as `redirect_url`.
MAX_LENGTH: Final = 200
#: Seconds by which the clock of a host that signs may be ahead of ours.
MAX_SKEW: Final = 60

_MIN_SECRET = 32
# Names the purpose, so that the same secret may serve others.
_SALT = "bankconnect_async.ReturnURL "
_STATE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_PARTS = re.compile(r"(?P<origin>[A-Za-z]+://[^/?#]*)?(?P<path>/[^?#]*)")
_BARE_QUERY = re.compile(r"[A-Za-z0-9_%.-]+=")


def build_redirect(url: str | URL, event: Event) -> URL:
    """
    Append *event* to *url*, as the journey does at its end.

    `decode_redirect` gives an equal event back. That is why a fact that no
    redirect carries (contract, section 1: link id, reason) is refused.

    Args:
        url: The `redirect_url` of the session.
        event: A `SuccessEvent` with an id, or an `ExitEvent`.

    Raises:
        InvalidRequestError: If a redirect cannot carry the event.
    """
    match event:
        case SuccessEvent(entity_id=entity_id, session_id=session_id) if (
            entity_id or session_id
        ) and event == SuccessEvent(
            entity_id=entity_id, session_id=session_id
        ):
            query = ReturnQuery(
                success="true", entity_id=entity_id, session_id=session_id
            )
        case ExitEvent() if event == ExitEvent():
            query = ReturnQuery(success="false")
        case _:
            raise InvalidRequestError(
                fields={"event": ("is more or less than a redirect carries",)}
            )
    given = {
        name: value
        for name, value in attrs.asdict(query).items()
        if value is not None
    }
    if max(map(len, given.values())) > MAX_ID:
        problem = (f"has an id of more than {MAX_ID} characters",)
        raise InvalidRequestError(fields={"event": problem})
    base, mark, fragment = str(url).partition("#")
    joint = "&" if "?" in base else "?"
    return URL(f"{base}{joint}{_quoted(given)}{mark}{fragment}", encoded=True)


def _quoted(parameters: dict[str, str]) -> str:
    try:
        return urlencode(parameters)
    except UnicodeEncodeError:
        problem = ("holds an id that is not Unicode",)
    raise InvalidRequestError(fields={"event": problem})


def decode_redirect(url: str | URL) -> SuccessEvent | ExitEvent:
    """
    Read the outcome that the journey appended to our redirect URL.

    A success has an id, under the name that the browser brought: the
    session flow has used both. An exit may be a failure: `is_failure` is
    `None`.

    Args:
        url: The URL, its path and query, or the query alone. One that holds
            a second ``?`` is understood (contract, U-15).

    Raises:
        DecodeError: If there is no usable outcome.
    """
    event = _decode(str(url))
    # Ids must not be locals of a frame that raises.
    del url
    if isinstance(event, DecodeError):
        raise event
    return event


def _decode(url: str) -> SuccessEvent | ExitEvent | DecodeError:
    parameters = _parameters(url)
    problems: list[str] = []
    query = structure(ReturnQuery, parameters, "$.query", problems)
    if problems:
        return DecodeError(problems=problems)
    match (query.success or "").strip().casefold():
        case "true" if query.entity_id or query.session_id:
            return SuccessEvent(
                entity_id=query.entity_id,
                session_id=query.session_id,
                raw=parameters,
            )
        case "false":
            return ExitEvent(raw=parameters)
        case _:
            return DecodeError(problems=["no usable outcome @ $.query"])


def _parameters(url: str) -> dict[str, str]:
    success, *ids = attrs.fields_dict(ReturnQuery)
    for part in url.partition("#")[::2]:
        pairs = _pairs(part)
        starts = [at for at, (key, _) in enumerate(pairs) if key == success]
        if starts:
            # The vendor appends: what stands before is the page's own query,
            # and may have parameters of the same name.
            appended = dict(pairs[starts[-1] :])
            return appended if appended.keys() & ids else dict(pairs)
    return {}


def _pairs(part: str) -> list[tuple[str, str]]:
    query = part if _BARE_QUERY.match(part) else part.partition("?")[2]
    split = (token.partition("=") for token in re.split("[&?]", query))
    return [(_unquoted(key), _unquoted(value)) for key, _, value in split]


def _unquoted(escaped: str) -> str:
    # The reader of texts refuses what is no UTF-8.
    return unquote_plus(escaped, errors="surrogateescape")


@attrs.frozen(eq=False, init=False)
class ReturnURL:
    """
    Redirect URLs that tell, and prove, whose session it was.

    Each is *base*, a slash and a signed state, which holds the `link_id` and
    the time. The state can be read by anyone and made by nobody else. It is
    in the path, because the vendor may append its parameters with a second
    ``?`` (contract, U-15).

    Attributes:
        base: Where the return page is, as the browser sees it.
        max_age: How long such a URL is good.
    """

    base: URL
    max_age: datetime.timedelta
    _signer: Any = attrs.field(repr=False)

    def __init__(
        self,
        base: str | URL,
        *,
        secret: Secrets,
        max_age: datetime.timedelta = datetime.timedelta(days=30),
        now: Callable[[], float] | None = None,
    ) -> None:
        """
        Check the settings.

        Args:
            base: An absolute http or https URL without query. Whatever
                proxies stand before the service, it is the public one.
            secret: At least 32 bytes that nobody else knows; or several, the
                newest first: it signs, and all of them verify.
            max_age: How long a URL is good. A journey may last as long as
                its session.
            now: Seconds since 1970; the system's clock by default.

        Raises:
            ConfigurationError: With every bad setting in `fields`.
        """
        secrets = _secrets(secret)
        problems = {
            "base": _base_problem(base),
            "secret": None if secrets else _SECRET_PROBLEM,
            "max_age": _max_age_problem(max_age),
        }
        fields = {name: (text,) for name, text in problems.items() if text}
        if fields:
            # Nor must secrets be locals of a frame that raises.
            del secret, secrets
            raise ConfigurationError(fields=fields)
        text = str(URL(str(base))).rstrip("/")
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue]
            URL(text), max_age, _make_signer(text, secrets, now)
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ReturnURL holds secrets and cannot be pickled")

    def build(self, link_id: str) -> URL:
        """
        Make the `redirect_url` of one session.

        Args:
            link_id: Your id of the customer.

        Raises:
            InvalidRequestError: If *link_id* is no text, or so long that the
                URL has more than 200 characters.
        """
        if not isinstance(link_id, str) or not link_id.strip():
            raise InvalidRequestError(
                fields={"link_id": ("must be a text that is not blank",)}
            )
        try:
            payload = base64.urlsafe_b64encode(link_id.encode())
        except UnicodeEncodeError:
            payload = b""
        if not payload:
            raise InvalidRequestError(
                fields={"link_id": ("holds bytes that are not UTF-8",)}
            )
        state = self._signer.sign(payload.rstrip(b"=")).decode()
        url = f"{self.base}/{state}"
        if (excess := len(url) - MAX_LENGTH) > 0:
            problem = (
                f"has {len(url)} characters, at most {MAX_LENGTH} are taken:"
                f" shorten the base ({len(str(self.base))} characters) by"
                f" {excess}, or link_id ({len(link_id)} characters, 4 in the"
                " URL for 3 bytes)"
            )
            raise InvalidRequestError(fields={"redirect_url": (problem,)})
        return URL(url, encoded=True)

    def decode(self, url: str | URL) -> SuccessEvent | ExitEvent:
        """
        Verify a return, and read its outcome with the signed `link_id`.

        Ids of a success are still what the browser says: confirm them.

        Args:
            url: Path and query as the service got them, or a URL. A proxy
                may have changed scheme and host of what the service sees, so
                a URL must be the public one.

        Raises:
            InvalidCallbackError: If the URL is forged, expired or foreign.
            DecodeError: If it is good and carries no outcome.
        """
        event = self._decode(str(url))
        del url
        if isinstance(event, InvalidCallbackError | DecodeError):
            raise event
        return event

    def _decode(
        self, url: str
    ) -> SuccessEvent | ExitEvent | InvalidCallbackError | DecodeError:
        state = _state(self.base, url)
        if state is None:
            return InvalidCallbackError("the URL is not a return URL of ours")
        verified = self._verify(state)
        if isinstance(verified, InvalidCallbackError):
            return verified
        event = _decode(url)
        if isinstance(event, DecodeError):
            return event
        return attrs.evolve(event, link_id=verified)

    def _verify(self, state: str) -> str | InvalidCallbackError:
        from itsdangerous import BadData, base64_decode  # noqa: PLC0415

        try:
            # Not with its max_age: that refuses what a host whose clock is
            # ahead has signed just now.
            payload, signed_at = self._signer.unsign(
                state, return_timestamp=True
            )
        except BadData:
            return InvalidCallbackError("the state of the URL is forged")
        if not has_one_spelling(state):
            return InvalidCallbackError("the state of the URL is forged")
        age = self._signer.get_timestamp() - signed_at.timestamp()
        if age < -MAX_SKEW:
            return InvalidCallbackError("the URL is from the future")
        if age > self.max_age.total_seconds():
            return InvalidCallbackError("the URL has expired", expired=True)
        return str(base64_decode(payload).decode())


def has_one_spelling(signed: str) -> bool:
    """
    Tell whether a signature is written as the signer writes it.

    Of its last character, two bits are not read: with other bits there, the
    same signature would be another text.
    """
    from itsdangerous import (  # noqa: PLC0415
        BadData,
        base64_decode,
        base64_encode,
    )

    signature = signed.rpartition(".")[2]
    try:
        return bool(
            base64_encode(base64_decode(signature)) == signature.encode()
        )
    except (BadData, UnicodeError):
        return False


def without_state(url: str, link_id: str) -> str:
    """
    Take the state of *link_id* off a URL, if `ReturnURL.build` put one there.

    What is left is the same for each URL of one base.
    """
    base, slash, state = url.rpartition("/")
    if not _STATE.fullmatch(state):
        return url
    payload = base64.urlsafe_b64encode(link_id.encode()).decode().rstrip("=")
    return base + slash if state.startswith(f"{payload}.") else url


_SECRET_PROBLEM = f"must be {_MIN_SECRET} bytes or more, or a list of such"


def _secrets(secret: Secrets) -> list[bytes]:
    several = [secret] if isinstance(secret, str | bytes) else secret
    try:
        # A join, unlike bytes(), makes no zeros of a number.
        secrets = [
            one.encode() if isinstance(one, str) else b"".join([one])
            for one in several
        ]
    except (TypeError, ValueError):
        return []
    return secrets if min(map(len, secrets), default=0) >= _MIN_SECRET else []


def _base_problem(base: str | URL) -> str | None:
    try:
        url = URL(str(base))
        origin, length = url.origin(), len(str(url).rstrip("/"))
    except (ValueError, IndexError):
        return "is not an absolute URL"
    if origin.scheme not in {"http", "https"}:
        return "is not an http or https URL"
    if url.user or url.password or "?" in str(base) or "#" in str(base):
        return "must be scheme, host and path only"
    # A slash, two characters of link id, six of time, the signature, dots.
    if (excess := length + 1 + 2 + 6 + 43 + 2 - MAX_LENGTH) > 0:
        return f"leaves no room for a link id: it is {excess} too long"
    return None


def _max_age_problem(max_age: object) -> str | None:
    if not isinstance(max_age, datetime.timedelta):
        return f"must be a timedelta, not {type(max_age).__name__}"
    return None if max_age > datetime.timedelta(0) else "must be above 0"


def _make_signer(
    base: str, newest_first: list[bytes], now: Callable[[], float] | None
) -> Any:
    from itsdangerous import TimestampSigner  # noqa: PLC0415

    signer = TimestampSigner(
        # It signs with the last of them.
        newest_first[::-1],
        # A state for one page is none for another.
        salt=_SALT + base,
        key_derivation="hmac",
        digest_method=hashlib.sha256,
    )
    if now is not None:
        signer.get_timestamp = (  # type: ignore[method-assign]
            lambda: int(now())
        )
    return signer


def _state(base: URL, text: str) -> str | None:
    # Not yarl: its parser lets an IndexError out for some texts, drops
    # control characters from others, and this one is an attacker's.
    parts = _PARTS.match(text)
    if parts is None:
        return None
    origin, path = parts["origin"], parts["path"]
    if origin is not None and origin.lower() not in _spellings(base):
        return None
    prefix = base.raw_path.rstrip("/") + "/"
    state = path.removeprefix(prefix)
    return state if path != state and _STATE.fullmatch(state) else None


def _spellings(base: URL) -> tuple[str, str]:
    origin = base.origin()
    return str(
        origin
    ), f"{origin.scheme}://{origin.host_subcomponent}:{origin.port}"
