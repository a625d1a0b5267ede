"""
Keys and tokens that are derived from the service's secret.

A token names the customer and the session for which it was signed.
"""

import datetime
import hashlib
import hmac
import json

from collections.abc import Callable
from typing import Any, Final

import attrs

from itsdangerous import (
    BadData,
    TimestampSigner,
    URLSafeTimedSerializer,
    base64_encode,
)
from yarl import URL

from bankconnect_async._codec.return_urls import (
    MAX_SKEW,
    ReturnURL,
    Secrets,
    has_one_spelling,
    parse_secrets,
)
from bankconnect_async.models.sessions import Session


# It separates these keys from other uses of the same secret.
_SALT: Final = "bankconnect_async.web"


@attrs.frozen(eq=False)
class TokenSigner:
    """
    Signs and verifies tokens of one purpose.
    """

    _serializer: Any = attrs.field(repr=False)
    _max_age: float

    def sign(self, session: Session, retry_path: str | None = None) -> str:
        """
        Make the token of *session*: signed, not encrypted.

        Args:
            session: The session.
            retry_path: The path at which another journey begins.
        """
        path = [] if retry_path is None else [retry_path]
        return str(
            self._serializer.dumps(
                [session.link_id, session.session_id, *path]
            )
        )

    def verify(self, token: str) -> "SignedSession | None":
        """
        Return the session of *token*, without its URL.

        The result is `None` if the token is forged or expired.
        """
        found = load_signed(self._serializer, token)
        if found is None or found.age > self._max_age:
            return None
        link_id, session_id, *path = found.value
        session = Session(
            link_id=link_id, session_id=session_id, redirect_url=URL()
        )
        return SignedSession(session, *path)


@attrs.frozen
class SignedSession:
    """
    The session that a token names.

    Attributes:
        session: The session, without its URL.
        retry_path: The path at which another journey begins; `None` for that
            of the redirect.
    """

    session: Session
    retry_path: str | None = None


@attrs.frozen
class Signed:
    """
    The content of a genuine token.

    Attributes:
        value: The value.
        age: The seconds since it was signed.
    """

    value: Any
    age: float


def load_signed(serializer: Any, token: str) -> Signed | None:
    """
    Verify the signature of *token*; `None` if it is forged.
    """
    try:
        # Its own max_age refuses a token from a host whose clock is
        # slightly ahead.
        value, signed_at = serializer.loads(token, return_timestamp=True)
    # A cookie of another application may not be valid text.
    except (BadData, UnicodeError):
        return None
    age = serializer.make_signer().get_timestamp() - signed_at.timestamp()
    if age < -MAX_SKEW or not has_one_spelling(token):
        return None
    return Signed(value, age)


@attrs.frozen(kw_only=True)
class SigningKeys:
    """
    The signers that are derived from the secret.

    Attributes:
        return_url: The signer of return URLs.
        events: The signer of tokens in pages around a frame.
        cookies: The signer of cookies for browsers that return.
        invitations: The serializer of the links of invitations.
        webhook_paths: The path segment of the webhooks for each secret,
            newest first.
    """

    return_url: ReturnURL
    events: TokenSigner
    cookies: TokenSigner
    invitations: Any = attrs.field(repr=False)
    webhook_paths: tuple[str, ...] = attrs.field(repr=False)


def derive_keys(
    return_base: str,
    secret: Secrets,
    *,
    max_age: datetime.timedelta,
    now: Callable[[], float] | None,
) -> SigningKeys:
    """
    Derive the signers.

    Args:
        return_base: The base of the return URLs.
        secret: One secret, or several, newest first.
        max_age: The lifetime of return URLs and tokens.
        now: A function that returns the seconds since 1970; the system's
            clock by default.

    Raises:
        ConfigurationError: If a setting is bad. The frames of its traceback
            have the secret among their locals.
    """
    return_url = ReturnURL(
        return_base, secret=secret, max_age=max_age, now=now
    )
    keys = parse_secrets(secret)

    def serializer(purpose: str) -> Any:
        return _serializer(keys, f"{_SALT} {purpose} {return_url.base}", now)

    def signer(purpose: str) -> TokenSigner:
        return TokenSigner(serializer(purpose), max_age.total_seconds())

    return SigningKeys(
        return_url=return_url,
        events=signer("event"),
        cookies=signer("cookie"),
        invitations=serializer("invitation"),
        webhook_paths=tuple(map(_webhook_path, keys)),
    )


class _Serializer(URLSafeTimedSerializer):
    """
    Does not compress: a compressed token begins with a dot, and many servers
    refuse paths with a part that does.
    """

    def dump_payload(self, obj: Any) -> bytes:
        """Encode *obj* as JSON in base64."""
        return base64_encode(json.dumps(obj, separators=(",", ":")))


def _serializer(
    newest_first: list[bytes], salt: str, now: Callable[[], float] | None
) -> Any:
    class Signer(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(now()) if now else super().get_timestamp()

    return _Serializer(
        # itsdangerous signs with the last key.
        newest_first[::-1],
        salt=salt,
        signer=Signer,
        signer_kwargs={
            "key_derivation": "hmac",
            "digest_method": hashlib.sha256,
        },
    )


def _webhook_path(key: bytes) -> str:
    salt = f"{_SALT} webhook".encode()
    return hmac.new(key, salt, hashlib.sha256).hexdigest()[:40]
