"""
What is made of the service's secret: tokens, and addresses nobody can guess.

A token says, and proves, for which customer and session it was made.
"""

import datetime
import hashlib
import hmac

from collections.abc import Callable
from typing import Any, Final

import attrs

from yarl import URL

from bankconnect_async._codec.redirects import (
    MAX_SKEW,
    ReturnURL,
    Secrets,
    has_one_spelling,
)
from bankconnect_async.errors import ConfigurationError
from bankconnect_async.models.sessions import Session


# Names the purpose, so that the same secret may serve others.
_SALT: Final = "bankconnect_async.web"


@attrs.frozen(eq=False)
class Tokens:
    """
    Signs tokens of one purpose, and reads them back.
    """

    _serializer: Any = attrs.field(repr=False)
    _max_age: float

    def sign(self, session: Session) -> str:
        """
        Make the token of *session*. It can be read, and opens nothing.
        """
        return str(
            self._serializer.dumps([session.link_id, session.session_id])
        )

    def read(self, token: str) -> Session | None:
        """
        Return for whom *token* was made, or `None` if not here or not lately.

        The session has no URL: who has the token need not open it.
        """
        from itsdangerous import BadData  # noqa: PLC0415

        try:
            # Not with its max_age: that refuses what a host whose clock is
            # ahead has signed just now.
            (link_id, session_id), signed_at = self._serializer.loads(
                token, return_timestamp=True
            )
        # A cookie of another application may not even be text.
        except (BadData, UnicodeError):
            return None
        now = self._serializer.make_signer().get_timestamp()
        age = now - signed_at.timestamp()
        if not (-MAX_SKEW <= age <= self._max_age and has_one_spelling(token)):
            return None
        return Session(
            link_id=link_id, session_id=session_id, redirect_url=URL()
        )


@attrs.frozen(kw_only=True)
class Keys:
    """
    All that is made of the secret.

    Attributes:
        return_url: Makes and reads the URLs to which journeys return.
        events: For pages around a frame.
        cookies: For browsers that leave, and come back.
        webhook_names: The path segment of the webhooks; where there are
            several secrets, the newest first.
    """

    return_url: ReturnURL
    events: Tokens
    cookies: Tokens
    webhook_names: tuple[str, ...] = attrs.field(repr=False)


def make_keys(
    return_base: str,
    secret: Secrets,
    *,
    max_age: datetime.timedelta,
    now: Callable[[], float] | None,
) -> Keys | ConfigurationError:
    """
    Make them, or say what is wrong with the settings.

    Args:
        return_base: Of the return URLs.
        secret: One or several, the newest first.
        max_age: How long return URLs and tokens are good.
        now: Seconds since 1970; the system's clock by default.
    """
    try:
        return_url = ReturnURL(
            return_base, secret=secret, max_age=max_age, now=now
        )
    except ConfigurationError as error:
        # Its frames, this one included, have the secret among their locals.
        return error.with_traceback(None)
    several = [secret] if isinstance(secret, str | bytes) else secret
    keys = [one.encode() if isinstance(one, str) else one for one in several]

    def tokens(purpose: str) -> Tokens:
        salt = f"{_SALT} {purpose} {return_url.base}"
        return Tokens(_serializer(keys, salt, now), max_age.total_seconds())

    return Keys(
        return_url=return_url,
        events=tokens("event"),
        cookies=tokens("cookie"),
        webhook_names=tuple(map(_webhook_name, keys)),
    )


def _serializer(
    newest_first: list[bytes], salt: str, now: Callable[[], float] | None
) -> Any:
    from itsdangerous import (  # noqa: PLC0415
        TimestampSigner,
        URLSafeTimedSerializer,
    )

    class Signer(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(now()) if now else super().get_timestamp()

    return URLSafeTimedSerializer(
        # It signs with the last of them.
        newest_first[::-1],
        salt=salt,
        signer=Signer,
        signer_kwargs={
            "key_derivation": "hmac",
            "digest_method": hashlib.sha256,
        },
    )


def _webhook_name(key: bytes) -> str:
    salt = f"{_SALT} webhook".encode()
    return hmac.new(key, salt, hashlib.sha256).hexdigest()[:40]
