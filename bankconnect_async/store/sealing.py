"""
Encode entries for a database, encrypted if there are keys.
"""

import base64
import datetime
import hashlib
import hmac

from typing import Any, Final, Protocol

import attrs
import orjson

from bankconnect_async._codec.return_urls import Secrets, parse_secrets
from bankconnect_async.errors import ConfigurationError, StoreError

from .entries import SessionEntry, SessionKey, SessionState


_SALT: Final = b"bankconnect_async.store "
_TIMES: Final = ("created_at", "expires_at", "changed_at", "next_check_at")


class Sealer(Protocol):
    """
    How a store writes what it must be able to read, or to look up.
    """

    @property
    def keeps_urls(self) -> bool:
        """Whether the URLs of journeys, which are secrets, are written."""
        ...

    def lookup(self, text: str, /) -> str:
        """Return what stands for *text* in a column that is searched."""
        ...

    def lookups(self, text: str, /) -> list[str]:
        """Return what may stand for it, for the newest key first."""
        ...

    def seal(self, body: bytes, /) -> bytes:
        """Encode *body* for a column."""
        ...

    def unseal(self, body: bytes, /) -> bytes:
        """
        Decode what `seal` returned.

        Raises:
            StoreError: If none of the keys fits.
        """
        ...


class PlainSealer:
    """
    Writes everything as it is, but for URLs, which it leaves out.
    """

    keeps_urls: Final = False

    def lookup(self, text: str, /) -> str:
        """Return *text*."""
        return text

    def lookups(self, text: str, /) -> list[str]:
        """Return *text* alone."""
        return [text]

    def seal(self, body: bytes, /) -> bytes:
        """Return *body*."""
        return body

    def unseal(self, body: bytes, /) -> bytes:
        """Return *body*."""
        return body


class EncryptingSealer:
    """
    Encrypts with Fernet, and looks up by HMAC-SHA-256.

    Args:
        encryption_keys: At least 32 secret bytes, or several such keys,
            newest first: the newest one encrypts, and all of them decrypt.

    Raises:
        ConfigurationError: If a key is too short, or `cryptography` is not
            installed.
    """

    keeps_urls: Final = True

    def __init__(self, encryption_keys: Secrets) -> None:
        try:
            from cryptography import fernet  # noqa: PLC0415
        except ImportError:
            raise ConfigurationError(
                fields={
                    "encryption_keys": (
                        'need the extra "encryption": pip install '
                        '"bankconnect-async[encryption]"',
                    )
                }
            ) from None
        keys = parse_secrets(encryption_keys)
        if not keys:
            raise ConfigurationError(
                fields={
                    "encryption_keys": (
                        "must be one key of at least 32 bytes, or several",
                    )
                }
            )
        self._fernet = fernet.MultiFernet(
            [
                fernet.Fernet(base64.urlsafe_b64encode(_derive(key, "body")))
                for key in keys
            ]
        )
        self._invalid = fernet.InvalidToken
        self._lookup_keys = [_derive(key, "lookup") for key in keys]

    def lookup(self, text: str, /) -> str:
        """Return the HMAC of *text* with the newest key."""
        return _hmac(self._lookup_keys[0], text)

    def lookups(self, text: str, /) -> list[str]:
        """Return the HMAC of *text* with each key."""
        return [_hmac(key, text) for key in self._lookup_keys]

    def seal(self, body: bytes, /) -> bytes:
        """Encrypt *body*."""
        return self._fernet.encrypt(body)

    def unseal(self, body: bytes, /) -> bytes:
        """Decrypt *body*."""
        try:
            return self._fernet.decrypt(body)
        except self._invalid:
            raise StoreError(
                "none of the encryption keys fits: give the one that wrote "
                "the store as well, behind the newest"
            ) from None


def make_sealer(encryption_keys: Secrets | None) -> Sealer:
    """
    Return the sealer for *encryption_keys*.
    """
    if encryption_keys is None:
        return PlainSealer()
    return EncryptingSealer(encryption_keys)


def _derive(key: bytes, purpose: str) -> bytes:
    return hmac.digest(key, _SALT + purpose.encode(), hashlib.sha256)


def _hmac(key: bytes, text: str) -> str:
    digest = hmac.digest(key, text.encode(errors="surrogatepass"), "sha256")
    return base64.urlsafe_b64encode(digest[:18]).decode()


def describe_key(key: SessionKey) -> str:
    """
    Return one text that stands for all of *key*.
    """
    return orjson.dumps(
        [key.api_id, key.link_id, key.scope, key.request_digest]
    ).decode()


def encode_entry(entry: SessionEntry, *, keeps_urls: bool) -> bytes:
    """
    Encode an entry as JSON, with times in microseconds since 1970.
    """
    fields: dict[str, Any] = attrs.asdict(entry)
    for name in _TIMES:
        fields[name] = encode_time(fields[name])
    if not keeps_urls:
        del fields["redirect_url"]
    return orjson.dumps(fields)


def decode_entry(body: bytes) -> SessionEntry:
    """
    Decode what `encode_entry` returned.
    """
    fields: dict[str, Any] = orjson.loads(body)
    for name in _TIMES:
        fields[name] = decode_time(fields[name])
    return SessionEntry(
        **{
            **fields,
            "key": SessionKey(**fields["key"]),
            "state": SessionState(fields["state"]),
            "entity_ids": tuple(fields["entity_ids"]),
        }
    )


def encode_time(time: datetime.datetime | None) -> int | None:
    """
    Return the microseconds since 1970.
    """
    if time is None:
        return None
    since = time - _EPOCH
    return since // datetime.timedelta(microseconds=1)


def decode_time(microseconds: int | None) -> datetime.datetime | None:
    """
    Return the aware time, in UTC.
    """
    if microseconds is None:
        return None
    return _EPOCH + datetime.timedelta(microseconds=microseconds)


_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
