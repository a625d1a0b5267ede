"""
Encrypt rows for one worker process (X25519, HKDF, ChaCha20-Poly1305).

The scheduler of a cluster passes rows on, and logs may print them. Only the
process whose public key they were encrypted for can read them.
"""

import functools
import os

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


_KEY_SIZE: Final = 32
_NONCE_SIZE: Final = 12


class SealError(ValueError):
    """
    The data was encrypted for another process, or was changed.
    """


def public_key() -> bytes:
    """
    Return the public key of this process, which lives as long as it does.
    """
    return _private_key().public_key().public_bytes_raw()


def seal(data: bytes, recipient: bytes) -> bytes:
    """
    Encrypt data for the process with the public key *recipient*.
    """
    ours = X25519PrivateKey.generate()
    sender = ours.public_key().public_bytes_raw()
    shared = ours.exchange(X25519PublicKey.from_public_bytes(recipient))
    nonce = os.urandom(_NONCE_SIZE)
    cipher = ChaCha20Poly1305(_derive(shared, sender + recipient))
    return sender + nonce + cipher.encrypt(nonce, data, None)


def unseal(sealed: bytes) -> bytes:
    """
    Decrypt data that was encrypted for this process.

    Raises:
        SealError: If it was encrypted for another process, or was changed.
    """
    sender, rest = sealed[:_KEY_SIZE], sealed[_KEY_SIZE:]
    nonce, text = rest[:_NONCE_SIZE], rest[_NONCE_SIZE:]
    try:
        shared = _private_key().exchange(
            X25519PublicKey.from_public_bytes(sender)
        )
        cipher = ChaCha20Poly1305(_derive(shared, sender + public_key()))
        return cipher.decrypt(nonce, text, None)
    except (InvalidTag, ValueError):
        raise SealError("was encrypted for another process") from None


def _derive(shared: bytes, parties: bytes) -> bytes:
    info = b"bankconnect-async shard" + parties
    return HKDF(SHA256(), _KEY_SIZE, salt=None, info=info).derive(shared)


@functools.cache
def _private_key() -> X25519PrivateKey:
    return X25519PrivateKey.generate()
