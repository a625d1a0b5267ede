"""
What the settings of a sandbox must be.
"""

import re

from collections.abc import Callable, Collection, Mapping
from ssl import SSLContext
from typing import Any, Final, get_args

from yarl import URL

from bankconnect_async._codec.browser_messages import Dialect
from bankconnect_async.errors import ConfigurationError

from .session_api.validation import ALL_MODES


_MAX_PORT: Final = 65535
# A name or an address.
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+|\[?[0-9A-Fa-f:.]+\]?")


def check_settings(sandbox: object) -> None:
    """
    Check the attributes of a new sandbox.

    Raises:
        ConfigurationError: With every bad one in `fields`.
    """
    problems = {
        name: (text,)
        for name, (is_good, text) in _SETTINGS.items()
        if not is_good(getattr(sandbox, name))
    }
    if problems:
        raise ConfigurationError(fields=problems)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_port(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_PORT


def _is_web(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        url = URL(value)
    except ValueError:
        return False
    return url.scheme in {"http", "https"} and url.host is not None


def _is_origin(value: object) -> bool:
    if not _is_web(value):
        return False
    url = URL(str(value))
    return not (url.query_string or url.fragment or url.user)


def _is_host_name(value: object) -> bool:
    return isinstance(value, str) and bool(_HOST_NAME.fullmatch(value))


def _is_header(value: object) -> bool:
    return (
        _is_text(value) and str(value).isascii() and str(value).isprintable()
    )


def _or_none(is_good: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_good(value)


def _is_duration(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and value >= 0
    )


_SETTINGS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "dialect": (
        lambda value: value in get_args(Dialect),
        f"must be one of {', '.join(get_args(Dialect))}",
    ),
    "host": (_is_text, "must be a host name or an address"),
    "port": (_is_port, f"must be a whole number from 0 to {_MAX_PORT}"),
    "ssl": (
        lambda value: value is None or isinstance(value, SSLContext),
        "must be an ssl.SSLContext",
    ),
    "api_key": (_is_text, "must be a text that is not blank"),
    "server_hash": (_is_text, "must be a text that is not blank"),
    "public_url": (
        _or_none(_is_origin),
        "must be an absolute http or https URL",
    ),
    "allow_hosts": (
        lambda value: (
            isinstance(value, Collection)
            and not isinstance(value, str)
            and all(map(_is_host_name, value))
        ),
        "must be host names, without scheme and port",
    ),
    "webhook_url": (
        _or_none(_is_web),
        "must be an absolute http or https URL",
    ),
    "webhook_secret": (
        _or_none(_is_header),
        "must be a text of printable ASCII characters",
    ),
    "modes": (
        lambda value: (
            not isinstance(value, str) and set(value) <= set(ALL_MODES)
        ),
        f"must be some of {', '.join(ALL_MODES)}",
    ),
    "processing_time": (_is_duration, "must be a number of seconds"),
}
