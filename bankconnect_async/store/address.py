"""
Make a store of sessions from an address, as environments and options have it.
"""

import re

from collections.abc import Mapping
from typing import Final

import bankconnect_async.store as stores

from bankconnect_async._codec.return_urls import Secrets
from bankconnect_async._tracebacks import hide_frames
from bankconnect_async.config import split_keys
from bankconnect_async.errors import ConfigurationError

from .protocol import SessionStore


# The names of the classes, because each is imported when it is used.
_CLASSES: Final[Mapping[str, str]] = {
    "postgres": "PostgresSessionStore",
    "postgresql": "PostgresSessionStore",
    "sqlite": "SQLiteSessionStore",
}
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# What was meant as the address of a database, perhaps with its password, is
# no name of a file.
_MISTAKEN: Final = re.compile(
    r"""
    .*://
    | (?:postgres(?:ql)?|sqlite)(?:\+\w+)?:
    | (?![a-z]:[/\\]) (?://)? [^/\\]*:.*@  # user:password@host, no C:\\PATH
    | (?:.*[\s?&;])? (?:host|dbname|password)=
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)


@hide_frames
def open_store(
    address: str, encryption_keys: Secrets | None = None
) -> SessionStore:
    """
    Return the store at an address, which its first use opens.

    Args:
        address: The path of a SQLite file, ``sqlite:///PATH``, or the DSN of
            a PostgreSQL database, ``postgresql://…``.
        encryption_keys: The keys, newest first. A text may hold several,
            separated by commas.

    Raises:
        ConfigurationError: If the address or a key is wrong, or an extra is
            not installed.
    """
    found = _SCHEME.match(address)
    scheme = found[1].lower() if found else "sqlite"
    path = None
    if scheme == "sqlite":
        path = _path(address[found.end() :]) if found else address
    if scheme not in _CLASSES or (path and _MISTAKEN.match(path)):
        raise ConfigurationError(
            fields={
                "store": (
                    "must be the path of a file, sqlite:///PATH, or "
                    "postgresql://USER@HOST/DATABASE",
                )
            }
        )
    make = getattr(stores, _CLASSES[scheme])
    if isinstance(encryption_keys, str):
        encryption_keys = split_keys(encryption_keys)
    store: SessionStore = make(
        address if path is None else path, encryption_keys=encryption_keys
    )
    return store


def _path(rest: str) -> str:
    # As SQLAlchemy reads it: a third slash ends the empty host, and an
    # absolute path has a fourth.
    if not rest.startswith("/"):
        raise ConfigurationError(
            fields={
                "store": (
                    "must have three slashes before a path (sqlite:///PATH), "
                    "four before an absolute one",
                )
            }
        )
    return rest[1:]
