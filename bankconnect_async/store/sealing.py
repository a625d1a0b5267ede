"""
Encode entries for a database, encrypted if there are keys.
"""

import base64
import datetime
import hashlib
import hmac

from typing import Any, Final, Protocol

import orjson

from bankconnect_async._codec.return_urls import Secrets, parse_secrets
from bankconnect_async.errors import ConfigurationError, StoreError

from .entries import (
    MIN_INTERVAL,
    CreatedFacts,
    SessionEntry,
    SessionKey,
    SessionState,
)


_CREATED: Final = SessionState.CREATED.value
_MIN_SECONDS: Final = MIN_INTERVAL.total_seconds()
_SALT: Final = b"bankconnect_async.store "
_FINGERPRINT: Final = "bankconnect_async.store: the key of this store"


class Sealer(Protocol):
    """
    The encoding of what a store reads again, or looks up.
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

    keeps_urls: bool = False

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

    keeps_urls: bool = True

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


def fingerprints(sealer: Sealer) -> list[str]:
    """
    Return a text that tells each key from others, newest first.

    A store keeps those of the keys that wrote it, to recognise a wrong one.
    """
    return sealer.lookups(_FINGERPRINT)


def describe_foreign_key(fingerprint: str, sealer: Sealer) -> str:
    """
    Return what to do about a store with a key that *sealer* does not have.
    """
    if fingerprint == _FINGERPRINT:
        return (
            "it was written without encryption keys: open it without, or use "
            "a new store"
        )
    if not sealer.keeps_urls:
        return "it is encrypted: give its encryption_keys"
    return (
        "it holds records of an encryption key that is not given: give that "
        "key as well, behind the newest"
    )


def describe_key(key: SessionKey) -> str:
    """
    Return one text that stands for all of *key*.
    """
    return orjson.dumps(
        [key.api_id, key.link_id, key.scope, key.request_digest]
    ).decode()


def encode_entry(entry: SessionEntry, *, keeps_urls: bool) -> bytes:
    """
    Encode an entry as a JSON array, in the order of its fields.
    """
    key = entry.key
    fields = (
        entry.entry_id,
        key.api_id,
        key.link_id,
        key.scope,
        key.request_digest,
        entry.session_id,
        entry.redirect_url if keeps_urls else None,
        entry.is_frame,
        entry.is_ambiguous,
        entry.entity_ids,
        encode_time(entry.created_at),
        _encode_time(entry.expires_at),
        entry.state,
        entry.last_problem,
        _encode_time(entry.changed_at),
        _encode_time(entry.next_check_at),
    )
    return _dump(fields)


def encode_facts(
    facts: CreatedFacts, *, keeps_urls: bool
) -> tuple[bytes, float]:
    """
    Encode the entry of a session that was just created.

    Returns:
        What `encode_entry` returns, and the seconds of the next check.
    """
    *ids, redirect_url, is_frame, created, minutes = facts
    next_check, expires = created + _MIN_SECONDS, None
    if minutes is not None:
        expires = created + 60 * minutes
        next_check = min(next_check, expires)
    fields = (
        *ids,
        redirect_url if keeps_urls else None,
        is_frame,
        False,
        (),
        created,
        expires,
        _CREATED,
        None,
        None,
        next_check,
    )
    return _dump(fields), next_check


def _dump(fields: tuple[Any, ...]) -> bytes:
    try:
        return orjson.dumps(fields)
    except TypeError:
        return orjson.dumps(_to_unicode(fields))


def decode_entry(body: bytes) -> SessionEntry:
    """
    Decode what `encode_entry` returned.

    Raises:
        StoreError: If it is something else.
    """
    try:
        return _decode_entry(body)
    except (TypeError, ValueError):
        raise StoreError(
            "an entry is damaged: restore the store from a backup, or use a "
            "new one"
        ) from None


def _decode_entry(body: bytes) -> SessionEntry:
    (
        entry_id,
        api_id,
        link_id,
        scope,
        request_digest,
        session_id,
        redirect_url,
        is_frame,
        is_ambiguous,
        entity_ids,
        created_at,
        expires_at,
        state,
        last_problem,
        changed_at,
        next_check_at,
    ) = orjson.loads(body)
    return SessionEntry(
        entry_id=entry_id,
        key=SessionKey(
            api_id=api_id,
            link_id=link_id,
            scope=scope,
            request_digest=request_digest,
        ),
        session_id=session_id,
        redirect_url=redirect_url,
        is_frame=is_frame,
        is_ambiguous=is_ambiguous,
        entity_ids=tuple(entity_ids),
        created_at=decode_time(created_at),
        expires_at=_decode_time(expires_at),
        state=SessionState(state),
        last_problem=last_problem,
        changed_at=_decode_time(changed_at),
        next_check_at=_decode_time(next_check_at),
    )


def _to_unicode(value: Any) -> Any:
    """Replace lone surrogates, which UTF-8 cannot express."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, tuple):
        return tuple(map(_to_unicode, value))
    return value


def encode_time(time: datetime.datetime) -> float:
    """
    Return the seconds since 1970, exact to the microsecond.
    """
    return time.timestamp()


def decode_time(seconds: float) -> datetime.datetime:
    """
    Return the aware time, in UTC.
    """
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _encode_time(time: datetime.datetime | None) -> float | None:
    return None if time is None else encode_time(time)


def _decode_time(seconds: float | None) -> datetime.datetime | None:
    return None if seconds is None else decode_time(seconds)
