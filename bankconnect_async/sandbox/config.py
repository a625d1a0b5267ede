"""
Checks of a sandbox's settings.
"""

import re

from collections.abc import Callable, Collection, Mapping
from ssl import SSLContext
from typing import Any, Final, get_args

from yarl import URL

from bankconnect_async._codec.browser_messages import Dialect
from bankconnect_async.errors import ConfigurationError


#: The values of `mode`.
ALL_MODES: Final = ("pdf", "aa", "online")

_MAX_PORT: Final = 65535
_HOST: Final = re.compile(r"[A-Za-z0-9_.-]+|\[?[0-9A-Fa-f:.]+\]?")


def check_settings(sandbox: object) -> None:
    """
    Check the attributes of a new sandbox.

    Raises:
        ConfigurationError: With every invalid setting in `fields`.
    """
    problems = {
        name: (text,)
        for name, (is_valid, text) in _SETTINGS.items()
        if not is_valid(getattr(sandbox, name))
    }
    if problems:
        raise ConfigurationError(fields=problems)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_url(value: Any) -> bool:
    try:
        url = URL(value)
    except (TypeError, ValueError, IndexError):
        return False
    return url.scheme in {"http", "https"} and url.host is not None


def _is_bare_url(value: Any) -> bool:
    return _is_url(value) and not any(mark in value for mark in "?#@")


def _is_origin(value: Any) -> bool:
    return _is_bare_url(value) and URL(value).path == "/"


def _is_header(value: Any) -> bool:
    return _is_text(value) and value.isascii() and value.isprintable()


def _is_collection(value: object) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str)


_SETTINGS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "dialect": (
        lambda value: value in get_args(Dialect),
        f"must be one of {', '.join(get_args(Dialect))}",
    ),
    "host": (_is_text, "must be a host name or an address"),
    "port": (
        lambda value: type(value) is int and 0 <= value <= _MAX_PORT,
        f"must be a whole number from 0 to {_MAX_PORT}",
    ),
    "ssl": (
        lambda value: value is None or isinstance(value, SSLContext),
        "must be an ssl.SSLContext",
    ),
    "api_key": (_is_text, "must be a text that is not blank"),
    "server_hash": (_is_text, "must be a text that is not blank"),
    "public_url": (
        lambda value: value is None or _is_bare_url(value),
        "must be an absolute http or https URL",
    ),
    "allow_hosts": (
        lambda value: (
            _is_collection(value)
            and all(isinstance(n, str) and _HOST.fullmatch(n) for n in value)
        ),
        "must be host names, without scheme and port",
    ),
    "allow_origins": (
        lambda value: _is_collection(value) and all(map(_is_origin, value)),
        "must be origins, such as https://app.example",
    ),
    "webhook_url": (
        lambda value: value is None or _is_url(value),
        "must be an absolute http or https URL",
    ),
    "webhook_secret": (
        lambda value: value is None or _is_header(value),
        "must be a text of printable ASCII characters",
    ),
    "modes": (
        lambda value: _is_collection(value) and set(value) <= set(ALL_MODES),
        f"must be some of {', '.join(ALL_MODES)}",
    ),
    "processing_time": (
        lambda value: type(value) in {int, float} and value >= 0,
        "must be a number of seconds",
    ),
}
