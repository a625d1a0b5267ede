"""
Settings of a client: addresses, secrets, time limits, pool.
"""

import base64
import ipaddress
import re

from collections.abc import Mapping
from typing import Any, Final, Self, SupportsIndex, TypeVar

import attrs

from yarl import URL

from ._codec.session_requests import is_plain_http
from .errors import ConfigurationError


T = TypeVar("T")

#: Settings that no repr and no traceback may show.
SECRET_SETTINGS: Final = frozenset(
    {
        "api_key",
        "server_hash",
        "signing_key",
        "proxy",
        # The address of a database may have a password.
        "store",
        "store_keys",
    }
)

#: Host and prefix of the vendor's first documentation (dialect A).
DEFAULT_BASE_URL: Final = "https://portal.finbox.in/bank-connect"
#: Host and prefix of today's documentation (dialects B and C).
CURRENT_BASE_URL: Final = "https://apis.bankconnect.finbox.in/bank-connect"

_VERSIONS = "v1", "v2"
#: What the name of a header is (RFC 9110, 5.6.2).
HEADER_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# What a client sends itself, and what frames a message.
_OWN_HEADERS: Final = (
    r"(?i:x-api-key|server-hash|host|user-agent|accept(-encoding)?|content-.*"
    r"|transfer-encoding|connection|keep-alive|expect|te|trailer|upgrade"
    r"|proxy-.*)"
)
# A host name of valid labels; a longer one would fail at the first request.
_HOST: Final = (
    r"(?=.{1,253}\Z)"
    r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
    r"(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*\.?"
)


class Secret(str):
    """
    A string that never shows in a repr.

    Tracebacks with locals, debuggers and ``%r`` all go through the repr.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __getitem__(self, key: SupportsIndex | slice, /) -> "Secret":
        # Printers cut a long text before they ask for its repr.
        return Secret(super().__getitem__(key))


def hide(value: T) -> T | Secret:
    """
    Make a string a secret, before anything can raise beside it.
    """
    return Secret(value) if isinstance(value, str) else value


def split_keys(text: str) -> list[Secret]:
    """
    Return the keys of a variable, which commas separate.
    """
    return [Secret(key.strip()) for key in text.split(",")]


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """
    Check headers of the user, and hide their values.

    Raises:
        ConfigurationError: If one cannot be sent, or is the client's own. The
            error shows no value.
    """
    if not isinstance(headers, Mapping):
        raise ConfigurationError(
            fields={"headers": ("must be a mapping of names to texts",)}
        )
    problems = tuple(
        problem
        for name, value in headers.items()
        if (problem := _header_problem(name, value))
    )
    if problems:
        raise ConfigurationError(fields={"headers": problems})
    return {name: Secret(value) for name, value in headers.items()}


def _header_problem(name: object, value: object) -> str | None:
    if not isinstance(name, str) or not re.fullmatch(HEADER_NAME, name):
        return "has a name that is not one of a header (RFC 9110)"
    if re.fullmatch(_OWN_HEADERS, name):
        return f"must not replace the client's own header {name}"
    if not isinstance(value, str):
        return f"{name} must be a text, not {type(value).__name__}"
    if not (value.isascii() and value.isprintable()):
        return f"{name} must be printable ASCII, without line breaks"
    return None


def secret(name: str, value: object) -> Secret:
    """
    Check that *value* can travel in a header, and hide it.

    Raises:
        ConfigurationError: Naming *name*, never showing *value*.
    """
    problem = _secret_problem(value)
    if problem is None:
        return Secret(value)
    # A traceback with locals would show it.
    del value
    raise ConfigurationError(fields={name: (problem,)})


def _secret_problem(value: object) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return "is required, and must be a text that is not blank"
    if not (value.isascii() and value.isprintable()):
        return "holds characters that no header can carry"
    if value != value.strip():
        return "begins or ends with a blank"
    return None


def seconds_problem(value: object) -> str | None:
    """
    Return the problem of a number of seconds, if it has one.
    """
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 < value < float("inf")
    ):
        return None
    return "must be a number of seconds above 0"


def count_problem(value: object) -> str | None:
    """
    Return the problem of a number of things, if it has one.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return None
    return "must be a whole number, 1 or more"


def _seconds(_: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if problem := seconds_problem(value):
        _refuse(attribute.name, problem)


def _positive(_: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if problem := count_problem(value):
        _refuse(attribute.name, problem)


def _refuse(name: str, problem: str) -> None:
    raise ConfigurationError(fields={name: (problem,)})


@attrs.frozen(kw_only=True)
class Timeouts:
    """
    Time limits of one attempt, in seconds.

    Attributes:
        connect: The limit of name lookup, TCP and TLS handshake.
        read: The limit from the first byte of the request to the last of the
            response.
        pool: The limit of the wait for a slot of the client's pool.

    Raises:
        ConfigurationError: If one is not above 0.
    """

    connect: float = attrs.field(default=5.0, validator=_seconds)
    read: float = attrs.field(default=15.0, validator=_seconds)
    pool: float = attrs.field(default=10.0, validator=_seconds)


@attrs.frozen(kw_only=True)
class Pool:
    """
    Settings of the pool of connections.

    Attributes:
        limit: The number of requests in flight at the same time, and so of
            connections.
        keepalive: The seconds an idle connection is kept. Common servers
            close theirs after 5 s; a shorter time in a response
            (``Keep-Alive: timeout=2``) wins.
        max_age: The seconds after which a connection is not reused. The next
            one is made to the address that the host's name has by then, so a
            change of address is followed within this time.

    Over a borrowed session its connector decides: `aiohttp.TCPConnector` has
    a *keepalive* of its own, and no *max_age*.

    Raises:
        ConfigurationError: If one is not above 0.
    """

    limit: int = attrs.field(default=256, validator=_positive)
    keepalive: float = attrs.field(default=4.0, validator=_seconds)
    max_age: float = attrs.field(default=60.0, validator=_seconds)


def default_base_url(version: object) -> str:
    """
    Return the base URL of clients that name none.

    Args:
        version: The version of the Session API.
    """
    return CURRENT_BASE_URL if version == "v2" else DEFAULT_BASE_URL


class Service:
    """
    The address of the vendor's API.

    Args:
        base_url: The URL up to ``/bank-connect``, without a trailing slash.
        version: The version of the Session API, `v1` or `v2`.
        allow_http: Whether plain http is allowed for any host.
    """

    def __init__(
        self, *, base_url: URL, version: str, allow_http: bool
    ) -> None:
        self.base_url: Final = base_url
        self.version: Final = version
        self.allow_http: Final = allow_http

    @classmethod
    def parse(
        cls, base_url: object, *, version: object, allow_http: bool
    ) -> Self:
        """
        Check an address and a version.

        Raises:
            ConfigurationError: If either cannot be used.
        """
        fields: dict[str, tuple[str, ...]] = {}
        url, problem = _parse_base(base_url, allow_http=allow_http)
        if problem:
            fields["base_url"] = (problem,)
        if version not in _VERSIONS:
            fields["version"] = ("must be v1 or v2",)
        if fields:
            raise ConfigurationError(fields=fields)
        return cls(base_url=url, version=str(version), allow_http=allow_http)

    @property
    def name(self) -> str:
        """The name that tells this API from others."""
        host = self.base_url.host_port_subcomponent
        return f"{host}{self.base_url.path}/{self.version}"

    def session_url(self) -> URL:
        """Return the address of the Session API."""
        return self.base_url.joinpath(self.version, "session", "")


def _parse_base(base_url: object, *, allow_http: bool) -> tuple[URL, str]:
    try:
        url = URL(str(base_url).rstrip("/"))
        _ = url.host, url.port
    except (ValueError, IndexError):
        return URL(), "is not a URL"
    if not is_http_url(url):
        return url, "must be an absolute https URL"
    if url.raw_user or url.raw_password or url.query_string or url.fragment:
        return url, "must not hold a user, a password, a query or a fragment"
    if url.name in _VERSIONS:
        return url, (
            f"must not end in /{url.name}: the version is added to it"
        )
    if is_plain_http(url) and not allow_http:
        return url, (
            "uses plain http, which would send the API key in clear; use "
            "https, or allow_http=True for a sandbox on a private network"
        )
    return url, ""


def is_http_url(url: URL) -> bool:
    """
    Tell whether *url* is http or https, and its host may exist.
    """
    return url.scheme in {"http", "https"} and _is_host(url.raw_host)


def _is_host(text: str | None) -> bool:
    if not text:
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        # Compiled with the first client, not with every import.
        return re.fullmatch(_HOST, text, re.IGNORECASE) is not None
    return True


def parse_proxy(proxy: str | URL) -> tuple[URL, Secret | None]:
    """
    Split a proxy's address from its credentials.

    Returns:
        The bare address, and the value of a Proxy-Authorization header.

    Raises:
        ConfigurationError: If it is not the address of an HTTP proxy.
    """
    try:
        url = URL(proxy)
        _ = url.port
    except (ValueError, IndexError, TypeError):
        url = URL()
    credentials = _basic(url)
    url = url.with_user(None) if credentials else url
    if is_http_url(url):
        return url.origin(), credentials
    # A traceback with locals would show the password.
    del proxy
    raise ConfigurationError(
        fields={"proxy": ("must be an absolute http or https URL",)}
    )


def _basic(url: URL) -> Secret | None:
    if url.user is None:
        return None
    # RFC 7617, in the encoding that it names.
    text = f"{url.user}:{url.password or ''}".encode()
    return Secret(f"Basic {base64.b64encode(text).decode()}")


def proxy_secrets(credentials: Secret | None) -> list[Secret]:
    """
    Return the secrets in a proxy's *credentials*.

    Args:
        credentials: The result of `parse_proxy`.
    """
    if credentials is None:
        return []
    pair = base64.b64decode(credentials.removeprefix("Basic ")).decode()
    password = pair.partition(":")[2]
    return [Secret(pair), *([Secret(password)] if password else [])]


def check_instance(name: str, value: object, type_: type) -> None:
    """
    Check the type of a setting.

    Raises:
        ConfigurationError: If *value* is not a *type_*.
    """
    if not isinstance(value, type_):
        _refuse(name, f"must be a {type_.__name__}, such as {type_()!r}")


def read_environment(
    environ: Mapping[str, str], names: Mapping[str, str]
) -> dict[str, str]:
    """
    Return the settings that *environ* has, without blank ones.

    Args:
        environ: The environment, such as `os.environ`.
        names: The environment variable of each setting.
    """
    return {
        name: hide(value) if name in SECRET_SETTINGS else value
        for name, variable in names.items()
        if (value := environ.get(variable, "").strip())
    }
