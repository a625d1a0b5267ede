"""
Return URLs: redirect URLs with a signed `link_id`.

A `ReturnURL` proves one thing only: for which `link_id` the session was
created.
"""

import datetime
import hashlib
import re

from collections.abc import Callable, Sequence
from typing import Final, NoReturn, TypeAlias

import attrs

from itsdangerous import (
    BadData,
    TimestampSigner,
    base64_decode,
    base64_encode,
)
from yarl import URL

from bankconnect_async._tracebacks import hide_frames
from bankconnect_async.errors import (
    ConfigurationError,
    InvalidCallbackError,
    InvalidRequestError,
)
from bankconnect_async.models.events import ExitEvent, SuccessEvent

from .redirects import STATE, decode_redirect


Secrets: TypeAlias = str | bytes | Sequence[str | bytes]

#: The seconds by which the clock of a host that signs may be fast.
MAX_SKEW: Final = 60

# The longest `redirect_url` that the Session API accepts.
_MAX_LENGTH: Final = 200
# The length of a SHA-256 signature in base64.
_SIGNATURE_LENGTH: Final = 43
_MIN_SECRET: Final = 32
# Names the purpose, so that the same secret may serve others.
_SALT: Final = "bankconnect_async.ReturnURL "
_SECRET_PROBLEM: Final = (
    f"must be {_MIN_SECRET} bytes or more, or a list of such"
)
_FORGED: Final = "the state of the URL is forged"
_PARTS: Final = re.compile(
    r"(?P<origin>[A-Za-z]+://[^/?#]*)?(?P<path>/[^?#]*)"
)


@attrs.frozen(eq=False, init=False)
class ReturnURL:
    """
    Redirect URLs that carry a signed `link_id`.

    Each is *base*, a slash and a signed state, which holds the `link_id` and
    the time. Anyone can read the state, and nobody else can make one. It is in
    the path, because the vendor may append its parameters with a second ``?``
    (contract, U-15).

    Attributes:
        base: The URL of the return page, as the browser sees it.
        max_age: The lifetime of such a URL.
    """

    base: URL
    max_age: datetime.timedelta
    _signer: TimestampSigner = attrs.field(repr=False)

    @hide_frames
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
            base: The absolute http or https URL, without query; the public
                one, if there are proxies before the service.
            secret: At least 32 secret bytes, or several such secrets, the
                newest first: it signs, and all of them verify.
            max_age: The lifetime of a URL. A journey may last as long as its
                session.
            now: The clock, in seconds since 1970; by default the system's.

        Raises:
            ConfigurationError: With every bad setting in `fields`.
        """
        secrets = parse_secrets(secret)
        problems = {
            "base": _base_problem(base),
            "secret": None if secrets else _SECRET_PROBLEM,
            "max_age": _max_age_problem(max_age),
        }
        fields = {name: (text,) for name, text in problems.items() if text}
        if fields:
            raise ConfigurationError(fields=fields)
        text = str(URL(str(base))).rstrip("/")
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue]
            URL(text), max_age, _make_signer(text, secrets, now)
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ReturnURL holds secrets and cannot be pickled")

    def build(self, link_id: str, *, reference: str | None = None) -> URL:
        """
        Return the `redirect_url` of one session.

        Args:
            link_id: Your id of the customer.
            reference: Eight hexadecimal digits that tell journeys of one
                customer apart. They are left out if the URL would be too
                long.

        Raises:
            InvalidRequestError: If *link_id* is not a text, or so long that
                the URL has more than 200 characters.
        """
        if not isinstance(link_id, str) or not link_id.strip():
            raise _link_id_error("must be a text that is not blank")
        try:
            payload = base64_encode(link_id.encode())
        except UnicodeEncodeError:
            raise _link_id_error("holds bytes that are not UTF-8") from None
        url = f"{self.base}/{self._sign(payload)}"
        if reference is not None:
            longer = self._sign(f"{reference}/".encode() + payload)
            if len(f"{self.base}/{longer}") <= _MAX_LENGTH:
                url = f"{self.base}/{longer}"
        if (excess := len(url) - _MAX_LENGTH) > 0:
            problem = (
                f"has {len(url)} characters, at most {_MAX_LENGTH} are taken:"
                f" shorten the base ({len(str(self.base))} characters) by"
                f" {excess}, or link_id ({len(link_id)} characters, 4 in the"
                " URL for 3 bytes)"
            )
            raise InvalidRequestError(fields={"redirect_url": (problem,)})
        return URL(url, encoded=True)

    def _sign(self, payload: bytes) -> str:
        return self._signer.sign(payload).decode()

    def decode(self, url: str | URL) -> SuccessEvent | ExitEvent:
        """
        Verify a return, and decode its outcome with the signed `link_id`.

        The ids of a success are still claims of the browser: confirm them.

        Args:
            url: The path and query as the service got them, or a URL. A proxy
                may change scheme and host for the service, so a URL must be
                the public one.

        Raises:
            InvalidCallbackError: If the URL is forged, expired or foreign.
            DecodeError: If it is genuine but carries no outcome.
        """
        event, _ = self.decode_journey(url)
        return event

    @hide_frames
    def decode_journey(
        self, url: str | URL
    ) -> tuple[SuccessEvent | ExitEvent, str | None]:
        """
        Decode a return, and the *reference* that its URL was built with.

        Args:
            url: The URL, as for `decode`.

        Raises:
            InvalidCallbackError: If the URL is forged, expired or foreign.
            DecodeError: If it is genuine but carries no outcome.
        """
        link_id, reference = self._verify(str(url))
        event = attrs.evolve(decode_redirect(url), link_id=link_id)
        return event, reference

    def _verify(self, url: str) -> tuple[str, str | None]:
        state = _state(self.base, url)
        if state is None:
            raise InvalidCallbackError("the URL is not a return URL of ours")
        try:
            # Its own check of the age would refuse a state that a host with a
            # fast clock signed just now.
            payload, signed_at = self._signer.unsign(
                state, return_timestamp=True
            )
        except BadData:
            raise InvalidCallbackError(_FORGED) from None
        if not has_one_spelling(state):
            raise InvalidCallbackError(_FORGED)
        age = self._signer.get_timestamp() - signed_at.timestamp()
        if age < -MAX_SKEW:
            raise InvalidCallbackError("the URL is from the future")
        if age > self.max_age.total_seconds():
            raise InvalidCallbackError("the URL has expired", expired=True)
        reference, _, encoded = payload.decode().rpartition("/")
        return base64_decode(encoded).decode(), reference or None


def _link_id_error(problem: str) -> InvalidRequestError:
    return InvalidRequestError(fields={"link_id": (problem,)})


def has_one_spelling(signed: str) -> bool:
    """
    Return whether a signature is spelled as the signer spells it.

    Two bits of its last character are ignored on decoding: with other bits,
    the same signature would be another text.
    """
    signature = signed.rpartition(".")[2]
    try:
        return base64_encode(base64_decode(signature)) == signature.encode()
    except (BadData, UnicodeError):
        return False


def parse_secrets(secret: Secrets) -> list[bytes]:
    """
    Return the secrets as bytes, or none at all if one is bad or too short.
    """
    several = [secret] if isinstance(secret, str | bytes) else secret
    try:
        # bytes() would make zeros of a number; a join raises.
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
    shortest = length + 1 + 2 + 6 + _SIGNATURE_LENGTH + 2
    if (excess := shortest - _MAX_LENGTH) > 0:
        return f"leaves no room for a link id: it is {excess} too long"
    return None


def _max_age_problem(max_age: object) -> str | None:
    if not isinstance(max_age, datetime.timedelta):
        return f"must be a timedelta, not {type(max_age).__name__}"
    return None if max_age > datetime.timedelta(0) else "must be above 0"


def _make_signer(
    base: str, newest_first: list[bytes], now: Callable[[], float] | None
) -> TimestampSigner:
    signer = TimestampSigner(
        # The signer uses the last secret to sign.
        newest_first[::-1],
        # A state of one page is not valid for another.
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
    # Not yarl, because the text may be an attacker's: its parser raises
    # IndexError for some texts and drops control characters from others.
    parts = _PARTS.match(text)
    if parts is None:
        return None
    origin, path = parts["origin"], parts["path"]
    if origin is not None and origin.lower() not in _spellings(base):
        return None
    prefix = base.raw_path.rstrip("/") + "/"
    state = path.removeprefix(prefix)
    return state if path != state and STATE.fullmatch(state) else None


def _spellings(base: URL) -> tuple[str, str]:
    origin = base.origin()
    host = origin.host_subcomponent
    return str(origin), f"{origin.scheme}://{host}:{origin.port}"
